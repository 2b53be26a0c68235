"""Data of any kind, as analyses look at it: a LightningDataModule, or a function that returns loaders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor, nn

from rebasin_lt.errors import InputError, check_least
from rebasin_lt.feeding.failure import failing
from rebasin_lt.feeding.forward_call import input_tensors, mapped
from rebasin_lt.feeding.handed import HOOKS, Handed, evaluating
from rebasin_lt.lit.data.lots import Lots
from rebasin_lt.lit.recorded import UNSAID, recorded

SPLITS_OF_OTHERS = ("train", "val", "test")


class LoadersOf(LightningDataModule):
    """The loaders that a function returned: a dict by `train`, `val` and `test`, a pair (train, test), or one for all.

    Raises InputError for anything else.
    """

    def __init__(self, name: str, loaders: Any) -> None:
        super().__init__()
        if isinstance(loaders, tuple) and len(loaders) == 2:
            loaders = dict(zip(("train", "test"), loaders, strict=True))
        if not isinstance(loaders, Mapping):
            loaders = dict.fromkeys(SPLITS_OF_OTHERS, loaders)
        unknown = [split for split in loaders if split not in SPLITS_OF_OTHERS]
        if unknown or not loaders or not all(isinstance(loader, Iterable) for loader in loaders.values()):
            what = ", ".join(f"{split}: {type(loader).__name__}" for split, loader in loaders.items()) or "nothing"
            raise InputError(
                f"data {name} returned {what}, expected a LightningDataModule, a dict of loaders by "
                f"{', '.join(SPLITS_OF_OTHERS)}, a pair (train, test), or one loader for all"
            )
        self.loaders = dict(loaders)

    def train_dataloader(self) -> Any:
        return self.loaders.get("train", [])

    def val_dataloader(self) -> Any:
        return self.loaders.get("val", [])

    def test_dataloader(self) -> Any:
        return self.loaders.get("test", [])


class OtherData:
    """A data module that is no `ImageData`, with what `ImageData` has for analyses; `module` is itself.

    Its loaders are its own: what they shuffle, they shuffle by the seed that is asked for. So does what it draws in
    `setup`, by 0; a module that holds out examples at random should draw them by a fixed seed of its own, for a
    training draws others.
    """

    def __init__(self, module: LightningDataModule) -> None:
        self.module = module
        self._opened: dict[str, Any] = {}
        self._ready: set[str] = set()
        self._lots = Lots(0)

    @property
    def name(self) -> str:
        """`package.module:Class`, or that of the function which made it."""
        return str(recorded(self.module)["name"])

    def settings(self) -> dict[str, Any] | None:
        """The settings with which `build_data` makes this again, in primitives; None where they cannot be said."""
        said = recorded(self.module)
        return None if UNSAID in said else said

    def sweep(
        self,
        split: str = "train",
        *,
        num_images: int | None = None,
        batch_size: int | None = None,
        augment: bool = False,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> Batches:
        """The batches of a split, the same ones in every pass: in the order of its loader, which shuffles by `seed`.

        `num_images`: the first so many examples; the last batch is cut. Where there is no `test`, it is `val`. Raises
        InputError for a `batch_size`, or to `augment`: its loaders do both, or not; and as `loader`.
        """
        if batch_size is not None:
            raise InputError(f"batch_size is {batch_size}, but {self.name} makes its own batches: leave it out")
        if augment:
            raise InputError(
                f"augment is true, but {self.name} gives its training batches as it does in training: leave it out"
            )
        check_least("num_images", num_images, 1)
        loader = self.loader(split)
        size = len(loader.dataset) if isinstance(getattr(loader, "dataset", None), Sized) else None
        if num_images is not None and size is not None and num_images > size:
            raise InputError(f"num_images is {num_images}, but {split} of {self.name} has {size} examples")
        return Batches(self.module, loader, f"{split} of {self.name}", num_images, seed, torch.device(device or "cpu"))

    def has(self, split: str) -> bool:
        """True if there is a loader of the very split. Raises InputError as `loader`."""
        return not _is_nothing(self._open(split))

    def loader(self, split: str) -> Any:
        """The loader of a split, opened once. Raises InputError where there is none, or not one, and where it fails."""
        if split not in self._opened:
            parts = (split, "val") if split == "test" else (split,)
            found = next((loader for part in parts if not _is_nothing(loader := self._open(part))), None)
            if found is None:
                raise InputError(f"data {self.name} has no {'_dataloader and no '.join(parts)}_dataloader: write it")
            self._opened[split] = found
        return self._opened[split]

    def _open(self, part: str) -> Any:
        """The loader that the module has of a part, or nothing."""
        method = f"{part}_dataloader"
        if leaves_to_lightning(self.module, method):
            return None
        stage = "test" if part == "test" else "fit"
        if not self._ready:
            self._called("prepare_data")
        if stage not in self._ready:
            self._called("setup", stage)
            self._ready.add(stage)
        return _the_one(self._called(method), f"{method} of {self.name}")

    def _called(self, method: str, *args: Any) -> Any:
        with failing(lambda: f"data {self.name} fails in {method}"), self._lots.drawn():
            return getattr(self.module, method)(*args)


class Batches:
    """The first batches of a loader, on a device, as Lightning hands them to a network; the same in every pass.

    What the loader draws, it draws by `seed`, and takes no random numbers from anything else.
    """

    def __init__(
        self, module: LightningDataModule, loader: Any, what: str, number: int | None, seed: int, device: torch.device
    ) -> None:
        self.module, self.loader, self.what = module, loader, what
        self.number, self.seed, self.device = number, seed, device
        self.fails = f"{what} gives no batch"

    def __len__(self) -> int:
        """Batches in a pass, 0 where that is not known before."""
        try:
            count = len(self.loader)
        except (TypeError, NotImplementedError):
            return 0
        size = getattr(self.loader, "batch_size", None)
        return count if self.number is None or not size else min(count, -(-self.number // size))

    def __iter__(self) -> Iterator[Any]:
        left, seen = self.number, 0
        for batch in self._drawn():
            length = batch_length(batch)
            seen += length
            if left is not None:
                if not length:
                    raise InputError(
                        f"num_images is {self.number}, but no tensor in a batch of {self.what} says its size"
                    )
                batch = mapped(batch, _cut(length, left)) if length > left else batch
                left -= min(length, left)
            yield batch
            if left == 0:
                return
        if left:
            raise InputError(f"num_images is {self.number}, but {self.what} has {seen} examples")

    def _drawn(self) -> Iterator[Any]:
        lots = Lots(self.seed)
        for generator in _generators(self.loader):
            generator.manual_seed(self.seed)
        with failing(lambda: self.fails), lots.drawn():
            batches = iter(self.loader)
        while True:
            with failing(lambda: self.fails), lots.drawn():
                batch = next(batches, _END)
                if batch is _END:
                    return
                with evaluating(self.module):
                    batch = self.module.on_before_batch_transfer(batch, 0)
                    batch = self.module.transfer_batch_to_device(batch, self.device, 0)
                    batch = self.module.on_after_batch_transfer(batch, 0)
            yield batch


def handed_to(batches: Iterable[Any], data: Any, network: nn.Module) -> Iterable[Any]:
    """The batches of data after the hooks of a LightningModule that sees them, where the data module has no such own.

    So Lightning does in training.
    """
    module = data.module if isinstance(data, OtherData) else data
    own = [name for name in HOOKS if _overrides(network, LightningModule, name)]
    theirs = any(_overrides(module, LightningDataModule, name) for name in own)
    return Handed(batches, network) if own and not theirs else batches


def _overrides(module: Any, base: type, name: str) -> bool:
    return isinstance(module, base) and (name in vars(module) or getattr(type(module), name) is not getattr(base, name))


_END = object()


def batch_length(batch: Any) -> int:
    """Length of the first tensor in a batch that has one, else 0."""
    return next((len(tensor) for tensor in input_tensors(batch) if tensor.dim()), 0)


def _cut(length: int, left: int) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor[:left] if tensor.dim() and len(tensor) == length else tensor


def _generators(loader: Any) -> list[torch.Generator]:
    """Those that a loader and its samplers have of their own."""
    sampler = getattr(loader, "sampler", None)
    batch_sampler = getattr(loader, "batch_sampler", None)
    parts = (loader, sampler, batch_sampler, getattr(batch_sampler, "sampler", None))
    found = [getattr(part, "generator", None) for part in parts]
    return [generator for generator in found if isinstance(generator, torch.Generator)]


def leaves_to_lightning(module: LightningDataModule, method: str) -> bool:
    """True if a data module leaves a method to Lightning, whose own raises."""
    return method not in vars(module) and getattr(type(module), method) is getattr(LightningDataModule, method)


def _the_one(loaders: Any, what: str) -> Any:
    """The loader, also of a list of one. Raises InputError for several, and for what can be read only once."""
    several = isinstance(loaders, list | tuple) and loaders and not any(_is_batch(each) for each in loaders)
    if isinstance(loaders, Mapping) or (several and len(loaders) > 1):
        raise InputError(f"{what} returns {len(loaders)} loaders, expected one: give a data module that has one")
    found = loaders[0] if several else loaders
    if isinstance(found, Iterator):
        raise InputError(
            f"{what} returns a {type(found).__name__}, which is used up after one pass: return a loader, such as "
            "DataLoader(batches, batch_size=None) of a list of batches"
        )
    return found


def _is_batch(value: Any) -> bool:
    return isinstance(value, Tensor | tuple | list | Mapping)


def _is_nothing(loaders: Any) -> bool:
    return loaders is None or (isinstance(loaders, list | tuple) and not loaders)
