"""Methods, matchers and criteria of a study that are new records or code of the user's own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny import STUDY

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.methods import METHODS, Method
from rebasin_lt.study.checks import check_names_and_types
from rebasin_lt.study.plan import plan

SMALL = replace(STUDY, seeds=[0], diversity=None, barrier=None)


def test_a_new_method_is_planned_by_its_record(monkeypatch) -> None:
    monkeypatch.setitem(METHODS, "a_under_b", Method("A under B", "other_1", "o", "A", weights="a", mask="b"))
    stages = plan(replace(SMALL, methods=["a_under_b"]))
    (stage,) = [found for found in stages.values() if found.kind == "sparse" and "0.8,rewind=1ep" in found.path]
    assert stage.settings["mask"].startswith("width=1/seed=0/imp_b/imp/sparsity-0.8")
    assert stage.settings["init_from"] == "width=1/seed=0/dense_a/rewind/1ep.ckpt"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["no_such:thing"]}, "one of methods is 'no_such:thing', which cannot be imported"),
        ({"methods": ["os:sep+mask"]}, r"one of methods is 'os:sep', a str, expected a function control\("),
        ({"methods": ["os:sep"]}, r"one of methods is 'os:sep', a str, expected a function control\(mask, network, "),
        ({"matchers": {"permuted": {"method": "os:sep"}}}, r"--method is 'os:sep', a str, expected a function match\("),
        ({"matchers": {"permuted": {"method": "activation"}}}, r"method is 'activation', .*did you mean activations"),
        ({"matchers": {"permuted": {"objective": "covarianc"}}}, "objective is 'covarianc', .*did you mean covariance"),
        ({"barrier": {"corrections": ["bn_rest"]}}, "one of barrier.corrections is 'bn_rest', .*did you mean bn_reset"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(changes, message) -> None:
    with pytest.raises(InputError, match=message):
        check_names_and_types(replace(SMALL, **{"methods": ["lth"], **changes}))


def test_a_control_and_a_matcher_of_ones_own_are_planned_without_being_imported() -> None:
    methods, matchers = ["no_such:thing", "mine"], {"mine": {"method": "no_such:match"}}
    stages = plan(replace(SMALL, methods=methods, matchers=matchers))
    assert {stage.settings["kind"] for stage in stages.values() if stage.kind == "control"} == {"no_such:thing"}
    assert any("method=no_such:thing" in path for path in stages)
