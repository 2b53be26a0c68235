"""What nested groups are worth: the line between trained transformers and mixtures, matched with and without them.

    PYTHONPATH=. python -m benchmarks.nested [--only vit,decoder,experts] [--pairs 3] [--out DIR]

A and B are trained from seeds of their own: a small ViT on digits, a small decoder on the characters of a module of the
standard library, and two layers of stacked experts on digits. A is matched to B with one inner permutation for all
heads and experts, as releases before had it, and with one for each, by activations and by weights; the loss along the
line from π(A) to B is measured on data that neither was trained on. Results go beside those that are there in
benchmarks/results/nested.json; the table is that of docs/matching.md, the figure docs/images/nested.svg.
"""

from __future__ import annotations

import argparse
import inspect
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer

import rebasin_lt as rb
from benchmarks._page import between
from benchmarks._pairs import Record, measure_pairs, measured_line
from rebasin_lt.report.kit.figures import plain_axes, save_figures, styled_figure
from rebasin_lt.report.kit.methods import COLOURS
from rebasin_lt.report.kit.tables import Column, Table
from rebasin_lt.storage.files import write_text

Batch = tuple[Tensor, Tensor]
ALPHAS = 11
ARMS = {
    "none": "averaged as they are",
    "one, activations": "one inner permutation, activations",
    "nested, activations": "nested, activations",
    "one, weights": "one inner permutation, weights",
    "nested, weights": "nested, weights",
}


class Decoder(nn.Module):
    """A causal block over 32 characters."""

    def __init__(self, letters: int, width: int = 64, heads: int = 4, length: int = 32) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(letters, width), nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(1))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, letters)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in "qkvo")
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        q, k, v = (layer(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        x = x + self.o(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Mixtures(nn.Module):
    """Two layers of 4 stacked experts of 32 hidden units, behind softmax gates, on digits."""

    def __init__(self, width: int = 64, experts: int = 4, hidden: int = 32) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(64, width), nn.Linear(width, 10)
        self.layers = nn.ModuleList(_Experts(width, experts, hidden) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x.flatten(1))
        for layer in self.layers:
            x = x + layer(x)
        return self.leave(x)


class _Experts(nn.Module):
    def __init__(self, width: int, experts: int, hidden: int) -> None:
        super().__init__()
        self.norm, self.gate = nn.LayerNorm(width), nn.Linear(width, experts)
        self.up = nn.Parameter(torch.randn(experts, hidden, width) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(experts, 1, hidden))
        self.down = nn.Parameter(torch.randn(experts, width, hidden) * hidden**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        hidden = (torch.einsum("ehd,bd->ebh", self.up, x) + self.bias).relu()
        answers = torch.einsum("edh,ebh->ebd", self.down, hidden)
        return torch.einsum("ebd,be->bd", answers, self.gate(x).softmax(-1))


def _vit() -> nn.Module:
    return VisionTransformer(
        image_size=8, patch_size=2, num_layers=1, num_heads=4, hidden_dim=64, mlp_dim=256, num_classes=10
    )


class _Grey(nn.Module):
    """A ViT on images of one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = _vit()
        self.vit.conv_proj = nn.Conv2d(1, 64, 2, 2)
        nn.init.normal_(self.vit.heads.head.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.vit(x)  # type: ignore[no-any-return]


class Subject(NamedTuple):
    """What is trained, on what, and how it is judged."""

    build: Any
    data: Any  # -> (training batches, test batches)
    loss: str
    title: str
    epochs: int


def _digits() -> tuple[list[Batch], list[Batch]]:
    data = rb.Digits(batch_size=64)
    return [tuple(batch) for batch in data.sweep("train")], [tuple(batch) for batch in data.sweep("test")]  # type: ignore[misc]


def _text() -> tuple[list[Batch], list[Batch]]:
    """Windows of 32 characters of argparse's source, and the ones that follow each; a tenth is for tests."""
    text = inspect.getsource(argparse)
    letters = {letter: k for k, letter in enumerate(sorted(set(text)))}
    codes = torch.tensor([letters[letter] for letter in text])
    windows = codes.unfold(0, 33, 33)
    parts = windows[: len(windows) * 9 // 10], windows[len(windows) * 9 // 10 :]
    return tuple([(b[:, :-1], b[:, 1:]) for b in part.split(64)] for part in parts)  # type: ignore[return-value]


SUBJECTS = {
    "vit": Subject(_Grey, _digits, "cross_entropy", "ViT, digits", 10),
    "decoder": Subject(
        lambda: Decoder(len(set(inspect.getsource(argparse)))), _text, "token_cross_entropy", "decoder, characters", 8
    ),
    "experts": Subject(Mixtures, _digits, "cross_entropy", "two layers of experts, digits", 15),
}


def trained(subject: Subject, train: Sequence[Batch], seed: int) -> nn.Module:
    """A network after the subject's epochs of AdamW with a cosine schedule, in evaluation mode."""
    torch.manual_seed(seed)
    network = subject.build()
    steps = subject.epochs * len(train)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(subject.epochs):
        for k in torch.randperm(len(train)).tolist():
            inputs, labels = train[k]
            order = torch.randperm(len(inputs))
            answers = network(inputs[order])
            loss = F.cross_entropy(answers.flatten(0, -2), labels[order].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()  # type: ignore[no-any-return]


def measured(name: str, pair: int) -> Record:
    """The lines of a pair, by arm."""
    subject, start = SUBJECTS[name], time.perf_counter()
    train, test = subject.data()
    a, b = (trained(subject, train, 10 * pair + k) for k in (0, 1))
    example = train[0][0][:2]
    nested = rb.trace_symmetry(a, example)
    with patch("rebasin_lt.symmetry.trace.find_nesting", lambda *_: {}):
        one = rb.trace_symmetry(a, example)
    given: dict[str, Any] = {"alphas": ALPHAS, "loss": subject.loss}
    lines: dict[str, Record] = {"none": measured_line(a, a.state_dict(), b, test, **given)}
    for words, symmetry in (("one", one), ("nested", nested)):
        for by in ("activations", "weights"):
            found = (
                rb.match_activations(a, b, train, symmetry) if by == "activations" else rb.match_weights(a, b, symmetry)
            )
            permuted = symmetry.permute(a, found.permutation)
            lines[f"{words}, {by}"] = measured_line(a, permuted, b, test, **given)
    decades = {"log10_one": one.log10, "log10_nested": nested.log10}
    return {"pair": pair, "lines": lines, **decades, "seconds": round(time.perf_counter() - start)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the subjects that are asked for, one after the other, and write what is known of all."""
    measure_pairs(__doc__, "nested", SUBJECTS, measured, publish, arguments, num_pairs=3)


def publish(results: Mapping[str, Sequence[Record]], docs: Path) -> None:
    """The table of docs/matching.md, and its figure."""
    shown = {name: results[name] for name in SUBJECTS if name in results}
    page = docs / "matching.md"
    write_text(page, between(page.read_text(encoding="utf-8"), "nested table", table(shown).to_markdown().rstrip()))
    draw(shown, docs / "images")


def table(results: Mapping[str, Sequence[Record]]) -> Table:
    """A row for each pair: its barriers by arm, in nats."""
    rows = [
        [SUBJECTS[name].title, record["pair"] + 1, *(record["lines"][arm]["barrier"] for arm in ARMS)]
        for name, records in results.items()
        for record in records
    ]
    columns = [Column("networks", "left"), Column("pair"), *(Column(title, decimals=3) for title in ARMS.values())]
    return Table(columns, rows)


def draw(results: Mapping[str, Sequence[Record]], folder: Path) -> None:
    """A panel for each subject: the mean over pairs of the loss along the line, by arm."""
    drawn = {"none": "naive", "one, activations": "lth", "nested, activations": "permuted"}
    with styled_figure(8.0, 2.9) as figure:
        for place, (name, records) in enumerate(results.items(), start=1):
            axes = figure.add_subplot(1, len(results), place)
            plain_axes(axes)
            for arm, colour in drawn.items():
                losses = zip(*(record["lines"][arm]["loss"] for record in records), strict=True)
                means = [statistics.mean(values) for values in losses]
                alphas = records[0]["lines"][arm]["alphas"]
                axes.plot(alphas, means, color=COLOURS[colour][0], label=ARMS[arm])
            axes.set_title(SUBJECTS[name].title, loc="left", fontsize=10)
            axes.set_xticks([0, 0.5, 1])
        figure.legend(*axes.get_legend_handles_labels(), loc="upper left", ncols=len(drawn), frameon=False, fontsize=10)
        figure.tight_layout(rect=(0, 0, 1, 0.9))
        save_figures({"nested": figure}, folder)


if __name__ == "__main__":
    main()
