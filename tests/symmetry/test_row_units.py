"""Experts that are looked up for each example: each row lies in the one that its label names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from looked_up import ByChoice, InSums, LookedUp
from torch import Tensor, nn

from rebasin_lt.errors import SymmetryError
from rebasin_lt.symmetry import nesting, row_units
from rebasin_lt.symmetry.trace import trace_symmetry


class ByOthers(LookedUp):
    """What comes out is computed by other experts than what goes in."""

    def read(self, labels: Tensor) -> Tensor:
        return labels.view(-1, 2).flip(1).flatten()


class AcrossRows(LookedUp):
    """Each hidden unit is compared with that of all other rows, whichever experts they are of."""

    def inside(self, hidden: Tensor) -> Tensor:
        return hidden.relu() - hidden.mean(0)


class NormedRows(LookedUp):
    """Halves of the hidden units, cut, seen otherwise and put together by element, are still of the same experts."""

    def inside(self, hidden: Tensor) -> Tensor:
        first, second = hidden.view(-1, 1, 5).squeeze(1), hidden[:, :5]
        return first.relu() * second.sigmoid()


class ChoicesByOthers(ByChoice):
    """What comes out is computed by the other expert of each example."""

    def read(self, labels: Tensor) -> Tensor:
        return labels.flip(-1)


class SumsByOthers(InSums):
    """The same in sums."""

    def read(self, labels: Tensor) -> Tensor:
        return labels.flip(-1)


class AcrossChoices(ByChoice):
    """Each hidden unit is compared with that of the example's other expert."""

    def inside(self, hidden: Tensor) -> Tensor:
        return hidden.relu() - hidden.mean(-2, keepdim=True)


class MixedChoices(InSums):
    """Rows change places in a product: hidden units of both experts of an example are added up in two ways."""

    def inside(self, hidden: Tensor) -> Tensor:
        return torch.einsum("bkh,kj->bjh", hidden.relu(), torch.tensor([[1.0, 2.0], [3.0, 4.0]]).to(hidden))


class ProductOfChoices(InSums):
    """The same in a product of matrices whose rows are those of the choices."""

    def inside(self, hidden: Tensor) -> Tensor:
        return torch.tensor([[1.0, 2.0], [3.0, 4.0]]).to(hidden).expand(len(hidden), 2, 2) @ hidden.relu()


class ChoicesApart(ByChoice):
    """Of the first choice alone, then of both again: a cut along the rows."""

    def inside(self, hidden: Tensor) -> Tensor:
        return hidden.relu() + hidden.sin()[..., :1, :]


ROWS = [LookedUp, NormedRows, ByChoice, InSums]
NO_ROWS = [ByOthers, AcrossRows, ChoicesByOthers, SumsByOthers, AcrossChoices]
NO_ROWS += [MixedChoices, ProductOfChoices, ChoicesApart]


@pytest.mark.parametrize(("kind", "nests"), [*((kind, True) for kind in ROWS), *((kind, False) for kind in NO_ROWS)])
def test_experts_that_are_looked_up_permute_their_hidden_units_each_in_its_own_way(
    kind: type[LookedUp], nests: bool
) -> None:
    """As long as each row stays with its expert; what is wrong about that the trace would refuse."""
    torch.manual_seed(0)
    symmetry = trace_symmetry(kind().double(), torch.randn(6, 3, dtype=torch.float64))
    (hidden,) = (group for group, size in symmetry.groups.items() if size == 5)
    assert symmetry.within.get(hidden, ()) == (("gate.weight",) if nests else ())
    assert symmetry.groups["gate.weight"] == 4
    assert symmetry.error < 1e-12
    assert len(symmetry.observations[hidden]) >= 1
    assert (symmetry.observations[hidden][0].route is not None) == nests  # each row shows the units of one expert alone


class ByAll(LookedUp):
    """What one expert has hidden is read by all."""

    def inside(self, hidden: Tensor) -> Tensor:
        return hidden.relu() + torch.einsum("th,edh->t", hidden, self.w2)[:, None]


@pytest.mark.slow
def test_rows_of_several_experts_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of the proof left out finds nested groups that are none, which the numerical check refuses."""
    x = torch.randn(6, 3, dtype=torch.float64)
    wrong: list[tuple[Any, str, Any, type[nn.Module]]] = [
        (row_units, "_SAME", (*row_units._SAME, "mean", "sub"), AcrossRows),
        (nesting, "meets_others", lambda *_: False, ByOthers),
        (nesting, "_beside", lambda *_: set(), ByAll),
        (row_units, "_keeps_letters", lambda *_: True, MixedChoices),
        (row_units, "_MATRICES", (), ProductOfChoices),
    ]
    assert all(group in ("gate.weight", "enter.weight") for group in trace_symmetry(ByAll().double(), x).within)
    for owner, name, changed, kind in wrong:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, changed)
            if kind is AcrossRows:
                patch.setattr(row_units, "_first_value", lambda node: torch.zeros(1, 1, 1))
            with pytest.raises(SymmetryError, match="the symmetry found is not one of this network"):
                trace_symmetry(kind().double(), x)
