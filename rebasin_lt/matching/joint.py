"""Joint activation and weight matching."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from rebasin_lt.matching.coordinate_ascent import ascend, cosine_scale
from rebasin_lt.matching.weight import weight_names, weights_in_double
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.stacks import stacked_state
from rebasin_lt.symmetry.trace import Symmetry


def match_jointly(
    similarity: Mapping[str, Tensor],
    source: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    symmetry: Symmetry,
    start: Permutation,
    weight_mix: float,
) -> Permutation:
    """Coordinate ascent from `start` on (1 - weight_mix) * S_act + weight_mix * S_weight.

    After MuDSC (CVPR 2024, arXiv 2403.01753). S_act is the sum over groups of the similarity of matched units, from
    matrices of shape (reference units, source units) in units of a correlation. S_weight is the sum over groups of the
    cosine between all weights (`weight_names`) on which the group acts, times its number of units. So a group's share
    of either is at most its number of units. A cosine per pair of units, as in MuDSC, would not be one objective for
    all groups: a step of one could lower another's.
    """
    source, reference = (stacked_state(state, symmetry.stacks) for state in (source, reference))
    scales = {
        group: weight_mix * symmetry.num_units(group) * cosine_scale(group, source, reference, symmetry)
        for group in symmetry.groups
    }
    source, scaled = (weights_in_double(state, symmetry) for state in (source, reference))
    for name in weight_names(symmetry, source):
        groups = {group for axis in symmetry.places[name] for group in axis.groups}
        scaled[name] = scaled[name] * sum(scales[group] for group in symmetry.groups if group in groups)
    weighed = {group: (1 - weight_mix) * matrix for group, matrix in similarity.items()}
    return ascend(source, scaled, symmetry, start, similarity=weighed)
