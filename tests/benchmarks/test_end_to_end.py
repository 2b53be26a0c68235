"""The reference loop trains as ours does: on the same batches, to the same weights; and the benchmark runs."""

from __future__ import annotations

import argparse
import json
import os
import shutil

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmarks import end_to_end
from benchmarks._arithmetic import ConvolutionShare
from benchmarks._host_reads import HostReads
from benchmarks._paper_training import check_sparse_gradients, prune_, train_as_published
from benchmarks.end_to_end import LEARNING_RATE, Place, main, new_classifier
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.trainer import quiet_trainer
from rebasin_lt.pruning.mask import Mask

SHAPE = (3, 8, 8)


def batches(count: int = 3) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (count, 8), generator=generator)
    return [(torch.randn(8, *SHAPE, generator=generator), labels[step]) for step in range(count)]


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_on_the_same_batches_both_end_with_the_same_weights(tmp_path) -> None:
    theirs, mask = new_classifier(0, SHAPE, 0.5)
    prune_(theirs.net.double(), mask)
    doubles = [(images.double(), labels) for images, labels in batches()]
    losses = train_as_published(theirs.net, doubles, 2, LEARNING_RATE)
    ours, same_mask = new_classifier(0, SHAPE, 0.5)
    assert same_mask == mask
    loader = DataLoader(batches(), batch_size=None)
    quiet_trainer(tmp_path, 2, [MaskGuard(mask)], accelerator="cpu", precision="64-true").fit(ours, loader)
    expected = theirs.net.state_dict()
    for name, value in ours.net.state_dict().items():
        reference = expected.get(name, expected.get(f"{name}_orig"))
        if name in mask:  # a pruned weight lives on below the hook, where weight decay shrinks it
            reference = reference * mask[name]
        torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-12)
    assert losses[1] < losses[0]


def test_the_published_check_reads_every_gradient_and_compares_nothing() -> None:
    network = nn.Linear(4, 2)
    prune_(network, Mask({"weight": torch.tensor([[True, False, True, False]] * 2)}))
    network(torch.ones(3, 4)).sum().backward()
    network.weight_orig.grad.fill_(1)  # wrong: pruned weights have a gradient
    with HostReads() as reads:
        check_sparse_gradients(network)
    assert reads.names == {"_local_scalar_dense": 2}


GPU = Place("cuda")
MEASURED = {"reference": [8.0, 6.0], "float32": [4.0, 2.0], "channels last, bf16": [1.0, 2.0]}


def test_the_quickest_has_the_limit_and_on_a_gpu_its_images_per_second() -> None:
    *ratios, rate = end_to_end.speed_figures(MEASURED, 1, 128, GPU)
    assert [(figure.ours, figure.limit) for figure in ratios] == [("float32", ""), ("channels last, bf16", "≥ 5")]
    assert ratios[1].measured == [5.5, 3.0, 8.0]
    assert (rate.ours, rate.measured, rate.limit, rate.unit) == ("channels last, bf16", [96, 64, 128], "", "images/s")
    for width, least in ((4.0, "≥ 49,000"), (8.0, "≥ 12,250"), (16.0, "≥ 3,050")):
        *ratios, rate = end_to_end.speed_figures(MEASURED, width, 128, GPU)
        assert [figure.limit for figure in ratios] == ["", ""]
        assert rate.limit == least
    assert [figure.limit for figure in end_to_end.speed_figures(MEASURED, 1, 128, Place("cpu"))] == ["", "≥ 1.5"]


@pytest.mark.slow
def test_main_compares_every_side_on_one_thread_and_on_all_cores(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(end_to_end, "digits", lambda: [end_to_end.Pixels(*small, 4, 1) for small in [toy()] * 2])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    settings = ["--rounds", "1", "--steps", "1", "--batch", "2", "--widths", "0.25", "--seeds", "1", "--epochs", "1"]
    main([*settings, "--out", str(tmp_path)])
    figures = json.loads((tmp_path / "end_to_end.json").read_text())["figures"]
    ours = list(end_to_end.choices("cpu"))
    speeds = figures[: 2 * len(ours)]
    assert [figure["ours"] for figure in speeds] == ours * 2
    assert [figure["figure"].rpartition(", ")[2] for figure in speeds] == [
        *["one thread"] * len(ours),
        *["all cores"] * len(ours),
    ]
    assert all(figure["measured"][0] > 0 for figure in speeds)
    quickest = next(figure["ours"] for figure in speeds if figure["limit"])
    others = figures[2 * len(ours) :]
    assert 0 < others[0]["measured"][0] < 100  # convolutions
    assert [figure["ours"] for figure in others] == [quickest, quickest, "", quickest]
    assert all(abs(figure["measured"][0]) <= 100 for figure in figures)


def test_the_quickest_is_known_where_no_line_has_a_limit() -> None:
    assert [figure.limit for figure in end_to_end.speed_figures(MEASURED, 2.0, 128, GPU)] == ["", "", ""]
    assert end_to_end.quickest_of(MEASURED) == "channels last, bf16"


def test_a_cpu_without_instructions_for_bf16_is_not_asked_to_use_it(monkeypatch) -> None:
    for bf16, compiled in ((False, ["channels last, compiled"]), (True, ["channels last, bf16, compiled"])):
        monkeypatch.setattr(end_to_end, "multiplies_in_bf16", lambda bf16=bf16: bf16)
        plain = list(end_to_end.OURS)[: 3 if bf16 else 2]
        assert list(end_to_end.choices("cpu")) == plain
        assert list(end_to_end.choices("cpu", compiled=True)) == [*plain, *compiled]
        graphs = ["channels last, bf16, compiled", "channels last, bf16, compiled, CUDA graphs"]
        assert list(end_to_end.choices("cuda", compiled=True)) == [*end_to_end.OURS, *graphs]
    assert end_to_end.choices("cuda")["channels last, bf16"]["precision"] == "bf16-mixed"


@pytest.mark.parametrize(
    ("device", "cores", "expected"), [("cpu", 1, [(1, 0)]), ("cpu", 64, [(1, 0), (64, 8)]), ("cuda", 64, [(1, 5)])]
)
def test_a_cpu_is_measured_on_one_thread_and_on_the_cores_that_it_may_use(monkeypatch, device, cores, expected) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    found = end_to_end.places(argparse.Namespace(device=device, workers=5))
    assert [(place.threads, place.workers) for place in found] == expected


def test_compiling_for_a_cpu_needs_a_compiler(monkeypatch, capsys) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(SystemExit):
        main(["--compile"])
    assert "--compile needs a C++ compiler, c++, for a CPU" in capsys.readouterr().err


def test_the_reference_has_more_images_than_it_trains_on_so_that_its_loader_never_idles(monkeypatch) -> None:
    seen = {}
    monkeypatch.setattr(end_to_end, "train_theirs", lambda data, *rest: seen.update(theirs=len(data.pixels), rest=rest))
    monkeypatch.setattr(end_to_end, "train_ours", lambda data, *rest: seen.update(ours=len(data.pixels)))
    monkeypatch.setattr(end_to_end.Clock, "seconds", lambda clock: float(clock.batches))
    place = end_to_end.Place("cpu", torch.get_num_threads(), 3)
    assert end_to_end.step_seconds(None, 0.5, 4, 2, place) == end_to_end.WARM_UP + 2 + 1
    end_to_end.step_seconds(end_to_end.OURS["float32"], 0.5, 4, 2, place)
    assert seen["theirs"] - seen["ours"] == 4 * 2 * 3
    assert seen["rest"][4] == 3  # processes of the loader


def test_convolutions_take_a_share_of_the_profiled_steps() -> None:
    share, layer = ConvolutionShare(1, 3), nn.Conv2d(3, 8, 3)
    images = torch.ones(2, 3, 16, 16)
    for _ in range(4):
        share()
        layer(images).sum().backward()
    assert 0 < share.percent() < 100
    assert {event.count for event in share.profile.key_averages() if event.key == "aten::convolution"} == {2}


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
def test_a_compiled_side_trains_to_the_same_weights_up_to_rounding() -> None:
    data = end_to_end.Pixels(*toy(), 4, 1)
    how = {"precision": "32-true", "channels_last": True}
    plain = end_to_end.train_ours(data, 0, 0.25, 1, "cpu", how, lambda: None)
    for mode in (end_to_end.COMPILED, end_to_end.GRAPHS):
        compiled = end_to_end.train_ours(data, 0, 0.25, 1, "cpu", how | mode, lambda: None)
        assert compiled.net._compiled_call_impl is not None
        for name, value in compiled.net.state_dict().items():
            torch.testing.assert_close(value, plain.net.state_dict()[name], rtol=1e-3, atol=1e-4)


def toy() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(8, *SHAPE, dtype=torch.uint8), torch.arange(8)
