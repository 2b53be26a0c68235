"""`rebasin-lt barrier`: the loss along the line between two networks."""

from __future__ import annotations

from rebasin_lt.process.terminal_text import say


def barrier(
    ckpt_a: str,
    ckpt_b: str,
    out: str,
    permutation: str | None = None,
    mask: list[str] | None = None,
    alphas: int = 25,
    corrections: str | None = None,
    split: str = "train,test",
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
    """Measure loss and error along the line from A to B, and from π(A) to B; write table, curves and figure.

    Args:
        ckpt_a: checkpoint of the network at the line's beginning
        ckpt_b: checkpoint of the network at its end
        out: folder for the results
        permutation: file of a permutation of A, to measure the line from the permuted A too
        mask: one mask in B's order of units for the whole line, or A's own and B's own; the checkpoints' if not given
        alphas: points on the line
        corrections: of none,bn_reset,repair,closed_form,rescale those to measure; all that apply if not given
        split: of train,test the images to measure on
        data: dataset, where the checkpoints do not say it: digits, cifar10, …; and one
            of your own, package.module:Class
        root: folder of the dataset, where it is not that of the training
        model: architecture, where the checkpoints do not say it
        width: of that architecture
        num_classes: of that architecture
        n_images: random training images to correct statistics with and to measure on; all of them if not given
        n_test_images: random test images to measure on; all of them if not given
        batch_size: images at a time
        seed: of the choice of images
        device: auto, cpu, cuda or cuda:N
    """
    from pathlib import Path

    from rebasin_lt.analyses.barrier import Barrier, measure_barriers
    from rebasin_lt.process.progress_line import ProgressLine
    from rebasin_lt.report.analyses.barrier import barriers_csv, barriers_figure, barriers_table
    from rebasin_lt.report.kit.figures import save_figure
    from rebasin_lt.storage.files import write_text

    settings = Barrier(
        ckpt_a=ckpt_a,
        ckpt_b=ckpt_b,
        permutation=permutation,
        masks=tuple(mask or ()),
        num_alphas=alphas,
        corrections=None if corrections is None else tuple(corrections.split(",")),
        splits=tuple(split.split(",")),
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
    with ProgressLine("barrier") as progress:
        result = measure_barriers(settings, out, progress)
    say(barriers_table(result).to_text(), end="")
    write_text(Path(out) / "curves.csv", barriers_csv(result))
    figure = barriers_figure(result)
    for suffix in ("svg", "png"):
        save_figure(figure, Path(out) / f"barrier.{suffix}")
