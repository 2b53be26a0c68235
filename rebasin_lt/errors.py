"""The errors a user can cause; each message is one line that names the argument, its value and what was expected."""

from __future__ import annotations


class RebasinError(Exception):
    """Anything this package refuses; the command line prints the message alone and exits with `exit_code`."""

    exit_code = 1


class InputError(RebasinError, ValueError):
    """An argument that cannot be right: an unknown name, a value out of range, two files that do not fit.

    >>> try:
    ...     rb.build_network("mpl")
    ... except rb.InputError as error:
    ...     print(str(error).partition(":")[0])
    model is 'mpl', which is not known (did you mean mlp?)
    """

    exit_code = 2


class BrokenFileError(RebasinError, ValueError):
    """A file that is truncated, of another format, or that would have to be unpickled.

    >>> from pathlib import Path
    >>> _ = Path("cut.mask.safetensors").write_bytes(b"cut")
    >>> try:
    ...     rb.Mask.load("cut.mask.safetensors")
    ... except rb.BrokenFileError as error:
    ...     print("not a readable safetensors file" in str(error))
    True
    """


class SymmetryError(RebasinError):
    """A network whose symmetry cannot be traced, or a permutation that changes the network's function.

    >>> class Undecided(nn.Module):
    ...     def forward(self, x):
    ...         return x if x.sum() > 0 else -x
    >>> try:
    ...     rb.trace_symmetry(Undecided(), torch.zeros(2, 3))
    ... except rb.SymmetryError as error:
    ...     print("Undecided" in str(error))
    True
    """


class DivergedError(RebasinError):
    """A run whose loss or weights are no finite numbers any more; its last good checkpoint is kept.

    >>> issubclass(rb.DivergedError, rb.InputError)  # nothing that was given is wrong
    False
    """


class MaskLeakError(RebasinError):
    """Weights that a mask prunes and that are not zero where they are about to be written.

    >>> issubclass(rb.MaskLeakError, rb.InputError)  # something set weights behind the guard's back
    False
    """


class Unfinished(RebasinError):
    """A run that ended before it came to what it was for."""


class Preempted(RebasinError):
    """A run that stopped because it was told to; the same command goes on where it was."""

    exit_code = 75  # EX_TEMPFAIL: try again


def out_of_memory(error: BaseException) -> str | None:
    """Of torch's error of a GPU whose memory is full, what it says first, and a way out; None of other errors.

    It is known by its name: whoever asks may not have loaded torch.
    """
    if type(error).__name__ != "OutOfMemoryError":
        return None
    said = " ".join(str(error).split()).split(". ")[:2]
    return f"{'. '.join(said).rstrip('.')}: set a smaller batch_size, or fewer runs at once (workers_per_gpu)"


def check_least(argument: str, value: float | None, least: float) -> None:
    """Raise InputError for a value below the least that it may be; None stands for one that is not given."""
    if value is not None and value < least:
        raise InputError(f"{argument} is {value}, expected at least {least}")
