"""The options of the commands that are no analysis; importing this is quick, for `--help`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.settings.options import ExampleOptions, SourceOptions


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """Where a study lies, and whether it is done or planned.

    Args:
        out: folder of the study
        dry_run: only print the stages and what they cost
        probe: measure for a few seconds how long training takes here, for --dry-run
        images_per_second: training images that a worker of yours takes in a second, for --dry-run to plan hours
            elsewhere than here: one for each width, or one for all
    """

    out: str
    dry_run: bool = False
    probe: bool = True
    images_per_second: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class EnsembleOptions:
    """What is not given is trained by the recipe, whose default is a demonstration on digits.

    The masks have the last of the recipe's targets as sparsity.

    Args:
        out: folder for all runs and results
        members: networks in each ensemble; 4, or as many as --dense names
        dense_a: run of the trained dense network A, with its rewind checkpoint
        mask: mask file pruned from A
        dense: runs of trained dense networks B_1 … B_N, with their rewind checkpoints
        recipe: what is trained, and for how long
    """

    out: str
    members: int | None = None
    dense_a: str | None = None
    mask: str | None = None
    dense: tuple[str, ...] = ()
    recipe: Recipe = field(default_factory=lambda: Recipe(targets=(0.95,)))


@dataclass(frozen=True, kw_only=True)
class TransplantOptions:
    """A mask, the network that it was pruned from, and initialisations to move it to.

    The recipe says how new networks are trained, dense_epochs as if to the end, and how sparse ones are; its default is
    a demonstration on digits. The sparsity is that of the mask.

    Args:
        out: folder for all runs and results
        ckpt_a: checkpoint of the trained network A, or its run's folder
        mask: mask file pruned from A, with A's signs as IMP leaves them
        seeds: a new initialisation each; seed S trains with 10·S + 1
        rewind: moment to match at and to train sparse from; the last of the recipe's if not given
        methods: what is trained of each and compared as an ensemble; lth trains A again, dense and imp train every
            network to its end
        matchers: settings by name, as of a study; at the moment of --rewind unless they say another
        recipe: what is trained, and for how long
    """

    out: str
    ckpt_a: str
    mask: str
    seeds: Sequence[int]
    rewind: str | None = None
    methods: Sequence[str] = ("permuted+mask",)
    matchers: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"permuted": {}})
    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True, kw_only=True)
class SymmetryOptions(SourceOptions, ExampleOptions):
    """The network, and what is printed of it.

    Args:
        model: a built-in name, torchvision:NAME, timm:NAME, or package.module:factory
        width: factor on the hidden channel counts of a built-in network
        num_classes: outputs of the network
        json: print JSON instead of a table
    """

    model: str
    width: float = 1
    num_classes: int = 10
    json: bool = False


@dataclass(frozen=True)
class ReportOptions:
    """A study that may still run: it is not disturbed, and what it lacks is written as –.

    Args:
        dir: folder of the study; or of the numbers that a report left, to write it again
        out: folder for the report; DIR/report if not given
        formats: what is written beside page, Markdown and CSV, for a paper
    """

    dir: str
    out: str | None = None
    formats: Sequence[str] = ()


@dataclass(frozen=True)
class CompareOptions:
    """Runs of `fit`, or stages of studies; nothing is written into their folders.

    Args:
        runs: folders of the runs, DIR or LABEL=DIR, at least two
        metrics: those to show, such as test/top1; of the test, and the sparsity, if not given
        format: how the tables are written; csv is one table with all that differs and all metrics
        out: file to write to instead of the terminal
    """

    runs: Sequence[str]
    metrics: Sequence[str] = ()
    format: str = "text"
    out: str | None = None


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """A small study.

    Args:
        out: folder for the runs and the report
        num_seeds: paired repetitions
    """

    out: str = "demo"
    num_seeds: int = 3
