"""Pruning by what the loss says of each weight: SNIP and GraSP, before or without training, and Taylor, after it.

SNIP and GraSP see the network as a training step does, but for dropout, which is off: batch norm layers take the
statistics of each batch. So with batch norm the scores depend a little on how images are batched, without it not at
all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from rebasin_lt.batches import check_repeatable, network_of, nonempty
from rebasin_lt.errors import InputError
from rebasin_lt.feeding.answer import answer_of
from rebasin_lt.feeding.calls import calls_of
from rebasin_lt.feeding.forward_call import ForwardCall
from rebasin_lt.judging.measures import IMAGES, Unfit
from rebasin_lt.models.evaluation_mode import evaluation_mode
from rebasin_lt.precision import full_precision
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.ranking import removals, remove_lowest

TEMPERATURE = 200.0
"""Of GraSP's softmax: that of its authors' code."""


def snip(network: nn.Module, mask: Mask, batches: Iterable[Any], sparsity: float) -> Mask:
    """Keep the weights of largest `snip_scores`, until exactly round(sparsity · weights) of the mask's are gone.

    Ties as in `remove_lowest`; raises as it, `removals` and `snip_scores`.

        >>> network, dense = nn.Linear(2, 2), rb.Mask({"weight": torch.ones(2, 2, dtype=torch.bool)})
        >>> batches = [(torch.randn(8, 2), torch.tensor([0, 1] * 4))]
        >>> rb.snip(network, dense, batches, 0.5).sparsity
        0.5
    """
    count = removals(mask, sparsity)
    return remove_lowest(snip_scores(network, mask, batches), mask, count)


def snip_scores(network: nn.Module, mask: Mask, batches: Iterable[Any]) -> dict[str, Tensor]:
    """|w ⊙ ∂L/∂w|, how much the loss would feel a small change of each connection (Lee et al., ICLR 2019, eq. 5).

    L is the mean cross-entropy over all images of `batches`, pairs of (inputs, labels). The paper divides by the sum,
    which orders nothing. The network is used under `mask`, on its device, and left as it is. Raises InputError where
    there is no batch, one without labels, and for a mask that does not fit.
    """
    network, weights = _prepared(network, mask)
    gradient = _mean(network, batches, 1.0, lambda loss: _gradient(loss, weights))
    return {name: (w * g).abs().detach() for name, w, g in zip(mask, weights, gradient, strict=True)}


def grasp(
    network: nn.Module, mask: Mask, batches: Iterable[Any], sparsity: float, temperature: float = TEMPERATURE
) -> Mask:
    """Keep the weights of largest `grasp_scores`, until exactly round(sparsity · weights) of the mask's are gone.

    Ties as in `remove_lowest`; raises as it, `removals` and `grasp_scores`.

        >>> network, dense = nn.Linear(2, 2), rb.Mask({"weight": torch.ones(2, 2, dtype=torch.bool)})
        >>> batches = [(torch.randn(8, 2), torch.tensor([0, 1] * 4))]
        >>> rb.grasp(network, dense, batches, 0.5).sparsity
        0.5
    """
    count = removals(mask, sparsity)
    return remove_lowest(grasp_scores(network, mask, batches, temperature), mask, count)


def grasp_scores(
    network: nn.Module, mask: Mask, batches: Iterable[Any], temperature: float = TEMPERATURE
) -> dict[str, Tensor]:
    """w ⊙ Hg: half of what the squared gradient norm gᵀg loses, to first order, when a weight is set to zero.

    g and H are gradient and Hessian over the mask's weights of the mean cross-entropy of logits / `temperature`.
    Wang et al. (ICLR 2020, eq. 8) write S = −w ⊙ Hg and remove the largest; this is −S, of which the largest stay, so
    that a weight without which the gradient flow would grow goes first. `batches`, pairs of (inputs, labels), are read
    twice. The network is used under `mask`, on its device, and left as it is. Raises as `snip_scores`, and InputError
    for batches that can be read only once.
    """
    check_repeatable(batches)
    network, weights = _prepared(network, mask)
    direction = _mean(network, batches, temperature, lambda loss: _gradient(loss, weights))

    def hessian_product(loss: Tensor) -> Sequence[Tensor]:
        gradient = _gradient(loss, weights, create_graph=True)
        return _gradient(torch.stack([(g * d).sum() for g, d in zip(gradient, direction, strict=True)]).sum(), weights)

    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
        product = _mean(network, batches, temperature, hessian_product)
    return {name: (w * hg).detach() for name, w, hg in zip(mask, weights, product, strict=True)}


def taylor_scores(network: nn.Module, batches: Iterable[Any]) -> dict[str, Tensor]:
    """|w ⊙ ∂L/∂w|: to first order, how much the loss changes when a weight is set to zero, by parameter name.

    First-order Taylor expansion of Molchanov et al. (ICLR 2017, eq. 7; for single parameters CVPR 2019, eq. 8, which
    squares it and so orders alike). L is the mean cross-entropy of a batch, the score the mean over batches, weighted
    by their images: at a minimum the gradient of all images together vanishes, those of batches do not. `batches` are
    pairs of (inputs, labels). The network is evaluated in evaluation mode, as it is used, on its device, and left as it
    is. Raises InputError where there is no batch, or one without labels.
    """
    network = network_of(network)
    weights = {name: weight.detach().requires_grad_() for name, weight in network.named_parameters()}
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    device, num_images = next(network.parameters()).device, 0
    with evaluation_mode(network), full_precision(device), torch.enable_grad():
        for call in nonempty(calls_of(batches, network)):
            call = call.to(device)
            logits, targets = _classes(functional_call(network, weights, call.args, call.kwargs), call)
            loss = cross_entropy(logits, targets)
            gradients = _gradient(loss, list(weights.values()))
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                total[name] += (weight.detach() * gradient).abs() * len(targets)
            num_images += len(targets)
    return {name: score / num_images for name, score in total.items()}


def _prepared(network: nn.Module, mask: Mask) -> tuple[nn.Module, list[Tensor]]:
    """A copy of the network under the mask, its batch norm layers in training mode, and the mask's weights in it.

    Those that a network in training mode keeps frozen stay so: a training step leaves them, too.
    """
    network = copy.deepcopy(network_of(network))
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    training = [module for module in norms if module.training or not network.training]
    network.eval()
    mask.apply_(network)
    for module in training:
        module.train()
    parameters = dict(network.named_parameters(remove_duplicate=False))
    return network, [parameters[name].requires_grad_() for name in mask]


def _mean(
    network: nn.Module,
    batches: Iterable[Any],
    temperature: float,
    derive: Callable[[Tensor], Sequence[Tensor]],
) -> list[Tensor]:
    """What `derive`, which is linear, makes of the mean cross-entropy over all images, summed up batch by batch."""
    device = next(network.parameters()).device
    total: list[Tensor] = []
    num_images = 0
    for call in nonempty(calls_of(batches, network)):
        call = call.to(device)
        with full_precision(device):
            logits, targets = _classes(call.of(network), call)
            derived = derive(cross_entropy(logits / temperature, targets, reduction="sum"))
        total = [a + b for a, b in zip(total, derived, strict=True)] if total else list(derived)
        num_images += len(targets)
    return [tensor / num_images for tensor in total]


def _classes(output: Any, call: ForwardCall) -> tuple[Tensor, Tensor]:
    """Logits (N, classes) and labels (N,). Raises InputError for what is no classification of each example."""
    try:
        return IMAGES.rows(answer_of(output), call.label)
    except Unfit as error:
        raise InputError(
            f"weights are judged by the cross entropy of classifiers here, but the network is none: {error}; choose "
            "what looks at no loss, such as magnitude, or a function of your own"
        ) from error


def _gradient(loss: Tensor, weights: Sequence[Tensor], create_graph: bool = False) -> tuple[Tensor, ...]:
    """∂loss/∂weights, zero for weights that take no part."""
    return torch.autograd.grad(loss, weights, create_graph=create_graph, materialize_grads=True)
