"""Every bad file, given to every command that reads one: one line, the right exit code, nothing executed or changed.

One row per case, in the `CASES` of the modules beside this one; rows that no module has are below.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import bad_checkpoints
import bad_data
import bad_folders
import bad_settings
import bad_tensors
import pytest

from rebasin_lt.cli import main

SOURCE = "permute --ckpt-b b.ckpt --out new --ckpt-a"
REFERENCE = "permute --ckpt-a a.ckpt --out new --ckpt-b"
FIT = "fit --config dense.yaml --trainer.default_root_dir new"
SPARSE = f"{FIT} --model MaskedClassifier --model.arch mlp"
GIVEN = "fit --trainer.default_root_dir new --config"
PLAIN = "permute --ckpt-b a.ckpt --model mlp --data digits --out new --ckpt-a"
LINE = "barrier --ckpt-a a.ckpt --ckpt-b b.ckpt --out new --permutation"
PLANE = "landscape --ckpt-a a.ckpt --ckpt-b b.ckpt --out new --permutation"
CONTROL = "control --kind shuffled --out new.mask.safetensors --mask"

CASES: list[tuple[str, int, str]] = [
    *((f"{SOURCE} {file}", code, text) for file, code, text in bad_checkpoints.CASES + bad_checkpoints.NETWORK_CASES),
    *((f"{REFERENCE} {file}", code, text) for file, code, text in bad_checkpoints.CASES[::4]),
    *((f"{FIT} --model.init_from {file}", code, text) for file, code, text in bad_checkpoints.CASES[1::4]),
    *((f"{FIT} --model.init_from {file}", code, text) for file, code, text in bad_checkpoints.NETWORK_CASES),
    *((f"test --config dense.yaml --ckpt_path {file}", code, text) for file, code, text in bad_checkpoints.CASES[2::4]),
    *((f"predict --config dense.yaml --ckpt_path {f}", code, text) for f, code, text in bad_checkpoints.CASES[3::8]),
    *((f"{FIT} --ckpt_path {f}", code, text) for f, code, text in bad_checkpoints.CASES[7::8]),
    *((f"validate --config dense.yaml --ckpt_path {f}", code, text) for f, code, text in bad_checkpoints.CASES[5::8]),
    *((f"{SOURCE} a.ckpt --masks {file}", code, text) for file, code, text in bad_tensors.MASK_CASES),
    *((f"{SPARSE} --model.mask {file}", code, text) for file, code, text in bad_tensors.MASK_CASES[::3]),
    *((f"{CONTROL} {file}", code, text) for file, code, text in bad_tensors.UNFIT_FOR_ALL[1::3]),
    *((f"mask --out new --mask {file}", code, text) for file, code, text in bad_tensors.UNFIT_FOR_ALL[2::3]),
    *((f"{LINE} {file}", code, text) for file, code, text in bad_tensors.PERMUTATION_CASES[::2]),
    *((f"{PLANE} {file}", code, text) for file, code, text in bad_tensors.PERMUTATION_CASES[1::2]),
    *((f"barrier --ckpt-b b.ckpt --out new --ckpt-a {f}", code, text) for f, code, text in bad_checkpoints.CASES[6::8]),
    *((f"diversity --out new --checkpoints x={f} y=a.ckpt", c, text) for f, c, text in bad_checkpoints.CASES[4::8]),
    *((f"mask --mask good.mask.safetensors --out new --ckpt {f}", c, t) for f, c, t in bad_checkpoints.CASES[1::8]),
    *(
        (f"control --kind magnitude --out new --sparsity 0.5 --ckpt {f}", c, t)
        for f, c, t in bad_checkpoints.CASES[2::8]
    ),
    *((f"{GIVEN} {name}.yaml", 2, text) for name, text in bad_settings.CASES),
    *((f"permute --config {name}.yaml", 2, text) for name, text in bad_settings.CASES),
    ("demo --config twice.yaml", 2, "key 'out' is there twice"),
    ("symmetry --config latin.yaml", 2, "it is not UTF-8"),
    *bad_data.CASES,
    *bad_folders.CASES,
    (f"{SOURCE} arch_unknown.ckpt", 2, "../../etc/passwd"),
    (f"{SOURCE} arch_code.ckpt", 2, "code that it may not choose"),
    (f"{SOURCE} width_negative.ckpt", 2, "width"),
    ("permute --ckpt-a data_unknown.ckpt --ckpt-b data_unknown.ckpt --out new", 2, "data is '../../digits'"),
    ("permute --ckpt-a data_argument.ckpt --ckpt-b a.ckpt --out new", 2, "data digits has no argument 'evil'"),
    ("permute --ckpt-a data_type.ckpt --ckpt-b a.ckpt --out new", 1, "which no dataset takes"),
    ("permute --ckpt-a data_nested.ckpt --ckpt-b a.ckpt --out new", 1, "which names no dataset with plain settings"),
    (
        "permute --ckpt-a data_nameless.ckpt --ckpt-b a.ckpt --out new",
        1,
        "was trained on {'root': '/'}, which names no",
    ),
    ("permute --ckpt-a data_root.ckpt --ckpt-b a.ckpt --out new", 1, "which names no dataset with plain settings"),
    ("permute --ckpt-a data_writes.ckpt --ckpt-b data_writes.ckpt --out new", 2, "root is 'elsewhere'"),
    (f"{PLAIN} orig_alone.pt", 1, "has no layers.0.weight_mask beside it"),
    (f"{PLAIN} orig_shape.pt", 1, "orig_shape.pt: "),
    (f"{PLAIN} orig_values.pt", 1, "holds other values than 0 and 1"),
    (f"{PLAIN} seven.pt", 2, "checkpoint seven.pt lacks"),
    ("test --config dense.yaml --ckpt_path seven.pt", 2, "seven.pt has no pytorch-lightning_version, which test needs"),
    (f"{FIT} --ckpt_path a.ckpt", 2, "a.ckpt has no optimizer_states, which fit needs: it is a network alone"),
]


def snapshot(folder: Path) -> dict[str, str]:
    """The hash of every file below, and every folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def before(files: Path) -> dict[str, str]:
    return snapshot(files)


@pytest.fixture
def untouched(files: Path, before: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing damaged, nothing left behind, no canary. What is new is removed, lest every later case fail too."""
    monkeypatch.chdir(files)
    yield
    after = snapshot(files)
    for path in sorted((files / name for name in after.keys() - before.keys()), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert after == before


@pytest.mark.parametrize(("command", "code", "text"), CASES, ids=[case[0][:80] for case in CASES])
def test_command_refuses_it(untouched, monkeypatch, capfd, command: str, code: int, text: str) -> None:
    monkeypatch.setattr("sys.argv", ["rebasin-lt"])
    assert main(command.split()) == code
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("rebasin-lt: error: ")
    assert captured.err.count("\n") == 1
    assert text in captured.err


def test_table_is_as_large_as_it_should_be() -> None:
    assert len(CASES) >= 150
    assert len(set(CASES)) == len(CASES)
