"""Every form of a batch, through all that reads batches: planted permutations are found, losses are those of a loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from forms import FORMS, SIZES, Pair, Words, batches, example, labels_of
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import rebasin_lt as rb
from rebasin_lt.connectivity.batchnorm import reset_batchnorm
from rebasin_lt.connectivity.closed_form import closed_form_line
from rebasin_lt.connectivity.evaluation import evaluate
from rebasin_lt.connectivity.repair import repair
from rebasin_lt.connectivity.temperature import inverse_temperatures
from rebasin_lt.feeding.calls import Fed
from rebasin_lt.pruning.saliency import grasp_scores, snip_scores, taylor_scores


def cases() -> Iterator[Any]:
    for name in FORMS:
        for sizes in SIZES:
            for labelled in (None, *labels_of(name)):
                yield pytest.param(name, sizes, labelled, id=f"{name}, {sizes}, {labelled or 'no'} labels")


@pytest.fixture(scope="module", params=FORMS)
def traced(request: pytest.FixtureRequest) -> tuple[str, Words, rb.Symmetry]:
    name = request.param
    torch.manual_seed(0)
    network = FORMS[name][0]()
    return name, network, rb.trace_symmetry(network, example(name))


@pytest.mark.parametrize("sizes", SIZES)
def test_a_planted_permutation_is_found(traced: tuple[str, Words, rb.Symmetry], sizes: str) -> None:
    name, network, symmetry = traced
    assert set(symmetry.groups) == {"embedding.weight", "hidden.weight"}
    planted = symmetry.random(torch.Generator().manual_seed(3))
    moved = symmetry.permute(network.state_dict(), planted)
    for labelled in (None, *labels_of(name)):
        match = rb.match_activations(network, moved, batches(name, sizes, labelled), symmetry)
        assert all(torch.equal(match.permutation[group], index) for group, index in planted.items())
        assert match.num_samples == sum(rows for rows, _ in SIZES[sizes])


def plain(network: nn.Module, name: str, sizes: str) -> Tensor:
    """The mean cross entropy over all samples, by a loop that knows nothing of forms."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for inputs, label in batches(name, sizes, "pair"):
        with torch.no_grad():
            if name in {"tuple", "dict", "keywords"}:
                ids, mask = (inputs["ids"], inputs["mask"]) if isinstance(inputs, dict) else inputs
                logits = network.classify(ids, mask)  # type: ignore[operator]
            else:
                logits = network(inputs)[0] if name == "nested" else network(inputs)
        total += cross_entropy(logits, label, reduction="sum")
        count += len(label)
    return total / count


@pytest.mark.parametrize(("name", "sizes", "labelled"), cases())
def test_all_that_reads_batches_reads_these(name: str, sizes: str, labelled: str | None) -> None:
    first, second = (FORMS[name][0]().double() for _ in range(2))
    given = batches(name, sizes, labelled)
    ends = first.state_dict(), second.state_dict()
    middle = repair(first, ends, 0.5, given)
    assert closed_form_line(first, ends, given)([0.5])[0].keys() == middle.keys()
    assert reset_batchnorm(first, given).keys() == middle.keys()
    if labelled is None:
        with pytest.raises(rb.InputError, match="batches holds inputs without targets"):
            evaluate([first.eval()], given)
        return
    found = rb.loss_barrier(first, *ends, given, alphas=3, correction="temperature", correction_batches=given)
    assert found.num_images == sum(rows for rows, _ in SIZES[sizes])
    (judged,) = evaluate([first.eval()], given)
    assert judged.loss == pytest.approx(float(plain(first, name, sizes)), abs=1e-10)
    assert inverse_temperatures([first], given)[0] >= 0
    mask = rb.Mask.ones_of(first)
    for scores in (snip_scores(first, mask, given), grasp_scores(first, mask, given), taylor_scores(first, given)):
        assert scores.keys() >= mask.keys()


def test_names_of_the_callers_own_go_everywhere() -> None:
    given = Fed(
        [{"text": ids, "pad": mask, "kind": label} for (ids, mask), label in batches("tuple", "batch first", "pair")],
        inputs={"ids": "text", "mask": "pad"},
        targets="kind",
    )
    network = Pair().double()
    (judged,) = evaluate([network.eval()], given)
    assert judged.loss == pytest.approx(float(plain(network, "tuple", "batch first")), abs=1e-10)
    symmetry = rb.trace_symmetry(network, example("tuple"))
    assert rb.match_activations(network, network, given, symmetry).num_samples == 128
