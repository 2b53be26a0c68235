"""Which corrections apply to which network."""

from torch import nn

from rebasin_lt.connectivity.corrections import applicable


def test_batchnorm_decides_which_corrections_apply() -> None:
    assert applicable(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))) == ["none", "bn_reset", "temperature"]
    assert applicable(nn.Sequential(nn.Linear(3, 4))) == ["none", "repair", "closed_form", "rescale", "temperature"]
    without = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False))
    assert applicable(without) == ["none", "repair", "closed_form", "rescale", "temperature"]
