"""What is no classification has no cross-entropy: it is refused in one line, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rebasin_lt.connectivity.barrier import loss_barrier
from rebasin_lt.connectivity.evaluation import evaluate
from rebasin_lt.connectivity.landscape import Plane, plane_losses
from rebasin_lt.errors import InputError

N, CLASSES = 8, 4


class Net(nn.Module):
    """A layer and what it makes of it; every forward is counted over all copies."""

    forwards = 0

    def __init__(self, width: int = CLASSES, answer: Callable[[Tensor], Any] = lambda logits: logits) -> None:
        super().__init__()
        self.layer, self.answer = nn.Linear(6, width), answer

    def forward(self, x: Tensor) -> Any:
        Net.forwards += 1
        return self.answer(self.layer(x))


def labels() -> Tensor:
    return torch.arange(N) % CLASSES  # every class is among them


OF_CLASSES = "expected logits of shape (examples, classes)"
OF_INDICES = "expected integers, the index of each image's class, of shape (8,)"
CASES: dict[str, tuple[Net, Tensor, str]] = {
    "a regressor": (Net(), torch.randn(N), OF_INDICES),
    "a regressor of several values": (Net(), torch.randn(N, CLASSES), OF_INDICES),
    "one output": (Net(1), torch.zeros(N, dtype=torch.long), OF_CLASSES),
    "one output, squeezed": (Net(1, lambda out: out[:, 0]), torch.randn(N), OF_CLASSES),
    "segmentation": (
        Net(answer=lambda out: out[..., None, None].expand(N, CLASSES, 5, 5)),
        torch.randint(0, CLASSES, (N, 5, 5)),
        OF_CLASSES,
    ),
    "segmentation with ignored labels of its own": (
        Net(answer=lambda out: out[..., None, None].expand(N, CLASSES, 5, 5)),
        torch.full((N, 5, 5), 255),
        OF_CLASSES,
    ),
    "a sequence of words": (
        Net(answer=lambda out: out[:, None].expand(N, 7, CLASSES)),
        torch.randint(0, CLASSES, (N, 7)),
        OF_CLASSES,
    ),
    "several labels": (Net(), (torch.rand(N, CLASSES) > 0.5).float(), OF_INDICES),
    "several labels, integers": (Net(), (torch.rand(N, CLASSES) > 0.5).long(), OF_INDICES),
    "one-hot labels": (Net(), nn.functional.one_hot(labels(), CLASSES), OF_INDICES),
    "labels in a column": (Net(), labels()[:, None], OF_INDICES),
    "floating labels": (Net(), labels().float(), OF_INDICES),
    "truth values": (Net(), labels() > 1, OF_INDICES),
    "outputs by names of their own": (Net(answer=lambda out: {"a": out, "b": out}), labels(), "network returns a dict"),
    "no output": (Net(answer=lambda out: ()), labels(), "network returns a tuple"),
    "more classes than outputs": (Net(), labels() + 1, "expected their indices, from 0 to 3"),
    "ignored images": (Net(), torch.full((N,), -100), "expected their indices, from 0 to 3"),
}


class Unread:
    """Batches that are not to be asked for."""

    def __iter__(self) -> Iterable[Any]:
        raise AssertionError("batches were read")
        yield

    def __len__(self) -> int:
        return 1


def measure_barrier(net: Net, batches: list[Any], images: Any) -> None:
    loss_barrier(net, net, net, batches, correction="repair", correction_batches=images)


def measure_plane(net: Net, batches: list[Any], images: Any) -> None:
    plane = Plane(net, *(Net(net.layer.out_features) for _ in range(3)))
    plane_losses(net, plane, [(0.0, 0.0)], batches, reset_batches=images)


@pytest.mark.parametrize("measure", [measure_barrier, measure_plane])
@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_before_anything_is_computed(case, measure):
    net, targets, message = CASES[case]
    batches = [(torch.randn(N, 6), targets)] * 2
    Net.forwards = 0
    with pytest.raises(InputError) as error:
        measure(net, batches, Unread())
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert Net.forwards == 1  # one batch, to see what comes out


@pytest.mark.parametrize("case", [name for name in CASES if "from 0 to" not in CASES[name][2]])
def test_every_batch_is_looked_at(case):
    net, targets, message = CASES[case]
    with pytest.raises(InputError) as error:
        evaluate([net], [(torch.randn(N, 6), targets)])
    assert message in str(error.value)


FITTING = {
    "a regressor": "no loss by name fits",
    "a regressor of several values": "losses that fit are mse",
    "one output": "losses that fit are bce, mse",
    "segmentation": "losses that fit are pixel_cross_entropy",
    "segmentation with ignored labels of its own": "pixel_cross_entropy is of such shapes, but targets are from 255 to "
    "255, .*, or -100 for what is to be ignored",
    "a sequence of words": "losses that fit are token_cross_entropy, next_token_cross_entropy",
    "several labels": "losses that fit are bce, mse",
    "ignored images": "no loss by name fits",
}


@pytest.mark.parametrize("case", FITTING)
def test_the_losses_that_would_fit_are_named(case):
    net, targets, _ = CASES[case]
    with pytest.raises(InputError, match=f"{FITTING[case]}, and a function of your own may"):
        measure_barrier(net, [(torch.randn(N, 6), targets)], Unread())


@pytest.mark.parametrize("answer", [lambda out: {"logits": out}, lambda out: (out, out.sum())])
def test_the_answer_may_lie_in_a_dict_or_a_tuple(answer):
    net, batches = Net(), [(torch.randn(N, 6), labels())]
    expected = evaluate([net], batches)
    net.answer = answer
    assert evaluate([net], batches) == expected


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_of_every_integer_type_are_taken(dtype):
    net, images, targets = Net(), torch.randn(N, 6), labels()
    assert evaluate([net], [(images, targets.to(dtype))]) == evaluate([net], [(images, targets)])
    loss_barrier(net, net, Net(), [(images, targets.to(dtype))], alphas=3)


def test_one_network_where_a_list_is_expected_is_refused_in_words() -> None:
    with pytest.raises(InputError, match="networks is one Linear, expected a list of them"):
        evaluate(nn.Linear(2, 2), [(torch.zeros(2, 2), torch.zeros(2, dtype=torch.long))])
