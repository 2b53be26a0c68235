"""Every family of names is one table: each record, and a new one, goes from command to result, table and figure."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import pytest
import torch

from benchmarks.names import FAMILIES, PAGE, page
from rebasin_lt.cli import main
from rebasin_lt.connectivity.corrections import CORRECTIONS
from rebasin_lt.experiment.controls import CONTROLS
from rebasin_lt.experiment.methods import METHODS, Method, known_methods
from rebasin_lt.experiment.metrics import METRICS, Metric, metrics_of
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.matching.activation import MatchResult
from rebasin_lt.matching.methods import MATCHING_METHODS
from rebasin_lt.matching.objectives import OBJECTIVES
from rebasin_lt.pruning.criteria import CRITERIA, Criterion, prune_by
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.report.kit.methods import COLOURS
from rebasin_lt.report.study.sections import write_study_report

NEW = "hand_made"
"""The name of a record that a test adds to one table, and to nothing else."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """a.ckpt and b.ckpt, untrained, and a mask of A."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    for name in "ab":
        module = Classifier(width=0.25)
        about = {"format_version": 1, **module.architecture(), "data": {"name": "digits"}}
        torch.save({"state_dict": module.state_dict(), "rebasin_lt": about}, folder / f"{name}.ckpt")
    mask = prune_by("magnitude", module.net, (), Mask.ones_of(module.net), 0.5)
    mask.save(folder / "a.mask.safetensors")
    return folder


@pytest.fixture
def add(monkeypatch):
    """Adds a record to a table for one test."""
    return lambda table, record: monkeypatch.setitem(table, NEW, record)


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


def check_help(command: str, name: str, capsys) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert re.search(rf"\b{name}\b", capsys.readouterr().out)


def permuted(folder, out, capsys, *options: str) -> tuple[dict, str]:
    """What `permute` writes with these options and what it prints, after its figure is there."""
    pair = ("--ckpt_a", folder / "a.ckpt", "--ckpt_b", folder / "b.ckpt", "--num_images", 200, "--num_alphas", 3)
    run("permute", *pair, "--out", out, *options)
    assert (out / "barrier-loss.svg").stat().st_size > 1000
    return json.loads((out / "result.json").read_text()), capsys.readouterr().out


class TestObjectives:
    def check(self, name, folder, tmp_path, capsys):
        result, printed = permuted(folder, tmp_path / "out", capsys, "--objective", name)
        assert result["measure"] == OBJECTIVES[name].measure
        assert " ".join(OBJECTIVES[name].measure.split()[:2]) in " ".join(printed.split())

    @pytest.mark.parametrize("name", OBJECTIVES)
    def test_each(self, name, folder, tmp_path, capsys):
        self.check(name, folder, tmp_path, capsys)

    def test_a_new_one(self, add, folder, tmp_path, capsys):
        record = OBJECTIVES["covariance"]._replace(measure="hand made likeness", meaning="By hand.")
        add(OBJECTIVES, record)
        self.check(NEW, folder, tmp_path, capsys)
        check_help("permute", NEW, capsys)
        assert f"| `{NEW}` | By hand. | hand made likeness |" in page()


class TestMatchingMethods:
    def check(self, name, folder, tmp_path, capsys):
        result, printed = permuted(folder, tmp_path / "out", capsys, "--method", name)
        assert result["method"] == name
        assert f"Matched by {name.replace('_', ' ')}" in printed

    @pytest.mark.parametrize("name", MATCHING_METHODS)
    def test_each(self, name, folder, tmp_path, capsys):
        self.check(name, folder, tmp_path, capsys)

    def test_a_new_one(self, add, folder, tmp_path, capsys):
        add(MATCHING_METHODS, MATCHING_METHODS["frank_wolfe"]._replace(meaning="By hand."))
        self.check(NEW, folder, tmp_path, capsys)
        check_help("permute", NEW, capsys)
        assert f"| `{NEW}` | By hand. | no |" in page()

    def test_ones_own(self, folder, tmp_path, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "own_code", sys.modules[__name__])
        self.check("own_code:unmoved", folder, tmp_path, capsys)


def unmoved(source, reference, batches, symmetry, masks):
    """A method of matching of the user's own."""
    return MatchResult(symmetry.identity(), objective=dict.fromkeys(symmetry.groups, 0.5))


class TestCorrections:
    def check(self, name, folder, out, capsys):
        pair = ("--ckpt_a", folder / "a.ckpt", "--ckpt_b", folder / "b.ckpt", "--num_images", 200, "--num_alphas", 3)
        run("barrier", *pair, "--splits", "test", "--corrections", name, "--out", out)
        curves = json.loads((out / "result.json").read_text())["curves"]
        assert {curve["correction"] for curve in curves} == {name}
        label = CORRECTIONS[name].label
        assert label in capsys.readouterr().out
        assert label in (out / "barrier.svg").read_text() or len(list(out.glob("*.svg"))) > 0

    @pytest.mark.parametrize("name", [name for name, record in CORRECTIONS.items() if record.applies(False)])
    def test_each(self, name, folder, tmp_path, capsys):
        self.check(name, folder, tmp_path / "out", capsys)

    def test_a_new_one(self, add, folder, tmp_path, capsys, make_outcome):
        add(CORRECTIONS, CORRECTIONS["rescale"]._replace(label="HAND", meaning="By hand."))
        self.check(NEW, folder, tmp_path / "out", capsys)
        check_help("barrier", NEW, capsys)
        assert f"| `{NEW}` | HAND | By hand. | without |" in page()
        outcome = make_outcome(widths=(1,))
        barriers = [{**line, "correction": NEW} for line in outcome.barriers if line["correction"] == "none"]
        write_study_report(replace(outcome, barriers=outcome.barriers + barriers), tmp_path / "report")
        assert "HAND" in (tmp_path / "report" / "report.md").read_text()


class TestControls:
    def check(self, name, folder, out, capsys):
        mask, ckpt = ("--mask", folder / "a.mask.safetensors"), ("--ckpt", folder / "a.ckpt")
        needs = CONTROLS[name].needs if name in CONTROLS else ("ckpt",)
        run("control", "--kind", name, *mask, *(ckpt if "ckpt" in needs else ()), "--out", out)
        assert Mask.load(out).num_kept == Mask.load(mask[1]).num_kept
        assert f"({name}, sparsity 0.5000)" in capsys.readouterr().out

    @pytest.mark.parametrize("name", CONTROLS)
    def test_each(self, name, folder, tmp_path, capsys):
        self.check(name, folder, tmp_path / "c.mask.safetensors", capsys)

    def test_a_new_one(self, add, folder, tmp_path, capsys, make_outcome):
        add(CONTROLS, CONTROLS["shuffled"]._replace(label="HAND", meaning="By hand."))
        self.check(NEW, folder, tmp_path / "c.mask.safetensors", capsys)
        check_help("control", NEW, capsys)
        assert f"| `{NEW}` | HAND | By hand. |" in page()
        check_method(NEW, make_outcome, tmp_path)

    def test_ones_own(self, folder, tmp_path, capsys, make_outcome, monkeypatch):
        monkeypatch.setitem(sys.modules, "own_code", sys.modules[__name__])
        self.check("own_code:same_mask", folder, tmp_path / "c.mask.safetensors", capsys)
        methods = ("lth", "permuted", "naive", "own_code:same_mask")
        outcome = make_outcome(widths=(1,), rewinds=("1ep",), methods=methods)
        text = report_of(outcome, tmp_path / "report")
        assert "same mask" in text
        assert "own\\_code:same\\_mask" in text or "own_code:same_mask" in text


def same_mask(mask, network, batches, sparsity, generator):
    """A control of the user's own."""
    return mask


def report_of(outcome, out) -> str:
    write_study_report(outcome, out)
    return (out / "report.md").read_text(encoding="utf-8")


def check_method(name, make_outcome, tmp_path):
    """A method is in the tables, in the figure and in the explanations of a report."""
    methods = dict.fromkeys(["lth", "permuted", "naive", name])
    text = report_of(make_outcome(widths=(1,), rewinds=("1ep",), methods=list(methods)), tmp_path / "report")
    record = known_methods()[name]
    assert record.label in text
    assert record.meaning.rstrip(".").split("`")[0] in text
    figure = next(tmp_path.rglob("accuracy*.svg"))
    assert COLOURS[record.colour][0] in figure.read_text(encoding="utf-8")


class TestMethods:
    @pytest.mark.parametrize("name", known_methods())
    def test_each(self, name, make_outcome, tmp_path):
        check_method(name, make_outcome, tmp_path)

    def test_a_new_one(self, add, make_outcome, tmp_path, capsys):
        add(METHODS, Method("HAND", "other_2", "d", "By hand.", mask="b"))
        check_method(NEW, make_outcome, tmp_path)
        check_help("study", NEW, capsys)
        assert f"| `{NEW}` | HAND | By hand. |" in page()


class TestCriteria:
    def check(self, name, folder, out):
        own = ("--model.init_from", folder / "a.ckpt", "--trainer.default_root_dir", out, "--model.width", 0.25)
        imp = f'[{{"class_path": "IterativeMagnitudePruning", "init_args": {{"targets": [0.5], "fraction": 0.5, \
"epochs_per_round": 1, "criterion": "{name}"}}}}]'
        run("fit", "--config", "imp.yaml", *own, "--trainer.callbacks", imp, "--data.batch_size", 500)
        _, about = Mask.load_with_metadata(out / "imp" / "sparsity-0.5.mask.safetensors")
        assert about["criterion"] == name

    @pytest.mark.parametrize("name", CRITERIA)
    def test_each(self, name, folder, tmp_path):
        self.check(name, folder, tmp_path / "run")

    def test_a_new_one(self, add, folder, tmp_path):
        add(CRITERIA, Criterion(first_come, "By hand.", needs_batches=False))
        self.check(NEW, folder, tmp_path / "run")
        assert f"| `{NEW}` | By hand. | no |" in page()

    def test_ones_own(self, folder, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "own_code", sys.modules[__name__])
        self.check("own_code:first_come", folder, tmp_path / "run")


def first_come(network, batches):
    """A criterion of the user's own."""
    return {name: -torch.arange(w.numel()).reshape(w.shape).float() for name, w in network.named_parameters()}


class TestMetrics:
    def check(self, name, make_outcome, tmp_path):
        record = METRICS[name]
        assert metrics_of({f"test/{name}": 50.0})[name] == 50 / record.factor
        outcome = make_outcome(widths=(1,), num_classes=100)
        for runs in (outcome.dense, outcome.pruned, outcome.sparse):
            for own in runs:
                own[name] = own.get(name, 1.5 * own["top1"])
        text = report_of(outcome, tmp_path / "report")
        assert f"## {record.heading}" in text
        assert f"{record.label} in {record.unit}," in text or (not record.unit and f"{record.label}," in text)
        figure = next(tmp_path.rglob(f"{record.file}-width-1.svg"))
        assert record.label.capitalize() in text
        assert figure.stat().st_size > 1000
        assert name in (tmp_path / "report" / "accuracy.csv").read_text().splitlines()[0].split(",")
        assert f"\n{name},1.0," in (tmp_path / "report" / "summary.csv").read_text()

    @pytest.mark.parametrize("name", METRICS)
    def test_each(self, name, make_outcome, tmp_path):
        self.check(name, make_outcome, tmp_path)

    def test_a_new_one(self, add, make_outcome, tmp_path):
        add(METRICS, Metric("test hand", "Hands", "fingers", NEW, is_share=False, better="lower"))
        self.check(NEW, make_outcome, tmp_path)
        assert f"| `{NEW}` | test hand | fingers | lower |" in page()


def test_the_page_of_names_is_made_from_the_tables():
    assert page() == PAGE.read_text(encoding="utf-8"), "run python -m benchmarks.names"
    assert len({family.title for family in FAMILIES}) == len(FAMILIES)
