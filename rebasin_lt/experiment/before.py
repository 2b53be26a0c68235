"""What can be said of a mask before anything is trained under it: does it fit what was learnt, and the network B?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.experiment.file_names import rewind_name
from rebasin_lt.settings.options import MaskOptions, PermuteOptions

if TYPE_CHECKING:
    from torch import Tensor

    from rebasin_lt.pruning.mask import Mask


class Measure(NamedTuple):
    """All there is to know of a number that is known before training."""

    label: str
    meaning: str
    decimals: int
    chance: str | float | None = None  # the key of what chance gives, or what it always gives


BEFORE_TRAINING: dict[str, Measure] = {
    "init_memory": Measure(
        "init memory (IoU)",
        "Overlap of A's mask with the one-shot mask of A's initial weights: a mask that fits its initialisation cannot "
        "be moved.",
        3,
        "init_memory_chance",
    ),
    "init_share": Measure(
        "initial weights left",
        "exp(−Σ rate · decay / (1 − momentum)) over the steps of A's training: what weight decay leaves of the initial "
        "weights.",
        4,
    ),
    "sign_agreement": Measure(
        "signs that agree",
        "Share of the kept weights whose sign, moved with the mask, is that in B.",
        3,
        0.5,
    ),
    "own_overlap": Measure(
        "overlap with B's one-shot mask (IoU)",
        "Overlap of the moved mask with the one-shot mask of B's weights.",
        3,
        "own_overlap_chance",
    ),
}
"""What is known of a mask before training, by its key in `result.json`, in the order of tables."""

KEYS = tuple(key for name, m in BEFORE_TRAINING.items() for key in (name, m.chance) if isinstance(key, str))
"""Those keys, each with that of what chance gives."""

_UNKNOWN = "init memory (how much of A's mask its initial weights alone would give) is not known"
_REMEMBERS = 0.15  # init memory above chance from which the mask is taken for that of its initialisation
_CHANCE, _LITTLE = 0.55, 0.65  # agreement of signs up to which it is no better than chance, and little better


class Beginning(NamedTuple):
    """What is known of the beginning of A's training."""

    weights: Mapping[str, Tensor] | None  # before any step
    share: float | None  # that is left of them at the end
    missing: tuple[str, ...]  # a sentence for each that is not known


def beginning_of(ckpt: str | None, init: str | None, masks: Iterable[Mask]) -> Beginning:
    """The beginning of the training of `ckpt`: the weights in `init`, else in `rewind/0it.ckpt` beside it, if there.

    Of the two, one at least is given. The weights have the names of the `masks`, wrappers' prefixes removed; those
    beside `ckpt` that are damaged or of another network are not known: nobody named them.

    Raises InputError for an `init` that holds weights of a later moment, or of another network than the masks; and
    BrokenFileError for one that is damaged, or whose weights are not finite.
    """
    from rebasin_lt.lit.weight_decay import NotRecorded, share_left
    from rebasin_lt.storage.paths import expanded

    weights, missing = None, []
    path = Path(expanded(init)) if init is not None else Path(expanded(str(ckpt))).parent / rewind_name("0it")
    if init is not None or path.is_file():
        try:
            weights = _initial_weights(path, masks)
        except (InputError, BrokenFileError) as error:
            if init is not None:
                raise
            missing.append(f"{_UNKNOWN}: {str(error).removeprefix('--init-a ')}; name it by --init-a")
    else:
        missing.append(f"{_UNKNOWN}: no {rewind_name('0it')} beside {ckpt}; name it by --init-a")
    share = None
    try:
        share = None if ckpt is None else share_left(expanded(ckpt))
    except NotRecorded as error:
        missing.append(f"the share of the initial weights that is left is not known: {error}")
    return Beginning(weights, share, tuple(missing))


def _initial_weights(path: Path, masks: Iterable[Mask]) -> dict[str, Tensor]:
    """The weights in a checkpoint, if they are those before any step of the network of the masks. Raises InputError."""
    from rebasin_lt.lit.checkpoint import METADATA, read_checkpoint
    from rebasin_lt.lit.checkpoint_file import check_finite
    from rebasin_lt.lit.checkpoint_layout import state_in

    content = read_checkpoint(path)
    about = content.get(METADATA, {})
    steps = about.get("global_step", content.get("global_step", 0))
    moment = about.get("moment", f"{steps}it")
    if moment != "0it":
        raise InputError(f"--init-a {path} holds the weights at {moment}, expected those before any step (0it)")
    masks = list(masks)
    try:
        weights = state_in(content, list(dict.fromkeys(name for mask in masks for name in mask)), path).state
        check_finite(weights, path)
        for mask in masks:
            mask.check_fits(weights)
    except InputError as error:
        raise InputError(f"--init-a {path} is of another network than the mask: {error}") from error
    return weights


def settings_with(options: PermuteOptions | MaskOptions, beginning: Beginning | None) -> dict[str, Any]:
    """The options as they identify a run: as in earlier releases, and with `init_a`, by its content, where given."""
    settings = asdict(options)
    if settings.pop("init_a") is None:
        return settings
    from rebasin_lt.storage.files import hash_tensors

    assert beginning is not None, "initial weights that are given are read"
    assert beginning.weights is not None
    return {**settings, "init_a": options.init_a, "sha256_init_a": hash_tensors(beginning.weights)}


def memory_of(mask: Mask, beginning: Beginning) -> dict[str, float]:
    """The init memory of A's mask as it is, and the share of the initial weights that is left; what is not known is
    left out."""
    from rebasin_lt.pruning.memory import init_memory

    found: dict[str, float] = {}
    if beginning.weights is not None:
        memory = init_memory(mask, beginning.weights)
        found |= {"init_memory": memory["iou"], "init_memory_chance": memory["chance"]}
    if beginning.share is not None:
        found["init_share"] = beginning.share
    return found


def fit_of(moved: Mask, reference: Mapping[str, Tensor]) -> dict[str, float]:
    """How well a mask in B's order of units fits B's weights: overlap with their own mask and, if it is signed, the
    agreement of signs."""
    from rebasin_lt.pruning.magnitude import one_shot_like
    from rebasin_lt.pruning.overlap import expected_overlap
    from rebasin_lt.pruning.signs import sign_agreement

    own = one_shot_like(reference, moved)
    found = {"own_overlap": moved.overlap(own), "own_overlap_chance": expected_overlap(moved, own)}
    return {"sign_agreement": sign_agreement(moved, reference), **found} if moved.is_signed else found


def reading(found: Mapping[str, Any]) -> str | None:
    """The sentence that says what the numbers of a mask mean for training under it; None where none is known.

    A mask fits its initialisation where its init memory is more than .15 above chance, of the way from there to 1;
    signs agree by chance up to .55, and little better up to .65. The bounds are ours: over 38 pairs of three
    architectures, nearly all of them beyond the bounds, the agreement with trained B ranks pairs weakly by what their
    permutation brought (docs/signs.md).
    """
    remembers, agreement = _remembers(found), found.get("sign_agreement")
    if agreement is None:
        return None if remembers is None else _ALONE[remembers]
    if agreement > _LITTLE:
        return _BETTER[remembers]
    return ("no better than chance" if agreement <= _CHANCE else "little better than chance") + _WORSE[remembers]


def _remembers(found: Mapping[str, Any]) -> bool | None:
    memory, chance = found.get("init_memory"), found.get("init_memory_chance")
    if memory is None or chance is None:
        return None
    return bool(memory - chance > _REMEMBERS * (1 - chance))


_ALONE = {
    True: "the mask fits the initialisation, and no permutation can move that; train longer or with more decay",
    False: "the mask has left the initialisation: it can be moved",
}
_BETTER = {
    True: "better than chance, but the mask still fits the initialisation; train longer or with more decay",
    False: "better than chance, and the mask has left the initialisation: worth training under",
    None: "better than chance: worth training under",
}
_WORSE = {
    True: ": the mask fits the initialisation; train longer or with more decay",
    False: ", though the mask has left the initialisation: match on more images, or by another method",
    None: ": the mask fits the initialisation, or the matching found nothing",
}
