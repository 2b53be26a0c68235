"""Runs commands of whichever rebasin_lt comes first on its path, each in a process of its own.

A script, not a module: nothing of the working tree may come before the commit that is asked for. It imports the large
libraries once and forks for every command, which saves the seconds that their import takes. A line of its input is
JSON: a folder to work in, the arguments, and the file for what the command prints; the answer is the exit code.
"""

import contextlib
import importlib
import json
import os
import sys

LIBRARIES = (
    "lightning.pytorch.cli",
    "matplotlib.figure",
    "scipy.optimize",
    "sklearn.datasets",
    "torch._dynamo",
    "torch.export",
    "torchmetrics",
    "torchvision",
)
"""Those of others that commands import; one that is not there is left to the command that wants it."""


def run(folder: str, arguments: list[str], log: str) -> int:
    """Run `rebasin-lt ARGUMENTS` in a fork of this process; returns its exit code, negative for a signal."""
    child = os.fork()
    if not child:
        code = 1
        try:
            code = _in_fork(folder, arguments, log)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _in_fork(folder: str, arguments: list[str], log: str) -> int:
    os.chdir(folder)
    with open(log, "w") as file, open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["rebasin-lt", *arguments]
    from rebasin_lt.cli import main

    try:
        return main()
    except SystemExit as stopped:
        return stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def serve() -> None:
    """Say which package this is, then answer until the input ends."""
    import rebasin_lt

    print(json.dumps(rebasin_lt.__file__), flush=True)
    for line in sys.stdin:
        _import_libraries()
        print(json.dumps(run(**json.loads(line))), flush=True)


def _import_libraries() -> None:
    with contextlib.redirect_stdout(sys.stderr):
        for name in LIBRARIES:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # whoever asked was killed
        serve()
