"""Operators that put elements in order, choose the largest, or count: their values are units', their indices labels."""

from __future__ import annotations

from math import prod

from rebasin_lt.symmetry.call import Call, NotFollowed, Result, Rules
from rebasin_lt.symmetry.layouts import Layout, fixed, free
from rebasin_lt.symmetry.meaning import COUNTS, Meaning, Order
from rebasin_lt.symmetry.operators.statistics import reduction
from rebasin_lt.symmetry.tensor_type import TensorType, broadcast

CHOICES = Rules()


@CHOICES.of("max", "min", "median", "nanmedian", "kthvalue", "mode", "argmax", "argmin")
def extreme(call: Call) -> Result:
    """One element of a dimension: its value does not depend on the order, its index is the label of its place.

    Of two elements that are equal either may be meant. Also the elementwise maximum of two tensors.
    """
    if "other" in call.arguments:
        return broadcast(call.tensors, call.name)
    tensor: TensorType = call["self"]
    dim = call.arguments.get("dim")
    if dim is None:
        if call.name.startswith("arg"):
            place = tensor.reshape((prod(tensor.shape),)).axis(0)
            return TensorType.of([fixed(1)] * len(call.shapes[0])).meaning_as(call.labels_of(place))
        return reduction(call)
    kept = tensor.drop([dim] if tensor.shape else [], keepdim=bool(call.arguments.get("keepdim", False)))
    index = kept.meaning_as(call.labels_of(tensor.axis(dim))) if tensor.shape else kept
    return index if call.name.startswith("arg") else (kept, index)


@CHOICES.of("topk")
def topk(call: Call) -> Result:
    """The largest elements in their order, and the labels of their places.

    If they are not sorted, their order is that in which they were found: rows in an order that labels give.
    """
    tensor, dim, count = call["self"], call["dim"], call["k"]
    if not tensor.shape:
        raise NotFollowed("a tensor without dimensions")
    units = tensor.axis(dim)
    if call["sorted"]:
        axis = fixed(count, "in the order of their values")
    else:
        axis = free(count)
        call.orders.append(Order(units, axis, object()))
    values = tensor.replace(dim, axis)
    return values, values.meaning_as(call.labels_of(units))


@CHOICES.of("sort", "argsort", "msort", read=True)
def sort(call: Call) -> Result:
    """All elements in their order, and the labels of their places.

    Labels are sorted by their numbers, which change as units are permuted: then the rows lie in an order that labels
    give.
    """
    tensor, dim = call["self"], call.arguments.get("dim", 0 if call.name == "msort" else -1)
    if not tensor.shape:
        raise NotFollowed("a tensor without dimensions")
    names, before = tensor.labels, tensor.axis(dim)
    if names is not None and len(tensor.shape) == 1:
        rows = free(before.size)
        call.orders.append(Order(names.layout, rows, names.source))
        values = TensorType.of([rows]).meaning_as(names)
    else:
        if tensor.meaning is not None:
            tensor.meaning.forget("numbers that name these units are sorted")
        values = tensor.replace(dim, fixed(before.size, "in the order of their values"))
    places = values.meaning_as(call.labels_of(before))
    if call.name == "sort":
        return values, places
    return places if call.name == "argsort" else values


@CHOICES.of("histc", read=True)
def histogram(call: Call) -> Result:
    """How many numbers are in each bin; of labels, with a bin for each, how often each one comes."""
    tensor, bins = call["self"], call["bins"]
    names = tensor.labels
    if names is not None and (names.layout.size, 0, bins - 1) == (bins, call["min"], call["max"]):
        return _counts(names.layout, names)
    if tensor.meaning is not None:
        tensor.meaning.forget("numbers that name these units are read by histc")
    return TensorType.fixed((bins,), "bins of a histogram")


def _counts(layout: Layout, names: Meaning) -> TensorType:
    return TensorType.of([layout]).meaning_as(Meaning(COUNTS, layout, names.source))
