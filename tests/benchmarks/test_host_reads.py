"""No step of `fit` makes the host wait for the device; and the counter that says so sees what would."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from benchmarks._host_reads import HostReads, reads_of_fit
from rebasin_lt.lit.classifier import Classifier


@pytest.mark.parametrize("masked", [False, True])
def test_no_step_of_fit_reads_from_the_device(tmp_path, masked) -> None:
    assert not reads_of_fit(tmp_path, masked)


def test_a_single_read_in_a_step_would_be_counted(tmp_path, monkeypatch) -> None:
    def with_a_read(self, batch, batch_idx):
        loss = cross_entropy(self.net(batch[0]), batch[1])
        self.last = loss.item()
        return loss

    monkeypatch.setattr(Classifier, "training_step", with_a_read)
    assert reads_of_fit(tmp_path, masked=False) == {"_local_scalar_dense": 4}


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (lambda x: x.sum().item(), "_local_scalar_dense"),
        (lambda x: bool(x.sum() > 0), "_local_scalar_dense"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x[x > 0], "index"),
        (lambda x: x.long().bincount(), "bincount"),
        (lambda x: x.equal(x), "equal"),
        (lambda x: x.cpu(), "cpu"),
        (lambda x: x.tolist(), "tolist"),
        (lambda x: x.numpy(), "numpy"),
        (lambda x: x.to("meta"), "_to_copy"),
    ],
)
def test_what_reads_is_counted(read, name) -> None:
    with HostReads() as reads:
        read(torch.ones(3))
    assert name in reads.names


def test_what_stays_on_the_device_is_not_counted() -> None:
    x = torch.ones(3, requires_grad=True)
    index = torch.tensor([0, 2])
    with HostReads() as reads:
        (x[index].double() * 2).sum().backward()
        torch.zeros(3).copy_(x.detach())[index] = 1
    assert not reads.names


@pytest.mark.gpu
@pytest.mark.parametrize("masked", [False, True])
def test_cuda_itself_sees_no_wait_in_a_step(masked) -> None:
    from benchmarks.step import Side

    side = Side(masked, "cuda", batch=8)
    side.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        side.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
