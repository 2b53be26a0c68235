"""Seconds until something happens: to import the package, and to the end of the first step of `fit` on digits.

    python -m benchmarks.startup [--repeats 7] [--out benchmarks/results] [--page docs/performance.md]

New interpreters, one after another: `import rebasin_lt` by its own clock, and `rebasin-lt fit --config dense.yaml` from
the start of the process until its first step is done, Python's start and PyTorch's import included. Seconds are of the
processor's time, on one thread; on an idle machine they pass on the wall, files read from the disk apart.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lightning import Callback

from benchmarks._figures import Figure, now, options, record, spread

_IMPORT = "import time; begun = time.process_time(); import rebasin_lt; print(time.process_time() - begun)"
_FIT = "from rebasin_lt.cli import main; main({arguments})"


class FirstStep(Callback):
    """Prints the processor's time of this process when the first step is done, and ends it."""

    def on_train_batch_end(self, *_: object) -> None:
        print(now())
        raise SystemExit


def import_seconds() -> float:
    """Of `import rebasin_lt` in a new interpreter."""
    return _last_number(_IMPORT, Path.cwd())


def first_step_seconds(folder: Path) -> float:
    """Of a new process, until the first step of `rebasin-lt fit --config dense.yaml`."""
    arguments = ["fit", "--config=dense.yaml", "--trainer.accelerator=cpu", f"--trainer.default_root_dir={folder}"]
    arguments.append("--trainer.callbacks+=benchmarks.startup.FirstStep")
    return _last_number(_FIT.format(arguments=arguments), folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = options("startup", __doc__)
    parser.add_argument("--repeats", type=int, default=7, help="processes of either kind")
    given = parser.parse_args(arguments)
    imports, steps = [], []
    for _ in range(given.repeats):
        imports.append(1000 * import_seconds())
        with tempfile.TemporaryDirectory() as folder:
            steps.append(first_step_seconds(Path(folder)))
    figures = [
        Figure("`import rebasin_lt`", "a new interpreter", "", spread(imports), "≤ 50", "ms"),
        Figure("processor's time to the first step of `fit` on digits", "a new process", "", spread(steps), "≤ 6", "s"),
    ]
    record("startup", given, figures, repeats=given.repeats, threads=1)


def _last_number(code: str, folder: Path) -> float:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder, env=environment)
    return float(output.stdout.split()[-1])


if __name__ == "__main__":
    main()
