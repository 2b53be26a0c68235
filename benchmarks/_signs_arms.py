"""The arms of `benchmarks.signs`: which mask, whose weights, which signs, and what each costs of B."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from rebasin_lt.experiment import stages
from rebasin_lt.experiment.file_names import FINAL
from rebasin_lt.experiment.prices import price_of
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.experiment.signed_methods import read_method
from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.lit.data.registry import build_data
from rebasin_lt.matching.activation import match_activations
from rebasin_lt.moment import END
from rebasin_lt.pruning.magnitude import one_shot_like
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.memory import init_memory
from rebasin_lt.pruning.overlap import expected_overlap
from rebasin_lt.pruning.shuffles import permute_randomly
from rebasin_lt.pruning.signs import sign_agreement
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

MASKS = {
    "lth": "LTH",
    "naive": "naive",
    "random": "random permutation",
    "permuted": "permuted",
    "early": "permuted, matched early",
    "one_shot": "B's one-shot mask",
    "b_imp": "B's IMP mask",
}

_IN_STUDIES = {"one_shot": "b_magnitude", "random": "random_permutation"}
_OF_QUALITY = {"lth": "LTH", "naive": "naive", "permuted": "pruned-weights", "one_shot": "Bs-one-shot-mask"}


@dataclass(frozen=True)
class Arm:
    """A mask and the signs that training begins with, spelled `MASK`, `MASK+mask` or `MASK+own[@MOMENT]`."""

    name: str

    @property
    def mask(self) -> str:
        return read_method(self.name).base

    @property
    def signs(self) -> str:
        return read_method(self.name).signs

    @property
    def moment(self) -> str:
        """Of the network's own signs; "" is the end of dense training."""
        moment = read_method(self.name).moment
        return "" if moment in (None, END) else str(moment)

    @property
    def label(self) -> str:
        at = f" of {self.moment}" if self.moment else ""
        own = "A's" if self.mask == "lth" else "B's"
        said = {"none": "", "mask": " + the ticket's signs", "own": f" + {own} own signs{at}"}
        return MASKS[self.mask] + said[self.signs]

    def dense_epochs(self, recipe: Recipe, rewind: str, early: str) -> float | None:
        """Epochs of dense training that B needs before it trains under the mask; None where there is no B."""
        name = self.name.replace(self.mask, _IN_STUDIES.get(self.mask, self.mask))
        price = price_of(name, rewind, recipe, {"permuted": {}, "early": {"at": early}})
        return None if price is None or self.mask == "lth" else price.dense


@dataclass(frozen=True)
class Couple:
    """A and its pruning, B, and the folder of what is made of both."""

    recipe: Recipe
    target: float
    a: Path  # the dense run
    imp: Path
    b: Path
    b_imp: Path | None
    work: Path
    seed: int  # of masked training
    early: str  # B's moment, for the match that does not wait for its end
    num_images: int | None = None

    @cached_property
    def _batches(self) -> list[Any]:
        return list(build_data(**self.recipe.data).sweep("train", num_images=self.num_images, batch_size=500))

    @cached_property
    def _symmetry(self) -> Symmetry:
        return trace_symmetry(load_network(self.a / FINAL).network, self._batches[0][0][:2])

    def _signed(self, imp: Path) -> Mask:
        """IMP's mask with its ticket's signs, whichever release wrote the files."""
        mask = Mask.load(stages.mask_file(imp, self.target)).unsigned
        return mask.signed_by(load_network(stages.ticket_file(imp, self.target)).network.state_dict())

    def mask_file(self, name: str) -> Path:
        """Where the mask of an arm lies, made if it is not there."""
        path = self.work / "signed" / f"{self.target:g}" / f"{name}.mask.safetensors"
        if not path.exists():
            self._make(name).save(path)
        return path

    def _make(self, name: str) -> Mask:
        if name in ("lth", "naive"):
            return self._signed(self.imp)
        if name == "b_imp":
            assert self.b_imp is not None
            return self._signed(self.b_imp)
        if name == "random":
            mask = self._signed(self.imp)
            return permute_randomly([mask], self._symmetry, torch.Generator().manual_seed(self.seed))[0]
        if name == "one_shot":
            trained = load_network(self.b / FINAL).network.state_dict()
            return one_shot_like(trained, self._signed(self.imp)).signed_by(trained)
        reference = self.b / FINAL if name == "permuted" else stages.rewind_file(self.b, self.early)
        networks = (load_network(path).network for path in (self.a / FINAL, reference))
        mask = self._signed(self.imp)
        found = match_activations(*networks, self._batches, self._symmetry, masks={"mask": mask})
        return mask.permuted(self._symmetry, found.masked["mask"])

    def run_folder(self, arm: Arm, rewind: str) -> Path:
        """Where an arm trains; where `benchmarks.quality` trained it, if it did."""
        shared = self.work / "sparse" / _OF_QUALITY.get(arm.name, "none")
        if rewind == self.recipe.rewinds[-1] and shared.is_dir():
            return shared
        return self.work / "signed" / f"{self.target:g}" / rewind / arm.name

    def is_trained(self, name: str, rewind: str) -> bool:
        """True if an arm was trained and tested."""
        return (self.run_folder(Arm(name), rewind) / "result.json").is_file()

    def train(self, arm: Arm, rewind: str) -> float:
        """Test accuracy in %; read if it is there."""
        dense = self.a if arm.mask == "lth" else self.b
        settings: dict[str, Any] = {} if arm.signs == "none" else {"signs": arm.signs}
        if arm.signs == "own":
            settings["signs_from"] = stages.rewind_file(dense, arm.moment) if arm.moment else dense / FINAL
        result = stages.train_sparse(
            self.run_folder(arm, rewind),
            self.recipe,
            self.mask_file(arm.mask),
            stages.rewind_file(dense, rewind),
            self.seed,
            self.recipe.epochs_after(rewind),
            **settings,
        )
        return result["test/top1"]

    def measures(self, rewind: str) -> dict[str, Any]:
        """What is known of the masks before anything trains under them."""
        trained, rewound, initial = (
            load_network(path).network.state_dict()
            for path in (self.b / FINAL, stages.rewind_file(self.b, rewind), stages.rewind_file(self.a, "0it"))
        )
        own = Mask.load(self.mask_file("one_shot"))
        found: dict[str, Any] = {"memory": init_memory(Mask.load(self.mask_file("naive")).unsigned, initial)}
        for name in ("naive", "random", "permuted", "early"):
            mask = Mask.load(self.mask_file(name))
            found[name] = {
                "agreement": sign_agreement(mask, trained),
                "agreement_rewound": sign_agreement(mask, rewound),
                "overlap": mask.overlap(own),
                "chance": expected_overlap(mask, own),
            }
        return found
