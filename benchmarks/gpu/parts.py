"""What is measured on a GPU, in this order: what is cheap and says most comes first."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import data_path, matching_device, step, training_device
from benchmarks._device import opened
from benchmarks._figures import Figure, machine, ratios, record, spread
from benchmarks.end_to_end import OURS, Place, choices, step_seconds
from benchmarks.gpu.paper import reproduce
from benchmarks.gpu.running import MACHINE, Part, Setting

TESTS = Path(__file__).parents[2] / "tests"


def told(setting: Setting) -> Any:
    """The machine, and that a kernel runs on its device."""
    with opened(setting.device):
        total = float(torch.ones(1000, device=setting.device).sum())
        assert total == 1000
        found = machine(setting.device)
    if setting.device.startswith("cuda"):
        about = torch.cuda.get_device_properties(setting.device)
        found |= {
            "memory": about.total_memory,
            "capability": f"{about.major}.{about.minor}",
            "cuda": torch.version.cuda,
        }
    return {**found, "python": platform.python_version(), "system": platform.platform()}


def tested(setting: Setting) -> Any:
    """The tests that need a GPU, of the files that have any."""
    import pytest

    files = sorted(str(path) for path in TESTS.rglob("test_*.py") if "mark.gpu" in path.read_text(encoding="utf-8"))
    code = pytest.main(["-m", "gpu", "-q", "-p", "no:cacheprovider", "--rootdir", str(TESTS.parent), *files])
    if code not in (0, 5):
        raise SystemExit(f"pytest ended with {int(code)}: see tests.log")
    return {"files": len(files), "exit": int(code)}


def stepped(setting: Setting) -> Any:
    """A masked step against a dense one, and several runs stacked in one process."""
    return _measured(step, setting, *_sizes(setting))


def recorded(setting: Setting) -> Any:
    """A whole step in one CUDA graph: by itself, for a recording that fails spoils the GPU for its process."""
    return _measured(step, setting, "--graph", *_sizes(setting))


def _sizes(setting: Setting) -> list[str]:
    toy = ["--widths", "0.25", "--rounds", "2", "--batch", "2"]
    return toy if setting.toy else ["--widths", "1,4,16", "--rounds", "100"]


def fed(setting: Setting) -> Any:
    """Training images cut out of memory."""
    return _measured(data_path, setting, *(["--images", "64", "--batch", "8", "--repeats", "1"] if setting.toy else []))


def matched(setting: Setting) -> Any:
    """Matching, and what two forward passes take of it."""
    size = ["--widths", "0.25", "--scale", "0.0002", "--batch", "5"] if setting.toy else ["--widths", "1,4,16"]
    with opened(setting.device):
        matching_device.main(["--device", setting.device, "--out", str(setting.out), *size])
    return "matching_device.json"


def chosen(setting: Setting) -> Any:
    """Images per second of every choice of precision, layout, compiling and graphs, and which is quickest."""
    widths, steps, batch = ((0.25,), 2, 2) if setting.toy else ((1.0, 4.0, 16.0), 60, 128)
    ways = choices(setting.device, compiled=setting.device.startswith("cuda"))
    if setting.toy:
        ways = {"float32": OURS["float32"], "channels last": OURS["channels last"]}
    place, figures, quickest = Place(setting.device), [], {}
    given = _given(setting)
    for width in widths:
        seconds: dict[str, list[float]] = {}
        for name, how in ways.items():
            with opened(setting.device):
                seconds[name] = [step_seconds(how, width, batch, steps, place) for _ in range(1 if setting.toy else 3)]
            base = next(iter(seconds))
            subject = f"training images per second, ResNet20×{width:g}"
            figures += [
                Figure(subject, name, "", spread([batch / value for value in seconds[name]]), "", "images/s"),
                *([Figure(subject, name, base, ratios(seconds[base], seconds[name]))] if name != base else []),
            ]
            record("choices", given, figures, steps=steps, batch=batch)
        best = min(seconds, key=lambda name: median(seconds[name]))
        quickest[f"{width:g}"] = {"choice": best, "settings": settings_of(ways[best])}
    return {"quickest": quickest}


def settings_of(how: Mapping[str, Any]) -> str:
    """A choice as options of `fit`."""
    options = {"--model.channels_last": str(how["channels_last"]).lower(), "--trainer.precision": how["precision"]}
    if "compile" in how:
        options["--model.compile"] = "true" if how["compile"] == "default" else how["compile"]
    return " ".join(f"{name} {value}" for name, value in options.items())


def at_once(setting: Setting) -> Any:
    """Several runs sharing the GPU."""
    size = ["--width", "0.25", "--runs", "2", "--steps", "2", "--workers", "0"] if setting.toy else ["--steps", "100"]
    return _measured(training_device, setting, "--only", "runs", "--rounds", "1" if setting.toy else "2", *size)


def large(setting: Setting) -> Any:
    """ResNet50 on images of 224×224."""
    size = ["--width", "0.25", "--steps", "1", "--size", "32"] if setting.toy else ["--steps", "200"]
    return _measured(training_device, setting, "--only", "resnet50", "--rounds", "1" if setting.toy else "2", *size)


def papers(setting: Setting) -> Any:
    """The paper's experiment, in the time that is left."""
    with opened(setting.device):
        return reproduce(setting)


def _measured(module: Any, setting: Setting, *options: str) -> str:
    """Have a benchmark write its figures, and say where they are."""
    with opened(setting.device):
        module.main(["--device", setting.device, "--out", str(setting.out), *options])
    return f"{module.__name__.rpartition('.')[2]}.json, with the device in its name"


def _given(setting: Setting) -> Any:
    from argparse import Namespace

    return Namespace(device=setting.device, out=setting.out, machine="", page=None)


PARTS = (
    Part(MACHINE, 0.05, told),
    Part("tests", 0.1, tested),
    Part("step", 0.1, stepped),
    Part("data", 0.05, fed),
    Part("graph", 0.05, recorded),
    Part("matching", 0.12, matched),
    Part("choices", 0.15, chosen),
    Part("at-once", 0.1, at_once),
    Part("resnet50", 0.1, large),
    Part("paper", 1.0, papers),
)
"""Shares are of 540 seconds on a GPU; what one leaves, the last has."""
