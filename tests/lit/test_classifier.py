import json
import math

import pytest
import torch
from lightning import Callback
from torch import nn
from torch.nn.functional import cross_entropy

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning
from rebasin_lt.lit.callbacks.resume_point import ResumePoint
from rebasin_lt.lit.callbacks.rewind_checkpoint import RewindCheckpoint
from rebasin_lt.lit.checkpoint import LoadedNetwork, load_network, read_checkpoint
from rebasin_lt.lit.classifier import Classifier, MaskedClassifier
from rebasin_lt.lit.data import Digits
from rebasin_lt.lit.metrics_file import MetricsFile, read_rows
from rebasin_lt.pruning.magnitude import magnitude_prune
from rebasin_lt.pruning.mask import Mask


def data(**settings):
    return Digits(batch_size=100, train_size=300, **settings)


def mask_file(classifier, path, fraction=0.8):
    state = classifier.net.state_dict()
    magnitude_prune(state, Mask.ones_like(state), fraction).save(path)
    return str(path)


class Rates(Callback):
    def __init__(self):
        self.rates = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def cosine(epoch, length):
    return 0.5 * (1 + math.cos(math.pi * epoch / length))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("restart", [cosine(e, 3) for e in range(3)]),
        ("continue", [cosine(e + 2, 5) for e in range(3)]),
        ("truncate", [cosine(e, 5) for e in range(3)]),
    ],
)
def test_a_run_from_a_rewind_point_follows_its_schedule(trainer, tmp_path, schedule, expected):
    trainer(5, [RewindCheckpoint(["2ep"])]).fit(Classifier(learning_rate=1e-3), data())
    module = Classifier(learning_rate=1.0, schedule=schedule, init_from=str(tmp_path / "rewind" / "2ep.ckpt"))
    rates = Rates()
    trainer(3, [rates]).fit(module, data())
    assert rates.rates == pytest.approx(expected)


def test_the_schedule_is_torchs_cosine(trainer):
    rates = Rates()
    trainer(4, [rates]).fit(Classifier(learning_rate=0.5), data())
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    expected = []
    for _ in range(4):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates.rates == pytest.approx(expected)


def test_warmup_and_milestones(trainer):
    rates = Rates()
    settings = {"lr_schedule": "multistep", "milestones": [3, 4], "warmup_epochs": 2}
    trainer(5, [rates]).fit(Classifier(learning_rate=0.3, **settings), data())
    assert rates.rates == pytest.approx([0.1, 0.2, 0.3, 0.03, 0.003])


def test_metrics_equal_a_direct_computation(trainer):
    module = Classifier(learning_rate=0.1)
    digits = data()
    trainer(2).fit(module, digits)
    tester = trainer(1)
    tester.test(module, digits, verbose=False)
    images, labels = (torch.cat(part) for part in zip(*digits.sweep("test"), strict=True))
    with torch.no_grad():
        logits = module.net.eval()(images)
    metrics = tester.callback_metrics
    assert metrics["test/loss"] == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-5)
    assert metrics["test/top1"] == pytest.approx(100 * float((logits.argmax(1) == labels).double().mean()))
    top5 = (logits.topk(5).indices == labels[:, None]).any(1)
    assert metrics["test/top5"] == pytest.approx(100 * float(top5.double().mean()))


def test_each_call_builds_a_new_optimiser_and_schedule(trainer):
    module = Classifier()
    trainer(1).fit(module, data())
    first, second = module.configure_optimizers(), module.configure_optimizers()
    assert first["optimizer"] is not second["optimizer"]
    assert first["lr_scheduler"]["scheduler"] is not second["lr_scheduler"]["scheduler"]


def test_channels_last_changes_the_layout_and_nothing_else(trainer, tmp_path):
    """Trained, pruned and saved alike; weights differ by rounding."""
    settings = {"arch": "resnet20", "width": 0.25, "num_classes": 10, "input_shape": [1, 8, 8], "learning_rate": 0.01}
    tickets = []
    for channels_last in (False, True):
        imp = IterativeMagnitudePruning([0.5], 1, fraction=0.5, dirpath=str(tmp_path / str(channels_last)))
        torch.manual_seed(0)
        module = Classifier(**settings, channels_last=channels_last)
        weight = module.net.get_parameter("layer1.0.conv1.weight")
        assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
        trainer(-1, [imp], precision="64-true").fit(module, Digits(batch_size=25, train_size=100))
        assert weight.stride() == module.net.get_parameter("layer1.0.conv1.weight").stride()
        tickets.append(load_network(imp.ticket_path(0.5)))
    assert tickets[0].mask == tickets[1].mask == Mask.load(imp.mask_path(0.5)).unsigned
    for ours, theirs in zip(*(ticket.network.parameters() for ticket in tickets), strict=True):
        assert ours.is_contiguous()
        assert theirs.is_contiguous()
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_a_masked_checkpoint_and_a_dense_one_load_into_each_other(trainer, tmp_path):
    dense = Classifier()
    path = mask_file(dense, tmp_path / "m.mask.safetensors")
    first = trainer(1)
    first.fit(dense, data())
    first.save_checkpoint(tmp_path / "dense.ckpt")
    masked = MaskedClassifier(path, init_from=str(tmp_path / "dense.ckpt"))
    assert all(torch.equal(t, masked.net.state_dict()[n]) for n, t in dense.net.state_dict().items())
    second = trainer(1)
    second.fit(masked, data())
    second.save_checkpoint(tmp_path / "masked.ckpt")
    again = Classifier(init_from=str(tmp_path / "masked.ckpt"))
    assert all(torch.equal(t, again.net.state_dict()[n]) for n, t in masked.net.state_dict().items())
    before, after = (read_checkpoint(tmp_path / f"{name}.ckpt") for name in ("dense", "masked"))
    assert before.keys() ^ after.keys() == {"rebasin_lt_mask"}
    assert before["rebasin_lt"].keys() ^ after["rebasin_lt"].keys() == {"mask_sha256"}
    assert before["hyper_parameters"].keys() ^ after["hyper_parameters"].keys() == {"mask", "signs", "signs_from"}
    assert list(before["state_dict"]) == list(after["state_dict"])
    loaded = load_network(tmp_path / "masked.ckpt")
    assert loaded.mask == Mask.load(path)
    assert loaded.metadata["mask_sha256"] == loaded.mask.hash
    assert loaded.metadata["data"]["name"] == "digits"
    assert not loaded.network.training


def test_dense_and_masked_checkpoints_are_evaluated_by_either_module(trainer, tmp_path):
    dense = Classifier(learning_rate=0.2)
    masked = MaskedClassifier(mask_file(dense, tmp_path / "m.mask.safetensors"), learning_rate=0.2)
    for name, module in (("dense", dense), ("masked", masked)):
        run = trainer(2)
        run.fit(module, data())
        run.save_checkpoint(tmp_path / f"{name}.ckpt")
    for name in ("dense", "masked"):
        path = tmp_path / f"{name}.ckpt"
        expected = trainer(1).test({"dense": dense, "masked": masked}[name], data(), verbose=False)
        for module in (Classifier(), MaskedClassifier(str(tmp_path / "m.mask.safetensors"))):
            assert trainer(1).test(module, data(), ckpt_path=path, verbose=False) == expected
            loaded = type(module).load_from_checkpoint(path, mask=str(tmp_path / "m.mask.safetensors"))
            assert trainer(1).test(loaded, data(), verbose=False) == expected


def test_what_pruning_writes_is_evaluated_like_any_checkpoint(trainer, tmp_path):
    module = Classifier(width=0.5, learning_rate=0.2)
    imp = IterativeMagnitudePruning([0.2], epochs_per_round=1)
    run = trainer(-1, [RewindCheckpoint(["1ep"]), imp])
    run.fit(module, data())
    run.save_checkpoint(tmp_path / "last.ckpt")
    expected = trainer(1).test(module, data(), verbose=False)
    for path in (tmp_path / "last.ckpt", imp.ticket_path(0.2), tmp_path / "rewind" / "1ep.ckpt"):
        other = [RewindCheckpoint(["0it"]), IterativeMagnitudePruning([0.5], epochs_per_round=3)]
        assert trainer(1, other).test(Classifier(width=0.5), data(), ckpt_path=path, verbose=False) == expected
        assert trainer(1).test(Classifier.load_from_checkpoint(path), data(), verbose=False) == expected


def test_checkpoints_load_without_our_classes_and_without_unpickling(trainer, tmp_path):
    run = trainer(1)
    run.fit(Classifier(), data())
    run.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    json.dumps(content["rebasin_lt"])


def test_metrics_file_keeps_one_row_per_epoch_across_a_resume(trainer, tmp_path):
    def fit(epochs, seed, **settings):
        torch.manual_seed(seed)
        run = trainer(epochs, [MetricsFile(tmp_path)], enable_checkpointing=True)
        module = Classifier(lr_schedule="constant", learning_rate=0.05)
        run.fit(module, data(), **settings)
        return run

    fit(2, 0).save_checkpoint(tmp_path / "two.ckpt")
    two = read_rows(tmp_path / "metrics.jsonl")
    fit(4, 0, ckpt_path=tmp_path / "two.ckpt")
    resumed = read_rows(tmp_path / "metrics.jsonl")
    fit(4, 0)
    straight = read_rows(tmp_path / "metrics.jsonl")
    assert resumed[: len(two)] == two
    assert resumed == straight
    assert [row["epoch"] for row in straight if "train/loss" in row] == [0, 1, 2, 3]


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 0}\n{"epoch": 1, "tra')
    assert read_rows(tmp_path / "metrics.jsonl") == [{"epoch": 0}]


def test_classifier_rejects_what_does_not_fit(trainer, tmp_path):
    run = trainer(1)
    run.fit(Classifier(), data())
    run.save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"a.ckpt has width 1, this network has 2"):
        Classifier(width=2, init_from=str(tmp_path / "a.ckpt"))
    with pytest.raises(InputError, match=r"a.ckpt has arch mlp, this network has resnet20"):
        Classifier(arch="resnet20", init_from=str(tmp_path / "a.ckpt"))
    with pytest.raises(InputError, match=r"checkpoint .*none.ckpt does not exist"):
        Classifier(init_from=str(tmp_path / "none.ckpt"))
    with pytest.raises(InputError, match=r"model.num_classes is 7, the data has 10 classes"):
        trainer(1).fit(Classifier(num_classes=7), data())
    with pytest.raises(InputError, match=r"network mlp does not take the data's images of shape \(1, 8, 8\)"):
        trainer(1).fit(Classifier(input_shape=[3, 32, 32]), data())
    with pytest.raises(InputError, match=r"input_shape is \[8, 8\], expected channels, height and width"):
        Classifier(input_shape=[8, 8])
    wide = mask_file(Classifier(width=2), tmp_path / "wide.mask.safetensors")
    with pytest.raises(InputError, match=r"mask for head.weight has shape \(10, 128\), the network has \(10, 64\)"):
        MaskedClassifier(wide)


def test_load_network_takes_a_plain_state_dict_with_its_architecture(tmp_path):
    module = Classifier(arch="resnet20", input_shape=[1, 8, 8])
    torch.save(module.net.state_dict(), tmp_path / "plain.pt")
    loaded = load_network(tmp_path / "plain.pt", "resnet20", input_shape=(1, 8, 8))
    assert all(torch.equal(t, loaded.network.state_dict()[n]) for n, t in module.net.state_dict().items())
    assert loaded.metadata == {}
    with pytest.raises(InputError, match="does not say which network it holds: give its architecture"):
        load_network(tmp_path / "plain.pt")
    with pytest.raises(InputError, match=r"lacks 1.weight|lacks .*, which the network has"):
        load_network(tmp_path / "plain.pt", "mlp")
    with pytest.raises(InputError, match="is it of another width"):
        load_network(tmp_path / "plain.pt", "resnet20", width=2, input_shape=(1, 8, 8))


class Evil:
    def __reduce__(self):
        import os

        return os.mkdir, ("evil",)


def test_load_network_refuses_broken_hostile_and_newer_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"x": Evil()}}, path)
    with pytest.raises(BrokenFileError, match="holds pickled Python objects, which are never loaded"):
        load_network(path)
    assert not (tmp_path / "evil").exists()
    torch.save({"state_dict": {"x": torch.ones(100)}}, path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BrokenFileError, match="is not a readable checkpoint"):
        load_network(path)
    path.write_bytes(b"")
    with pytest.raises(BrokenFileError, match="is not a readable checkpoint"):
        load_network(path)
    torch.save([1, 2], path)
    with pytest.raises(BrokenFileError, match="holds a list, expected a checkpoint or a state dict"):
        load_network(path)
    torch.save({"state_dict": {}, "rebasin_lt": {"format_version": 99}}, path)
    with pytest.raises(BrokenFileError, match="has format version 99, this release reads 1"):
        load_network(path)
    arch = {"arch": "os:getcwd", "width": 1, "num_classes": 10, "input_shape": None}
    torch.save({"state_dict": {}, "rebasin_lt": arch}, path)
    with pytest.raises(InputError, match=r"holds a network of os:getcwd, code that it may not choose"):
        load_network(path)


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"arch": "mlp", "input_shape": (3, 4, 4), "image_shape": (1, 8, 8)}, (3, 4, 4)),
        ({"arch": "resnet20", "input_shape": None, "image_shape": [1, 8, 8]}, (1, 8, 8)),
        ({"arch": "resnet20", "input_shape": None}, (3, 32, 32)),
        ({}, (1, 8, 8)),
    ],
)
def test_the_images_of_a_network_are_its_own_or_those_of_its_data(about, expected):
    assert LoadedNetwork(nn.Identity(), about, None).image_shape("mlp") == expected


def test_a_checkpoint_says_what_images_it_was_trained_on(trainer, tmp_path):
    trainer(1, [ResumePoint()], enable_checkpointing=True).fit(Classifier(), data())
    assert read_checkpoint(tmp_path / "last.ckpt")["rebasin_lt"]["image_shape"] == [1, 8, 8]
