"""`kill -9` anywhere, and the same command again: no bit, no round and no row differs from a run never stopped."""

from __future__ import annotations

import random

import pytest
from runs_to_stop import EPOCHS, STEPS


def killed(codes):
    """Whether SIGKILL ended the run; a rank whose peer has gone may fail before it is killed too."""
    return -9 in codes and 0 not in codes


def check(study, kind, workers=0, ranks=1, **point):
    folder = study.folder()
    assert killed(study.run(folder, kind, workers, ranks, **point))
    study.check_resumes(folder, kind, workers, ranks)


POINTS = {
    "before anything was saved": {"at": "step", "number": 1},
    "in mid-epoch": {"at": "step", "number": 17},
    "last step of a round": {"at": "step end", "number": 3 * STEPS - 1},
    "first step of a round": {"at": "step", "number": 3 * STEPS},
    "half a checkpoint": {"at": "half", "file": "last.ckpt", "number": 7},
    "a whole checkpoint without its name": {"at": "whole", "file": "last.ckpt", "number": 10},
    "after the last checkpoint": {"at": "renamed", "file": "last.ckpt", "number": 24},
    "half a mask": {"at": "half", "file": ".mask.safetensors"},
    "a mask without its ticket": {"at": "renamed", "file": ".mask.safetensors"},
    "half a rewind checkpoint": {"at": "half", "file": "3it.ckpt"},
    "half a configuration": {"at": "half", "file": "config.yaml"},
}


@pytest.mark.parametrize("point", POINTS.values(), ids=list(POINTS))
def test_pruning_killed_anywhere(study, point):
    check(study, "imp", **point)


@pytest.mark.parametrize(
    ("kind", "workers", "ranks"), [("dense", 2, 1), ("sparse", 0, 1), ("imp", 0, 2), ("dst", 0, 1)]
)
def test_every_kind_killed_in_mid_epoch(study, kind, workers, ranks):
    check(study, kind, workers, ranks, at="step", number=STEPS + 6 if ranks == 1 else 8)


def random_point(generator, kind, ranks):
    steps = EPOCHS[kind] * STEPS // ranks
    at = generator.choice(["step", "step end", "half", "whole", "renamed"])
    return {"at": at, "number": generator.randrange(steps if "step" in at else steps // 3), "file": "last.ckpt"}


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", EPOCHS)
def test_random_kills(study, kind, workers, ranks):
    """Twelve runs of each kind, 192 in all, killed once or twice."""
    generator = random.Random(f"{kind} {workers} {ranks}")
    kills = 0
    for _ in range(12):
        folder = study.folder()
        assert killed(study.run(folder, kind, workers, ranks, **random_point(generator, kind, ranks)))
        kills += 1
        if generator.random() < 0.5:  # its point may lie behind it already
            kills += killed(study.run(folder, kind, workers, ranks, **random_point(generator, kind, ranks)))
        study.check_resumes(folder, kind, workers, ranks)
    print(f"{kind}, {workers} workers, {ranks} processes: {kills} kills, no difference")
