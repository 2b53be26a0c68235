"""The accuracy of a constant answer, and networks that are no better."""

from __future__ import annotations

import re
from collections.abc import Mapping
from shlex import quote

_CHANCE = 1.25
"""Times the accuracy of a constant answer up to which a network counts as collapsed."""
_ACCURACY = re.compile(r"(test|val|valid|train)\w*?[/_.-](top1|acc|accuracy)")
_PARTS = ("test", "val", "valid", "train")


def is_at_chance(accuracy: float | None, num_classes: int) -> bool:
    """True for an accuracy, a share, that a constant answer gives, or up to a quarter more: nothing was learned.

    >>> is_at_chance(0.125, 10), is_at_chance(0.126, 10)
    (True, False)
    """
    return accuracy is not None and accuracy <= _CHANCE / num_classes


def collapsed_metric(metrics: Mapping[str, float], num_classes: object) -> str | None:
    """The name of the accuracy that is at chance: of the test, else of the validation, else of the training.

    Those are `top1` in percent, and `acc` or `accuracy` as a share or, above 1, in percent: `test/top1`, `val_acc`.
    None without one, or where the number of classes is not known.
    """
    found = {each[1]: name for name in metrics if (each := _ACCURACY.fullmatch(name))}
    name = next((found[part] for part in _PARTS if part in found), None)
    if name is None or not isinstance(num_classes, int) or num_classes < 1:
        return None
    value = metrics[name]
    share = value / 100 if value > 1 or name.endswith("top1") else value
    return name if is_at_chance(share, num_classes) else None


def collapse_text(metrics: Mapping[str, float], num_classes: object, folder: str, is_sparse: bool) -> str | None:
    """What to do about a network in a run's folder whose accuracy is at chance, in one line; None where it is not."""
    name = collapsed_metric(metrics, num_classes)
    if name is None:
        return None
    text = f"{name} {metrics[name]:.4g} is what a constant answer gives ({num_classes} classes): the network "
    if not is_sparse:
        return f"{text}learned nothing: train longer, or with another learning rate"
    look = f"rebasin-lt mask --mask FILE --ckpt {quote(f'{folder}/last.ckpt')} --out DIR"
    return (
        f"{text}collapsed: `{look}` counts units that are dead; try a lower sparsity, another learning rate or a later "
        "rewind point"
    )
