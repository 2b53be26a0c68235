"""The report of an experiment: table, figures and one page that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from rebasin_lt.files import write_json, write_text
from rebasin_lt.report.alignment import barrier_figures
from rebasin_lt.report.figures import accuracy_figure, save_figure
from rebasin_lt.report.page import Picture, Section, write_page
from rebasin_lt.report.tables import experiment_table
from rebasin_lt.study.experiment import Outcome
from rebasin_lt.study.recipe import Recipe

TITLE = "Sparse masks on digits, aligned by weight symmetry"


def write_report(folder: Path, recipe: Recipe, outcome: Outcome) -> Path:
    """Write report.html with its figures and numbers as files beside it; returns the page's path."""
    table = experiment_table(outcome.records, outcome.dense)
    figures = {"accuracy": accuracy_figure(outcome.records, outcome.dense), **barrier_figures(outcome.alignments)}
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.svg")
    write_text(folder / "table.csv", table.to_csv())
    write_json(folder / "records.json", {"records": outcome.records, "dense": outcome.dense})
    page = folder / "report.html"
    write_page(
        page,
        TITLE,
        [
            Section("", [_introduction(recipe, outcome)]),
            Section("Accuracy", [table, Picture(figures["accuracy"], *_TEXTS["accuracy"])]),
            Section(
                "Between the networks",
                [Picture(figures[name], *_TEXTS[name]) for name in ("barrier-loss", "barrier-error")],
            ),
            Section("What was run", [_settings(recipe)]),
        ],
    )
    return page


_TEXTS = {
    "accuracy": (
        "Test accuracy of each sparse network, mean ± standard error over seeds. LTH trains A's weights under A's "
        "mask; all others train B: under A's mask permuted to B's units (permuted), as it is (naive), permuted at "
        "random but consistently (random permutation), and shuffled layer by layer (shuffled); or under the mask that "
        "keeps the largest weights of the trained B (B's magnitude).",
        "Line chart of test accuracy against sparsity for six methods, with the dense accuracy as a line.",
    ),
    "barrier-loss": (
        "Mean test loss along the straight line from A to B, before and after A's units are permuted to match B's; "
        "with REPAIR, the statistics of every unit are set to the interpolated ones.",
        "Curves of test loss against the interpolation coefficient, before and after alignment.",
    ),
    "barrier-error": (
        "The same for the share of test images classified wrongly.",
        "Curves of test error against the interpolation coefficient, before and after alignment.",
    ),
}


def _introduction(recipe: Recipe, outcome: Outcome) -> str:
    seeds = len(outcome.alignments)
    return (
        "Two dense networks, A and B, start from different random weights. A is pruned; its mask is moved to B's units "
        "by the permutation that matches their activations; B is trained under it from its own weights at "
        f"{recipe.rewinds[-1]}. {seeds} paired repetition{'s' * (seeds != 1)} on scikit-learn's handwritten digits, "
        "8×8 pixels, 1,000 of them for training. Masks simulate sparsity: nothing here runs faster."
    )


def _settings(recipe: Recipe) -> str:
    network = ", ".join(f"{name} {value}" for name, value in recipe.network.items())
    return (
        f"Network: {network}. Dense: {recipe.dense_epochs} epochs at learning rate {recipe.dense['learning_rate']}. "
        f"Pruning: {recipe.fraction:.0%} of the remaining weights per round, {recipe.epochs_per_round} epochs of "
        f"fine-tuning at {recipe.prune['learning_rate']} after each. Sparse: {recipe.sparse_epochs} epochs at "
        f"{recipe.sparse['learning_rate']}, weight decay {recipe.sparse.get('weight_decay', 5e-4):g}. SGD with "
        f"momentum 0.9, cosine schedule, batches of {recipe.data['batch_size']}. "
        "The test images were used once per network, after its training."
    )
