import pytest
from foreign import ForeignData, ForeignModule
from lightning import Callback
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from rebasin_lt.errors import InputError, Unfinished
from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning


class StopAt(Callback):
    """Ends training after so many batches."""

    def __init__(self, batches):
        self.batches = batches

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches -= 1
        trainer.should_stop = self.batches == 0


@pytest.mark.parametrize(
    ("settings", "callbacks", "written"),
    [
        ({}, [StopAt(3)], []),
        ({}, [StopAt(8)], [0.2]),
        ({}, [StopAt(15)], [0.2]),
        ({"max_time": {"seconds": 0}}, [], []),
        ({"max_steps": 9}, [GradientAccumulationScheduler({0: 1})], [0.2]),
    ],
)
def test_a_run_that_ends_early_says_what_is_missing_and_leaves_no_half_trained_ticket(
    trainer, tmp_path, settings, callbacks, written
):
    """Four batches in each of the 2 epochs of a round."""
    missing = ", ".join(f"{target:g}" for target in (0.2, 0.36) if target not in written)
    with pytest.raises(Unfinished, match=f"before pruning reached {missing}: leave out") as error:
        trainer(-1, [IterativeMagnitudePruning([0.2, 0.36], 2), *callbacks], **settings).fit(
            ForeignModule(), ForeignData()
        )
    assert error.value.exit_code == 1
    names = {f"sparsity-{target:g}.{end}" for target in written for end in ("ckpt", "mask.safetensors")}
    assert {path.name for path in (tmp_path / "imp").glob("*")} == names


def test_max_steps_that_cannot_reach_the_targets_are_refused_before_training(trainer, tmp_path):
    imp = IterativeMagnitudePruning([0.2, 0.36], 2)
    with pytest.raises(
        InputError, match=r"trainer.max_steps is 15, but pruning to \[0.2, 0.36\] takes 16 steps \(4 epochs of 4\)"
    ):
        trainer(-1, [imp], max_steps=15).fit(ForeignModule(), ForeignData())
    assert not imp.mask_path(0.2).exists()
    trainer(-1, [imp], max_steps=16).fit(ForeignModule(), ForeignData())
    assert imp.mask_path(0.36).exists()


def test_a_run_that_is_complete_may_be_given_again(trainer, tmp_path):
    run = trainer(-1, [IterativeMagnitudePruning([0.2], 1)])
    run.fit(ForeignModule(), ForeignData())
    run.save_checkpoint(tmp_path / "end.ckpt")
    trainer(-1, [IterativeMagnitudePruning([0.2], 1)]).fit(
        ForeignModule(), ForeignData(), ckpt_path=tmp_path / "end.ckpt"
    )


def test_targets_whose_files_would_have_one_name_are_refused():
    with pytest.raises(InputError, match=r"imp targets hold 0.5 and another that files call 0.5, too: leave one out"):
        IterativeMagnitudePruning([0.5, 0.5000001], 1)
