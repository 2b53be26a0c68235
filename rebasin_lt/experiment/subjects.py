"""What an analysis is given: networks out of checkpoints, masks that fit them, and the batches that they see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import FunctionType
from typing import Any

import torch
from torch import nn

from rebasin_lt.batches import device_of, state_of
from rebasin_lt.connectivity.evaluation import check_called
from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.experiment.example import example_of
from rebasin_lt.feeding.calls import Fed
from rebasin_lt.feeding.forward_call import ForwardCall
from rebasin_lt.lit.checkpoint import MEASURED_BY, LoadedNetwork, load_network
from rebasin_lt.lit.data.base import Split
from rebasin_lt.lit.data.loader import ImageLoader
from rebasin_lt.lit.data.other import Batches, OtherData, handed_to
from rebasin_lt.lit.data.registry import Data, build_data, data_source, source_name
from rebasin_lt.lit.recorded import UNSAID
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.settings.options import (
    DataOptions,
    ExampleOptions,
    ImageOptions,
    NetworkOptions,
    PairOptions,
    SourceOptions,
    SplitOptions,
)
from rebasin_lt.settings.signatures import is_primitive
from rebasin_lt.settings.user_code import is_user_code
from rebasin_lt.storage.files import hash_tensors


class Subjects:
    """The networks, masks and images that the options of an analysis name: the one place where they are opened.

    `networks` are those of `checkpoints`, paths by the argument that names each, such as `--ckpt-a`, in their order.
    Images are opened when they are asked for, the same ones each time. Raises InputError as `load_networks` does.
    """

    def __init__(self, options: NetworkOptions, checkpoints: Mapping[str, str]) -> None:
        self.options, self.checkpoints = options, dict(checkpoints)
        self.networks = load_networks(checkpoints, options.model, options.width, options.num_classes)

    @property
    def sha256(self) -> list[str]:
        """What identifies the content of each network."""
        return [hash_tensors(loaded.network.state_dict()) for loaded in self.networks]

    def masks(self, paths: Sequence[str]) -> list[Mask]:
        """The masks of files. Raises InputError for one that does not fit the networks."""
        found = [Mask.load(path) for path in paths]
        for loaded in self.networks[:1]:
            for mask in found:
                mask.check_fits(dict(loaded.network.named_parameters(remove_duplicate=False)))
        return found

    @cached_property
    def device(self) -> torch.device:
        """Where the networks are to see the images. Raises InputError for a device that is not there."""
        assert isinstance(self.options, DataOptions), "an analysis that looks at images has options for them"
        return resolve_device(self.options.device)

    def on_device(self) -> list[nn.Module]:
        """The networks, moved to the device."""
        return [loaded.network.to(self.device) for loaded in self.networks]

    @cached_property
    def data(self) -> Data:
        """The data of the first network. Raises as `open_data`."""
        assert isinstance(self.options, SourceOptions)
        argument, path = next(iter(self.checkpoints.items()))
        return open_data(self.networks[0], f"{argument} {path}", self.options.data, self.options.root)

    def train(self, augment: bool = False) -> Fed:
        """The training batches that are chosen, all of them if no number is given; augmented by the seed if asked."""
        assert isinstance(self.options, ImageOptions)
        return self._sweep("train", self.options.num_images, self.options.seed, augment)

    def test(self) -> Fed:
        """The test batches to measure on."""
        number = self.options.num_test_images if isinstance(self.options, SplitOptions) else None
        return self._sweep("test", number, self.options.seed if isinstance(self.options, ImageOptions) else 0)

    def example(self, seen: Iterable[Any] | None = None) -> ForwardCall:
        """The call to trace the first network with; `seen` are batches that it is about to see (`example_of`)."""
        options, loaded = self.options, self.networks[0]
        is_data_named = isinstance(options, SourceOptions) and options.data is not None
        return example_of(
            loaded.network,
            options.input_shape if isinstance(options, ExampleOptions) else None,
            lambda: seen if seen is not None else self._first_seen() if is_data_named else None,
            isinstance(options, SourceOptions) and options.inputs is not None,
            None if seen is not None else loaded.known_shape,
            loaded.image_shape(options.model),
        )

    def shares(self, batches: Fed) -> list[int]:
        """How many images each of our batches of `batches` has; of others it is not known before."""
        if not isinstance(batches.batches, ImageLoader):
            return []
        count, size = len(batches.batches.sampler.indices), batches.batches.sampler.batch_size
        return [min(size, count - start) for start in range(0, count, size)]

    def _first_seen(self) -> Fed:
        return self._fed(self.data.sweep("train", device=device_of(state_of(self.networks[0].network))))

    def _sweep(self, part: Split, number: int | None, seed: int, augment: bool = False) -> Fed:
        options = self.options
        assert isinstance(options, DataOptions)
        own = isinstance(self.data, OtherData) and options.batch_size == DataOptions.batch_size
        size = None if own else options.batch_size
        settings: dict[str, Any] = {"num_images": number, "augment": augment, "batch_size": size, "seed": seed}
        return self._fed(self.data.sweep(part, **settings, device=self.device))

    def _fed(self, batches: ImageLoader | Batches) -> Fed:
        """The batches as the options say that they are read, tried with the first of them where they are of others."""
        assert isinstance(self.options, SourceOptions)
        targets = self.options.targets if isinstance(self.options, DataOptions) else None
        network = self.networks[0].network
        fed = Fed(handed_to(batches, self.data, network), named_inputs(self.options.inputs), targets)
        if self.options.inputs or targets or not isinstance(batches, ImageLoader):
            check_called(network, fed, f"data {self.data.name}")
        return fed


def open_pair(options: PairOptions) -> Subjects:
    """The networks A and B of an analysis whose options are also those of networks. Raises as `load_networks`."""
    assert isinstance(options, NetworkOptions)
    return Subjects(options, {"--ckpt-a": options.ckpt_a, "--ckpt-b": options.ckpt_b})


def load_networks(
    paths: Mapping[str, str], model: str | None = None, width: float = 1, num_classes: int = 10
) -> list[LoadedNetwork]:
    """The networks of checkpoints by the argument that names each; `model` and the rest as in `load_network`.

    Raises InputError, with both arguments and values, where architectures, widths or datasets differ.
    """
    arguments, loaded = list(paths), []
    for argument, path in paths.items():
        loaded.append(load_network(path, model, width=width, num_classes=num_classes))
        for key in ("arch", "width", "num_classes", "input_shape"):
            first, other = loaded[0].metadata.get(key), loaded[-1].metadata.get(key)
            if first != other:
                raise InputError(
                    f"{arguments[0]} {paths[arguments[0]]} has {key} {first} and {argument} {path} has {other}: "
                    "only networks of one architecture can be compared"
                )
        names = [(each.metadata.get("data") or {}).get("name") for each in (loaded[0], loaded[-1])]
        if None not in names and names[0] != names[1]:
            raise InputError(
                f"{arguments[0]} {paths[arguments[0]]} was trained on {names[0]} and {argument} {path} on {names[1]}: "
                "only networks of one dataset can be compared"
            )
    return loaded


def named_inputs(text: str | None) -> dict[str, str] | None:
    """The entry of a batch by the name of each of `forward`'s arguments, out of `input_ids,mask=attention_mask`.

    Raises InputError for an argument or entry without a name, and for an argument that is named twice.
    """
    if text is None:
        return None
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, entry = (each.strip() for each in part.partition("="))
        if not name or (equals and not entry) or name in found:
            raise InputError(f"--inputs is {text!r}, expected names with commas between, each once: NAME or NAME=ENTRY")
        found[name] = entry or name
    return found


def open_data(network: LoadedNetwork, argument: str, data: str | None = None, root: str | None = None) -> Data:
    """The dataset that a network was trained on, or `data` in `root` for a checkpoint that does not say it.

    `root` alone says where the dataset lies here. Raises InputError where the checkpoint names another dataset than
    `data`, with both, where neither names one, and where the checkpoint alone names code to import; BrokenFileError
    for a checkpoint whose dataset cannot be.
    """
    known = network.metadata.get("data")
    where = {} if root is None else {"root": root}
    if known is None:
        if data is None:
            raise InputError(f"{argument} does not say what it was trained on: give --data NAME")
        return build_data(data, **where)
    if not _is_plain(known):
        raise BrokenFileError(f"{argument} was trained on {known!r:.100}, which names no dataset with plain settings")
    if known.get(UNSAID) and data is not None and isinstance(data_source(data), FunctionType):
        return build_data(data, **where)  # the user says how it is made
    _check_named(known, argument, data, "" if "arch" in network.metadata else MEASURED_BY)
    # a file says what to read; it may not have anything fetched or written
    settings = {key: value for key, value in known.items() if key not in {"name", "download"}}
    try:
        return build_data(data or known["name"], **{**settings, **where})
    except InputError as error:
        if not isinstance(error.__cause__, TypeError):
            raise
        raise BrokenFileError(
            f"{argument} was trained on {known}, which no dataset takes: {error.__cause__}"
        ) from error


def _check_named(known: Mapping[str, Any], argument: str, data: str | None, beside: str) -> None:
    """Raise InputError unless the data that a checkpoint names is that of the user, and can be made again.

    `beside` is what the command may have to be told besides.
    """
    name = known["name"]
    if data is None and is_user_code(name):
        raise InputError(
            f"{argument} was trained on {name}, code that it may not choose: name it too "
            f"(--data {name.replace('__main__', 'YOUR_SCRIPT')}{beside})"
        )
    if data is not None and not _same(data, name):
        raise InputError(
            f"--data is {data}, but {argument} was trained on {name}: other images, normalised otherwise, "
            "would be compared"
        )
    if known.get(UNSAID):
        raise InputError(
            f"{argument} was trained on {name} with arguments that a checkpoint cannot say, such as objects, or that "
            "nobody kept: train on a class that takes numbers and texts alone and calls save_hyperparameters(), or "
            "name a function that makes it (--data package.module:function)"
        )


def resolve_device(name: str) -> torch.device:
    """`auto` is the first GPU if there is one. Raises InputError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def _same(data: str, name: str) -> bool:
    """Whether the dataset that the user calls `data` is the one of a checkpoint; a script's has no module to go by."""
    ours = source_name(data_source(data))
    module, _, attribute = name.partition(":")
    return name in {data, ours} or (module == "__main__" and ours.partition(":")[2] == attribute)


def _is_plain(settings: Mapping[str, Any]) -> bool:
    """Whether they are a dataset's name, a folder and primitives."""
    texts = [settings.get("name"), settings.get("root", "")]
    return all(isinstance(text, str) for text in texts) and is_primitive(dict(settings))
