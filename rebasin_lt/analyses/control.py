"""Control masks from files: what a kind needs is opened, and the file says what it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.control_sources import check
from rebasin_lt.experiment.controls import Sources, control_kind
from rebasin_lt.experiment.subjects import Subjects
from rebasin_lt.process.progress import Progress, untold
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.settings.options import ControlOptions
from rebasin_lt.storage.former_names import by_present_names
from rebasin_lt.storage.paths import with_paths_located
from rebasin_lt.storage.run_folder import value_of

_OF_EVERY_FILE = ("format", "version", "sparsity", "sha256", "mask", "ckpt")  # metadata that tells no two runs apart


class WrittenControl(NamedTuple):
    """A control mask, its kind, and the mask that it imitates if there is one."""

    kind: str
    mask: Mask
    imitated: Mask | None


def write_control(options: ControlOptions, out: Path | str, progress: Progress = untold) -> WrittenControl:
    """Make a control mask and write it to `out`; a file of equal options and sources is kept.

    Everything is checked before anything is written. Raises InputError for an option that the kind lacks or does not
    use, for files that do not fit each other, and for an existing file of other options, with both values.
    """
    kind = check(options)
    sources = _open(options)
    about = _describe(sources)
    control = _existing(Path(out), about)
    if control is None:
        control = kind.make(sources, progress)
        control.save(out, **about)
    return WrittenControl(options.kind, control, sources.imitated)


def _open(options: ControlOptions) -> Sources:
    """Read the files. Raises InputError where they do not fit each other, BrokenFileError for damaged ones."""
    subjects = Subjects(options, {} if options.ckpt is None else {"--ckpt": options.ckpt})
    imitated = None
    if options.mask is not None:
        (imitated,) = subjects.masks([options.mask])
    uses = control_kind(options.kind).uses
    if subjects.networks and "num_images" in uses:
        subjects.train()  # refused here where they are not there
    if subjects.networks and "device" in uses:
        subjects.on_device()
    dense = Mask.ones_of(subjects.networks[0].network) if imitated is None else _dense(imitated)
    return Sources(options, subjects, imitated, dense)


def _describe(sources: Sources) -> dict[str, str]:
    """Metadata of the file: the options of its kind, and the content of what it was made from."""
    options, subjects = sources.options, sources.subjects
    uses = control_kind(options.kind).uses
    recorded = ("mask", "ckpt", "sparsity", "share", "root", "num_images", "batch_size", "seed")
    values = {name: getattr(options, name) for name in recorded if name in uses}
    values["target_sparsity"] = values.pop("sparsity", None)
    values["mask_sha256"] = None if sources.imitated is None else sources.imitated.hash
    values["ckpt_sha256"] = next(iter(subjects.sha256), None)
    if subjects.networks and "num_images" in uses:
        values["data"] = options.data or subjects.networks[0].metadata["data"]["name"]
    about = {name: str(value) for name, value in values.items() if value is not None}
    return {"stage": "control", "kind": options.kind, **about}


def _existing(out: Path, about: Mapping[str, str]) -> Mask | None:
    """The mask in `out` if it is of this run; None if there is no file. Raises InputError if it is of another run."""
    if out.is_dir():
        raise InputError(f"--out {out} is a folder, expected a file such as {out / 'control.mask.safetensors'}")
    if not out.exists():
        return None
    mask, found = Mask.load_with_metadata(out)
    found = by_present_names(found, about)
    here, there = with_paths_located(about), with_paths_located(found)
    for name in dict.fromkeys([*about, *found]):
        if name not in _OF_EVERY_FILE and here.get(name) != there.get(name):
            raise InputError(
                f"--out {out} holds another mask: {name} is {value_of(found, name)} there and "
                f"{value_of(about, name)} here; choose another file"
            )
    return mask


def _dense(mask: Mask) -> Mask:
    return Mask.ones_like({name: tensor.float() for name, tensor in mask.items()}, mask)
