"""The axis algebra against brute force: every permutation of a few units is tried by enumeration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations, product
from math import factorial, prod

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rebasin_lt.symmetry import axes
from rebasin_lt.symmetry.axes import freeze, take, unify
from rebasin_lt.symmetry.layouts import Atom, Block, Layout, atoms_of, concatenate, fixed, free, resolve

Moves = dict[Atom, Sequence[int]]
few = settings(max_examples=80, deadline=None, derandomize=True)


def acts(layout: Layout, moves: Moves) -> tuple[int, ...]:
    """The axis' own index vector under permutations of its atoms."""
    layout = resolve(layout)
    index = np.arange(layout.size)
    for block in layout.blocks:
        moved = block.positions
        for k, atom in enumerate(block.atoms):
            moved = np.take(moved, moves[atom], axis=k)
        index[block.positions] = moved
    return tuple(index.tolist())


def every_move(atoms: Sequence[Atom]) -> Iterator[Moves]:
    for chosen in product(*(permutations(range(atom.size)) for atom in atoms)):
        yield dict(zip(atoms, chosen, strict=True))


def actions(layouts: Sequence[Layout]) -> set[tuple[tuple[int, ...], ...]]:
    """How all joint permutations act on some axes together."""
    return {tuple(acts(layout, moves) for layout in layouts) for moves in every_move(list(atoms_of(layouts)))}


def assert_alike(first: Layout, second: Layout) -> None:
    """The same units at the same positions, in whichever order copies of them are listed."""
    mine, other = (
        {
            block.atoms: {copy.tobytes() for copy in np.moveaxis(block.positions, -1, 0)}
            for block in resolve(axis).blocks
        }
        for axis in (first, second)
    )
    assert mine == other


@st.composite
def layouts(draw: st.DrawFn, size: int | None = None) -> Layout:
    """An axis made by the operations that operators are made of."""
    if size is None:
        size = draw(st.integers(1, 4))
    makers = [lambda: free(size), lambda: fixed(size, "given")]
    if size > 1:
        first = draw(st.integers(1, size - 1))
        makers.append(lambda: concatenate([draw(layouts(first)), draw(layouts(size - first))]))
    for factor in range(2, size):
        if size % factor == 0:
            makers.append(lambda factor=factor: axes.product([draw(layouts(factor)), draw(layouts(size // factor))]))
            makers.append(lambda factor=factor: concatenate([draw(layouts(factor))] * (size // factor)))
    if size == 4:
        makers.append(lambda: axes.product([free(2)] * 2))
    layout = draw(st.sampled_from(makers))()
    return take(layout, np.array(draw(st.permutations(range(size))))) if draw(st.booleans()) else layout


def pairs(count: int) -> st.SearchStrategy[tuple[Layout, ...]]:
    """Axes of the same size."""
    return st.sampled_from([2, 3, 4, 4, 6, 6]).flatmap(lambda size: st.tuples(*[layouts(size)] * count))


@few
@given(layouts(), layouts())
def test_product_acts_as_both_axes_do(first: Layout, second: Layout) -> None:
    both = axes.product([first, second])
    grid = np.arange(both.size).reshape(first.size, second.size)
    for moves in every_move(list(atoms_of([both]))[:3]):
        known = {**{atom: range(atom.size) for atom in atoms_of([first, second])}, **moves}
        expected = grid[np.ix_(acts(first, known), acts(second, known))]
        assert acts(both, known) == tuple(expected.ravel().tolist())


@few
@given(layouts(), layouts())
def test_concatenation_acts_on_each_piece(first: Layout, second: Layout) -> None:
    both = concatenate([first, second])
    for moves in every_move(list(atoms_of([both]))[:3]):
        known = {**{atom: range(atom.size) for atom in atoms_of([first, second])}, **moves}
        shifted = [position + first.size for position in acts(second, known)]
        assert acts(both, known) == (*acts(first, known), *shifted)


@few
@given(st.data())
def test_take_keeps_just_what_keeps_the_part_together(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    indices = data.draw(st.lists(st.sampled_from(range(layout.size)), unique=True, min_size=1))
    before = actions([layout])
    taken = take(layout, np.array(indices))
    kept = {(whole,) for (whole,) in before if {whole[i] for i in indices} == set(indices)}
    assert actions([layout]) <= kept
    for whole, part in actions([layout, taken]):
        assert tuple(indices[i] for i in part) == tuple(whole[i] for i in indices)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(pairs(2))
def test_unify_leaves_only_permutations_that_act_alike_on_both_axes(pair: tuple[Layout, Layout]) -> None:
    first, second = pair
    assume(prod(factorial(atom.size) for atom in atoms_of(pair)) <= 1000)
    alike = {pair for pair in actions([first, second]) if pair[0] == pair[1]}
    unify(first, second, "the test")
    assert_alike(first, second)
    left = actions([first, second])
    assert left <= alike
    assert (tuple(range(first.size)),) * 2 in left


@few
@given(pairs(3))
def test_agreement_is_kept_by_further_agreements(triple: tuple[Layout, Layout, Layout]) -> None:
    first, second, third = triple
    unify(first, second)
    unify(second, third)
    assert_alike(first, second)
    assert_alike(first, third)


@few
@given(layouts())
def test_axis_agrees_with_itself_at_no_cost(layout: Layout) -> None:
    before = actions([layout])
    unify(layout, layout)
    assert actions([layout]) == before


@pytest.mark.parametrize(
    ("first", "second", "count"),
    [
        (free(4), free(4), 24),
        (free(4), fixed(4), 1),
        (free(6), axes.product([free(2), free(3)]), 2 * 6),
        (axes.product([free(2), free(3)]), axes.product([free(2), free(3)]), 2 * 6),
        (axes.product([free(2), free(2)]), axes.product([free(4)]), 4),
        (concatenate([free(3), free(2)]), concatenate([free(2), free(3)]), 4),  # 2 + 1 + 2
        (concatenate([free(3), fixed(1)]), free(4), 6),
        (axes.product([free(8)]), axes.product([free(2), free(2), free(2)]), 8),
        (axes.product([free(2), free(4)]), axes.product([free(4), free(2)]), 8),  # both are 2 × 2 × 2
        (axes.product([free(2), free(3)]), axes.product([free(3), free(2)]), 1),
    ],
)
def test_unify_leaves_as_many_permutations_as_there_are(first: Layout, second: Layout, count: int) -> None:
    unify(first, second, "the test")
    assert len(actions([first, second])) == count


def test_atom_at_other_places_keeps_only_what_does_not_move() -> None:
    layout = free(5)
    unify(layout, take(layout, np.array([1, 0, 2, 3, 4])), "a swap")
    assert sorted(acts(layout, moves)[:2] for moves in every_move(list(atoms_of([layout])))) == [(0, 1)] * 6


def test_fixed_axis_says_why_and_who_agreed_with_it() -> None:
    layout = free(3)
    freeze(layout, "first reason")
    freeze(layout, "second reason")
    other = free(3)
    unify(other, layout, "third reason")
    assert [resolve(axis).reason for axis in (layout, other)] == ["first reason"] * 2
    assert resolve(other).is_fixed


def test_axes_of_different_sizes_cannot_agree() -> None:
    with pytest.raises(ValueError, match="axes of 3 and 4 units cannot agree"):
        unify(free(3), free(4))


def test_axis_of_one_unit_has_nothing_to_permute() -> None:
    assert free(1).is_fixed
    assert list(atoms_of([free(1), fixed(4)])) == []


def test_atom_is_listed_once_however_often_it_occurs() -> None:
    layout = free(3)
    (atom,) = atoms_of([layout, concatenate([layout, layout]), axes.product([layout, fixed(2)])])
    twice = resolve(concatenate([layout, layout]))
    assert [block.positions.shape for block in twice.blocks] == [(3, 2)]
    assert Block((atom,), twice.blocks[0].positions).atoms == twice.blocks[0].atoms


def test_bindings_may_be_as_deep_as_a_network() -> None:
    """A residual stream is bound to every block's output in turn; Python's own stack would not hold so many."""
    blocks = [free(4) for _ in range(3000)]
    for block in blocks[1:]:
        unify(blocks[0], block)
    assert len(list(atoms_of(blocks))) == 1
    assert_alike(blocks[1], blocks[-1])


def test_an_axis_that_was_resolved_before_follows_what_its_units_turn_out_to_be() -> None:
    axis, heads, channels = free(6), free(2), free(3)
    assert [atom.size for atom in atoms_of([axis])] == [6]
    unify(axis, axes.product([heads, channels]))
    assert list(atoms_of([axis])) == list(atoms_of([heads, channels]))
    freeze(channels, "why")
    assert list(atoms_of([axis])) == list(atoms_of([heads]))
    freeze(heads, "why")
    assert resolve(axis).is_fixed
