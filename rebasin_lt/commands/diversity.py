"""`rebasin-lt diversity`: how diverse the networks of several settings are, and how good their ensembles."""

from __future__ import annotations

from rebasin_lt.process.terminal_text import say


def diversity(
    ckpts: list[str],
    out: str,
    data: str | None = None,
    root: str | None = None,
    model: str | None = None,
    width: float = 1,
    num_classes: int = 10,
    batch_size: int = 500,
    device: str = "auto",
) -> None:
    """Measure disagreement, KL, JS, calibration and ensemble accuracy of settings side by side, on the test images.

    Args:
        ckpts: NAME=PATH for each setting; a path is a checkpoint, a run's folder, a folder of runs, a pattern such as
            runs/*/permuted, or several with commas between; the same name again adds to it
        out: folder for the results
        data: dataset, where the checkpoints do not say it: digits, cifar10, …; and one
            of your own, package.module:Class
        root: folder of the dataset, where it is not that of the training
        model: architecture, where the checkpoints do not say it
        width: of that architecture
        num_classes: of that architecture
        batch_size: images at a time
        device: auto, cpu, cuda or cuda:N
    """
    from rebasin_lt.analyses.diversity import Comparison, compare, gather_checkpoints
    from rebasin_lt.process.progress_line import ProgressLine
    from rebasin_lt.report.analyses.diversity import diversity_table, write_diversity

    comparison = Comparison(
        checkpoints=gather_checkpoints(ckpts),
        data=data,
        root=root,
        model=model,
        width=width,
        num_classes=num_classes,
        batch_size=batch_size,
        device=device,
    )
    with ProgressLine("diversity") as progress:
        result = compare(comparison, out, progress)
    say(diversity_table(result).to_text())
    for path in write_diversity(result, out):
        say(path)
