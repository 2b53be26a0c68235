"""The kinds of control masks: how each is made, from which options, and what reports say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rebasin_lt.errors import InputError
from rebasin_lt.process.progress import Progress
from rebasin_lt.settings.choices import chosen, imported
from rebasin_lt.settings.user_code import import_function, is_user_code

if TYPE_CHECKING:
    import torch
    from torch import nn

    from rebasin_lt.experiment.subjects import Subjects
    from rebasin_lt.feeding.calls import Fed
    from rebasin_lt.pruning.mask import Mask
    from rebasin_lt.settings.options import ControlOptions
    from rebasin_lt.symmetry.trace import Symmetry

NETWORK = ("ckpt", "model", "width", "num_classes")
_AMOUNT = ("mask", "sparsity")
_IMAGES = ("data", "root", "inputs", "targets", "num_images", "batch_size", "seed", "device")
_EXAMPLE = ("data", "root", "inputs", "input_shape")


@dataclass(frozen=True)
class Sources:
    """What a control is made from; of it a kind may ask for what its options say.

    `imitated` is the mask that is given, if one is; `dense` has the names and shapes of the control to be, everything
    kept.
    """

    options: ControlOptions
    subjects: Subjects
    imitated: Mask | None
    dense: Mask

    @property
    def mask(self) -> Mask:
        assert self.imitated is not None  # an option that the kind needs, as what follows
        return self.imitated

    @property
    def network(self) -> nn.Module:
        return self.subjects.networks[0].network

    @property
    def batches(self) -> Fed:
        return self.subjects.train()

    @property
    def sparsity(self) -> float:
        return self.mask.sparsity if self.options.sparsity is None else self.options.sparsity

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one example. Raises InputError for a network of other inputs than one tensor of floating point."""
        call = self.subjects.example()
        if len(call.tensors) != 1 or not call.tensors[0].is_floating_point():
            raise InputError(
                f"--kind {self.options.kind} follows what flows from inputs of ones, but "
                f"{type(self.network).__name__} takes {call.described}: expected one of floating point; choose another"
            )
        return tuple(call.tensors[0].shape[1:])

    @property
    def share(self) -> float:
        return float(self.options.share)

    @property
    def generator(self) -> torch.Generator:
        import torch

        return torch.Generator().manual_seed(self.options.seed)

    @property
    def symmetry(self) -> Symmetry:
        from rebasin_lt.symmetry.trace import trace_symmetry

        example = self.subjects.example()
        return trace_symmetry(self.network, example.args, example.kwargs)


class ControlKind(NamedTuple):
    """All there is to know of a kind of control mask."""

    make: Callable[[Sources, Progress], Mask]
    uses: tuple[str, ...]  # options
    label: str
    meaning: str
    colour: str  # in figures, a key of `COLOURS`
    marker: str
    needs: tuple[str, ...] = ()  # those of `uses` that it cannot do without
    weights: Literal["none", "any", "trained", "rewound"] = "none"  # of B, that a study's masks of this kind look at
    method: str | None = None  # its name among a study's methods, where it is not that of the kind; "" for none
    carries_signs: bool = False  # of the ticket in the mask that it imitates, or of the weights that it looks at


def _by(function: str, *parts: str) -> Callable[[Sources, Progress], Mask]:
    """What a function, named as `imported` takes it, makes of these parts of the sources."""
    return lambda sources, _: imported(function)(*(getattr(sources, part) for part in parts))


def _random_permutation(s: Sources, _: Progress) -> Mask:
    from rebasin_lt.pruning.shuffles import permute_randomly

    return permute_randomly([s.mask], s.symmetry, s.generator)[0]


def _magnitude(s: Sources, _: Progress) -> Mask:
    from rebasin_lt.pruning.magnitude import prune_to_sparsity

    state = s.network.state_dict()
    return prune_to_sparsity(state, s.dense, s.sparsity).signed_by(state)


def _mix(s: Sources, _: Progress) -> Mask:
    from rebasin_lt.pruning.mix import mix_with_magnitude

    return mix_with_magnitude(s.mask, s.network.state_dict(), s.share)


def _synflow(s: Sources, progress: Progress) -> Mask:
    from rebasin_lt.pruning.synflow import synflow

    return synflow(s.network, s.dense, s.input_shape, s.sparsity, progress=partial(progress, "rounds"))


CONTROLS: dict[str, ControlKind] = {
    "magnitude": ControlKind(
        _magnitude,
        (*_AMOUNT, *NETWORK),
        "B's magnitude",
        "B's rewound weights under the mask of the largest weights of the trained B.",
        *("b_magnitude", "P"),
        needs=("ckpt",),
        weights="trained",
        method="b_magnitude",
        carries_signs=True,
    ),
    "random_permutation": ControlKind(
        _random_permutation,
        ("mask", "seed", *NETWORK, *_EXAMPLE),
        "random permutation",
        "A's mask under a random but consistent permutation of the units: any permutation instead of the matched one.",
        *("random_permutation", "D"),
        needs=("mask", "ckpt"),
        weights="any",  # for the symmetry of the network, whatever its weights
        carries_signs=True,
    ),
    "shuffled": ControlKind(
        _by("pruning.shuffles:shuffle_layerwise", "mask", "generator"),
        ("mask", "seed"),
        "shuffled",
        "A's mask shuffled within each layer: layer sparsities only.",
        *("shuffled", "v"),
        needs=("mask",),
        carries_signs=True,
    ),
    "degree_preserving": ControlKind(
        _by("pruning.shuffles:shuffle_degrees", "mask", "generator"),
        ("mask", "seed"),
        "degree preserving",
        "A's mask shuffled so that every unit keeps its in- and out-degree.",
        *("other_3", "X"),
        needs=("mask",),
    ),
    "uniform": ControlKind(
        _by("pruning.allocation:random_uniform", "dense", "sparsity", "generator"),
        (*_AMOUNT, "seed", *NETWORK),
        "uniform",
        "A random mask of one sparsity in all layers.",
        *("other_5", "<"),
    ),
    "erk": ControlKind(
        _by("pruning.allocation:random_erk", "dense", "sparsity", "generator"),
        (*_AMOUNT, "seed", *NETWORK),
        "ERK",
        "A random mask of Erdős–Rényi-kernel densities.",
        *("other_4", ">"),
    ),
    "mix": ControlKind(
        _mix,
        ("mask", "share", *NETWORK),
        "mix",
        "Part permuted mask, part B's largest weights.",
        *("other_1", "p"),
        needs=("mask", "ckpt"),
        weights="trained",
        method="",
        carries_signs=True,
    ),
    "snip": ControlKind(
        _by("pruning.saliency:snip", "network", "dense", "batches", "sparsity"),
        (*_AMOUNT, *NETWORK, *_IMAGES),
        "SNIP",
        "B pruned at once by SNIP, which looks at the loss.",
        *("other_2", "d"),
        needs=("ckpt",),
        weights="rewound",
    ),
    "grasp": ControlKind(
        _by("pruning.saliency:grasp", "network", "dense", "batches", "sparsity"),
        (*_AMOUNT, *NETWORK, *_IMAGES),
        "GraSP",
        "B pruned at once by GraSP, which looks at the flow of gradients.",
        *("other_3", "H"),
        needs=("ckpt",),
        weights="rewound",
    ),
    "synflow": ControlKind(
        _synflow,
        (*_AMOUNT, *NETWORK, *_EXAMPLE, "device"),
        "SynFlow",
        "B pruned by SynFlow, which looks at paths and at no data.",
        *("other_5", "8"),
        needs=("ckpt",),
        weights="rewound",
    ),
}
"""The kinds by name, in the order of tables and figures. `package.module:name` is a function of the user's own, called
as `control(mask, network, batches, sparsity, generator)`, which returns a `Mask`: `mask` is the one to imitate, or
keeps everything; `network` holds the weights that training starts from; `batches` are training images with labels."""


def control_kind(name: str) -> ControlKind:
    """The record of a kind, or that of the user's own function, which is imported when the mask is made.

    Raises InputError for a name that is neither.
    """
    return own_control(name) if is_user_code(str(name)) else chosen("--kind", name, CONTROLS, "or package.module:name")


def own_control(name: str) -> ControlKind:
    """The record of a control of the user's own, `package.module:name`, without importing it: reports read it too."""
    label = name.rpartition(":")[2].replace("_", " ")
    meaning = f"B's rewound weights under a mask of the control `{name}`."
    uses, needs = (*_AMOUNT, *NETWORK, *_IMAGES), ("ckpt",)
    make = partial(_own, name)
    return ControlKind(make, uses, label, meaning, "other_1", "p", needs=needs, weights="rewound")


def import_control(name: str, argument: str = "--kind") -> Callable[..., Any]:
    """The user's own function. Raises InputError where it cannot be imported, or is none."""
    return import_function(argument, name, "a function control(mask, network, batches, sparsity, generator)")


def _own(name: str, s: Sources, _: Progress) -> Mask:
    from rebasin_lt.pruning.mask import Mask

    made = import_control(name)(
        s.dense if s.imitated is None else s.imitated, s.network, s.batches, s.sparsity, s.generator
    )
    if not isinstance(made, Mask) or made.keys() != s.dense.keys():
        raise InputError(f"control {name} returned a {type(made).__name__}, expected a Mask with the names of its own")
    made.check_fits({kept: s.dense[kept] for kept in s.dense})
    return made
