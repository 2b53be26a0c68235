"""Code of the user's that fails, in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from rebasin_lt.errors import InputError, RebasinError


@contextmanager
def failing(what: Callable[[], str], way_out: str = "") -> Iterator[None]:
    """Within it runs code of the user's; should it fail, say what failed, how, and the way out. Raises InputError.

    What this package says itself passes, and a device that is out of memory.

    >>> with failing(lambda: "the loss fails", "; is it a mean?"):
    ...     1 / 0
    Traceback (most recent call last):
    rebasin_lt.errors.InputError: the loss fails: ZeroDivisionError: division by zero; is it a mean?
    """
    try:
        yield
    except (RebasinError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise InputError(f"{what()}: {reason}{way_out}") from error
