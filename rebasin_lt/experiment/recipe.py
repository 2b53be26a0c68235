"""What one repetition of the experiment trains, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from rebasin_lt.errors import InputError
from rebasin_lt.judging.losses import CROSS_ENTROPY
from rebasin_lt.moment import Moment
from rebasin_lt.pruning.waypoints import waypoints
from rebasin_lt.settings.field_types import check_fields
from rebasin_lt.settings.user_code import is_user_code

TRAININGS = ("dense", "prune", "sparse")
"""Fields of a recipe with the settings of one kind of training each."""


@dataclass(frozen=True)
class Recipe:
    """Settings of the stages dense, prune and sparse. The defaults are the demonstration on digits.

    `data` are the settings of a data module, `dense`, `prune` and `sparse` those of `Classifier` for each stage,
    `trainer` those of the Trainer in every stage, such as its precision. `sparse_epochs` None: as many as the dense
    training had left at the rewind moment, as in the paper. `imp` are more settings of `IterativeMagnitudePruning`,
    such as `after_prune`; its `rewind_from` may be a moment of the dense training. `module` is a LightningModule of
    the user's own to train instead of `Classifier`, `package.module:Class`. `sign_in` are settings of `SignIn`, under
    which sparse networks then train. `loss` is what networks are judged by, as `--loss` of the commands, when lines
    and ensembles are measured. Raises InputError for a field of another type.

        >>> recipe = rb.Recipe(targets=(0.5,), fraction=0.5, epochs_per_round=2)
        >>> recipe.prune_epochs, recipe.data["name"]
        (2, 'digits')
    """

    data: Mapping[str, Any] = field(default_factory=lambda: {"name": "digits", "batch_size": 50})
    network: Mapping[str, Any] = field(default_factory=lambda: {"arch": "mlp", "width": 1, "num_classes": 10})
    targets: tuple[float, ...] = (0.9, 0.95, 0.98)
    fraction: float = 0.2
    rewinds: tuple[str, ...] = ("1ep",)
    dense: Mapping[str, Any] = field(default_factory=lambda: {"learning_rate": 0.1})
    prune: Mapping[str, Any] = field(default_factory=lambda: {"learning_rate": 0.05})
    sparse: Mapping[str, Any] = field(default_factory=lambda: {"learning_rate": 0.15, "weight_decay": 0.0})
    dense_epochs: int = 20
    epochs_per_round: int = 5
    sparse_epochs: int | None = 35
    trainer: Mapping[str, Any] = field(default_factory=dict)
    imp: Mapping[str, Any] = field(default_factory=dict)
    module: str | None = None
    sign_in: Mapping[str, Any] = field(default_factory=dict)
    loss: str = CROSS_ENTROPY

    def __post_init__(self) -> None:
        check_fields(self, "recipe.")

    @property
    def prune_epochs(self) -> int:
        """Epochs of the whole chain of pruning, from the mask that `imp` names if it names one."""
        mask = self.imp.get("mask")
        start = 0.0 if mask is None else _sparsity_of(str(mask))
        return len(waypoints(self.targets, self.fraction, start)) * self.epochs_per_round

    @property
    def own_code(self) -> str | None:
        """The user's own network, `package.module:factory`, or else module; None for a network that has a name here.

        Whoever loads a checkpoint of it must name it too: a file may not choose which code is imported.
        """
        arch = str(self.network.get("arch", ""))
        return arch if is_user_code(arch) else self.module

    @property
    def own_data(self) -> str | None:
        """The user's own dataset, `package.module:Class`; None for one of the registry. As `own_code`, to be named."""
        name = str(self.data.get("name", ""))
        return name if is_user_code(name) else None

    @property
    def pruned_from(self) -> str | None:
        """The moment of dense training that pruning rewinds to; None where `imp` names none, or a file."""
        rewind = self.imp.get("rewind_from")
        return rewind if Moment.is_one(rewind) else None

    def epochs_after(self, rewind: str) -> int:
        """Epochs of a sparse run from a rewind moment; where `sparse_epochs` is None, what dense training has left.

        That is 200 − k from `kep`, as in the paper, whose weights of k are of k + 1 epochs in its code: from `1ep`, its
        k = 0, a run takes 199 epochs here and 200 there.

        Raises InputError for a moment from which it cannot be told, or at which nothing is left.
        """
        if self.sparse_epochs is not None:
            return self.sparse_epochs
        moment = Moment.parse(rewind)
        left = self.dense_epochs - moment.count if moment.unit == "ep" else self.dense_epochs
        if left < 1 or (moment.unit == "it" and moment.count):
            raise InputError(
                f"recipe.sparse_epochs is null, which means what {self.dense_epochs} dense epochs have left at "
                f"{rewind}: give moments such as 0it and 5ep before their end, or a number"
            )
        return left


@cache
def _sparsity_of(mask: str) -> float:
    """The sparsity of a mask file. Raises InputError and BrokenFileError as `Mask.load`."""
    from rebasin_lt.pruning.mask import Mask

    return Mask.load(mask).sparsity
