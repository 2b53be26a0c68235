"""What is said of a mask before anything is trained under it, by `permute`, `mask` and a study's report."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from rebasin_lt.analyses.mask import analyse_mask
from rebasin_lt.analyses.permute import match_and_permute
from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.experiment.before import BEFORE_TRAINING, KEYS, beginning_of, reading
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.experiment.stages import train_dense
from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.pruning.magnitude import magnitude_prune
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.memory import init_memory
from rebasin_lt.pruning.prunable import prunable_names
from rebasin_lt.report.analyses.before import before_table, before_text
from rebasin_lt.report.analyses.mask import show_mask
from rebasin_lt.report.analyses.permute import show_permuted
from rebasin_lt.settings.options import MaskOptions, PermuteOptions
from rebasin_lt.symmetry.trace import trace_symmetry

REMEMBERS, FORGETS = {"init_memory": 0.5, "init_memory_chance": 0.1}, {"init_memory": 0.11, "init_memory_chance": 0.1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Dense networks a and b, trained with their initial weights kept, and a mask of a's weights."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = Recipe(network={"arch": "mlp", "width": 0.25, "num_classes": 10}, rewinds=("0it", "1ep"), dense_epochs=2)
    for seed, name in enumerate("ab"):
        train_dense(folder / name, recipe, seed)
    network = load_network(folder / "a" / "final.ckpt").network
    state = network.state_dict()
    mask = magnitude_prune(state, Mask.ones_like(state, prunable_names(network)), 0.8)
    mask.save(folder / "m.mask.safetensors", stage="imp")
    return folder


@pytest.fixture
def options(runs) -> PermuteOptions:
    a, b = (str(runs / name / "final.ckpt") for name in "ab")
    masks = (str(runs / "m.mask.safetensors"),)
    return PermuteOptions(ckpt_a=a, ckpt_b=b, masks=masks, num_images=200, num_alphas=0)


def test_permute_says_it_of_every_mask(options, runs, tmp_path) -> None:
    result = match_and_permute(options, tmp_path / "out")
    found = result["before_training"]["masks"]["m.mask.safetensors"]
    assert set(found) == {*KEYS, "signs_of", "reading"}
    mask, moved = Mask.load(options.masks[0]), Mask.load(tmp_path / "out" / "m.mask.safetensors")
    memory = init_memory(mask, load_network(runs / "a" / "rewind" / "0it.ckpt").network.state_dict())
    assert (found["init_memory"], found["init_memory_chance"]) == (memory["iou"], memory["chance"])
    own = result["masks"]["m.mask.safetensors"]
    assert (found["own_overlap"], found["own_overlap_chance"]) == (own["permuted"], own["independent"])
    ticket = load_network(options.ckpt_a).network.state_dict()
    assert found["sign_agreement"] > 0.55, "two networks that were trained alike agree more than by chance"
    assert 0.9 < found["init_share"] < 1
    assert moved.num_kept == mask.num_kept
    assert ticket.keys() == load_network(options.ckpt_b).network.state_dict().keys()
    printed = show_permuted(result, str(tmp_path))
    assert f"m.mask.safetensors: {found['reading']}" in printed
    assert "signs of A's weights agree by chance in .5" in printed
    assert "init memory (IoU): Overlap of A's mask with the one-shot mask of A's initial weights" in printed
    assert "not known" not in printed


def test_signs_of_a_signed_mask_are_those_that_are_compared(options, tmp_path) -> None:
    """A mask whose signs are all turned agrees where the weights' own did not."""
    ticket = load_network(options.ckpt_a).network.state_dict()
    turned = Mask.load(options.masks[0]).signed_by({name: -tensor for name, tensor in ticket.items()})
    turned.save(tmp_path / "m.mask.safetensors")
    found = {}
    for name, path in {"plain": options.masks[0], "turned": str(tmp_path / "m.mask.safetensors")}.items():
        result = match_and_permute(replace(options, masks=(path,)), tmp_path / name)
        found[name] = result["before_training"]["masks"]["m.mask.safetensors"]
    assert found["plain"]["sign_agreement"] + found["turned"]["sign_agreement"] == pytest.approx(1)
    assert (found["plain"]["signs_of"], found["turned"]["signs_of"]) == ("A's weights", "the mask")


def test_signs_move_with_their_mask(options, tmp_path) -> None:
    """B is A with its units in another order: all signs agree, but only if they are moved as the mask is."""
    source = load_network(options.ckpt_a)
    symmetry = trace_symmetry(source.network, torch.zeros(2, 1, 8, 8))
    shuffled = symmetry.permute(source.network.state_dict(), symmetry.random(torch.Generator().manual_seed(0)))
    content = torch.load(options.ckpt_a, weights_only=True)
    content["state_dict"] = {f"net.{name}": tensor for name, tensor in shuffled.items()}
    torch.save(content, tmp_path / "b.ckpt")
    result = match_and_permute(replace(options, ckpt_b=str(tmp_path / "b.ckpt")), tmp_path / "out")
    assert result["before_training"]["masks"]["m.mask.safetensors"]["sign_agreement"] == 1


def test_what_is_not_known_is_left_out_and_named(options, runs, tmp_path) -> None:
    content = torch.load(options.ckpt_a, weights_only=True)
    torch.save(content, tmp_path / "alone.ckpt")
    alone = replace(options, ckpt_a=str(tmp_path / "alone.ckpt"))
    result = match_and_permute(alone, tmp_path / "out")
    before = result["before_training"]
    assert set(before["masks"]["m.mask.safetensors"]) == {
        *("sign_agreement", "own_overlap", "own_overlap_chance", "signs_of", "reading")
    }
    assert len(before["missing"]) == 2
    printed = show_permuted(result, str(tmp_path))
    assert "initial weights alone would give) is not known: no rewind/0it.ckpt beside" in printed
    assert "the share of the initial weights that is left is not known: no config.yaml" in printed

    named = replace(alone, init_a=str(runs / "a" / "rewind" / "0it.ckpt"))
    with pytest.raises(InputError, match="out holds another run: sha256_init_a is not set there"):
        match_and_permute(named, tmp_path / "out")
    result = match_and_permute(named, tmp_path / "named")
    assert "init_memory" in result["before_training"]["masks"]["m.mask.safetensors"]


def test_initial_weights_that_are_none_or_of_no_use_are_refused(options, runs, tmp_path) -> None:
    later = str(runs / "a" / "rewind" / "1ep.ckpt")
    with pytest.raises(InputError, match=r"--init-a .*1ep.ckpt holds the weights at 1ep, expected those before any"):
        match_and_permute(replace(options, init_a=later), tmp_path / "out")
    with pytest.raises(InputError, match="--init-a is .* but there is no mask to compare with it: give --masks"):
        match_and_permute(replace(options, init_a=later, masks=()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_trained_network_is_not_taken_for_initial_weights(options, runs, tmp_path) -> None:
    """It does not name a moment, but counts its steps: its memory would be 1, and the advice wrong."""
    with pytest.raises(InputError, match=r"--init-a .*final.ckpt holds the weights at 40it, expected those before any"):
        match_and_permute(replace(options, init_a=options.ckpt_a), tmp_path / "out")


def test_initial_weights_may_be_a_state_dict_with_a_wrappers_prefix(options, runs, tmp_path) -> None:
    initial = load_network(runs / "a" / "rewind" / "0it.ckpt").network.state_dict()
    torch.save({f"module.{name}": tensor for name, tensor in initial.items()}, tmp_path / "ddp.pt")
    mask = Mask.load(options.masks[0])
    found = beginning_of(None, str(tmp_path / "ddp.pt"), [mask]).weights
    assert found is not None
    assert init_memory(mask, found) == init_memory(mask, initial)


def test_initial_weights_of_another_network_are_refused_or_not_known(options, runs, tmp_path) -> None:
    """Refused where they are named; where they only lie beside A, all else is said."""
    other = {"layers.0.weight": torch.ones(3, 64)}
    (tmp_path / "rewind").mkdir()
    torch.save(other, tmp_path / "rewind" / "0it.ckpt")
    with pytest.raises(InputError, match=r"--init-a .*0it.ckpt is of another network than the mask: mask "):
        match_and_permute(replace(options, init_a=str(tmp_path / "rewind" / "0it.ckpt")), tmp_path / "out")
    torch.save(torch.load(options.ckpt_a, weights_only=True), tmp_path / "a.ckpt")
    before = match_and_permute(replace(options, ckpt_a=str(tmp_path / "a.ckpt")), tmp_path / "out")["before_training"]
    assert "init_memory" not in before["masks"]["m.mask.safetensors"]
    assert "sign_agreement" in before["masks"]["m.mask.safetensors"]
    assert "0it.ckpt is of another network than the mask" in before["missing"][0]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", b"nothing", "not finite"])
def test_initial_weights_beside_a_that_are_damaged_are_not_known(options, runs, tmp_path, damage) -> None:
    """Nobody asked for them, so they stop nothing; named, they do."""
    torch.save(torch.load(options.ckpt_a, weights_only=True), tmp_path / "a.ckpt")
    (tmp_path / "rewind").mkdir()
    beside = tmp_path / "rewind" / "0it.ckpt"
    if damage == "not finite":
        initial = torch.load(runs / "a" / "rewind" / "0it.ckpt", weights_only=True)
        next(iter(initial["state_dict"].values())).fill_(float("nan"))
        torch.save(initial, beside)
    else:
        beside.write_bytes(damage)
    result = match_and_permute(replace(options, ckpt_a=str(tmp_path / "a.ckpt")), tmp_path / "out")
    found = result["before_training"]
    assert "sign_agreement" in found["masks"]["m.mask.safetensors"]
    assert f"would give) is not known: {'checkpoint ' * (damage == 'not finite')}{beside}" in found["missing"][0]
    assert "\n" not in found["missing"][0]
    assert found["missing"][0] in show_permuted(result, str(tmp_path))
    with pytest.raises(BrokenFileError, match=r"0it.ckpt"):
        match_and_permute(replace(options, init_a=str(beside)), tmp_path / "named")


@pytest.mark.parametrize("damage", ["a: [", "- 1", "a: 1\na: 2", ""])
def test_a_damaged_configuration_beside_a_is_not_known(options, runs, tmp_path, damage) -> None:
    torch.save(torch.load(options.ckpt_a, weights_only=True), tmp_path / "a.ckpt")
    (tmp_path / "config.yaml").write_text(damage)
    found = analyse_mask(MaskOptions(mask=options.masks[0], ckpt=str(tmp_path / "a.ckpt")), tmp_path / "out")
    missing = found["before_training"]["missing"]
    assert missing[1].startswith(f"the share of the initial weights that is left is not known: {tmp_path}")
    assert "config.yaml" in missing[1]


def test_mask_says_it_of_a_mask_and_its_network(options, runs, tmp_path) -> None:
    result = analyse_mask(MaskOptions(mask=options.masks[0], ckpt=options.ckpt_a), tmp_path / "out")
    assert set(result["before_training"]) == {
        *("init_memory", "init_memory_chance", "init_share", "reading", "missing")
    }
    printed = show_mask(result, str(tmp_path / "out"))
    assert f"the mask: {result['before_training']['reading']}" in printed
    initial = str(runs / "a" / "rewind" / "0it.ckpt")
    alone = analyse_mask(MaskOptions(mask=options.masks[0], init_a=initial), tmp_path / "alone")
    assert alone["before_training"]["init_memory"] == result["before_training"]["init_memory"]
    assert "before_training" not in analyse_mask(MaskOptions(mask=options.masks[0]), tmp_path / "bare")


def test_mask_compares_a_moved_mask_with_b_and_not_with_bs_beginning(options, runs, tmp_path) -> None:
    moved = match_and_permute(options, tmp_path / "out")["before_training"]["masks"]["m.mask.safetensors"]
    path = str(tmp_path / "out" / "m.mask.safetensors")
    result = analyse_mask(MaskOptions(mask=path, ckpt=options.ckpt_b), tmp_path / "mask")
    assert result["before_training"]["own_overlap"] == moved["own_overlap"]
    assert "init_memory" not in result["before_training"]
    assert "is that of the mask before it was permuted" in show_mask(result, str(tmp_path / "mask"))
    with pytest.raises(InputError, match="is in the order of another network's units, so --init-a"):
        analyse_mask(MaskOptions(mask=path, init_a="rewind/0it.ckpt"), tmp_path / "refused")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({**REMEMBERS, "sign_agreement": 0.51}, "no better than chance: the mask fits the initialisation"),
        ({**REMEMBERS, "sign_agreement": 0.6}, "little better than chance: the mask fits the initialisation; train"),
        ({**REMEMBERS, "sign_agreement": 0.8}, "better than chance, but the mask still fits the initialisation"),
        ({**FORGETS, "sign_agreement": 0.51}, "no better than chance, though the mask has left the initialisation"),
        ({**FORGETS, "sign_agreement": 0.8}, "better than chance, and the mask has left the initialisation: worth"),
        ({"sign_agreement": 0.51}, "no better than chance: the mask fits the initialisation, or the matching"),
        ({"sign_agreement": 0.8}, "better than chance: worth training under"),
        (REMEMBERS, "the mask fits the initialisation, and no permutation can move that; train longer"),
        (FORGETS, "the mask has left the initialisation: it can be moved"),
    ],
)
def test_one_sentence_says_what_the_numbers_mean(found, expected) -> None:
    assert reading(found).startswith(expected)


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert reading({"own_overlap": 0.2, "init_share": 0.5}) is None


def test_memory_is_told_from_chance_at_any_sparsity() -> None:
    """At a sparsity of .5 masks of nothing in common overlap by a third."""
    assert reading({"init_memory": 0.36, "init_memory_chance": 0.33}) == reading(FORGETS)
    assert reading({"init_memory": 0.2, "init_memory_chance": 0.03}) == reading(REMEMBERS)


def test_every_number_that_is_known_has_its_column_beside_chance() -> None:
    found = {key: index / 10 for index, key in enumerate(KEYS)}
    table = before_table({"m": found, "n": {"sign_agreement": 0.7}})
    titles = [column.title for column in table.columns]
    assert [title for title in titles if title != "by chance"][1:] == [one.label for one in BEFORE_TRAINING.values()]
    assert table.rows == [["m", *found.values()], ["n", None, None, None, 0.7, None, None]]
    assert [column.title for column in before_table({"n": {"init_share": 0.7}}).columns] == [
        *("mask", "initial weights left")
    ]
    assert before_table({"m": {}}).rows == []


def test_what_is_said_of_several_masks_is_said_once() -> None:
    found = {name: {**FORGETS, "reading": "it is so"} for name in "abc"}
    assert before_text(found, ["not known: why"]).count("it is so") == 1
    assert "\nall 3 masks: it is so\n" in before_text(found, [])
    said = before_text({**found, "b": {**FORGETS, "reading": "it is otherwise"}}, ()).splitlines()
    assert "a, c: it is so" in said
    assert "b: it is otherwise" in said
    assert "\na: it is so\n" in before_text({"a": found["a"]}, ())


def test_numbers_of_the_table_above_and_their_meaning_are_not_said_again() -> None:
    masks = {"m": {"sparsity": 0.9, "permuted": 0.2331, "unpermuted": 0.1333, "independent": 0.1372}}
    known = {**FORGETS, "own_overlap": 0.2331, "own_overlap_chance": 0.1372, "reading": "it is so"}
    result = {"method": "activations", "num_samples": 9, "measure": "m", "objective": {}, "sizes": {"g": 2}}
    before = {"masks": {"m": known}, "missing": []}
    said = show_permuted({**result, "masks": masks, "before_training": before}, "nowhere")
    assert "Overlap of the moved mask" not in said
    assert said.count("0.233") == said.count("one-shot magnitude mask") == 1
    assert "it is so" in said


def test_a_file_beside_as_checkpoint_is_found_by_its_name(runs) -> None:
    mask = Mask.load(runs / "m.mask.safetensors")
    beginning = beginning_of(str(runs / "a" / "final.ckpt"), None, [mask])
    assert beginning.missing == ()
    assert beginning.weights is not None
    assert json.dumps(beginning.share)
