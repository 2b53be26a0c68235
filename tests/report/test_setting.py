"""What a report knows of a study's settings."""

from __future__ import annotations

from rebasin_lt.report.published import published
from rebasin_lt.report.setting import Setting

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


def test_the_papers_mask_is_beside_the_matcher_that_repeats_it() -> None:
    number = published("cifar10", "resnet20", 1, "permuted", 0.9, rewind="20ep")
    alone = Setting.of({"recipe": RECIPE, "methods": ["lth", "permuted"]})
    both = Setting.of({"recipe": RECIPE, "methods": ["lth", "permuted", "permuted_paper"]})
    assert alone.published(*CELL, "permuted") == number
    assert both.published(*CELL, "permuted") is None
    assert both.published(*CELL, "permuted_paper") == number


def test_early_matching_is_beside_table_15() -> None:
    setting = Setting.of({"recipe": RECIPE})
    assert ours(setting.published(*CELL, "permuted_5ep")) == 0.8916
    assert setting.published(*CELL, "permuted_7ep") is None
    assert setting.published(*CELL, "shuffled") is None


def test_diversity_is_of_table_1() -> None:
    setting = Setting.of({"recipe": RECIPE})
    assert ours(setting.published_diversity(1, 0.9, "dense", "top1")) == 0.9276
    assert ours(setting.published_diversity(1, 0.9, "naive", "kl")) == 0.271
    assert setting.published_diversity(1, 0.97, "naive", "kl") is None
