"""Control masks from files: what a kind needs is opened, and the file says what it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.control_kinds import control_kind
from rebasin_lt.experiment.controls import Control, Progress, Sources, check
from rebasin_lt.experiment.subjects import Images, load_networks, open_data, open_images, resolve_device
from rebasin_lt.lit.checkpoint import LoadedNetwork
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.storage.files import hash_tensors
from rebasin_lt.storage.paths import with_paths_located

_OF_EVERY_FILE = ("format", "version", "sparsity", "sha256", "mask", "ckpt")  # metadata that tells no two runs apart


def write_control(settings: Control, out: Path | str, progress: Progress | None = None) -> tuple[Mask, Mask | None]:
    """Make a control mask and write it to `out`; a file of equal settings and sources is kept. Returns it, and the
    mask that it imitates if there is one.

    Everything is checked before anything is written. Raises InputError for an option that the kind lacks or does not
    use, for files that do not fit each other, and for an existing file of other settings, with both values.
    """
    kind = check(settings)
    sources = _open(settings)
    about = _describe(sources)
    control = _existing(Path(out), about)
    if control is None:
        control = kind.make(sources, progress or (lambda *_: None))
        control.save(out, **about)
    return control, sources.imitated


def _open(settings: Control) -> Sources:
    """Read the files. Raises InputError where they do not fit each other, BrokenFileError for damaged ones."""
    imitated = None if settings.mask is None else Mask.load(settings.mask)
    loaded = None if settings.ckpt is None else _load(settings, settings.ckpt)
    images = None if loaded is None else _open_images(settings, loaded)
    if loaded is None:
        assert imitated is not None  # `check` has seen to it
        return Sources(settings, imitated, None, None, _dense(imitated))
    parameters = dict(loaded.network.named_parameters())
    if imitated is None:
        return Sources(settings, None, loaded, images, Mask.ones_of(loaded.network))
    imitated.check_fits(parameters)
    return Sources(settings, imitated, loaded, images, _dense(imitated))


def _load(settings: Control, path: str) -> LoadedNetwork:
    sizes = {"width": settings.value("width"), "num_classes": settings.value("num_classes")}
    (loaded,) = load_networks({"--ckpt": path}, settings.model, **sizes)
    if "device" in control_kind(settings.kind).uses:
        loaded.network.to(resolve_device(settings.value("device")))
    return loaded


def _open_images(settings: Control, loaded: LoadedNetwork) -> Images | None:
    """The images, for kinds that look at any."""
    if "n_images" not in control_kind(settings.kind).uses:
        return None
    data = open_data(loaded, f"--ckpt {settings.ckpt}", settings.data, settings.root)
    choice = {name: settings.value(name) for name in ("batch_size", "seed", "device")}
    return open_images(data, num_images=settings.n_images, **choice)


def _describe(sources: Sources) -> dict[str, str]:
    """Metadata of the file: the options of its kind, defaults filled in, and the content of what it was made from."""
    settings, loaded = sources.settings, sources.loaded
    recorded = ("mask", "ckpt", "sparsity", "share", "root", "n_images", "batch_size", "seed")
    values = {name: settings.value(name) for name in recorded if name in control_kind(settings.kind).uses}
    values["target_sparsity"] = values.pop("sparsity", None)
    values["mask_sha256"] = None if sources.imitated is None else sources.imitated.hash
    values["ckpt_sha256"] = None if loaded is None else hash_tensors(loaded.network.state_dict())
    if sources.images is not None and loaded is not None:
        values["data"] = settings.data or loaded.metadata["data"]["name"]
    about = {name: str(value) for name, value in values.items() if value is not None}
    return {"stage": "control", "kind": settings.kind, **about}


def _existing(out: Path, about: Mapping[str, str]) -> Mask | None:
    """The mask in `out` if it is of this run; None if there is no file. Raises InputError if it is of another run."""
    if out.is_dir():
        raise InputError(f"--out {out} is a folder, expected a file such as {out / 'control.mask.safetensors'}")
    if not out.exists():
        return None
    mask, found = Mask.load_with_metadata(out)
    here, there = with_paths_located(about), with_paths_located(found)
    for name in dict.fromkeys([*about, *found]):
        if name not in _OF_EVERY_FILE and here.get(name) != there.get(name):
            raise InputError(
                f"--out {out} holds another mask: {name} is {found.get(name)} there and {about.get(name)} here; "
                "choose another file"
            )
    return mask


def _dense(mask: Mask) -> Mask:
    return Mask.ones_like({name: tensor.float() for name, tensor in mask.items()}, mask)
