"""`rebasin-lt control`: a mask to compare with."""

from __future__ import annotations

from rebasin_lt.process.terminal_text import say


def control(
    kind: str,
    out: str,
    mask: str | None = None,
    sparsity: float | None = None,
    ckpt: str | None = None,
    share: float | None = None,
    n_images: int | None = None,
    batch_size: int | None = None,
    data: str | None = None,
    root: str | None = None,
    model: str | None = None,
    width: float | None = None,
    num_classes: int | None = None,
    seed: int | None = None,
    device: str | None = None,
) -> None:
    """Make a control mask: shuffled, random, by magnitude, SNIP, GraSP, SynFlow; usable wherever a mask file is.

    An option that the kind does not use is refused.

    Args:
        kind: random_permutation, shuffled, degree_preserving, uniform, erk, magnitude, mix, snip, grasp or synflow
        out: file for the mask, such as control.mask.safetensors; one of other settings is refused, an equal one kept
        mask: mask file to imitate; sparsity, names and shapes come from it
        sparsity: of all prunable weights of --ckpt together, where there is no mask to imitate
        ckpt: checkpoint of the network whose weights, symmetry or prunable weights are used
        share: of the way from --mask to the magnitudes of --ckpt, for mix; 0.5 if not given
        n_images: random training images for snip and grasp; all of them if not given
        batch_size: images at a time; 500 if not given
        data: dataset, where the checkpoint does not say it: digits, cifar10, …; and one
            of your own, package.module:Class
        root: folder of the dataset, where it is not that of the training
        model: architecture, where the checkpoint does not say it
        width: of that architecture
        num_classes: of that architecture
        seed: of what is random; 0 if not given
        device: auto, cpu, cuda or cuda:N
    """
    from rebasin_lt.analyses.control import write_control
    from rebasin_lt.experiment.controls import Control
    from rebasin_lt.process.progress_line import ProgressLine
    from rebasin_lt.report.analyses.control import control_table

    settings = Control(
        kind=kind,
        mask=mask,
        sparsity=sparsity,
        ckpt=ckpt,
        model=model,
        width=width,
        num_classes=num_classes,
        data=data,
        root=root,
        n_images=n_images,
        batch_size=batch_size,
        share=share,
        seed=seed,
        device=device,
    )
    with ProgressLine("control") as progress:
        made, imitated = write_control(settings, out, progress)
    say(control_table(made, imitated).to_text(), end="")
    say(f"{out}  ({kind}, sparsity {made.sparsity:.4f})")
