"""The test loss on the plane through A, π(A) and B."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from rebasin_lt.connectivity.batchnorm import batchnorm_layers
from rebasin_lt.connectivity.landscape import Plane, plane_losses
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.subjects import Images, load_networks, open_data, open_images
from rebasin_lt.storage.files import hash_tensors
from rebasin_lt.storage.run_folder import read_sealed, run_once, write_sealed
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import trace_symmetry

Progress = Callable[[str, int, int], None]
ROWS = "rows.json"
"""The rows of the grid that are done, in a folder that is not complete."""


@dataclass(frozen=True)
class Landscape:
    """Which plane, and how much of it; see the options of `rebasin-lt landscape`."""

    ckpt_a: str
    ckpt_b: str
    permutation: str
    points: int = 25
    margin: float = 0.2
    data: str | None = None
    root: str | None = None
    model: str | None = None
    width: float = 1
    num_classes: int = 10
    num_images: int | None = None
    num_test_images: int | None = None
    batch_size: int = 500
    seed: int = 0
    device: str = "auto"


def measure_plane(settings: Landscape, out: Path | str, progress: Progress | None = None) -> dict[str, Any]:
    """Test loss and error on a grid over the plane, raw and, of networks with batch norm, with its statistics reset.

    Every row of the grid is kept as soon as it is done, and the same call goes on from there. Everything is checked
    before the folder is made. Raises InputError for checkpoints of different networks, a permutation that does not fit
    or that leaves A where it is, or data that is not there.
    """
    out = Path(out)
    source, reference = load_networks(
        {"--ckpt-a": settings.ckpt_a, "--ckpt-b": settings.ckpt_b}, settings.model, settings.width, settings.num_classes
    )
    permutation = Permutation.load(settings.permutation)
    images = open_images(
        open_data(source, f"--ckpt-a {settings.ckpt_a}", settings.data, settings.root),
        num_images=settings.num_images,
        num_test_images=settings.num_test_images,
        batch_size=settings.batch_size,
        seed=settings.seed,
        device=settings.device,
    )
    network_a, network_b = source.network.to(images.device), reference.network.to(images.device)
    symmetry = trace_symmetry(network_a, next(iter(images.train))[0][:2])
    try:
        plane = Plane(network_b, symmetry.permute(network_a.state_dict(), permutation), network_b, network_a)
    except InputError as error:
        given = f"--ckpt-a {settings.ckpt_a}, permuted by {settings.permutation}, and --ckpt-b {settings.ckpt_b}"
        raise InputError(f"{given}: {error}") from error
    columns, rows = plane.grid(settings.points, settings.margin)
    contents = {
        "sha256_a": hash_tensors(network_a.state_dict()),
        "sha256_b": hash_tensors(network_b.state_dict()),
        "sha256_permutation": hash_tensors(permutation),
    }

    def work() -> dict[str, Any]:
        done = _measure(out, network_b, plane, (columns, rows), images, progress or (lambda *_: None))
        names = dict(zip(("permuted", "b", "a"), plane.corners, strict=True))
        return {"x": columns, "y": rows, "corners": names, "num_images": done.pop("num_images"), **done}

    result = run_once(out, {**asdict(settings), **contents}, work)
    (out / ROWS).unlink(missing_ok=True)
    return result


def _measure(
    out: Path,
    network: nn.Module,
    plane: Plane,
    grid: tuple[list[float], list[float]],
    images: Images,
    progress: Progress,
) -> dict[str, Any]:
    """Row by row, from below: {"num_images", "loss" and "error": {correction: rows}}."""
    path, corrections = out / ROWS, ["none", *["bn_reset"] * bool(batchnorm_layers(network))]
    blank: dict[str, dict[str, list[Any]]] = {
        quantity: {name: [] for name in corrections} for quantity in ("loss", "error")
    }
    done: dict[str, Any] = read_sealed(path) if path.exists() else {"num_images": 0, **blank}
    columns, rows = grid
    for correction in corrections:
        finished_rows = done["loss"][correction]
        while len(finished_rows) < len(rows):
            found = plane_losses(
                network, plane, [(column, rows[len(finished_rows)]) for column in columns], images.test,
                reset_batches=images.train if correction == "bn_reset" else None,
            )  # fmt: skip
            finished_rows.append([point.loss for point in found])
            done["error"][correction].append([point.error for point in found])
            done["num_images"] = found[0].num_images
            write_sealed(path, done)
            progress(f"rows, {correction}", len(finished_rows), len(rows))
    return done
