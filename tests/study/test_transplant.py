"""`transplant`: a mask and its signs, moved to new initialisations that are trained no further than needed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from opened import TINY, launched_here, run, study

from rebasin_lt.cli import main
from rebasin_lt.commands.options import TransplantOptions
from rebasin_lt.commands.transplant import transplant, transplant_study
from rebasin_lt.errors import InputError
from rebasin_lt.experiment import stages
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.study.folder import read_study
from rebasin_lt.study.launchers.launcher import Launcher
from rebasin_lt.study.outcome import read_outcome
from rebasin_lt.study.plan import plan

RECIPE = {"dense_epochs": 2, "epochs_per_round": 1, "sparse_epochs": 1, "fraction": 0.5, "rewinds": ["1ep"]}


@pytest.fixture(scope="module")
def a(tmp_path_factory) -> Path:
    """A, pruned to one sparsity."""
    grid = study({"targets": (0.75,), "rewinds": ("1ep",)}, methods=["lth"], matchers={})
    return run(grid, tmp_path_factory.mktemp("transplant") / "a") / "width=1/seed=0"


@pytest.fixture(scope="module", autouse=True)
def _here():
    with launched_here():
        yield


def given(a: Path) -> list[str]:
    return ["--ckpt-a", str(a / "dense_a/final.ckpt"), "--mask", str(stages.mask_file(a / "imp_a", 0.75))]


def asked(a: Path, **more: object) -> TransplantOptions:
    _, ckpt_a, _, mask = given(a)
    return TransplantOptions(**{"out": "x", "ckpt_a": ckpt_a, "mask": mask, "seeds": [1, 2], "recipe": TINY, **more})


def test_a_mask_is_moved_to_new_initialisations(a, tmp_path, capsys) -> None:
    config, out = tmp_path / "transplant.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump({"recipe": RECIPE}))
    command = ["transplant", "--config", str(config), "--out", str(out), *given(a), "--seeds", "1", "2"]
    assert main([*command, "--rewind", "1ep", "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    (row,) = [line for line in printed.splitlines() if "permuted + ticket's signs" in line]
    assert row.split()[-4:] == ["1", "0", "1", "2"]  # one epoch dense, none of pruning, one sparse
    assert "beyond A, paid once: dense given, pruning given" in printed
    assert (out / "report/report.html").is_file()
    assert (out / "report/frontier-width-1.svg").is_file() or "frontier" in (out / "report/report.md").read_text()
    kinds = sorted(stage.kind for stage in plan(read_study(out)).values())
    assert kinds == ["dense", "dense", "diversity", "given", "given", "match", "match", "sparse", "sparse"]
    for seed in (1, 2):
        assert not (out / f"width=1/seed={seed}/dense_b/final.ckpt").exists()
    (found,) = read_outcome(out).diversity
    assert (found["setting"], found["members"]) == ("permuted+mask", 2)
    assert 0 < found["disagreement"] < 1
    taken = Mask.load(out / "width=1/seed=1/imp_a/imp/sparsity-0.75.mask.safetensors")
    assert taken == Mask.load(given(a)[3])
    assert taken.is_signed
    assert main([*command, "--rewind", "1ep"]) == 0  # complete
    assert main([*command, "--rewind", "2ep"]) == 2
    assert "holds another" in capsys.readouterr().err


def test_what_needs_every_network_at_its_end_is_trained_to_it(a) -> None:
    grid = transplant_study(asked(a, methods=["permuted+mask", "lth", "naive+mask"], rewind="1ep"))
    assert grid.early
    assert grid.matchers == {"permuted": {"at": "1ep"}}
    assert grid.recipe.targets == (0.75,)
    assert plan(grid)["width=1/seed=2/dense_b"].epochs == 1
    whole = transplant_study(
        asked(a, methods=["permuted+mask", "dense", "imp"], rewind="1ep", matchers={"permuted": {"at": "2ep"}})
    )
    assert not whole.early
    assert whole.matchers == {"permuted": {"at": "2ep"}}
    assert plan(whole)["width=1/seed=2/dense_b"].epochs == 2
    assert plan(whole)["width=1/seed=2/imp_b"].kind == "imp"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"seeds": [1]}, r"--seeds is \[1\], expected at least 2: an ensemble is what comes out"),
        ({"seeds": [1, 1]}, r"--seeds is \[1, 1\], which holds 1 twice"),
        ({"seeds": ["1", 2]}, "--seeds holds '1', expected a whole number in each place"),
        ({"rewind": "0it"}, "--rewind is 0it, where B has learnt nothing to match"),
        ({"matchers": {"permuted": {"at": "0it"}}}, "matchers.permuted.at is 0it, where B has learnt nothing"),
        ({"rewind": "5it"}, "--rewind is 5it, which counts steps: B stops after whole epochs; give epochs, or 0it"),
        ({"matchers": {"permuted": {"at": "5it"}}}, "matchers.permuted.at is 5it, which counts steps"),
        ({"methods": ["naive+own@5it"]}, r"the moment of naive\+own@5it in --methods is 5it, which counts steps"),
        (
            {"matchers": {"permuted": {}, "late": {"at": "final"}}},
            "matchers.late matches at the end of B, but none of --methods uses it: leave it out",
        ),
        ({"matchers": {"permuted": "paper"}}, r"matchers.permuted is 'paper', expected settings such as"),
        ({"methods": []}, r"--methods is \[\], expected a list of some"),
        ({"methods": ["nave"]}, r"one of --methods is 'nave', which is not known \(did you mean naive"),
        ({"methods": ["lth", "lth"]}, r"--methods is \['lth', 'lth'\], which holds lth twice"),
        ({"recipe": replace(TINY, network={"arch": "mlp", "width": -1})}, r"recipe.network.width is \[-1.0\]"),
        ({"rewind": "3ep"}, "moment 3ep is after the end of dense training at 2ep"),
        ({"methods": ["permuted+maks"], "rewind": "1ep"}, "did you mean mask"),
        ({"mask": "nothing"}, "mask file nothing does not exist"),
    ],
)
def test_what_cannot_be_is_refused(a, more, message) -> None:
    with pytest.raises(InputError, match=message):
        transplant_study(asked(a, **{"rewind": "1ep", **more}))


def test_files_that_do_not_fit_are_refused_in_words_of_the_command(a, tmp_path) -> None:
    """Before anything is written, by the checks of the study behind it; paths are left as they are."""
    plain, rewound = tmp_path / "seeds/methods.mask.safetensors", tmp_path / "a"
    mask = Mask.load(given(a)[3])
    mask.unsigned.save(plain)
    shutil.copytree(a / "dense_a", rewound)
    shutil.rmtree(rewound / "rewind")
    whole = tmp_path / "whole.mask.safetensors"
    Mask({name: torch.ones_like(kept) for name, kept in mask.items()}).save(whole)
    asked_for = {"out": str(tmp_path / "out"), "rewind": "1ep"}
    for more, message in (
        ({"mask": str(plain)}, f"--mask is {plain}, which carries no signs, and permuted+mask begins with them"),
        ({"ckpt_a": str(tmp_path)}, f"--ckpt-a is {tmp_path}, which holds neither final.ckpt nor last.ckpt"),
        ({"ckpt_a": str(rewound), "methods": ["lth"]}, "which has no rewind/1ep.ckpt: set --rewind, and"),
        ({"mask": str(whole)}, f"--mask {whole} keeps {mask.num_weights:,} of {mask.num_weights:,} weights, expected"),
    ):
        with pytest.raises(InputError) as caught:
            transplant(asked(a, **{**asked_for, **more}), Launcher())
        assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_target_is_the_sparsity_of_the_mask(a, tmp_path) -> None:
    """As it was pruned to, if that was a short number; else as many decimals as tell the weights apart."""
    mask = Mask.load(given(a)[3])
    assert transplant_study(asked(a, rewind="1ep")).recipe.targets == (0.75,)
    few = {name: torch.zeros_like(kept) for name, kept in mask.items()}
    few[next(iter(few))].view(-1)[:3] = True
    path = tmp_path / "few.mask.safetensors"
    Mask(few).save(path)
    (target,) = transplant_study(asked(a, rewind="1ep", mask=str(path), methods=["permuted"])).recipe.targets
    assert round(target * mask.num_weights) == mask.num_weights - 3
    assert 0.999 < target < 1
