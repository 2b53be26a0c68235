import json
import math

import lightning
import pytest
import torch
from torch import nn

from rebasin_lt.cli import main
from rebasin_lt.report.analyses.symmetry import as_json, as_text, frozen_by_reason
from rebasin_lt.symmetry.rules import RULES
from rebasin_lt.symmetry.trace import infer_symmetry, trace_symmetry


class Net(nn.Module):
    """Two blocks of equal sizes, an unused layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(6, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 1)) for _ in range(3))
        self.head = nn.Linear(6, 5)
        self.unused = nn.Linear(7, 9)

    def forward(self, images):
        features = self.stem(images).relu()
        for block in self.blocks:
            features = features + block(features)
        return self.head(features.mean((2, 3)))


class OwnModule(lightning.LightningModule):
    """As a user would write it: the network in an attribute, hyperparameters saved, a metric in the loss."""

    def __init__(self, num_classes=4, width=1):
        super().__init__()
        self.save_hyperparameters()
        self.example_input_array = torch.randn(2, 3, 16, 16)
        self.network = nn.Sequential(
            nn.Conv2d(3, 8 * width, 3), nn.BatchNorm2d(8 * width), nn.ReLU(), nn.Flatten(), nn.LazyLinear(num_classes)
        )
        self.network(self.example_input_array)

    def forward(self, images):
        return self.network(images)

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def make_own_module(num_classes=4, input_shape=(3, 16, 16)):
    return OwnModule(num_classes)


@pytest.fixture(scope="module")
def symmetry():
    return trace_symmetry(Net(), torch.randn(2, 3, 8, 8))


def test_log10_symmetries_is_that_of_the_product_of_factorials(symmetry):
    exact = math.factorial(6) * math.factorial(4) ** 3
    assert math.isclose(symmetry.log10, math.log10(exact), rel_tol=1e-12)


def test_text_holds_every_group_the_totals_and_the_reasons(symmetry):
    lines = as_text(symmetry).splitlines()
    assert lines[0].split() == ["group", "units", "tensors", "groups"]
    assert lines[2].split() == ["stem.weight", "6", "12"]  # stem 2, each block 3, head 1
    assert lines[3].split() == ["blocks.{0-2}.0.weight", "4", "3", "3"]
    text = "\n".join(lines)
    assert "4 groups of 18 units, 10^7 permutations" in text
    assert f"{math.floor(symmetry.coverage * 1e4) / 100:.2f} %" in text
    assert "relative error of" in text
    assert "3 × not used in evaluation mode: unused.weight, unused.bias" in text
    assert "2 × an output of the network: head.weight, head.bias" in text


def test_names_that_differ_in_two_numbers_do_not_share_a_line():
    class Grid(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.ModuleList(nn.ModuleList(nn.Linear(5, 5) for _ in range(2)) for _ in range(3))

        def forward(self, inputs):
            for row in self.rows:
                for layer in row:
                    inputs = layer(inputs).relu()
            return inputs

    text = as_text(infer_symmetry(Grid(), torch.randn(2, 5)))
    assert "rows.{0-2}.0.weight" in text
    assert "rows.{0,1}.1.weight" in text  # the last one's units are the network's outputs
    assert "5 groups of 25 units" in text
    assert "Not verified" in text


def test_coverage_is_not_rounded_up_to_all():
    symmetry = infer_symmetry(
        nn.Sequential(nn.Linear(4, 300), nn.Linear(300, 300), nn.Linear(300, 2)), torch.ones(2, 4)
    )
    assert 0.99995 < symmetry.coverage < 1  # the two biases of the outputs stay
    assert "move 99.99 % of" in as_text(symmetry)


def test_tied_parameters_are_described_and_verified():
    network = nn.Sequential(nn.Linear(5, 5), nn.LayerNorm(5), nn.Linear(5, 5), nn.LayerNorm(5), nn.Linear(5, 2))
    network[2].weight = network[0].weight
    network[3].weight = network[1].weight  # constant too
    symmetry = trace_symmetry(network, torch.randn(2, 5))
    assert symmetry.error <= 1e-9
    assert "Verified" in as_text(symmetry)


def test_json_has_the_same_with_all_names(symmetry):
    found = json.loads(as_json(symmetry))
    assert {name: group["units"] for name, group in found["groups"].items()} == dict(symmetry.groups)
    assert found["groups"]["blocks.1.0.weight"]["tensors"] == [
        "blocks.1.0.weight",
        "blocks.1.0.bias",
        "blocks.1.2.weight",
    ]
    assert (found["num_groups"], found["num_units"]) == (4, 18)
    assert found["coverage"] == symmetry.coverage
    assert found["log10_symmetries"] == symmetry.log10
    assert found["error"] == symmetry.error
    assert found["unknown"] == {}
    assert sum(len(entry["axes"]) for entry in found["frozen"]) == len(symmetry.frozen)


def test_nested_groups_show_with_the_units_around_them():
    network = nn.Sequential(nn.Conv2d(2, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 1, groups=2), nn.ReLU(), nn.Conv2d(4, 3, 1))
    symmetry = trace_symmetry(network, torch.randn(2, 2, 5, 5))
    lines = [line.split() for line in as_text(symmetry).splitlines()]
    assert ["0.weight[1]", "2", "×", "3", "3"] in lines  # in each of the two groups, three inputs
    assert ["2.weight", "2", "×", "2", "3"] in lines
    assert math.isclose(symmetry.log10, math.log10(2 * 6**2 * 2**2))
    assert "3 groups of 12 units" in as_text(symmetry)
    found = json.loads(as_json(symmetry))
    assert found["groups"]["2.weight"] == {
        "units": 2,
        "within": ["0.weight"],
        "tensors": ["2.weight", "2.bias", "4.weight"],
    }
    assert "within" not in found["groups"]["0.weight"]


def test_an_operator_without_a_rule_is_named():
    without = {name: rule for name, rule in RULES.items() if name not in ("relu", "pointwise")}
    symmetry = infer_symmetry(
        nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), torch.randn(2, 4), rules=without
    )
    assert "operator relu has no rule" in as_text(symmetry)
    assert json.loads(as_json(symmetry))["unknown"] == {"relu": "operator relu has no rule"}
    assert "0 groups of 0 units, 10^0 permutations" in as_text(symmetry)


def test_frozen_axes_are_gathered_by_reason_the_most_frequent_first(symmetry):
    counts = [len(entries) for entries in frozen_by_reason(symmetry.frozen).values()]
    assert sum(counts) == len(symmetry.frozen)
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize("factory", ["OwnModule", "make_own_module"])
def test_the_command_takes_a_lightning_module_of_ones_own(factory, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "own_networks", sys.modules[__name__])
    assert main(["symmetry", "--model", f"own_networks:{factory}", "--input-shape", "3,16,16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["groups"]) == {"network.0.weight"}
    assert found["error"] <= 1e-9


def test_a_lightning_module_keeps_its_trainer_and_mode(tmp_path):
    module = OwnModule()
    data = torch.utils.data.TensorDataset(torch.randn(4, 3, 16, 16), torch.arange(4))
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        log_every_n_steps=1,
    )
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=4))
    module.train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    symmetry = trace_symmetry(module, torch.randn(2, 3, 16, 16))
    assert symmetry.groups == {"network.0.weight": 8}
    assert symmetry.error <= 1e-9
    assert module.trainer is trainer
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_the_command_prints_the_table(capsys):
    assert main(["symmetry", "--model", "torchvision:squeezenet1_1", "--input-shape", "3,64,64"]) == 0
    text = capsys.readouterr().out
    assert "features.0.weight" in text
    assert "Verified" in text


def test_the_command_knows_the_size_that_inception_takes():
    from rebasin_lt.models.registry import default_input_shape

    assert default_input_shape("torchvision:inception_v3") == (3, 299, 299)
    assert default_input_shape("torchvision:resnet18") == (3, 224, 224)


def test_hidden_units_that_stay_fixed_are_told_by_layer_with_the_reason():
    class Ordered(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Linear(3, 6), nn.Linear(6, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.last(self.second(self.first(x).cumsum(1)).tanh())

    symmetry = infer_symmetry(Ordered(), torch.randn(2, 3))
    assert "Hidden units that stay fixed\n  6 of first.weight: cumsum in their order\n" in as_text(symmetry)
    told = json.loads(as_json(symmetry))["hidden_fixed"]
    assert {"name": "first.weight", "axis": 0, "units": 6, "reason": "cumsum in their order"} in told
    plain = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
    assert "Hidden units" not in as_text(infer_symmetry(plain, torch.randn(2, 3)))
