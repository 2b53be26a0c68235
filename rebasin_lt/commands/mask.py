"""`rebasin-lt mask`: what a mask keeps, where, and what that leaves of the network."""

from __future__ import annotations

from rebasin_lt.process.terminal_text import say


def mask(
    mask: str,
    out: str,
    other: list[str] | None = None,
    ckpt: str | None = None,
    model: str | None = None,
    width: float = 1,
    num_classes: int = 10,
) -> None:
    """Analyse a mask: sparsity by layer, degrees of units, overlap with other masks, dead units.

    Args:
        mask: mask file to analyse
        out: folder for result.json, the tables (CSV) and the figures (SVG and PNG)
        other: mask files to compare with; overlap is shown against its expectation for independent masks
        ckpt: checkpoint of the network; with it, dead units are followed through the network
        model: architecture, where the checkpoint does not say it
        width: of that architecture
        num_classes: of that architecture
    """
    from pathlib import Path

    from rebasin_lt.analyses.mask import MaskAnalysis, analyse_mask
    from rebasin_lt.process.progress_line import ProgressLine
    from rebasin_lt.report.analyses import mask as report
    from rebasin_lt.report.kit.figures import save_figure
    from rebasin_lt.storage.files import write_text

    settings = MaskAnalysis(mask, tuple(other or ()), ckpt, model, width, num_classes)
    with ProgressLine("mask") as progress:
        result = analyse_mask(settings, out, progress)
    tables = {"layers": report.layers_table(result), "degrees": report.degrees_table(result)}
    shown = [tables["layers"]]
    if result["overlap"]:
        tables["overlap"] = report.overlap_layers_table(result)
        shown.append(report.overlap_table(result))
    if "dead_units" in result:
        tables["dead-units"] = report.dead_units_table(result)
        shown.append(tables["dead-units"])
    for name, table in tables.items():
        write_text(Path(out) / f"{name}.csv", table.to_csv())
    for name, figure in report.mask_figures(result).items():
        for suffix in ("svg", "png"):
            save_figure(figure, Path(out) / f"{name}.{suffix}")
    say("\n".join(table.to_text() for table in shown), end="")
