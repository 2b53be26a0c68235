"""The plane of three networks as a run: measured once, row by row, and gone on with where it was interrupted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rebasin_lt.analyses import landscape
from rebasin_lt.analyses.landscape import measure_plane
from rebasin_lt.cli import main
from rebasin_lt.connectivity.barrier import loss_barrier
from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.experiment.subjects import Subjects
from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.settings.options import LandscapeOptions
from rebasin_lt.symmetry.trace import trace_symmetry


@pytest.fixture
def settings(planted, tmp_path_factory):
    return LandscapeOptions(
        ckpt_a=str(planted / "a.ckpt"),
        ckpt_b=str(planted / "b.ckpt"),
        permutation=str(planted / "pi.perm.safetensors"),
        num_points=3,
        num_images=60,
        num_test_images=50,
    )


def test_grid_holds_the_test_loss_of_each_point(settings, tmp_path) -> None:
    result = measure_plane(settings, tmp_path / "plane")
    assert list(result["loss"]) == ["none", "bn_reset"]
    assert [len(row) for row in result["loss"]["bn_reset"]] == [3] * 3
    assert result["num_images"] == 50
    assert not (tmp_path / "plane" / landscape.ROWS).exists()
    assert result["corners"]["permuted"] == [0.0, 0.0]  # as it is read again
    a, b = (load_network(path).network for path in (settings.ckpt_a, settings.ckpt_b))
    images = Subjects(settings, {"--ckpt-a": settings.ckpt_a}).test()
    plane = landscape.Plane(b, trace_symmetry(a, torch.randn(2, 1, 8, 8)).permute(a.state_dict(), _pi(settings)), b, a)
    point = (result["x"][2], result["y"][1])
    alone = loss_barrier(b, plane.state(point), plane.state(point), images, alphas=3)
    assert result["loss"]["none"][1][2] == pytest.approx(alone.loss[0])


def _pi(settings):
    return landscape.Permutation.load(settings.permutation)


def test_interrupted_plane_goes_on_from_its_last_row(settings, tmp_path, monkeypatch) -> None:
    whole = measure_plane(settings, tmp_path / "whole")
    measure, rows = landscape.plane_losses, []

    def interrupted(*arguments, **options):
        rows.append(arguments)
        if len(rows) == 4:
            raise KeyboardInterrupt
        return measure(*arguments, **options)

    monkeypatch.setattr(landscape, "plane_losses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure_plane(settings, tmp_path / "cut")
    path = tmp_path / "cut" / landscape.ROWS
    kept = path.read_text()
    path.write_text(kept.replace("0", "1"))
    with pytest.raises(BrokenFileError, match="rows.json is damaged: its content does not match the hash"):
        measure_plane(settings, tmp_path / "cut")
    path.write_text(kept)
    assert measure_plane(settings, tmp_path / "cut") == whole
    assert len(rows) == 4 + 3  # of 2 × 3 rows the first 3 were kept


def test_complete_plane_is_not_measured_again(settings, tmp_path, monkeypatch) -> None:
    first = measure_plane(settings, tmp_path / "plane")
    monkeypatch.setattr(landscape, "plane_losses", lambda *_, **__: pytest.fail("a complete plane was measured again"))
    again = measure_plane(settings, tmp_path / "plane")
    assert again["loss"] == first["loss"]


def test_permutation_that_moves_nothing_is_refused(settings, planted, tmp_path) -> None:
    trace_symmetry(load_network(settings.ckpt_a).network, torch.randn(2, 1, 8, 8)).identity().save(
        planted / "identity.perm.safetensors"
    )
    identity = replace(settings, permutation=str(planted / "identity.perm.safetensors"))
    with pytest.raises(
        InputError, match=r"^--ckpt-a .*, permuted by .*, and --ckpt-b .*: the three networks lie on one line"
    ):
        measure_plane(identity, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_commands_print_a_table_and_write_figures(settings, tmp_path, capsys) -> None:
    arguments = ["--ckpt-a", settings.ckpt_a, "--ckpt-b", settings.ckpt_b, "--permutation", settings.permutation]
    small = ["--num-points", "3", "--num-images", "20", "--num-test-images", "20"]
    assert main(["landscape", *arguments, *small, "--out", str(tmp_path / "plane")]) == 0
    assert "3 × 3 points on 20 test examples; distances: A to B" in capsys.readouterr().out
    assert main(["landscape", "--two-weights", "--out", str(tmp_path / "two")]) == 0
    assert "B under A's mask (naive)" in capsys.readouterr().out
    for folder in ("plane", "two"):
        files = sorted(path.name for path in (tmp_path / folder).iterdir())
        assert files == ["config.yaml", "landscape.png", "landscape.svg", "result.json"]
