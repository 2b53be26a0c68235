"""Whether a network under A's mask ends in the basin of A's ticket: the table of docs/signs.md.

    PYTHONPATH=. python -m benchmarks.basins runs/results/resnet20 runs/results/vgg11 [--out DIR]

For every pair of finished studies that have these masks: the line from A's ticket (LTH) to B trained under A's mask,
unpermuted and permuted, without and with A's signs. The ticket is permuted with the mask. Statistics of batch norm are
estimated on augmented images; what is kept is the error barrier and the errors at the ends and in the middle.
Lines that the results hold already are not measured again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks._figures import RESULTS
from benchmarks._page import DOCS, between
from rebasin_lt.analyses.barrier import measure_barriers
from rebasin_lt.experiment.file_names import FINAL
from rebasin_lt.report.kit.tables import Cell, Column, Table
from rebasin_lt.report.study.accuracy import spread_of
from rebasin_lt.settings.options import BarrierOptions
from rebasin_lt.storage.files import write_json, write_text
from rebasin_lt.study.folder import read_study

LINES = (("naive", ""), ("naive", "+mask"), ("permuted", ""), ("permuted", "+mask"))
"""How B is trained, without and with A's signs; the ticket that it is held against has them or not as well."""
_OWN = {False: "B's own", True: "the ticket's"}
_IDENTITY = ("study", "place", "seed", "method", "signs")
Record = dict[str, Any]


def lines_of(runs: Path) -> Iterator[tuple[Record, dict[str, Any]]]:
    """What is measured of every pair of a study that has the runs, and the options of `barrier` for it."""
    title = read_study(runs).title
    for seed in sorted(runs.glob("width=*/seed=*")):
        for ticket in sorted(seed.glob("sparse/method=lth,*")):
            cell = ticket.name.partition(",")[2]
            sparsity = cell.partition("sparsity=")[2].partition(",")[0]
            for method, signs in LINES:
                ends = [seed / "sparse" / f"method={name}{signs},{cell}" / FINAL for name in ("lth", method)]
                permutation = seed / "match" / "permuted" / f"sparsity-{sparsity}.perm.safetensors"
                given = {"permutation": str(permutation)} if method == "permuted" else {}
                if all(path.is_file() for path in ends):
                    place = f"{seed.parent.name},{cell}"
                    about = {"study": title, "place": place, "seed": int(seed.name.partition("=")[2]), "method": method}
                    yield about | {"signs": bool(signs)}, {"ckpt_a": str(ends[0]), "ckpt_b": str(ends[1]), **given}


def measured(given: dict[str, Any], num_images: int, num_test_images: int) -> Record:
    """The error along the line after BN reset, from the permuted ticket where B's mask is permuted."""
    options = BarrierOptions(
        **given, num_images=num_images, num_test_images=num_test_images, num_alphas=5, splits=("test",), augment=True,
        corrections=("bn_reset",),
    )  # fmt: skip
    when = "after" if options.permutation else "before"
    with TemporaryDirectory() as folder:
        result = measure_barriers(options, Path(folder) / "barrier")
    (curve,) = (curve for curve in result["curves"] if curve["alignment"] == when)
    first, *_, last = curve["error"]
    return {"barrier": curve["error_barrier"], "ticket": first, "trained": last, "middle": curve["error"][2]}


def table(records: Sequence[Record]) -> Table:
    """A row per study, cell of it, and way to train B."""
    rows: list[list[Cell]] = []
    for study, place in dict.fromkeys((record["study"], record["place"]) for record in records):
        for method, signs in LINES:
            found = [record for record in records if _cell(record) == (study, place, method, bool(signs))]
            if found:
                numbers = [spread_of([record[name] for record in found]) for name in ("ticket", "trained", "barrier")]
                moved = "permuted" if method == "permuted" else "as it is"
                trained = f"{moved}, {_OWN[bool(signs)]} signs"
                rows.append([
                    f"{study}, {place.replace(',', ', ')}",
                    trained,
                    *(each and each.scaled(100) for each in numbers),
                    len(found),
                ])
    columns = [Column("study", align="left"), Column("A's mask on B", align="left")]
    columns += [Column(title, spread="std") for title in ("error of A's ticket (%)", "of B (%)", "error barrier (%)")]
    caption = "After BN reset on augmented images, mean ± sample standard deviation over pairs"
    return Table([*columns, Column("pairs", decimals=0)], rows, caption)


def _cell(record: Record) -> tuple[str, str, str, bool]:
    return record["study"], record["place"], record["method"], record["signs"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not there, and write the results and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", help="folders of finished studies; none writes the table alone")
    parser.add_argument("--num-images", type=int, default=4000, help="training images for statistics")
    parser.add_argument("--num-test-images", type=int, default=4000, help="test images")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of basins.json")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of signs.md")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    path = given.out / "basins.json"
    records: list[Record] = json.loads(path.read_text(encoding="utf-8"))["lines"] if path.exists() else []
    for runs in given.runs:
        for about, options in lines_of(runs):
            if not any(all(record[name] == about[name] for name in _IDENTITY) for record in records):
                records.append({**about, **measured(options, given.num_images, given.num_test_images)})
                records.sort(key=lambda record: (*_cell(record), record["seed"]))
                write_json(path, {"made_by": "python -m benchmarks.basins", "lines": records})
                print(json.dumps(about), flush=True)
    page = given.docs / "signs.md"
    write_text(page, between(page.read_text(encoding="utf-8"), "basins table", table(records).to_markdown().rstrip()))


if __name__ == "__main__":
    main()
