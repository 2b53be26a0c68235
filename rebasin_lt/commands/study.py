"""`rebasin-lt study`: a whole grid of sparse runs and what they need, each stage once, resumable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.process.terminal_text import say
from rebasin_lt.study.launchers.slurm_options import Slurm

if TYPE_CHECKING:
    from rebasin_lt.study.grid import Study
    from rebasin_lt.study.state import State

_RECIPE, _SLURM = Recipe(), Slurm()


def study(
    out: str,
    seeds: list[int],
    methods: list[str],
    title: str = "Sparse masks, aligned by weight symmetry",
    widths: list[float] | None = None,
    matchers: dict[str, dict[str, Any]] | None = None,
    barrier: dict[str, Any] | None = None,
    diversity: dict[str, Any] | None = None,
    recipe: Recipe = _RECIPE,
    axes: dict[str, list[Any]] | None = None,
    given: dict[str, Any] | None = None,
    launcher: str = "local",
    workers: int | None = None,
    workers_per_gpu: int = 1,
    threads: int = 1,
    slurm: Slurm = _SLURM,
    dry_run: bool = False,
    probe: bool = True,
) -> None:
    """Train and measure a grid of widths, seeds, sparsities, rewind moments and methods; `report` shows it.

    Sparsities are the recipe's targets, moments its rewinds. Every stage is run once, however many cells share it, and
    an interrupted study goes on where it was. A stage that fails stops only what needs it.

    Args:
        out: folder of the study
        seeds: repetitions, each with an A and a B of its own
        methods: masks to train under: lth, naive, b_imp, names of matchers, or kinds of control
        title: of the report
        widths: factors on the network's channels; 1 if not given
        matchers: settings by name, such as {permuted: {}, early: {at: 5ep}, published: {preset: paper}}
        barrier: settings of the barrier between A and B; not measured if not given
        diversity: sparsities and rewinds at which ensembles are compared; not done if not given
        recipe: what is trained, and for how long
        axes: more axes of the grid, settings of stages with their values, such as {sparse.learning_rate: [0.05, 0.1]}
        given: networks and masks that exist instead of trained ones: {a: RUN, b: RUN, mask: FILE}, for all seeds, or
            with {seed} in the paths, or a list of one per seed
        launcher: local, processes on this machine, or slurm, jobs in SLURM
        workers: processes on this machine; one per GPU or core if not given
        workers_per_gpu: several for networks that leave a GPU idle
        threads: of each worker or task; results are equal to the last bit only for equal numbers
        slurm: how jobs are submitted
        dry_run: only print the stages and what they cost
        probe: measure for a few seconds how long training takes here, for --dry-run
    """
    from pathlib import Path

    from rebasin_lt.errors import InputError
    from rebasin_lt.study.folder import check_study_folder
    from rebasin_lt.study.grid import Study
    from rebasin_lt.study.launch import complete_study, launcher_kind
    from rebasin_lt.study.launchers.record import Launcher
    from rebasin_lt.study.plan import plan
    from rebasin_lt.study.state import State

    where = Launcher(launcher_kind(launcher).name, workers, workers_per_gpu, threads, slurm)
    grid = Study(
        title=title,
        recipe=recipe,
        seeds=seeds,
        widths=widths or [1],
        methods=methods,
        matchers={"permuted": {}} if matchers is None else matchers,
        barrier=barrier,
        diversity=diversity,
        axes=axes or {},
        given=given,
    )
    folder = Path(out)
    try:
        check_study_folder(folder, grid)
    except InputError:
        from rebasin_lt.study.checks import check_names_and_types  # seconds, which a complete study need not wait

        check_names_and_types(grid)  # a misspelt setting makes no other study
        raise
    if dry_run:
        _print_plan(grid, State.of(plan(grid), folder, unsaid=True), probe)
        return
    state = complete_study(grid, folder, where)
    say(f"{len(state.plan)} of {len(state.plan)} stages are complete; rebasin-lt report {folder} shows them")


def _print_plan(grid: Study, state: State, probe: bool) -> None:
    """The stages, what is done, and the ledger."""
    from rebasin_lt.report.study.ledger import ledger_table
    from rebasin_lt.study import ledger
    from rebasin_lt.study.quick_checks import check_network_name, is_surely_right

    if not is_surely_right(grid):
        from rebasin_lt.study.checks import check_names_and_types  # imports torch

        check_names_and_types(grid)
    if len(state.done) < len(state.plan):
        check_network_name(grid)
    for path, stage in state.plan.items():
        epochs = f"{stage.epochs} epochs" if stage.epochs else ""
        say(f"{'done' if path in state.done else 'to do':<6} {epochs:>11}  {path}")
    seconds = ledger.probe(grid) if probe else None
    rows = ledger.ledger(state.plan, state.done, ledger.images_per_epoch(grid), seconds)
    say(f"\n{ledger_table(rows).to_text()}", end="")
