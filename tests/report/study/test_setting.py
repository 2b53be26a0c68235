"""What a report knows of a study's settings."""

from __future__ import annotations

import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.report.study.published import published
from rebasin_lt.report.study.setting import Setting

RECIPE = {"data": {"name": "cifar10"}, "network": {"arch": "resnet20"}, "rewinds": ["1ep", "20ep"]}
CELL = (1, 0.9, "20ep")


def ours(number: object) -> float | None:
    return getattr(number, "value", None)


def test_setting_is_read_from_a_recipe() -> None:
    assert Setting.of({"recipe": RECIPE}) == Setting("cifar10", "resnet20", ("1ep", "20ep"), 10)
    assert Setting.of({"recipe": {"data": {"name": "imagenet"}}}).num_classes == 1000
    assert Setting.of({"recipe": {"data": {"name": "mine"}, "network": {"num_classes": 37}}}).num_classes == 37


def test_images_of_another_size_have_no_published_numbers() -> None:
    setting = Setting.of({"recipe": RECIPE | {"data": {"name": "cifar100", "image_size": 16}}})
    assert setting.published(*CELL, "lth") is None
    assert setting.num_classes == 100


def test_no_settings_have_no_published_numbers() -> None:
    setting = Setting.of({})
    assert setting.published(*CELL, "lth") is None
    assert setting.published_dense(1) is None


PAPER = {"preset": "paper"}
POOLED = {"stream": "last", "mask_weight_mix": 0.0}
MATCHERS = [
    ({}, "resnet20", False),
    (PAPER, "resnet20", True),
    (PAPER | {"augment": True, "batch_size": 128, "num_images": 1000, "seed": 3}, "resnet20", True),
    (PAPER | {"objective": "correlation", "stream": "sum"}, "resnet20", True),  # defaults, which the preset sets
    ({"preset": None}, "resnet20", False),
    (POOLED, "resnet20", False),
    (POOLED, "vgg11", True),
    (POOLED | {"augment": True, "objective": "correlation"}, "vgg11", True),
    ({"mask_weight_mix": 0.0}, "vgg11", False),
    (POOLED | {"weight_mix": 0.5}, "vgg11", False),
    (POOLED | {"objective": "raw"}, "vgg11", False),
    ({"method": "frank_wolfe"}, "vgg11", False),
]


def of(matchers: object, arch: str = "resnet20", **changes: object) -> Setting:
    return Setting.of({"recipe": RECIPE | {"network": {"arch": arch}}, "matchers": matchers, **changes})


@pytest.mark.parametrize(("settings", "arch", "there"), MATCHERS)
@pytest.mark.parametrize("name", ["permuted", "permuted_paper", "permuted_5ep", "zebra", "magnitude"])
def test_the_papers_mask_is_beside_what_repeats_it_whatever_it_is_called(name, settings, arch, there) -> None:
    number = published("cifar10", arch, 1, "permuted", 0.9, rewind="20ep")
    assert number is not None
    assert of({name: settings}, arch).published(*CELL, name) == (number if there else None)


@pytest.mark.parametrize(("at", "value"), [("5ep", 0.8916), ("7ep", None), ("5it", None), ("final", 0.895)])
@pytest.mark.parametrize("name", ["permuted_5ep", "permuted", "zebra"])
def test_early_matching_is_beside_table_15(name, at, value) -> None:
    assert ours(of({name: PAPER | {"at": at}}).published(*CELL, name)) == value
    assert of({name: {"at": at}}).published(*CELL, name) is None


def test_controls_have_no_number_and_lth_and_naive_theirs() -> None:
    setting = of({"zebra": PAPER})
    assert setting.published(*CELL, "shuffled") is None
    assert ours(setting.published(*CELL, "naive")) == 0.8883


@pytest.mark.parametrize(("settings", "there"), [(PAPER, True), ({}, False), (PAPER | {"at": "5ep"}, False)])
def test_permuted_members_are_beside_table_1_if_they_are_matched_as_there(settings, there) -> None:
    setting = of({"zebra": settings}, diversity={"matcher": "zebra"})
    assert ours(setting.published_diversity(1, 0.9, "permuted", "top1")) == (0.8938 if there else None)
    assert ours(setting.published_diversity(1, 0.9, "naive", "top1")) == 0.8868


def test_a_matcher_that_cannot_be_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"a matcher has no setting 'preseet' \(did you mean preset\?\): expected some of method"
    ):
        of({"zebra": {"preseet": "paper"}})


def test_diversity_is_of_table_1() -> None:
    setting = Setting.of({"recipe": RECIPE})
    assert ours(setting.published_diversity(1, 0.9, "dense", "top1")) == 0.9276
    assert ours(setting.published_diversity(1, 0.9, "naive", "kl")) == 0.271
    assert setting.published_diversity(1, 0.97, "naive", "kl") is None
