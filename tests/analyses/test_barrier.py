"""The barrier between checkpoints: planted symmetry, masks, splits, and what is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rebasin_lt.analyses import barrier
from rebasin_lt.analyses.barrier import masked, measure_barriers, union
from rebasin_lt.cli import main
from rebasin_lt.connectivity.barrier import loss_barrier
from rebasin_lt.experiment.subjects import open_pair
from rebasin_lt.lit.checkpoint import MASK, load_network
from rebasin_lt.pruning.mask import Mask, prunable_names
from rebasin_lt.settings.options import BarrierOptions
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import trace_symmetry


@pytest.fixture
def settings(planted) -> BarrierOptions:
    return BarrierOptions(
        ckpt_a=str(planted / "a.ckpt"), ckpt_b=str(planted / "b.ckpt"), num_alphas=3, num_images=80,
        num_test_images=100, splits=("test",), corrections=("none",),
    )  # fmt: skip


def curve(result, **wanted) -> dict:
    (found,) = (each for each in result["curves"] if all(each[key] == value for key, value in wanted.items()))
    return found


def random_mask(network, seed: int) -> Mask:
    generator = torch.Generator().manual_seed(seed)
    state = network.state_dict()
    return Mask({name: torch.rand(state[name].shape, generator=generator) > 0.3 for name in prunable_names(network)})


def test_barrier_to_the_planted_permutation_is_zero_after_alignment(settings, planted, tmp_path) -> None:
    given = replace(
        settings, ckpt_b=str(planted / "permuted.ckpt"), permutation=str(planted / "pi.perm.safetensors"),
        corrections=None, splits=("train", "test"),
    )  # fmt: skip
    result = measure_barriers(given, tmp_path / "out")
    kinds = [(each["correction"], each["alignment"], each["split"]) for each in result["curves"]]
    assert kinds == [
        (correction, alignment, split)
        for correction in ("none", "bn_reset")
        for alignment in ("before", "after")
        for split in ("train", "test")
    ]
    for each in result["curves"]:
        limit = each["loss_barrier"], each["loss_excess_over_mean"]
        if each["alignment"] == "after":
            assert limit == pytest.approx((0, 0), abs=1e-4)
            assert each["loss"] == pytest.approx([each["loss"][0]] * 3, abs=1e-4)
        elif each["correction"] == "none":
            assert abs(each["loss"][1] - each["loss"][0]) > 1e-2, "the test is empty"


def test_splits_count_the_images_asked_for(settings, tmp_path) -> None:
    result = measure_barriers(replace(settings, splits=("train", "test")), tmp_path / "out")
    assert [(each["split"], each["num_images"]) for each in result["curves"]] == [("train", 80), ("test", 100)]


def expected(settings: BarrierOptions, first, second) -> list[float]:
    network = load_network(settings.ckpt_b).network
    return loss_barrier(network, first, second, open_pair(settings).test(), alphas=3).loss


def test_one_mask_holds_for_the_whole_line_in_the_order_of_b(settings, planted, tmp_path) -> None:
    a, b = (load_network(path).network for path in (settings.ckpt_a, settings.ckpt_b))
    mask = random_mask(b, 0)
    mask.save(tmp_path / "line.mask.safetensors")
    given = replace(
        settings, masks=(str(tmp_path / "line.mask.safetensors"),), permutation=str(planted / "pi.perm.safetensors")
    )
    result = measure_barriers(given, tmp_path / "out")
    aligned = load_network(str(planted / "permuted.ckpt")).network.state_dict()
    ends = {"before": a.state_dict(), "after": aligned}
    for alignment, first in ends.items():
        losses = expected(settings, masked(first, mask), masked(b.state_dict(), mask))
        assert curve(result, alignment=alignment)["loss"] == pytest.approx(losses, rel=1e-5)
        assert result["sparsity"][alignment] == pytest.approx(mask.sparsity)


@pytest.mark.parametrize("own", [False, True])
def test_each_end_has_its_mask_and_that_of_a_moves_with_it(settings, planted, tmp_path, own: bool) -> None:
    a, b = (load_network(path).network for path in (settings.ckpt_a, settings.ckpt_b))
    masks = {"a": random_mask(a, 1), "b": random_mask(b, 2)}
    given = replace(settings, permutation=str(planted / "pi.perm.safetensors"))
    if own:
        for name, mask in masks.items():
            content = torch.load(planted / f"{name}.ckpt", weights_only=True)
            torch.save({**content, MASK: dict(mask)}, tmp_path / f"{name}.ckpt")
        given = replace(given, ckpt_a=str(tmp_path / "a.ckpt"), ckpt_b=str(tmp_path / "b.ckpt"))
    else:
        for name, mask in masks.items():
            mask.save(tmp_path / f"{name}.mask.safetensors")
        given = replace(given, masks=tuple(str(tmp_path / f"{name}.mask.safetensors") for name in masks))
    result = measure_barriers(given, tmp_path / "out")
    symmetry = trace_symmetry(a, torch.randn(2, 1, 8, 8))
    permutation = Permutation.load(planted / "pi.perm.safetensors")
    first, moved = masked(a.state_dict(), masks["a"]), Mask(symmetry.permute(masks["a"], permutation))
    second = masked(b.state_dict(), masks["b"])
    losses = expected(settings, symmetry.permute(first, permutation), second)
    assert curve(result, alignment="after")["loss"] == pytest.approx(losses, rel=1e-5)
    assert result["sparsity"]["after"] == pytest.approx(union(moved, masks["b"]).sparsity)
    assert curve(result, alignment="before")["loss"] == pytest.approx(expected(settings, first, second), rel=1e-5)
    assert result["sparsity"]["before"] == pytest.approx(0.09, abs=0.02)  # both removed: 0.3²


def test_line_from_a_sparse_to_a_dense_network_is_not_sparse(settings, planted, tmp_path) -> None:
    content = torch.load(planted / "a.ckpt", weights_only=True)
    mask = random_mask(load_network(planted / "a.ckpt").network, 1)
    torch.save({**content, MASK: dict(mask)}, tmp_path / "a.ckpt")
    assert measure_barriers(replace(settings, ckpt_a=str(tmp_path / "a.ckpt")), tmp_path / "out")["sparsity"] == {
        "before": 0.0
    }


def test_complete_barrier_is_not_measured_again(settings, tmp_path, monkeypatch) -> None:
    first = measure_barriers(settings, tmp_path / "out")
    monkeypatch.setattr(barrier, "loss_barriers", lambda *_, **__: pytest.fail("measured again"))
    assert measure_barriers(settings, tmp_path / "out") == first
    assert sorted(path.name for path in Path(tmp_path / "out").iterdir()) == ["config.yaml", "result.json"]


def test_command_prints_a_table_and_writes_curves_and_figures(settings, tmp_path, capsys) -> None:
    arguments = ["--ckpt-a", settings.ckpt_a, "--ckpt-b", settings.ckpt_b, "--corrections", "none", "--splits", "test"]
    small = ["--num-alphas", "3", "--num-test-images", "50"]
    assert main(["barrier", *arguments, *small, "--out", str(tmp_path / "o")]) == 0
    assert "raw         A to B  test" in capsys.readouterr().out
    files = sorted(path.name for path in (tmp_path / "o").iterdir())
    assert files == ["barrier.png", "barrier.svg", "config.yaml", "curves.csv", "result.json"]
    assert len((tmp_path / "o" / "curves.csv").read_text().splitlines()) == 1 + 3
