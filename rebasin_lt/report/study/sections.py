"""The report of a study: one page that needs nothing else, the same as Markdown, and its numbers as CSV files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rebasin_lt.experiment.before import BEFORE_TRAINING
from rebasin_lt.experiment.metrics import COMPARED, METRICS, Metric
from rebasin_lt.report.analyses.barrier import EXCESS
from rebasin_lt.report.kit.markdown import write_markdown
from rebasin_lt.report.kit.methods import Methods
from rebasin_lt.report.kit.page import Folded, PagePart, Picture, Section, write_page
from rebasin_lt.report.kit.papers import PAPER_FORMATS
from rebasin_lt.report.kit.tables import Table, texts
from rebasin_lt.report.study.about import collapsed_text, trained_text
from rebasin_lt.report.study.accuracy import (
    accuracy_table,
    dense_table,
    published_beside,
    summary_table,
    tickets_table,
)
from rebasin_lt.report.study.accuracy_figures import accuracy_figures
from rebasin_lt.report.study.barriers import study_barrier_figures, study_barriers_table
from rebasin_lt.report.study.before import study_before_table
from rebasin_lt.report.study.diversity import study_diversity_table
from rebasin_lt.report.study.frontier import Worth, frontier_figures, worth_rows, worth_table, worths
from rebasin_lt.report.study.ledger import divergence_text, ledger_table, progress_text
from rebasin_lt.report.study.numbers import write_numbers
from rebasin_lt.report.study.overlap import study_overlap_table
from rebasin_lt.report.study.paired import closure_table, difference_table, headline, headline_table, pairs_table
from rebasin_lt.report.study.runs import Runs, axes_of, by_axes, compared_by, group_runs
from rebasin_lt.report.study.setting import Setting
from rebasin_lt.settings.choices import chosen
from rebasin_lt.storage.files import write_text
from rebasin_lt.storage.run_folder import dotted
from rebasin_lt.study.outcome import StudyOutcome

LONG = 16
"""Rows from which a table is folded in the page."""


def write_study_report(outcome: StudyOutcome, out: Path | str, formats: Sequence[str] = ()) -> list[Path]:
    """Write report.html, report.md with its figures, and the numbers as CSV into `out`; returns the paths, page first.

    `formats` are those of a paper: `latex`, tables for booktabs, and `pdf`, the figures. What a study does not have yet
    is left out or written as –; equal outcomes give equal bytes. Raises InputError for a run of a method that the
    study's settings do not know, and for another format.

        >>> outcome = rb.StudyOutcome("begun", rb.Study(seeds=[0]).primitives())
        >>> "report.html" in [path.name for path in rb.write_study_report(outcome, "report")]
        True
    """
    out = Path(out)
    writers = [chosen("--formats", name, PAPER_FORMATS) for name in formats]
    setting = _setting(outcome)
    runs = {metric: group_runs(outcome.sparse, setting.rewinds, metric) for metric in METRICS}
    sections = [section for section in _sections(outcome, setting, runs) if section.parts]
    page = out / "report.html"
    write_page(page, outcome.title, sections)
    written = write_markdown(out / "report.md", outcome.title, sections)
    written += write_numbers(outcome, out)
    by = compared_by(outcome.sparse)
    derived = {"summary": summary_table(runs, setting), "paired": pairs_table(runs[by], setting.methods, METRICS[by])}
    derived["frontier"] = worth_rows(_worths(outcome, setting, runs[COMPARED]))
    for name, table in derived.items():
        write_text(out / f"{name}.csv", table.to_csv())
    written += [path for write in writers for path in write(out, sections)]
    return [page, *written, *(out / f"{name}.csv" for name in derived)]


def summary(outcome: StudyOutcome) -> str:
    """What a terminal shows: progress, the headline and its table."""
    setting = _setting(outcome)
    by = compared_by(outcome.sparse)
    compared = group_runs(outcome.sparse, setting.rewinds, by), setting.methods, METRICS[by]
    table = headline_table(*compared)
    lines = [
        f"{outcome.title}: {progress_text(outcome.stages)}",
        _headline(outcome, *compared),
        *([text] if (text := divergence_text(outcome.stages)) else []),
        *([table.to_text()] * bool(table.rows)),
    ]
    return "\n".join(lines)


def _setting(outcome: StudyOutcome) -> Setting:
    """What the settings say. Raises InputError for a run of a method that they do not know."""
    setting = Setting.of(outcome.settings)
    setting.methods.in_order(run["method"] for run in outcome.sparse)
    return setting


def accuracies(outcome: StudyOutcome) -> str:
    """The tables of accuracies of the report, as a terminal shows them: one for each width."""
    setting = _setting(outcome)
    by = compared_by(outcome.sparse)
    runs = group_runs(outcome.sparse, setting.rewinds, by)
    return "\n".join(table.to_text() for table in _accuracy_tables(outcome, setting, runs, by))


def worth_text(outcome: StudyOutcome) -> str:
    """What each method is worth at its price, as a terminal shows it."""
    setting = _setting(outcome)
    found = _worths(outcome, setting, group_runs(outcome.sparse, setting.rewinds))
    return worth_table(found, outcome.prices, setting).to_text()


def _sections(outcome: StudyOutcome, setting: Setting, runs: Mapping[str, Runs]) -> Iterable[Section]:
    by = compared_by(outcome.sparse)
    yield Section("", _introduction(outcome, setting, runs[by], METRICS[by]))
    for name, metric in METRICS.items():
        if setting.num_classes >= metric.min_classes:
            own = _accuracy(outcome, setting, runs[name], name)
            yield Section(metric.heading, own, ["accuracy.csv", "summary.csv"])
    differences = _pairs(setting, runs[by], METRICS[by])
    yield Section("Differences between methods, paired by seed", differences, ["paired.csv"])
    yield Section("Between the networks", _barriers(outcome, setting), ["barriers.csv", "curves.csv"])
    diversity = study_diversity_table(outcome.diversity, setting)
    yield Section("Diversity and ensembles", [_table(diversity)] if diversity.rows else [], ["diversity.csv"])
    yield Section("Accuracy, disagreement and price", _frontier(outcome, setting, runs[COMPARED]), ["frontier.csv"])
    yield Section("Before training", list(_before(outcome, setting)), ["overlap.csv"])
    yield Section("Overlap of the masks", list(_overlap(outcome, setting)), ["overlap.csv"])
    yield Section("What each method is", _methods(outcome, setting))
    run = [*([ledger_table(outcome.stages)] if outcome.stages else []), *_settings(outcome)]
    yield Section("What was run", run, ["ledger.csv", "study.json"])


def _headline(outcome: StudyOutcome, runs: Runs, methods: Methods, metric: Metric) -> str:
    """The one sentence, also of a study whose module logs nothing to compare its networks by."""
    if outcome.sparse and not runs:
        names = " nor ".join(f"test/{name}" for name in METRICS)
        return f"The sparse networks were tested, but logged neither {names}: there is nothing to compare them by."
    return headline(runs, methods, metric)


def _introduction(outcome: StudyOutcome, setting: Setting, runs: Runs, metric: Metric) -> list[PagePart]:
    done = sum(stage["done"] for stage in outcome.stages)
    state = "complete" if done == len(outcome.stages) else "not complete: what is missing is written as –"
    parts: list[PagePart] = [
        "Two dense networks, A and B, start from different random weights. A is pruned; its mask is moved to B's units "
        "by a permutation that matches A to B; B is trained under it from its own weights at a rewind point. Masks "
        "simulate sparsity: nothing here runs faster.",
        trained_text(outcome.settings),
    ]
    lost = [text] if (text := divergence_text(outcome.stages)) else []
    if not done and not outcome.sparse:
        return [*parts, f"No stage of this study has finished yet ({progress_text(outcome.stages)}).", *lost]
    table = headline_table(runs, setting.methods, metric)
    parts += [_headline(outcome, runs, setting.methods, metric), *([table] if table.rows else [])]
    lost += [text] if (text := collapsed_text(outcome.sparse, setting)) else []
    return [*parts, *lost, f"{progress_text(outcome.stages)} done; the study is {state}."]


def _accuracy(outcome: StudyOutcome, setting: Setting, runs: Runs, metric: str) -> list[PagePart]:
    figures = accuracy_figures(runs, setting, _dense(outcome, metric), metric)
    wide = accuracy_figures(runs, setting, _dense(outcome, metric), metric, columns=4)
    tables = _accuracy_tables(outcome, setting, runs, metric)
    beside = "; hollow marks: the paper's published means" if _any_published(setting, runs, metric) else ""
    pictures = [
        Picture(
            figure,
            f"{METRICS[metric].label.capitalize()} of each sparse network; band: ± one sample standard deviation over "
            f"seeds; dashed: mean of the dense networks{beside}. Points are at equal steps.",
            f"Line chart of {METRICS[metric].label}, a line per method and a panel per setting: {name}",
            name,
            wide[name],
        )
        for name, figure in figures.items()
    ]
    if metric == compared_by(outcome.sparse) and outcome.pruned:
        swept = dense_table(outcome.dense, metric)
        tables += [*([swept] if swept.rows else []), tickets_table(outcome.pruned, metric)]
    return [*pictures, *map(_table, tables)]


def _accuracy_tables(outcome: StudyOutcome, setting: Setting, runs: Runs, metric: str) -> list[Table]:
    dense = _dense(outcome, metric)
    return [accuracy_table(width, cells, setting, dense.get(width, ()), metric) for width, cells in runs.items()]


def _dense(outcome: StudyOutcome, metric: str) -> dict[float, list[float]]:
    """Accuracies of the dense networks by width, of a study that does not sweep their settings."""
    dense: dict[float, list[float]] = {}
    for run in outcome.dense:
        if run.get(metric) is not None and not axes_of(run):
            dense.setdefault(run["width"], []).append(run[metric])
    return dense


def _any_published(setting: Setting, runs: Runs, metric: str) -> bool:
    cells = [(width, place, name) for width, own in runs.items() for place, group in own.items() for name in group]
    return any(published_beside(setting, width, place, name, metric) for width, place, name in cells)


def _pairs(setting: Setting, runs: Runs, metric: Metric) -> list[PagePart]:
    if not runs:
        return []
    text = (
        "Mean difference over the seeds that both methods have, with its 95 % Student t interval. What varies alike "
        "for both, such as network B and the order of the data, cancels. Gap closure is (method − naive) / "
        "(LTH − naive), a ratio of means; – where the gap is not above 0 by two standard errors."
    )
    compared = setting.methods, metric
    tables = [difference_table(*one, against, *compared) for against in ("naive", "lth") for one in runs.items()]
    tables += [closure_table(*one, *compared) for one in runs.items()]
    return [text, *(_table(table) for table in tables if len(table.columns) > 1)]


def _barriers(outcome: StudyOutcome, setting: Setting) -> list[PagePart]:
    return [
        part for axes, records in by_axes(outcome.barriers).items() for part in _barriers_at(axes, records, setting)
    ]


def _barriers_at(axes: str, records: Sequence[Mapping[str, Any]], setting: Setting) -> list[PagePart]:
    captions = {
        "barriers": f"{EXCESS} between A and B, by width (the paper's Figure 3).",
        "curves-loss": "Mean loss along the straight line from A to B.",
        "curves-error": f"The same for the share of {setting.judged.error}.",
    }
    end = f"-{axes}" if axes else ""
    pictures = [
        Picture(figure, captions[name], f"Line chart before and after alignment: {captions[name]}", name + end)
        for name, figure in study_barrier_figures(records, setting.methods, setting.judged).items()
    ]
    curves = [picture for picture in pictures if picture.name != f"barriers{end}"]
    by_width = [picture for picture in pictures if picture.name == f"barriers{end}"]
    return (
        [*by_width, _table(_at(study_barriers_table(records, setting.methods, setting.judged), axes)), *curves]
        if pictures
        else []
    )


def _worths(outcome: StudyOutcome, setting: Setting, runs: Runs) -> list[Worth]:
    return worths(runs, outcome.diversity, outcome.prices, setting)


def _frontier(outcome: StudyOutcome, setting: Setting, runs: Runs) -> list[PagePart]:
    found = _worths(outcome, setting, runs)
    if not found:
        return []
    pictures = [
        Picture(
            figure,
            "Members of each ensemble: their accuracy against the share of examples on which two of them differ; bars: "
            "± one sample standard deviation, of members and of pairs; beside each point: the epochs that one more "
            "network costs, beyond A. Up and to the right is better, and fewer epochs are.",
            f"Scatter plot of test accuracy against disagreement, a point per method: {name}",
            name,
        )
        for name, figure in frontier_figures(found, setting).items()
    ]
    return [*pictures, _table(worth_table(found, outcome.prices, setting))]


def _overlap(outcome: StudyOutcome, setting: Setting) -> Iterable[PagePart]:
    for axes, matches in by_axes(outcome.matches).items():
        yield _table(_at(study_overlap_table(matches, setting.methods), axes))


def _before(outcome: StudyOutcome, setting: Setting) -> Iterable[PagePart]:
    tables = {axes: study_before_table(own, setting.methods) for axes, own in by_axes(outcome.matches).items()}
    shown = {column.title for table in tables.values() for column in table.columns if table.rows}
    yield from (f"{one.label}: {one.meaning}" for one in BEFORE_TRAINING.values() if one.label in shown)
    yield from (_table(_at(table, axes)) for axes, table in tables.items() if table.rows)


def _at(table: Table, axes: str) -> Table:
    """The table of one combination of values of the study's own axes, which its caption names."""
    return replace(table, caption=f"{table.caption}; {axes}") if axes else table


def _methods(outcome: StudyOutcome, setting: Setting) -> list[PagePart]:
    named = [run["method"] for run in outcome.sparse]
    return [f"{method.label}: {method.meaning}" for method in setting.methods.described(named).values()]


def _settings(outcome: StudyOutcome) -> list[PagePart]:
    rows = [[name, json.dumps(value, ensure_ascii=False)] for name, value in dotted(outcome.settings).items()]
    return [_table(Table(texts("setting", "value"), rows, "Settings of the study"))] if rows else []


def _table(table: Table) -> PagePart:
    return Folded(table) if len(table.rows) > LONG else table
