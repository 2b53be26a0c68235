"""Settings side by side: what is measured equals the metric, how paths are read, and one pass over the images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from rebasin_lt.analyses.diversity import gather_checkpoints, measure, measure_diversity
from rebasin_lt.cli import main
from rebasin_lt.diversity import EnsembleDiversity
from rebasin_lt.errors import InputError
from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.lit.data.registry import build_data
from rebasin_lt.settings.options import DiversityOptions
from rebasin_lt.storage.run_folder import finished


def checkpoint(path: Path, seed: int) -> str:
    torch.manual_seed(seed)
    module = Classifier()
    about = {"format_version": 1, **module.architecture(), "data": {"name": "digits"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": module.state_dict(), "rebasin_lt": about}, path)
    return str(path)


@pytest.fixture
def groups(tmp_path):
    first = [checkpoint(tmp_path / f"first{seed}.ckpt", seed) for seed in range(3)]
    second = [checkpoint(tmp_path / f"second{seed}.ckpt", seed) for seed in range(10, 12)]
    return {"first": first, "second": second}


def named(groups) -> tuple[str, ...]:
    """As people write them."""
    return tuple(f"{name}={','.join(paths)}" for name, paths in groups.items())


class Counted:
    """Batches that remember how often they were asked for."""

    def __init__(self, batches: list) -> None:
        self.batches, self.passes = batches, 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self):
        self.passes += 1
        return iter(self.batches)


def test_one_pass_serves_all_settings_and_equals_the_metric(groups) -> None:
    images = Counted(list(build_data("digits").sweep("test", batch_size=150)))
    networks = {name: [load_network(path).network for path in paths] for name, paths in groups.items()}
    told: list[tuple[str, int, int]] = []
    result = measure(networks, images, lambda *line: told.append(line))  # type: ignore[arg-type]
    assert images.passes == 1
    assert told == [("batch", done, 4) for done in range(1, 5)]
    inputs, targets = (torch.cat(parts) for parts in zip(*images.batches, strict=True))
    for name, members in networks.items():
        metric = EnsembleDiversity(len(members))
        metric.update(torch.stack([member(inputs) for member in members]).detach(), targets)
        for key, value in metric.compute().items():
            if key != "num_images":
                found = torch.tensor(result["settings"][name][key], dtype=torch.float64)
                torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-7)
    assert result["num_images"] == 500
    assert result["num_bins"] == 15


def test_networks_are_evaluated_as_they_are_used(groups) -> None:
    """Dropout is off: twice the same network, given in training mode, never disagrees with itself."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.9)).train()
    result = measure({"twice": [network, network]}, build_data("digits").sweep("test", batch_size=500))
    assert result["settings"]["twice"]["disagreement"] == 0
    assert result["settings"]["twice"]["kl"] == 0


def test_comparison_is_written_once_and_kept(groups, tmp_path) -> None:
    options = DiversityOptions(checkpoints=named(groups))
    result = measure_diversity(options, tmp_path / "out")
    assert finished(tmp_path / "out") == result
    assert result["checkpoints"] == groups
    assert measure_diversity(options, tmp_path / "out") == result
    checkpoint(Path(groups["first"][0]), 99)
    with pytest.raises(InputError, match="holds another run: sha256.first is"):
        measure_diversity(options, tmp_path / "out")


def test_single_member_is_valid_json_without_pairs(groups, tmp_path) -> None:
    result = measure_diversity(DiversityOptions(checkpoints=(f"one={groups['first'][0]}",)), tmp_path / "out")
    text = (tmp_path / "out" / "result.json").read_text()
    assert "NaN" not in text
    assert [result["settings"]["one"][name] for name in ("disagreement", "kl", "js")] == [None] * 3
    assert result["settings"]["one"]["kl_matrix"] == [[0.0]]


def test_paths_are_read_as_people_write_them(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = ["runs/seed=0/method=lth,sparsity=0.9", "runs/seed=1/method=lth,sparsity=0.9"]
    for run in runs:
        os.makedirs(run)
        Path(run, "last.ckpt").touch()
    Path(runs[1], "final.ckpt").touch()
    for name in ("a.ckpt", "b.ckpt", "c=d.ckpt"):
        Path(name).touch()
    files = [f"{runs[0]}/last.ckpt", f"{runs[1]}/final.ckpt"]
    assert gather_checkpoints(["a.ckpt", "b.ckpt"]) == {"ensemble": ["a.ckpt", "b.ckpt"]}
    assert gather_checkpoints(["x=a.ckpt,b.ckpt", "y=b.ckpt", "x=c=d.ckpt"]) == {
        "x": ["a.ckpt", "b.ckpt", "c=d.ckpt"],
        "y": ["b.ckpt"],
    }
    assert gather_checkpoints(["c=d.ckpt", *runs]) == {"ensemble": ["c=d.ckpt", *files]}
    assert gather_checkpoints(["lth=runs/*/method=lth,sparsity=0.9"]) == {"lth": files}
    assert gather_checkpoints([f"lth={runs[1]}"]) == {"lth": files[1:]}
    assert gather_checkpoints(["lth=runs/seed=0"]) == {"lth": files[:1]}
    for wrong, message in (
        (["x=nowhere.ckpt"], "checkpoint nowhere.ckpt does not exist"),
        (["x=a.ckpt,nowhere.ckpt"], "checkpoint nowhere.ckpt does not exist"),
        (["x=runs"], "--checkpoints runs: neither it nor a folder in it holds final.ckpt or last.ckpt"),
        ([], "--checkpoints names no checkpoint"),
        (["x="], "--checkpoints x= names no file or folder behind its x=: expected NAME=PATH"),
    ):
        with pytest.raises(InputError, match=message):
            gather_checkpoints(wrong)


def test_command_lays_settings_out_side_by_side(groups, tmp_path, capsys) -> None:
    assert main(["diversity", "--checkpoints", *named(groups), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()[1:] if " ± " in line]
    assert [row[:2] for row in rows] == [["first", "3"], ["second", "2"]]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("config.yaml", "result.json", "table.csv", "diversity.svg", "diversity.png")
    }
