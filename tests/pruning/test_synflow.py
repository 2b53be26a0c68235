"""Conservation of synaptic flow, the sum over paths, and no layer that collapses."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.models.registry import build_network
from rebasin_lt.pruning.mask import Mask, prunable_names
from rebasin_lt.pruning.saliency import snip
from rebasin_lt.pruning.synflow import synflow, synflow_scores


def whole(model):
    return Mask.ones_like(dict(model.named_parameters()), prunable_names(model))


def trained_looking(name, **settings):
    """A network whose batch norm layers and biases are not as they start, in which nothing cancels out."""
    torch.manual_seed(0)
    model = build_network(name, **settings)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.weight.data, module.bias.data):
                tensor.normal_()
            module.running_var.uniform_(0.1, 4)
    return model


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
def test_every_layer_of_a_chain_carries_the_whole_flow(name):
    model = trained_looking(name, width=0.125)
    scores = synflow_scores(model, whole(model), (3, 32, 32))
    totals = torch.stack([score.sum() for score in scores.values()])
    assert totals.dtype == torch.float64
    assert totals[0] > 0
    torch.testing.assert_close(totals, totals[:1].expand_as(totals), rtol=1e-12, atol=0)


def test_what_flows_into_a_unit_flows_out_of_it():
    model = trained_looking("vgg11_bn", width=0.125)
    mask = Mask({name: torch.rand(tensor.shape) < 0.5 for name, tensor in whole(model).items()})
    scores = list(synflow_scores(model, mask, (3, 32, 32)).values())
    for before, after in pairwise(scores):
        into = before.flatten(1).sum(1)
        out = after.transpose(0, 1).flatten(1).sum(1)
        torch.testing.assert_close(into, out, rtol=1e-12, atol=0)


def test_both_branches_of_a_residual_network_carry_what_they_carry():
    """The first layer and the last are passed by all paths; a block's two convolutions by the same ones."""
    model = trained_looking("resnet20", width=0.25)
    scores = {name: float(score.sum()) for name, score in synflow_scores(model, whole(model), (3, 32, 32)).items()}
    assert scores["conv1.weight"] == pytest.approx(scores["linear.weight"], rel=1e-12)
    for stage in (1, 2, 3):
        first, second = (scores[f"layer{stage}.0.conv{k}.weight"] for k in (1, 2))
        assert first == pytest.approx(second, rel=1e-12)
        assert first < scores["conv1.weight"]


def test_scores_are_sums_over_paths():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    mask = whole(model)
    mask = Mask({name: torch.rand(tensor.shape) < 0.8 for name, tensor in mask.items()})
    scores = synflow_scores(model, mask, (3,))
    first, second = (model.get_parameter(name).detach().double().abs() * mask[name] for name in mask)
    for hidden in range(4):
        for source in range(3):
            paths = sum(first[hidden, source] * second[target, hidden] for target in range(2))
            assert scores["0.weight"][hidden, source] == pytest.approx(float(paths), rel=1e-12)


def test_rounds_follow_the_exponential_schedule_to_the_exact_count():
    model = trained_looking("vgg11", width=0.125)
    mask, seen = whole(model), []
    pruned = synflow(model, mask, (3, 32, 32), 0.99, rounds=5, progress=lambda *at: seen.append(at))
    assert pruned.num_weights - pruned.num_kept == round(0.99 * mask.num_weights)
    assert seen == [(step, 5) for step in range(1, 6)]
    kept = mask
    for step in range(1, 6):
        target = round(mask.num_weights * (pruned.num_kept / mask.num_weights) ** (step / 5))
        kept = synflow(model, kept, (3, 32, 32), 1 - target / mask.num_weights, rounds=1)
    assert kept == pruned


def test_no_layer_of_vgg11_collapses_and_the_network_stays_as_it_was():
    """At .98 the thinnest layer of this network keeps 0.8 % of its weights, by one-shot SNIP 0.3 %."""
    model = trained_looking("vgg11", width=0.25)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    mask = whole(model)
    pruned = synflow(model, mask, (3, 32, 32), 0.98)
    images = [(torch.randn(50, 3, 32, 32), torch.randint(0, 10, (50,)))]
    by_gradient = snip(model, mask, images, 0.98)
    thinnest = [min(1 - row["sparsity"] for row in found.report()) for found in (pruned, by_gradient)]
    assert thinnest[0] > 2 * thinnest[1]
    scores = synflow_scores(model, pruned, (3, 32, 32))
    assert all(float(score.sum()) > 0 for score in scores.values())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.features[0].weight.dtype == torch.float32


def test_one_shot_collapses_where_a_hundred_rounds_do_not():
    model = trained_looking("vgg11", width=0.125)
    mask = whole(model)
    once, often = (synflow(model, mask, (3, 32, 32), 0.998, rounds=rounds) for rounds in (1, 100))
    assert min(row["kept"] for row in often.report()) > 0
    assert min(row["kept"] for row in once.report()) == 0


def test_what_cannot_be_pruned_is_refused():
    model = trained_looking("vgg11", width=0.125)
    with pytest.raises(InputError, match="sparsity is 1.0, expected at least 0 and below 1"):
        synflow(model, whole(model), (3, 32, 32), 1.0)
    with pytest.raises(InputError, match="mask names other, which the network does not have"):
        synflow_scores(model, Mask({"other": torch.ones(2, 2, dtype=torch.bool)}), (3, 32, 32))
    with torch.no_grad():
        model.features[0].weight.mul_(1e300)
    with pytest.raises(InputError, match="or the scores overflow"):
        synflow(model, whole(model), (3, 32, 32), 0.9)


def test_a_network_that_answers_with_more_than_a_tensor_has_the_flow_of_its_answer():
    class Answers(nn.Sequential):
        def forward(self, x):
            return super().forward(x), None

    torch.manual_seed(0)
    layers = nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)
    plain, wrapped = nn.Sequential(*layers), Answers(*layers)
    found, expected = (synflow(network, Mask.ones_of(network), (4,), 0.5) for network in (wrapped, plain))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
