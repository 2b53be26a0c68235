"""Align sparse masks with weight symmetry: prune one network, permute the mask, train another.

Names load on first use, so that `import rebasin_lt` and `rebasin-lt --help` need neither torch nor lightning. Where
each comes from is said once, in `__init__.pyi`, which type checkers and editors read instead of this file.
"""

__version__ = "0.2.0"

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "SVHN",
    "AlignedExperts",
    "BarrierResult",
    "BrokenFileError",
    "Classifier",
    "DeadUnits",
    "Digits",
    "DivergedError",
    "DynamicSparseTraining",
    "EnsembleDiversity",
    "Evaluation",
    "FashionMNIST",
    "Fed",
    "ImageData",
    "ImageFolder",
    "ImageNet",
    "InitFrom",
    "InputError",
    "IterativeMagnitudePruning",
    "LoadedNetwork",
    "Mask",
    "MaskGuard",
    "MaskLeakError",
    "MaskedClassifier",
    "MatchResult",
    "Mixture",
    "NetworkModule",
    "Permutation",
    "Plane",
    "Preemption",
    "Recipe",
    "ResidentImages",
    "ResumePoint",
    "RewindCheckpoint",
    "SignIn",
    "Study",
    "StudyOutcome",
    "Symmetry",
    "SymmetryError",
    "ValueDiversity",
    "__version__",
    "align_experts",
    "build_network",
    "evaluate",
    "expected_overlap",
    "find_dead_units",
    "find_mixtures",
    "grasp",
    "init_memory",
    "interpolate",
    "load_network",
    "loss_barrier",
    "magnitude_prune",
    "match_activations",
    "match_signs",
    "match_weights",
    "merged_experts",
    "mix_with_magnitude",
    "network_of",
    "overlap_report",
    "permute_randomly",
    "plane_losses",
    "prune_by",
    "prune_to_sparsity",
    "published",
    "random_erk",
    "random_uniform",
    "read_outcome",
    "repair",
    "reset_batchnorm",
    "set_signs_",
    "shuffle_degrees",
    "shuffle_layerwise",
    "sign_agreement",
    "snip",
    "synflow",
    "trace_symmetry",
    "with_mask_of",
    "write_study_report",
]


def _places():
    """The module, without the package in front, that each public name comes from."""
    import re
    from pathlib import Path

    stub = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    return {name: module for module, name in re.findall(r"^from \.([\w.]+) import (\w+) as \2$", stub, re.MULTILINE)}


def __getattr__(name):
    from importlib import import_module

    module = _places().get(name) if name in __all__ else None
    if module is None:
        raise AttributeError(f"module 'rebasin_lt' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"rebasin_lt.{module}"), name)
    return value


def __dir__():
    return sorted(__all__)
