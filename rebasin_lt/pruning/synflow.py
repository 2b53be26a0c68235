"""SynFlow: pruning by the flow of synapses from inputs to outputs, without data (Tanaka et al., NeurIPS 2020)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from rebasin_lt.batches import network_of
from rebasin_lt.feeding.answer import answer_of
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.ranking import removals, remove_lowest

ROUNDS = 100
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def synflow(
    network: nn.Module,
    mask: Mask,
    input_shape: Sequence[int],
    sparsity: float,
    rounds: int = ROUNDS,
    progress: Callable[[int, int], None] | None = None,
) -> Mask:
    """Keep the weights of largest synaptic flow, until exactly round(sparsity · weights) of the mask's are gone.

    After round k of n, the share kept is (final share)^(k/n): the exponential schedule of the paper's algorithm 1. The
    scores are computed anew each round, so that a thin layer that all paths pass has large ones, and stays; a branch
    beside a dense shortcut, which is not pruned, may still lose all its weights. `input_shape` is that of one input,
    without the batch. Ties as in `remove_lowest`; raises as it, `removals` and `synflow_scores`.

        >>> network = nn.Linear(4, 2)
        >>> rb.synflow(network, rb.Mask.ones_of(network), (4,), 0.5).sparsity
        0.5
    """
    last = mask.num_kept - removals(mask, sparsity)
    network, kept = _positive(network), mask
    for step in range(1, rounds + 1):
        target = round(mask.num_kept * (last / max(1, mask.num_kept)) ** (step / rounds))
        kept = remove_lowest(_flows(network, kept, input_shape), kept, kept.num_kept - target)
        if progress is not None:
            progress(step, rounds)
    return kept


def synflow_scores(network: nn.Module, mask: Mask, input_shape: Sequence[int]) -> dict[str, Tensor]:
    """w ⊙ ∂R/∂w in float64, where R is the sum of the outputs for an input of ones, all weights replaced by |w|.

    R is the sum over all paths from an input to an output of the product of their weights. For that, biases (parameters
    whose name ends so) are zero and normalisation layers are passed by: with running statistics or shifts the scores of
    a layer would not add up to R, nor those into a unit to those out of it (the paper's theorems 1 and 2). So it is for
    activations that are the identity on positive numbers, as ReLU; with others it holds approximately. The network is
    used under `mask`, on its device, and left as it is. Raises InputError for a mask that does not fit, and as
    `answer_of`.
    """
    return _flows(_positive(network), mask, input_shape)


def _positive(network: nn.Module) -> nn.Module:
    """A copy in float64 with absolute weights, without biases and normalisation."""
    network = copy.deepcopy(network_of(network)).double().eval()
    for name, module in list(network.named_modules()):
        if isinstance(module, _NORMS):
            network.set_submodule(name, nn.Identity())
    for name, parameter in network.named_parameters():
        parameter.data = torch.zeros_like(parameter) if name.endswith("bias") else parameter.detach().abs()
    return network


def _flows(network: nn.Module, mask: Mask, input_shape: Sequence[int]) -> dict[str, Tensor]:
    """The scores in a network that `_positive` made."""
    parameters: Mapping[str, Tensor] = dict(network.named_parameters(remove_duplicate=False))
    mask.check_fits(parameters)
    weights = {
        name: (parameters[name].detach() * kept.to(parameters[name].device)).requires_grad_()
        for name, kept in mask.items()
    }
    ones = torch.ones(1, *input_shape, dtype=torch.float64, device=next(network.parameters()).device)
    total = answer_of(torch.func.functional_call(network, weights, (ones,))).sum()
    gradients = torch.autograd.grad(total, list(weights.values()), materialize_grads=True)
    return {name: (weight * g).detach() for (name, weight), g in zip(weights.items(), gradients, strict=True)}
