"""What is looked at before a checkpoint replaces another: zeros under the masks, in averages too, and finite values."""

from __future__ import annotations

import pytest
import torch

from rebasin_lt.errors import DivergedError, MaskLeakError
from rebasin_lt.lit.checkpoint_file import read_checkpoint, write_checkpoint
from rebasin_lt.pruning.mask import Mask


@pytest.mark.parametrize("name", ["x", "net.x"])
def test_weights_alone_are_looked_at_under_either_name(tmp_path, name):
    """Without metadata a file does not say that it is of one of our modules, whose masks leave out `net.`."""
    with pytest.raises(MaskLeakError, match="1 of 1 pruned weights of x are not zero"):
        write_checkpoint(
            tmp_path / "x.ckpt", {"state_dict": {name: torch.ones(2)}}, [Mask({"x": torch.tensor([True, False])})]
        )


@pytest.mark.parametrize("callback", ["WeightAveraging", "StochasticWeightAveraging"])
def test_averages_beside_the_weights_are_looked_at(tmp_path, callback):
    mask = Mask({"x": torch.tensor([True, False])})
    content = {"state_dict": {"x": torch.tensor([1.0, 0])}, "rebasin_lt_mask": dict(mask)}
    write_checkpoint(tmp_path / "x.ckpt", content)
    revived = {"x": torch.tensor([1.0, 1])}
    beside = {"current_model_state": revived}
    if callback == "StochasticWeightAveraging":
        beside = {"callbacks": {callback: {"average_model_state": revived}}}
    with pytest.raises(MaskLeakError, match="1 of 1 pruned weights of x are not zero"):
        write_checkpoint(tmp_path / "x.ckpt", {**content, **beside})


@pytest.mark.parametrize(
    ("tensor", "fine"),
    [
        (torch.tensor([1.0, float("nan")]), False),
        (torch.tensor([1.0, float("inf")]), False),
        (torch.full((3,), float("inf")), False),  # a running variance that diverged
        (torch.tensor([0.0, float("nan"), -float("inf")]), False),
        (torch.full((3, 3), -float("inf")).triu(1), True),  # a causal mask of attention
        (torch.tensor(float("inf")), True),  # the smallest of what was not seen yet
        (torch.tensor(float("nan")), False),
        (torch.tensor([2**60]), True),
        (torch.zeros(0), True),
    ],
)
def test_what_is_not_finite_is_not_written_over_what_is(tmp_path, tensor, fine):
    path = tmp_path / "x.ckpt"
    write_checkpoint(path, {"state_dict": {"x": torch.ones(2)}})
    before = path.read_bytes()
    if fine:
        write_checkpoint(path, {"state_dict": {"x": tensor}})
        assert torch.equal(read_checkpoint(path)["state_dict"]["x"], tensor)
        return
    with pytest.raises(DivergedError, match="x.ckpt is not written: x holds NaN or infinity, the run diverged"):
        write_checkpoint(path, {"state_dict": {"x": tensor}})
    assert path.read_bytes() == before
