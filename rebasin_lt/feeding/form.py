"""The arguments that a network takes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from rebasin_lt.batches import network_of
from rebasin_lt.errors import InputError

_ANY = inspect.Signature([
    inspect.Parameter("inputs", inspect.Parameter.VAR_POSITIONAL),
    inspect.Parameter("named", inspect.Parameter.VAR_KEYWORD),
])
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Form:
    """The arguments that a network takes: those that its `forward` allows, or exactly those of an example.

    `network` is its name in errors.
    """

    network: str
    signature: inspect.Signature
    example: inspect.BoundArguments | None = None

    @staticmethod
    def of(network: nn.Module) -> Form:
        """That of a network; its `example_input_array`, as Lightning's modules may have one, is an example.

        >>> Form.of(nn.Linear(2, 3)).names
        ('input',)
        """
        network = network_of(network)
        try:
            signature = inspect.signature(network.forward)
        except (TypeError, ValueError):  # a compiled one does not tell
            signature = _ANY
        form = Form(type(network).__name__, signature)
        example = getattr(network, "example_input_array", None)
        return form if example is None else form.with_example(*form.arguments(example))

    def with_example(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Form:
        """The same, but it takes arguments such as these alone. Raises InputError where `forward` takes others."""
        return Form(self.network, self.signature, self.bind(args, kwargs))

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """The arguments in the order of `forward`. Raises InputError where it takes others."""
        try:
            return self.signature.bind(*args, **kwargs)
        except TypeError as error:
            names = f" and {', '.join(kwargs)} by name" if kwargs else ""
            raise InputError(
                f"{self.network} {self.described}, but {len(args)} input(s){names} are given: {error}"
            ) from error

    def arguments(self, value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments out of one value: a tuple of them, a dict by their names, or the only one."""
        if isinstance(value, Mapping) and value and self.names_all(value):
            return (), dict(value)
        if isinstance(value, tuple | list) and (self.takes(len(value)) or not self.takes(1)):
            return tuple(value), {}
        return (value,), {}

    @property
    def names(self) -> tuple[str, ...]:
        """The arguments that can be given by name; with an example, those that it gives."""
        known = [name for name, parameter in self.signature.parameters.items() if parameter.kind in _NAMED]
        if self.example is None:
            return tuple(known)
        return tuple(name for name in known if name in self.example.arguments) + tuple(
            name for name in self.example.kwargs if name not in known
        )

    @property
    def beside_example(self) -> tuple[str, ...]:
        """The arguments that `forward` names and the example does not give."""
        known = () if self.example is None else self.signature.parameters.items()
        return tuple(name for name, each in known if each.kind in _NAMED and name not in self.names)

    @property
    def required(self) -> tuple[str, ...]:
        """Those of `names` that have to be given."""
        if self.example is not None:
            return self.names
        parameters = self.signature.parameters
        return tuple(name for name in self.names if parameters[name].default is inspect.Parameter.empty)

    def names_all(self, values: Mapping[str, Any]) -> bool:
        """True if each of the values can be given by its name."""
        takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in self.signature.parameters.values())
        return all(isinstance(name, str) and (name in self.names or takes_any) for name in values)

    def takes(self, count: int) -> bool:
        """True if it can be called with as many arguments."""
        if self.example is not None:
            return count == len(self.example.args) + len(self.example.kwargs)
        least, most = self._counts
        return least <= count and (most is None or count <= most)

    @property
    def takes_dict(self) -> bool:
        """True if the example is one dict that is an argument itself."""
        values = () if self.example is None else (*self.example.args, *self.example.kwargs.values())
        return len(values) == 1 and isinstance(values[0], Mapping)

    @property
    def described(self) -> str:
        """What it takes, in words, to follow its name."""
        if self.example is not None:
            count = len(self.example.args) + len(self.example.kwargs)
            return f"takes {count} input(s) ({', '.join(self.example.arguments)}), as in its example"
        least, most = self._counts
        number = f"{least} or more" if most is None else f"{least}" if least == most else f"{least} to {most}"
        return f"takes {number} input(s) ({', '.join(self.signature.parameters)})"

    @property
    def _counts(self) -> tuple[int, int | None]:
        parameters = self.signature.parameters.values()
        open_ended = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters)
        single = [each for each in parameters if each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}]
        needed = sum(each.default is inspect.Parameter.empty for each in single)
        return needed, None if open_ended else len(single)
