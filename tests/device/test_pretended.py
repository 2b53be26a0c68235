"""The pretended device refuses what a GPU refuses, takes what it takes, and counts every crossing."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from pretended import NAME, PretendedTensor, counted
from pretending import pretending
from torch import Tensor, nn


@pytest.fixture
def x(device) -> Tensor:
    return torch.arange(5.0, device=device)


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x + torch.ones(5),
        lambda x: torch.ones(5) + x,
        lambda x: x.add_(torch.ones(5)),
        lambda x: torch.ones(5).add_(x),
        lambda x: torch.tensor(1.0).add_(x[0]),
        lambda x: torch.cat([x, torch.ones(1)]),
        lambda x: torch.stack([x[0], torch.tensor(1.0)]),
        lambda x: torch.ones(5)[x.long()],
        lambda x: torch.ones(5)[x > 1],
        lambda x: x.index_select(0, torch.tensor([1])),
        lambda x: x.masked_fill(torch.ones(5) > 0, 0),
        lambda x: torch.where(torch.ones(5) > 0, x, 0),
        lambda x: x.gather(0, torch.tensor([1])),
        lambda x: x @ torch.ones(5),
        lambda x: nn.functional.linear(x[None], torch.ones(2, 5)),
        lambda x: torch._foreach_mul([x], [torch.ones(5)]),
        lambda x: torch.sub(x, 1, out=torch.ones(5)),
        lambda x: nn.Linear(5, 1)(x),
    ],
)
def test_tensors_of_two_devices_are_refused(work, x) -> None:
    with pytest.raises(RuntimeError, match="same device"):
        work(x)


@pytest.mark.parametrize(
    "work",
    [
        lambda x: torch.rand(3, device=x.device, generator=torch.Generator()),
        lambda x: x.uniform_(generator=torch.Generator()),
        lambda x: torch.randperm(3, device=x.device, generator=torch.Generator()),
        lambda x: torch.multinomial(x, 2, generator=torch.Generator()),
        lambda x: torch.bernoulli(x / 9, generator=torch.Generator()),
    ],
)
def test_generators_of_the_cpu_are_refused(work, x) -> None:
    with pytest.raises(RuntimeError, match="generator"):
        work(x)


@pytest.mark.parametrize("read", [lambda x: x.numpy(), lambda x: torch.utils.data.default_collate([x.numpy()])])
def test_numpy_does_not_see_it(read, x) -> None:
    with pytest.raises(TypeError, match="can't convert"):
        read(x)


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (lambda x: x + torch.tensor(1.0), [1, 2, 3, 4, 5]),
        (lambda x: torch.tensor(1.0) + x, [1, 2, 3, 4, 5]),
        (lambda x: x.mul_(torch.tensor(2.0)), [0, 2, 4, 6, 8]),
        (lambda x: torch.where(x > 1, x, torch.tensor(0.0)), [0, 0, 2, 3, 4]),
        (lambda x: x.fill_(torch.tensor(2.0)), [2] * 5),
        (lambda x: x.index_fill(0, torch.tensor([1], device=x.device), torch.tensor(7.0)), [0, 7, 2, 3, 4]),
        (lambda x: x[torch.tensor([0, 1])], [0, 1]),
        (lambda x: torch.ones(2).to(x.device), [1, 1]),
        (lambda x: torch.zeros(5).copy_(x), [0, 1, 2, 3, 4]),
        (lambda x: torch._foreach_mul([x], [torch.tensor(2.0, device=x.device)])[0], [0, 2, 4, 6, 8]),
    ],
)
def test_a_number_of_the_cpu_and_copies_are_taken(work, expected, x) -> None:
    assert work(x).tolist() == expected


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: float(x[0]),
        lambda x: bool(x[0] > 0),
        lambda x: x.cpu(),
        lambda x: x.to("cpu", non_blocking=True),
        lambda x: x.tolist(),
        lambda x: torch.zeros(5).copy_(x),
        lambda x: x.nonzero(),
        lambda x: x[x > 1],
        lambda x: x.masked_select(x > 1),
        lambda x: x.unique(),
        lambda x: x.long().bincount(),
        lambda x: x.equal(x),
        lambda x: x.repeat_interleave(x.long()),
        lambda x: torch.save(x, io.BytesIO()),
        lambda x: torch.pretended.synchronize(),
    ],
)
def test_a_read_is_counted(read, x) -> None:
    with counted() as counts:
        read(x)
    assert len(counts.reads) == 1
    assert not counts.sends


@pytest.mark.parametrize(
    "send",
    [
        lambda x: torch.ones(2).to(x.device),
        lambda x: torch.tensor([1.0, 2.0], device=x.device),
        lambda x: x.new_tensor([1.0]),
        lambda x: x.copy_(torch.ones(5)),
        lambda x: x[torch.tensor([0, 1])],
    ],
)
def test_what_the_host_sends_is_counted(send, x) -> None:
    with counted() as counts:
        send(x)
    assert len(counts.sends) == 1
    assert not counts.reads


def test_a_copy_that_the_host_does_not_wait_for_is_not_there_yet(x) -> None:
    assert x.to("cpu").tolist() == [0, 1, 2, 3, 4]
    assert x.to("cpu", non_blocking=True).isnan().all()


def test_what_stays_on_the_device_is_not_counted(x) -> None:
    w = x.clone().requires_grad_()
    with counted() as counts:
        (w * 2 + torch.zeros(5, device=x.device)).square().sum().backward()
        torch.optim.SGD([w], 0.1, momentum=0.9).step()
        x[1:3] = 7
        x.index_select(0, torch.arange(2, device=x.device))
        torch.where(x > 1, x, 0.0).argmax()
        copy.deepcopy(w)
    assert not counts.reads + counts.sends


def test_random_numbers_of_the_device_are_not_those_of_the_cpu(device) -> None:
    """So that a generator that nobody seeds, or sets back, is seen."""
    torch.manual_seed(5)
    ours, theirs = torch.rand(3, device=device), torch.rand(3)
    assert torch.equal(ours.cpu(), theirs), "one seed for both"
    torch.default_generator.manual_seed(5)
    assert not torch.equal(torch.rand(3, device=device).cpu(), theirs)


def test_parameters_are_the_same_objects_after_a_move(device) -> None:
    layer = nn.Linear(2, 2)
    weight = layer.weight
    assert layer.to(device).weight is weight
    assert isinstance(weight, PretendedTensor)
    assert isinstance(weight, nn.Parameter)
    assert layer.cpu().weight is weight
    assert type(weight) is nn.Parameter


def test_views_share_memory_and_what_is_written_in_place_is_itself(x) -> None:
    view = x[1:3]
    assert view.mul_(0) is view
    assert x.tolist() == [0, 0, 0, 3, 4]
    assert x.untyped_storage().data_ptr() == view.untyped_storage().data_ptr()


def test_the_data_of_a_tensor_can_be_exchanged_for_another_of_the_device(x) -> None:
    x.data = x * 2
    assert x.tolist() == [0, 2, 4, 6, 8]
    with pytest.raises(RuntimeError, match="incompatible tensor type"):
        x.data = torch.ones(5)


def test_nothing_is_left_behind() -> None:
    with pretending():
        pass
    layer = nn.Linear(2, 2)
    layer.to(torch.float64)(torch.ones(1, 2, dtype=torch.float64)).sum().backward()
    assert torch.tensor(1.0).device.type == "cpu"
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros(1, device=NAME)
    assert not torch.accelerator.is_available()  # or every loader that pins memory would ask the device for it
