"""For every rule a small network that uses its operator on hidden units; `CASES` has one for each name in `RULES`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from operators_by_index import CASES as NEWER
from operators_by_index import UNITS, Case, on_device
from torch import Tensor, nn

aten = torch.ops.aten
LAYERS = {  # kind of hidden tensor -> (layer that makes it, its input)
    "vector": (lambda: nn.Linear(5, UNITS), (3, 5)),
    "tokens": (lambda: nn.Linear(5, UNITS), (3, 4, 5)),
    "line": (lambda: nn.Conv1d(2, UNITS, 3, padding=1), (3, 2, 4)),
    "image": (lambda: nn.Conv2d(2, UNITS, 3, padding=1), (3, 2, 4, 4)),
    "volume": (lambda: nn.Conv3d(2, UNITS, 1), (3, 2, 2, 4, 4)),
}


class Around(nn.Module):
    """A layer, an operator on its units, and a layer that reads all of the result."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        layer, self.input_shape = LAYERS[case.kind]
        self.before = layer()
        self.own = nn.ParameterList(torch.randn(shape) for shape in case.shapes)
        self.apply_operator = case.apply
        with torch.no_grad():
            features = self.hidden(torch.randn(self.input_shape)).shape[1]
        self.after = nn.Linear(features, 4)

    def hidden(self, x: Tensor) -> Tensor:
        y = self.apply_operator(self.before(x).tanh(), *self.own)
        return y.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.hidden(x))


def heads(h: Tensor, *weights: Tensor) -> list[Tensor]:
    """Queries, keys and values of two heads."""
    return [(h @ weight).view(h.shape[0], h.shape[1], 2, -1).transpose(1, 2) for weight in weights]


def attend(operator: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda h, *weights: operator(*heads(h, *weights)).transpose(1, 2)


def overwritten(clear: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A view shows what is written to its tensor later on, also after all of that was overwritten by a number."""

    def operator(h: Tensor, weight: Tensor) -> Tensor:
        h = h.clone()
        view = h[:, :6]
        clear(h)
        h[:, :6].add_(view.new_ones(()) + weight)
        return view * torch.arange(1.0, 4.0, dtype=h.dtype)[: len(h), None]

    return operator


def normalised(h: Tensor, *parameters: Tensor) -> Tensor:
    weight, bias, mean, variance = parameters
    return F.batch_norm(h, mean, variance.exp(), weight, bias)


def table(h: Tensor) -> Tensor:
    return torch.tensor([3, 0, 5])


FOUR = ((UNITS,),) * 4
QKV = ((UNITS, UNITS),) * 3
SQUARE = ((6, UNITS),)

CASES: dict[str, Case] = {
    **NEWER,
    "alias": Case("vector", aten.alias),
    "contiguous": Case("vector", aten.contiguous),
    "detach": Case("vector", torch.detach),
    "lift_fresh_copy": Case("vector", aten.lift_fresh_copy),
    "_to_copy": Case("vector", lambda h: aten._to_copy(h, dtype=torch.float64).type_as(h)),
    "to": Case("vector", lambda h: h.to(torch.float64).to(h.dtype)),
    "type_as": Case("vector", lambda h, w: aten.type_as(h, w), ((2,),)),
    "softmax": Case("vector", lambda h: h.softmax(1)),
    "log_softmax": Case("vector", lambda h: h.log_softmax(1)),
    "_softmax": Case("vector", lambda h: aten._softmax(h, 1, False)),
    "_log_softmax": Case("vector", lambda h: aten._log_softmax(h, 1, False)),
    "dropout": Case("vector", lambda h: aten.dropout(h, 0.5, False)),
    "feature_dropout": Case("line", lambda h: aten.feature_dropout(h, 0.5, False)),
    "alpha_dropout": Case("vector", lambda h: aten.alpha_dropout(h, 0.5, False)),
    "pointwise": Case("vector", lambda h, w: h.sin() * w, ((UNITS,),)),
    "copy": Case("vector", lambda h: h.new_zeros(h.shape).copy_(h)),
    "fill": Case("vector", overwritten(lambda h: h.fill_(1.0)), ((6,),)),
    "zero": Case("vector", overwritten(lambda h: h.zero_()), ((6,),)),
    "hardswish": Case("vector", F.hardswish),
    "prelu": Case("image", F.prelu, ((UNITS,),)),
    "glu": Case("vector", lambda h: F.glu(h, 1)),
    "zeros": Case("vector", lambda h: h + torch.zeros(UNITS)),
    "ones": Case("vector", lambda h: h * torch.ones(UNITS)),
    "full": Case("vector", lambda h: h + torch.full((UNITS,), 2.0)),
    "zeros_like": Case("vector", lambda h: h + torch.zeros_like(h)),
    "ones_like": Case("vector", lambda h: h * torch.ones_like(h)),
    "full_like": Case("vector", lambda h: h + torch.full_like(h, 2.0)),
    "new_zeros": Case("vector", lambda h: h + h.new_zeros((UNITS,))),
    "new_ones": Case("vector", lambda h: h * h.new_ones((UNITS,))),
    "new_full": Case("vector", lambda h: h + h.new_full((UNITS,), 2.0)),
    "view": Case("vector", lambda h: h.view(h.shape[0], 4, 2)),
    "_unsafe_view": Case("vector", lambda h: aten._unsafe_view(h, (h.shape[0], 4, 2))),
    "reshape": Case("vector", lambda h: aten.reshape(h, (h.shape[0], 4, 2))),
    "flatten": Case("image", lambda h: h.flatten(1)),
    "unflatten": Case("vector", lambda h: aten.unflatten(h, 1, [4, 2])),
    "squeeze": Case("vector", lambda h: h.view(h.shape[0], UNITS, 1).squeeze(2)),
    "unsqueeze": Case("vector", lambda h: h.unsqueeze(1)),
    "view_as": Case("line", lambda h: aten.view_as(h, h.flatten(2))),
    "reshape_as": Case("line", lambda h: aten.reshape_as(h, h.flatten(2))),
    "permute": Case("line", lambda h: h.permute(0, 2, 1)),
    "transpose": Case("line", lambda h: h.transpose(1, 2)),
    "swapaxes": Case("line", lambda h: aten.swapaxes(h, 1, 2)),
    "t": Case("vector", lambda h, w: h @ w.t(), SQUARE),
    "numpy_T": Case("vector", lambda h, w: h @ aten.numpy_T(w), SQUARE),
    "mT": Case("line", lambda h: aten.mT(h)),
    "expand": Case("vector", lambda h: h[:, None].expand(-1, 3, -1)),
    "expand_as": Case("tokens", lambda h: aten.expand_as(h[:, :1], h)),
    "repeat": Case("vector", lambda h: h.repeat(1, 2)),
    "repeat_interleave": Case("vector", lambda h: h.repeat_interleave(2, 1)),
    "cat": Case("vector", lambda h: torch.cat([h, h.sin()], 1)),
    "concat": Case("vector", lambda h: aten.concat([h, h.sin()], 1)),
    "stack": Case("vector", lambda h: torch.stack([h, h.sin()], 1)),
    "split": Case("vector", lambda h: h.split(4, 1)[1]),
    "split_with_sizes": Case("vector", lambda h: aten.split_with_sizes(h, [3, 5], 1)[1]),
    "chunk": Case("vector", lambda h: h.chunk(2, 1)[1]),
    "unbind": Case("line", lambda h: h.unbind(2)[1]),
    "tensor_split": Case("vector", lambda h: aten.tensor_split(h, 2, 1)[1]),
    "unsafe_split": Case("vector", lambda h: aten.unsafe_split(h, 4, 1)[1]),
    "unsafe_chunk": Case("vector", lambda h: aten.unsafe_chunk(h, 2, 1)[1]),
    "slice": Case("vector", lambda h: h[:, 2:7]),
    "narrow": Case("vector", lambda h: aten.narrow(h, 1, 2, 5)),
    "select": Case("line", lambda h: h.select(2, 1)),
    "roll": Case("vector", lambda h: h.roll(1, 1)),
    "flip": Case("vector", lambda h: h.flip(1)),
    "constant_pad_nd": Case("vector", lambda h: aten.constant_pad_nd(h, [1, 2])),
    "pad": Case("vector", lambda h: aten.pad(h, [1, 2])),
    "embedding": Case("vector", lambda h, w: F.embedding((h[:, 0] > 0).long(), w), ((2, UNITS),)),
    "index_select": Case("vector", lambda h: h.index_select(1, table(h))),
    "index": Case("vector", lambda h: h[:, table(h)]),
    "mm": Case("vector", torch.mm, ((UNITS, 6),)),
    "bmm": Case("tokens", lambda h: h.bmm(h.transpose(1, 2))),
    "matmul": Case("tokens", torch.matmul, ((UNITS, 6),)),
    "mv": Case("vector", lambda h, w: h.mv(w)[:, None], ((UNITS,),)),
    "dot": Case("vector", lambda h, w: h[:, :1] * h.mean(0).dot(w), ((UNITS,),)),
    "einsum": Case("tokens", lambda h, w: torch.einsum("btc,cd->bd", h, w), ((UNITS, 6),)),
    "addmm": Case("vector", lambda h, w, b: torch.addmm(b, h, w), ((UNITS, 6), (6,))),
    "baddbmm": Case("tokens", lambda h, b: torch.baddbmm(b, h, h.transpose(1, 2)), ((1, 1, 4),)),
    "linear": Case("vector", F.linear, SQUARE),
    "conv1d": Case("line", F.conv1d, ((6, UNITS, 2),)),
    "conv2d": Case("image", F.conv2d, ((6, UNITS, 2, 2),)),
    "conv3d": Case("volume", F.conv3d, ((6, UNITS, 2, 2, 2),)),
    "conv_transpose1d": Case("line", F.conv_transpose1d, ((UNITS, 6, 2),)),
    "conv_transpose2d": Case("image", F.conv_transpose2d, ((UNITS, 6, 2, 2),)),
    "conv_transpose3d": Case("volume", F.conv_transpose3d, ((UNITS, 6, 2, 2, 2),)),
    "convolution": Case(
        "image",
        lambda h, w: aten.convolution(h, w, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1),
        ((6, UNITS, 2, 2),),
    ),
    "scaled_dot_product_attention": Case("tokens", attend(F.scaled_dot_product_attention), QKV),
    "_scaled_dot_product_flash_attention_for_cpu": Case(
        "tokens", attend(lambda *qkv: aten._scaled_dot_product_flash_attention_for_cpu(*qkv)[0]), QKV
    ),
    "_scaled_dot_product_attention_math": Case(
        "tokens", attend(lambda *qkv: aten._scaled_dot_product_attention_math(*qkv)[0]), QKV
    ),
    "_scaled_dot_product_flash_attention": Case(
        "tokens",
        attend(
            on_device(lambda *qkv: aten._scaled_dot_product_flash_attention(*qkv)[0], F.scaled_dot_product_attention)
        ),
        QKV,
    ),
    "_scaled_dot_product_efficient_attention": Case(
        "tokens",
        attend(
            on_device(
                lambda *qkv: aten._scaled_dot_product_efficient_attention(*qkv, None, False)[0],
                F.scaled_dot_product_attention,
            )
        ),
        QKV,
    ),
    "_scaled_dot_product_cudnn_attention": Case(
        "tokens",
        attend(
            on_device(
                lambda *qkv: aten._scaled_dot_product_cudnn_attention(*qkv, None, False)[0],
                F.scaled_dot_product_attention,
            )
        ),
        QKV,
    ),
    "batch_norm": Case("image", normalised, FOUR),
    "_native_batch_norm_legit_no_training": Case(
        "image",
        lambda h, w, b, m, v: aten._native_batch_norm_legit_no_training(h, w, b, m, v.exp(), 0.1, 1e-5)[0],
        FOUR,
    ),
    "_native_batch_norm_legit": Case(
        "image", lambda h, w, b, m, v: aten._native_batch_norm_legit(h, w, b, m, v.exp(), False, 0.1, 1e-5)[0], FOUR
    ),
    "native_batch_norm": Case(
        "image", lambda h, w, b, m, v: aten.native_batch_norm(h, w, b, m, v.exp(), False, 0.1, 1e-5)[0], FOUR
    ),
    "_batch_norm_no_update": Case(
        "image", lambda h, w, b, m, v: aten._batch_norm_no_update(h, w, b, m, v.exp(), 0.1, 1e-5)[0], FOUR
    ),
    "cudnn_batch_norm": Case(
        "image",
        on_device(lambda h, w, b, m, v: aten.cudnn_batch_norm(h, w, b, m, v.exp(), False, 0.1, 1e-5)[0], normalised),
        FOUR,
    ),
    "instance_norm": Case("image", lambda h, w, b: F.instance_norm(h, weight=w, bias=b), ((UNITS,), (UNITS,))),
    "layer_norm": Case("tokens", lambda h, w, b: F.layer_norm(h, (UNITS,), w, b), FOUR[:2]),
    "native_layer_norm": Case("tokens", lambda h, w, b: aten.native_layer_norm(h, (UNITS,), w, b, 1e-5)[0], FOUR[:2]),
    "rms_norm": Case("tokens", lambda h, w: F.rms_norm(h, (UNITS,), w), FOUR[:1]),
    "_fused_rms_norm": Case("tokens", lambda h, w: aten._fused_rms_norm(h, (UNITS,), w, 1e-5)[0], FOUR[:1]),
    "group_norm": Case("image", lambda h, w, b: F.group_norm(h, 2, w, b), FOUR[:2]),
    "native_group_norm": Case(
        "image", lambda h, w, b: aten.native_group_norm(h, w, b, h.shape[0], UNITS, 16, 2, 1e-5)[0], FOUR[:2]
    ),
    "mean": Case("image", lambda h: h.mean((2, 3))),
    "sum": Case("image", lambda h: h.sum((2, 3))),
    "amax": Case("image", lambda h: h.amax((2, 3))),
    "amin": Case("image", lambda h: h.amin((2, 3))),
    "prod": Case("line", lambda h: h.prod(2)),
    "var": Case("image", lambda h: h.var((2, 3))),
    "std": Case("image", lambda h: h.std((2, 3))),
    "var_mean": Case("image", lambda h: torch.cat(torch.var_mean(h, (2, 3)), 1)),
    "logsumexp": Case("image", lambda h: h.logsumexp((2, 3))),
    "linalg_vector_norm": Case("image", lambda h: torch.linalg.vector_norm(h, dim=(2, 3))),
    "norm": Case("image", lambda h: aten.norm(h, 2, [2, 3])),
    "any": Case("line", lambda h: (h > 0).any(2).to(h.dtype)),
    "all": Case("line", lambda h: (h > 0).all(2).to(h.dtype)),
    "pixel_shuffle": Case("image", lambda h: F.pixel_shuffle(h, 2)),
    "max_pool2d_with_indices": Case("image", lambda h: aten.max_pool2d_with_indices(h, [2, 2])[0]),
    "max_pool3d_with_indices": Case("volume", lambda h: aten.max_pool3d_with_indices(h, [2, 2, 2])[0]),
    "_adaptive_avg_pool2d": Case("image", lambda h: aten._adaptive_avg_pool2d(h, [2, 2])),
    "_adaptive_avg_pool3d": Case("volume", lambda h: aten._adaptive_avg_pool3d(h, [2, 2, 2])),
    "_upsample_bilinear2d_aa": Case("image", lambda h: aten._upsample_bilinear2d_aa(h, [6, 6], False)),
    "_upsample_nearest_exact2d": Case("image", lambda h: aten._upsample_nearest_exact2d(h, [6, 6])),
}
for n, kind, modes in (
    (1, "line", ("nearest", "linear")),
    (2, "image", ("nearest", "bilinear", "bicubic")),
    (3, "volume", ("nearest", "trilinear")),
):
    for name in (f"{pool}_pool{n}d" for pool in ("max", "avg", "adaptive_avg", "adaptive_max")):
        CASES[name] = Case(kind, partial(getattr(F, name), **{"output_size" if "adapt" in name else "kernel_size": 2}))
    for mode in modes:
        CASES[f"upsample_{mode}{n}d"] = Case(kind, partial(F.interpolate, scale_factor=2, mode=mode))


class Branches(nn.Module):
    """The networks of some cases side by side: one export serves them all."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleDict({f"of_{name}": Around(CASES[name]) for name in names})

    def forward(self, x: Tensor) -> list[Tensor]:
        return [branch(x) for branch in self.branches.values()]
