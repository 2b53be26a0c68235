"""Matching of checkpoints: what is moved by which permutation, what it is measured against, what is opened."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from rebasin_lt.analyses import permute as analysis
from rebasin_lt.analyses.permute import PERMUTATION, mask_overlaps, match_and_permute, permutation_file
from rebasin_lt.cli import main
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.subjects import Subjects, open_pair
from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.matching.activation import match_activations
from rebasin_lt.pruning.magnitude import magnitude_prune
from rebasin_lt.pruning.mask import Mask, prunable_names
from rebasin_lt.settings.options import PermuteOptions
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry


@pytest.fixture(scope="module")
def subjects(planted, tmp_path_factory):
    """Settings for the planted networks, and two masks of the first: by magnitude, .8 and .95 of it removed."""
    folder = tmp_path_factory.mktemp("masks")
    network = load_network(planted / "a.ckpt").network
    state = network.state_dict()
    paths = []
    for sparsity in (0.8, 0.95):
        mask = magnitude_prune(state, Mask.ones_like(state, prunable_names(network)), sparsity)
        paths.append(str(folder / f"sparsity-{sparsity}.mask.safetensors"))
        mask.save(paths[-1])
    return PermuteOptions(
        ckpt_a=str(planted / "a.ckpt"), ckpt_b=str(planted / "b.ckpt"), masks=tuple(paths), num_images=80, num_alphas=0,
        batch_size=40,
    )  # fmt: skip


def files_of(settings: PermuteOptions, out) -> list[tuple[Mask, Mask, Permutation]]:
    """Per mask: as given, as written, and the permutation that was written beside it."""
    names = [path.rpartition("/")[2] for path in settings.masks]
    return [
        (Mask.load(path), Mask.load(out / name), Permutation.load(out / permutation_file(name)))
        for path, name in zip(settings.masks, names, strict=True)
    ]


@cache
def symmetry_of(path: str) -> Symmetry:
    return trace_symmetry(load_network(path).network, torch.zeros(2, 1, 8, 8))


@pytest.mark.parametrize("method", ["activations", "coordinate_descent"])
def test_each_mask_moves_by_the_permutation_that_is_saved_for_it(subjects, tmp_path, method) -> None:
    settings = replace(subjects, method=method, num_images=80 if method == "activations" else None)
    result = match_and_permute(settings, tmp_path / "out")
    symmetry, whole = symmetry_of(settings.ckpt_a), Permutation.load(tmp_path / "out" / PERMUTATION)
    moved = files_of(settings, tmp_path / "out")
    for mask, written, permutation in moved:
        assert Mask(symmetry.permute(mask, permutation)) == written
        assert permutation != whole
        assert Mask(symmetry.permute(mask, permutation.inverse())) != written, "the test cannot tell the direction"
    assert moved[0][2] != moved[1][2]
    reference = load_network(settings.ckpt_b).network.state_dict()
    for (mask, written, _), found in zip(moved, result["masks"].values(), strict=True):
        assert found == {"sparsity": mask.sparsity, **mask_overlaps(mask, written, reference)}
    source = load_network(settings.ckpt_a).network.state_dict()
    permuted = load_network(tmp_path / "out" / "permuted.ckpt").network.state_dict()
    assert all(torch.equal(tensor, permuted[name]) for name, tensor in symmetry.permute(source, whole).items())


def test_what_is_saved_is_what_matching_found(subjects, tmp_path) -> None:
    settings = replace(subjects, mask_weight_mix=0.8, weight_mix=0.2)
    match_and_permute(settings, tmp_path / "out")
    source, reference = (load_network(path) for path in (settings.ckpt_a, settings.ckpt_b))
    images = open_pair(settings).train()
    masks = {path: Mask.load(path) for path in settings.masks}
    found = match_activations(
        source.network, reference.network, images, symmetry_of(settings.ckpt_a), masks=masks, mask_weight_mix=0.8,
        weight_mix=0.2,
    )  # fmt: skip
    assert Permutation.load(tmp_path / "out" / PERMUTATION) == found.permutation
    assert [permutation for *_, permutation in files_of(settings, tmp_path / "out")] == [*found.masked.values()]


def test_with_mask_weight_mix_0_every_mask_moves_as_the_network(subjects, tmp_path) -> None:
    settings = replace(subjects, mask_weight_mix=0.0)
    match_and_permute(settings, tmp_path / "out")
    whole = Permutation.load(tmp_path / "out" / PERMUTATION)
    assert [permutation == whole for *_, permutation in files_of(settings, tmp_path / "out")] == [True, True]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m.safetensors", "share a file name: the permuted ones would overwrite each other"),
        ("m.mask.safetensors", "share a file name: the permuted ones would overwrite each other"),
        ("permutation.mask.safetensors", "permutation.mask.safetensors has the name of a file that permute writes"),
    ],
)
def test_masks_whose_files_would_overwrite_each_other_are_refused(subjects, tmp_path, name, message) -> None:
    (tmp_path / "first").mkdir()
    paths = [tmp_path / "first" / "m.mask.safetensors", tmp_path / name]
    for path in paths:
        Mask.load(subjects.masks[0]).save(path)
    with pytest.raises(InputError, match=message):
        match_and_permute(replace(subjects, masks=tuple(map(str, paths))), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_of_permutation_files() -> None:
    names = ["a.mask.safetensors", "a.safetensors", "a.b", PERMUTATION]
    expected = ["a.perm.safetensors", "a.perm.safetensors", "a.b.perm.safetensors", "permutation.perm.perm.safetensors"]
    assert [permutation_file(name) for name in names] == expected


def test_overlaps_are_those_counted_by_hand() -> None:
    """Of B's eight weights, in two tensors, the three largest: in a, 9 and 8; in b, 7."""
    reference = {"a": torch.tensor([9.0, -8.0, 1.0, 2.0]), "b": torch.tensor([7.0, 3.0, -4.0, 0.5])}
    mask = Mask({"a": torch.tensor([False, True, True, False]), "b": torch.tensor([False, False, False, True])})
    permuted = Mask({"a": torch.tensor([True, True, False, False]), "b": torch.tensor([False, True, False, False])})
    found = mask_overlaps(mask, permuted, reference)
    assert found["unpermuted"] == 1 / 5  # one of 3 + 3 - 1
    assert found["permuted"] == 2 / 4
    # a: 0, 1 or 2 of two of four, with probability 1/6, 4/6, 1/6; b: 1 of one of four, with 1/4
    shared = {0: 1 / 6 * 3 / 4, 1: 4 / 6 * 3 / 4 + 1 / 6 / 4, 2: 1 / 6 * 3 / 4 + 4 / 6 / 4, 3: 1 / 6 / 4}
    assert found["independent"] == pytest.approx(sum(p * n / (6 - n) for n, p in shared.items()), rel=1e-12)


@pytest.mark.parametrize("augment", [True, False])
def test_augmented_images_are_matched_on_and_others_are_measured_on(subjects, tmp_path, monkeypatch, augment) -> None:
    """Digits have no augmentation: here it turns them upside down."""
    opened = []
    train = Subjects.train

    def upside_down(subjects, augment=False):
        opened.append((augment, subjects.options.seed))
        images = train(subjects, augment)
        return [(x.flip(-2), y) for x, y in images] if augment else images

    monkeypatch.setattr(Subjects, "train", upside_down)
    corrected = []
    barrier = analysis.loss_barrier
    monkeypatch.setattr(
        analysis,
        "loss_barrier",
        lambda *args, **more: corrected.append(more["correction_batches"]) or barrier(*args, **more),
    )
    settings = replace(subjects, augment=augment, seed=5, num_alphas=3, masks=())
    match_and_permute(settings, tmp_path / "out")
    assert opened == [(False, 5), (True, 5)][: 1 + augment]
    source, reference = (load_network(path) for path in (settings.ckpt_a, settings.ckpt_b))
    plain = list(train(open_pair(settings)))
    batches = [(x.flip(-2), y) for x, y in plain] if augment else plain
    expected = match_activations(source.network, reference.network, batches, symmetry_of(settings.ckpt_a)).permutation
    assert Permutation.load(tmp_path / "out" / PERMUTATION) == expected
    for batches in corrected:
        assert all(torch.equal(x, y) for (x, _), (y, _) in zip(batches, plain, strict=True))


@pytest.mark.parametrize("method", ["coordinate_descent", "frank_wolfe", "signs"])
def test_a_method_by_weights_without_barrier_opens_no_data(subjects, tmp_path, monkeypatch, method, capsys) -> None:
    monkeypatch.setattr(Subjects, "data", property(lambda _: pytest.fail("data was opened")))
    out = tmp_path / "out"
    checkpoints = ["--ckpt-a", subjects.ckpt_a, "--ckpt-b", subjects.ckpt_b, "--masks", *subjects.masks]
    assert main(["permute", *checkpoints, "--method", method, "--num-alphas", "0", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"Matched by {method.replace('_', ' ')}\n" in printed
    # in two tables, and before the sentence that says what they mean, which is said once if it is the same of both
    assert printed.count("sparsity-0.") + 2 * printed.count("all 2 masks: ") == 2 * 3
    assert sorted(path.name for path in out.iterdir()) == [
        "config.yaml", PERMUTATION, "permuted.ckpt", "result.json", "sparsity-0.8.mask.safetensors",
        "sparsity-0.8.perm.safetensors", "sparsity-0.95.mask.safetensors", "sparsity-0.95.perm.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_alphas": 2}, "--num-alphas is 2, expected 0 .no barrier. or at least 3"),
        (
            {"data": "digits"},
            "--data is digits, but --method frank_wolfe with --num-alphas 0 looks at no image: leave",
        ),
        (
            {"root": "here"},
            "--root is here, but --method frank_wolfe with --num-alphas 0 looks at no image: leave",
        ),
        (
            {"num_images": 9},
            "--num-images is 9, but --method frank_wolfe with --num-alphas 0 looks at no image: leave",
        ),
    ],
)
def test_settings_without_effect_are_refused(subjects, tmp_path, changes, message) -> None:
    settings = replace(subjects, method="frank_wolfe", **{"num_images": None, **changes})
    with pytest.raises(InputError, match=message):
        match_and_permute(settings, tmp_path / "out")


def test_complete_matching_is_not_repeated(subjects, tmp_path, monkeypatch) -> None:
    settings = replace(subjects, method="coordinate_descent", num_images=None)
    first = match_and_permute(settings, tmp_path / "out")
    monkeypatch.setattr(analysis, "trace_symmetry", lambda *_: pytest.fail("matched again"))
    assert match_and_permute(settings, tmp_path / "out") == first


def test_a_file_that_is_gone_is_written_again(subjects, tmp_path) -> None:
    first = match_and_permute(subjects, tmp_path / "out")
    name = Path(subjects.masks[0]).name
    moved = Mask.load(tmp_path / "out" / name)
    (tmp_path / "out" / name).unlink()
    assert match_and_permute(subjects, tmp_path / "out") == first
    assert Mask.load(tmp_path / "out" / name) == moved
