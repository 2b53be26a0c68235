"""What a weight is worth: every criterion prunes exactly, alike every time, and leaves the network as it is."""

import sys

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.parametrizations import weight_norm

from rebasin_lt.errors import InputError
from rebasin_lt.pruning.criteria import CRITERIA, Criterion, criterion_named, prune_by
from rebasin_lt.pruning.magnitude import prune_to_sparsity
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.weight_norm import check_directions

NUMBER = 3
EVERY = pytest.mark.parametrize("criterion", CRITERIA)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(), nn.Linear(12, 3))


def batches():
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(8, 6, generator=generator), torch.arange(8) % 3) for _ in range(3)]


@EVERY
def test_exactly_as_many_weights_go_and_those_that_went_stay_gone(criterion):
    net = network()
    first = prune_by(criterion, net, batches(), Mask.ones_of(net), 0.5)
    first.apply_(net)
    second = prune_by(criterion, net, batches(), first, 0.75)
    assert [mask.num_kept for mask in (first, second)] == [54, 27]
    assert not any((kept & ~first[name]).any() for name, kept in second.items())


@EVERY
def test_the_same_seed_gives_the_same_mask_whatever_was_drawn_before_and_nothing_is_changed(criterion):
    net = network().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    mask = prune_by(criterion, net, batches(), Mask.ones_of(net), 0.5, seed=3)
    torch.rand(7)
    state = torch.get_rng_state()
    assert prune_by(criterion, net, batches(), Mask.ones_of(net), 0.5, seed=3) == mask
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())


@EVERY
def test_units_under_weight_norm_keep_a_weight(criterion):
    torch.manual_seed(0)
    net = nn.Sequential(weight_norm(nn.Linear(6, 4)), nn.Linear(4, 3))
    full = Mask.ones_of(net)
    mask = prune_by(criterion, net, batches(), full, 1 - 5 / full.num_weights)
    assert mask.num_kept == 5
    check_directions(net, mask)


@EVERY
def test_batches_are_read_where_the_record_says_so(criterion):
    class Counted(list):
        reads = 0

        def __iter__(self):
            Counted.reads += 1
            return super().__iter__()

    Counted.reads = 0
    net = network()
    prune_by(criterion, net, Counted(batches()), Mask.ones_of(net), 0.5)
    assert bool(Counted.reads) == CRITERIA[criterion].needs_batches


@pytest.mark.parametrize("needs", [False, True])
def test_a_criterion_that_needs_no_batches_is_given_none(monkeypatch, needs):
    seen = []

    def scores(network, batches):
        seen.extend(batches)
        return CRITERIA["magnitude"].scores(network, ())

    monkeypatch.setitem(CRITERIA, "own", Criterion(scores, "Own.", needs_batches=needs))
    net = network()
    prune_by("own", net, [1, 2], Mask.ones_of(net), 0.5)
    assert seen == ([1, 2] if needs else [])


def test_magnitude_is_what_it_was():
    net = network()
    full = Mask.ones_of(net)
    assert next(iter(CRITERIA)) == "magnitude"
    assert prune_by("magnitude", net, (), full, 0.6) == prune_to_sparsity(dict(net.named_parameters()), full, 0.6)


def test_layerwise_magnitude_has_one_sparsity_in_every_layer_and_keeps_its_largest():
    net = network()
    with torch.no_grad():
        net[4].weight.mul_(100)
    mask = prune_by("layerwise_magnitude", net, (), Mask.ones_of(net), 0.75)
    for name, kept in mask.items():
        values = net.get_parameter(name).abs()
        assert float((~kept).float().mean()) == 0.75
        assert values[kept].min() >= values[~kept].max()


def test_lots_differ_by_seed():
    net = network()
    full = Mask.ones_of(net)
    assert prune_by("random", net, (), full, 0.5, seed=0) != prune_by("random", net, (), full, 0.5, seed=1)


def test_taylor_is_the_derivative_by_each_weights_share():
    """Oracle: the loss of a batch under w · t, derived by t at 1, weight by weight and in fp64."""
    net = network().double().eval()
    (inputs, targets), epsilon = batches()[0], 1e-6
    scores = criterion_named("taylor").scores(net, [(inputs.double(), targets)])["4.weight"]
    weight = net[4].weight
    for place in [(0, 0), (2, 5), (1, 11)]:
        losses = []
        for factor in (1 - epsilon, 1 + epsilon):
            with torch.no_grad():
                value = weight[place].clone()
                weight[place] = value * factor
                losses.append(float(cross_entropy(net(inputs.double()), targets)))
                weight[place] = value
        assert float(scores[place]) == pytest.approx(abs(losses[1] - losses[0]) / (2 * epsilon), abs=1e-8)


def mine(network, batches):
    return {name: -weight.detach().abs() for name, weight in network.named_parameters()}


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setitem(sys.modules, "own_criteria", sys.modules[__name__])


@pytest.mark.usefixtures("own")
def test_a_function_of_ones_own_is_named_by_its_module():
    net = network()
    mask = prune_by("own_criteria:mine", net, (), Mask.ones_of(net), 0.5)
    values = torch.cat([net.get_parameter(name).abs()[kept] for name, kept in mask.items()])
    others = torch.cat([net.get_parameter(name).abs()[~kept] for name, kept in mask.items()])
    assert values.max() <= others.min()
    assert criterion_named("own_criteria:mine").needs_batches


@pytest.mark.usefixtures("own")
def test_what_is_no_criterion_is_refused():
    with pytest.raises(InputError, match=r"^criterion is 'magnitud', which is not known \(did you mean magnitude\?\)"):
        criterion_named("magnitud")
    with pytest.raises(InputError, match="criterion is 'own_criteria:NUMBER', a int, expected a function scor"):
        criterion_named("own_criteria:NUMBER")
    with pytest.raises(InputError, match="criterion is 'no_such:thing', which cannot be imported"):
        criterion_named("no_such:thing")


@pytest.mark.parametrize("scores", [{}, {"0.weight": torch.ones(3)}, {"0.weight": torch.ones(12, 6).int()}])
def test_scores_that_do_not_fit_are_refused(monkeypatch, scores):
    monkeypatch.setitem(CRITERIA, "odd", Criterion(lambda network, batches: scores, "Odd."))
    net = network()
    with pytest.raises(InputError, match=r"criterion odd gives (no )?scores.* for 0.weight, expected floats of shape"):
        prune_by("odd", net, (), Mask.ones_of(net), 0.5)
