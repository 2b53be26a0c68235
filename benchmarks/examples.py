"""The line between two trained networks of every example, before matching and after: benchmarks/results/examples.json.

    PYTHONPATH=. python -m benchmarks.examples [--only text,tabular] [--pairs 1] [--out DIR]

A and B are trained as `fit` does with the example's YAML, from seeds of their own. A is matched to B by activations on
its training batches, and the loss of the line is measured on the test batches. Examples whose libraries are missing are
left out, with a line. Results go beside those that are there; docs/images/examples.svg shows all of them.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning import LightningDataModule, LightningModule, Trainer, seed_everything
from torch import nn

import rebasin_lt as rb
from benchmarks._page import between
from benchmarks._pairs import Record, measure_pairs, measured_line
from rebasin_lt.feeding.calls import calls_of
from rebasin_lt.report.kit.figures import plain_axes, save_figures, styled_figure
from rebasin_lt.report.kit.methods import COLOURS
from rebasin_lt.report.kit.tables import Column, Table
from rebasin_lt.settings.user_code import import_named
from rebasin_lt.storage.files import write_text

EXAMPLES = Path(__file__).parents[1] / "examples"
LOSSES = {
    "tabular": "mse",
    "text": "cross_entropy",
    "segmentation": "pixel_cross_entropy",
    "timm_images": "cross_entropy",
    "encoder": "cross_entropy",
    "decoder": "token_cross_entropy",
}
"""What each example is judged by, in the order of the table."""
_ALPHAS, _BATCHES = 11, 20


def made(named: Mapping[str, Any]) -> Any:
    """An object of the class that a YAML names."""
    module, _, name = named["class_path"].rpartition(".")
    kind: Any = import_named("class_path", f"{module}:{name}")
    return kind(**named.get("init_args", {}))


def trained(settings: Mapping[str, Any], seed: int) -> LightningModule:
    """A network after the example's epochs, in evaluation mode."""
    seed_everything(seed, verbose=False)
    module, data = made(settings["model"]), made(settings["data"])
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(max_epochs=settings["trainer"]["max_epochs"], accelerator="cpu", num_sanity_val_steps=0, **quiet)
    trainer.fit(module, datamodule=data)
    return module.eval()


def measured(name: str, pair: int) -> Record:
    """Barriers of a pair by correction, raw and after matching, with their lines."""
    settings = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8"))
    start = time.perf_counter()
    a, b = trained(settings, 10 * pair), trained(settings, 10 * pair + 1)
    data: LightningDataModule = made(settings["data"])
    torch.manual_seed(0)
    train = list(itertools.islice(data.train_dataloader(), _BATCHES))
    test = list(data.test_dataloader())
    call = next(iter(calls_of(train, a)))
    symmetry = rb.trace_symmetry(a, call.args, call.kwargs)
    match = rb.match_activations(a, b, train, symmetry)
    permuted = symmetry.permute(a.state_dict(), match.permutation)
    lines = {}
    for correction in _corrections(a):
        given: dict[str, Any] = {"alphas": _ALPHAS, "loss": LOSSES[name], "correction": correction}
        if correction != "none":
            given["correction_batches"] = train
        ends = {"before": a.state_dict(), "after": permuted}
        lines[correction] = {key: measured_line(a, end, b, test, **given) for key, end in ends.items()}
    groups: dict[str, float] = {"groups": len(symmetry.groups), "units": sum(symmetry.groups.values())}
    groups["correlation"] = statistics.mean(match.objective.values())
    return {"pair": pair, "lines": lines, **groups, "seconds": round(time.perf_counter() - start)}


def _corrections(network: nn.Module) -> list[str]:
    normed = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    return ["none", "bn_reset"] if normed else ["none"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the subjects that are asked for, one after the other, and write what is known of all."""
    measure_pairs(__doc__, "examples", LOSSES, measured, publish, arguments)


def publish(results: Mapping[str, Sequence[Record]], docs: Path) -> None:
    """The table of docs/examples.md, and its figure."""
    shown = {name: results[name] for name in LOSSES if name in results}
    page = docs / "examples.md"
    write_text(page, between(page.read_text(encoding="utf-8"), "barriers", table(shown).to_markdown().rstrip()))
    draw(shown, docs / "images")


def table(results: Mapping[str, Sequence[Record]]) -> Table:
    """A row for each example and correction: mean barriers over the pairs."""
    rows: list[list[Any]] = []
    for name, pairs in results.items():
        for correction in pairs[0]["lines"]:
            before, after = (
                statistics.mean(pair["lines"][correction][key]["barrier"] for pair in pairs)
                for key in ("before", "after")
            )
            words = {"none": "as it is", "bn_reset": "batch norm reset"}[correction]
            left = after / before if before else None
            rows.append([name, LOSSES[name].replace("_", " "), words, before, after, left])
    named = [Column(title, "left") for title in ("example", "loss", "line")]
    values = [Column("barrier A to B", decimals=4), Column("barrier π(A) to B", decimals=4), Column("left")]
    return Table([*named, *values], rows)


def draw(results: Mapping[str, Sequence[Record]], folder: Path) -> None:
    """A panel for each example: the first pair's line, with batch norm reset where there is any."""
    rows = -(-len(results) // 3)
    with styled_figure(8.0, 2.2 * rows) as figure:
        for place, (name, pairs) in enumerate(results.items(), start=1):
            axes = figure.add_subplot(rows, 3, place)
            plain_axes(axes)
            lines = list(pairs[0]["lines"].values())[-1]
            for key, colour, label in (("before", "naive", "A to B"), ("after", "permuted", "π(A) to B")):
                axes.plot(lines[key]["alphas"], lines[key]["loss"], color=COLOURS[colour][0], label=label)
            axes.set_title(name.replace("_", " "), loc="left", fontsize=10)
            axes.set_xticks([0, 0.5, 1])
        figure.axes[0].legend(frameon=False, fontsize=9)
        figure.tight_layout()
        save_figures({"examples": figure}, folder)


if __name__ == "__main__":
    main()
