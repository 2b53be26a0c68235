"""--loss, from the command to table, CSV, figure and result: what has no error says so, what cannot be is refused."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch
from loss_cases import CASES, Net, batches_of
from torch.nn import functional as F

from rebasin_lt.analyses.diversity import measure
from rebasin_lt.cli import main
from rebasin_lt.diversity import ValueDiversity
from rebasin_lt.errors import InputError
from rebasin_lt.judging.losses import BY_CROSS_ENTROPY, LOSSES, judged_of_result
from rebasin_lt.report.analyses.diversity import diversity_figure, diversity_table
from rebasin_lt.settings.choices import imported

FEW = ["--num-images", "40", "--num-test-images", "30"]


@pytest.fixture
def given(planted, tmp_path, monkeypatch) -> list[str]:
    """Options of two networks, and a module with a loss of one's own."""
    (tmp_path / "half_loss.py").write_text(
        "from torch.nn.functional import cross_entropy\n\n\ndef half(output, target):\n"
        "    return cross_entropy(output.double(), target, reduction='none') / 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return ["--ckpt-a", str(planted / "a.ckpt"), "--ckpt-b", str(planted / "b.ckpt")]


def results(command: list[str], tmp_path: Path, capsys) -> tuple[dict, dict, str]:
    """What a command finds by the default, and by half of it; and what it prints of the latter."""
    found = []
    for loss in ([], ["--loss", "half_loss:half"]):
        out = tmp_path / f"out{len(found)}"
        capsys.readouterr()
        assert main([*command, *loss, "--out", str(out)]) == 0, capsys.readouterr().err
        found.append(json.loads((out / "result.json").read_text()))
    return found[0], found[1], capsys.readouterr().out


OWN = {"loss": "half_loss:half", "label": "half", "unit": "", "mean_over": "losses", "error": None}


def test_a_barrier_by_ones_own_loss(given, tmp_path, capsys) -> None:
    command = ["barrier", *given, *FEW, "--num-alphas", "3", "--corrections", "none", "--splits", "test"]
    plain, own, printed = results(command, tmp_path, capsys)
    assert own["judged"] == OWN
    assert "judged" not in plain
    ((expected,), (found,)) = plain["curves"], own["curves"]
    assert [2 * loss for loss in found["loss"]] == pytest.approx(expected["loss"], rel=1e-12)
    assert (found["error"], found["error_barrier"], found["error_excess_over_mean"]) == (None, None, None)
    assert expected["error"] is not None
    assert printed.startswith("3 points on 30 test losses, by half, which has no error\n")
    assert "error" not in printed.split("\n", 1)[1]
    assert "nats" not in printed
    header, *rows = csv.reader((tmp_path / "out1" / "curves.csv").open())
    assert header == ["correction", "alignment", "split", "alpha", "loss"]
    assert len(rows) == 3
    text = "".join(ET.parse(tmp_path / "out1" / "barrier.svg").getroot().itertext())
    assert "raw: half" in text
    assert "error" not in text


def test_a_permutation_is_judged_by_ones_own_loss(given, tmp_path, capsys) -> None:
    plain, own, printed = results(["permute", *given, *FEW[:2], "--num-alphas", "3"], tmp_path, capsys)
    assert own["judged"] == OWN
    for correction, curves in own["barrier"].items():
        for name, curve in curves.items():
            expected = plain["barrier"][correction][name]
            assert [2 * loss for loss in curve["loss"]] == pytest.approx(expected["loss"], rel=1e-12)
            assert curve["error"] is None
    assert "values at both ends), on the test set, by half" in printed
    assert "error barrier" not in printed
    assert (tmp_path / "out1" / "barrier-loss.svg").exists()
    assert not (tmp_path / "out1" / "barrier-error.svg").exists()


def test_a_plane_by_ones_own_loss(given, planted, tmp_path, capsys) -> None:
    command = ["landscape", *given, *FEW, "--permutation", str(planted / "pi.perm.safetensors"), "--num-points", "3"]
    plain, own, printed = results(command, tmp_path, capsys)
    assert own["judged"] == OWN
    found, expected = (torch.tensor(each["loss"]["none"], dtype=torch.float64) for each in (own, plain))
    torch.testing.assert_close(2 * found, expected, rtol=1e-12, atol=0.0)
    assert own["error"]["none"] == [[None] * 3] * 3
    assert ", by half" in printed


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["barrier", "--loss", "msee"], "--loss is 'msee', which is not known (did you mean mse?)"),
        (
            ["barrier", "--loss", "mse"],
            "loss is mse, the network answers (40, 10) float32 and the label is (40,) int64",
        ),
        (["barrier", "--loss", "validation_step:val/loss"], "has no validation_step"),
        (["barrier", "--loss", "bce", "--corrections", "temperature"], "which fits logits to cross_entropy, but loss"),
        (["permute", "--loss", "bce"], "losses that fit are cross_entropy"),
        (["permute", "--loss", "mse", "--num-alphas", "0"], "--loss is mse, but --num-alphas 0 measures no barrier"),
        (["landscape", "--loss", "token_cross_entropy"], "expected logits of shape (sequences, tokens, classes)"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused_in_one_line(given, planted, tmp_path, capsys, command, message) -> None:
    few = FEW if command[0] != "permute" else FEW[:2]
    more = ["--permutation", str(planted / "pi.perm.safetensors")] if command[0] == "landscape" else []
    assert main([command[0], *given, *few, *more, *command[1:], "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_two_weights_have_a_loss_of_their_own(tmp_path, capsys) -> None:
    assert main(["landscape", "--two-weights", "--loss", "mse", "--out", str(tmp_path / "out")]) == 2
    assert "--two-weights trains its own networks, but --loss is mse" in capsys.readouterr().err


@pytest.mark.parametrize("name", LOSSES)
def test_the_diversity_by_every_loss_is_that_of_two_answers(name: str) -> None:
    """Accuracies are the errors of torch's functions, and an ensemble of two equal members is each of them."""
    case = CASES[name]
    members, batches = [Net(seed, case.width, case.shape) for seed in (1, 2)], batches_of(case)
    found = measure({"two": members, "same": members[:1] * 2}, batches, loss=name)
    two, same = found["settings"]["two"], found["settings"]["same"]
    inputs, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    answers = [member(inputs).detach() for member in members]
    if case.error is None:
        assert two["member_loss"] == pytest.approx([float(case.loss(each, labels)) for each in answers], abs=1e-12)
        assert two["ensemble_loss"] == pytest.approx(float(case.loss(sum(answers) / 2, labels)), abs=1e-12)
        assert two["disagreement"] == pytest.approx(float(F.mse_loss(*answers)), abs=1e-12)
        assert two["ensemble_loss"] == pytest.approx(sum(two["member_loss"]) / 2 - two["disagreement"] / 4, abs=1e-12)
        assert same["ensemble_loss"] == same["member_loss"][0]
    else:
        expected = [1 - float(case.error(each, labels)) for each in answers]
        assert two["member_accuracy"] == pytest.approx(expected, abs=1e-12)
        assert same["ensemble_accuracy"] == same["member_accuracy"][0]
    assert same["disagreement"] == 0 < two["disagreement"]
    assert found["num_images"] == sum(case.count(labels) for _, labels in batches)
    assert judged_of_result(found) == LOSSES[name].judged(name)
    text = diversity_table(found).to_text()
    assert f"test {LOSSES[name].mean_over};" in text
    assert ("accuracy" in text) == (case.error is not None)
    label = diversity_figure(found).axes[0].get_xlabel()
    assert label == ("test accuracy (%)" if case.error else "test mean squared error")


def test_labels_between_0_and_1_have_no_diversity() -> None:
    net, batches = Net(0, 3, lambda out: out), [(torch.randn(4, 5).double(), torch.full((4, 3), 0.25))]
    with pytest.raises(InputError, match="loss is bce, but targets lie between 0 and 1: expected labels that are 0 or"):
        measure({"one": [net]}, batches, loss="bce")


def test_diversity_by_ones_own_loss_is_refused(planted, tmp_path, capsys) -> None:
    given = ["--checkpoints", str(planted / "a.ckpt"), "--loss", "validation_step:val/loss"]
    assert main(["diversity", *given, "--out", str(tmp_path / "out")]) == 2
    assert (
        "which does not say how far the answers of two networks are apart: expected one of" in capsys.readouterr().err
    )


def test_the_metric_of_regressors_refuses_what_does_not_fit() -> None:
    metric = ValueDiversity(2)
    with pytest.raises(InputError, match=r"answers have shape \(2, 3\) and targets \(4,\), expected \(2, …\)"):
        metric.update(torch.zeros(2, 3), torch.zeros(4))
    with pytest.raises(InputError, match="there are no values: call update"):
        metric.compute()


def test_the_record_of_the_default_is_what_a_result_that_says_nothing_is_by() -> None:
    assert LOSSES["cross_entropy"].judged("cross_entropy") == BY_CROSS_ENTROPY == judged_of_result({})
    for record in LOSSES.values():
        assert isinstance(imported(record.measure), tuple)
