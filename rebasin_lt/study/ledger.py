"""What a study costs: epochs, images and hours, of all of it and of what is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rebasin_lt.errors import InputError
from rebasin_lt.study.grid import Study
from rebasin_lt.study.quick_checks import known_images
from rebasin_lt.study.stage import Stage

if TYPE_CHECKING:
    from rebasin_lt.lit.data.base import ImageData

_PROBE_SECONDS = 2.0
_FULL_STEP = 0.1  # seconds: a step of that length takes per image what one of more images does


def ledger(
    stages: Mapping[str, Stage],
    done: Collection[str],
    images_per_epoch: int | None,
    seconds_per_image: Mapping[float, float] | None = None,
) -> list[dict[str, Any]]:
    """A row per stage: kind, path, whether it is done, epochs, training images (each as often as it is seen; None where
    their number is not known), and hours of training on one worker where `seconds_per_image` by width are given."""
    rows = []
    for path, stage in stages.items():
        images = None if images_per_epoch is None else stage.epochs * images_per_epoch
        row = {"kind": stage.kind, "path": path, "epochs": stage.epochs, "images": images, "done": path in done}
        if seconds_per_image is not None and images is not None:
            row["hours"] = images * seconds_per_image[stage.width] / 3600
        rows.append(row)
    return rows


def images_per_epoch(study: Study) -> int | None:
    """Training images that an epoch takes, whole batches only; None where neither the data nor their number is known.

    That of a published dataset is known. Of another, the files are looked at if they are here; `train_size` tells too.
    """
    known = known_images(study.recipe)
    if known is not None:
        return known - known % _batch_size(study)
    from rebasin_lt.experiment.dataset import build_dataset
    from rebasin_lt.lit.data.other import OtherData

    data = build_dataset(study.recipe)
    if isinstance(data, OtherData):
        return None
    try:
        count = data.num_training_images()
    except (InputError, OSError):
        left = None if data.published_size is None else data.published_size - data.val_size
        counts = [each for each in (left, data.train_size) if each is not None]  # fewer than `train_size` are refused
        if not counts:
            return None
        count = min(counts)
    return count - count % data.batch_size


def steps_of_epoch(study: Study, images: int | None) -> int | None:
    """The steps of one process in an epoch of so many `images`; None where their number is not known."""
    return None if images is None else images // _batch_size(study)


def _batch_size(study: Study) -> int:
    return int(study.recipe.data.get("batch_size", 128))


def seconds_of(study: Study, images_per_second: Sequence[float]) -> dict[float, float] | None:
    """Seconds per training image at each width, of a machine that takes so many: one for each width, or one for all.

    None where none is given. Raises InputError for another count, and for what is not positive.
    """
    widths, given = list(study.widths), list(images_per_second)
    if not given:
        return None
    if len(given) not in {1, len(widths)} or not all(one > 0 for one in given):
        raise InputError(
            f"--images-per-second is {given}, expected one positive number, or one for each of the widths {widths}"
        )
    return dict(zip(widths, [1 / one for one in (given if len(given) > 1 else given * len(widths))], strict=True))


def probe(study: Study) -> dict[float, float]:
    """Seconds per training image at each width, measured on this machine's first device for a few seconds each.

    Random images, forward, backward and a step of SGD, with as many images as a batch has, or fewer where these take
    long enough. What a worker beside others on the same cores takes is more. Of data of other kinds, nothing.
    """
    from rebasin_lt.experiment.dataset import build_dataset
    from rebasin_lt.lit.data.base import ImageData

    data = build_dataset(study.recipe)
    return {width: _seconds_per_image(study, width, data) for width in study.widths if isinstance(data, ImageData)}


def _seconds_per_image(study: Study, width: float, data: ImageData) -> float:
    import torch
    from torch.nn.functional import cross_entropy

    from rebasin_lt.batches import network_of
    from rebasin_lt.experiment.modules import build_module
    from rebasin_lt.experiment.subjects import resolve_device
    from rebasin_lt.models.registry import default_input_shape

    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # as a worker, which has the other cores' workers beside it
    # The processor's own time: what other programs take of it meanwhile is no cost of the study.
    now = time.perf_counter if torch.cuda.is_available() else time.process_time
    network = {**study.recipe.network, "width": width}
    device = resolve_device("auto")
    net = network_of(build_module(study.recipe_of(width), study.recipe.dense)).to(device)
    usual = data.input_shape if study.recipe.module else default_input_shape(str(network.get("arch", "mlp")))
    shape = network.get("input_shape") or usual
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-6)
    half = str(study.recipe.trainer.get("precision", "")).startswith("bf16")

    def step(size: int) -> float:
        images, labels = torch.randn(size, *shape, device=device), torch.zeros(size, dtype=torch.long, device=device)
        began = now()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = cross_entropy(net(images), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return now() - began

    return _per_image(step, data.batch_size)


def _per_image(step: Callable[[int], float], batch: int) -> float:
    """Seconds per image of `step`, which takes a number of images and returns the seconds it took."""
    size = min(2, batch)  # batch norm needs two
    step(size)  # what the first one costs more
    while size < batch and step(size) < _FULL_STEP:
        size = min(2 * size, batch)
    seconds = [step(size)]
    while sum(seconds) < _PROBE_SECONDS:
        seconds.append(step(size))
    return sum(seconds) / (len(seconds) * size)
