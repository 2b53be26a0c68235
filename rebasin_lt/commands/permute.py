"""`rebasin-lt permute`: align network A to network B, and A's masks with it."""

from __future__ import annotations

from typing import Literal

from rebasin_lt.process.terminal_text import say


def permute(
    ckpt_a: str,
    ckpt_b: str,
    out: str,
    mask: list[str] | None = None,
    method: Literal["activations", "coordinate_descent", "frank_wolfe"] = "activations",
    objective: Literal["correlation", "covariance", "raw"] = "correlation",
    stream: Literal["sum", "last"] = "sum",
    weight_mix: float = 0.0,
    mask_weight_mix: float = 0.5,
    preset: Literal["paper"] | None = None,
    data: str | None = None,
    root: str | None = None,
    model: str | None = None,
    width: float = 1,
    num_classes: int = 10,
    n_images: int | None = None,
    augment: bool = False,
    batch_size: int = 500,
    alphas: int = 11,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Match A to B by activations or weights; write the permutation, π(A), π(masks), overlaps and loss barriers.

    The weight methods need no images; with --alphas 0 nothing does. An option that has no effect is refused.

    Args:
        ckpt_a: checkpoint of the trained network A, which is permuted
        ckpt_b: checkpoint of the trained network B, which stays
        out: folder for the results
        mask: one or more mask files of A; each moves by a permutation of its own
        method: match by activations, or by weights: coordinate_descent (Git Re-Basin) or frank_wolfe (C2M3)
        objective: of activations; the similarity of two units to maximise
        stream: of activations; whether a residual stream is compared at all its points or at the last
        weight_mix: of activations; share of the similarity of weights, from 0 to 1
        mask_weight_mix: the same for each mask's own permutation, which looks at the weights that it keeps; 0 moves
            masks as the network, as in the paper
        preset: of activations; paper repeats the published ResNet20 matching, flaws included, for comparison
        data: dataset to match on, where the checkpoints do not say it: digits, cifar10, …; and one
            of your own, package.module:Class
        root: folder of the dataset, where it is not that of the training
        model: architecture, where the checkpoints do not say it
        width: of that architecture
        num_classes: of that architecture
        n_images: random training images to match and to re-estimate statistics on; all of them if not given
        augment: augment the images to match on as in training, by the seed
        batch_size: images at a time
        alphas: points on the line from A to B at which the loss is measured; 0 skips the barrier
        seed: of the choice of images, of augmentation, and of the order in which groups are visited
        device: auto, cpu, cuda or cuda:N
    """
    from pathlib import Path

    from rebasin_lt.analyses.permute import Alignment, align
    from rebasin_lt.experiment.matcher import Matcher
    from rebasin_lt.process.progress_line import ProgressLine
    from rebasin_lt.report.analyses.permute import barrier_figures, barrier_table, groups_table, masks_table
    from rebasin_lt.report.kit.figures import save_figure

    settings = Alignment(
        ckpt_a=ckpt_a,
        ckpt_b=ckpt_b,
        masks=tuple(mask or ()),
        matcher=Matcher(method, objective, stream, weight_mix, mask_weight_mix, preset, augment, seed),
        data=data,
        root=root,
        model=model,
        width=width,
        num_classes=num_classes,
        num_images=n_images,
        batch_size=batch_size,
        num_alphas=alphas,
        device=device,
    )
    with ProgressLine("permute") as progress:
        result = align(settings, out, progress)
    say(groups_table(result).to_text())
    if result["masks"]:
        say(masks_table(result["masks"]).to_text())
    if "barrier" in result:
        say(barrier_table(result["barrier"]).to_text(), end="")
        for name, figure in barrier_figures([result]).items():
            for suffix in ("svg", "png"):
                save_figure(figure, Path(out) / f"{name}.{suffix}")
