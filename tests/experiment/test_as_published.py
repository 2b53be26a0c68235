"""Every shipped file that says it matches as the paper did parses to settings that do: what it says is what it runs."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from shipped_studies import RESULTS, STUDIES, read

from rebasin_lt.experiment.matcher import Matcher, matcher_of
from rebasin_lt.settings.config_files import find_config, shipped

NAMED = [(name, matcher) for name in [*STUDIES, *RESULTS] for matcher in read(name).matchers if "paper" in matcher]
SAYING = [name for name in shipped() if "as published" in Path(find_config(name)).read_text(encoding="utf-8")]
SPARSE = [name for name in shipped() if name.startswith("experiments/") and name.endswith("_sparse.yaml")]
POOLED = [name for name in SPARSE if "resnet20" not in name]


def text_of(name: str) -> str:
    """The comments of a file as running text."""
    lines = Path(find_config(name)).read_text(encoding="utf-8").splitlines()
    return " ".join(line.partition("#")[2].strip() for line in lines if "#" in line)


@pytest.mark.parametrize(("name", "matcher"), NAMED)
def test_a_matcher_that_is_named_after_the_paper_is_the_papers(name, matcher):
    study = read(name)
    assert matcher_of(study.matchers[matcher]).is_published(study.recipe.network["arch"])


@pytest.mark.parametrize("name", SAYING)
def test_a_file_that_says_so_matches_as_published(name):
    """All its matchers do but `permuted`, where its header excepts it: this package's own way."""
    if name not in [*STUDIES, *RESULTS]:
        assert name in SPARSE
        return
    study = read(name)
    arch = study.recipe.network["arch"]
    published = [each for each, settings in study.matchers.items() if matcher_of(settings).is_published(arch)]
    assert published
    own = [each for each in study.matchers if each not in published]
    assert own in ([], ["permuted"])


@pytest.mark.parametrize("name", SPARSE)
def test_the_options_that_a_file_gives_for_it_do(name):
    """Beside those of the `permute` command above them."""
    arch = yaml.safe_load(Path(find_config(name)).read_text(encoding="utf-8"))["model"]["init_args"]["arch"]
    text = text_of(name)
    shown, given = (
        re.search(r"rebasin-lt permute (.*?) rebasin-lt fit", text)[1],
        re.search(r"published with (--.*?) beside", text)[1],
    )
    asked = {**options(shown), **options(given)}
    assert Matcher(**asked).is_published(arch)
    assert asked["augment"]
    assert not Matcher(**options(shown)).is_published(arch)


def options(text: str) -> dict[str, Any]:
    """Those of a command line that are a matcher's."""
    known = {field.name for field in fields(Matcher)}
    found = re.findall(r"--([a-z-]+)(?: ([^-\s]\S*))?", text)
    named = {name.replace("-", "_"): value for name, value in found}
    return {name: yaml.safe_load(value) if value else True for name, value in named.items() if name in known}


@pytest.mark.parametrize("name", ["studies/vgg11_cifar10.yaml", "studies/resnet50_imagenet.yaml", *POOLED])
def test_what_is_missing_of_it_is_said(name):
    assert "1e-4 that the code adds to each denominator" in text_of(name)


@pytest.mark.parametrize("arch", ["resnet20", "vgg11", "resnet50", "mlp"])
def test_what_is_as_published_goes_by_every_setting_but_the_images(arch):
    published = [Matcher(preset="paper")]
    published += [Matcher(stream="last", mask_weight_mix=0.0)] * (arch in {"vgg11", "resnet50"})
    for each in published:
        assert each.is_published(arch)
        assert replace(each, augment=True, seed=7).is_published(arch)
    changes = [{"stream": "last"}, {"mask_weight_mix": 0.0}, {"weight_mix": 0.5}, {"objective": "raw"}]
    for other in [{}, *changes, {"method": "frank_wolfe"}]:
        assert not Matcher(**other).is_published(arch)


@pytest.mark.parametrize("name", [name for name in STUDIES if "1ep" in read(name).recipe.rewinds])
def test_a_study_says_how_long_its_k_0_trains(name):
    """`1ep` stands beside the paper's k = 0, which trains for one epoch more."""
    study = read(name)
    if study.recipe.sparse_epochs is None:
        assert study.recipe.epochs_after("1ep") == 199
        assert "From 1ep a run takes the 199 epochs that are left, its k = 0 takes 200." in text_of(name)


@pytest.mark.parametrize("name", shipped())
def test_only_resnet20_stops_before_its_sparsity(name):
    """The tolerance of the published code is .005 for ResNet20 and 5e-7 for VGG11."""
    if "stops at .945" in text_of(name):
        assert "arch: resnet20\n" in Path(find_config(name)).read_text(encoding="utf-8")
