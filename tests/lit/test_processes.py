"""N processes are as one: metrics, masks, weights, with numbers of images that no two processes can share evenly."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import lightning
import pytest
import torch
import yaml
from kill_driver import Driver

from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.models.registry import build_network
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.signs import sign_agreement

BATCH = 16  # of all processes together
IMP = {"class_path": "IterativeMagnitudePruning", "init_args": {"targets": [0.4, 0.8], "epochs_per_round": 1}}
DST = {
    "class_path": "DynamicSparseTraining",
    "init_args": {"sparsity": 0.6, "update_every": 3, "fraction": 0.5, "until": 1.0},
}
MLP = {"arch": "mlp", "num_classes": 7, "input_shape": [3, 6, 6], "learning_rate": 0.05}
RESNET = {"arch": "resnet20", "width": 0.25, "num_classes": 7, "input_shape": [3, 6, 6]}
NOISE = {"class_path": "ranks.Noise"}
LOADERS = {"class_path": "ranks.Loaders"}


class Fits:
    """Runs of one or two processes, each in a folder of its own."""

    def __init__(self, driver: Driver, root: Path) -> None:
        self.driver, self.root, self.numbers = driver, root, itertools.count()

    def run(
        self,
        verb: str,
        ranks: int,
        model: dict,
        callbacks=(),
        code: int = 0,
        kind: str = "Classifier",
        data: dict = NOISE,
        **trainer,
    ) -> tuple[Path, list]:
        """The folder and what every rank wrote down. In double precision, so that sums in another order are equal."""
        folder = self.root / str(next(self.numbers))
        folder.mkdir()
        settings = {
            "model": {"class_path": kind, "init_args": model},
            "data": {**data, "init_args": {"batch_size": BATCH // ranks}},
            "trainer": {
                "default_root_dir": "run",
                "accelerator": "cpu",
                "precision": "64-true",
                "devices": ranks,
                "callbacks": [*callbacks, {"class_path": "ranks.Ranks"}],
                **({"strategy": "ddp"} if ranks > 1 else {}),
                **trainer,
            },
        }
        (folder / "run.yaml").write_text(yaml.safe_dump(settings))
        arguments = [verb, "--config", "run.yaml", *(["--ckpt_path", "../net.ckpt"] if verb == "test" else [])]
        codes = self.driver.run(arguments, folder, ranks)
        assert codes == [code] * ranks, (folder / "output-0.txt").read_text()
        return folder, [json.loads(path.read_text()) for path in sorted(folder.glob("rank-*.json"))]


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    with Driver() as driver:
        yield Fits(driver, tmp_path_factory.mktemp("fits"))


def test_each_test_image_counts_once(fits):
    """1,003 images in batches of 8 on two processes, the last of which are smaller, and on one."""
    torch.manual_seed(0)
    network = build_network("resnet20", width=0.25, num_classes=7, input_shape=(3, 6, 6))
    state = {f"net.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": state, "pytorch-lightning_version": lightning.__version__}, fits.root / "net.ckpt")
    _, (one,) = fits.run("test", 1, RESNET, precision="32-true")
    _, two = fits.run("test", 2, RESNET, precision="32-true")
    assert [rank["images"] for rank in two] == [502, 501]
    assert one["images"] == 1003
    assert set(one["metrics"]) == {"test/loss", "test/top1", "test/top5"}
    assert 0 < one["metrics"]["test/top1"] < one["metrics"]["test/top5"] < 100
    assert two[0]["metrics"] == pytest.approx(one["metrics"], rel=0, abs=1e-7)


@pytest.mark.parametrize("callback", [IMP, DST, {**DST, "init_args": {**DST["init_args"], "method": "set"}}])
def test_two_processes_train_as_one(fits, callback):
    """Two halves of a batch make the batch: equal masks at every step, equal weights but for rounding."""
    length = -1 if callback is IMP else 3
    folder_one, (one,) = fits.run("fit", 1, MLP, [callback], max_epochs=length)
    folder_two, two = fits.run("fit", 2, MLP, [callback], max_epochs=length)
    assert two[0]["parameters"] == two[1]["parameters"]
    assert two[0]["masks"] == two[1]["masks"] == one["masks"]
    assert len(one["masks"]) >= 3
    assert [rank["images"] for rank in two] == [one["images"] // 2] * 2  # 5 of 101 images are left over in each epoch
    last_one, last_two = (load_network(folder / "run" / "last.ckpt") for folder in (folder_one, folder_two))
    assert last_one.mask == last_two.mask
    for ours, theirs in zip(last_one.network.parameters(), last_two.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)
    rows = [
        [json.loads(row) for row in (folder / "run" / "metrics.jsonl").open()] for folder in (folder_one, folder_two)
    ]
    assert all(ours == pytest.approx(theirs, rel=1e-6) for ours, theirs in zip(*rows, strict=True))


@pytest.mark.parametrize("signs", ["mask", "own"])
def test_two_processes_begin_with_the_same_signs(fits, signs):
    """Those of the mask, or of a checkpoint, and keep them at a rate at which none can change."""
    torch.manual_seed(0)
    network, other = (build_network("mlp", num_classes=7, input_shape=(3, 6, 6)).state_dict() for _ in range(2))
    for name, state in (("init", network), ("other", other)):
        torch.save(state, fits.root / f"{name}.ckpt")
    kept = Mask({name: torch.rand(tensor.shape) < 0.4 for name, tensor in network.items() if tensor.dim() == 2})
    signed = kept.signed_by(other)
    (signed if signs == "mask" else kept).save(fits.root / f"{signs}.mask.safetensors")
    model = {**MLP, "learning_rate": 1e-9, "init_from": "../init.ckpt", "mask": f"../{signs}.mask.safetensors"}
    model |= {"signs": signs, **({"signs_from": "../other.ckpt"} if signs == "own" else {})}
    folder_one, (one,) = fits.run("fit", 1, model, kind="MaskedClassifier", max_epochs=1)
    folder_two, two = fits.run("fit", 2, model, kind="MaskedClassifier", max_epochs=1)
    assert two[0]["parameters"] == two[1]["parameters"]
    assert two[0]["masks"] == two[1]["masks"] == one["masks"] == [kept.hash]
    for folder in (folder_one, folder_two):
        state = load_network(folder / "run" / "last.ckpt").network.state_dict()
        assert sign_agreement(signed, state) == 1
        for name in kept:
            torch.testing.assert_close(
                state[name].float(), network[name].abs() * signed.content[name], atol=1e-6, rtol=0
            )


@pytest.mark.parametrize(("settings", "seen", "warned"), [
    ({}, 51, False), ({"use_distributed_sampler": False}, 101, True),
])  # fmt: skip
def test_processes_share_the_samples_of_torchs_own_loaders(fits, settings, seen, warned):
    """As Lightning has it: an odd number is made even by one sample that comes twice."""
    folder, ranks = fits.run("fit", 2, MLP, data=LOADERS, max_epochs=1, **settings)
    assert [rank["images"] for rank in ranks] == [seen] * 2
    assert ranks[0]["parameters"] == ranks[1]["parameters"]
    said = "the RandomSampler of Loaders gives each of 2 processes all samples"
    assert (said in (folder / "output-0.txt").read_text()) is warned


def test_batch_norm_differs_between_processes_but_not_the_masks(fits):
    """Each process normalises by its own images; weights and masks are equal on all, targets are hit exactly."""
    folder, ranks = fits.run("fit", 2, RESNET, [IMP], max_epochs=-1, precision="32-true")
    assert ranks[0]["parameters"] == ranks[1]["parameters"]
    assert ranks[0]["masks"] == ranks[1]["masks"]
    for target in (0.4, 0.8):
        mask = Mask.load(folder / "run" / "imp" / f"sparsity-{target}.mask.safetensors")
        assert mask.unsigned.hash in ranks[1]["masks"]
        kept, size = (sum(int(count(tensor)) for tensor in mask.values()) for count in (torch.sum, torch.numel))
        assert kept == size - round(target * size)


def test_synchronised_batch_norm_is_refused_without_gpus(fits):
    folder, _ = fits.run("fit", 2, RESNET, code=2, max_epochs=1, sync_batchnorm=True)
    line = "trainer.sync_batchnorm is true, which needs GPUs: processes on CPUs cannot, leave it out"
    assert line in (folder / "output-0.txt").read_text()
    assert not (folder / "run").exists()
