import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rebasin_lt.errors import InputError
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.ranking import removals, remove_lowest


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.data())
def test_the_lowest_go_and_among_equals_the_earlier(values, data):
    """Against a stable sort of (score, place) over the kept weights."""
    scores = {"a": torch.tensor(values[::2], dtype=torch.float32), "b": torch.tensor(values[1::2], dtype=torch.float32)}
    order = torch.cat([scores["a"], scores["b"]])
    kept = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    count = data.draw(st.integers(0, int(kept.sum())))
    expected = kept.clone()
    expected[sorted(kept.nonzero()[:, 0].tolist(), key=lambda place: (order[place].item(), place))[:count]] = False
    mask = Mask({"a": kept[: len(scores["a"])], "b": kept[len(scores["a"]) :]})
    result = remove_lowest(scores, mask, count)
    assert torch.cat([result["a"], result["b"]]).tolist() == expected.tolist()


def test_scores_of_removed_weights_do_not_matter_and_inputs_stay():
    mask = Mask({"a": torch.tensor([[True, False, True]])})
    scores = {"a": torch.tensor([[1.0, float("nan"), 2.0]])}
    assert remove_lowest(scores, mask, 1)["a"].tolist() == [[False, False, True]]
    assert mask["a"].tolist() == [[True, False, True]]
    assert scores["a"][0, 0] == 1


def test_removals_count_to_one_weight():
    mask = Mask({"a": torch.tensor([True] * 60 + [False] * 7)})
    assert removals(mask, 0.5) == round(33.5) - 7
    assert removals(mask, mask.sparsity) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_refused(value):
    mask = Mask({"a": torch.ones(2, 2, dtype=torch.bool)})
    with pytest.raises(InputError, match="hold NaN or infinity: the training that made them diverged, or the scores"):
        remove_lowest({"a": torch.tensor([[1, value], [2, 3]])}, mask, 1)
    with pytest.raises(InputError, match=r"mask for a has shape \(2, 2\), the network has \(3,\)"):
        remove_lowest({"a": torch.ones(3)}, mask, 1)
