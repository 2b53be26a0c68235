"""What is measured is measured in fp32, whatever the user has set, and the user's settings are as before afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rebasin_lt import precision
from rebasin_lt.analyses.diversity import measure
from rebasin_lt.connectivity.barrier import loss_barrier
from rebasin_lt.connectivity.batchnorm import reset_batchnorm
from rebasin_lt.connectivity.corrections import CORRECTIONS
from rebasin_lt.connectivity.evaluation import evaluate
from rebasin_lt.lit.epoch_sums import EpochSums
from rebasin_lt.matching.activation import match_activations
from rebasin_lt.matching.moments import CrossMoments
from rebasin_lt.precision import full_precision, sum_device, sum_dtype
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.saliency import grasp, snip
from rebasin_lt.symmetry.trace import trace_symmetry

CPU = torch.device("cpu")
NEW = hasattr(torch.backends.cuda.matmul, "fp32_precision")
GENERAL = torch.backends
SPECIAL = [
    torch.backends.cuda.matmul,
    *([torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.mkldnn.conv] if NEW else []),
]
needs_new = pytest.mark.skipif(not NEW, reason="torch before 2.9 has one setting for all")


def now() -> list[Any]:
    """All settings, and what the old interface says of them, which refuses an answer where the new one was used."""

    def old(read: Callable[[], Any]) -> Any:
        try:
            return read()
        except RuntimeError:
            return "refused"

    new = [setting.fp32_precision for setting in (GENERAL, *SPECIAL)] if NEW else []
    return [
        *new,
        old(torch.get_float32_matmul_precision),
        old(lambda: torch.backends.cuda.matmul.allow_tf32),
        old(lambda: torch.backends.cudnn.allow_tf32),
    ]


@pytest.fixture(autouse=True)
def settings_of_their_own() -> Iterator[None]:
    yield
    for setting in (GENERAL, *SPECIAL) if NEW else ():
        setting.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True


def general_tf32() -> None:
    GENERAL.fp32_precision = "tf32"


def special(index: int, value: str) -> Callable[[], None]:
    def choose() -> None:
        SPECIAL[index].fp32_precision = value

    return choose


USERS = {
    "nothing": lambda: None,
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "cudnn without": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "general": general_tf32,
    "products": special(0, "tf32"),
    "products, ieee": special(0, "ieee"),
    "convolutions": special(1, "tf32"),
    "recurrences, ieee": special(2, "ieee"),
    "CPU convolutions": special(3, "bf16"),
}
OLD = {"nothing", "medium", "high", "cudnn without"}
every_user = pytest.mark.parametrize(
    "user", [name if name in OLD else pytest.param(name, marks=needs_new) for name in USERS]
)


@every_user
def test_settings_are_those_of_before_afterwards_and_fp32_within(user: str) -> None:
    USERS[user]()
    before = now()
    with pytest.raises(ZeroDivisionError), full_precision(CPU):  # noqa: PT012
        if NEW:
            assert {setting.fp32_precision for setting in (GENERAL, *SPECIAL)} == {"ieee"}
        else:
            assert now() == ["highest", False, False]
        _ = 1 / 0
    assert now() == before


@needs_new
def test_a_special_setting_that_followed_the_general_one_follows_it_still() -> None:
    for setting in SPECIAL:
        setting.fp32_precision = "none"
    with full_precision(CPU):
        pass
    GENERAL.fp32_precision = "tf32"
    assert {setting.fp32_precision for setting in SPECIAL} == {"tf32"}
    GENERAL.fp32_precision = "ieee"
    assert {setting.fp32_precision for setting in SPECIAL} == {"ieee"}


@needs_new
@pytest.mark.parametrize("before", ["none", "tf32", "ieee"])
def test_what_followed_the_general_setting_follows_it_after_an_export(before: str) -> None:
    """Export sets MKL-DNN's to what it reads: in matching, inputs of another length are exported under "ieee"."""
    GENERAL.fp32_precision = before
    with full_precision(CPU):
        trace_symmetry(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.randn(2, 2))
    trace_symmetry(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.randn(2, 2))
    assert GENERAL.fp32_precision == before
    for value in ("tf32", "ieee"):
        GENERAL.fp32_precision = value
        assert torch.backends.mkldnn.conv.fp32_precision == value


@needs_new
def test_what_followed_the_setting_of_all_of_cuda_follows_it_still() -> None:
    """Whatever it was, and it is itself as before."""
    cuda = torch.backends.cudnn  # its setting is that of CUDA's products too
    try:
        for setting in (*SPECIAL, cuda):
            setting.fp32_precision = "none"
        cuda.fp32_precision = "tf32"
        with full_precision(CPU):
            assert {setting.fp32_precision for setting in (GENERAL, *SPECIAL)} == {"ieee"}
        assert [setting.fp32_precision for setting in SPECIAL] == ["tf32", "tf32", "tf32", "none"]
        cuda.fp32_precision = "ieee"
        assert [setting.fp32_precision for setting in SPECIAL] == ["ieee", "ieee", "ieee", "none"]
    finally:
        cuda.fp32_precision = "none"


@every_user
def test_moments_can_be_taken_whatever_is_set(user: str) -> None:
    USERS[user]()
    moments = CrossMoments(3)
    samples = torch.arange(12.0).reshape(4, 3)
    moments.update(samples, samples)
    assert torch.allclose(moments.correlation(), torch.ones(3, 3, dtype=torch.float64))


@every_user
def test_a_symmetry_can_be_traced_whatever_is_set(user: str) -> None:
    USERS[user]()
    before = now()
    assert trace_symmetry(network(0), torch.zeros(2, 1, 6, 6)).groups
    assert now() == before


class Watch(TorchDispatchMode):
    """Refuses 16 bits and any other precision than fp32's in what networks are made of; counts what it saw."""

    seen = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        name = func.overloadpacket.__name__
        if name in {"convolution", "convolution_backward", "addmm", "mm"}:
            self.seen += 1
            assert not any(isinstance(each, torch.Tensor) and each.dtype == torch.bfloat16 for each in args), name
            if NEW:
                assert {setting.fp32_precision for setting in (GENERAL, *SPECIAL)} == {"ieee"}, name
            else:
                assert now() == ["highest", False, False], name
        return func(*args, **kwargs or {})


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(*(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    )).eval()


def plain(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)).eval()


@pytest.fixture(scope="module")
def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 1, 6, 6, generator=generator), torch.arange(8) % 3) for _ in range(2)]


def matched(preset: str | None) -> Callable[[Any], Any]:
    symmetry = trace_symmetry(network(0), torch.zeros(2, 1, 6, 6))
    return lambda batches: match_activations(network(0), network(1), batches, symmetry, preset=preset)


def barrier(correction: str) -> Callable[[Any], Any]:
    build = network if correction == "bn_reset" else plain
    return lambda batches: loss_barrier(
        build(0), build(0), build(1), batches, alphas=3, correction=correction, correction_batches=batches
    )


MEASURED: dict[str, Callable[[Any], Any]] = {
    "match_activations": matched(None),
    "preset paper": matched("paper"),
    **{f"barrier, {correction}": barrier(correction) for correction in CORRECTIONS},
    "evaluate": lambda batches: evaluate([network(0)], batches),
    "reset_batchnorm": lambda batches: reset_batchnorm(network(0), batches),
    "diversity": lambda batches: measure({"two": [network(0), network(1)]}, batches),
    "snip": lambda batches: snip(network(0), Mask.ones_like(network(0).state_dict()), batches, 0.5),
    "grasp": lambda batches: grasp(network(0), Mask.ones_like(network(0).state_dict()), batches, 0.5),
}


@pytest.mark.filterwarnings("ignore:matching")
@pytest.mark.parametrize("user", ["high", pytest.param("general", marks=needs_new)])
@pytest.mark.parametrize("name", MEASURED)
def test_whatever_compares_networks_runs_them_in_fp32(name: str, user: str, batches) -> None:
    USERS[user]()
    with torch.autocast("cpu", torch.bfloat16), Watch() as watch:
        MEASURED[name](batches)
    assert watch.seen


def test_sums_are_fp64_where_the_device_has_it() -> None:
    assert sum_dtype(CPU) == sum_dtype(torch.device("cuda")) == torch.float64
    assert sum_device(torch.device("cuda", 1)) == torch.device("cuda", 1)
    assert sum_dtype(torch.device("mps")) == torch.float32
    assert sum_device(torch.device("mps")) == CPU


class WithoutDouble(TorchDispatchMode):
    """A CPU without fp64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        result = func(*args, **kwargs or {})
        assert not (isinstance(result, torch.Tensor) and result.dtype == torch.float64), func
        return result


def test_no_fp64_in_a_step_or_a_barrier_where_the_device_has_none(monkeypatch, batches) -> None:
    (expected,) = evaluate([network(0)], batches)
    monkeypatch.setattr(precision, "_WITHOUT_DOUBLE", {"cpu"})
    with WithoutDouble():
        (found,) = evaluate([network(0)], batches)
        sums = EpochSums(torch.zeros(4))
        for images, labels in batches:
            sums.add(torch.tensor(1.5), network(0)(images).detach(), labels, times=8, top5=True)
        totals = sums.totals(CPU)
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    assert (found.error, found.num_images) == (expected.error, expected.num_images)
    assert totals.tolist()[0] == 24
    assert totals.tolist()[3] == 16
