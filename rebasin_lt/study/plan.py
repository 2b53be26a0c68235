"""The stages of a study, derived from its grid: each is what determines it, so what cells share is there once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rebasin_lt.experiment.file_names import FINAL, mask_name, rewind_name, ticket_name
from rebasin_lt.experiment.methods import control_methods
from rebasin_lt.study.grid import Study
from rebasin_lt.study.stage import Stage

KINDS = ("dense", "imp", "match", "control", "sparse", "barrier", "diversity")
"""What a stage does, in the order in which reports name them."""

ROLES = ("a", "b")
_SEED_OF = {"dense_a": 0, "dense_b": 1, "imp_a": 2, "sparse": 3, "control": 4, "imp_b": 5, "match": 6}
_AT_REWOUND = ("snip", "grasp", "synflow")  # control masks of the weights that training starts from
_AT_TRAINED = ("random_permutation", "b_magnitude")  # of the trained B


def plan(study: Study) -> dict[str, Stage]:
    """Every stage by its path, after those that it needs.

    A and B of a seed have seeds of their own (10·seed and 10·seed + 1); all sparse runs of a seed share their data
    order, so that methods are compared in pairs.
    """
    stages: dict[str, Stage] = {}
    for width in study.widths:
        for stage in _of_width(_Names(study, width)):
            known = stages.setdefault(stage.path, stage)
            assert known == stage, f"two stages share the folder {stage.path}"
    return stages


def stage_seed(seed: int, what: str) -> int:
    """The seed of a part of a repetition: dense_a, dense_b, imp_a, imp_b, sparse, control or match."""
    return 10 * seed + _SEED_OF[what]


@dataclass(frozen=True)
class _Names:
    """The stages of one width."""

    study: Study
    width: float

    def path(self, seed: int | None, *parts: str) -> str:
        repetition = ("diversity",) if seed is None else (f"seed={seed}",)
        return "/".join((f"width={self.width:g}", *repetition, *parts))

    def dense(self, seed: int, role: str) -> Stage:
        moments = self.study.kept_moments
        return Stage(
            self.path(seed, f"dense_{role}"),
            "dense",
            self.width,
            self.study.recipe.dense_epochs,
            outputs=(FINAL, *map(rewind_name, moments)),
            settings={"seed": stage_seed(seed, f"dense_{role}"), "repetition": seed, "role": role},
        )

    def imp(self, seed: int, role: str) -> Stage:
        dense, targets = self.dense(seed, role), self.study.recipe.targets
        moment = self.study.recipe.pruned_from
        return Stage(
            self.path(seed, f"imp_{role}"),
            "imp",
            self.width,
            self.study.recipe.prune_epochs,
            (dense.path,),
            (FINAL, *(f"imp/{name(target)}" for target in targets for name in (mask_name, ticket_name))),
            {"seed": stage_seed(seed, f"imp_{role}"), "dense": dense.path, "repetition": seed, "role": role},
            (f"{dense.path}/{FINAL}", *([f"{dense.path}/{rewind_name(moment)}"] if moment else [])),
        )

    def match(self, matcher: str, a: int, b: int) -> Stage:
        """A of repetition `a` matched to B of repetition `b`, with all of A's masks."""
        needs = (self.dense(a, "a").path, self.dense(b, "b").path, self.imp(a, "a").path)
        folder = ("match", matcher) if a == b else (f"member={b}", "match", matcher)
        masks = tuple(mask_name(target) for target in self.study.recipe.targets)
        at = self.study.matchers[matcher].get("at", "final")
        weights_b = FINAL if at == "final" else rewind_name(at)
        return Stage(
            self.path(a if a == b else None, *folder),
            "match",
            self.width,
            0,
            needs,
            ("permutation.perm.safetensors", *masks),
            {
                **{"a": needs[0], "b": needs[1], "imp": needs[2], "matcher": matcher},
                "repetition": a if a == b else None,
                "seed": stage_seed(b, "match"),
            },
            (f"{needs[0]}/{FINAL}", f"{needs[1]}/{weights_b}", *(f"{needs[2]}/imp/{mask}" for mask in masks)),
        )

    def control(self, method: str, seed: int, rewind: str) -> Stage:
        """The masks of one control, of every sparsity; of every moment, where it looks at the weights there."""
        a, b = self.dense(seed, "a").path, self.dense(seed, "b").path
        imp = self.imp(seed, "a").path
        moment = rewind if method in _AT_REWOUND else None
        name = method if moment is None else f"{method},rewind={moment}"
        masks = tuple(mask_name(target) for target in self.study.recipe.targets)
        weights = [f"{b}/{FINAL if moment is None else rewind_name(moment)}"] * (method in _AT_REWOUND + _AT_TRAINED)
        return Stage(
            self.path(seed, "controls", name),
            "control",
            self.width,
            0,
            (a, b, imp),
            masks,
            {
                **{"kind": control_methods()[method], "a": a, "b": b, "imp": imp, "rewind": moment},
                "seed": stage_seed(seed, "control"),
            },
            (*(f"{imp}/imp/{mask}" for mask in masks), *weights),
        )

    def sparse(self, method: str, sparsity: float, rewind: str, a: int, b: int) -> Stage:
        """Training under A's mask, a permuted one, B's own or a control's; a ≠ b for members of an ensemble."""
        study, own = self.study, method == "b_imp"
        dense = self.dense(a, "a") if method == "lth" else self.dense(b, "b")
        if method in control_methods():
            masks, folder = self.control(method, b, rewind), ""
        elif method in study.matchers:
            masks, folder = self.match(method, a, b), ""
        else:
            masks, folder = (self.imp(b, "b") if own else self.imp(a, "a")), "imp/"
        cell = f"method={method},sparsity={sparsity:g},rewind={rewind}"
        parts = ("sparse", cell) if a == b else (f"member={b}", "sparse", cell)
        mask, init_from = f"{masks.path}/{folder}{mask_name(sparsity)}", f"{dense.path}/{rewind_name(rewind)}"
        return Stage(
            self.path(a if a == b else None, *parts),
            "sparse",
            self.width,
            study.recipe.epochs_after(rewind),
            (dense.path, masks.path),
            (FINAL,),
            {
                **{"method": method, "sparsity": sparsity, "rewind": rewind, "a": a, "b": b},
                "mask": mask,
                "init_from": init_from,
                "seed": stage_seed(b, "sparse"),
            },
            (mask, init_from),
        )

    def barrier(self, matcher: str, seed: int) -> Stage:
        match = self.match(matcher, seed, seed)
        return Stage(
            self.path(seed, "barrier", matcher),
            "barrier",
            self.width,
            0,
            (match.settings["a"], match.settings["b"], match.path),
            settings={**match.settings, "match": match.path},
            inputs=(
                *(f"{match.settings[role]}/{FINAL}" for role in ROLES),
                f"{match.path}/permutation.perm.safetensors",
            ),
        )

    def ensembles(self, sparsity: float, rewind: str) -> Iterator[Stage]:
        """The members of every setting (paper, Appendix C), and the stage that measures them.

        A is that of the first seed, B_i those of all. *imp*: the tickets of the B_i; *lth*: A in the data orders of
        all seeds; *permuted* and *naive*: every B_i under A's mask.
        """
        study = self.study
        first, matcher = study.seeds[0], (study.diversity or {}).get("matcher", "permuted")
        members: dict[str, list[str]] = {}
        needs: list[Stage] = []
        for seed in study.seeds:
            dense, imp = self.dense(seed, "b"), self.imp(seed, "b")
            needs += [self.dense(first, "a"), dense, self.imp(first, "a"), imp, self.match(matcher, first, seed)]
            members.setdefault("dense", []).append(f"{dense.path}/{FINAL}")
            members.setdefault("imp", []).append(f"{imp.path}/imp/{ticket_name(sparsity)}")
            for name in ("lth", matcher, "naive"):
                sparse = self.sparse(name, sparsity, rewind, first, seed)
                needs.append(sparse)
                members.setdefault("permuted" if name == matcher else name, []).append(f"{sparse.path}/{FINAL}")
        yield from needs
        yield Stage(
            self.path(None, f"sparsity={sparsity:g},rewind={rewind},members={len(study.seeds)}"),
            "diversity",
            self.width,
            0,
            tuple(dict.fromkeys(stage.path for stage in needs)),
            settings={"members": members, "sparsity": sparsity, "rewind": rewind},
            inputs=tuple(dict.fromkeys(path for paths in members.values() for path in paths)),
        )


def _of_width(names: _Names) -> Iterator[Stage]:
    study = names.study
    for seed in study.seeds:
        yield from _of_seed(names, seed)
    if study.diversity is not None:
        for sparsity in study.diversity.get("sparsities", study.recipe.targets):
            for rewind in study.diversity.get("rewinds", study.recipe.rewinds):
                yield from names.ensembles(sparsity, rewind)


def _of_seed(names: _Names, seed: int) -> Iterator[Stage]:
    study = names.study
    yield from (names.dense(seed, role) for role in ROLES)
    yield names.imp(seed, "a")
    if "b_imp" in study.methods:
        yield names.imp(seed, "b")
    for matcher in study.matchers:
        yield names.match(matcher, seed, seed)
    if study.barrier is not None:
        for matcher in study.barrier.get("matchers", study.matchers):
            yield names.barrier(matcher, seed)
    for rewind in study.recipe.rewinds:
        for method in study.methods:
            if method in control_methods():
                yield names.control(method, seed, rewind)
    for rewind in study.recipe.rewinds:
        for sparsity in study.recipe.targets:
            for method in study.methods:
                yield names.sparse(method, sparsity, rewind, seed, seed)
