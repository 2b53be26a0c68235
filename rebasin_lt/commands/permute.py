"""`rebasin-lt permute`: align network A to network B, and A's masks with it."""

from __future__ import annotations


def permute(
    ckpt_a: str,
    ckpt_b: str,
    out: str,
    mask: list[str] | None = None,
    data: str | None = None,
    root: str | None = None,
    model: str | None = None,
    width: float = 1,
    num_classes: int = 10,
    n_images: int | None = None,
    batch_size: int = 500,
    alphas: int = 11,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Match A to B by activations; write the permutation, π(A), π(masks) and the loss barrier before and after.

    Args:
        ckpt_a: checkpoint of the trained network A, which is permuted
        ckpt_b: checkpoint of the trained network B, which stays
        out: folder for the results
        mask: one or more mask files of A, to permute as A's weights
        data: dataset to match on, where the checkpoints do not say it: digits, cifar10, …
        root: folder of the dataset, where it is not that of the training
        model: architecture, where the checkpoints do not say it
        width: of that architecture
        num_classes: of that architecture
        n_images: random training images to match on; all of them if not given
        batch_size: images at a time
        alphas: points on the line from A to B at which the loss is measured; 0 skips the barrier
        seed: of the choice of images
        device: auto, cpu, cuda or cuda:N
    """
    from pathlib import Path

    from rebasin_lt.progress_line import ProgressLine
    from rebasin_lt.report.alignment import barrier_figures, barrier_table, groups_table
    from rebasin_lt.report.figures import save_figure
    from rebasin_lt.study.alignment import Alignment, align

    settings = Alignment(
        ckpt_a=ckpt_a,
        ckpt_b=ckpt_b,
        masks=tuple(mask or ()),
        data=data,
        root=root,
        model=model,
        width=width,
        num_classes=num_classes,
        num_images=n_images,
        batch_size=batch_size,
        num_alphas=alphas,
        seed=seed,
        device=device,
    )
    with ProgressLine("permute") as progress:
        result = align(settings, out, progress)
    print(groups_table(result).to_text())
    for name, sparsity in result["masks"].items():
        print(f"{Path(out) / name}  (sparsity {sparsity:.4f})")
    if "barrier" in result:
        print(barrier_table(result["barrier"]).to_text(), end="")
        for name, figure in barrier_figures([result]).items():
            save_figure(figure, Path(out) / f"{name}.svg")
