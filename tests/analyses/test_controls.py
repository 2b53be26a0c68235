"""Control masks from files: each kind, what its file says, and what is refused."""

from __future__ import annotations

import pytest
import torch
from tiny import own_network

from rebasin_lt.analyses.control import write_control
from rebasin_lt.cli import main
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.controls import CONTROLS
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.pruning.magnitude import prune_to_sparsity
from rebasin_lt.pruning.mask import Mask, prunable_names
from rebasin_lt.settings.options import ControlOptions

NAME = "c.mask.safetensors"


@pytest.fixture
def files(tmp_path):
    torch.manual_seed(0)
    for name in "ab":
        module = Classifier()
        about = {"format_version": 1, **module.architecture(), "data": {"name": "digits"}}
        torch.save({"state_dict": module.state_dict(), "rebasin_lt": about}, tmp_path / f"{name}.ckpt")
    state = dict(module.net.named_parameters())
    dense = Mask.ones_like(state, prunable_names(module.net))
    prune_to_sparsity(state, dense, 0.9).save(tmp_path / "own.mask.safetensors", stage="imp")
    return tmp_path


def asked(kind, **more) -> ControlOptions:
    return ControlOptions(kind=kind, **more)


def options(kind, folder):
    needed = {"mask": str(folder / "own.mask.safetensors")}
    return needed | ({"ckpt": str(folder / "a.ckpt")} if "ckpt" in CONTROLS[kind].needs else {})


@pytest.mark.parametrize("kind", CONTROLS)
def test_every_kind_has_the_masks_count_and_says_what_it_is(files, kind):
    _, made, imitated = write_control(asked(kind, **options(kind, files)), files / NAME)
    assert imitated is not None
    assert made.num_kept == imitated.num_kept
    assert {name: tensor.shape for name, tensor in made.items()} == {n: t.shape for n, t in imitated.items()}
    assert made != imitated
    loaded, about = Mask.load_with_metadata(files / NAME)
    assert loaded == made
    assert (about["stage"], about["kind"], about["mask_sha256"]) == ("control", kind, imitated.hash)
    assert ("ckpt_sha256" in about) == ("ckpt" in CONTROLS[kind].needs)


@pytest.mark.parametrize("kind", [kind for kind in CONTROLS if "sparsity" in CONTROLS[kind].uses])
def test_sparsity_and_checkpoint_stand_in_for_a_mask(files, kind):
    _, made, imitated = write_control(asked(kind, sparsity=0.97, ckpt=str(files / "a.ckpt")), files / NAME)
    assert imitated is None
    assert made.num_weights - made.num_kept == round(0.97 * made.num_weights)


def test_an_equal_file_is_kept_and_another_one_refused(files):
    settings = asked("shuffled", **options("shuffled", files))
    _, made, _ = write_control(settings, files / NAME)
    before = (files / NAME).stat().st_mtime_ns
    assert write_control(settings, files / NAME).mask == made
    assert (files / NAME).stat().st_mtime_ns == before
    with pytest.raises(InputError, match=r"holds another mask: seed is 0 there and 1 here; choose another file"):
        write_control(asked("shuffled", seed=1, **options("shuffled", files)), files / NAME)
    with pytest.raises(InputError, match=r"holds another mask: stage is imp there and control here"):
        write_control(settings, files / "own.mask.safetensors")
    write_control(asked("magnitude", **options("magnitude", files)), files / "m.mask.safetensors")
    (files / "b.ckpt").replace(files / "a.ckpt")
    with pytest.raises(InputError, match="holds another mask: ckpt_sha256 is"):
        write_control(asked("magnitude", **options("magnitude", files)), files / "m.mask.safetensors")


def test_seed_and_share_choose_the_mask(files):
    first, second = (
        write_control(asked("erk", seed=seed, **options("erk", files)), files / f"{seed}.mask.safetensors").mask
        for seed in (0, 1)
    )
    assert first != second
    own = Mask.load(files / "own.mask.safetensors")
    assert write_control(asked("mix", share=0, **options("mix", files)), files / NAME).mask == own


def test_the_command_shows_each_layer_and_the_overlap(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    assert main(["control", "--kind", "mix", "--mask", "own.mask.safetensors", "--ckpt", "a.ckpt", "--out", NAME]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{NAME}  (mix, sparsity 0.9000)"
    assert lines[-2].split()[:2] == ["all", "layers"]
    made, own = Mask.load(NAME), Mask.load("own.mask.safetensors")
    assert lines[-2].split()[-1] == f"{made.overlap(own):.4f}"
    assert [line.split()[2] for line in lines[3:-2]] == [str(row["kept"]) for row in made.report()]


def test_a_network_of_the_users_own_is_traced_on_images_like_those_it_was_trained_on(tmp_path):
    network = own_network(width=1, num_classes=10)
    mask = Mask.ones_like(network.state_dict(), prunable_names(network))
    mask.save(tmp_path / "own.mask.safetensors")
    settings = {"mask": str(tmp_path / "own.mask.safetensors"), "model": "tiny:own_network"}
    for name, about in (("knows", {"format_version": 1, "image_shape": [1, 8, 8]}), ("not", {"format_version": 1})):
        torch.save({"state_dict": network.state_dict(), "rebasin_lt": about}, tmp_path / f"{name}.ckpt")
    _, made, _ = write_control(
        asked("random_permutation", ckpt=str(tmp_path / "knows.ckpt"), **settings), tmp_path / NAME
    )
    assert made.num_kept == mask.num_kept
    with pytest.raises(
        InputError, match=r"nothing says which inputs Sequential takes, and it takes no image \(3, 32, 32\)"
    ):
        write_control(
            asked("random_permutation", ckpt=str(tmp_path / "not.ckpt"), **settings),
            tmp_path / f"x{NAME}",
        )
