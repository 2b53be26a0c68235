"""Folders and masks that commit e0e852d wrote, with the names that options had then, are those of the same run now."""

from __future__ import annotations

import pytest
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rebasin_lt.analyses import landscape, permute
from rebasin_lt.analyses.control import write_control
from rebasin_lt.analyses.landscape import measure_plane
from rebasin_lt.analyses.permute import match_and_permute
from rebasin_lt.errors import InputError
from rebasin_lt.settings.options import ControlOptions, LandscapeOptions, PermuteOptions
from rebasin_lt.storage.run_folder import CONFIG

PERMUTE = {
    "ckpt_a ckpt_b masks matcher data root model width num_classes num_images batch_size num_alphas device",
    "sha256_a sha256_b sha256_masks",
}
LATER = ("inputs", "targets", "input_shape")  # options that there were none of
MATCHER = "method objective stream weight_mix mask_weight_mix preset augment seed"
LANDSCAPE = {
    "ckpt_a ckpt_b permutation points margin data root model width num_classes num_images num_test_images batch_size",
    "seed device sha256_a sha256_b sha256_permutation",
}
CONTROL = {
    "format version sparsity sha256 stage kind mask ckpt n_images batch_size seed mask_sha256 ckpt_sha256 data",
}
"""The names in config.yaml, and in the metadata of a mask."""

EARLIER = r"holds another run \(an earlier rebasin-lt 0\.1\.0 wrote it, `report` reads it\): "


def written(keys: set[str]) -> set[str]:
    return {name for line in keys for name in line.split()}


@pytest.fixture
def pair(planted) -> dict[str, str]:
    return {"ckpt_a": str(planted / "a.ckpt"), "ckpt_b": str(planted / "b.ckpt")}


def test_a_folder_of_permute(pair, tmp_path, monkeypatch) -> None:
    options = PermuteOptions(**pair, num_images=40, num_alphas=0, batch_size=20)
    result = match_and_permute(options, tmp_path / "out")
    config = yaml.safe_load((tmp_path / "out" / CONFIG).read_text())
    former = {**config, "matcher": {name: config.pop(name) for name in MATCHER.split()}, **config}
    former = {name: value for name, value in former.items() if name not in {*MATCHER.split(), *LATER}}
    assert set(former) == written(PERMUTE)
    (tmp_path / "out" / CONFIG).write_text(yaml.safe_dump(former))
    monkeypatch.setattr(permute, "trace_symmetry", lambda *_: pytest.fail("matched again"))
    assert match_and_permute(options, tmp_path / "out") == result
    with pytest.raises(InputError, match=EARLIER + "seed is 0 there and 1 here"):
        match_and_permute(PermuteOptions(**pair, num_images=40, num_alphas=0, batch_size=20, seed=1), tmp_path / "out")


def test_a_folder_of_landscape(pair, planted, tmp_path, monkeypatch) -> None:
    given = {**pair, "permutation": str(planted / "pi.perm.safetensors"), "num_images": 20, "num_test_images": 20}
    options = LandscapeOptions(**given, num_points=3)
    result = measure_plane(options, tmp_path / "out")
    config = yaml.safe_load((tmp_path / "out" / CONFIG).read_text())
    former = {**config, "points": config["num_points"]}
    former = {name: value for name, value in former.items() if name not in {"num_points", *LATER}}
    assert set(former) == written(LANDSCAPE)
    (tmp_path / "out" / CONFIG).write_text(yaml.safe_dump(former))
    monkeypatch.setattr(landscape, "plane_losses", lambda *_, **__: pytest.fail("measured again"))
    assert measure_plane(options, tmp_path / "out")["loss"] == result["loss"]
    with pytest.raises(InputError, match=EARLIER + "num_points is 3 there and 4 here"):
        measure_plane(LandscapeOptions(**given, num_points=4), tmp_path / "out")


def test_a_control_mask(pair, tmp_path) -> None:
    given = {"kind": "snip", "sparsity": 0.5, "ckpt": pair["ckpt_a"]}
    out = tmp_path / "c.mask.safetensors"
    made = write_control(ControlOptions(**given, num_images=20), out).mask
    with safe_open(out, "pt") as file:
        about = file.metadata()
    about["n_images"] = about.pop("num_images")
    assert set(about) == written(CONTROL) - {"mask", "mask_sha256"} | {"target_sparsity"}
    save_file(load_file(out), out, about)
    before = out.read_bytes()
    assert write_control(ControlOptions(**given, num_images=20), out).mask == made
    assert out.read_bytes() == before
    with pytest.raises(InputError, match="holds another mask: num_images is 20 there and 30 here"):
        write_control(ControlOptions(**given, num_images=30), out)
