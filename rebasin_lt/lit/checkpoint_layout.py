"""The place of a network's weights in a checkpoint of other code: in which entry, and behind which prefix."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, equal

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.lit.checkpoint_content import MASK, METADATA, check_tensors, is_extra_state, is_ours, network_names
from rebasin_lt.pruning.foreign import dense_name, import_state
from rebasin_lt.pruning.mask import Mask

_COUNT = "num_batches_tracked"
_DEPTH = 3  # of entries within entries
_Level = tuple[tuple[str, ...], Mapping[str, Any]]  # entries, after the keys that lead to them


class FoundState(NamedTuple):
    """A network's state under its own names, the mask in the file, and the file and place in words, for errors."""

    state: dict[str, Tensor]
    mask: Mask | None
    where: str


class _Place(NamedTuple):
    """Entries of a checkpoint, the keys that lead to them, and a prefix that stands before names there."""

    keys: tuple[str, ...]
    entries: Mapping[str, Any]
    prefix: str
    num_names: int  # of the network that are there

    def __str__(self) -> str:
        return " ".join(repr(part) for part in (*self.keys, self.prefix) if part)

    def state(self) -> dict[str, Any]:
        cut = len(self.prefix)
        return {name[cut:]: value for name, value in self.entries.items() if name.startswith(self.prefix)}


def state_in(content: Mapping[str, Any], names: Collection[str], path: Path | str) -> FoundState:
    """The state of a network, of which `names` are wanted; `content` is what `read_checkpoint` gives of `path`.

    In a file of our modules its place is known. In any other it is the entry (`state_dict`, `model`, `ema`, …) and the
    prefix (`module.`, `model._orig_mod.`, …) behind which all of `names` are found. `state_dict` comes before other
    entries; what else the file holds is left aside. Weights pruned by torch.nn.utils.prune come as by `import_state`.
    A part of names that begins with `_` and that the network does not know is a wrapper's of a module inside
    (`layer1._orig_mod.weight`), and left out; a batch norm's count of batches may be missing. Where no place has all
    names, it is the one that has most, and `load_state` says what is missing.

    Raises InputError for a file with none of the names, or with several such places whose weights differ, and
    BrokenFileError for entries that are no tensors.
    """
    mask = Mask(content[MASK]) if MASK in content else None
    if is_ours(content):
        state = network_names(content["state_dict"], ours=True)
        check_tensors(state, "state dict", path)
        return FoundState(state, mask, str(path))
    uncounted = _uncounted(content, names)
    names = [name for name in names if name not in uncounted]
    place = _place(content, names, path)
    state = place.state()
    if place.num_names == len(names):
        state = {name: value for name, value in state.items() if isinstance(value, Tensor) or is_extra_state(name)}
    check_tensors(state, "state dict", path)
    try:
        state, imported = import_state(state, names)
    except BrokenFileError as error:
        raise BrokenFileError(f"{path}: {error}") from error
    state.update({name: torch.tensor(0) for name in uncounted})
    if mask is not None and all(name.startswith(place.prefix) for name in mask):
        mask = Mask({name.removeprefix(place.prefix): tensor for name, tensor in mask.content.items()})
    return FoundState(state, imported if mask is None else mask, f"{path} (under {place})" if str(place) else str(path))


def _uncounted(content: Mapping[str, Any], names: Collection[str]) -> set[str]:
    """The counts of batches among `names`, if the file has none, as before PyTorch 0.4.1: they begin at 0 then."""
    if any(str(name).endswith(_COUNT) for _, level in _within(content) for name in level):
        return set()
    return {name for name in names if name.endswith(_COUNT)}


def _place(content: Mapping[str, Any], names: Collection[str], path: Path | str) -> _Place:
    """The one place that has all of `names`, or else the one that has most of them."""
    state, rest = content["state_dict"], {key: value for key, value in content.items() if key not in (METADATA, MASK)}
    usual = list(_places([((), state)], names))
    others = list(_places([*_within(state), *_within({**rest, "state_dict": None})], names))
    for found in (usual, others):
        whole = [place for place in found if place.num_names == len(names)]
        if any(not _alike(whole[0], place) for place in whole[1:]):
            raise InputError(
                f"checkpoint {path} holds this network {len(whole)} times, with other weights under "
                f"{', '.join(map(str, whole))}: save the one that you mean alone"
            )
        if whole:
            return whole[0]
    best = max([*usual, *others], key=lambda place: place.num_names)
    if not best.num_names:
        tensors = (
            repr(name) for place in others + usual for name, value in place.entries.items() if isinstance(value, Tensor)
        )
        raise InputError(
            f"checkpoint {path} lacks {next(iter(names))}, which the network has, in every entry and behind every "
            f"prefix; it has {next(tensors, 'no tensor by a name'):.100}: is it of another architecture?"
        )
    return best


def _within(entries: Mapping[str, Any], keys: tuple[str, ...] = ()) -> Iterator[_Level]:
    """The mappings in a mapping, and those in them, each with the keys that lead to it."""
    for key, value in entries.items():
        if isinstance(value, Mapping) and len(keys) < _DEPTH:
            yield (*keys, str(key)), value
            yield from _within(value, (*keys, str(key)))


def _places(levels: Iterable[_Level], names: Collection[str]) -> Iterator[_Place]:
    """For each level, every prefix behind which it has names of the network; none but "" where that has all."""
    for keys, level in levels:
        entries = _without_wrappers({name: value for name, value in level.items() if isinstance(name, str)}, names)
        counts = Counter({"": 0})
        for name in entries:
            dense = dense_name(name, entries)
            # without its mask beside it, a weight of torch.nn.utils.prune is refused later, where its place is known
            known = {dense, dense.removesuffix("_orig")}
            counts.update(each.removesuffix(end) for each in known for end in _ends(each) if end in names)
        if counts[""] == len(names):
            counts = Counter({"": counts[""]})
        yield from (_Place(keys, entries, prefix, count) for prefix, count in counts.items())


def _ends(name: str) -> Iterator[str]:
    """The name without its first parts, from none of them to all but the last."""
    parts = name.split(".")
    yield from (".".join(parts[cut:]) for cut in range(len(parts)))


def _without_wrappers(entries: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any]:
    """The entries by names without what wrappers of modules inside put there, unless two would have one name."""
    known = {part for name in names for part in name.split(".")}
    bare = {
        name: re.sub(r"(?<=\.)(_\w+)\.", lambda part: part[0] if part[1] in known else "", name) for name in entries
    }
    return {bare[name]: value for name, value in entries.items()} if len({*bare.values()}) == len(bare) else entries


def _alike(first: _Place, second: _Place) -> bool:
    """True if two places hold the same weights."""
    one, other = first.state(), second.state()
    return one.keys() == other.keys() and all(
        value.dtype == other[name].dtype and equal(value, other[name])
        for name, value in one.items()
        if isinstance(value, Tensor) and isinstance(other[name], Tensor)
    )
