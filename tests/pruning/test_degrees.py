import pytest
import torch

from rebasin_lt.errors import InputError
from rebasin_lt.pruning.degrees import degree_report, unit_degrees
from rebasin_lt.pruning.mask import Mask


def test_hand_made_degrees():
    kept = torch.tensor([[1, 1, 0], [0, 1, 0]]).bool()
    degrees = unit_degrees(kept)
    assert degrees.incoming.tolist() == [2, 1]
    assert degrees.outgoing.tolist() == [1, 2, 0]


@pytest.mark.parametrize("shape", [(5, 7), (4, 6, 3), (4, 6, 3, 3), (2, 3, 2, 2, 2)])
def test_every_kept_weight_counts_once_on_either_side(shape):
    kept = torch.rand(shape) < 0.3
    degrees = unit_degrees(kept)
    assert degrees.incoming.tolist() == [int(kept[unit].sum()) for unit in range(shape[0])]
    assert degrees.outgoing.tolist() == [int(kept[:, unit].sum()) for unit in range(shape[1])]


def test_degrees_move_with_a_permutation_of_units():
    kept, order = torch.rand(6, 5, 3, 3) < 0.4, torch.randperm(6)
    assert torch.equal(unit_degrees(kept[order]).incoming, unit_degrees(kept).incoming[order])
    assert torch.equal(unit_degrees(kept[order]).outgoing, unit_degrees(kept).outgoing)


def test_report_describes_both_directions():
    mask = Mask({"a": torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0]]).bool(), "b": torch.ones(3, 2, 3, 3).bool()})
    rows = {(row["name"], row["direction"]): row for row in degree_report(mask)}
    assert list(rows) == [("a", "incoming"), ("a", "outgoing"), ("b", "incoming"), ("b", "outgoing")]
    assert rows["a", "incoming"] == {
        "name": "a", "direction": "incoming", "units": 2, "dense": 4,
        "mean": 1.5, "min": 1, "q25": 1.25, "median": 1.5, "q75": 1.75, "max": 2, "zero": 0,
    }  # fmt: skip
    assert rows["a", "outgoing"]["zero"] == 0.5
    assert rows["a", "outgoing"]["dense"] == 2
    assert (rows["b", "incoming"]["dense"], rows["b", "incoming"]["mean"]) == (18, 18)
    assert (rows["b", "outgoing"]["dense"], rows["b", "outgoing"]["mean"]) == (27, 27)


def test_a_vector_has_no_degrees():
    with pytest.raises(InputError, match=r"mask tensor has shape \(4,\), expected \(outputs, inputs, \*kernel\)"):
        unit_degrees(torch.ones(4, dtype=torch.bool))
