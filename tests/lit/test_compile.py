"""`compile: true` changes how the network is computed, and nothing that one can find in a file."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.lit.checkpoint import load_network, read_checkpoint
from rebasin_lt.lit.classifier import Classifier, MaskedClassifier
from rebasin_lt.lit.data import Digits
from rebasin_lt.pruning.magnitude import magnitude_prune
from rebasin_lt.pruning.mask import Mask


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that torch.compile captures, which run as they are: no compiler is needed, and no bit changes."""
    captured = []
    compile_ = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: compile_(self, backend=lambda graph, _: keep(graph)))

    def keep(graph):
        captured.append(graph)
        return graph.forward

    yield captured
    torch._dynamo.reset()


def fit(trainer, folder, compile_network):
    torch.manual_seed(0)
    state = Classifier().net.state_dict()
    magnitude_prune(state, Mask.ones_like(state), 0.5).save(folder / "half.mask.safetensors")
    module = MaskedClassifier(str(folder / "half.mask.safetensors"), compile=compile_network)
    run = trainer(2)
    run.fit(module, Digits(batch_size=100, train_size=300))
    run.save_checkpoint(folder / f"{compile_network}.ckpt")
    return read_checkpoint(folder / f"{compile_network}.ckpt")


def test_a_compiled_network_trains_and_is_saved_as_any_other(trainer, tmp_path, graphs):
    plain = fit(trainer, tmp_path, False)
    assert not graphs
    compiled = fit(trainer, tmp_path, True)
    assert graphs
    assert list(compiled["state_dict"]) == list(plain["state_dict"])
    assert all(torch.equal(tensor, plain["state_dict"][name]) for name, tensor in compiled["state_dict"].items())
    seen = len(graphs)
    loaded = load_network(tmp_path / "True.ckpt")
    assert not loaded.network(torch.zeros(3, 1, 8, 8)).isnan().any()
    assert len(graphs) == seen  # it computes as it stands


def test_a_mode_of_the_compiler_reaches_it(trainer, tmp_path, monkeypatch):
    """The mode of CUDA graphs does nothing of its own on a CPU, and needs its compiler."""
    given = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **settings: given.append(settings))
    for chosen in (False, True, "reduce-overhead"):
        fit(trainer, tmp_path, chosen)
    assert given == [{}, {"mode": "reduce-overhead"}]


def test_cuda_graphs_and_accumulated_gradients_are_refused_together(trainer):
    run = trainer(1, accumulate_grad_batches=2)
    with pytest.raises(InputError, match="reduce-overhead, and trainer.accumulate_grad_batches is 2"):
        run.fit(Classifier(compile="reduce-overhead"), Digits(batch_size=100, train_size=300))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
def test_the_real_compiler_trains_the_same_network_up_to_rounding(trainer, tmp_path):
    plain, compiled = fit(trainer, tmp_path, False), fit(trainer, tmp_path, True)
    for name, tensor in compiled["state_dict"].items():
        torch.testing.assert_close(tensor, plain["state_dict"][name], rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()
