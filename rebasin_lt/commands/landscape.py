"""`rebasin-lt landscape`: the loss on the plane through A, π(A) and B, or over the weights of a network with two."""

from __future__ import annotations

from rebasin_lt.process.terminal_text import say


def landscape(
    out: str,
    two_weights: bool = False,
    ckpt_a: str | None = None,
    ckpt_b: str | None = None,
    permutation: str | None = None,
    points: int = 25,
    margin: float = 0.2,
    data: str | None = None,
    root: str | None = None,
    model: str | None = None,
    width: float = 1,
    num_classes: int = 10,
    n_images: int | None = None,
    n_test_images: int | None = None,
    batch_size: int = 500,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Draw the loss on the plane through A, π(A) and B, or of a network with two weights (--two-weights).

    Args:
        out: folder for the results
        two_weights: train and draw the network with two weights, and nothing else
        ckpt_a: checkpoint of A
        ckpt_b: checkpoint of B
        permutation: file of the permutation π
        points: grid points along each side of the plane
        margin: room around the three networks, in lengths of the longer side
        data: dataset, where the checkpoints do not say it: digits, cifar10, …; and one
            of your own, package.module:Class
        root: folder of the dataset, where it is not that of the training
        model: architecture, where the checkpoints do not say it
        width: of that architecture
        num_classes: of that architecture
        n_images: random training images to reset batch norm on; all of them if not given
        n_test_images: random test images to measure on; all of them if not given
        batch_size: images at a time
        seed: of the choice of images
        device: auto, cpu, cuda or cuda:N
    """
    if two_weights:
        _check_alone(ckpt_a, ckpt_b, permutation)
        _draw_two_weights(out)
        return
    from rebasin_lt.errors import InputError

    if ckpt_a is None or ckpt_b is None or permutation is None:
        raise InputError("expected --ckpt-a, --ckpt-b and --permutation, or --two-weights alone")

    from rebasin_lt.analyses.landscape import Landscape, measure_plane
    from rebasin_lt.process.progress_line import ProgressLine
    from rebasin_lt.report.analyses.landscape import plane_table, planes_figure

    settings = Landscape(
        ckpt_a=ckpt_a,
        ckpt_b=ckpt_b,
        permutation=permutation,
        points=points,
        margin=margin,
        data=data,
        root=root,
        model=model,
        width=width,
        num_classes=num_classes,
        num_images=n_images,
        num_test_images=n_test_images,
        batch_size=batch_size,
        seed=seed,
        device=device,
    )
    with ProgressLine("landscape") as progress:
        result = measure_plane(settings, out, progress)
    say(plane_table(result).to_text(), end="")
    _save(planes_figure(result), out)


def _check_alone(*options: str | None) -> None:
    from rebasin_lt.errors import InputError

    for name, value in zip(("ckpt-a", "ckpt-b", "permutation"), options, strict=True):
        if value is not None:
            raise InputError(f"--two-weights trains its own networks, but --{name} is {value}: give one or the other")


def _draw_two_weights(out: str) -> None:
    from rebasin_lt.analyses.two_weights import two_weights
    from rebasin_lt.report.analyses.landscape import two_weights_figure, two_weights_table
    from rebasin_lt.storage.run_folder import run_once

    result = run_once(out, {"two_weights": True}, two_weights)
    say(two_weights_table(result).to_text(), end="")
    _save(two_weights_figure(result), out)


def _save(figure: object, out: str) -> None:
    from pathlib import Path

    from matplotlib.figure import Figure

    from rebasin_lt.report.kit.figures import save_figure

    assert isinstance(figure, Figure)
    for suffix in ("svg", "png"):
        save_figure(figure, Path(out) / f"landscape.{suffix}")
