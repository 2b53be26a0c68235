"""`python -m benchmarks NAME...` runs the named benchmarks one after another; --help lists them."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from pathlib import Path


def main() -> None:
    """Run benchmarks, each with its own defaults."""
    found = [m for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if not m.name.startswith("_")]
    places = {m.name: f"benchmarks.{m.name}.__main__" if m.ispkg else f"benchmarks.{m.name}" for m in found}
    modules = {name: importlib.import_module(place) for name, place in sorted(places.items())}
    lines = [f"  {name}: {(module.__doc__ or '').splitlines()[0]}" for name, module in modules.items()]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run benchmarks; `make bench` names those of speed, others take up to hours:\n" + "\n".join(lines),
        epilog="`python -m benchmarks.NAME --help` explains the options of one.",
    )
    parser.add_argument("name", nargs="+", help="benchmarks to run")
    chosen = parser.parse_args().name
    for name in chosen:
        if name not in modules:
            parser.error(f"benchmark {name!r} is not known, expected {', '.join(modules)}")
    for name in chosen:
        modules[name].main([])


if __name__ == "__main__":
    main()
