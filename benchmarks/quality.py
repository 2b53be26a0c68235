"""How good permutations are: barriers, mask overlap and accuracy after masked training, by method, over pairs of seeds.

    python -m benchmarks.quality [--settings digits,...] [--read] [--work DIR] [--root DIR] [--out benchmarks/results]

For each pair: dense A and B, A pruned, then every method's permutation, judged. Every stage is a folder under --work
and is done once, so an interrupted run goes on where it was. Results go into quality.json, table by table into
docs/matching.md; --read trains and matches nothing, and leaves out what is missing. Images: digits, Fashion-MNIST in
/usr/share/datasets/fashion-mnist, or CIFAR-10 as class folders of image files, `--root/train` and `--root/test`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks._quality_methods import METHODS, Pair
from benchmarks._quality_report import DEFAULT, write_report
from benchmarks._quality_settings import Setting, settings
from benchmarks._votes import vote
from rebasin_lt.connectivity.barrier import loss_barrier
from rebasin_lt.experiment import stages
from rebasin_lt.experiment.file_names import FINAL
from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.lit.data.class_folders import class_names
from rebasin_lt.lit.data.registry import build_data
from rebasin_lt.lit.weight_decay import share_left
from rebasin_lt.process.progress_line import ProgressLine
from rebasin_lt.pruning.magnitude import one_shot_like
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.memory import init_memory
from rebasin_lt.pruning.signs import sign_agreement
from rebasin_lt.storage.files import write_json
from rebasin_lt.storage.run_folder import finished
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import trace_symmetry

CONTROLS = ("LTH", "B's one-shot mask", "B's own mask")
"""Masks that no method moved, in the order of records."""


def prepare(root: Path, folder: Path, size: int, per_class: int = 1000) -> None:
    """Write the first `per_class` training images of every class, and all test images, at size × size pixels."""
    from PIL import Image

    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as temporary:
        for part, count in (("train", per_class), ("test", None)):
            for name in class_names(root / part):
                (Path(temporary) / part / name).mkdir(parents=True)
                for path in sorted((root / part / name).iterdir())[:count]:
                    with Image.open(path) as image:
                        image.resize((size, size), Image.Resampling.BOX).save(
                            Path(temporary) / part / name / f"{path.stem}.png"
                        )
        shutil.copytree(temporary, folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not there yet, then write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("--settings", default="digits", help="digits, resnet20, conv4, vgg11, resnet20x4, by commas")
    parser.add_argument("--read", action="store_true", help="train nothing: write what is complete")
    parser.add_argument("--work", type=Path, default=Path("runs/quality"), help="folder of all trained networks")
    parser.add_argument("--root", type=Path, default=Path("data"), help="class folders of CIFAR-10")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of quality.json")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    known = settings(given.work)
    for name in given.settings.split(","):
        if name not in known:
            parser.error(f"setting {name!r} is not known, expected {', '.join(known)}")
        data = known[name].recipe.data
        if "image_size" in data and not given.read:
            prepare(given.root, Path(data["root"]), data["image_size"])
        records = (read if given.read else run)(name, known[name], given.work / name)
        results = given.out / "quality.json"
        content = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
        content[name] = {"title": known[name].title, "torch": str(torch.__version__), "records": records}
        write_json(results, content)
    write_report(given.out / "quality.json")


def run(name: str, setting: Setting, folder: Path) -> list[dict[str, Any]]:
    """Every record of a setting: one per pair and method, and one per control."""
    records: list[dict[str, Any]] = []
    with ProgressLine(f"quality {name}") as line:
        for index in range(setting.num_pairs):
            line("pair", index, setting.num_pairs)
            records += _pair_records(setting, folder / f"pair={index}", index)
    return records + (_voted(setting, folder) if setting.num_votes else [])


def read(name: str, setting: Setting, folder: Path) -> list[dict[str, Any]]:
    """The records of `run` that are there, in its order; none of a pair before its A is pruned."""
    folders = [folder / f"pair={index}" for index in range(setting.num_pairs)]
    records = [record for index, path in enumerate(folders) for record in _read_pair(setting, path, index)]
    votes = [_read_votes(setting, path, index) for index, path in enumerate(folders)] if setting.num_votes else []
    return records + [record for record in votes if record is not None]


def _read_pair(setting: Setting, folder: Path, index: int) -> list[dict[str, Any]]:
    done = {name: finished(folder / name) for name in ("dense_a", "dense_b", "imp")}
    if None in done.values():
        return []
    records = [{"method": f"dense {role}", "accuracy": _top1(done[f"dense_{role}"])} for role in "ab"]
    records[0]["memory"] = _memory(folder, Mask.load(_mask_path(setting, folder)))
    for method in (*setting.methods, *setting.screened):
        path = _judged_file(folder, method)
        records += [_known(setting, path, method)] if path.exists() else []
    for method in CONTROLS:
        result = finished(_sparse_folder(folder, method))
        records += [{"method": method, "accuracy": _top1(result)}] if result is not None else []
    return [{"pair": index, **record} for record in records]


def _read_votes(setting: Setting, folder: Path, index: int) -> dict[str, Any] | None:
    result = finished(_sparse_folder(folder, "votes"))
    if result is None:
        return None
    mask, reference = Mask.load(folder / "masks" / "votes.mask.safetensors"), load_network(folder / "dense_b" / FINAL)
    own = one_shot_like(reference.network.state_dict(), Mask.load(_mask_path(setting, folder)))
    return _vote_record(setting, index, _top1(result), mask.overlap(own))


def _vote_record(setting: Setting, index: int, accuracy: float, overlap: float) -> dict[str, Any]:
    title = f"tried: votes of {setting.num_votes} masks"
    return {"pair": index, "method": title, "accuracy": accuracy, "overlap": overlap}


def _top1(result: Any) -> float:
    return float(result["test/top1"])


def _known(setting: Setting, path: Path, method: str) -> dict[str, Any]:
    """The record of a method that was judged; of one under whose masks nothing is trained here, no accuracy."""
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {name: value for name, value in record.items() if name != "accuracy" or method in setting.trained}


def _judged_file(folder: Path, method: str) -> Path:
    return folder / "judged" / f"{method}.json"


def _sparse_folder(folder: Path, method: str) -> Path:
    return folder / "sparse" / method.replace(" ", "-").replace("'", "")


def _voted(setting: Setting, folder: Path) -> list[dict[str, Any]]:
    """B trained under the vote of the masks of several A, its own and those of the next pairs, moved as by default."""
    folders = [folder / f"pair={index}" for index in range(setting.num_pairs)]
    pairs = [_open(setting, path, index) for index, path in enumerate(folders)]
    records = []
    for index, path in enumerate(folders):
        donors = [pairs[(index + k) % len(pairs)] for k in range(setting.num_votes)]
        moved = []
        for donor in donors:
            pair = replace(donor, reference=pairs[index].reference)
            moved.append(pair.mask.permuted(pair.symmetry, METHODS[DEFAULT][1](pair)))
        mask = vote(moved, torch.Generator().manual_seed(index))
        mask.save(path / "masks" / "votes.mask.safetensors")
        init = stages.rewind_file(path / "dense_b", setting.recipe.rewinds[-1])
        accuracy = _train(setting, path, "votes", path / "masks" / "votes.mask.safetensors", init, 10 * index + 3)
        records.append(_vote_record(setting, index, accuracy, mask.overlap(_one_shot(pairs[index]))))
    return records


def _pair_records(setting: Setting, folder: Path, index: int) -> list[dict[str, Any]]:
    recipe = setting.recipe
    seeds = {role: 10 * index + k for k, role in enumerate(("a", "b", "imp", "sparse", "own"))}
    dense = {role: folder / f"dense_{role}" for role in "ab"}
    dense_accuracy = {role: stages.train_dense(path, recipe, seeds[role])["test/top1"] for role, path in dense.items()}
    stages.prune(folder / "imp", recipe, dense["a"], seeds["imp"])
    pair = _open(setting, folder, index)
    records = [{"method": f"dense {role}", "accuracy": accuracy} for role, accuracy in dense_accuracy.items()]
    records[0]["memory"] = _memory(folder, pair.mask)
    own = _one_shot(pair)
    for method in (*setting.methods, *setting.screened):
        records.append(_judged(setting, folder, pair, method, own, seeds["sparse"]))
    if setting.trained:
        from_b = stages.rewind_file(dense["b"], recipe.rewinds[-1])
        own.save(folder / "controls" / "one-shot.mask.safetensors")
        controls = {"LTH": (_mask_path(setting, folder), stages.rewind_file(dense["a"], recipe.rewinds[-1]))}
        controls["B's one-shot mask"] = (folder / "controls" / "one-shot.mask.safetensors", from_b)
        if setting.own_mask:
            stages.prune(folder / "own", recipe, dense["b"], seeds["own"])
            controls["B's own mask"] = (stages.mask_file(folder / "own", recipe.targets[-1]), from_b)
        for method, (mask, init) in controls.items():
            records.append({"method": method, "accuracy": _train(setting, folder, method, mask, init, seeds["sparse"])})
    return [{"pair": index, **record} for record in records]


def _open(setting: Setting, folder: Path, index: int) -> Pair:
    recipe = setting.recipe
    data = build_data(**recipe.data)
    batches = list(data.sweep("train", num_images=setting.num_images, batch_size=500))
    source, reference = (load_network(folder / f"dense_{role}" / FINAL).network for role in "ab")
    early = [load_network(stages.rewind_file(folder / f"dense_{role}", recipe.rewinds[-1])).network for role in "ab"]
    target = recipe.targets[-1]
    ticket = load_network(folder / "imp" / "imp" / f"sparsity-{target:g}.ckpt").network
    symmetry = trace_symmetry(source, batches[0][0][:2])
    return Pair(
        source,
        reference,
        (early[0], early[1]),
        ticket,
        Mask.load(_mask_path(setting, folder)),
        symmetry,
        batches,
        index,
    )


def _memory(folder: Path, mask: Mask) -> dict[str, float]:
    """How much A's mask still holds of A's initialisation."""
    initial = load_network(stages.rewind_file(folder / "dense_a", "0it")).network.state_dict()
    return {**init_memory(mask, initial), "left": share_left(folder / "dense_a" / FINAL)}


def _mask_path(setting: Setting, folder: Path) -> Path:
    return stages.mask_file(folder / "imp", setting.recipe.targets[-1])


def _one_shot(pair: Pair) -> Mask:
    """B's own mask by magnitude, at the sparsity of A's."""
    return one_shot_like(pair.reference.state_dict(), pair.mask)


def _judged(setting: Setting, folder: Path, pair: Pair, method: str, own: Mask, seed: int) -> dict[str, Any]:
    """The record of one method; read, if it is there."""
    path = _judged_file(folder, method)
    record = _known(setting, path, method) if path.exists() else None
    if record is not None and ("accuracy" in record or method not in setting.trained):
        return record
    began = time.process_time()
    permutation = METHODS[method][1](pair)
    seconds = time.process_time() - began
    mask = Mask(pair.symmetry.permute(pair.mask, permutation))
    if record is None:
        record = {"method": method, "seconds": seconds, **_before(pair, permutation, mask, own)}
        record |= {} if method in setting.screened else _line(setting, pair, permutation)
    if method in setting.trained:
        permuted_mask = folder / "masks" / f"{method}.mask.safetensors"
        mask.save(permuted_mask)
        init = stages.rewind_file(folder / "dense_b", setting.recipe.rewinds[-1])
        record["accuracy"] = _train(setting, folder, method, permuted_mask, init, seed)
    write_json(path, record)
    return record


def _before(pair: Pair, permutation: Permutation, mask: Mask, own: Mask) -> dict[str, Any]:
    """What is known of a moved mask before anything is trained under it."""
    ticket = pair.symmetry.permute(pair.ticket.state_dict(), permutation)
    agreement = sign_agreement(mask.signed_by(ticket), pair.reference.state_dict())
    return {"overlap": mask.overlap(own), "agreement": agreement}


def _line(setting: Setting, pair: Pair, permutation: Permutation) -> dict[str, Any]:
    """The barriers between B and A permuted, by correction."""
    permuted = pair.symmetry.permute(pair.source.state_dict(), permutation)
    test = list(build_data(**setting.recipe.data).sweep("test", num_images=setting.num_test_images, batch_size=500))
    normalised = any(isinstance(module, _BatchNorm) for module in pair.reference.modules())
    corrections = ("none", "bn_reset" if normalised else "repair") if setting.num_alphas else ()
    found = {}
    for correction in corrections:
        barrier = loss_barrier(
            pair.reference,
            permuted,
            pair.reference,
            test,
            alphas=setting.num_alphas,
            correction=correction,
            correction_batches=pair.batches,
        )
        middle = len(barrier.alphas) // 2
        found[correction] = {
            "loss_barrier": barrier.loss_barrier,
            "error_barrier": barrier.error_barrier,
            "midpoint_accuracy": 1 - barrier.error[middle],
        }
    return found


def _train(setting: Setting, folder: Path, method: str, mask: Path, init: Path, seed: int) -> float:
    """Test accuracy in % after training under a mask."""
    recipe, run_folder = setting.recipe, _sparse_folder(folder, method)
    return stages.train_sparse(run_folder, recipe, mask, init, seed, recipe.epochs_after(recipe.rewinds[-1]))[
        "test/top1"
    ]


if __name__ == "__main__":
    main()
