"""Folders of runs in which one file is bad, and folders that are no run's."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bad_checkpoints import Evil, cut

from rebasin_lt.cli import main

MATCH = "permute --ckpt-a a.ckpt --ckpt-b b.ckpt --num-alphas 0 --masks good.mask.safetensors --out"
FIT = "fit --config dense.yaml --trainer.max_epochs 5 --trainer.default_root_dir"


def write() -> None:
    assert main([*MATCH.split(), "match"]) == 0
    assert main([*FIT.split(), "run"]) == 0
    for name in ("laughs", "latin", "twice", "object", "list", "cut"):
        for run in ("match", "run"):
            shutil.copytree(run, f"{run}_{name}")
            shutil.copyfile(f"{name}.yaml", f"{run}_{name}/config.yaml")
    results = {"cut": b'{"a": ', "list": b"[1]", "latin": b'{"a": "\xf6"}', "deep": b"[" * 100000}
    results["future"] = json.dumps({**json.loads(Path("match/result.json").read_text()), "format_version": 2}).encode()
    results["edited"] = Path("match/result.json").read_bytes().replace(b'"num_samples": 1000', b'"num_samples": 1024')
    for name, result in results.items():
        shutil.copytree("match", f"match_result_{name}")
        Path(f"match_result_{name}/result.json").write_bytes(result)
    checkpoints = {"cut": lambda path: cut("run/last.ckpt", path, 0.7), "evil": _evil, "bare": _bare, "older": _older}
    checkpoints |= {"loops": partial(_older, loops={}), "optimizer": partial(_older, optimizer_states=None)}
    checkpoints |= {"loop": partial(_older, loops={"fit_loop": {"strange": 1}}), "progress": _without_progress}
    for name, damage in checkpoints.items():
        shutil.copytree("run", f"run_last_{name}")
        damage(f"run_last_{name}/last.ckpt")
    for name, rows in {"garbage": b"{\n", "list": b"[1]\n", "latin": b'{"epoch": 1, "a": "\xf6"}\n'}.items():
        shutil.copytree("run", f"run_rows_{name}")
        Path(f"run_rows_{name}/metrics.jsonl").write_bytes(rows)
        _older(f"run_rows_{name}/last.ckpt")
    Path("strange").mkdir()
    Path("strange/thesis.tex").write_text("precious")


def _evil(path: str) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({**content, "loops": Evil()}, path)


def _bare(path: str) -> None:
    shutil.copyfile("a.ckpt", path)


def _without_progress(path: str) -> None:
    """Its position is there, but is none: Lightning fails on it."""
    content = torch.load(path, weights_only=True)
    content["loops"]["fit_loop"]["epoch_progress"] = 1
    torch.save(content, path)


def _older(path: str, **change: Any) -> None:
    """Of the same run, one epoch before its end, with other content."""
    content = torch.load(path, weights_only=True)
    content["loops"]["fit_loop"]["epoch_progress"]["current"] = dict.fromkeys(
        ("ready", "started", "processed", "completed"), 4
    )
    content["epoch"] = 4
    torch.save({**content, **change}, path)


_PLACES = [
    ("laughs", "its aliases multiply"),
    ("latin", "it is not UTF-8"),
    ("twice", "key 'out' is there twice"),
    ("object", "could not determine a constructor"),
    ("list", "holds a list, expected settings by name"),
    ("cut", "is not readable YAML"),
]
CASES: list[tuple[str, int, str]] = [
    *((f"{MATCH} match_{name}", 1, text) for name, text in _PLACES),
    *((f"{FIT} run_{name}", 1, text) for name, text in _PLACES),
    (f"{MATCH} match_result_cut", 1, "match_result_cut/result.json is not readable JSON"),
    (f"{MATCH} match_result_list", 1, "result.json holds a list, expected results by name"),
    (f"{MATCH} match_result_latin", 1, "result.json is not readable JSON"),
    (f"{MATCH} match_result_deep", 1, "result.json is not readable JSON"),
    (f"{MATCH} match_result_future", 1, "result.json has format version 2, this release reads 1: update it"),
    (f"{MATCH} match_result_edited", 1, "result.json is damaged: its content does not match the hash written with it"),
    (f"{MATCH} run", 2, "output folder run holds another run"),
    (f"{FIT} match", 2, "output folder match holds another run"),
    (f"{MATCH} strange", 2, "strange holds files but no config.yaml"),
    (f"{MATCH} new --masks result.json", 2, "mask result.json has the name of a file that permute writes: rename it"),
    (f"{FIT} run_last_cut", 1, "run_last_cut/last.ckpt is not a readable checkpoint"),
    (f"{FIT} run_last_evil", 1, "run_last_evil/last.ckpt holds pickled Python objects"),
    (f"{FIT} run_last_bare", 2, "run_last_bare/last.ckpt has no optimizer_states, which fit needs"),
    (f"{FIT} run_last_loops", 1, "run_last_loops/last.ckpt cannot be gone on from: its loops have no fit_loop"),
    (f"{FIT} run_last_loop", 1, "run_last_loop/last.ckpt cannot be gone on from: its fit_loop has no epoch_progress"),
    (f"{FIT} run_last_progress", 1, "run_last_progress/last.ckpt could not be gone on from: "),
    (f"{FIT} run_last_optimizer", 1, "run_last_optimizer/last.ckpt cannot be gone on from: it has no optimizer_states"),
    (f"{FIT} run_rows_garbage", 1, "metrics.jsonl, line 1 is not readable JSON"),
    (f"{FIT} run_rows_list", 1, "metrics.jsonl, line 1 is no row of metrics"),
    (f"{FIT} run_rows_latin", 1, "metrics.jsonl, line 1 is not readable JSON"),
    ("test --config run_latin/config.yaml", 2, "run_latin/config.yaml is not readable YAML"),
    ("test --config run_last_cut/config.yaml --trainer.default_root_dir run_last_cut", 1, "is not a readable"),
    ("predict --config run/config.yaml --trainer.default_root_dir run_last_evil", 1, "pickled Python objects"),
]
