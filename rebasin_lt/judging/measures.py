"""What each loss accepts of answers and labels, and its sums over a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rebasin_lt.errors import InputError
from rebasin_lt.precision import sum_dtype

IGNORED = -100
"""The label of what counts for nothing, as in torch."""
_NEVER = -(2**62)  # a label that none is
_MOST = 2**24
"""Numbers of logits that are worked on at a time, in fp64."""

Rows = tuple[Tensor, Tensor]


class Sums(NamedTuple):
    """Over a batch: the loss, what is wrong (None where that has no meaning), and of how many both are the sums."""

    loss: Tensor
    error: Tensor | None
    counted: int | Tensor


class Unfit(Exception):
    """An answer and a label that a loss is not of; its text says what is wrong, and what was expected."""


class LossMeasure(NamedTuple):
    """How a loss is computed. `rows` raises Unfit for what it is not of."""

    rows: Callable[[Tensor, Tensor], Rows]  # answers and labels as the sums take them
    sums: Callable[[Tensor, Tensor, float], Sums]  # of those, the answers times a factor
    check: Callable[[Tensor, Tensor], None] = lambda answer, target: None  # the values of those, in a first batch
    classes: Callable[[Tensor, Tensor], Rows] | None = None  # of those, logits (M, classes) and labels (M,)

    def takes(self, answer: Tensor, target: Tensor) -> bool:
        """True if this is a loss of such an answer and label, but for the values of the label."""
        try:
            self.rows(answer, target)
        except Unfit:
            return False
        return True

    def fits(self, answer: Tensor, target: Tensor) -> bool:
        """True if this is a loss of such an answer and label."""
        try:
            self.check(*self.rows(answer, target))
        except Unfit:
            return False
        return True


def _images(answer: Tensor, target: Tensor) -> Rows:
    _check_logits(answer, answer.dim() == 2, 1, "(examples, classes)")
    return answer, _indices(target, answer.shape[:1], "the index of each image's class")


def _pixels(answer: Tensor, target: Tensor) -> Rows:
    _check_logits(answer, answer.dim() > 2, 1, "(images, classes, …)")
    shape = answer.shape[:1] + answer.shape[2:]
    labels = _indices(target, shape, f"the index of each pixel's class or {IGNORED}")
    return answer.movedim(1, -1).flatten(0, -2), labels.flatten()


def _tokens(answer: Tensor, target: Tensor) -> Rows:
    _check_logits(answer, answer.dim() > 2, -1, "(sequences, tokens, classes)")
    labels = _indices(target, answer.shape[:-1], f"the index of each token's class or {IGNORED}")
    return answer.flatten(0, -2), labels.flatten()


def _next_tokens(answer: Tensor, target: Tensor) -> Rows:
    _check_logits(answer, answer.dim() == 3, -1, "(sequences, tokens, classes)")
    labels = _indices(target, answer.shape[:-1], f"the tokens themselves or {IGNORED}")
    return answer[:, :-1].flatten(0, 1), labels[:, 1:].flatten()


def _alike(answer: Tensor, target: Tensor) -> Rows:
    """Of one shape, but for a last dimension of size 1 that one of them may lack."""
    if not answer.is_floating_point() or target.is_complex():
        raise Unfit("expected floating answers, and targets that are numbers")
    if answer.shape == (*target.shape, 1):
        answer = answer[..., 0]
    if target.shape == (*answer.shape, 1):
        target = target[..., 0]
    if answer.shape != target.shape:
        raise Unfit(f"expected answers and targets of one shape, such as targets {tuple(answer.shape)}")
    return answer, target


def _check_logits(answer: Tensor, enough: bool, dim: int, shape: str) -> None:
    if not enough or answer.shape[dim] < 2 or not answer.is_floating_point():
        raise Unfit(f"expected logits of shape {shape} for at least two classes")


def _indices(target: Tensor, shape: torch.Size, which: str) -> Tensor:
    integer = not (target.is_floating_point() or target.is_complex() or target.dtype == torch.bool)
    if not integer or target.shape != shape:
        raise Unfit(f"expected integers, {which}, of shape {tuple(shape)}")
    return target.long()


def _in_range(logits: Tensor, labels: Tensor) -> None:
    if not len(labels):
        return
    (low, high), classes = (int(each) for each in labels.aminmax()), logits.shape[1]
    if not 0 <= low <= high < classes:
        raise Unfit(
            f"targets are from {low} to {high}, but the network tells {classes} classes apart: expected their indices, "
            f"from 0 to {classes - 1}"
        )


def _kept_in_range(logits: Tensor, labels: Tensor) -> None:
    try:
        _in_range(logits, labels[labels != IGNORED])
    except Unfit as error:
        raise Unfit(f"{error}, or {IGNORED} for what is to be ignored") from error


def _shares(answer: Tensor, target: Tensor) -> None:
    values = target.float()
    if target.numel() and not 0 <= float(values.min()) <= float(values.max()) <= 1:
        raise Unfit(f"targets are from {float(values.min()):g} to {float(values.max()):g}: expected labels from 0 to 1")


def _of_classes(logits: Tensor, labels: Tensor, factor: float) -> Sums:
    logits = logits.to(sum_dtype(logits.device))
    loss = _cross_entropy(factor * logits, labels, _NEVER)
    return Sums(loss, (logits.argmax(-1) != labels).sum(), len(labels))


def _of_kept(logits: Tensor, labels: Tensor, factor: float) -> Sums:
    kept, dtype = labels != IGNORED, sum_dtype(logits.device)
    step = max(1, _MOST // logits.shape[1])
    parts = [slice(start, start + step) for start in range(0, max(1, len(labels)), step)]
    loss = torch.stack([_cross_entropy(factor * logits[part].to(dtype), labels[part], IGNORED) for part in parts]).sum()
    return Sums(loss, ((logits.argmax(-1) != labels) & kept).sum(), kept.sum())


def _cross_entropy(logits: Tensor, labels: Tensor, ignored: int) -> Tensor:
    try:
        return F.cross_entropy(logits, labels, reduction="sum", ignore_index=ignored)
    except IndexError as error:
        raise InputError(
            f"batches has targets from {int(labels.min())} to {int(labels.max())} in one batch: {error}; expected "
            f"indices of the {logits.shape[1]} classes"
        ) from error


def _of_labels(logits: Tensor, labels: Tensor, factor: float) -> Sums:
    logits = logits.to(sum_dtype(logits.device))
    labels = labels.to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(factor * logits, labels, reduction="sum")
    return Sums(loss, ((logits > 0) != (labels > 0.5)).sum(), labels.numel())


def _of_values(answer: Tensor, target: Tensor, factor: float) -> Sums:
    answer = answer.to(sum_dtype(answer.device))
    return Sums((factor * answer - target.to(answer.dtype)).square().sum(), None, target.numel())


def _same(logits: Tensor, labels: Tensor) -> Rows:
    return logits, labels


def _kept(logits: Tensor, labels: Tensor) -> Rows:
    kept = labels != IGNORED
    return logits[kept], labels[kept]


def _two_classes(logits: Tensor, labels: Tensor) -> Rows:
    """Each label as a choice of two classes of logits (0, z), whose probabilities are those of the label."""
    if not bool(((labels == 0) | (labels == 1)).all()):
        raise Unfit("targets lie between 0 and 1: expected labels that are 0 or 1")
    logits = logits.flatten()
    return torch.stack([torch.zeros_like(logits), logits], 1), labels.flatten().long()


IMAGES = LossMeasure(_images, _of_classes, _in_range, _same)
PIXELS = LossMeasure(_pixels, _of_kept, _kept_in_range, _kept)
TOKENS = LossMeasure(_tokens, _of_kept, _kept_in_range, _kept)
NEXT_TOKENS = LossMeasure(_next_tokens, _of_kept, _kept_in_range, _kept)
MULTI_LABEL = LossMeasure(_alike, _of_labels, _shares, _two_classes)
VALUES = LossMeasure(_alike, _of_values)
