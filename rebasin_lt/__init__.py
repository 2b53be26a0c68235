"""Align sparse masks with weight symmetry: prune one network, permute the mask, train another.

Names load on first use, so that `import rebasin_lt` and `rebasin-lt --help` need neither torch nor lightning.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "build_network": "models.registry",
    "Symmetry": "symmetry.trace",
    "trace_symmetry": "symmetry.trace",
    "Permutation": "symmetry.permutation",
    "MatchResult": "matching.activation",
    "match_activations": "matching.activation",
    "match_weights": "matching.weight_matching",
    "Mask": "pruning.mask",
    "magnitude_prune": "pruning.magnitude",
    "loss_barrier": "connectivity.barrier",
    "reset_batchnorm": "connectivity.batchnorm",
    "repair": "connectivity.repair",
    "EnsembleDiversity": "diversity",
    "load_network": "lit.checkpoint",
    "Classifier": "lit.classifier",
    "MaskedClassifier": "lit.classifier",
    "DynamicSparseTraining": "lit.callbacks.dynamic_sparse_training",
    "InitFrom": "lit.callbacks.init_from",
    "IterativeMagnitudePruning": "lit.callbacks.iterative_magnitude_pruning",
    "MaskGuard": "lit.callbacks.mask_guard",
    "RewindCheckpoint": "lit.callbacks.rewind_checkpoint",
    "SignIn": "lit.callbacks.sign_in",
    "InputError": "errors",
    "BrokenFileError": "errors",
    "SymmetryError": "errors",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'rebasin_lt' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"rebasin_lt.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
