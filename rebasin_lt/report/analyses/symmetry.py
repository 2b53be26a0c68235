"""A description of a network's symmetry, for people and for machines."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence

from rebasin_lt.report.kit.tables import Table, numbers, texts
from rebasin_lt.symmetry.groups import Frozen
from rebasin_lt.symmetry.infer import AN_INPUT
from rebasin_lt.symmetry.trace import Symmetry

Units = int | str
_LAYERS_SHOWN = 10  # layers of which hidden units that stay fixed are told
_GIVEN = (
    *(AN_INPUT, "an output of the network", "kernel positions", "not used in evaluation mode"),
    "rows are looked up by index",
)
_SHOWN = 3  # names given as examples of what is frozen for one reason


def as_text(symmetry: Symmetry) -> str:
    """A table of the groups, then totals, what is frozen and why, and the error of the check.

    Groups alike but for one number in their names share a line: `layer1.{0-2}.conv1.weight` stands for three. Of a
    nested group, `units` says how many units there are around it, too: `12 × 64`.
    """
    tensors = _tensors_by_group(symmetry)
    groups = _condensed((group, _sizes(symmetry, group), len(tensors[group])) for group in symmetry.groups)
    columns = [*texts("group"), *numbers("units", "tensors", "groups")]
    units = sum(map(symmetry.num_units, symmetry.groups))
    rows = [[name, size, touched, count if count > 1 else ""] for name, size, touched, count in groups]
    lines = [
        Table(columns, rows).to_text(),
        f"{len(symmetry.groups)} {'group' if len(symmetry.groups) == 1 else 'groups'} of {units:,} units, "
        f"10^{symmetry.log10:,.0f} permutations",
        f"Coverage: they move {_percent(symmetry.coverage)} of the parameters' elements",
        _checked(symmetry),
        "",
        *_hidden_lines(symmetry.frozen),
        *_frozen_lines(symmetry.frozen),
        *_unknown_lines(symmetry),
    ]
    return "\n".join(lines)


def as_json(symmetry: Symmetry) -> str:
    """The same as one JSON object, with all names."""
    tensors = _tensors_by_group(symmetry)
    return json.dumps(
        {
            "groups": {
                group: {
                    "units": units,
                    **({"within": list(symmetry.within[group])} if group in symmetry.within else {}),
                    "tensors": tensors[group],
                }
                for group, units in symmetry.groups.items()
            },
            "num_groups": len(symmetry.groups),
            "num_units": sum(map(symmetry.num_units, symmetry.groups)),
            "coverage": symmetry.coverage,
            "log10_symmetries": symmetry.log10,
            "frozen": [
                {
                    "reason": reason,
                    "axes": [{"name": entry.name, "axis": entry.axis, "units": entry.units} for entry in entries],
                }
                for reason, entries in frozen_by_reason(symmetry.frozen).items()
            ],
            "hidden_fixed": [entry._asdict() for entry in hidden_units_fixed(symmetry.frozen)],
            "unknown": dict(symmetry.unknown),
            "error": symmetry.error,
            "checked_in": symmetry.checked_in,
        },
        indent=2,
    )


def _sizes(symmetry: Symmetry, group: str) -> Units:
    """The number of a group's units, behind those of the groups around it."""
    around = symmetry.around(group)
    return " × ".join(map(str, (*around, symmetry.groups[group]))) if around else symmetry.groups[group]


def hidden_units_fixed(frozen: Iterable[Frozen]) -> list[Frozen]:
    """Of what is frozen, one axis for each layer and reason, but for what no network could exchange.

    Those are its inputs and outputs, rows that are looked up, places in kernels, and layers that are not used.
    """
    layers: dict[tuple[str, str], Frozen] = {}
    for entry in frozen:
        if not entry.reason.startswith(_GIVEN):
            found = layers.setdefault((entry.name.rpartition(".")[0], entry.reason), entry)
            if entry.units > found.units:
                layers[found.name.rpartition(".")[0], entry.reason] = entry
    return list(layers.values())


def _hidden_lines(frozen: Sequence[Frozen]) -> list[str]:
    entries = hidden_units_fixed(frozen)
    if not entries:
        return []
    lines = [f"  {entry.units} of {entry.name}: {entry.reason}" for entry in entries[:_LAYERS_SHOWN]]
    more = [f"  and in {len(entries) - _LAYERS_SHOWN} more layers"] if len(entries) > _LAYERS_SHOWN else []
    return ["Hidden units that stay fixed", *lines, *more, ""]


def frozen_by_reason(frozen: Iterable[Frozen]) -> dict[str, list[Frozen]]:
    """The frozen axes by reason, the most frequent reason first."""
    reasons: dict[str, list[Frozen]] = {}
    for entry in frozen:
        reasons.setdefault(entry.reason, []).append(entry)
    return dict(sorted(reasons.items(), key=lambda item: -len(item[1])))


def _tensors_by_group(symmetry: Symmetry) -> dict[str, list[str]]:
    tensors: dict[str, list[str]] = {group: [] for group in symmetry.groups}
    for name, axes in symmetry.axes.items():
        for group in dict.fromkeys(group for axis in axes for group in axis.groups):
            tensors[group].append(name)
    return tensors


def _condensed(rows: Iterable[tuple[str, Units, int]]) -> list[tuple[str, Units, int, int]]:
    """Rows (name, units, tensors), with those that differ in one number of the name only made one, and their count.

    A row takes in the later ones along the number that makes most of them alike; no row is in two.
    """
    left = {name: (units, touched) for name, units, touched in rows}
    alike: dict[tuple[object, ...], list[str]] = {}
    for name in left:
        for key in _patterns(name, left[name]):
            alike.setdefault(key, []).append(name)
    result = []
    for name, sizes in dict(left).items():
        if name not in left:
            continue
        families = [
            (k, [other for other in alike[key] if other in left]) for k, key in enumerate(_patterns(name, sizes))
        ]
        k, family = max(families, key=lambda item: len(item[1]), default=(0, [name]))
        for other in family:
            del left[other]
        result.append((_joint_name(family, 2 * k + 1), *sizes, len(family)))
    return result


def _patterns(name: str, sizes: tuple[Units, int]) -> list[tuple[object, ...]]:
    """For each number in the name, what must be equal in another name that differs in it only."""
    parts = re.split(r"(\d+)", name)
    return [(sizes, k, *parts[:k], "", *parts[k + 1 :]) for k in range(1, len(parts), 2)]


def _joint_name(names: Sequence[str], k: int) -> str:
    if len(names) == 1:
        return names[0]
    parts = re.split(r"(\d+)", names[0])
    numbers = sorted(int(re.split(r"(\d+)", name)[k]) for name in names)
    return "".join([*parts[:k], "{" + _ranges(numbers) + "}", *parts[k + 1 :]])


def _ranges(numbers: Sequence[int]) -> str:
    """`0,2-5` for 0, 2, 3, 4, 5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)


def _percent(fraction: float) -> str:
    """Two decimals, rounded down: 100 % means all of them."""
    return f"{math.floor(fraction * 1e4) / 100:.2f}".removesuffix(".00") + " %"


def _checked(symmetry: Symmetry) -> str:
    if symmetry.error is None:
        return "Not verified"
    single = " in float32, for the network does not run in float64" if symmetry.checked_in == "float32" else ""
    return f"Verified: a random permutation changes the outputs by a relative error of {symmetry.error:.1e}{single}"


def _frozen_lines(frozen: Sequence[Frozen]) -> list[str]:
    if not frozen:
        return ["Nothing is frozen"]
    lines = ["Frozen axes"]
    for reason, entries in frozen_by_reason(frozen).items():
        names = list(dict.fromkeys(entry.name for entry in entries))
        more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        lines.append(f"  {len(entries)} × {reason}: {', '.join(names[:_SHOWN])}{more}")
    return lines


def _unknown_lines(symmetry: Symmetry) -> list[str]:
    if not symmetry.unknown:
        return []
    return [
        "Operators that are not followed; all that they touch is frozen",
        *(f"  {text}" for text in symmetry.unknown.values()),
    ]
