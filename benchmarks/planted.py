"""Planted recovery: a permutation, hidden under noise on every weight, must come back, over networks and seeds."""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks._page import DOCS, between
from rebasin_lt.connectivity.batchnorm import reset_batchnorm
from rebasin_lt.matching.activation import MatchResult, match_activations
from rebasin_lt.matching.weight_matching import match_weights
from rebasin_lt.models.registry import build_network
from rebasin_lt.process.progress_line import ProgressLine
from rebasin_lt.report.kit.tables import Column, Table
from rebasin_lt.storage.files import write_json, write_text
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

NOISE = 1e-3  # standard deviation of what is added to every parameter, whatever its scale
WEIGHT_METHODS = ("coordinate_descent", "frank_wolfe")
Shape = tuple[int, int, int]
Record = dict[str, Any]


class Subject(NamedTuple):
    """A network to plant a permutation in, and the images to find it with."""

    title: str
    build: Callable[[], nn.Module]
    shape: Shape  # of an image
    num_images: int
    methods: tuple[str, ...] = ("activations",)
    batch_size: int = 64

    def images_for(self, method: str) -> int:
        """How many images the method looks at."""
        return self.num_images if method == "activations" else 0


def _vit_b_16() -> nn.Module:
    from torchvision.models import VisionTransformer

    sizes = {"num_layers": 12, "num_heads": 12, "hidden_dim": 768, "mlp_dim": 3072}
    return VisionTransformer(image_size=32, patch_size=16, num_classes=10, **sizes)


def _of_torchvision(name: str) -> Callable[[], nn.Module]:
    return lambda: build_network(f"torchvision:{name}", num_classes=10)


_ALL = ("activations", *WEIGHT_METHODS)
SUBJECTS = {
    "mlp": Subject("MLP", lambda: build_network("mlp"), (1, 8, 8), 1024, _ALL),
    "vgg11": Subject("VGG11, without batch norm", lambda: build_network("vgg11"), (3, 32, 32), 2048, _ALL),
    "resnet20": Subject("ResNet20", lambda: build_network("resnet20"), (3, 32, 32), 512, _ALL),
    "mobilenet_v2": Subject("MobileNetV2, 64×64", _of_torchvision("mobilenet_v2"), (3, 64, 64), 512),
    "vit_b_16": Subject("ViT-B/16, 32×32", _vit_b_16, (3, 32, 32), 512),
    "resnet50": Subject("ResNet50, 64×64", _of_torchvision("resnet50"), (3, 64, 64), 512),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Plant and match what is not in planted.json yet, then write the table into docs/matching.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", help=f"names, separated by commas: {', '.join(SUBJECTS)}; all if not given")
    parser.add_argument("--seeds", type=int, default=20, help="permutations, and networks, per method")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of planted.json")
    given = parser.parse_args(arguments)
    names = given.networks.split(",") if given.networks else list(SUBJECTS)
    unknown = sorted({*names} - {*SUBJECTS})
    if unknown:
        parser.error(f"no network {', '.join(unknown)}, expected some of {', '.join(SUBJECTS)}")
    torch.set_num_threads(1)
    results = given.out / "planted.json"
    run(names, given.seeds, results)
    write_report(results)


def write_report(results: Path, docs: Path = DOCS) -> None:
    """Put the table between its markers in docs/matching.md."""
    page = (docs / "matching.md").read_text(encoding="utf-8")
    rows = table(_read(results)["networks"]).to_markdown(markup=True).strip()
    write_text(docs / "matching.md", between(page, "planted table", rows))


def run(names: Sequence[str], num_seeds: int, results: Path) -> None:
    """Measure each network, method and seed that is not in the file of results with as many images, and add it."""
    jobs = [(name, method, seed) for name in names for method in SUBJECTS[name].methods for seed in range(num_seeds)]
    with ProgressLine("planted") as progress:
        for done, (name, method, seed) in enumerate(jobs):
            progress(f"{name}, {method}", done, len(jobs))
            written = _read(results)
            records = written["networks"].setdefault(name, {}).setdefault(method, {})
            if records.get(str(seed), {}).get("images") != SUBJECTS[name].images_for(method):
                records[str(seed)] = measure(SUBJECTS[name], method, seed)
                write_json(results, {"made_by": "python -m benchmarks.planted", "noise": NOISE, **written})


def measure(subject: Subject, method: str, seed: int) -> Record:
    """Plant a permutation by `seed` and look for it: images, units, live ones, how many are wrong, CPU seconds."""
    source, reference, planted, images, symmetry = plant(subject, seed)
    begun = time.process_time()
    found = _match(method, source, reference, images, symmetry)
    seconds = time.process_time() - begun
    wrong = {group: symmetry.joint(found.permutation, group) != symmetry.joint(planted, group) for group in planted}
    return {
        "images": subject.images_for(method),
        "units": sum(map(symmetry.num_units, symmetry.groups)),
        "live": sum(int(live.sum()) for live in found.live.values()),
        "wrong": sum(int(wrong[group][live].sum()) for group, live in found.live.items()),
        "wrong_not_live": sum(int(wrong[group][~live].sum()) for group, live in found.live.items()),
        "seconds": round(seconds, 2),
    }


def plant(
    subject: Subject, seed: int
) -> tuple[dict[str, Tensor], dict[str, Tensor], Permutation, list[Tensor], Symmetry]:
    """A, B = π*(A) + noise, π*, the images (of Gaussian noise, as normalised ones), and A's symmetry.

    A has fresh weights, drawn for rectifiers where no norm keeps the scale of its activations (`_initialise_`), and the
    batch norm statistics of the images; B's are estimated anew, for the noise moves them. All in float32.
    """
    torch.manual_seed(seed)
    network = subject.build().eval()
    _initialise_(network)
    generator = torch.Generator().manual_seed(seed)
    images = list(torch.randn(subject.num_images, *subject.shape, generator=generator).split(subject.batch_size))
    source = reset_batchnorm(network, images)
    symmetry = _symmetry(subject)
    planted = symmetry.random(generator)
    reference = symmetry.permute(source, planted)
    for name, parameter in network.named_parameters():
        reference[name] = reference[name] + NOISE * torch.randn(parameter.shape, generator=generator)
    return source, reset_batchnorm(network, images, reference), planted, images, symmetry


@lru_cache(maxsize=1)
def _symmetry(subject: Subject) -> Symmetry:
    """The network's symmetry, which no weights change."""
    with torch.random.fork_rng():
        return trace_symmetry(subject.build(), torch.zeros(2, *subject.shape), verify=False)


def _initialise_(network: nn.Module) -> None:
    """He's initialisation in networks without norms.

    PyTorch's default shrinks activations by √6 per layer: after ten, units hardly depend on the image, all in much the
    same way, which no trained network's do.
    """
    norms = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)
    if any(isinstance(module, norms) for module in network.modules()):
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


def _match(
    method: str,
    source: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    images: list[Tensor],
    symmetry: Symmetry,
) -> MatchResult:
    if method in WEIGHT_METHODS:
        return match_weights(source, reference, symmetry, method=method)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="matching .* with fewer images than units")
        return match_activations(source, reference, images, symmetry)


def table(networks: Mapping[str, Mapping[str, Mapping[str, Record]]]) -> Table:
    """One row per network and method."""
    rows = []
    for name, subject in SUBJECTS.items():
        for method in subject.methods:
            records = list(networks.get(name, {}).get(method, {}).values())
            if not records:
                continue
            exact, whole = (
                sum(not any(record[key] for key in keys) for record in records)
                for keys in (("wrong",), ("wrong", "wrong_not_live"))
            )
            dead = [record["units"] - record["live"] for record in records]
            rows.append([
                subject.title,
                method.replace("_", " "),
                f"{subject.images_for(method):,}",
                f"{records[0]['units']:,}",
                f"{min(dead)}–{max(dead)}" if min(dead) < max(dead) else str(dead[0]),
                f"{exact} of {len(records)}",
                f"{whole} of {len(records)}",
                sorted(record["seconds"] for record in records)[len(records) // 2],
            ])
    columns = [Column("network", align="left"), Column("method", align="left")]
    titles = ("images", "units", "not live", "live units exact", "all units exact", "seconds")
    return Table([*columns, *(Column(title, decimals=1) for title in titles)], rows)


def _read(path: Path) -> dict[str, Any]:
    written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"networks": {}}
    return {"networks": written["networks"]}


if __name__ == "__main__":
    main()
