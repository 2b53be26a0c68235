"""Losses of one's own: functions, and what a module's validation step logs, against plain loops and the Trainer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import rebasin_lt as rb
from rebasin_lt.connectivity.evaluation import evaluate
from rebasin_lt.connectivity.interpolation import interpolate
from rebasin_lt.errors import InputError
from rebasin_lt.feeding.calls import Fed, calls_of
from rebasin_lt.judging.judge import judge_of
from rebasin_lt.judging.losses import LOSSES, check_loss_name

ALPHAS = [0.0, 0.25, 0.5, 1.0]
SIZES = (7, 4, 1)


class Tabular(LightningModule):
    """A regression whose batches are dicts, with all the ways to log."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.hidden, self.head = nn.Linear(5, 6), nn.Linear(6, 2)
        self.double()

    def forward(self, row: Tensor) -> Tensor:
        return self.head(self.hidden(row).relu())

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return {**batch, "row": 2 * batch["row"]}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        losses = (self(batch["row"]) - batch["target"]).abs()
        self.log("val/mean", losses.mean(), prog_bar=True)
        self.log("val/sized", losses.mean(), batch_size=3 * len(losses), on_epoch=True)
        self.log_dict({"val/place": float(batch_idx), "val/top": losses.max()})
        self.log("val/text", "none") if batch_idx < 0 else None


def batches() -> list[dict[str, Tensor]]:
    torch.manual_seed(3)
    return [
        {"row": torch.randn(size, 5).double(), "target": torch.randn(size, 2).double(), "weight": torch.rand(size)}
        for size in SIZES
    ]


def ends() -> list[Tabular]:
    return [Tabular(1), Tabular(2)]


def reported(state: dict[str, Tensor]) -> dict[str, float]:
    """What Lightning's own validation says."""
    module = Tabular()
    module.load_state_dict(state)
    trainer = Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    (found,) = trainer.validate(module, DataLoader(batches(), batch_size=None), verbose=False)
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["val/mean", "val/sized", "val/place", "val/top"])
def test_a_validation_step_is_judged_as_by_the_trainer(name: str) -> None:
    first, second = ends()
    found = rb.loss_barrier(first, first, second, batches(), alphas=ALPHAS, loss=f"validation_step:{name}")
    states = [interpolate(first.state_dict(), second.state_dict(), alpha) for alpha in ALPHAS]
    assert found.loss == pytest.approx([reported(state)[name] for state in states], abs=1e-6)  # it logs in fp32
    assert (found.error, found.judged.label, found.judged.unit) == (None, name, "")
    assert found.num_images == sum(SIZES) * (3 if name == "val/sized" else 1)


def test_the_step_is_found_to_the_last_digit_and_the_module_left_alone() -> None:
    first, second = ends()
    before = dict(vars(first))
    found = rb.loss_barrier(first, first, second, batches(), alphas=ALPHAS, loss="validation_step:val/mean")
    rows, targets = (torch.cat([batch[name] for batch in batches()]) for name in ("row", "target"))
    worker = Tabular()
    for alpha, loss in zip(ALPHAS, found.loss, strict=True):
        worker.load_state_dict(interpolate(first.state_dict(), second.state_dict(), alpha))
        assert loss == pytest.approx(float(F.l1_loss(worker(2 * rows).detach(), targets)), abs=1e-10)
    assert vars(first) == before
    assert first.training


@pytest.mark.parametrize(
    ("network", "name", "given", "message"),
    [
        (Tabular(), "val/lost", batches(), "validation_step of Tabular logs val/mean, val/sized, val/place, val/top$"),
        (nn.Linear(5, 2), "val/mean", batches(), "Linear has no validation_step: give a LightningModule that has"),
        (Tabular(), "val/mean", [{"row": torch.ones(2, 5)}], "fails without a Trainer: RuntimeError|KeyError"),
        (Tabular(), "val/mean", list(calls_of(Fed(batches(), targets="target"), Tabular())), "as loaders give them"),
    ],
)
def test_a_step_that_cannot_judge_is_refused_in_one_line(network, name, given, message) -> None:
    with pytest.raises(InputError, match=message) as error:
        rb.loss_barrier(network, network, network, given, loss=f"validation_step:{name}")
    assert "\n" not in str(error.value)


class Metered(Tabular):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/all", self(batch["row"]))
        self.log("val/rate", self.trainer.lr) if batch_idx < 0 else None


class Attached(Tabular):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/epoch", self.trainer.current_epoch)


def test_what_is_logged_must_be_a_number() -> None:
    with pytest.raises(InputError, match="which is logged as a Tensor: expected a number or a tensor of one"):
        evaluate([Metered()], batches(), loss="validation_step:val/all")


def test_a_step_that_needs_a_trainer_is_refused() -> None:
    with pytest.raises(InputError, match="validation_step of Attached fails without a Trainer: RuntimeError: Attached"):
        evaluate([Attached()], batches(), loss="validation_step:val/epoch")


FUNCTIONS = {
    "per entry": lambda output, target: F.l1_loss(output, target, reduction="none"),
    "per sample": lambda output, target: F.l1_loss(output, target, reduction="none").mean(1),
    "mean of the batch": F.l1_loss,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_judged_over_the_whole_set(name: str) -> None:
    first, second = ends()
    given = Fed(batches(), targets="target")
    found = rb.loss_barrier(first, first, second, given, alphas=ALPHAS, loss=FUNCTIONS[name])
    rows, targets = (torch.cat([batch[name] for batch in batches()]) for name in ("row", "target"))
    worker = Tabular()
    for alpha, loss in zip(ALPHAS, found.loss, strict=True):
        worker.load_state_dict(interpolate(first.state_dict(), second.state_dict(), alpha))
        assert loss == pytest.approx(float(F.l1_loss(worker(rows).detach(), targets)), abs=1e-10)
    assert found.error is None


def test_a_function_may_see_the_whole_batch_and_the_whole_output() -> None:
    class Two(Tabular):
        def forward(self, row: Tensor) -> Any:
            return {"a": super().forward(row), "b": row}

    given = Fed(batches(), inputs={"row": "row"}, targets=lambda batch: batch)
    loss = lambda output, batch: (output["a"] - batch["target"]).abs().sum(1) * batch["weight"]  # noqa: E731
    (found,) = evaluate([Two(1)], given, loss=loss)
    parts = [loss(Two(1)(batch["row"]), batch).detach() for batch in batches()]
    assert found.loss == pytest.approx(float(torch.cat(parts).mean()), abs=1e-10)


def test_a_function_has_a_name_on_the_command_line(tmp_path, monkeypatch) -> None:
    (tmp_path / "its_losses.py").write_text(
        "def half(output, target):\n    return (output - target).abs() / 2\nX = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert judge_of("its_losses:half").judged.label == "half"
    with pytest.raises(InputError, match="loss is 'its_losses:X', a int, expected a function loss.output, target."):
        judge_of("its_losses:X")
    with pytest.raises(InputError, match="loss is 'its_losses:Y', which cannot be imported"):
        judge_of("its_losses:Y")


def test_a_function_that_fails_or_returns_no_loss_is_refused_in_one_line() -> None:
    given = Fed(batches(), targets="target")
    for loss, message in {
        "text": "returned .str., expected a floating tensor",
        "integers": r"returned \(7, 2\) int64, expected a floating tensor: losses, or their mean",
        "fails": r"fails on an output that is \(7, 2\) float64 and a label that is \(7, 2\) float64: ValueError: no",
    }.items():
        with pytest.raises(InputError, match=message) as error:
            evaluate([Tabular()], given, loss=_bad(loss))
        assert "\n" not in str(error.value)


def _bad(kind: str):
    def loss(output: Tensor, target: Tensor) -> Any:
        if kind == "fails":
            raise ValueError("no\nmore")
        return "text" if kind == "text" else output.long()

    return loss


def test_an_unknown_loss_is_refused_with_the_near_one() -> None:
    with pytest.raises(
        InputError, match=r"loss is 'msee', which is not known \(did you mean mse.*validation_step:NAME"
    ):
        judge_of("msee")
    for name in (*LOSSES, "package.module:name", "validation_step:val/loss"):
        check_loss_name(name)


def test_a_step_of_the_batch_alone_is_judged_as_by_the_trainer() -> None:
    class Alone(Tabular):
        def validation_step(self, batch: Any) -> None:  # type: ignore[override]
            super().validation_step(batch, 0)

    class Place(Tabular):
        def validation_step(self, *args: Any) -> None:
            super().validation_step(*args)

    of = {"alphas": ALPHAS, "loss": "validation_step:val/mean"}
    plain, *others = (rb.loss_barrier(kind(1), kind(1), kind(2), batches(), **of) for kind in (Tabular, Alone, Place))
    assert [found.loss for found in others] == [plain.loss] * 2
