"""SNIP and GraSP against one image at a time, finite differences and torch's Hessian-vector product."""

import pytest
import torch
from torch import nn
from torch.autograd.functional import hvp
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from rebasin_lt.errors import InputError
from rebasin_lt.models.registry import build_network
from rebasin_lt.pruning.mask import Mask, prunable_names
from rebasin_lt.pruning.saliency import grasp, grasp_scores, snip, snip_scores, taylor_scores


def network():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3)
    ).double()


def batches(sizes=(5, 3)):
    generator = torch.Generator().manual_seed(2)
    return [
        (
            torch.randn(size, 1, 4, 4, generator=generator, dtype=torch.float64),
            torch.randint(0, 3, (size,), generator=generator),
        )
        for size in sizes
    ]


def partial_mask(model):
    state = dict(model.named_parameters())
    return Mask({name: torch.rand(state[name].shape) < 0.7 for name in prunable_names(model)})


def loss_of(model, mask, temperature=1.0):
    """The mean loss over all images at once, as a function of the mask's weights; and those weights."""
    images, labels = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    model = model.eval().requires_grad_(False)
    weights = tuple(model.get_parameter(name).detach() * kept for name, kept in mask.items())

    def loss(*tensors):
        logits = functional_call(model, dict(zip(mask, tensors, strict=True)), (images,))
        return cross_entropy(logits / temperature, labels)

    return loss, weights


def test_snip_equals_the_gradient_summed_image_by_image():
    model = network()
    mask = partial_mask(model)
    found = snip_scores(model, mask, batches())
    mask.apply_(model.eval())
    images = [(image, label) for batch in batches() for image, label in zip(*batch, strict=True)]
    for image, label in images:
        (cross_entropy(model(image[None]), label[None]) / len(images)).backward()
    for name, score in found.items():
        weight = model.get_parameter(name)
        torch.testing.assert_close(score, (weight * weight.grad).abs().detach())
        assert not score[~mask[name]].any()


def test_snip_equals_finite_differences():
    """Of the loss in a gate c on each connection, at c = 1: the paper's definition."""
    model = network()
    mask = partial_mask(model)
    found = snip_scores(model, mask, batches())
    loss, weights = loss_of(model, mask)
    step = 1e-5
    for index, name in enumerate(mask):
        for place in range(0, mask[name].numel(), 7):
            up, down = ([w.clone() for w in weights] for _ in range(2))
            up[index].view(-1)[place] *= 1 + step
            down[index].view(-1)[place] *= 1 - step
            slope = (loss(*up) - loss(*down)) / (2 * step)
            assert found[name].view(-1)[place] == pytest.approx(abs(float(slope)), abs=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_grasp_equals_torchs_hessian_vector_product(temperature):
    model = network()
    mask = partial_mask(model)
    found = grasp_scores(model, mask, batches(), temperature)
    loss, weights = loss_of(model, mask, temperature)
    gradient = torch.autograd.functional.jacobian(loss, weights)
    _, product = hvp(loss, weights, gradient)
    for name, weight, expected in zip(mask, weights, product, strict=True):
        torch.testing.assert_close(found[name], weight * expected, rtol=1e-7, atol=1e-18)


def test_grasp_looks_through_attention():
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend, self.head = nn.Linear(8, 24), nn.Linear(8, 3)

        def forward(self, words):
            query, key, value = self.attend(words).unflatten(-1, (3, 1, 8)).unbind(-3)
            heads = [part.transpose(1, 2) for part in (query, key, value)]
            return self.head(nn.functional.scaled_dot_product_attention(*heads).mean((1, 2)))

    network = Attention()
    batches = [(torch.randn(6, 4, 8), torch.arange(6) % 3)]
    scores = grasp_scores(network, Mask.ones_of(network), batches)
    assert all(score.isfinite().all() and score.abs().sum() > 0 for score in scores.values())


def test_grasp_is_half_of_what_the_gradient_flow_loses_with_a_weight():
    """By finite differences of gᵀg as a weight shrinks, which fixes the sign: the largest scores must stay."""
    model = network()
    mask = partial_mask(model)
    found = grasp_scores(model, mask, batches(), 1.0)
    loss, weights = loss_of(model, mask)

    def flow(*tensors):
        return sum((part**2).sum() for part in torch.autograd.functional.jacobian(loss, tensors))

    step = 1e-5
    for index, name in enumerate(mask):
        for place in range(0, mask[name].numel(), 7):
            up, down = ([w.clone() for w in weights] for _ in range(2))
            up[index].view(-1)[place] *= 1 + step
            down[index].view(-1)[place] *= 1 - step
            slope = (flow(*up) - flow(*down)) / (2 * step)
            assert 2 * found[name].view(-1)[place] == pytest.approx(float(slope), abs=1e-8)


@pytest.mark.parametrize(("prune", "score"), [(snip, snip_scores), (grasp, grasp_scores)])
def test_masks_hold_the_largest_scores_in_exact_number(prune, score):
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    mask = partial_mask(model)
    pruned = prune(model, mask, batches(), 0.8)
    assert pruned.num_weights - pruned.num_kept == round(0.8 * mask.num_weights)
    scores = score(model, mask, batches())
    kept = torch.cat([scores[name][pruned[name]] for name in mask])
    gone = torch.cat([scores[name][mask[name] & ~pruned[name]] for name in mask])
    assert kept.min() > gone.max()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training


@pytest.mark.parametrize("prune", [snip, grasp])
def test_batch_norm_takes_the_statistics_of_the_batch_and_keeps_its_own(prune):
    torch.manual_seed(0)
    model = build_network("resnet20", width=0.25, input_shape=(1, 8, 8)).eval()
    mask = Mask.ones_like(dict(model.named_parameters()), prunable_names(model))
    images = [(torch.randn(20, 1, 8, 8), torch.randint(0, 10, (20,)))]
    pruned = prune(model, mask, images, 0.5)
    assert not model.bn1.training
    assert not model.bn1.running_mean.any()
    model.bn1.running_mean += 100
    assert prune(model, mask, images, 0.5) == pruned


def test_what_cannot_be_scored_is_refused():
    model = network()
    mask = partial_mask(model)
    for prune in (snip, grasp):
        with pytest.raises(InputError, match="batches is empty, expected at least one batch"):
            prune(model, mask, [], 0.9)
        with pytest.raises(InputError, match="without targets"):
            prune(model, mask, [batches()[0][0]], 0.9)
        with pytest.raises(InputError, match="sparsity is 0.1, but the mask is at"):
            prune(model, mask, batches(), 0.1)
    with pytest.raises(InputError, match="batches is a generator, which is used up after one pass"):
        grasp(model, mask, (batch for batch in batches()), 0.9)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_batch_norm_that_a_network_keeps_frozen_uses_its_running_statistics(frozen):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    batches = [(torch.randn(32, 4) + 3, torch.arange(32) % 3)]
    whole = snip_scores(network, Mask.ones_of(network), batches)
    network[1].train(not frozen)
    scores = snip_scores(network, Mask.ones_of(network), batches)
    assert network[1].training is not frozen
    assert torch.equal(scores["0.weight"], whole["0.weight"]) is not frozen


@pytest.mark.parametrize("scores", [snip_scores, grasp_scores])
def test_a_network_that_tells_no_classes_apart_is_refused(scores) -> None:
    """A regressor's targets would pass for classes, and the scores mean nothing."""
    network, batches = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1)), [(torch.randn(5, 4), torch.randn(5, 1))]
    message = r"by the cross entropy of classifiers here, .* expected logits .* for at least two classes; choose what"
    with pytest.raises(InputError, match=message):
        scores(network, Mask.ones_of(network), batches)
    with pytest.raises(InputError, match=message):
        taylor_scores(network, batches)
