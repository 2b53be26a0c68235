"""One of two processes that do stages of a study together: `python rank_driver.py FOLDER`, with its rank in `RANK`.

It writes `rank-R.json`: the results of the stages, and the files that it wrote and removed.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

RECIPE = {
    "network": {"arch": "resnet20", "width": 0.25, "num_classes": 10, "input_shape": [1, 8, 8]},
    "data": {"name": "digits", "batch_size": 25, "train_size": 300},
    "targets": (0.5,),
    "fraction": 0.5,
    "rewinds": ("0it", "1ep"),
    "dense_epochs": 1,
    "epochs_per_round": 1,
    "sparse_epochs": 1,
    "trainer": {"num_nodes": 2, "devices": 1, "strategy": "ddp", "accelerator": "cpu"},
}


def pair(command: list[str], *more: dict[str, str]) -> list[subprocess.Popen[str]]:
    """Start the same command as each of two processes, where SLURM would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
    common["OMP_NUM_THREADS"] = "1"
    ranks = [dict.fromkeys(("SLURM_PROCID", "RANK", "NODE_RANK"), str(rank)) for rank in (0, 1)]
    return [
        subprocess.Popen(command, env={**os.environ, **common, **rank, **own}, stderr=subprocess.PIPE, text=True)
        for rank, own in zip(ranks, more or ({}, {}), strict=True)
    ]


def _main(root: Path) -> None:
    touched = _watch(root)
    import torch

    from rebasin_lt.experiment import stages
    from rebasin_lt.experiment.recipe import Recipe

    torch.set_num_threads(1)
    recipe = Recipe(**RECIPE)
    results: list[Any] = [stages.train_dense(root / f"dense_{run}", recipe, 3) for run in range(2)]
    results.append(stages.prune(root / "imp", recipe, root / "dense_0", 4))
    mask, init_from = stages.mask_file(root / "imp", 0.5), stages.rewind_file(root / "dense_0", "1ep")
    results.append(stages.train_sparse(root / "sparse", recipe, mask, init_from, 5, 1))
    results.append(stages.train_dense(root / "dense_0", recipe, 3))  # which is complete
    written = {"results": results, "touched": sorted(touched)}
    (root / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(written))


def _watch(root: Path) -> set[str]:
    """The files below `root` that this process opens to write, renames or removes, from now on."""
    touched: set[str] = set()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        path = str(arguments[0]) if arguments else ""
        writes = event in {"os.rename", "os.remove", "os.utime"} or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if writes and path.startswith(str(root)):
            touched.add(path)

    sys.addaudithook(hook)
    return touched


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
