"""The permutation symmetry of every classifier in torchvision: found or refused, verified, and at what cost.

    python -m benchmarks.symmetry [--models a,b] [--out benchmarks/results] [--fresh]

Each network is built, traced and verified in a process of its own, on one thread. After each one symmetry.json is
written; networks that are in it are not measured again without --fresh. At the end docs/symmetry.md gets its tables and
docs/images/symmetry-cost.svg is drawn.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks._processes import measured_apart
from benchmarks._symmetry_report import write_report
from rebasin_lt.errors import SymmetryError
from rebasin_lt.feeding.forward_call import ForwardCall
from rebasin_lt.process.progress_line import ProgressLine
from rebasin_lt.storage.files import write_json

Record = dict[str, Any]
KERNELS = "kernel positions of a convolution"
REPEATS = 3


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what has not been measured yet, then write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.symmetry", description=__doc__.splitlines()[0])
    parser.add_argument("--models", help="torchvision's names, separated by commas; all of them if not given")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of symmetry.json")
    parser.add_argument("--fresh", action="store_true", help="measure again what is in symmetry.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # what a process of its own is started with
    given = parser.parse_args(arguments)
    if given.one:
        print(json.dumps(measure(given.one)))
        return
    names = given.models.split(",") if given.models else all_models()
    unknown = sorted({*names} - {*all_models()})
    if unknown:
        parser.error(f"torchvision has no {', '.join(unknown)}")
    results = given.out / "symmetry.json"
    run(names, results, given.fresh)
    if not given.models:
        write_report(_read(results)["models"])


def all_models() -> list[str]:
    """Classifiers of images by name, then `segmentation.NAME` and `video.NAME`."""
    from torchvision import models

    others = {"segmentation": models.segmentation, "video": models.video}
    return [
        *models.list_models(module=models),
        *(f"{kind}.{name}" for kind, module in others.items() for name in models.list_models(module=module)),
    ]


def run(names: Sequence[str], results: Path, fresh: bool) -> None:
    """Measure each network in a process of its own and add it to the file of results."""
    with ProgressLine("symmetry") as progress:
        for index, name in enumerate(names):
            progress("networks", index, len(names))
            written = _read(results)
            if "failed" not in written["models"].get(name, {"failed": ""}) and not fresh:
                continue
            written["models"][name] = measured_apart("benchmarks.symmetry", name)
            order = {name: k for k, name in enumerate(all_models())}
            written["models"] = dict(sorted(written["models"].items(), key=lambda item: order[item[0]]))
            write_json(results, {"made_by": "python -m benchmarks.symmetry", **_versions(), **written})


def measure(name: str) -> Record:
    """Build, trace and verify a network, on one thread; `refused` if the tracer says that it cannot follow it.

    Seconds are of the processor's time, which depends less than the wall's on what else the machine does. Inference is
    short: the shortest of three counts.
    """
    import torch

    from rebasin_lt.report.analyses.symmetry import frozen_by_reason
    from rebasin_lt.symmetry.export import export
    from rebasin_lt.symmetry.trace import read_symmetry

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, shape = build(name)
    images = torch.randn(2, *shape)
    record: Record = {"parameters": sum(p.numel() for p in model.parameters()), "input": list(shape)}
    try:
        program, record["export_seconds"] = timed(lambda: export(model, ForwardCall((images,))))
        inferred = [timed(lambda: read_symmetry(program, model)) for _ in range(REPEATS)]
        record["inference_seconds"] = min(seconds for _, seconds in inferred)
        symmetry = inferred[0][0]
        record["error"], record["verification_seconds"] = timed(lambda: symmetry.verify(model, images))
    except SymmetryError as error:
        return {**record, "refused": str(error)}
    return {
        **record,
        "nodes": len(program.graph.nodes),
        "groups": len(symmetry.groups),
        "units": sum(map(symmetry.num_units, symmetry.groups)),
        "coverage": symmetry.coverage,
        "log10_symmetries": symmetry.log10,
        "unknown": dict(symmetry.unknown),
        "unobserved": [group for group in symmetry.groups if not symmetry.observations[group]],
        "frozen": {
            reason: [f"{entry.name}[{entry.axis}]: {entry.units}" for entry in entries]
            for reason, entries in frozen_by_reason(symmetry.frozen).items()
            if reason != KERNELS  # in every convolution
        },
        "peak_memory_gib": peak_memory_gib(),
    }


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and its seconds of processor time."""
    begun = time.process_time()
    value = call()
    return value, time.process_time() - begun


def build(name: str) -> tuple[Any, tuple[int, ...]]:
    """A network of torchvision with its initial weights, and the shape of one example."""
    import warnings

    from torchvision import models

    warnings.simplefilter("ignore")  # GoogLeNet and Inception announce another initialisation
    if name.startswith("segmentation."):
        maker = getattr(models.segmentation, name.partition(".")[2])
        return maker(weights=None, weights_backbone=None), (3, 112, 112)
    if name.startswith("video."):
        fixed_size = name.endswith(("s3d", "mvit_v1_b", "mvit_v2_s"))  # the others take any
        sites = (16, 224, 224) if fixed_size else (16, 64, 64)
        return getattr(models.video, name.partition(".")[2])(weights=None), (3, *sites)
    return models.get_model(name, weights=None), (3, 299, 299) if name == "inception_v3" else (3, 224, 224)


def _read(path: Path) -> dict[str, Any]:
    written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"models": {}}
    return written


def _versions() -> dict[str, str]:
    import torch
    import torchvision

    return {"torch": torch.__version__, "torchvision": torchvision.__version__}


def peak_memory_gib() -> float:
    """The largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


if __name__ == "__main__":
    main()
