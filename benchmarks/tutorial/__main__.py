"""docs/tutorial.md, its figures and examples/tutorial.ipynb, out of the text beside this file and what its code gives.

python -m benchmarks.tutorial
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks.tutorial.cells import TEXT, cells_of, notebook_text, page_of, run

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run the code in a folder of its own, and write page and notebook."""
    os.environ["MPLBACKEND"] = "Agg"
    cells = cells_of(TEXT.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run(cells)
        os.chdir(ROOT)
    (ROOT / "docs" / "tutorial.md").write_text(page_of(cells, ROOT / "docs" / "images"), encoding="utf-8")
    (ROOT / "examples" / "tutorial.ipynb").write_text(notebook_text(cells), encoding="utf-8")


if __name__ == "__main__":
    main()
