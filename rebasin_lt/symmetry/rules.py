"""One small rule per ATen operator: what it asks of the axes of its tensors.

A rule receives a `Call` and returns the type of the operator's result, or a tuple of them; it unifies whatever layouts
must agree for the operator to commute with permutations. An operator without a rule is sound too: the tracer fixes all
that it touches. So a rule may only ever ask too much, never too little, which `Symmetry.verify` checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from rebasin_lt.symmetry.call import Rule
from rebasin_lt.symmetry.operators import elementwise, lookups, products, statistics, views

RULES: dict[str, Rule] = {
    **elementwise.ELEMENTWISE,
    **views.VIEWS,
    **lookups.LOOKUPS,
    **products.PRODUCTS,
    **statistics.STATISTICS,
}


def rule_of(operator: Any, rules: Mapping[str, Rule]) -> Rule | None:
    """The rule of an ATen operator; a variant that works in place (`relu_`) has that of the other (`relu`)."""
    name, _, overload = str(operator).removeprefix("aten.").partition(".")
    plain = name.removesuffix("_")
    found = rules.get(name) or rules.get(plain)
    if found is None and "pointwise" in rules:
        variants = (operator, getattr(getattr(torch.ops.aten, plain, None), overload, None))
        if any(torch.Tag.pointwise in getattr(variant, "tags", ()) for variant in variants):
            return rules["pointwise"]
    return found
