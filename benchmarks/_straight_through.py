"""Tried: matching for a mask by the loss that the reference has under it, by a straight-through estimator."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from rebasin_lt.batches import state_of
from rebasin_lt.matching.assignment import solve_assignment
from rebasin_lt.matching.soft import gradients, matrix_of
from rebasin_lt.matching.weight import weight_similarity
from rebasin_lt.precision import full_precision
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry

EPOCHS = 2
"""Passes over the images."""
PIECE = 128
"""Images per step, at most."""
REACH = 5.0
"""How far one entry of a score can move over all steps, where a unit's weights are as like its partner's as 1."""
HELD_OUT = 10
"""Every tenth piece is held out, to choose the best permutation by."""
CHECKS = 8
"""How often the permutation is judged on what is held out."""


def match_by_loss(
    source: Mapping[str, Tensor],
    reference: nn.Module,
    batches: Iterable[Any],
    symmetry: Symmetry,
    mask: Mask,
    start: Permutation,
) -> Permutation:
    """The permutation of `mask`, a mask of the source, under which the reference's weights have the lowest loss.

    A straight-through estimator, after Git Re-Basin (arXiv 2209.04836, section 3.3), on the loss of the reference
    under π(mask) instead of that of a midpoint between two networks. Each group has a matrix of scores, shape
    (reference units, source units); π is the best assignment of the scores; the gradient of the loss with respect to
    the matrix of π (`gradients`) goes into the scores as it is, scaled so that its largest entry is one step. The
    scores begin as the similarity of the kept weights under `start`, whose mean for matched pairs is 1, so that units
    that are hardly alike change partners first.

    `batches` are pairs of (images, labels), read twice in their order, in pieces of at most 128 images; every tenth
    piece is held out. The result is the permutation of the least loss on these among some on the way and `start`, so it
    is never worse there than `start`. Nothing is drawn at random. Batch norm takes the statistics of each piece; the
    networks are left as they are. Signs of the mask are not looked at.
    """
    loss = _Loss(reference, mask, symmetry)
    held, steps = _held_out(batches, loss.device)
    scores = _first_scores(mask.applied_to(source), reference, symmetry, start)
    best = permutation = start
    least, done, every = loss.mean(start, held), 0, max(1, steps // CHECKS)
    for _ in range(EPOCHS):
        for _, piece in _pieces(batches, loss.device, held_out=False):
            for group, slope in loss.slopes(permutation, piece).items():
                scores[group] -= REACH / steps * slope / slope.abs().max().clamp(min=1e-30)
            permutation = Permutation({group: solve_assignment(score, group) for group, score in scores.items()})
            done += 1
            if done % every == 0 and (value := loss.mean(permutation, held)) < least:
                best, least = permutation, value
    return best


class _Piece(NamedTuple):
    """Some images, as the arguments of a network, and their labels."""

    inputs: tuple[Tensor, ...]
    labels: Tensor


class _Loss:
    """The loss of the reference's weights under a permuted mask, and its derivatives."""

    def __init__(self, reference: nn.Module, mask: Mask, symmetry: Symmetry) -> None:
        self.network = copy.deepcopy(reference).eval()
        for module in self.network.modules():
            module.training = isinstance(module, _BatchNorm)
        self.weights = {name: state_of(reference)[name] for name in mask}
        self.device = next(iter(self.weights.values())).device
        self.mask, self.symmetry = mask, symmetry

    def _of(self, permutation: Permutation, piece: _Piece) -> tuple[Tensor, list[Tensor]]:
        """The mean cross-entropy, and the masked weights that it is a function of."""
        moved = self.symmetry.permute(self.mask, permutation)
        masked = {name: (w * moved[name].to(w.device)).requires_grad_() for name, w in self.weights.items()}
        with full_precision(self.device):
            return cross_entropy(functional_call(self.network, masked, piece.inputs), piece.labels), [*masked.values()]

    @torch.no_grad()
    def mean(self, permutation: Permutation, pieces: Iterable[_Piece]) -> float:
        """The mean over the pieces."""
        values = [float(self._of(permutation, piece)[0]) for piece in pieces]
        return sum(values) / len(values)

    def slopes(self, permutation: Permutation, piece: _Piece) -> dict[str, Tensor]:
        """The derivative with respect to each group's matrix, shape (reference units, source units), fp64."""
        matrices = {group: matrix_of(indices) for group, indices in permutation.items()}
        found = {group: torch.zeros_like(matrix) for group, matrix in matrices.items()}
        with torch.enable_grad(), full_precision(self.device):
            value, masked = self._of(permutation, piece)
            slopes = torch.autograd.grad(value, masked, materialize_grads=True)
        for (name, weight), slope in zip(self.weights.items(), slopes, strict=True):
            by_mask = (slope * weight).to("cpu", torch.float64)
            for group, part in gradients(self.mask[name].double(), by_mask, self.symmetry.axes[name], matrices):
                found[group] += part
        return found


def _first_scores(
    kept: Mapping[str, Tensor], reference: nn.Module, symmetry: Symmetry, start: Permutation
) -> dict[str, Tensor]:
    """The similarity of the weights of all units, shape (reference units, source units), 1 for matched ones on average.

    Groups whose matched units are no more alike than 0 begin with the matrix of `start`.
    """
    scores = {}
    for group, indices in start.items():
        similarity = weight_similarity(group, kept, state_of(reference), symmetry, start)
        mean = similarity.diagonal().mean()
        scores[group] = matrix_of(indices)
        if mean > 0:
            scores[group][:, indices] = similarity / mean
    return scores


def _held_out(batches: Iterable[Any], device: torch.device) -> tuple[list[_Piece], int]:
    """The pieces that are held out, and the number of steps that all others make."""
    held, others = [], 0
    for out, piece in _pieces(batches, device):
        held += [piece] if out else []
        others += not out
    return held, EPOCHS * others


def _pieces(batches: Iterable[Any], device: torch.device, held_out: bool = True) -> Iterator[tuple[bool, _Piece]]:
    """Every piece, and whether it is held out; or without those that are."""
    index = 0
    for batch in batches:
        (inputs, labels) = (each.to(device) for each in batch)
        for first in range(0, len(labels) - 1, PIECE):  # one image alone has no batch statistics
            part = slice(first, first + PIECE)
            out = index % HELD_OUT == 0
            index += 1
            if held_out or not out:
                yield out, _Piece((inputs[part],), labels[part])
