"""Training that begins with given signs: under any module, from a mask or a checkpoint; resumed to the bit."""

from __future__ import annotations

import logging

import pytest
import torch
from foreign import ForeignData, ForeignModule
from lightning import Callback

from rebasin_lt.errors import InputError
from rebasin_lt.lit.callbacks.init_from import InitFrom
from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.callbacks.rewind_checkpoint import RewindCheckpoint
from rebasin_lt.lit.checkpoint import load_network, read_checkpoint
from rebasin_lt.lit.classifier import Classifier, MaskedClassifier
from rebasin_lt.lit.data import Digits
from rebasin_lt.pruning.mask import Mask

NAMES = ("encoder.0.weight", "head.weight")


def random_mask(module):
    return Mask({name: torch.rand(module.get_parameter(name).shape) < 0.4 for name in NAMES})


def state_of(module):
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


class AtTheFirstBatch(Callback):
    """Keeps the weights that training begins with."""

    def __init__(self):
        self.state = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 0:
            self.state = state_of(pl_module)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("signs", ["mask", "own"])
def test_any_module_begins_with_them(trainer, tmp_path, caplog, signs, first):
    """Wherever the callback that loads the weights stands."""
    other, module = ForeignModule(), ForeignModule()
    with torch.no_grad():
        module.head.weight[0, :3] = 0
    torch.save(other.state_dict(), tmp_path / "other.ckpt")
    torch.save(module.state_dict(), tmp_path / "init.ckpt")
    mask = random_mask(module)
    mask["head.weight"][0, :3] = True
    expected = {n: torch.where(mask[n], state_of(module)[n].abs() * state_of(other)[n].sign(), 0) for n in NAMES}
    given = {"mask": mask.signed_by(other.state_dict())} if signs == "mask" else {"mask": mask}
    guard = MaskGuard(**given, signs=signs, signs_from=str(tmp_path / "other.ckpt") if signs == "own" else None)
    begin, seen = InitFrom(str(tmp_path / "init.ckpt")), AtTheFirstBatch()
    with caplog.at_level(logging.INFO):
        trainer(1, [*([begin, guard] if first else [guard, begin]), seen]).fit(ForeignModule(), ForeignData())
    for name in NAMES:
        assert torch.equal(seen.state[name], expected[name]), name
    start = state_of(module)
    turned = sum(int((start[n].sign() * expected[n].sign() == -1).sum()) for n in NAMES)
    assert f"kept weights set: {turned} turned, 3 are 0 and stay 0" in caplog.text


@pytest.mark.parametrize("signs", ["none", "mask"])
def test_none_is_what_it_was_and_own_signs_change_no_bit(trainer, tmp_path, signs):
    """A run under B's own mask with B's own signs is the run without signs, to the bit."""
    torch.manual_seed(3)
    module = Classifier(arch="mlp")
    path = tmp_path / "m.mask.safetensors"
    mask = Mask({n: torch.rand(w.shape) < 0.3 for n, w in module.net.state_dict().items() if w.dim() == 2})
    mask.signed_by(module.net.state_dict()).save(path)
    torch.save({f"net.{n}": w for n, w in module.net.state_dict().items()}, tmp_path / "init.ckpt")
    plain = tmp_path / "plain.mask.safetensors"
    mask.save(plain)
    runs = []
    for name, settings in ((plain, {}), (path, {"signs": signs})):
        torch.manual_seed(0)
        torch.save(module.net.state_dict(), tmp_path / "init.ckpt")
        masked = MaskedClassifier(str(name), **settings)
        masked.net.load_state_dict(module.net.state_dict())
        trainer(2, []).fit(masked, Digits(batch_size=50, train_size=200))
        runs.append(state_of(masked))
    assert all(torch.equal(tensor, runs[1][name]) for name, tensor in runs[0].items())


def test_a_resume_is_exact_and_of_other_signs_refused(trainer, tmp_path):
    module = ForeignModule()
    other = ForeignModule()
    mask = random_mask(module).signed_by(other.state_dict())

    def run(name, epochs, callbacks=(), ckpt_path=None, **settings):
        torch.manual_seed(1)
        fresh = ForeignModule()
        fit = trainer(
            epochs,
            [MaskGuard(mask, **settings), *callbacks],
            default_root_dir=tmp_path / name,
            enable_checkpointing=True,
        )
        fit.fit(fresh, ForeignData(), ckpt_path=ckpt_path)
        fit.save_checkpoint(tmp_path / f"{name}.ckpt")
        return state_of(fresh)

    whole = run("whole", 4, signs="mask")
    run("half", 2, signs="mask")
    resumed = run("rest", 4, ckpt_path=str(tmp_path / "half.ckpt"), signs="mask")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
    with pytest.raises(InputError, match=r"the checkpoint to resume began with signs \w{12}, this run has none: set"):
        run("none", 4, ckpt_path=str(tmp_path / "half.ckpt"))
    run("unsigned", 2)
    with pytest.raises(InputError, match=r"the checkpoint to resume began with signs none, this run has \w{12}: set"):
        run("late", 4, ckpt_path=str(tmp_path / "unsigned.ckpt"), signs="mask")
    assert "rebasin_lt.mask_guard" not in read_checkpoint(tmp_path / "unsigned.ckpt")["callbacks"]


@pytest.mark.parametrize("after_prune", ["finetune", "rewind_lr", "rewind_weights"])
def test_pruning_leaves_the_signs_of_its_ticket(trainer, tmp_path, after_prune):
    module = Classifier(arch="mlp", learning_rate=0.05)
    settings = {} if after_prune == "finetune" else {"after_prune": after_prune, "rewind_from": "0it"}
    imp = IterativeMagnitudePruning([0.5, 0.8], 1, 0.6, dense_epochs=1, dirpath=str(tmp_path / "imp"), **settings)
    rewind = RewindCheckpoint(["0it"], dirpath=str(tmp_path / "rewind"))
    trainer(-1, [rewind, imp]).fit(module, Digits(batch_size=50, train_size=200))
    for target in (0.5, 0.8):
        mask, ticket = Mask.load(imp.mask_path(target)), load_network(imp.ticket_path(target))
        assert mask == ticket.mask.signed_by(ticket.network.state_dict())
        assert not ticket.mask.is_signed


def test_what_cannot_be_is_refused_in_one_line(tmp_path):
    module = ForeignModule()
    mask = random_mask(module)
    torch.save({"a": torch.ones(2, 2)}, tmp_path / "other.ckpt")
    mask.save(tmp_path / "m.mask.safetensors")
    for arguments, text in (
        ({"signs": "masks"}, r"signs is 'masks', which is not known \(did you mean mask\?\): expected none, mask, own"),
        ({"signs": "mask"}, r"signs is 'mask', but the mask has none: expected one of IMP by this release"),
        ({"signs": "own"}, r"signs is 'own' and signs_from is None: expected a checkpoint beside `own`, and none else"),
        ({"signs_from": "x.ckpt"}, r"signs is 'none' and signs_from is 'x.ckpt': expected a checkpoint beside `own`"),
        (
            {"signs": "own", "signs_from": str(tmp_path / "other.ckpt")},
            "signs_from is .*other.ckpt, of another network",
        ),
    ):
        with pytest.raises(InputError, match=text) as error:
            MaskGuard(mask, **arguments)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"signs is 'mask', but the mask .*m.mask.safetensors has none: expected one"):
        MaskGuard(str(tmp_path / "m.mask.safetensors"), signs="mask")


@pytest.mark.parametrize("signs", ["mask", "own"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "16-true"])
def test_they_are_set_in_half_precision(trainer, tmp_path, precision, signs):
    """On weights kept in it, and on those that are not; magnitudes are the weights' own, as they are rounded."""
    other, module = ForeignModule(), ForeignModule()
    torch.save(other.state_dict(), tmp_path / "other.ckpt")
    mask = random_mask(module)
    given = mask.signed_by(other.state_dict()) if signs == "mask" else mask
    guard = MaskGuard(given, signs=signs, signs_from=str(tmp_path / "other.ckpt") if signs == "own" else None)
    start, seen = state_of(module), AtTheFirstBatch()
    trainer(2, [guard, seen], precision=precision).fit(module, ForeignData())
    kept = {"bf16-mixed": torch.float32, "bf16-true": torch.bfloat16, "16-true": torch.float16}[precision]
    for name in NAMES:
        assert seen.state[name].dtype == kept
        expected = torch.where(mask[name], start[name].abs() * state_of(other)[name].sign(), 0).to(kept)
        assert torch.equal(seen.state[name], expected), name
        assert not module.get_parameter(name)[~mask[name]].any()


class Normed(ForeignModule):
    """With weight norm on its head, whose direction is what a mask names."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.utils.parametrizations.weight_norm(self.head)


@pytest.mark.parametrize("signs", ["mask", "own"])
def test_under_weight_norm_they_are_those_of_the_directions(trainer, tmp_path, signs):
    """Which are the weights' own signs, as long as no length is below 0."""
    name = "head.parametrizations.weight.original1"
    other, module = Normed(), Normed()
    torch.save(other.state_dict(), tmp_path / "other.ckpt")
    mask = Mask({name: torch.rand(module.get_parameter(name).shape) < 0.4})
    mask[name][0, 0] = True
    given = mask.signed_by(other.state_dict()) if signs == "mask" else mask
    guard = MaskGuard(given, signs=signs, signs_from=str(tmp_path / "other.ckpt") if signs == "own" else None)

    class Weights(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 0:
                expected = torch.where(mask[name], other.head.weight.sign(), 0)
                assert torch.equal(pl_module.head.weight.sign(), expected)
                self.looked = True

    look = Weights()
    trainer(2, [guard, look]).fit(module, ForeignData())
    assert look.looked
    assert not module.head.weight[~mask[name]].any()
