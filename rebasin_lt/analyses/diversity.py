"""Settings side by side: how diverse the networks of each are, and how good their ensemble is, on the test images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from glob import glob
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rebasin_lt.diversity import EnsembleDiversity, ValueDiversity
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.stages import trained_file
from rebasin_lt.experiment.subjects import Subjects, resolve_device
from rebasin_lt.feeding.calls import calls_of
from rebasin_lt.judging.judge import ByLoss, judge_of
from rebasin_lt.judging.losses import CROSS_ENTROPY, LOSSES, judged_in_result, without_default
from rebasin_lt.lit.data.base import ImageData
from rebasin_lt.lit.data.registry import Data
from rebasin_lt.precision import full_precision, sum_device
from rebasin_lt.process.progress import Progress, untold
from rebasin_lt.settings.options import DiversityOptions
from rebasin_lt.storage.files import finite
from rebasin_lt.storage.paths import expanded
from rebasin_lt.storage.run_folder import run_once

UNNAMED = "ensemble"


def measure_diversity(options: DiversityOptions, out: Path | str, progress: Progress = untold) -> dict[str, Any]:
    """Measure every setting and write `result.json` into `out`; a complete one is kept.

    Everything is checked before the folder is made. Raises InputError for checkpoints of different architectures or
    datasets, for data that is not there, and for a loss of one's own.
    """
    _judge_of(options.loss)
    checkpoints = gather_checkpoints(options.checkpoints)
    subjects = Subjects(options, dict(_numbered(checkpoints)))
    networks: dict[str, list[nn.Module]] = {name: [] for name in checkpoints}
    hashes: dict[str, list[str]] = {name: [] for name in checkpoints}
    names = [name for name, paths in checkpoints.items() for _ in paths]
    for name, loaded, sha256 in zip(names, subjects.networks, subjects.sha256, strict=True):
        networks[name].append(loaded.network)
        hashes[name].append(sha256)
    images = subjects.test()

    def work() -> dict[str, Any]:
        return {
            "data": subjects.data.name,
            "checkpoints": checkpoints,
            **measure(networks, images, progress, options.loss),
        }

    settings = without_default(asdict(options))
    return run_once(out, {**settings, "checkpoints": checkpoints, "sha256": hashes}, work)


@torch.no_grad()
def measure(
    networks: Mapping[str, Sequence[nn.Module]],
    images: Iterable[Any],
    progress: Progress = untold,
    loss: str = CROSS_ENTROPY,
) -> dict[str, Any]:
    """The diversity of each setting's networks, as numbers and lists, in one pass over `images`.

    By a loss of classes it is that of `EnsembleDiversity`, where every image, pixel, token or label that counts is one
    of its images; by `mse` that of `ValueDiversity`. The networks are moved to the images' device. What is not finite
    becomes None. Raises InputError as the metric, and for a loss of one's own.
    """
    judge = _judge_of(loss)
    in_classes = judge.measure.classes is not None
    kind, parts_of = (EnsembleDiversity, judge.classes) if in_classes else (ValueDiversity, judge.rows)
    metrics: dict[str, Any] = {name: kind(len(members)) for name, members in networks.items()}
    calls = calls_of(images, next(member for members in networks.values() for member in members), "images")
    for done, call in enumerate(calls, start=1):
        device = call.tensors[0].device
        place = sum_device(device)
        for name, members in networks.items():
            with full_precision(device):
                parts = [parts_of(member.to(device).eval(), call) for member in members]
            answers, target = torch.stack([answer for answer, _ in parts]), parts[0][1]
            metrics[name].to(place).update(answers.to(place), target.to(place))
        progress("batch", done, len(calls) or done)
    results = {name: _plain(metric.compute(), metric.num_members) for name, metric in metrics.items()}
    count = {result.pop("num_images") for result in results.values()}.pop()
    bins = {"num_bins": next(iter(metrics.values())).num_bins} if in_classes else {}
    return {**judged_in_result(judge.judged), "num_images": count, **bins, "settings": results}


def _judge_of(loss: str) -> ByLoss:
    """The judge by a loss of the table. Raises InputError for one of one's own, which says nothing of two networks."""
    judge = judge_of(loss, "--loss")
    if not isinstance(judge, ByLoss):
        raise InputError(
            f"--loss is {loss}, which does not say how far the answers of two networks are apart: expected one of "
            f"{', '.join(LOSSES)}"
        )
    return judge


def open_test(data: Data, batch_size: int = 500, device: str = "auto") -> Iterable[Any]:
    """All test images; other data makes its own batches. Raises InputError for a device that is not there."""
    size = batch_size if isinstance(data, ImageData) else None
    return data.sweep("test", batch_size=size, device=resolve_device(device))


def gather_checkpoints(values: Sequence[str]) -> dict[str, list[str]]:
    """Checkpoint files by the name of their setting, out of what people write after `--checkpoints`.

    Each value is `NAME=PATH`, or a path alone for the setting "ensemble"; the same name again adds to it. A path is a
    checkpoint, a run's folder, a folder of such folders, a pattern such as `runs/*/permuted`, or several of them with
    commas between. A path that exists is taken as it is, whatever signs are in it.

    Raises InputError for a path that leads to no checkpoint.
    """
    groups: dict[str, list[str]] = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not equals or not name or "/" in name or Path(value).exists():
            name, path = UNNAMED, value
        if not path:
            raise InputError(f"--checkpoints {value} names no file or folder behind its {name}=: expected NAME=PATH")
        groups.setdefault(name, []).extend(_files(path))
    if not groups:
        raise InputError("--checkpoints names no checkpoint: give at least one, or NAME=PATH for each setting")
    return groups


def _files(path: str) -> Iterator[str]:
    """The checkpoints that a path leads to."""
    path = expanded(path, "--checkpoints")
    if Path(path).is_file():
        yield path
    elif Path(path).is_dir():
        yield from _files_in(Path(path))
    elif matches := sorted(glob(path)):
        for match in matches:
            yield from _files(match)
    elif "," in path:
        for part in path.split(","):
            yield from _files(part)
    else:
        raise InputError(f"checkpoint {path} does not exist")


def _files_in(folder: Path) -> list[str]:
    """The trained network of a run, or of each run that lies in the folder."""
    runs = [folder] if trained_file(folder) else sorted(path for path in folder.iterdir() if path.is_dir())
    files = [str(file) for file in map(trained_file, runs) if file]
    if not files:
        raise InputError(f"--checkpoints {folder}: neither it nor a folder in it holds final.ckpt or last.ckpt")
    return files


def _numbered(checkpoints: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Every checkpoint by what names it in errors: its setting, and its place there."""
    for name, paths in checkpoints.items():
        yield from ((f"--checkpoints {name} {index}", path) for index, path in enumerate(paths, start=1))


def _plain(results: Mapping[str, Tensor], num_members: int) -> dict[str, Any]:
    """Python numbers and nested lists in the metric's shapes, which torchmetrics makes scalars of for one member."""
    plain: dict[str, Any] = {}
    for name, value in results.items():
        dims = 1 if name.startswith("member_") else 2 if name.endswith("_matrix") else 0
        plain[name] = finite(value.reshape([num_members] * dims).tolist())
    return plain
