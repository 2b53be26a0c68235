"""The command `experts`: what it writes, what it measures, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from rebasin_lt.analyses import experts
from rebasin_lt.analyses.experts import align_and_write
from rebasin_lt.cli import main
from rebasin_lt.errors import InputError
from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.settings.options import ExpertsOptions
from rebasin_lt.symmetry.permutation import Permutation

MODEL = f"{__name__}:mixture"


class Mixture(nn.Module):
    """Digits by 3 experts of 8 hidden units, listed, behind a softmax gate."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.gate, self.leave = nn.Linear(64, 12), nn.Linear(12, 3), nn.Linear(12, 10)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 12)) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x.flatten(1)).relu()
        shares = self.gate(x).softmax(-1)
        return self.leave(x + sum(shares[:, k : k + 1] * expert(x) for k, expert in enumerate(self.experts)))


def mixture() -> nn.Module:
    return Mixture()


def plain() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network whose experts are nearly one expert in three orders, and a mask of it."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = Mixture()
    with torch.no_grad():
        for expert in network.experts[1:]:
            order = torch.randperm(8)
            expert[0].weight.copy_(network.experts[0][0].weight[order])
            expert[0].bias.copy_(network.experts[0][0].bias[order])
            expert[2].weight.copy_(network.experts[0][2].weight[:, order])
            expert[2].bias.copy_(network.experts[0][2].bias)
            for parameter in expert.parameters():
                parameter += 1e-3 * torch.randn_like(parameter)
    torch.save(network.state_dict(), "net.pt")
    names = [f"experts.{k}.{n}.weight" for k in range(3) for n in (0, 2)]
    Mask({name: network.state_dict()[name] > 0 for name in names}).save("some.mask.safetensors")
    return tmp_path


def options(**given: object) -> ExpertsOptions:
    return ExpertsOptions(ckpt="net.pt", model=MODEL, data="digits", num_test_images=50, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["weights", "activations"])
def test_function_stays_and_merging_loses_less_after_alignment(folder: Path, by: str) -> None:
    masks = ("some.mask.safetensors",)
    result = align_and_write(options(by=by, num_images=200, merge="mean", share_mask=True, masks=masks), "out")
    found = result["mixtures"]["experts"]
    assert (found["experts"], found["hidden_units"]) == (3, 8)
    assert found["before"] < 0.9 < 0.99 < found["after"]
    losses = {name: row["loss"] for name, row in result["losses"].items()}
    assert losses["aligned"] == pytest.approx(losses["as it is"], abs=1e-6)
    assert abs(losses["merged after it"] - losses["as it is"]) < abs(
        losses["merged without alignment"] - losses["as it is"]
    )
    assert {row["num_images"] for row in result["losses"].values()} == {50}
    assert json.loads((folder / "out" / "result.json").read_text())["mixtures"]["experts"]["after"] == found["after"]

    before, after, merged = (
        load_network(path, MODEL).network for path in ("net.pt", "out/permuted.ckpt", "out/merged.ckpt")
    )
    x = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(after(x), before(x), atol=1e-6, rtol=1e-5)
    assert torch.equal(merged.experts[0][0].weight, merged.experts[2][0].weight)
    moved, shared = (Mask.load(f"out/{prefix}some.mask.safetensors") for prefix in ("", "shared-"))
    for k in range(3):
        assert torch.equal(shared[f"experts.{k}.0.weight"], moved["experts.0.0.weight"])
    state, permutation = before.state_dict(), Permutation.load("out/permutation.perm.safetensors")
    (hidden,) = permutation.within
    order = permutation[hidden][2]  # a row for each expert
    assert torch.equal(moved["experts.2.0.weight"], (state["experts.2.0.weight"] > 0)[order])
    assert torch.equal(after.state_dict()["experts.2.0.weight"], state["experts.2.0.weight"][order])


def test_command_prints_similarity_and_losses(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--ckpt", "net.pt", "--model", MODEL, "--data", "digits", "--num-test-images", "50", "--merge", "mean"]
    assert main(["experts", *given, "--out", "out"]) == 0
    text = capsys.readouterr().out
    assert "Cosine of experts' weights with those of expert 0, aligned by weights" in text
    assert re.search(r"experts +3 +8 +0\.\d+ +(0\.99\d\d|1\.0000)", text)
    assert re.search(r"merged after it +\d\.\d{4} +\d+\.\d\d", text)


def test_without_merging_no_test_image_is_looked_at(folder: Path) -> None:
    result = align_and_write(ExpertsOptions(ckpt="net.pt", model=MODEL, input_shape="1,8,8"), "out")
    assert "losses" not in result
    assert not (folder / "out" / "merged.ckpt").exists()


def test_what_cannot_be_is_refused_before_the_folder_is_made(folder: Path) -> None:
    wrong = [
        ({"by": "signs"}, "--by is 'signs'"),
        ({"merge": "sum"}, "--merge is 'sum'"),
        ({"share_mask": True}, "--share-mask is given, but there is no mask to share"),
        ({"loss": "mse"}, "--loss is mse, but without --merge and --share-mask no loss is measured"),
        ({"masks": ("some.mask.safetensors",) * 2}, "share a file name"),
    ]
    for given, message in wrong:
        with pytest.raises(InputError, match=re.escape(message)):
            align_and_write(options(**given), "out")
    Mask.load("some.mask.safetensors").save("merged.ckpt")
    with pytest.raises(InputError, match=r"mask merged\.ckpt has the name of a file that experts writes"):
        align_and_write(options(masks=("merged.ckpt",)), "out")
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["enter.weight"],
            "has no tensor of an expert, such as experts.0.0.weight: there is nothing that the experts ",
        ),
        (
            ["experts.0.0.weight", "enter.weight"],
            "has experts.0.0.weight but not experts.1.0.weight: one mask for all ",
        ),
    ],
)
def test_mask_that_experts_cannot_share_is_refused_before_the_folder_is_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], message: str
) -> None:
    """Without --share-mask it follows them as any other does."""
    state = Mixture().state_dict()
    Mask({name: state[name] > 0 for name in names}).save("part.mask.safetensors")
    given = {"masks": ("some.mask.safetensors", "part.mask.safetensors")}
    with monkeypatch.context() as patch:
        patch.setattr(experts, "run_once", lambda *_, **__: pytest.fail("the folder would be made now"))
        with pytest.raises(InputError, match=re.escape(f"--share-mask is given, but part.mask.safetensors {message}")):
            align_and_write(options(share_mask=True, **given), "out")
    assert not (folder / "out").exists()
    align_and_write(options(**given), "out")
    assert (folder / "out" / "part.mask.safetensors").is_file()


@pytest.mark.parametrize(
    ("model", "expert", "message"),
    [
        (f"{__name__}:plain", 0, "the network has no mixture of experts whose hidden units can be permuted"),
        (MODEL, 3, "expert is 3, but experts has 3: expected 0 to 2"),
    ],
)
def test_experts_that_are_not_there_are_refused_before_the_folder_is_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch, model: str, expert: int, message: str
) -> None:
    torch.save((Mixture() if model == MODEL else plain()).state_dict(), "net.pt")
    monkeypatch.setattr(experts, "run_once", lambda *_, **__: pytest.fail("the folder would be made now"))
    with pytest.raises(InputError, match=re.escape(message)):
        align_and_write(ExpertsOptions(ckpt="net.pt", model=model, input_shape="1,8,8", expert=expert), "out")


def test_run_that_is_complete_is_read_and_nothing_is_traced_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ExpertsOptions(ckpt="net.pt", model=MODEL, input_shape="1,8,8")
    first = align_and_write(given, "out")
    monkeypatch.setattr(experts, "trace_symmetry", lambda *_: pytest.fail("traced again"))
    assert align_and_write(given, "out") == first
