"""What a user can get wrong: one line, the right exit code, and nothing written."""

import shutil
from pathlib import Path

import pytest
import torch

from rebasin_lt.cli import main
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.pruning.mask import Mask, prunable_names
from rebasin_lt.symmetry.trace import trace_symmetry


class Evil:
    def __reduce__(self):
        import os

        return os.mkdir, ("evil",)


def checkpoint(path, **settings):
    """A checkpoint of an untrained network, as ours look."""
    module = Classifier(**settings)
    about = {"format_version": 1, **module.architecture(), "data": {"name": "digits"}}
    torch.save({"state_dict": module.state_dict(), "rebasin_lt": about}, path)
    return module


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    a = checkpoint(folder / "a.ckpt")
    checkpoint(folder / "b.ckpt")
    checkpoint(folder / "wide.ckpt", width=2)
    checkpoint(folder / "conv.ckpt", arch="resnet20", input_shape=[1, 8, 8])
    state = a.net.state_dict()
    names = prunable_names(a.net)
    Mask.ones_like(state, names).save(folder / "good.mask.safetensors")
    Mask({"other.weight": torch.ones(2, 2, dtype=torch.bool)}).save(folder / "name.mask.safetensors")
    Mask({names[0]: torch.ones(2, 2, dtype=torch.bool)}).save(folder / "shape.mask.safetensors")
    trace_symmetry(a.net, torch.zeros(2, 1, 8, 8)).random().save(folder / "pi.perm.safetensors")
    conv = Classifier(arch="resnet20", input_shape=[1, 8, 8]).net
    trace_symmetry(conv, torch.zeros(2, 1, 8, 8)).random().save(folder / "conv.perm.safetensors")
    whole = (folder / "a.ckpt").read_bytes()
    (folder / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (folder / "cut.mask.safetensors").write_bytes((folder / "good.mask.safetensors").read_bytes()[:50])
    (folder / "empty.ckpt").write_bytes(b"")
    torch.save({"state_dict": {"x": Evil()}}, folder / "evil.ckpt")
    plain = {name: tensor.clone() for name, tensor in state.items()}
    torch.save(plain, folder / "plain.pt")
    (folder / "broken.yaml").write_text("model: [1")
    (folder / "other").mkdir()
    (folder / "other" / "config.yaml").write_text("ckpt_a: elsewhere.ckpt\n")
    (folder / "strange").mkdir()
    (folder / "strange" / "thesis.tex").write_text("precious")
    return folder


ANALYSE = "mask --mask good.mask.safetensors"
CONTROL, OWN = "control --out new.mask.safetensors", "--mask good.mask.safetensors"
MATCH = "permute --ckpt-a a.ckpt --ckpt-b b.ckpt"
BARRIER = "barrier --ckpt-a a.ckpt --ckpt-b b.ckpt"
PLANE = "landscape --ckpt-a a.ckpt --ckpt-b b.ckpt --permutation pi.perm.safetensors"
DENSE = "fit --config dense.yaml --trainer.default_root_dir new"
SPARSE = f"{DENSE} --model MaskedClassifier --model.arch mlp"
IMP = "fit --config imp.yaml --trainer.default_root_dir new --model.init_from a.ckpt --trainer.callbacks.init_args"
CASES = [
    ("symmetry --model resnet21", 2, "model is 'resnet21', which is not known"),
    ("symmetry --model torchvision:nope", 2, "nope"),
    ("symmetry --model nowhere:factory", 2, "cannot be imported"),
    ("symmetry --model mlp --input-shape 8,8", 2, "--input-shape is '8,8', expected channels,height,width"),
    ("symmetry --model mlp --width 0.001", 2, "width"),
    ("symmetry", 2, "model"),
    ("nonsense", 2, "nonsense"),
    (f"{MATCH} --out new --nothing 1", 2, "nothing"),
    (f"{DENSE} --model.arch mlpp", 2, "model is 'mlpp', which is not known (did you mean mlp?)"),
    (f"{DENSE} --data Nope", 2, "data: 'Nope' is no known class"),
    (f"{MATCH} --out new --data nope", 2, "nope"),
    (f"{DENSE} --data CIFAR10 --data.root nowhere --model.arch resnet20", 2, "nowhere"),
    (f"{DENSE} --data FashionMNIST --data.root nowhere", 2, "nowhere"),
    (f"{DENSE} --data ImageFolder --data.root nowhere", 2, "nowhere"),
    (f"{DENSE} --model.learning_rat 3", 2, "Option 'learning_rat' is not accepted (did you mean learning_rate?)"),
    (f"{DENSE} --data.batchsize 3", 2, "Option 'batchsize' is not accepted (did you mean batch_size?)"),
    (f"{DENSE} --model.quux 3", 2, "Option 'quux' is not accepted\n"),
    (f"{DENSE} --modle Classifier", 2, "unrecognized arguments: --modle Classifier (did you mean --model?)"),
    (f"{DENSE} --quux 3", 2, "unrecognized arguments: --quux 3\n"),
    (
        f"{IMP}.epochs_per_rond 1",
        2,
        "by IterativeMagnitudePruning, the last of the list, which options go to: set another's in a file (did you",
    ),
    (
        f"{SPARSE} --model.mask good.mask.safetensors --model.arch mlp --data.mask 1",
        2,
        "Option 'mask' is not accepted\n",
    ),
    (f"{MATCH} --out new --ckpt-aa a.ckpt", 2, "--ckpt_aa a.ckpt (did you mean --ckpt-a?)"),
    (f"{MATCH} --outt new", 2, "--outt new (did you mean --out?)"),
    (f"{DENSE} --model.learning_rate fast", 2, "model.learning_rate: Expected a float. Got value: fast"),
    (f"{DENSE} --trainer.max_epoch 3", 2, "--trainer.max_epoch 3 (did you mean --trainer.max_epochs?)"),
    (f"{DENSE} --trainer.max_epochs 3", 2, "rewind moment 5ep is step 100, after the end of training at step 60"),
    (f"{DENSE} --trainer.callbacks.init_args.at [soon]", 2, "moment 'soon' is not understood"),
    (
        f"{DENSE} --trainer.devices 0",
        2,
        "error: `Trainer(devices='0')` value is not a valid input using cpu accelerator",
    ),
    (f"{DENSE} --model.num_classes 7", 2, "model.num_classes is 7, the data has 10 classes"),
    (f"{DENSE} --model.init_from wide.ckpt", 2, "wide.ckpt has width 2, this network has 1"),
    (f"{DENSE} --model.init_from conv.ckpt", 2, "conv.ckpt has arch resnet20, this network has mlp"),
    (f"{DENSE} --model.init_from none.ckpt", 2, "checkpoint none.ckpt does not exist"),
    (f"{DENSE} --model.init_from cut.ckpt", 1, "cut.ckpt is not a readable checkpoint"),
    (f"{DENSE} --model.init_from empty.ckpt", 1, "empty.ckpt is not a readable checkpoint"),
    (f"{DENSE} --model.init_from evil.ckpt", 1, "evil.ckpt holds pickled Python objects, which are never loaded"),
    (f"{IMP}.targets [0.9,0.8]", 2, "imp targets are [0.9, 0.8], expected increasing sparsities"),
    (f"{IMP}.targets [0.9,1.0]", 2, "imp targets are [0.9, 1.0], expected sparsities between 0 and 1"),
    (f"{IMP}.targets [-0.1]", 2, "expected sparsities between 0 and 1"),
    (f"{IMP}.fraction 1.5", 2, "imp fraction is 1.5, expected a number between 0 and 1"),
    (f"{IMP}.epochs_per_round 0", 2, "imp epochs_per_round is 0, expected at least 1"),
    (f"{IMP}.after_prune rewind_lr", 2, "which needs rewind_from"),
    (f"{SPARSE} --model.mask none.safetensors", 2, "mask file none.safetensors does not exist"),
    (f"{SPARSE} --model.mask name.mask.safetensors", 2, "mask names other.weight, which the network does not have"),
    (f"{SPARSE} --model.mask shape.mask.safetensors", 2, "has shape (2, 2), the network has (64, 64)"),
    (f"{SPARSE} --model.mask cut.mask.safetensors", 1, "cut.mask.safetensors is not a readable safetensors file"),
    (f"{SPARSE} --model.mask a.ckpt", 1, "a.ckpt is not a readable safetensors file"),
    ("fit --config nothing.yaml", 2, "--config nothing.yaml: no such file here"),
    ("fit --config broken.yaml", 2, ""),
    ("fit --config dense.yaml --trainer.default_root_dir other", 2, "output folder other holds another run"),
    ("fit --config dense.yaml --trainer.default_root_dir strange", 2, "strange holds files but no config.yaml"),
    ("fit --config dense.yaml --trainer.default_root_dir a.ckpt", 2, "output folder a.ckpt is a file"),
    ("test --config dense.yaml --trainer.default_root_dir new", 2, "there is no new/last.ckpt to test"),
    ("permute --ckpt-a a.ckpt --ckpt-b none.ckpt --out new", 2, "checkpoint none.ckpt does not exist"),
    ("permute --ckpt-a a.ckpt --ckpt-b conv.ckpt --out new", 2, "has arch mlp and --ckpt-b conv.ckpt has resnet20"),
    ("permute --ckpt-a a.ckpt --ckpt-b wide.ckpt --out new", 2, "has width 1 and --ckpt-b wide.ckpt has 2"),
    ("permute --ckpt-a plain.pt --ckpt-b plain.pt --out new", 2, "plain.pt does not say which network it holds"),
    ("permute --ckpt-a plain.pt --ckpt-b plain.pt --model mlp --out new", 2, "give --data NAME"),
    ("permute --ckpt-a cut.ckpt --ckpt-b a.ckpt --out new", 1, "cut.ckpt is not a readable checkpoint"),
    ("permute --ckpt-a evil.ckpt --ckpt-b a.ckpt --out new", 1, "holds pickled Python objects"),
    (f"{MATCH} --out new --masks name.mask.safetensors", 2, "mask names other.weight"),
    (f"{MATCH} --out new --masks shape.mask.safetensors", 2, "has shape (2, 2), the network has (64, 64)"),
    (f"{MATCH} --out new --masks none.safetensors", 2, "mask file none.safetensors does not exist"),
    (f"{MATCH} --out new --masks good.mask.safetensors good.mask.safetensors", 2, "share a file name"),
    (f"{MATCH} --out new --num-alphas 2", 2, "alphas is 2, expected 0 (no barrier) or at least 3"),
    (f"{MATCH} --out new --num-images 5000", 2, "num_images is 5000, but train of digits has 1000 images"),
    (f"{MATCH} --out new --num-images 0", 2, "num_images is 0"),
    (f"{MATCH} --out new --batch-size 0", 2, "batch_size is 0"),
    (f"{MATCH} --out new --seed -1", 2, "--seed is -1, expected at least 0"),
    (f"{MATCH} --out new --method simplex", 2, "--method is 'simplex', which is not known: expected activations"),
    (f"{MATCH} --out new --method frank_wolfe --objective raw", 2, "--objective is raw, but --method frank_wolfe"),
    (f"{MATCH} --out new --method frank_wolfe --stream last", 2, "--stream is last, but --method frank_wolfe"),
    (f"{MATCH} --out new --method frank_wolfe --preset paper", 2, "--preset is paper, but --method frank_wolfe"),
    (f"{MATCH} --out new --method frank_wolfe --augment", 2, "--augment is True, but --method frank_wolfe"),
    (
        f"{MATCH} --out new --method coordinate_descent --weight-mix 0.5",
        2,
        "--weight-mix is 0.5, but --method coordinate_descent has no use for it: leave it out",
    ),
    (
        f"{MATCH} --out new --method frank_wolfe --num-alphas 0 --num-images 50",
        2,
        "--num-images is 50, but --method frank_wolfe with --num-alphas 0 looks at no image: leave it out",
    ),
    (
        f"{MATCH} --out new --method frank_wolfe --num-alphas 0 --data digits",
        2,
        "--data is digits, but --method frank_wolfe",
    ),
    (f"{MATCH} --out new --method frank_wolfe --num-alphas 0 --root x", 2, "--root is x, but --method frank_wolfe"),
    (f"{MATCH} --out new --weight-mix 2", 2, "weight_mix is 2.0, expected a number from 0 (activations) to 1"),
    (f"{MATCH} --out new --preset paper --stream last", 2, "stream is 'last', but preset 'paper' sets it"),
    (f"{MATCH} --out new --preset paper --batch-size 1", 2, "--batch-size is 1, which leaves one of 1000 images alone"),
    (
        f"{MATCH} --out new --preset paper --num-images 501",
        2,
        "--batch-size is 500, which leaves one of 501 images alone: --preset paper takes batches of at least 2",
    ),
    (f"{MATCH} --out new --device warp", 2, "device 'warp' cannot be used here"),
    (
        f"{MATCH} --out other",
        2,
        "output folder other holds another run: width is not set there and 1 here",
    ),
    (f"{MATCH} --out strange", 2, "strange holds files but no config.yaml"),
    (f"{MATCH} --out a.ckpt", 2, "output folder a.ckpt is a file"),
    ("diversity --checkpoints x=a.ckpt y=none.ckpt --out new", 2, "checkpoint none.ckpt does not exist"),
    ("diversity --checkpoints x=a.ckpt y=wide.ckpt --out new", 2, "has width 1 and --checkpoints y 1 wide.ckpt has 2"),
    ("diversity --checkpoints x=plain.pt --model mlp --out new", 2, "--checkpoints x 1 plain.pt does not say what"),
    ("diversity --checkpoints x=a.ckpt --out strange", 2, "strange holds files but no config.yaml"),
    ("diversity --checkpoints x=a.ckpt --out new --device warp", 2, "device 'warp' cannot be used here"),
    ("ensemble --out new --members 1", 2, "--members is 1, expected at least 2"),
    ("ensemble --out new --members 3 --dense a b", 2, "--members is 3, but --dense names 2 runs"),
    ("ensemble --out new --mask good.mask.safetensors", 2, "needs --dense-a"),
    ("ensemble --out other", 2, "other holds a run that is no study"),
    (f"{BARRIER} --out new --num-alpha 5", 2, "unrecognized arguments: --num_alpha 5 (did you mean --num-alphas?)"),
    (f"{BARRIER} --out new --num-alphas 2", 2, "--num-alphas is 2, expected at least 3"),
    (f"{BARRIER} --out new --splits val", 2, "one of --splits is 'val', which is not known: expected train, test"),
    (f"{BARRIER} --out new --splits=", 2, "one of --splits is '', which is not known: expected train, test"),
    (
        f"{BARRIER} --out new --corrections none,reset",
        2,
        "one of --corrections is 'reset', which is not known (did you mean bn_reset?): expected none, bn_reset",
    ),
    (f"{BARRIER} --out new --corrections bn_reset", 2, "holds bn_reset, which is not for a network without batch norm"),
    (
        "barrier --ckpt-a conv.ckpt --ckpt-b conv.ckpt --out new --corrections repair",
        2,
        "holds repair, which is not for a network with batch norm such as this ResNetCifar: choose from none, bn_reset",
    ),
    (f"{BARRIER} --out new --permutation none.perm", 2, "permutation none.perm does not exist"),
    (f"{BARRIER} --out new --permutation a.ckpt", 1, "a.ckpt is not a readable safetensors file"),
    (f"{BARRIER} --out new --permutation conv.perm.safetensors", 2, "permutation"),
    (f"{BARRIER} --out new --masks shape.mask.safetensors", 2, "has shape (2, 2), the network has (64, 64)"),
    (f"{BARRIER} --out new --masks {' '.join(['good.mask.safetensors'] * 3)}", 2, "--masks has 3 files, expected one"),
    (f"{BARRIER} --out new --num-test-images 501", 2, "num_images is 501, but test of digits has 500 images"),
    (f"{BARRIER} --out other", 2, "output folder other holds another run"),
    ("landscape --out new", 2, "expected --ckpt-a, --ckpt-b and --permutation, or --two-weights alone"),
    (
        "landscape --two-weights --ckpt-a a.ckpt --out new",
        2,
        "--two-weights trains its own networks, but --ckpt-a is a.ckpt: give one or the other",
    ),
    ("landscape --two-weights --out other", 2, "output folder other holds another run"),
    (f"{PLANE} --out new --num-points 2", 2, "points is 2, expected at least 3"),
    (f"{PLANE} --out new --margin -1", 2, "margin is -1.0, expected at least 0"),
    ("mask --mask none.safetensors --out new", 2, "mask file none.safetensors does not exist"),
    ("mask --mask cut.mask.safetensors --out new", 1, "cut.mask.safetensors is not a readable safetensors file"),
    (f"{ANALYSE} --out new --others shape.mask.safetensors", 2, "masks name different parameters"),
    (f"{ANALYSE} --out new --others good.mask.safetensors good.mask.safetensors", 2, "good.mask.safetensors twice"),
    (f"{ANALYSE} --out new --ckpt conv.ckpt", 2, "which the network does not have"),
    ("mask --mask shape.mask.safetensors --out new --ckpt a.ckpt", 2, "has shape (2, 2), the network has (64, 64)"),
    (f"{ANALYSE} --out new --ckpt plain.pt", 2, "plain.pt does not say which network it holds"),
    (f"{ANALYSE} --out other", 2, "output folder other holds another run"),
    (f"{ANALYSE} --out strange", 2, "strange holds files but no config.yaml"),
    (f"{CONTROL} --kind shufled", 2, "--kind is 'shufled', which is not known (did you mean shuffled?)"),
    (f"{CONTROL} --kind shuffled", 2, "--kind shuffled needs --mask: give the mask file to start from"),
    (f"{CONTROL} --kind shuffled {OWN} --ckpt a.ckpt", 2, "--ckpt is a.ckpt, but --kind shuffled does not use it"),
    (f"{CONTROL} --kind magnitude {OWN} --ckpt a.ckpt --seed 1", 2, "--seed is 1, but --kind magnitude does not use"),
    (
        f"{CONTROL} --kind synflow {OWN} --ckpt a.ckpt --num-images 9",
        2,
        "--num-images is 9, but --kind synflow does",
    ),
    (f"{CONTROL} --kind magnitude {OWN}", 2, "--kind magnitude needs --ckpt: give a checkpoint of the network"),
    (f"{CONTROL} --kind erk", 2, "takes its sparsity from --mask or from --sparsity: neither is given"),
    (f"{CONTROL} --kind erk {OWN} --sparsity 0.9", 2, "from --mask or from --sparsity: both are given"),
    (f"{CONTROL} --kind erk --sparsity 0.9", 2, "--sparsity is 0.9, but of which weights? give --ckpt, or --mask"),
    (f"{CONTROL} --kind erk {OWN} --ckpt a.ckpt", 2, "but --kind erk does not use it beside --mask: leave it out"),
    (f"{CONTROL} --kind erk --sparsity 1.5 --ckpt a.ckpt", 2, "sparsity is 1.5, expected at least 0 and below 1"),
    (f"{CONTROL} --kind mix {OWN} --ckpt a.ckpt --share 2", 2, "share is 2.0, expected a number from 0 (the mask)"),
    (f"{CONTROL} --kind mix --mask shape.mask.safetensors --ckpt a.ckpt", 2, "has shape (2, 2), the network has"),
    (f"{CONTROL} --kind snip {OWN} --ckpt a.ckpt --num-images 5000", 2, "num_images is 5000, but train of digits has"),
    (f"{CONTROL} --kind snip {OWN} --ckpt plain.pt --model mlp", 2, "give --data NAME"),
    (f"control --out other --kind shuffled {OWN}", 2, "--out other is a folder, expected a file such as other/control"),
    (f"control --out good.mask.safetensors --kind shuffled {OWN}", 2, "stage is not set there and control here"),
    ("report", 2, "the following arguments are required: report.dir"),
    ("report none", 2, "none holds no study: there is no config.yaml in it"),
    ("report other", 2, "other holds a run that is no study: its config.yaml has no recipe"),
    ("report other --out a.ckpt", 2, "--out a.ckpt is a file, expected a folder for the report"),
    ("demo --out other", 2, "other holds a run that is no study: its config.yaml has no recipe"),
    ("demo --out new --num-seeds 0", 2, "--num-seeds is 0, expected at least 1"),
    ("demo --out new --num-seeds many", 2, "num_seeds: Expected a int. Got value: many"),
]


@pytest.mark.parametrize(("command", "code", "text"), CASES, ids=[case[0] for case in CASES])
def test_bad_input_is_one_line_and_writes_nothing(files, tmp_path, monkeypatch, capsys, command, code, text):
    here = tmp_path / "here"
    shutil.copytree(files, here)
    monkeypatch.chdir(here)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    monkeypatch.setattr("sys.argv", ["rebasin-lt"])
    assert main(command.split()) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("rebasin-lt: error: ")
    assert captured.err.count("\n") == 1
    assert text in captured.err
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
    assert not Path("evil").exists()
