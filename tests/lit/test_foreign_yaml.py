"""The callbacks on a LightningModule and a LightningDataModule that are not ours, by YAML alone."""

import pytest
import torch
import yaml
from foreign import ForeignModule
from lightning import LightningModule
from torch import nn
from torch.nn.utils import prune

from rebasin_lt.cli import main
from rebasin_lt.commands.lightning_verbs import run
from rebasin_lt.lit.callbacks.init_from import InitFrom
from rebasin_lt.lit.callbacks.resume_point import ResumePoint
from rebasin_lt.lit.checkpoint import load_weights_, read_checkpoint
from rebasin_lt.lit.data import Digits
from rebasin_lt.lit.trainer import quiet_trainer
from rebasin_lt.pruning.magnitude import magnitude_prune
from rebasin_lt.pruning.mask import Mask

TARGETS = [0.3, 0.5, 0.8]


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a YAML file whose trainer has these callbacks; its run's folder is `run`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rebasin-lt"])

    def write(callbacks, data="foreign.ForeignData", **settings):
        trainer = {"accelerator": "cpu", "max_epochs": -1, "default_root_dir": "run", **settings}
        trainer["callbacks"] = [{"class_path": name, "init_args": values} for name, values in callbacks.items()]
        model = {"class_path": "foreign.ForeignModule", "init_args": {"hidden": 10}}
        content = {"seed_everything": 7, "model": model, "data": {"class_path": data}, "trainer": trainer}
        (tmp_path / "x.yaml").write_text(yaml.safe_dump({**content, "ckpt_path": "last"}))
        return "x.yaml"

    return write


def assert_zero_where_pruned(state, mask):
    assert set(mask) == {"encoder.0.weight", "head.weight"}
    for name, kept in mask.items():
        assert torch.equal(state[name] != 0, kept), name


def test_pruning_and_rewinding_leave_masks_tickets_and_rewind_files(written, tmp_path):
    imp = {"targets": TARGETS, "epochs_per_round": 1, "dense_epochs": 2}
    rewind = {"after_prune": "rewind_weights", "rewind_from": "1ep"}
    file = written({"RewindCheckpoint": {"at": ["0it", "1ep"]}, "IterativeMagnitudePruning": imp | rewind})
    assert main(["fit", "--config", file, "--debug"]) == 0
    folder = tmp_path / "run"
    for target in TARGETS:
        mask = Mask.load(folder / "imp" / f"sparsity-{target}.mask.safetensors")
        assert abs(mask.sparsity - target) * mask.num_weights <= 1
        ticket = read_checkpoint(folder / "imp" / f"sparsity-{target}.ckpt")
        assert_zero_where_pruned(ticket["state_dict"], mask)
    last = read_checkpoint(folder / "last.ckpt")
    assert Mask(last["rebasin_lt_mask"]) == mask.unsigned
    assert_zero_where_pruned(last["state_dict"], mask)
    assert [group["initial_lr"] for group in last["optimizer_states"][0]["param_groups"]] == [0.05, 0.2]
    moments = {path.stem: read_checkpoint(path)["rebasin_lt"] for path in (folder / "rewind").iterdir()}
    assert {name: (about["moment"], about["global_step"]) for name, about in moments.items()} == {
        "0it": ("0it", 0),
        "1ep": ("1ep", 4),
    }


def test_the_same_command_again_changes_no_file(written, tmp_path):
    imp = {"targets": [0.2], "epochs_per_round": 2}
    file = written({"RewindCheckpoint": {"at": ["1ep"]}, "IterativeMagnitudePruning": imp})
    assert main(["fit", "--config", file, "--debug"]) == 0

    def contents():
        return {path: path.read_bytes() for kind in ("ckpt", "safetensors") for path in tmp_path.rglob(f"*.{kind}")}

    before = contents()
    assert len(before) == 4
    assert main(["fit", "--config", file, "--debug"]) == 0
    assert contents() == before


def test_a_mask_file_holds_to_the_end(written, tmp_path):
    state = ForeignModule(hidden=10).state_dict()
    mask = Mask({name: torch.rand(state[name].shape) < 0.4 for name in ("encoder.0.weight", "head.weight")})
    mask.save(tmp_path / "given.mask.safetensors")
    file = written({"MaskGuard": {"mask": "given.mask.safetensors"}}, max_epochs=3, gradient_clip_val=0.1)
    assert main(["fit", "--config", file, "--debug"]) == 0
    last = read_checkpoint(tmp_path / "run" / "last.ckpt")
    assert last["global_step"] == 12
    assert Mask(last["rebasin_lt_mask"]) == mask.unsigned
    assert_zero_where_pruned(last["state_dict"], mask)


@pytest.mark.parametrize(("kind", "seed"), [("foreign.ForeignData", None), ("foreign.SeededData", 7)])
def test_data_is_given_the_seed_if_it_takes_one(written, kind, seed):
    cli = run(["fit", "--config", written({}, data=kind, max_epochs=1)])
    assert getattr(cli.datamodule, "seed", None) == seed


def test_a_network_starts_from_a_rewind_point_under_a_mask(written, tmp_path):
    dense = written({"RewindCheckpoint": {"at": ["1ep"]}}, max_epochs=2)
    assert main(["fit", "--config", dense, "--debug"]) == 0
    rewound = tmp_path / "run" / "rewind" / "1ep.ckpt"
    state = read_checkpoint(rewound)["state_dict"]
    mask = magnitude_prune(state, Mask.ones_like(state), 0.5)
    mask.save(tmp_path / "given.mask.safetensors")
    callbacks = {
        "MaskGuard": {"mask": "given.mask.safetensors"},
        "RewindCheckpoint": {"at": ["0it"]},
        "InitFrom": {"checkpoint": str(rewound)},
    }
    sparse = written(callbacks, max_epochs=1, default_root_dir="sparse")
    assert main(["fit", "--config", sparse, "--debug"]) == 0
    began = read_checkpoint(tmp_path / "sparse" / "rewind" / "0it.ckpt")["state_dict"]
    for name, tensor in state.items():
        expected = tensor * mask[name] if name in mask else tensor
        torch.testing.assert_close(began[name], expected, rtol=0, atol=0)
    assert read_checkpoint(tmp_path / "sparse" / "last.ckpt")["global_step"] == 4


def test_a_resumed_run_does_not_start_again(written, tmp_path):
    torch.save(ForeignModule(hidden=10).state_dict(), tmp_path / "start.pt")
    callbacks = {"InitFrom": {"checkpoint": "start.pt"}, "foreign.StopAfter": {"steps": 6}}
    file = written(callbacks, max_epochs=2)
    assert main(["fit", "--config", file]) == 1
    (tmp_path / "stopped").touch()
    assert main(["fit", "--config", file, "--debug"]) == 0
    last = read_checkpoint(tmp_path / "run" / "last.ckpt")
    alone = written({**callbacks, "foreign.StopAfter": {"steps": 100}}, max_epochs=2, default_root_dir="alone")
    assert main(["fit", "--config", alone, "--debug"]) == 0
    for name, tensor in read_checkpoint(tmp_path / "alone" / "last.ckpt")["state_dict"].items():
        torch.testing.assert_close(last["state_dict"][name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (lambda path: None, 2, "checkpoint start.pt does not exist"),
        (lambda path: torch.save(ForeignModule(hidden=11).state_dict(), path), 2, "checkpoint start.pt has encoder.0."),
        (lambda path: path.write_bytes(b"no"), 1, "start.pt is not a readable checkpoint"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_training(written, tmp_path, capsys, make, code, message):
    make(tmp_path / "start.pt")
    assert main(["fit", "--config", written({"InitFrom": {"checkpoint": "start.pt"}}, max_epochs=1)]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_without_training_state_is_refused_with_what_to_do(written, tmp_path, capsys):
    torch.save(ForeignModule(hidden=10).state_dict(), tmp_path / "start.pt")
    assert main(["fit", "--config", written({}, max_epochs=1), "--ckpt_path", "start.pt"]) == 2
    assert "init_from or, for a module of yours, the callback InitFrom" in capsys.readouterr().err


def test_last_says_what_a_rewind_point_says(written, tmp_path):
    file = written({"RewindCheckpoint": {"at": ["1ep"]}}, max_epochs=1)
    assert main(["fit", "--config", file, "--debug"]) == 0
    rewound, last = (
        read_checkpoint(tmp_path / "run" / name)["rebasin_lt"] for name in ("rewind/1ep.ckpt", "last.ckpt")
    )
    del last["training_state_tensors"]  # a rewind point has no training state
    assert {name for name, value in last.items() if rewound[name] != value} <= {"epoch"}
    assert last["format_version"] == 1
    assert last["module"] == "ForeignModule"


@pytest.mark.parametrize("shape", ["pair", "number", "settings"])
def test_attributes_of_somebodys_data_are_left_alone(written, tmp_path, monkeypatch, shape):
    monkeypatch.setattr("foreign.ForeignData.input_shape", (64,) if shape == "pair" else 64, raising=False)
    if shape == "settings":
        monkeypatch.setattr("foreign.ForeignData.settings", {"batch": 3}, raising=False)
    for epochs in (1, 2):
        assert (
            main(["fit", "--config", written({}, max_epochs=epochs, default_root_dir=f"run{epochs}"), "--debug"]) == 0
        )
    assert main(["fit", "--config", "x.yaml", "--debug"]) == 0
    about = read_checkpoint(tmp_path / "run2" / "last.ckpt")["rebasin_lt"]
    assert (about["data"], about["image_shape"]) == ({"name": "foreign:ForeignData", "batch_size": 16}, None)


def test_the_last_checkpoint_of_somebodys_module_knows_our_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = OnDigits()
    quiet_trainer(tmp_path, 1, [ResumePoint()], accelerator="cpu", enable_checkpointing=True).fit(
        module, Digits(val_size=0)
    )
    about = read_checkpoint(tmp_path / "last.ckpt")["rebasin_lt"]
    assert about["image_shape"] == [1, 8, 8]
    assert about["data"]["name"] == "digits"
    assert "arch" not in about


def test_a_pruned_module_of_somebody_is_read_as_its_weights_and_mask(tmp_path):
    pruned, plain = OnDigits(), OnDigits()
    prune.l1_unstructured(pruned.layer, "weight", 0.5)
    quiet_trainer(tmp_path, 1, [ResumePoint()], accelerator="cpu", enable_checkpointing=True).fit(
        pruned, Digits(val_size=0)
    )
    load_weights_(plain, tmp_path / "last.ckpt")
    expected = pruned.layer.weight_orig * pruned.layer.weight_mask  # the attribute is that of the last forward pass
    torch.testing.assert_close(plain.layer.weight.data, expected.data, rtol=0, atol=0)
    assert int((plain.layer.weight == 0).sum()) == plain.layer.weight.numel() // 2


def test_a_second_fit_of_one_trainer_goes_on(tmp_path):
    module = OnDigits()
    torch.save(module.state_dict(), tmp_path / "start.pt")
    trainer = quiet_trainer(tmp_path, 1, [InitFrom(str(tmp_path / "start.pt"))], accelerator="cpu")
    trainer.fit(module, Digits(val_size=0))
    trained = module.layer.weight.detach().clone()
    trainer.fit(module, Digits(val_size=0))  # nothing is left to do
    torch.testing.assert_close(module.layer.weight, trained, rtol=0, atol=0)


class OnDigits(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return nn.functional.cross_entropy(self.layer(images.flatten(1)), labels)

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
