"""Loggers in a run's folder: what each of them hears, once and for all jobs of the run; and what opens none."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from remote import Remote
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rebasin_lt.cli import main
from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.experiment.loggers import named_loggers
from rebasin_lt.lit.callbacks.run_loggers import learning_rates
from rebasin_lt.lit.loggers import open_loggers

CSV = {"class_path": "CSVLogger", "init_args": {"save_dir": "run", "name": "csv"}}
TENSORBOARD = {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "run/tb", "name": "x"}}
REMOTE = {"class_path": "remote.Remote", "init_args": {"save_dir": "run/remote"}}
WANDB = {"class_path": "WandbLogger", "init_args": {"save_dir": "run", "offline": True}}
MLFLOW = {"class_path": "MLFlowLogger", "init_args": {"save_dir": "run/mlruns"}}
IMP = {"class_path": "IterativeMagnitudePruning", "init_args": {"targets": [0.4, 0.6], "epochs_per_round": 1}}


@pytest.fixture
def fit(tmp_path, monkeypatch):
    """Runs a fit of a small network on digits, five steps an epoch, in the folder `run`; returns its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rebasin-lt"])

    def run(loggers, *words, callbacks=(IMP,), stop=100, verb="fit", **trainer):
        stops = {"class_path": "foreign.StopAfter", "init_args": {"steps": stop}}
        settings = {"accelerator": "cpu", "max_epochs": -1 if IMP in callbacks else 3, "default_root_dir": "run"}
        settings |= {"logger": loggers, "callbacks": [*callbacks, stops], "log_every_n_steps": 3, **trainer}
        data = {"class_path": "Digits", "init_args": {"batch_size": 200, "val_size": 100}}
        content = {"model": {"class_path": "Classifier"}, "data": data, "trainer": settings}
        Path("x.yaml").write_text(yaml.safe_dump(content))
        return main([verb, "--config", "x.yaml", *words])

    return run


def contents(folder="."):
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock"}


def csv_rows(path):
    with Path(path).open(newline="") as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def points(rows, leave_out=("epoch",)):
    """(name, step) → value of every metric; refuses a doubled one."""
    found = {}
    for row in rows:
        for name in row.keys() - {"step", *leave_out}:
            assert (name, int(row["step"])) not in found, (name, row)
            found[name, int(row["step"])] = float(row[name])
    return found


def of_tensorboard(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    rows = [{"step": event.step, tag: event.value} for tag in events.Tags()["scalars"] for event in events.Scalars(tag)]
    return events, points(rows, ("epoch", "hp_metric"))


def of_remote(folder):
    (path,) = Path(folder).glob("*.json")
    return json.loads(path.read_text())


def test_several_loggers_in_the_folder_hear_the_same(fit):
    assert fit([CSV, TENSORBOARD, REMOTE]) == 0
    rows = points(csv_rows("run/csv/version_0/metrics.csv"))
    remote = of_remote("run/remote")
    events, scalars = of_tensorboard("run/tb/x/version_0")
    assert rows == pytest.approx(points(remote["metrics"]))
    assert scalars == pytest.approx(rows, rel=1e-6)
    assert {name for name, _ in rows} >= {
        *("train/loss", "val/top1", "learning_rate", "imp/round", "imp/sparsity"),
        *("mask/sparsity", "mask/layer_sparsity/layers.0.weight"),
    }
    assert rows["learning_rate", 0] == 0.08
    assert rows["mask/sparsity", 0] == 0
    assert remote["hyperparameters"]["model.learning_rate"] == 0.08
    assert remote["hyperparameters"]["callbacks.IterativeMagnitudePruning.epochs_per_round"] == 1
    assert yaml.safe_load(Path("run/csv/version_0/hparams.yaml").read_text()) == remote["hyperparameters"]
    assert [name for name, _ in remote["images"]] == ["mask/profile"]
    assert len(events.Images("mask/profile")) == 1


@pytest.mark.parametrize("logger", ["remote.Placed", {"class_path": "remote.Placed"}])
def test_a_default_place_is_in_the_runs_folder(fit, logger):
    assert fit(logger, callbacks=(), max_epochs=1) == 0
    assert len(list(Path("run/notes").glob("*.json"))) == 1
    assert not Path("notes").exists()


@pytest.mark.parametrize("loggers", [[CSV, TENSORBOARD, REMOTE], None, False])
def test_a_finished_run_given_again_opens_nothing(fit, loggers):
    assert fit(loggers) == 0
    before = contents()
    assert fit(loggers) == 0
    assert contents() == before


@pytest.mark.parametrize("callbacks", [(), (IMP,)])
def test_a_resumed_run_goes_on_in_the_same_run_without_doubled_points(fit, callbacks):
    """The run dies with points told that no checkpoint knows of."""
    assert fit([CSV, TENSORBOARD, REMOTE], callbacks=callbacks) == 0
    whole = points(csv_rows("run/csv/version_0/metrics.csv"))
    Path("run").rename("whole")
    for stop in (4, 13, 10):  # before there is a checkpoint, in mid-epoch, where an epoch ends
        stop_and_go_on(fit, callbacks, stop, whole)
        Path("run").rename(f"stopped-{stop}")
        Path("stopped").unlink()


def stop_and_go_on(fit, callbacks, stop, whole):
    assert fit([CSV, TENSORBOARD, REMOTE], callbacks=callbacks, stop=stop) == 1
    Path("stopped").touch()
    assert fit([CSV, TENSORBOARD, REMOTE], callbacks=callbacks, stop=stop) == 0
    assert [path.name for path in Path("run/csv").iterdir()] == ["version_0"]
    assert [path.name for path in Path("run/csv/version_0").iterdir() if "before" in path.name] == []
    assert [path.name for path in Path("run/tb/x").iterdir()] == ["version_0"]
    began = {
        ("mask/sparsity", (stop - 1) // 5 * 5),
        ("mask/layer_sparsity/layers.0.weight", (stop - 1) // 5 * 5),
    }  # shown when it goes on
    for resumed in (points(csv_rows("run/csv/version_0/metrics.csv")), of_tensorboard("run/tb/x/version_0")[1]):
        more = {point for point in resumed.keys() - whole.keys() if not point[0].startswith("mask/")}
        assert not more
        assert {point: resumed.get(point) for point in whole} == pytest.approx(whole, rel=1e-6)
        assert {step for _, step in resumed.keys() - whole.keys()} <= {step for _, step in began}
    assert of_remote("run/remote")["starts"] == 2


def test_the_test_of_a_run_is_told_to_the_loggers_of_the_run(fit):
    assert fit([CSV, TENSORBOARD, REMOTE]) == 0
    before = points(csv_rows("run/csv/version_0/metrics.csv"))
    assert main(["test", "--config", "run/config.yaml"]) == 0
    after = points(csv_rows("run/csv/version_0/metrics.csv"))
    assert {name for name, _ in after.keys() - before.keys()} == {"test/loss", "test/top1", "test/top5"}
    assert after.items() >= before.items()
    assert of_tensorboard("run/tb/x/version_0")[1] == pytest.approx(after, rel=1e-6)
    assert points(of_remote("run/remote")["metrics"]) == pytest.approx(after)


@pytest.mark.parametrize("words", [["--ckpt_path", "other.ckpt"], []])
def test_an_evaluation_that_is_no_part_of_the_run_opens_nothing(fit, words):
    assert fit([CSV, REMOTE], callbacks=()) == 0
    Path("other.ckpt").write_bytes(Path("run/last.ckpt").read_bytes())
    before = contents()
    assert main(["test" if words else "validate", "--config", "run/config.yaml", *words]) == 0
    assert {**contents(), "run/evaluations.json": b""} == {
        **before,
        "run/evaluations.json": b"",
    }  # which is no logger's


def test_a_refused_run_leaves_no_file_of_a_logger(fit, capsys):
    assert fit([CSV, TENSORBOARD, REMOTE], "--trainer.max_steps", "3") == 2
    assert "max_steps" in capsys.readouterr().err
    assert not Path("run").exists()


def test_callbacks_that_need_a_logger_before_training_find_one(fit):
    """Lightning's own monitors ask when they are set up; ModelCheckpoint takes its folder from the logger."""
    callbacks = [{"class_path": f"lightning.pytorch.callbacks.{name}"} for name in
                 ("LearningRateMonitor", "DeviceStatsMonitor", "ModelCheckpoint")]  # fmt: skip
    assert fit(CSV, callbacks=callbacks[:1] + callbacks[2:]) == 0
    assert any(name == "lr-SGD" for name, _ in points(csv_rows("run/csv/version_0/metrics.csv")))
    assert list(Path("run/checkpoints").glob("*.ckpt"))


def test_a_logger_that_is_told_where_and_which_is_left_alone(fit):
    named = {"class_path": "CSVLogger", "init_args": {"save_dir": "elsewhere", "name": "a", "version": "b"}}
    assert fit(named, callbacks=()) == 0
    assert not Path("run/loggers.json").exists()
    assert csv_rows("elsewhere/a/b/metrics.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no", "it names no versions of CSVLogger, Remote"),
        ("[]", "it names no versions of CSVLogger, Remote"),
        ('{"logger": 1}', "it names no versions"),
        ("[3, 4]", "it names no versions"),
        ('[{"logger": "CSVLogger", "version": "../../x"}, {"logger": "Remote"}]', "it holds the version '../../x'"),
        ('[{"logger": "CSVLogger", "version": [1]}, {"logger": "Remote"}]', "it holds the version [1]"),
        ('[{"logger": "CSVLogger", "version": true}, {"logger": "Remote"}]', "it holds the version True; remove it"),
    ],
)
def test_a_damaged_record_of_loggers_is_refused(tmp_path, content, message):
    (tmp_path / "loggers.json").write_text(content)
    with pytest.raises(BrokenFileError) as caught:
        open_loggers([(CSVLogger, {}), (Remote, {})], tmp_path)
    assert f"loggers.json is damaged: {message}" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["loggers.json"]


def test_rows_of_a_csv_file_survive_a_crash_while_it_is_written_anew(tmp_path):
    """The file was put aside, and the process ended before there was a new one; its last row was cut off."""
    named = [(CSVLogger, {"name": "csv", "version": 0})]
    folder = tmp_path / "csv/version_0"
    folder.mkdir(parents=True)
    (folder / "metrics.csv.before").write_text("loss,rate,step\n1.5,,0\n,0.1,1\n0.5,,2\n0.2,")
    (logger,) = open_loggers(named, tmp_path, step=2)
    assert csv_rows(folder / "metrics.csv") == [{"loss": "1.5", "step": "0"}, {"rate": "0.1", "step": "1"}]
    logger.log_metrics({"loss": 0.25}, step=2)
    logger.save()
    assert points(csv_rows(folder / "metrics.csv")) == {("loss", 0): 1.5, ("rate", 1): 0.1, ("loss", 2): 0.25}
    assert not (folder / "metrics.csv.before").exists()


def test_a_process_that_does_not_write_opens_nothing(tmp_path):
    loggers = open_loggers([(CSVLogger, {}), (TensorBoardLogger, {})], tmp_path, step=0, writes=False)
    assert [type(logger) for logger in loggers] == [CSVLogger, TensorBoardLogger]
    assert not list(tmp_path.iterdir())


def test_rates_of_several_groups_are_numbered():
    weights = [torch.zeros(2, requires_grad=True) for _ in range(3)]
    two = torch.optim.SGD([{"params": weights[:1], "lr": 1.0}, {"params": weights[1:2]}], lr=0.5)
    one = torch.optim.Adam(weights[2:], lr=torch.tensor(0.25))
    assert learning_rates([one]) == {"learning_rate": 0.25}
    assert learning_rates([two, one]) == {"learning_rate/0": 1.0, "learning_rate/1": 0.5, "learning_rate/2": 0.25}


PACKAGES = [("WandbLogger", "wandb"), ("MLFlowLogger", "mlflow"), ("CometLogger", "comet-ml")]


@pytest.mark.parametrize(("name", "package"), PACKAGES)
def test_a_missing_package_is_named_in_one_line(fit, capsys, monkeypatch, name, package):
    monkeypatch.setattr("rebasin_lt.experiment.loggers.find_spec", lambda _: None)
    message = f"is {name}, which needs a package: pip install {package}"
    with pytest.raises(InputError, match=f"recipe.trainer.logger {message}"):
        named_loggers({"class_path": name})
    assert main(["fit", "--config", "dense.yaml", "--trainer.logger", name]) == 2
    assert capsys.readouterr().err == f"rebasin-lt: error: trainer.logger {message}\n"


class Needy(CSVLogger):
    """A logger of somebody's, one of whose packages is missing."""

    def __init__(self, save_dir):
        raise ModuleNotFoundError("no module named needed")


def test_a_package_that_only_the_logger_knows_of_is_named_too(tmp_path):
    with pytest.raises(InputError, match="the logger Needy needs a package that is not installed: no module named nee"):
        open_loggers([(Needy, {})], tmp_path)


@pytest.mark.parametrize(("logger", "package"), [(WANDB, "wandb"), (MLFLOW, "mlflow")])
def test_the_real_ones_where_they_are_installed(fit, monkeypatch, logger, package):
    pytest.importorskip(package)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert fit([logger, CSV], callbacks=(IMP,), stop=13) == 1
    finish_wandb()
    (noted, _) = json.loads(Path("run/loggers.json").read_text())
    Path("stopped").touch()
    assert fit([logger, CSV], callbacks=(IMP,), stop=13) == 0
    assert json.loads(Path("run/loggers.json").read_text())[0] == noted
    before = {str(path) for path in Path("run").rglob("*")}
    assert fit([logger, CSV], callbacks=(IMP,), stop=13) == 0
    assert {str(path) for path in Path("run").rglob("*")} == before
    if package == "wandb":
        assert len(list(Path("run/wandb").glob(f"offline-run-*-{noted['version']}"))) == 2
    else:
        from mlflow import MlflowClient

        client = MlflowClient("file:run/mlruns")
        (run,) = client.search_runs([client.get_experiment_by_name("lightning_logs").experiment_id])
        assert run.info.run_id == noted["version"]
        assert run.data.params["model.learning_rate"] == "0.08"
        assert run.data.metrics.keys() >= {"learning_rate", "mask/sparsity", "imp/round", "val/top1"}
        assert [file.path for file in client.list_artifacts(noted["version"], "mask")] == ["mask/profile.png"]


def finish_wandb():
    """End the run that a crash left open, as the end of its process would."""
    import sys

    if "wandb" in sys.modules:
        sys.modules["wandb"].finish()
