import json

import pytest
import torch

from rebasin_lt.analyses.mask import analyse_mask, short_names
from rebasin_lt.errors import InputError
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.pruning.dead_units import find_dead_units
from rebasin_lt.pruning.mask import Mask, prunable_names
from rebasin_lt.pruning.overlap import expected_overlap
from rebasin_lt.settings.options import MaskOptions
from rebasin_lt.symmetry.trace import trace_symmetry


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A network, and three random masks of it that keep a twentieth."""
    monkeypatch.chdir(tmp_path)
    module = Classifier()
    about = {"format_version": 1, **module.architecture(), "data": {"name": "digits"}}
    torch.save({"state_dict": module.state_dict(), "rebasin_lt": about}, "net.ckpt")
    state = module.net.state_dict()
    masks = []
    for name in ("one", "two", "three"):
        masks.append(Mask({key: torch.rand(state[key].shape) < 0.05 for key in prunable_names(module.net)}))
        masks[-1].save(f"{name}.mask.safetensors")
    return module.net, masks


def test_everything_but_dead_units_needs_no_network(files):
    _, (one, two, three) = files
    result = analyse_mask(
        MaskOptions(mask="one.mask.safetensors", others=("two.mask.safetensors", "three.mask.safetensors")), "out"
    )
    assert result["sparsity"] == one.sparsity
    assert {row["name"]: row["kept"] for row in result["layers"]} == {row["name"]: row["kept"] for row in one.report()}
    assert list(result["overlap"]) == ["two", "three"]
    for label, other in (("two", two), ("three", three)):
        assert result["overlap"][label]["overlap"] == one.overlap(other)
        assert result["overlap"][label]["expected_overlap"] == pytest.approx(expected_overlap(one, other))
    assert "dead_units" not in result
    assert len(result["degrees"]) == 2 * len(one)


def test_a_checkpoint_gives_dead_units_and_the_order_of_the_layers(files):
    network, (one, _, _) = files
    result = analyse_mask(MaskOptions(mask="one.mask.safetensors", ckpt="net.ckpt"), "out")
    assert [row["name"] for row in result["layers"]] == prunable_names(network)
    found = find_dead_units(network, trace_symmetry(network, torch.randn(2, 1, 8, 8)), one)
    assert result["dead_units"]["groups"] == found.report()
    assert result["dead_units"]["effective_sparsity"] == found.effective.sparsity > one.sparsity


def test_a_complete_folder_is_kept_and_another_analysis_refused(files, monkeypatch):
    settings = MaskOptions(mask="one.mask.safetensors", others=("two.mask.safetensors",))
    result = analyse_mask(settings, "out")
    monkeypatch.setattr("rebasin_lt.analyses.mask._describe", None)
    assert analyse_mask(settings, "out") == json.loads(json.dumps(result))
    with pytest.raises(InputError, match=r"output folder out holds another run: mask is one.* there and two.* here"):
        analyse_mask(MaskOptions(mask="two.mask.safetensors", others=("one.mask.safetensors",)), "out")


def test_labels_are_names_or_where_those_are_shared_paths():
    assert short_names(["a/x.mask.safetensors", "b/y.mask.safetensors"]) == ["x", "y"]
    assert short_names(["a/x.mask.safetensors", "b/x.mask.safetensors"]) == ["a/x", "b/x"]
    with pytest.raises(InputError, match="--others has a twice: give each mask once"):
        short_names(["a", "b", "a"])
