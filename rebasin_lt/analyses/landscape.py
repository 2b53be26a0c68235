"""The test loss on the plane through A, π(A) and B, or over the weights of a network that has two."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from rebasin_lt.analyses.two_weights import two_weights
from rebasin_lt.connectivity.batchnorm import batchnorm_layers
from rebasin_lt.connectivity.landscape import Plane, plane_losses
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.subjects import Subjects
from rebasin_lt.feeding.calls import Fed
from rebasin_lt.judging.judge import Judge, judge_of
from rebasin_lt.judging.losses import CROSS_ENTROPY, judged_in_result, without_default
from rebasin_lt.process.progress import Progress, untold
from rebasin_lt.settings.options import LandscapeOptions
from rebasin_lt.storage.files import hash_tensors
from rebasin_lt.storage.run_folder import read_sealed, run_once, write_sealed
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import trace_symmetry

ROWS = "rows.json"
"""The rows of the grid that are done, in a folder that is not complete."""


def measure_landscape(options: LandscapeOptions, out: Path | str, progress: Progress = untold) -> dict[str, Any]:
    """What `measure_plane` finds, or `two_weights` where the options ask for that. Raises InputError for both."""
    files = {"--ckpt-a": options.ckpt_a, "--ckpt-b": options.ckpt_b, "--permutation": options.permutation}
    if not options.two_weights:
        if None in files.values():
            raise InputError("expected --ckpt-a, --ckpt-b and --permutation, or --two-weights alone")
        return measure_plane(options, out, progress)
    others = {"--loss": None if options.loss == CROSS_ENTROPY else options.loss, "--augment": options.augment or None}
    for name, value in {**files, **others}.items():
        if value is not None:
            raise InputError(f"--two-weights trains its own networks, but {name} is {value}: give one or the other")
    return run_once(out, {"two_weights": True}, two_weights)


def measure_plane(options: LandscapeOptions, out: Path | str, progress: Progress = untold) -> dict[str, Any]:
    """Test loss and error on a grid over the plane, raw and, of networks with batch norm, with its statistics reset.

    Every row of the grid is kept as soon as it is done, and the same call goes on from there. Everything is checked
    before the folder is made. Raises InputError for checkpoints of different networks, a permutation that does not fit
    or that leaves A where it is, or data that is not there.
    """
    out, judge = Path(out), judge_of(options.loss, "--loss")
    subjects = Subjects(options, {"--ckpt-a": str(options.ckpt_a), "--ckpt-b": str(options.ckpt_b)})
    permutation = Permutation.load(str(options.permutation))
    train, test = subjects.train(options.augment), subjects.test()
    network_a, network_b = subjects.on_device()
    example = subjects.example(train)
    symmetry = trace_symmetry(network_a, example.args, example.kwargs)
    try:
        plane = Plane(network_b, symmetry.permute(network_a.state_dict(), permutation), network_b, network_a)
    except InputError as error:
        given = f"--ckpt-a {options.ckpt_a}, permuted by {options.permutation}, and --ckpt-b {options.ckpt_b}"
        raise InputError(f"{given}: {error}") from error
    columns, rows = plane.grid(options.num_points, options.margin)
    sha256_a, sha256_b = subjects.sha256
    contents = {"sha256_a": sha256_a, "sha256_b": sha256_b, "sha256_permutation": hash_tensors(permutation)}

    def work() -> dict[str, Any]:
        done = _measure(out, network_b, plane, (columns, rows), (train, test), judge, progress)
        names = dict(zip(("permuted", "b", "a"), plane.corners, strict=True))
        about = {**judged_in_result(judge.judged), **({"augment": True} if options.augment else {})}
        about |= {"x": columns, "y": rows, "corners": names}
        return {**about, "num_images": done.pop("num_images"), **done}

    settings = {
        name: value for name, value in without_default(asdict(options), augment=False).items() if name != "two_weights"
    }
    result = run_once(out, {**settings, **contents}, work)
    (out / ROWS).unlink(missing_ok=True)
    return result


def _measure(
    out: Path,
    network: nn.Module,
    plane: Plane,
    grid: tuple[list[float], list[float]],
    images: tuple[Fed, Fed],
    judge: Judge,
    progress: Progress,
) -> dict[str, Any]:
    """Row by row, from below, on the test images, reset on the others.

    {"num_images", "loss" and "error": {correction: rows}}; errors are None for a loss that has none
    """
    path, corrections = out / ROWS, ["none", *["bn_reset"] * bool(batchnorm_layers(network))]
    blank: dict[str, dict[str, list[Any]]] = {
        quantity: {name: [] for name in corrections} for quantity in ("loss", "error")
    }
    done: dict[str, Any] = read_sealed(path) if path.exists() else {"num_images": 0, **blank}
    (columns, rows), (train, test) = grid, images
    for correction in corrections:
        finished_rows = done["loss"][correction]
        while len(finished_rows) < len(rows):
            found = plane_losses(
                network, plane, [(column, rows[len(finished_rows)]) for column in columns], test,
                reset_batches=train if correction == "bn_reset" else None, loss=judge,
            )  # fmt: skip
            finished_rows.append([point.loss for point in found])
            done["error"][correction].append([point.error for point in found])
            done["num_images"] = found[0].num_images
            write_sealed(path, done)
            progress(f"rows, {correction}", len(finished_rows), len(rows))
    return done
