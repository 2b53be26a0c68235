"""Every number of a report is recomputed from a study's folder by other means: its files read as JSON, numpy, scipy.

The results are drawn, not trained. So are the names of the matchers: what a report says goes by settings alone.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.stats import ttest_rel

from rebasin_lt.experiment.file_names import DIVERGED, mask_name
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.report.study import published as published_module
from rebasin_lt.report.study.sections import write_study_report
from rebasin_lt.storage.run_folder import finish
from rebasin_lt.study.folder import claim_study
from rebasin_lt.study.grid import Study
from rebasin_lt.study.outcome import read_outcome
from rebasin_lt.study.plan import plan
from rebasin_lt.study.record import record, taken
from rebasin_lt.study.stage import Stage

RECIPE = Recipe(
    data={"name": "cifar10", "batch_size": 128},
    network={"arch": "resnet20", "num_classes": 10},
    targets=(0.9, 0.95),
    rewinds=("1ep", "20ep"),
    dense_epochs=200,
    sparse_epochs=None,
)
SETTINGS: list[dict[str, Any]] = [{}, {"preset": "paper"}, {"preset": "paper", "at": "5ep"}, {"mask_weight_mix": 0.0}]
MATCHED_AT = [None, "", "5", None]
"""In the paper's table; None where it has no such way to match."""

LEVELS = {"lth": 91.0, "naive": 88.0, "shuffled": 87.0}
MISLEADING = ("permuted_paper", "permuted_5ep", "dense", "imp", "mix", "magnitude")
K = {"1ep": "0", "20ep": "20"}  # the paper's, of a rewind moment


class World(NamedTuple):
    """A study that was drawn, and its report."""

    folder: Path
    out: Path
    study: Study
    lost: list[str]  # the stages that diverged


def drawn_names(rng: np.random.Generator) -> list[str]:
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789_")
    free = ["m" + "".join(rng.choice(letters, 6)) + "z" for _ in range(2)]
    names = [*free, *rng.choice(MISLEADING, 2, replace=False).tolist()]
    return [names[index] for index in rng.permutation(4)]


def drawn(rng: np.random.Generator, stage: Stage, before: dict[int, list[float]]) -> dict[str, Any]:
    """A result as a stage of its kind writes it."""
    if stage.kind == "match":
        overlaps = ("permuted", "unpermuted", "independent")
        masks = {mask_name(target): dict(zip(overlaps, rng.random(3), strict=True)) for target in RECIPE.targets}
        return {"objective": {}, "sizes": {}, "masks": masks}
    if stage.kind == "barrier":
        barriers = {"before": before.setdefault(stage.settings["repetition"], rng.random(2)), "after": rng.random(2)}
        curve = {"split": "test", "correction": "none", "alphas": [0, 0.5, 1], "loss": [0, 1, 0], "error": [0, 1, 0]}
        found = ("loss_barrier", "error_barrier")
        return {
            "curves": [
                {**curve, "alignment": when, **dict(zip(found, values, strict=True))}
                for when, values in barriers.items()
            ]
        }
    level = LEVELS.get(stage.settings.get("method", ""), 90.0)
    top1 = level + stage.settings["seed"] // 10 % 10 * 0.1 + float(rng.normal(0, 0.3))
    return {"test/loss": 1.0, "test/top1": top1, "test/top5": 99.0}


@pytest.fixture(scope="module", params=[0, 1])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    rng = np.random.default_rng(request.param)
    names = drawn_names(rng)
    study = Study(
        "drawn",
        RECIPE,
        seeds=[0, 1, 2, 3],
        methods=["lth", "naive", "shuffled", *names],
        matchers=dict(zip(names, SETTINGS, strict=True)),
        barrier={"num_alphas": 3, "splits": ["test"], "corrections": ["none"]},
    )
    folder, stages = tmp_path_factory.mktemp("study") / "drawn", plan(study)
    sparse, barriers = ([path for path in stages if f"/{kind}/" in path] for kind in ("sparse", "barrier"))
    lost = [*rng.choice(sparse, 3, replace=False).tolist(), str(rng.choice(barriers))]
    before: dict[int, list[float]] = {}
    with claim_study(folder, study):
        for path, stage in stages.items():
            for name in stage.outputs:
                (folder / path / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / path / name).write_text(name)
            (folder / path).mkdir(parents=True, exist_ok=True)
            result = {} if stage.kind == "control" else drawn(rng, stage, before)
            if path == lost[0]:  # a note is all that it left
                (folder / path / DIVERGED).write_text("{}")
                continue
            if path in lost[1:3]:
                result["test/top1"] = math.nan
            if path == lost[3]:
                result["curves"][1]["loss_barrier"] = math.inf
            finish(folder / path, result)
            record(folder, stage, taken(folder, stage))
    out = folder / "report"
    write_study_report(read_outcome(folder), out)
    return World(folder, out, study, lost)


def read(world: World, name: str) -> list[dict[str, str]]:
    with (world.out / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def results(world: World, pattern: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Seed, name of the folder and result of every stage that is like `pattern` and did not diverge."""
    for path in sorted(world.folder.glob(f"width=1/seed=*/{pattern}/result.json")):
        stage = path.parent.relative_to(world.folder)
        if str(stage) not in world.lost:
            yield int(stage.parts[1].removeprefix("seed=")), stage.name, json.loads(path.read_text())


def accuracies(world: World) -> dict[tuple[str, str, str], dict[int, float]]:
    """Fractions by (sparsity, rewind, method) and seed."""
    found: dict[tuple[str, str, str], dict[int, float]] = {}
    for seed, name, result in results(world, "sparse/*"):
        about = dict(part.split("=") for part in name.split(","))
        found.setdefault((about["sparsity"], about["rewind"], about["method"]), {})[seed] = result["test/top1"] / 100
    return found


def approx(value: float | None) -> Any:
    return "" if value is None else pytest.approx(value, rel=1e-9, abs=1e-12)


def number(text: str) -> float | str:
    return float(text) if text else ""


def theirs(world: World, sparsity: str, rewind: str, method: str) -> dict[str, str] | None:
    """The paper's row: of a matcher by its settings, whatever its name."""
    matchers = list(world.study.matchers)
    at = MATCHED_AT[matchers.index(method)] if method in matchers else ""
    wanted = {"dataset": "cifar10", "arch": "resnet20", "k": K[rewind], "metric": "top1", "matched_at": at}
    wanted["method"] = "permuted" if method in matchers else method
    with published_module._FILE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            here = float(row["width"]) == 1 and float(row["sparsity"]) == float(sparsity)
            if here and all(row[name] == value for name, value in wanted.items()):
                return row
    return None


def test_means_deviations_counts_and_the_papers_numbers(world):
    cells, seen = accuracies(world), []
    rows = [row for row in read(world, "summary") if row["metric"] == "top1"]
    for row in rows:
        seen.append((row["sparsity"], row["rewind"], row["method"]))
        values = list(cells[seen[-1]].values())
        assert number(row["mean"]) == approx(np.mean(values))
        assert number(row["std"]) == approx(np.std(values, ddof=1))
        assert int(row["n"]) == len(values)
        beside = theirs(world, *seen[-1])
        assert number(row["published_mean"]) == approx(None if beside is None else float(beside["value"]) / 100)
        assert row["published_in"] == ("" if beside is None else beside["source"])
    assert len(seen) == len(cells) == len({*seen})
    assert sum(int(row["n"]) for row in rows) == 4 * 2 * 2 * 7 - 3  # three diverged
    matched = {row["method"] for row in rows if row["published_mean"]} - {"lth", "naive"}
    assert matched <= {name for name, settings in world.study.matchers.items() if "preset" in settings}
    assert matched


def test_each_run_is_its_stages(world):
    rows = [row for row in read(world, "accuracy") if row["stage"] == "sparse"]
    found = {((row["sparsity"], row["rewind"], row["method"]), int(row["seed"])): float(row["top1"]) for row in rows}
    wanted = {(place, seed): value for place, seeds in accuracies(world).items() for seed, value in seeds.items()}
    assert len(rows) == len(found)
    assert found == pytest.approx(wanted, rel=1e-9)


def over(world: World, sparsity: str, rewind: str, names: list[str]) -> list[np.ndarray]:
    """The accuracies of each method over the seeds that have all; for `mean`, each seed's over its moments with all."""
    cells, values = accuracies(world), {}
    for moment in RECIPE.rewinds if rewind == "mean" else [rewind]:
        for seed in world.study.seeds:
            own = [cells.get((sparsity, moment, name), {}).get(seed) for name in names]
            if None not in own:
                values.setdefault(seed, []).append(own)
    return list(np.array([np.mean(values[seed], axis=0) for seed in sorted(values)]).T)


def closure(lth: np.ndarray, own: np.ndarray, naive: np.ndarray) -> tuple[float | None, float | None]:
    """The ratio of means and its standard error by the delta method, from variances and their covariance."""
    gain, gap = own - naive, lth - naive
    ratio, (variance, crossed, of_gap) = gain.mean() / gap.mean(), np.cov(gain, gap)[[0, 0, 1], [0, 1, 1]]
    if gap.mean() <= 2 * math.sqrt(of_gap / len(gap)):
        return None, None
    return ratio, math.sqrt((variance - 2 * ratio * crossed + ratio**2 * of_gap) / len(gap)) / gap.mean()


def test_paired_differences_their_intervals_and_gap_closure(world):
    rows = read(world, "paired")
    for row in rows:
        place = row["sparsity"], row["rewind"]
        one, other = over(world, *place, [row["method"], row["against"]])
        interval = ttest_rel(one, other).confidence_interval(0.95)
        assert number(row["difference"]) == approx((one - other).mean())
        assert [float(row["low"]), float(row["high"])] == [approx(interval.low), approx(interval.high)]
        assert int(row["n"]) == len(one)
        told = row["against"] == "naive" and row["method"] != "lth"
        found = closure(*over(world, *place, ["lth", row["method"], "naive"])) if told else (None, None)
        assert [number(row[name]) for name in ("gap_closure", "gap_closure_error")] == list(map(approx, found))
    keys = {(row["sparsity"], row["rewind"], row["method"], row["against"]) for row in rows}
    assert len(rows) == len(keys) == 2 * 3 * (6 + 6)
    assert any(row["gap_closure"] for row in rows)


def cells_under(world: World, heading: str) -> list[dict[str, str]]:
    """The rows of the table in report.md that has this heading."""
    lines = (world.out / "report.md").read_text(encoding="utf-8").splitlines()
    split: Callable[[str], list[str]] = lambda line: [cell.strip() for cell in line.strip("|").split("|")]  # noqa: E731
    at = next(index for index, line in enumerate(lines) if line.startswith("|") and heading in split(line))
    rows = []
    for line in lines[at + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(dict(zip(split(lines[at]), split(line), strict=True)))
    return rows


def spelled(name: str) -> str:
    return " ".join(name.replace("_", " ").split())


def spread(values: list[float], decimals: int) -> str:
    return f"{np.mean(values):.{decimals}f} ± {np.std(values, ddof=1):.{decimals}f}"


def test_barriers(world):
    before: dict[int, dict[str, Any]] = {}
    after: dict[str, list[dict[str, Any]]] = {}
    for seed, matcher, result in results(world, "barrier/*"):
        for curve in result["curves"]:
            if curve["alignment"] == "before":
                before[seed] = curve
            else:
                after.setdefault(spelled(matcher), []).append(curve)
    rows = cells_under(world, "loss barrier before (nats)")
    assert {row["matcher"] for row in rows} == set(after)
    for row in rows:
        for when, curves in (("before", list(before.values())), ("after", after[row["matcher"]])):
            assert row[f"loss barrier {when} (nats)"] == spread([curve["loss_barrier"] for curve in curves], 3)
            assert row[f"error barrier {when} (%)"] == spread([100 * curve["error_barrier"] for curve in curves], 2)
        assert int(row["seeds"]) == len(after[row["matcher"]])
    assert sorted(len(curves) for curves in after.values()) == [3, 4, 4, 4]


def test_overlap(world):
    titles = {"permuted": "π(mask)", "unpermuted": "mask as it is", "independent": "independent masks"}
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _, matcher, result in results(world, "match/*"):
        for target in RECIPE.targets:
            own = result["masks"][f"sparsity-{target:g}.mask.safetensors"]
            found.setdefault((spelled(matcher), f"{target:.2f}"), []).append(own)
    rows = cells_under(world, "π(mask)")
    assert {(row["matcher"], row["sparsity"]) for row in rows} == set(found)
    for row in rows:
        own = found[row["matcher"], row["sparsity"]]
        for kind, title in titles.items():
            assert row[title] == spread([mask[kind] for mask in own], 4)
        assert int(row["seeds"]) == len(own) == 4


def test_what_diverged_is_counted_and_named(world):
    text = " ".join((world.out / "report.md").read_text(encoding="utf-8").replace("\\", "").split())
    stages = plan(world.study)
    assert f"4 of {len(stages)} stages diverged" in text
    assert all(path in text for path in world.lost)
    marked = [row["path"] for row in read(world, "ledger") if row["diverged"] == "True"]
    assert sorted(marked) == sorted(world.lost)
