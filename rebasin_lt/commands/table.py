"""The table of commands: what each is made from, what it does, and how it shows what it found.

Whatever a record names is imported when the command is called, so that `--help` answers at once.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from rebasin_lt.commands.spelling import is_list
from rebasin_lt.process.terminal_text import say
from rebasin_lt.settings.choices import imported


@dataclass(frozen=True)
class Command:
    """One command. Names are those that `imported` takes.

    `options` are dataclasses whose fields are the command's options. `work` takes an object of each; of an analysis
    also the place `out` and a `Progress`, and `show` what it returns and `out`: it writes tables and figures there,
    and returns what is to be printed.
    """

    summary: str
    options: tuple[str, ...]
    work: str
    show: str = ""
    out: str = "folder for the results"
    names: Mapping[str, str] = field(default_factory=dict)  # by option, what it chooses from: a table, or a function
    positional: bool = False  # options that must be given need no name: `report DIR`, `compare RUN RUN`

    @property
    def classes(self) -> list[type]:
        """Those of the options."""
        return [imported(name) for name in self.options]

    @property
    def types(self) -> dict[str, Any]:
        """The type of every option."""
        types = {name: kind for each in self.classes for name, kind in typing.get_type_hints(each).items()}
        return {"out": str, **types} if self.show else types

    @property
    def positional_list(self) -> str:
        """The option whose words need no name before each: a list that must be given; "" if there is none."""
        first = next(iter(self.types.items())) if self.positional else ("", None)
        return first[0] if is_list(first[1]) else ""

    @property
    def choices(self) -> dict[str, list[str]]:
        """The names that options choose from, for `--help`; their tables are light."""
        found = {option: imported(name) for option, name in self.names.items()}
        return {option: list(each() if callable(each) else each) for option, each in found.items()}

    def run(self, name: str, given: Mapping[str, Any]) -> None:
        """Do it, with a value for each option. Raises as `work`."""
        options = [kind(**{each.name: given[each.name] for each in fields(kind)}) for kind in self.classes]
        work = imported(self.work)
        if not self.show:
            work(*options)
            return
        from rebasin_lt.process.progress_line import ProgressLine

        with ProgressLine(name) as progress:
            result = work(*options, given["out"], progress)
        say(imported(self.show)(result, given["out"]), end="")


COMMANDS: Mapping[str, Command] = {
    "permute": Command(
        "Match A to B by activations or weights; write the permutation, π(A), π(masks), overlaps and loss barriers.",
        ("settings.options:PermuteOptions",),
        "analyses.permute:match_and_permute",
        "report.analyses.permute:show_permuted",
        names={
            "method": "matching.methods:MATCHING_METHODS",
            "objective": "matching.objectives:OBJECTIVES",
            "stream": "matching.objectives:STREAMS",
            "preset": "matching.objectives:PRESETS",
            "loss": "judging.losses:LOSSES",
        },
    ),
    "barrier": Command(
        "Measure loss and error along the line from A to B, and from π(A) to B; write table, curves and figure.",
        ("settings.options:BarrierOptions",),
        "analyses.barrier:measure_barriers",
        "report.analyses.barrier:show_barriers",
        names={"corrections": "connectivity.corrections:CORRECTIONS", "loss": "judging.losses:LOSSES"},
    ),
    "landscape": Command(
        "Draw the loss on the plane through A, π(A) and B, or of a network with two weights (--two-weights).",
        ("settings.options:LandscapeOptions",),
        "analyses.landscape:measure_landscape",
        "report.analyses.landscape:show_landscape",
        names={"loss": "judging.losses:LOSSES"},
    ),
    "diversity": Command(
        "Measure disagreement, KL, JS, calibration and ensemble accuracy of settings side by side, on the test images.",
        ("settings.options:DiversityOptions",),
        "analyses.diversity:measure_diversity",
        "report.analyses.diversity:show_diversity",
        names={"loss": "judging.losses:LOSSES"},
    ),
    "ensemble": Command(
        "Train an ensemble under one mask matched to N initialisations, and dense, IMP, LTH and naive ones beside it.",
        ("commands.options:EnsembleOptions",),
        "commands.ensemble:train_ensembles",
    ),
    "transplant": Command(
        "Move a mask and its signs to new initialisations, each trained to the rewind moment and matched there.",
        ("commands.options:TransplantOptions", "study.launchers.launcher:Launcher"),
        "commands.transplant:transplant",
        names={"launcher": "study.launch:LAUNCHERS", "methods": "experiment.methods:known_methods"},
    ),
    "study": Command(
        "Train and measure a grid of widths, seeds, sparsities, rewind moments and methods; `report` shows it.",
        ("commands.options:StudyRun", "study.grid:Study", "study.launchers.launcher:Launcher"),
        "commands.study:do_study",
        names={"launcher": "study.launch:LAUNCHERS", "methods": "experiment.methods:known_methods"},
    ),
    "control": Command(
        "Make a control mask: shuffled, random, by magnitude, SNIP, GraSP, SynFlow; usable wherever a mask file is.",
        ("settings.options:ControlOptions",),
        "analyses.control:write_control",
        "report.analyses.control:show_control",
        out="file for the mask, such as control.mask.safetensors; one of other options is refused, an equal one kept",
        names={"kind": "experiment.controls:CONTROLS"},
    ),
    "mask": Command(
        "Analyse a mask: sparsity by layer, degrees of units, overlap with other masks, dead units.",
        ("settings.options:MaskOptions",),
        "analyses.mask:analyse_mask",
        "report.analyses.mask:show_mask",
    ),
    "experts": Command(
        "Align the experts of every mixture to one of them, which changes no answer; merge them, or share a mask.",
        ("settings.options:ExpertsOptions",),
        "analyses.experts:align_and_write",
        "report.analyses.experts:show_experts",
        names={
            "by": "settings.options:ALIGNED_BY",
            "merge": "settings.options:MERGES",
            "loss": "judging.losses:LOSSES",
        },
    ),
    "symmetry": Command(
        "Find and verify the permutation symmetry of a network.",
        ("commands.options:SymmetryOptions",),
        "commands.symmetry:print_symmetry",
    ),
    "compare": Command(
        "Show in which settings runs differ, and what was measured of each: as text, CSV, Markdown or LaTeX.",
        ("commands.options:CompareOptions",),
        "commands.compare:print_comparison",
        names={"format": "report.analyses.comparison:FORMATS"},
        positional=True,
    ),
    "report": Command(
        "Write tables, figures and one page of what there is of a study, the paper's numbers beside ours.",
        ("commands.options:ReportOptions",),
        "commands.report:print_report",
        names={"formats": "report.kit.papers:PAPER_FORMATS"},
        positional=True,
    ),
    "demo": Command(
        "Run the whole experiment on real digits in a minute or two, and write a report: a small study.",
        ("commands.options:DemoOptions",),
        "commands.demo:demo",
    ),
}
