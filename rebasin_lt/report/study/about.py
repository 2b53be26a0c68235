"""Sentences of a report: what was trained, and which runs learned nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rebasin_lt.judging.chance import is_at_chance
from rebasin_lt.report.study.setting import Setting

_NAMED = 5


def trained_text(settings: Mapping[str, Any]) -> str:
    """What was trained on what, for how long, out of a study's settings; what they do not say is left out."""
    recipe = settings.get("recipe") or {}
    network, data = recipe.get("network") or {}, recipe.get("data") or {}
    what = recipe.get("module") or network.get("arch") or "mlp"
    widths, seeds = settings.get("widths") or [1], settings.get("seeds") or []
    parts = [f"Trained: {what}, width {', '.join(f'{width:g}' for width in widths)}, on {data.get('name', 'digits')}"]
    lengths = {"dense": "dense_epochs", "per round of pruning": "epochs_per_round", "sparse": "sparse_epochs"}
    epochs = [f"{recipe[name]} {label}" for label, name in lengths.items() if recipe.get(name) is not None]
    parts += [f"epochs: {', '.join(epochs)}"] if epochs else []
    parts += [f"batches of {data['batch_size']}"] if data.get("batch_size") else []
    targets = recipe.get("targets") or []
    parts += [f"pruned to {', '.join(f'{target:g}' for target in targets)}"] if targets else []
    parts += [f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}"] if seeds else []
    return "; ".join(parts) + "."


def collapsed_text(runs: Iterable[Mapping[str, Any]], setting: Setting) -> str:
    """How many sparse networks collapsed to chance, and which; empty where none did. They are in all means."""
    runs = list(runs)
    lost = [run for run in runs if is_at_chance(run.get("top1"), setting.num_classes)]
    if not lost:
        return ""
    names = [
        f"{setting.methods.label(run['method'])} at {run['sparsity']:g} · {run['rewind']}, seed {run['seed']}"
        for run in lost
    ]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"† {len(lost)} of {len(runs)} sparse networks collapsed to chance ({100 / setting.num_classes:.3g} %): "
        f"{'; '.join(names[:_NAMED])}{more}. They are in every mean, and widen its ±."
    )
