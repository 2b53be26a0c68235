"""Checkpoints: what we write beside the weights, and how any of them becomes a network again, without unpickling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn

import rebasin_lt
from rebasin_lt.batches import network_of
from rebasin_lt.errors import InputError
from rebasin_lt.lit.callbacks.decay_taken import DecayTaken
from rebasin_lt.lit.callbacks.mask_guard import hold_masks
from rebasin_lt.lit.checkpoint_content import CHECKPOINT_VERSION as CHECKPOINT_VERSION
from rebasin_lt.lit.checkpoint_content import MADE_WITH, is_extra_state, is_ours, network_names
from rebasin_lt.lit.checkpoint_content import MASK as MASK
from rebasin_lt.lit.checkpoint_content import METADATA as METADATA
from rebasin_lt.lit.checkpoint_file import check_finite, write_checkpoint
from rebasin_lt.lit.checkpoint_file import read_checkpoint as read_checkpoint
from rebasin_lt.lit.checkpoint_layout import state_in
from rebasin_lt.lit.data.base import ImageData
from rebasin_lt.lit.network_module import NetworkModule
from rebasin_lt.lit.recorded import UNSAID, made_again, recorded
from rebasin_lt.models.registry import build_network, default_input_shape
from rebasin_lt.models.sizes import image_shape
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.settings.user_code import is_user_code
from rebasin_lt.storage.files import hash_tensors

DECAY = "decay_taken"
"""The weight decay of a training up to its checkpoint, in its description: see `DecayTaken`."""
MEASURED_BY = ", and --loss mse or another where it does not classify"
"""What a command needs to be told of some modules of the user's own, beside their names."""


class LoadedNetwork(NamedTuple):
    """A network in evaluation mode, what its file says of it (empty for a foreign file), and its mask if it has one.

    >>> torch.save({"model": rb.build_network("mlp").state_dict(), "epoch": 3}, "theirs.pt")
    >>> loaded = rb.load_network("theirs.pt", "mlp")
    >>> loaded.image_shape("mlp"), loaded.metadata, loaded.mask
    ((1, 8, 8), {}, None)
    """

    network: nn.Module
    metadata: dict[str, Any]
    mask: Mask | None

    def image_shape(self, model: str | None = None) -> tuple[int, ...]:
        """Channels, height and width of the images that it takes: its own, else those that it was trained on.

        Where the file says neither, what a network of its architecture, or else `model`, is meant for.
        """
        return self.known_shape or tuple(default_input_shape(self.metadata.get("arch") or str(model)))

    @property
    def known_shape(self) -> tuple[int, ...] | None:
        """The same, where its file says it."""
        known = self.metadata.get("input_shape") or self.metadata.get("image_shape")
        return tuple(known) if known else None


def describe(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """A checkpoint's description of itself, in primitives: format, architecture, progress, data, versions."""
    data: Any = getattr(trainer, "datamodule", None)
    callbacks: Sequence[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    decay = [callback.taken for callback in callbacks if isinstance(callback, DecayTaken)]
    return {
        "format_version": CHECKPOINT_VERSION,
        "module": type(module).__name__,
        **(module.architecture() if isinstance(module, NetworkModule) else {MADE_WITH: recorded(module)}),
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "data": _data_settings(data),
        "image_shape": [int(size) for size in data.input_shape] if isinstance(data, ImageData) else None,
        "rebasin_lt": rebasin_lt.__version__,
        "torch": str(torch.__version__),
        **({DECAY: decay[0]} if decay else {}),
    }


def _data_settings(data: Any) -> dict[str, Any] | None:
    """How a data module is made again, or that it cannot be said; None without one, as of loaders alone."""
    if isinstance(data, ImageData):
        return data.settings() or {"name": type(data).name, UNSAID: True}
    return recorded(data) if isinstance(data, LightningDataModule) else None


def save_network(path: Path | str, trainer: Trainer, module: LightningModule, mask: Mask | None, **about: Any) -> None:
    """Write weights, buffers and mask, atomically, as a Lightning checkpoint without training state.

    What the trainer's mask guards prune is zero in it, whoever changed the weights meanwhile; errors are those of
    `write_checkpoint`. Lightning tests, predicts and `load_from_checkpoint`s such a file like any other.
    Hyperparameters are in it for our modules only: those of others may be objects, which would have to be unpickled.
    """
    masks = hold_masks(trainer)
    content: dict[str, Any] = {
        "pytorch-lightning_version": lightning.__version__,
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "state_dict": module.state_dict(),
        METADATA: {**describe(trainer, module), **about},
    }
    if isinstance(module, NetworkModule):
        content[module.CHECKPOINT_HYPER_PARAMS_KEY] = dict(module.hparams)
    if mask is not None:
        content[MASK] = dict(mask)
        content[METADATA]["mask_sha256"] = mask.hash
    write_checkpoint(path, content, masks)


def network_state(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's own state dict: of our modules without the `net.` in front, of others as it stands."""
    return network_names(content["state_dict"], is_ours(content))


def network_hash(path: Path | str) -> str:
    """sha256 of the network's tensors in a checkpoint: what began from it belongs to them, not to a file's name."""
    return hash_tensors(network_state(read_checkpoint(path)))


def load_network(
    path: Path | str,
    arch: str | None = None,
    *,
    width: float = 1,
    num_classes: int = 10,
    input_shape: Sequence[int] | None = None,
) -> LoadedNetwork:
    """The network of any checkpoint of ours, or of a plain state dict whose architecture is given.

    `arch` (a name that `build_network` takes), `width`, `num_classes` and `input_shape` are needed for files that do
    not say what they hold, and ignored otherwise. A LightningModule of the user's own is made with the arguments that
    the file says it was made with. The state dict may lie in an entry of the file and behind a prefix
    (`state_in`). One pruned by torch.nn.utils.prune comes as ours do: weights that are zero where pruned, and the mask.
    Raises InputError where the file fits no network, BrokenFileError as `read_checkpoint` and `load_state`.

        >>> torch.save({"model": rb.build_network("mlp").state_dict(), "epoch": 3}, "theirs.pt")
        >>> loaded = rb.load_network("theirs.pt", "mlp")
        >>> loaded.network.training
        False
    """
    content = read_checkpoint(path)
    metadata = content.get(METADATA, {})
    if "arch" in metadata:
        _check_builtin(metadata["arch"], arch, path)
        arch, width, num_classes = metadata["arch"], metadata["width"], metadata["num_classes"]
        input_shape = metadata["input_shape"]
    if arch is None:
        raise InputError(f"{path} {_unnamed(metadata)}")
    shape = None if input_shape is None else image_shape(input_shape)
    network: nn.Module | None = made_again(arch, content, path, width, num_classes)
    if network is None:
        network = build_network(arch, width=width, num_classes=num_classes, input_shape=shape)
    found = state_in(content, network.state_dict().keys(), path)
    load_state(network, found.state, found.where)
    return LoadedNetwork(network.eval(), dict(metadata), found.mask)


def _unnamed(metadata: Mapping[str, Any]) -> str:
    name = (metadata.get(MADE_WITH) or {}).get("name")
    if name is None:
        return "does not say which network it holds: give its architecture (--model NAME)"
    name = str(name).replace("__main__", "YOUR_SCRIPT")
    data = str((metadata.get("data") or {}).get("name")).replace("__main__", "YOUR_SCRIPT")
    if is_user_code(data):
        return (
            f"holds a network of {name}, trained on {data}, code that it may not choose: name it too (--model {name} "
            f"--data {data}{MEASURED_BY})"
        )
    return f"holds a network of {name}, code that it may not choose: name it too (--model {name})"


def _check_builtin(named: str, given: str | None, path: Path | str) -> None:
    """Raise InputError where a file names code to import that the caller did not name: a file must not choose code."""
    if is_user_code(named) and named != given:
        raise InputError(
            f"{path} holds a network of {named}, code that it may not choose: name it too (--model {named})"
        )


def load_weights_(module: LightningModule, path: Path | str) -> dict[str, Any]:
    """Copy the weights and buffers of a checkpoint into `module`'s network; returns the checkpoint's metadata.

    Raises InputError for a checkpoint of another architecture or width, with both values.
    """
    content = read_checkpoint(path)
    metadata = dict(content.get(METADATA, {}))
    if isinstance(module, NetworkModule):
        for key, ours in module.architecture().items():
            if key in metadata and metadata[key] != ours:
                raise InputError(f"checkpoint {path} has {key} {metadata[key]}, this network has {ours}")
    network = network_of(module)
    found = state_in(content, network.state_dict().keys(), path)
    load_state(network, found.state, found.where)
    return metadata


def load_state(network: nn.Module, state: Mapping[str, Any], path: Path | str) -> None:
    """Load `state`, which must have all that the network puts into its checkpoints, extra state included.

    What a module leaves out of them (`strict_loading` false: frozen encoders) is left alone where `state` does not have
    it. Raises InputError naming the first tensor that is missing, unknown or of another shape, and BrokenFileError for
    one that is not finite: a network that diverged can neither be matched nor trained.
    """
    own = network.state_dict()
    known = {**dict(network.named_parameters(remove_duplicate=False)), **dict(network.named_buffers()), **own}
    for name, tensor in known.items():
        if name not in state and name in own:
            raise InputError(f"checkpoint {path} lacks {name}, which the network has: is it of another architecture?")
        if name not in state or is_extra_state(name):
            continue
        if state[name].shape != tensor.shape:
            raise InputError(
                f"checkpoint {path} has {name} of shape {tuple(state[name].shape)}, the network has "
                f"{tuple(tensor.shape)}: is it of another width?"
            )
    check_finite(state, path)
    unknown = [name for name in state if name not in known]
    if unknown:
        raise InputError(f"checkpoint {path} has {unknown[0]}, which the network lacks: is it of another architecture?")
    network.load_state_dict(dict(state), strict=False)
