"""What a `Matcher` refuses, and which function it calls with what."""

from __future__ import annotations

import sys

import pytest
import torch

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.matcher import Matcher, matcher_of
from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.matching import activation, weight_matching
from rebasin_lt.matching.activation import MatchResult, match_activations
from rebasin_lt.matching.objectives import MASK_WEIGHT_MIX
from rebasin_lt.matching.signs import match_signs
from rebasin_lt.matching.weight_matching import match_weights
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.symmetry.trace import trace_symmetry

BY_WEIGHTS = ("coordinate_descent", "frank_wolfe")
WITHOUT_IMAGES = (*BY_WEIGHTS, "signs")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"method": "simplex"},
            "--method is 'simplex', which is not known: expected activations, coordinate_descent",
        ),
        ({"seed": -1}, "--seed is -1, expected at least 0"),
        ({"method": "frank_wolfe", "seed": -1}, "--seed is -1, expected at least 0"),
        (
            {"objective": "cosine"},
            "objective is 'cosine', which is not known .*: expected correlation, ",
        ),
        ({"stream": "first"}, "stream is 'first', which is not known: expected sum, last"),
        ({"weight_mix": 1.5}, "weight_mix is 1.5, expected a number from 0"),
        ({"mask_weight_mix": -0.5}, "mask_weight_mix is -0.5, expected a number from 0"),
        ({"preset": "ours"}, "preset is 'ours', which is not known: expected paper"),
        ({"preset": "paper", "mask_weight_mix": 0.0}, "mask_weight_mix is 0.0, but preset 'paper' sets it"),
    ],
)
def test_values_that_cannot_be_are_refused(settings, message) -> None:
    with pytest.raises(InputError, match=message):
        Matcher(**settings)


@pytest.mark.parametrize("method", WITHOUT_IMAGES)
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("objective", "raw"),
        ("stream", "last"),
        ("weight_mix", 0.5),
        ("mask_weight_mix", 0.0),
        ("preset", "paper"),
        ("augment", True),
    ],
)
def test_what_a_method_by_weights_has_no_use_for_is_refused(method, setting, value) -> None:
    option = f"--{setting.replace('_', '-')}"
    message = f"{option} is {value}, but --method {method} has no use for it: leave it out"
    with pytest.raises(InputError, match=message):
        Matcher(method=method, **{setting: value})


def test_measure_says_what_the_objective_is() -> None:
    assert [Matcher(objective=o).measure.split()[1] for o in ("correlation", "covariance", "raw")] == [
        "correlation",
        "covariance",
        "product",
    ]
    assert Matcher(preset="paper").measure == "mean correlation of matched pairs, as published"
    assert {Matcher(method=method).measure for method in WITHOUT_IMAGES} == {"cosine of the matched weights"}
    assert [Matcher(method=method).needs_images for method in ("activations", *WITHOUT_IMAGES)] == [
        True,
        False,
        False,
        False,
    ]


@pytest.fixture(scope="module")
def networks(planted):
    """Two networks, a mask of the first, their symmetry, and a batch."""
    source, reference = (load_network(planted / f"{name}.ckpt").network for name in "ab")
    batch = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    name = next(name for name, tensor in source.state_dict().items() if tensor.dim() == 4)
    mask = Mask({name: source.state_dict()[name].abs() > 0.1})
    return source, reference, trace_symmetry(source, batch[:2]), {"m": mask}, [batch]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"objective": "covariance", "stream": "last", "weight_mix": 0.3, "mask_weight_mix": 0.9},
        {"preset": "paper"},
    ],
)
def test_activations_get_every_setting(networks, settings, monkeypatch) -> None:
    source, reference, symmetry, masks, batches = networks
    calls, told = [], []
    monkeypatch.setattr(
        activation, "match_activations", lambda *args, **more: calls.append(more) or match_activations(*args, **more)
    )
    found = Matcher(**settings).match(source, reference, batches, symmetry, masks, lambda *step: told.append(step))
    defaults = {"objective": "correlation", "stream": "sum", "weight_mix": 0.0, "preset": None}
    (call,) = calls
    assert call.pop("progress") is not None
    assert call == {**defaults, "mask_weight_mix": MASK_WEIGHT_MIX, "masks": masks, **settings}
    assert told == [(1, 1)]
    expected = match_activations(source, reference, batches, symmetry, masks=masks, **settings)
    assert (found.permutation, found.masked, found.objective) == (
        expected.permutation,
        expected.masked,
        expected.objective,
    )


@pytest.mark.parametrize("method", BY_WEIGHTS)
def test_methods_by_weights_look_at_no_batch(networks, method, monkeypatch) -> None:
    source, reference, symmetry, masks, _ = networks
    calls = []
    monkeypatch.setattr(
        weight_matching, "match_weights", lambda *args, **more: calls.append(more) or match_weights(*args, **more)
    )

    def unread():
        yield pytest.fail("a batch was read")

    found = Matcher(method=method, seed=3).match(source, reference, unread(), symmetry, masks)
    assert calls == [{"masks": masks, "method": method, "seed": 3}]
    expected = match_weights(source, reference, symmetry, method=method, seed=3, masks=masks)
    assert (found.permutation, found.masked) == (expected.permutation, expected.masked)
    assert found.num_samples == 0


def test_signs_are_matched_for_the_masks_and_weights_for_the_network(networks) -> None:
    source, reference, symmetry, masks, _ = networks
    found = Matcher(method="signs", seed=3).match(source, reference, (), symmetry, masks)
    expected = match_signs(source, reference, symmetry, masks=masks, seed=3)
    assert (found.permutation, found.masked) == (expected.permutation, expected.masked)
    assert found.masked != {"m": found.permutation}


def at_random(source, reference, batches, symmetry, masks):
    """A method of the user's own, as `own_matchers:at_random`."""
    assert next(iter(batches)) is not None
    return MatchResult(symmetry.random(torch.Generator().manual_seed(int(torch.randint(2**31, ())))))


def no_result(source, reference, batches, symmetry, masks):
    return symmetry.identity()


NUMBER = 3


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setitem(sys.modules, "own_matchers", sys.modules[__name__])


@pytest.mark.usefixtures("own")
def test_a_method_of_ones_own_moves_the_masks_and_draws_by_the_seed(networks) -> None:
    source, reference, symmetry, masks, batches = networks
    ours = Matcher(method="own_matchers:at_random", seed=3)
    assert ours.needs_images
    assert ours.measure == "as own_matchers:at_random reports it"
    state = torch.get_rng_state()
    found = ours.match(source, reference, batches, symmetry, masks)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.masked == {"m": found.permutation}
    assert found.permutation == ours.match(source, reference, batches, symmetry, masks).permutation
    other = Matcher(method="own_matchers:at_random", seed=4).match(source, reference, batches, symmetry, masks)
    assert other.permutation != found.permutation


@pytest.mark.usefixtures("own")
def test_what_is_no_method_is_refused(networks) -> None:
    source, reference, symmetry, masks, batches = networks
    with pytest.raises(InputError, match=r"^--method is 'frank_wolf', which is not known \(did you mean frank_wolfe"):
        Matcher(method="frank_wolf")
    Matcher(method="no_such_module:nothing")  # as reports read it: no code is imported
    with pytest.raises(InputError, match="--method is 'own_matchers:nothing', which cannot be imported"):
        Matcher(method="own_matchers:nothing").check_code()
    with pytest.raises(InputError, match="--method is 'own_matchers:NUMBER', a int, expected a function match"):
        Matcher(method="own_matchers:NUMBER").check_code()
    Matcher(method="own_matchers:at_random").check_code()
    Matcher().check_code()
    with pytest.raises(InputError, match="--objective is raw, but --method own_matchers:at_random has no use for it"):
        Matcher(method="own_matchers:at_random", objective="raw")
    with pytest.raises(InputError, match="method own_matchers:no_result returned a Permutation, expected a Match"):
        Matcher(method="own_matchers:no_result").match(source, reference, batches, symmetry, masks)


def test_a_study_says_the_seed_or_the_repetition_does() -> None:
    assert matcher_of({"preset": "paper", "num_images": 5, "batch_size": 5, "at": "1ep"}, 6) == Matcher(
        preset="paper", seed=6
    )
    assert matcher_of({"seed": 3}, 6) == Matcher(seed=3)
