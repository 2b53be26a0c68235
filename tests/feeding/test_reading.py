"""A batch of any form is read as one call, or refused in one line that says how it could be."""

from __future__ import annotations

import inspect
from collections import UserDict, namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rebasin_lt.errors import InputError
from rebasin_lt.feeding.answer import answer_of, tensors_of_answer
from rebasin_lt.feeding.calls import Fed, calls_of
from rebasin_lt.feeding.form import Form
from rebasin_lt.feeding.forward_call import ForwardCall
from rebasin_lt.feeding.reading import read_call

A, B, C, LABEL = torch.full((4, 3), 1.0), torch.full((4, 3), 2.0), torch.full((4,), 3.0), torch.tensor([0, 1, 0, 1])
Pair = namedtuple("Pair", ["image", "kind"])

one = Form("One", inspect.signature(lambda x: None))
flag = Form("Flag", inspect.signature(lambda x, flag=False: None))
two = Form("Two", inspect.signature(lambda ids, mask: None))
maybe = Form("Maybe", inspect.signature(lambda ids, mask=None: None))
named = Form("Named", inspect.signature(lambda *, ids, mask: None))
several = Form("Several", inspect.signature(lambda *inputs: None))
free = Form("Free", inspect.signature(lambda **values: None))
judges = Form("Judges", inspect.signature(lambda ids, labels=None: None))
asks = Form("Asks", inspect.signature(lambda ids, labels: None))
record = Form("Record", inspect.signature(lambda batch: None))


@pytest.mark.parametrize(
    ("form", "batch", "given", "label"),
    [
        (one, A, (A,), None),
        (one, (A,), (A,), None),
        (one, [A, LABEL], (A,), LABEL),
        (one, Pair(A, LABEL), (A,), LABEL),
        (one, (A, LABEL, C), (A,), LABEL),  # what stands behind the label is something else
        (one, ((A,), LABEL), (A,), LABEL),
        (one, ((A, B), LABEL), ((A, B),), LABEL),  # its one argument is a pair
        (one, {"x": A, "label": LABEL, "index": C}, (A,), LABEL),
        (one, {"image": A, "target": LABEL}, (A,), LABEL),
        (one, UserDict({"x": A}), (A,), None),
        (flag, (A, LABEL), (A,), LABEL),
        (two, (A, B), (A, B), None),
        (two, ((A, B), LABEL), (A, B), LABEL),
        (two, (A, B, LABEL), (A, B), LABEL),
        (two, {"mask": B, "ids": A, "labels": LABEL}, (A, B), LABEL),
        (two, ({"mask": B, "ids": A}, LABEL), (A, B), LABEL),
        (maybe, (A, LABEL), (A,), LABEL),
        (maybe, ((A, B), LABEL), (A, B), LABEL),
        (maybe, {"ids": A, "other": C}, (A,), None),
        (named, {"ids": A, "mask": B, "y": LABEL}, {"ids": A, "mask": B}, LABEL),
        (several, (A, LABEL), (A,), LABEL),
        (several, ((A, B, C), LABEL), (A, B, C), LABEL),
        (free, {"ids": A, "label": LABEL}, {"ids": A}, LABEL),
        (judges, {"ids": A, "labels": LABEL}, (A,), LABEL),
        (asks, {"ids": A, "labels": LABEL}, (A, LABEL), LABEL),
        (record, {"left": A, "right": B}, ({"left": A, "right": B},), None),
        (record, ({"left": A, "right": {"deep": (B,)}}, LABEL), ({"left": A, "right": {"deep": (B,)}},), LABEL),
    ],
)
def test_a_batch_is_read_as_its_network_takes_it(form: Form, batch: Any, given: Any, label: Tensor | None) -> None:
    call = read_call(batch, form)
    args, kwargs = ((), given) if isinstance(given, dict) else (given, {})
    assert call.args == args
    assert call.kwargs == kwargs
    assert call.target is label


@pytest.mark.parametrize(
    ("form", "batch", "message"),
    [
        (
            one,
            "text",
            r"batches holds a str, expected input tensors, \(input, target\) pairs or a dict; say which parts",
        ),
        (one, (), r"batches holds a tuple, expected"),
        (two, A, r"Two takes 2 input\(s\) \(ids, mask\), but 1 input\(s\) are given: missing a required arg"),
        (
            two,
            ((A, B, C), LABEL),
            r"holds 2 parts, \(tuple of 3\), \(4,\) int64, whose first part gives 3, but Two takes 2",
        ),
        (two, {"ids": A}, r"holds a dict of ids, but Two takes 2 input\(s\) \(ids, mask\): mask is missing; say which"),
        (
            maybe,
            (A, B, LABEL),
            r"holds 3 parts, .*, which can be read as 1 or 2, but Maybe takes 1 to 2 .*inputs=NAMES",
        ),
        (several, (A, B, C), r"which can be read as 1 or 3 or 2, but Several takes 0 or more input\(s\) \(inputs\)"),
        (two, (A, B, C, LABEL), r"holds 4 parts, .*, which fit no call, but Two takes 2"),
    ],
)
def test_a_batch_that_fits_no_call_or_several_is_refused_with_the_way_out(form: Form, batch: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_call(batch, form)


@pytest.mark.parametrize(
    ("inputs", "targets", "batch", "given", "label"),
    [
        ("ids, mask", None, (A, B, LABEL), (A, B), LABEL),
        (["ids"], None, (A, LABEL), (A,), LABEL),
        ("ids", None, A, (A,), None),
        (["mask", "ids"], None, (B, A), (A, B), None),  # names, not the order of `forward`
        ({"ids": "text", "mask": "pad"}, "kind", {"text": A, "pad": B, "kind": LABEL}, (A, B), LABEL),
        (["text"], None, ({"text": A}, LABEL), (A,), LABEL),  # in order where `forward` has no such name
        (lambda batch: batch["deep"][0], lambda batch: batch["deep"][1], {"deep": (A, LABEL)}, (A,), LABEL),
        (lambda batch: (batch[1], batch[0]), None, (B, A, LABEL), (A, B), LABEL),
        (lambda batch: {"mask": batch[0], "ids": batch[1]}, None, (B, A), (A, B), None),
        (lambda batch: batch[0], None, (A, LABEL), (A,), LABEL),
        (lambda batch: batch[0] * 1, None, (A, LABEL), None, LABEL),
        (lambda batch: batch[0], None, (A, LABEL, C), (A,), None),  # either could be the label
        (lambda batch: batch[0], None, ((A, B), LABEL, C), (A, B), LABEL),
        ("ids,mask", None, ((A, B), LABEL, C), (A, B), LABEL),
        (None, "mask", {"ids": A, "mask": LABEL}, (A,), LABEL),  # no input too, for `forward` can do without
        (None, "ids", {"ids": A}, (A,), A),
        (None, "kind", {"image": A, "kind": LABEL}, (A,), LABEL),
        (None, "image", {"image": A}, (A,), A),
        (None, "kind", {"ids": A, "kind": LABEL}, (A,), LABEL),
        (None, "kind", ({"ids": A, "kind": LABEL},), (A,), LABEL),
    ],
)
def test_what_the_caller_says_goes_before_all_else(
    inputs: Any, targets: Any, batch: Any, given: Any, label: Any
) -> None:
    call = read_call(batch, maybe, inputs, targets)
    assert given is None or call.args == given  # None: made anew
    assert call.target is label


@pytest.mark.parametrize(
    ("inputs", "targets", "batch", "message"),
    [
        ("text", None, {"ids": A}, "inputs names text, but a batch has ids"),
        ("ids,mask", None, (A,), r"inputs names 2 \(ids, mask\), but a batch has 1 parts"),
        ("ids,mask", None, A, r"inputs names 2 \(ids, mask\), but a batch has 1 parts"),
        (None, "kind", {"ids": A}, "targets names kind, which no batch has: name an entry of it"),
    ],
)
def test_names_that_no_batch_has_are_refused(inputs: Any, targets: Any, batch: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_call(batch, maybe, inputs, targets)


@pytest.mark.parametrize("values", [1, 2, 3])
@pytest.mark.parametrize("optional", [0, 1, 2])
@pytest.mark.parametrize("labelled", [True, False])
def test_inputs_in_a_tuple_of_their_own_are_never_ambiguous(values: int, optional: int, labelled: bool) -> None:
    """Of every number of arguments, needed and not, the batch (inputs, label) gives what is in the inputs."""
    names = [f"a{index}" for index in range(values)] + [f"b{index}=None" for index in range(optional)]
    form = Form("Net", inspect.signature(eval(f"lambda {', '.join(names)}: None")))
    inputs = tuple(torch.full((2,), index) for index in range(values))
    call = read_call((inputs, LABEL) if labelled else (inputs,), form)
    assert (call.args, call.target) == (inputs, LABEL if labelled else None)


def test_an_example_settles_what_is_taken() -> None:
    """A network with an optional mask reads pairs as two inputs if it was traced with it, else as one and a label."""
    both, alone = maybe.with_example((A, B), {}), maybe.with_example((A,), {})
    assert read_call((A, B), both).args == (A, B)
    assert read_call((A, B), alone).args == (A,)
    with pytest.raises(InputError, match=r"as in its example, without mask: give it the whole example, or say which"):
        read_call({"ids": A, "mask": B}, alone)  # leaving the mask out would be another computation
    assert read_call({"ids": A, "mask": B}, alone, inputs="ids").args == (A,)
    assert read_call({"ids": A, "labels": LABEL}, judges.with_example((A,), {})).args == (A,)
    with pytest.raises(InputError, match=r"Maybe takes 2 input\(s\) \(ids, mask\), as in its example: mask is missing"):
        read_call({"ids": A}, both)


def test_the_example_of_a_lightning_module_settles_it_too() -> None:
    class Module(nn.Module):
        example_input_array = (A, B)

        def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
            return ids if mask is None else ids * mask

    assert Form.of(Module()).names == ("ids", "mask")
    assert read_call((A, B), Form.of(Module())).args == (A, B)


def test_a_network_that_does_not_tell_takes_pairs() -> None:
    network = torch.jit.trace(nn.Linear(3, 2), A)
    assert read_call((A, LABEL), Form.of(network)).args == (A,)


def test_calls_are_read_as_often_as_the_batches_and_once_only() -> None:
    calls = calls_of(Fed([(A, LABEL)] * 3), one)
    assert calls_of(calls, two) is calls
    assert len(calls) == 3
    assert [[call.args[0] is A for call in calls] for _ in range(2)] == [[True] * 3] * 2
    assert len(Fed(iter([A]))) == 0
    with pytest.raises(InputError, match="train is a int, expected batches: a loader or a list"):
        calls_of(3, one, "train")  # type: ignore[arg-type]


def test_everything_in_a_call_moves_and_is_counted() -> None:
    call = ForwardCall(({"deep": [A, (B,)]}, "text"), {"pair": Pair(A, None)}, {"boxes": C}).to(torch.device("meta"))
    assert [tensor.is_meta for tensor in call.tensors] == [True] * 3
    assert call.target["boxes"].is_meta
    assert isinstance(call.kwargs["pair"], Pair)
    assert call.num_samples == 4
    assert ForwardCall(()).num_samples == 0
    assert call.described == "input 1 (dict of deep), input 2 (str), input pair (Pair of 2)"


def test_a_network_that_fails_on_a_batch_says_what_it_was_given() -> None:
    with pytest.raises(
        InputError, match=r"Linear fails on a batch of input 1 \(4, 3\) float32: RuntimeError: mat1 and mat2 .*inputs="
    ):
        ForwardCall((A,)).of(nn.Linear(5, 2))
    with pytest.raises(InputError, match=r"batches holds inputs without targets, expected"):
        ForwardCall((A,)).label  # noqa: B018


class _Answer:
    logits = A


@pytest.mark.parametrize(
    "output", [A, (A, B), [A], {"loss": C, "logits": A}, {"out": A, "aux": B}, {"anything": A}, _Answer(), (None, A)]
)
def test_the_answer_is_told(output: Any) -> None:
    assert answer_of(output) is A


@pytest.mark.parametrize("output", [{"a": A, "b": B}, "text", (), None])
def test_an_answer_that_cannot_be_told_is_refused(output: Any) -> None:
    with pytest.raises(InputError, match=f"network returns a {type(output).__name__}, in which no answer can be told"):
        answer_of(output)


def test_what_is_no_tensor_is_left_out_of_an_answer() -> None:
    cache: Callable[[], None] = lambda: None  # noqa: E731
    assert list(tensors_of_answer({"a": (A, [B]), "cache": cache, "c": None})) == [A, B]
