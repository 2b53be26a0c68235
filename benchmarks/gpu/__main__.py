"""All that only a GPU can tell, in a time that is given: `make gpu GPU_SECONDS=540`.

    python -m benchmarks.gpu [--seconds 540] [--out runs/gpu] [--data FOLDER] [--device auto]
                             [--parts step,paper] [--commit TEXT]

Parts follow one another, as `benchmarks/gpu/parts.py` lists them: the tests that need a GPU; a step, the data path and
matching at widths 1, 4 and 16; which choices pay; several runs at once; ResNet50 at 224×224; and then, in the time that
is left, the paper's ResNet20×1 on CIFAR-10 (JPEG): dense A and B, pruning to .95, LTH, naive, permuted, with signs.
Each is a process of its own, and writes `NAME.json`, with device and commit, when it ends: what is done before the time
is up, or before this is killed, counts. `--data` is a folder of class folders, `train/CLASS/*.jpg` and
`test/CLASS/*.jpg`. No network, no git and no home that can be written to is needed. Without a GPU it all runs at toy
size, on the pretended device of the tests, which measures nothing: to see that it will run where there is one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks._device import PRETENDED
from benchmarks.gpu.running import Setting, run_parts
from rebasin_lt.storage.files import write_json

CACHES = {
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "MPLCONFIGDIR": "matplotlib",
    "XDG_CACHE_HOME": "cache",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts, and say what became of each.

    A GPU's time begins here: what is imported first counts. Where nothing is measured, it begins with the first part.
    """
    began = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=540, help="for everything together")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of the results")
    parser.add_argument("--data", default=None, help="folder of CIFAR-10 (JPEG), as class folders")
    parser.add_argument("--device", default="auto", help=f"cuda, cuda:N, {PRETENDED}, or auto: a GPU if there is one")
    parser.add_argument("--parts", default=None, help="some of them, separated by commas, instead of all")
    parser.add_argument("--commit", default="", help="of what is measured, where git does not say it")
    given = parser.parse_args(arguments)
    out = given.out.resolve()
    for name, folder in CACHES.items():
        os.environ.setdefault(name, str(out / "caches" / folder))
    device = _device() if given.device == "auto" else given.device
    from benchmarks.gpu.parts import PARTS  # slow to import, and after the caches' places are known

    setting = Setting(device, out, given.commit or _commit(), given.data, toy=device == PRETENDED)
    wanted = [part.name for part in PARTS] if given.parts is None else given.parts.split(",")
    unknown = set(wanted) - {part.name for part in PARTS}
    if unknown:
        parser.error(f"part {sorted(unknown)[0]!r} is not known, expected {', '.join(part.name for part in PARTS)}")
    left = given.seconds - (0.0 if setting.toy else time.monotonic() - began)
    outcomes = run_parts([part for part in PARTS if part.name in wanted], setting, left)
    write_json(out / "outcomes.json", {"device": device, "commit": setting.commit, "outcomes": outcomes})
    if set(outcomes.values()) & {"failed"}:
        raise SystemExit(1)


def _device() -> str:
    """A GPU if there is one, asked for in another process: one that has looked cannot fork others that use it."""
    ask = "import torch; print('cuda' if torch.cuda.is_available() else '')"
    found = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False).stdout.strip()
    return found or PRETENDED


def _commit() -> str:
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
