"""The trajectories: small runs on digits that together pass through every part of the package. Each is a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """One command: its settings, as in a YAML file, and what it takes without a name."""

    command: str
    settings: Settings = field(default_factory=dict)
    positional: Sequence[str] = ()


@dataclass(frozen=True)
class Trajectory:
    """Steps that write below the folder `name`, and the trajectories whose folders they read."""

    name: str
    steps: Sequence[Step]
    needs: Sequence[str] = ()


def chosen(names: Sequence[str]) -> list[Trajectory]:
    """The named trajectories, or all, and those that they need; each after what it needs.

    Raises KeyError for a name that is not known.
    """
    by_name = {trajectory.name: trajectory for trajectory in TRAJECTORIES}
    found: dict[str, Trajectory] = {}

    def take(name: str) -> None:
        for needed in by_name[name].needs:
            take(needed)
        found.setdefault(name, by_name[name])

    for name in names or by_name:
        take(name)
    return list(found.values())


def _training(
    name: str,
    epochs: int,
    model: Settings,
    callback: str = "",
    callback_settings: Settings = {},  # noqa: B006 - never changed
    seed: int = 1,
    kind: str = "Classifier",
    needs: Sequence[str] = (),
) -> Trajectory:
    """A fit and its test. What is not said is the default, so that a default that changes is seen."""
    callbacks = [{"class_path": callback, "init_args": callback_settings}] if callback else []
    settings = {
        "seed_everything": seed,
        "model": {"class_path": kind, "init_args": {"num_classes": 10, **model}},
        "data": {"class_path": "Digits", "init_args": {"batch_size": 50}},
        "trainer": {"max_epochs": epochs, "default_root_dir": name, "accelerator": "cpu", "callbacks": callbacks},
        "ckpt_path": "last",
    }
    return Trajectory(name, (Step("fit", settings), Step("test", settings)), needs)


def _dense(name: str, epochs: int, seed: int = 1, **model: Any) -> Trajectory:
    return _training(name, epochs, model, "RewindCheckpoint", {"at": ["0it", "30it", "1ep"]}, seed)


def _pruning(name: str, dense: str, model: Settings, **settings: Any) -> Trajectory:
    init = {**model, "init_from": f"{dense}/last.ckpt"}
    chain = {"targets": [0.5, 0.8], "fraction": 0.4, "epochs_per_round": 1, **settings}
    return _training(name, -1, init, "IterativeMagnitudePruning", chain, needs=(dense,))


def _sparse(name: str, mask: str, dense: str, **model: Any) -> Trajectory:
    settings = {"learning_rate": 0.05, "mask": mask, "init_from": f"{dense}/rewind/1ep.ckpt", **model}
    return _training(name, 3, settings, seed=3, kind="MaskedClassifier", needs=(mask.partition("/")[0], dense))


def _dynamic(method: str) -> Trajectory:
    exchange = {"sparsity": 0.8, "method": method, "update_every": 10, "seed": 1}
    return _training(f"dst-{method}", 3, {"learning_rate": 0.05}, "DynamicSparseTraining", exchange)


def _permuting(name: str, a: str, b: str, imp: str, **settings: Any) -> Trajectory:
    given = {**_between(a, b), "mask": [f"{imp}/{_MASK}"], "alphas": 0, "out": name}
    return Trajectory(name, (Step("permute", {**given, **settings}),), (a, b, imp))


def _between(a: str, b: str, match: str = "") -> dict[str, str]:
    """The settings of a command that looks at two networks, and at the permutation of a match."""
    permutation = {"permutation": f"{match}/permutation.perm.safetensors"} if match else {}
    return {"ckpt_a": f"{a}/last.ckpt", "ckpt_b": f"{b}/last.ckpt", "device": "cpu", **permutation}


def _analysis(command: str, name: str, needs: Sequence[str], **settings: Any) -> Trajectory:
    return Trajectory(name, (Step(command, {"out": name, **settings}),), needs)


def _control(kind: str, **settings: Any) -> Step:
    out = f"controls/{kind}.mask.safetensors"
    return Step("control", {"kind": kind, "mask": f"imp-finetune/{_MASK}", "out": out, **settings})


_MASK = "imp/sparsity-0.8.mask.safetensors"
_CKPT_B = "dense-mlp-b/last.ckpt"
_RATE = {"learning_rate": 0.05}
_RESNET = {"arch": "resnet20", "width": 0.5, "input_shape": [1, 8, 8], "learning_rate": 0.002}
_REWIND = {"rewind_from": "dense-mlp/rewind/1ep.ckpt", "epochs_per_round": 2}
_MLPS = ("dense-mlp", "dense-mlp-b")
_RESNETS = ("dense-resnet20", "dense-resnet20-b")
_CONTROLS = (
    _control("random_permutation", ckpt=_CKPT_B),
    _control("shuffled"),
    _control("degree_preserving"),
    _control("uniform"),
    _control("erk"),
    _control("magnitude", ckpt=_CKPT_B),
    _control("mix", ckpt=_CKPT_B),
    _control("snip", ckpt=_CKPT_B, n_images=100),
    _control("grasp", ckpt=_CKPT_B, n_images=100),
    _control("synflow", ckpt=_CKPT_B),
)
_STUDY = {
    "out": "study-digits",
    "seeds": [0],
    "methods": ["lth", "permuted", "paper", "naive"],
    "matchers": {"permuted": {}, "paper": {"preset": "paper"}},
    "barrier": {"matchers": ["permuted"], "num_alphas": 5},
    "recipe": {
        **{"targets": [0.8], "fraction": 0.6, "rewinds": ["1ep"]},
        **{"dense_epochs": 2, "epochs_per_round": 1, "sparse_epochs": 2},
    },
    "workers": 1,
}

TRAJECTORIES: Sequence[Trajectory] = (
    _dense("dense-mlp", 4, **_RATE),
    _dense("dense-mlp-b", 4, seed=2, **_RATE),
    _dense("dense-adamw", 3, optimizer="adamw", learning_rate=0.003, label_smoothing=0.1, warmup_epochs=1),
    _dense("dense-resnet20", 2, **_RESNET),
    _dense("dense-resnet20-b", 2, seed=2, **_RESNET),
    _pruning("imp-finetune", "dense-mlp", _RATE, after_prune="finetune"),
    _pruning("imp-rewind_lr", "dense-mlp", _RATE, after_prune="rewind_lr", **_REWIND),
    _pruning("imp-rewind_weights", "dense-mlp", _RATE, after_prune="rewind_weights", **_REWIND),
    _pruning("imp-resnet20", "dense-resnet20", _RESNET),
    _permuting("permute-default", *_MLPS, "imp-finetune", alphas=5),
    _permuting("permute-paper", *_MLPS, "imp-finetune", preset="paper"),
    _permuting("permute-covariance", *_MLPS, "imp-finetune", objective="covariance"),
    _permuting("permute-descent", *_MLPS, "imp-finetune", method="coordinate_descent"),
    _permuting("permute-frank_wolfe", *_MLPS, "imp-finetune", method="frank_wolfe"),
    _permuting("permute-resnet20", *_RESNETS, "imp-resnet20"),
    _permuting("permute-resnet20-descent", *_RESNETS, "imp-resnet20", method="coordinate_descent"),
    _analysis("barrier", "barrier-mlp", ["permute-default"], **_between(*_MLPS, "permute-default"), alphas=5),
    _analysis(
        "barrier",
        "barrier-resnet20",
        ["permute-resnet20"],
        **_between(*_RESNETS, "permute-resnet20"),
        alphas=3,
        split="test",
    ),
    _sparse("sparse-lth", f"imp-finetune/{_MASK}", "dense-mlp"),
    _sparse("sparse-permuted", "permute-default/sparsity-0.8.mask.safetensors", "dense-mlp-b"),
    _sparse("sparse-continue", f"imp-finetune/{_MASK}", "dense-mlp-b", schedule="continue"),
    _dynamic("rigl"),
    _dynamic("set"),
    Trajectory("controls", _CONTROLS, ["imp-finetune", "dense-mlp-b"]),
    _analysis(
        "mask",
        "mask-analysis",
        ["imp-finetune", "imp-rewind_weights"],
        mask=f"imp-finetune/{_MASK}",
        other=[f"imp-rewind_weights/{_MASK}"],
        ckpt="dense-mlp/last.ckpt",
    ),
    _analysis("landscape", "landscape-mlp", ["permute-default"], **_between(*_MLPS, "permute-default"), points=3),
    _analysis(
        "diversity",
        "diversity-mlp",
        ["sparse-lth", "sparse-permuted"],
        ckpts=[f"dense=dense-mlp/last.ckpt,{_CKPT_B}", "sparse=sparse-lth/last.ckpt,sparse-permuted/last.ckpt"],
        device="cpu",
    ),
    Trajectory("study-digits", (Step("study", _STUDY), Step("report", positional=["study-digits"]))),
)
