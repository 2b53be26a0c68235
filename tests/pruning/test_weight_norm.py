import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from rebasin_lt.errors import InputError
from rebasin_lt.pruning.magnitude import prune_to_sparsity
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.weight_norm import check_directions, directions, keep_directions

V = "parametrizations.weight.original1"


@pytest.mark.parametrize("layer", [nn.Linear(6, 16), nn.Conv2d(3, 8, 3), nn.Linear(6, 3)])
@pytest.mark.parametrize("dim", [0, 1, None])
def test_pruning_leaves_every_unit_a_weight_and_the_network_finite(layer, dim):
    torch.manual_seed(0)
    network = weight_norm(type(layer)(*(layer.weight.shape[1::-1]), *layer.weight.shape[2:3]), dim=dim)
    assert list(directions(network)) == [V]
    state = dict(network.named_parameters())
    full = Mask.ones_of(network)
    plain = prune_to_sparsity(state, full, 1 - 16.5 / full.num_weights if full.num_weights > 40 else 0.5)
    scores = {name: weight.detach().abs() for name, weight in state.items()}
    mask = prune_to_sparsity(keep_directions(network, scores, full), full, plain.sparsity)
    assert mask.num_kept == plain.num_kept
    check_directions(network, mask)
    mask.apply_(network)
    assert network.weight.isfinite().all()
    assert not network.weight[~mask[V]].any()


def test_a_mask_that_empties_a_unit_is_refused():
    network = nn.Sequential(weight_norm(nn.Linear(6, 4)))
    kept = torch.ones(4, 6, dtype=torch.bool)
    kept[[0, 2]] = False
    with pytest.raises(InputError, match=f"mask leaves 2 units of 0.{V} without a weight, which weight norm would"):
        check_directions(network, Mask({f"0.{V}": kept}))
    check_directions(network, Mask({}))
