"""Masks with signs: accuracy after masked training, by arm, over pairs of seeds; and what says so beforehand.

    python -m benchmarks.signs [--settings digits98,...] [--pairs 0:5] [--read] [--work DIR] [--root DIR] [--out DIR]

For each pair: dense A and B, A pruned, masks and signs moved, B trained under each from each moment, in one data order.
Every stage is a folder under --work and is done once, so that an interrupted run goes on where it was, and several
processes may share the pairs. Without --pairs all is read, and results go into signs.json and docs/signs.md; --read
trains nothing and leaves out the arms that are missing, or all of a pair without LTH, naive and permuted. Images:
digits; Fashion-MNIST in /usr/share/datasets/fashion-mnist; CIFAR-10 as class folders, `--root/train` and `--root/test`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import quality
from benchmarks._signs_arms import Arm, Couple
from benchmarks._signs_report import write_report
from rebasin_lt.analyses.diversity import measure, open_test
from rebasin_lt.experiment import stages
from rebasin_lt.experiment.file_names import FINAL
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.lit.data.registry import build_data
from rebasin_lt.lit.weight_decay import share_left
from rebasin_lt.process.progress_line import ProgressLine
from rebasin_lt.storage.files import write_json

_SIGNED = ("lth", "lth+mask", "naive", "naive+mask", "permuted", "permuted+mask", "permuted+own")
_OTHERS = ("early", "early+mask", "random", "random+mask", "one_shot", "one_shot+own")
_MOMENTS = ("permuted+own@1ep", "permuted+own@2ep", "permuted+own@5ep")
_MEMBERS = ("lth", "lth+mask", "naive", "naive+mask", "permuted", "permuted+mask", "permuted+own", "early+mask")
_GROUP = 5  # networks of an ensemble


@dataclass(frozen=True)
class Setting:
    """What is trained: pairs by number, one sparsity, the moments to rewind to and the arms at each of them."""

    title: str
    folder: str  # of the pairs; settings may share one
    recipe: Recipe
    target: float
    num_pairs: int
    arms: dict[str, tuple[str, ...]]  # by rewind moment
    early: str
    num_images: int | None = None
    ensembles: bool = False
    own_mask: bool = False


def settings(work: Path) -> dict[str, Setting]:
    """By name, in the order in which they run."""
    digits = Recipe(targets=(0.95, 0.98, 0.99), rewinds=("0it", "1ep", "2ep", "5ep"))
    forgotten = replace(digits, dense_epochs=3, epochs_per_round=1, rewinds=("0it", "1ep"))
    every = (*_SIGNED, *_OTHERS, *_MOMENTS, "b_imp", "b_imp+mask")
    resnet20, conv4 = (quality.settings(work)[name].recipe for name in ("resnet20", "conv4"))
    few = ("lth", "naive", "permuted", "permuted+mask", "naive+mask")
    dense, prune = ({**part, "weight_decay": 5e-4} for part in (conv4.dense, conv4.prune))
    short = replace(conv4, dense=dense, prune=prune)
    return {
        "digits98": Setting(
            *("MLP, digits, sparsity .98", "signs-digits", digits, 0.98, 20, {"0it": every}, "1ep"),
            ensembles=True,
            own_mask=True,
        ),
        "digits99": Setting(
            *("MLP, digits, sparsity .99", "signs-digits", digits, 0.99, 20, {"0it": (*_SIGNED, *_OTHERS)}, "1ep"),
            ensembles=True,
            own_mask=True,
        ),
        "conv4": Setting(
            *("Conv-4×¼, Fashion-MNIST, sparsity .95", "conv4", conv4, 0.95, 5),
            {"1ep": (*_SIGNED, *_OTHERS), "0it": (*_SIGNED, *_OTHERS)},
            *("1ep", 4000),
        ),
        "resnet20": Setting(
            *("ResNet20×1, CIFAR-10 (JPEG, 16×16), sparsity .95", "resnet20", resnet20, 0.95, 3),
            {"2ep": (*_SIGNED, *_OTHERS), "0it": (*_SIGNED, *_OTHERS)},
            *("2ep", 4000),
        ),
        "digits-short": Setting(
            *("MLP, digits, trained for 3 epochs, sparsity .98", "signs-digits-short", forgotten, 0.98, 10),
            *({"0it": few}, "1ep"),
        ),
        "conv4-short": Setting(
            *("Conv-4×¼, Fashion-MNIST, decay 5e-4, sparsity .95", "conv4-short", short, 0.95, 3, {"1ep": few}),
            *("1ep", 4000),
        ),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not there yet, then write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.signs", description=__doc__.splitlines()[0])
    parser.add_argument("--settings", help="by commas; all if not given")
    parser.add_argument("--pairs", help="FIRST:LAST+1, to train those alone and write nothing")
    parser.add_argument("--read", action="store_true", help="train nothing: write what is complete")
    parser.add_argument("--work", type=Path, default=Path("runs/quality"), help="folder of all trained networks")
    parser.add_argument("--root", type=Path, default=Path("data"), help="class folders of CIFAR-10")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of signs.json")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    known = settings(given.work)
    for name in given.settings.split(",") if given.settings else known:
        if name not in known:
            parser.error(f"setting {name!r} is not known, expected {', '.join(known)}")
        setting = known[name]
        if "root" in setting.recipe.data and "image_size" in setting.recipe.data:
            quality.prepare(given.root, Path(setting.recipe.data["root"]), setting.recipe.data["image_size"])
        first, last = map(int, given.pairs.split(":")) if given.pairs else (0, setting.num_pairs)
        records = []
        with ProgressLine(f"signs {name}") as line:
            for index in range(first, min(last, setting.num_pairs)):
                line("pair", index, setting.num_pairs)
                records += _pair(setting, given.work / setting.folder, index, given.read)
        if not given.pairs:
            results = given.out / "signs.json"
            content = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
            about = {
                "title": setting.title,
                "folder": setting.folder,
                "target": setting.target,
                "torch": str(torch.__version__),
            }
            content[name] = {**about, "prices": _prices(setting), "records": records}
            write_json(results, content)
    if not given.pairs:
        write_report(given.out / "signs.json")


def _pair(setting: Setting, folder: Path, index: int, read: bool = False) -> list[dict[str, Any]]:
    """The records of one pair: dense accuracies, measures of the masks by moment, accuracies by arm and moment.

    To `read` leaves out arms that are missing, and moments without the three that every figure needs.
    """
    couple = _couple(setting, folder, index, index)
    moments = {
        rewind: [a for a in arms if not read or couple.is_trained(a, rewind)] for rewind, arms in setting.arms.items()
    }
    moments = {rewind: arms for rewind, arms in moments.items() if {"lth", "naive", "permuted"} <= set(arms)}
    if not moments:
        return []
    dense = _trained(setting, folder, index)
    records: list[dict[str, Any]] = [{"dense": dense}]
    for rewind, arms in moments.items():
        records.append({"rewind": rewind, "measures": couple.measures(rewind)})
        for name in arms:
            records.append({"rewind": rewind, "arm": name, "accuracy": couple.train(Arm(name), rewind)})
    records[0]["left"] = share_left(couple.a / FINAL)
    if setting.ensembles and index % _GROUP == 0:
        records.append({"ensembles": _ensembles(setting, folder, index)})
    return [{"pair": index, **record} for record in records]


def _trained(setting: Setting, folder: Path, index: int) -> list[float]:
    """Train A and B of a pair and prune A, and B where its own mask is asked for; dense accuracies in %."""
    place, recipe = folder / f"pair={index}", setting.recipe
    found = [stages.train_dense(place / f"dense_{r}", recipe, 10 * index + k)["test/top1"] for k, r in enumerate("ab")]
    stages.prune(place / "imp", recipe, place / "dense_a", 10 * index + 2)
    if setting.own_mask:
        stages.prune(place / "own", recipe, place / "dense_b", 10 * index + 4)
    return found


def _couple(setting: Setting, folder: Path, a: int, b: int) -> Couple:
    """A of one pair, B of another, or of the same."""
    of_a, of_b = (folder / f"pair={index}" for index in (a, b))
    return Couple(
        setting.recipe,
        setting.target,
        *(of_a / "dense_a", of_a / "imp", of_b / "dense_b", of_b / "own" if setting.own_mask else None),
        work=of_a if a == b else of_a / f"b={b}",
        seed=10 * b + 3,
        early=setting.early,
        num_images=setting.num_images,
    )


def _ensembles(setting: Setting, folder: Path, first: int) -> dict[str, Any]:
    """Five networks of each kind: A of one pair under its mask in five data orders, or five Bs under what A gave."""
    path = folder / f"pair={first}" / "signed" / f"ensembles-{setting.target:g}.json"
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    group = range(first, first + _GROUP)
    for index in group:
        _trained(setting, folder, index)
    found: dict[str, Any] = {}
    for rewind in setting.arms:
        files = dict(_members(setting, folder, rewind, group))
        networks = {name: [load_network(file).network for file in each] for name, each in files.items()}
        measured = measure(networks, open_test(build_data(**setting.recipe.data)))["settings"]
        kept = ("member_accuracy", "disagreement", "ensemble_accuracy")
        found[rewind] = {name: {key: values[key] for key in kept} for name, values in measured.items()}
    write_json(path, found)
    return found


def _members(setting: Setting, folder: Path, rewind: str, group: range) -> Iterator[tuple[str, list[Path]]]:
    """The trained networks of every kind of ensemble."""
    places = [folder / f"pair={index}" for index in group]
    yield "dense", [place / "dense_b" / FINAL for place in places]
    yield "imp", [stages.ticket_file(place / "own", setting.target) for place in places]
    for name in (*_MEMBERS, "one_shot", "one_shot+own"):
        arm, files = Arm(name), []
        for index in group:  # a mask of B's own is that of its pair
            couple = _couple(setting, folder, index if arm.mask == "one_shot" else group[0], index)
            couple.train(arm, rewind)
            files.append(couple.run_folder(arm, rewind) / FINAL)
        yield name, files


def _prices(setting: Setting) -> dict[str, dict[str, float | None]]:
    """Dense epochs of B, by moment and arm."""
    return {
        rewind: {name: Arm(name).dense_epochs(setting.recipe, rewind, setting.early) for name in arms}
        for rewind, arms in setting.arms.items()
    }


if __name__ == "__main__":
    main()
