import math
from types import SimpleNamespace

import pytest
import torch
from foreign import ForeignData, ForeignModule, RestlessModule
from lightning import Callback

from rebasin_lt.errors import InputError
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard, same_on_all_ranks
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.lit.data import Digits
from rebasin_lt.pruning.mask import Mask


def random_mask(module, keep=0.4):
    names = ["encoder.0.weight", "head.weight"]
    return Mask({name: torch.rand(module.get_parameter(name).shape) < keep for name in names})


class ZerosAtEveryStep(Callback):
    """Looks at the pruned weights and at the gradients right before clipping's result is used."""

    def __init__(self, mask):
        self.mask, self.steps = mask, 0

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.steps += 1
        for name, kept in self.mask.items():
            assert not pl_module.get_parameter(name)[~kept].any(), name
            assert pl_module.get_parameter(name)[kept].any(), name


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("settings", [{}, {"gradient_clip_val": 0.01}, {"accumulate_grad_batches": 2}])
def test_pruned_weights_are_zero_after_every_step(trainer, optimizer, settings):
    module = ForeignModule(optimizer=optimizer)
    mask = random_mask(module)
    watch = ZerosAtEveryStep(mask)
    trainer(4, [MaskGuard(mask), watch], **settings).fit(module, ForeignData())
    assert watch.steps == 16
    for optimizer_state in module.optimizers().state.values():
        for name, kept in mask.items():
            buffers = [t for t in optimizer_state.values() if t.shape == kept.shape == module.get_parameter(name).shape]
            assert not any(buffer[~kept].any() for buffer in buffers)


def test_factors_lie_in_memory_as_their_weights_do(trainer):
    """On a GPU only tensors of the same strides are multiplied in one launch."""
    module = Classifier("resnet20", width=0.25, input_shape=[1, 8, 8], channels_last=True)
    kept = Mask.ones_like(module.net.state_dict())
    guard = MaskGuard(Mask({name: torch.rand(tensor.shape) < 0.5 for name, tensor in kept.items()}))
    trainer(1, [guard]).fit(module, Digits(batch_size=100, train_size=200))
    assert any(not weight.is_contiguous() for weight in guard._weights)
    for weight, factor, truth in zip(guard._weights, guard._factors, guard.mask.values(), strict=True):
        assert factor.stride() == weight.stride()
        assert factor.dtype == weight.dtype
        assert torch.equal(factor.bool(), truth)


def test_an_optimiser_that_moves_every_weight_leaves_the_pruned_at_zero(trainer):
    module = RestlessModule()
    mask = random_mask(module)
    watch = ZerosAtEveryStep(mask)
    trainer(2, [MaskGuard(mask), watch]).fit(module, ForeignData())
    assert watch.steps == 8


def test_momentum_from_before_the_mask_revives_nothing(trainer):
    class KeepsItsOptimizer(ForeignModule):
        kept = None

        def configure_optimizers(self):
            self.kept = self.kept or torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
            return self.kept

    module = KeepsItsOptimizer()
    mask = random_mask(module)
    trainer(1).fit(module, ForeignData())
    momentum = module.kept.state[module.encoder[0].weight]["momentum_buffer"]
    assert momentum[~mask["encoder.0.weight"]].all()  # else this test shows nothing
    watch = ZerosAtEveryStep(mask)
    trainer(1, [MaskGuard(mask), watch]).fit(module, ForeignData())
    assert watch.steps == 4


def test_the_run_equals_one_that_multiplies_by_hand(trainer):
    """Oracle: parametrised by mask, plain SGD with momentum and weight decay."""
    module = ForeignModule()
    mask = random_mask(module)
    hand = ForeignModule()
    hand.load_state_dict(module.state_dict())
    for layer, name in ((hand.encoder[0], "encoder.0.weight"), (hand.head, "head.weight")):
        layer.weight.data *= mask[name]
        layer.weight.register_hook(lambda grad, kept=mask[name]: grad * kept)
    trainer(3, [MaskGuard(mask)]).fit(module, ForeignData())
    trainer(3).fit(hand, ForeignData())
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, hand.state_dict()[name]), name


def test_clipping_sees_the_masked_gradients_alone(trainer):
    module = ForeignModule()
    mask = Mask({"encoder.0.weight": torch.zeros(12, 6, dtype=torch.bool)})
    norms = []

    class Norms(Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            norms.append([float(parameter.grad.norm()) for parameter in pl_module.parameters()])

    trainer(1, [MaskGuard(mask), Norms()], gradient_clip_val=1e-3).fit(module, ForeignData())
    assert [norm[0] for norm in norms] == [0.0] * 4
    # had the pruned gradients counted, the others would have been scaled below the limit
    assert [math.hypot(*norm) for norm in norms] == pytest.approx([1e-3] * 4, rel=1e-3)


def test_no_step_waits_for_the_device(trainer):
    """The guard's work in a step is fused multiplications: no read-back of a value, and no tensor is created."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Ops(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.names.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    module = ForeignModule()
    guard = MaskGuard(random_mask(module))
    trainer(1, [guard]).fit(module, ForeignData())
    module.head(module.encoder(torch.randn(4, 6))).sum().backward()
    with Ops() as ops:
        guard.on_before_optimizer_step(None, module, None)
        guard._mask_weights()
    assert ops.names == ["_foreach_mul_", "_foreach_mul_"]


def test_guard_rejects_a_mask_of_another_network(trainer):
    module = ForeignModule(hidden=12)
    with pytest.raises(InputError, match=r"mask for encoder.0.weight has shape \(9, 6\), the network has \(12, 6\)"):
        trainer(1, [MaskGuard(random_mask(ForeignModule(hidden=9)))]).fit(module, ForeignData())
    other = Mask({"elsewhere.weight": torch.ones(2, 2, dtype=torch.bool)})
    with pytest.raises(InputError, match="mask names elsewhere.weight, which the network does not have"):
        trainer(1, [MaskGuard(other)]).fit(module, ForeignData())


def test_resume_is_refused_under_another_mask_and_goes_on_under_the_same(trainer, tmp_path):
    module = ForeignModule()
    mask = random_mask(module)
    first = trainer(1, [MaskGuard(mask)])
    first.fit(module, ForeignData())
    first.save_checkpoint(tmp_path / "half.ckpt")
    other = MaskGuard(random_mask(module))
    with pytest.raises(InputError, match=r"holds a mask of sha256 .*, this run has sha256"):
        trainer(2, [other]).fit(ForeignModule(), ForeignData(), ckpt_path=tmp_path / "half.ckpt")
    plain = trainer(1)
    plain.fit(ForeignModule(), ForeignData())
    plain.save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.raises(InputError, match=r"the checkpoint to resume holds no mask"):
        trainer(2, [MaskGuard(mask)]).fit(ForeignModule(), ForeignData(), ckpt_path=tmp_path / "plain.ckpt")

    resumed = ForeignModule()
    trainer(2, [MaskGuard(mask)]).fit(resumed, ForeignData(), ckpt_path=tmp_path / "half.ckpt")
    assert not resumed.encoder[0].weight[~mask["encoder.0.weight"]].any()


def test_tensors_of_other_layers_are_left_alone(trainer):
    module = ForeignModule()
    mask = Mask({"encoder.0.weight": torch.zeros(12, 6, dtype=torch.bool)})
    trainer(1, [MaskGuard(mask)]).fit(module, ForeignData())
    assert not module.encoder[0].weight.any()
    assert module.head.weight.all()


def test_a_reused_guard_masks_every_run(trainer):
    mask = random_mask(ForeignModule())
    guard = MaskGuard(mask)
    for _ in range(2):
        watch = ZerosAtEveryStep(mask)
        trainer(2, [guard, watch]).fit(ForeignModule(), ForeignData())
        assert watch.steps == 8
        assert guard.mask == mask


def test_the_mask_of_rank_0_holds_on_all_ranks(monkeypatch):
    """Where sums are not deterministic, ranks may come to different masks."""
    ours, theirs = random_mask(ForeignModule()), random_mask(ForeignModule())
    sent = iter(theirs.values())
    monkeypatch.setattr(
        torch.distributed, "broadcast", lambda bits, rank: bits.copy_(next(sent)) if rank == 0 else None
    )
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    assert ours != theirs
    assert same_on_all_ranks(SimpleNamespace(world_size=1), ours) == ours
    assert same_on_all_ranks(SimpleNamespace(world_size=2, strategy=strategy), ours) == theirs
