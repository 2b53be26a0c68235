"""The losses that networks are judged by, by name: what each is of, what it is the mean over, and its second curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from rebasin_lt.errors import InputError
from rebasin_lt.settings.choices import near
from rebasin_lt.settings.user_code import is_user_code

CROSS_ENTROPY = "cross_entropy"
"""The default, by which the results of earlier releases are too."""
STEP = "validation_step"
"""What comes before the colon and the name of what a module's own validation step logs."""


@dataclass(frozen=True)
class Judged:
    """What numbers are, as tables, figures and files say it.

    `unit` is empty where there is none; `error` says what the second curve is the share of, and is None where there is
    no such curve.
    """

    loss: str = CROSS_ENTROPY
    label: str = "cross entropy"
    unit: str = "nats"
    mean_over: str = "examples"
    error: str | None = "examples classified wrongly"


BY_CROSS_ENTROPY = Judged()


class Loss(NamedTuple):
    """All there is to know of a loss."""

    label: str
    meaning: str
    measure: str  # a `LossMeasure`, as `imported` takes it: what it accepts, and how it is computed
    mean_over: str  # what the mean is over, of all batches together
    unit: str = ""
    error: str | None = None  # what the second curve is the share of; None for a loss that has none
    calibrates: bool = False  # its answers are logits per sample, which a temperature may divide

    def judged(self, name: str) -> Judged:
        return Judged(name, self.label, self.unit, self.mean_over, self.error)


LOSSES: dict[str, Loss] = {
    CROSS_ENTROPY: Loss(
        "cross entropy",
        "Of classifiers: logits (N, classes), labels (N,), the index of each example's class.",
        "judging.measures:IMAGES",
        "examples",
        "nats",
        "examples classified wrongly",
        calibrates=True,
    ),
    "pixel_cross_entropy": Loss(
        "cross entropy per pixel",
        "Of segmentation: logits (N, classes, …), labels (N, …); the label -100 is ignored.",
        "judging.measures:PIXELS",
        "pixels that are not ignored",
        "nats",
        "pixels classified wrongly",
    ),
    "token_cross_entropy": Loss(
        "cross entropy per token",
        "Of tokens: logits (N, …, classes), labels (N, …), of the same places; the label -100 is ignored.",
        "judging.measures:TOKENS",
        "tokens that are not ignored",
        "nats",
        "tokens classified wrongly",
    ),
    "next_token_cross_entropy": Loss(
        "cross entropy of the next token",
        "Of causal language models: logits (N, T, classes), labels (N, T), which are the tokens themselves: logits of "
        "place t are compared with label t + 1; the label -100 is ignored.",
        "judging.measures:NEXT_TOKENS",
        "tokens that are not ignored",
        "nats",
        "tokens predicted wrongly",
    ),
    "bce": Loss(
        "binary cross entropy",
        "Of several labels at once: logits and labels of one shape, labels from 0 to 1.",
        "judging.measures:MULTI_LABEL",
        "labels",
        "nats",
        "labels told wrongly",
    ),
    "mse": Loss(
        "mean squared error",
        "Of regression: answers and targets of one shape. It has no error curve.",
        "judging.measures:VALUES",
        "values",
    ),
}
"""The losses by name; the first is the default. `package.module:name` is a function of the user's own, called as
`loss(output, target)`, and `validation_step:NAME` is what the module's own validation step logs as NAME."""


def judged_by(loss: str) -> Judged:
    """What the numbers by a loss are, of the table or of one's own, of which nothing is imported.

    >>> judged_by("mse").mean_over, judged_by("mine:loss").label, judged_by("validation_step:val/loss").label
    ('values', 'loss', 'val/loss')
    """
    if loss in LOSSES:
        return LOSSES[loss].judged(loss)
    kind, _, name = loss.partition(":")
    if kind == STEP:
        return Judged(loss, name, "", "samples", None)
    return Judged(loss, loss.rpartition(":")[2], "", "losses", None)


def has_error(loss: str) -> bool:
    """True for a loss that tells right answers from wrong ones.

    >>> has_error("bce"), has_error("mse"), has_error("mine:loss")
    (True, False, False)
    """
    return judged_by(loss).error is not None


def check_loss_name(loss: str, argument: str = "loss") -> None:
    """Raise InputError for a loss that is neither in the table nor of one's own. Nothing is imported."""
    if loss not in LOSSES and not is_user_code(loss):
        raise InputError(
            f"{argument} is {loss!r}, which is not known{near(loss, LOSSES)}: expected {', '.join(LOSSES)}, "
            f"package.module:name, or {STEP}:NAME, what the module's own validation step logs as NAME"
        )


def without_default(settings: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    """Settings as they identify a run: those of earlier releases, which knew one loss, and no other value of `others`
    than the given one, do not name them."""
    defaults = {"loss": CROSS_ENTROPY, **others}
    return {name: value for name, value in settings.items() if name not in defaults or value != defaults[name]}


def judged_in_result(judged: Judged) -> dict[str, Any]:
    """What a result says of its loss, to be merged into it: nothing for the default, as in earlier releases."""
    return {} if judged.loss == CROSS_ENTROPY else {"judged": asdict(judged)}


def judged_of_result(result: Mapping[str, Any]) -> Judged:
    """What a result was judged by; only what a table says of it is read, and no code of it imported."""
    said = result.get("judged") or {}
    return Judged(**{name: said[name] for name in asdict(BY_CROSS_ENTROPY) if name in said})


def quantities(judged: Judged) -> dict[str, tuple[str, int]]:
    """The curves that there are, by their names in a result: the title of each, and the factor to its unit."""
    name = "loss" if judged.loss == CROSS_ENTROPY else judged.label
    curves = {"loss": (f"{name} ({judged.unit})" if judged.unit else name, 1)}
    return curves if judged.error is None else {**curves, "error": ("error (%)", 100)}


def measured_on(judged: Judged, count: int, split: str) -> str:
    """What was measured on, such as `500 test examples`."""
    return f"{count:,} {split} {judged.mean_over}"
