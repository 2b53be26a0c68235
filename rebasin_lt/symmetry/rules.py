"""One small rule per ATen operator: what it asks of the axes of its tensors.

A rule receives a `Call` and returns the type of the operator's result, or a tuple of them; it unifies whatever layouts
must agree for the operator to commute with permutations. An operator without a rule is sound too: the tracer fixes all
that it touches. So a rule may only ever ask too much, never too little, which `Symmetry.verify` checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch

from rebasin_lt.symmetry.call import Call, Result, Rule
from rebasin_lt.symmetry.meaning import UNIT_LABELS, Meaning
from rebasin_lt.symmetry.operators import choices, elementwise, lookups, products, sequences, statistics, views
from rebasin_lt.symmetry.tensor_type import TensorType

_TABLES = (
    elementwise.ELEMENTWISE,
    views.VIEWS,
    lookups.LOOKUPS,
    choices.CHOICES,
    products.PRODUCTS,
    statistics.STATISTICS,
    sequences.SEQUENCES,
)
RULES: dict[str, Rule] = {name: rule for table in _TABLES for name, rule in table.items()}
MOVING: frozenset[Rule] = frozenset().union(*(table.moving for table in _TABLES))
READING: frozenset[Rule] = frozenset().union(*(table.reading for table in _TABLES))


def apply_rule(rule: Rule, call: Call) -> Result:
    """The result of a rule, after numbers that name units were forgotten if it is not one that knows of them."""
    if rule in READING:
        return rule(call)
    tensors = call.tensors[:1] if call.name.endswith("_as") else call.tensors
    meanings = [tensor.meaning for tensor in tensors if tensor.meaning is not None]
    if rule in MOVING and meanings and len(meanings) == len(tensors):
        if rule is elementwise.copied:
            return rule(call)
        if {meaning.kind for meaning in meanings} == {UNIT_LABELS}:
            for other in meanings[1:]:
                call.tie(meanings[0].layout, other.layout)
            return _with_meaning(rule(call), meanings[0], prod(tensors[0].shape) if len(tensors) == 1 else -1)
    for meaning in meanings:
        meaning.forget(f"numbers that name these units are read by {call.name}")
    return rule(call)


def _with_meaning(result: Result, meaning: Meaning, elements: int) -> Result:
    """The results with the meaning of what was moved; where elements were left out or came twice, of other labels."""

    def meant(tensor: TensorType) -> TensorType:
        return tensor.meaning_as(meaning if prod(tensor.shape) == elements else meaning.of_others())

    return tuple(map(meant, result)) if isinstance(result, tuple) else meant(result)


def is_alike(rule: Rule | None, inputs: Sequence[bool]) -> bool:
    """True if all elements of the result are alike: it is made so, or moves elements of one tensor that are."""
    if rule is elementwise.uniform:
        return True
    return rule in MOVING and rule not in (views.concatenation, views.stack) and inputs == [True]


def rule_of(operator: Any, rules: Mapping[str, Rule]) -> Rule | None:
    """The rule of an ATen operator; a variant that works in place (`relu_`) has that of the other (`relu`)."""
    schema = getattr(operator, "_schema", None)
    name, overload = (
        (str(operator), "") if schema is None else (schema.name.removeprefix("aten::"), schema.overload_name)
    )
    overload = overload or "default"
    plain = name.removesuffix("_")
    found = rules.get(name) or rules.get(plain)
    if found is None and "pointwise" in rules:
        variants = (operator, getattr(getattr(torch.ops.aten, plain, None), overload, None))
        if any(torch.Tag.pointwise in getattr(variant, "tags", ()) for variant in variants):
            return rules["pointwise"]
    return found
