"""The plan of a study: which stages there are, each once, after what it needs, in which folder."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from shipped_studies import STUDIES, read

from rebasin_lt.experiment.controls import CONTROLS
from rebasin_lt.experiment.methods import control_methods, fixed_methods
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.study.grid import Study
from rebasin_lt.study.plan import KINDS, plan
from rebasin_lt.study.stage import stage_seed

SMALL = Study(
    title="small",
    recipe=Recipe(targets=(0.5, 0.75), fraction=0.5, rewinds=("0it", "2ep"), dense_epochs=4, epochs_per_round=1),
    seeds=[0, 1],
    widths=[1, 0.5],
    methods=[*fixed_methods(), "permuted", *control_methods()],
)


def grown(study, **changes):
    return plan(replace(study, **changes))


def test_the_plan_of_resnet20_cifar10_is_the_one_counted_by_hand():
    """4 widths × 3 seeds = 12 repetitions.

    Of each: dense A and B; the chain of A and, for b_imp, of B; 2 matchings and a barrier for each; the masks of 4
    controls, none of which looks at rewound weights; 9 methods × 4 sparsities × 6 rewind points = 216 sparse runs.

    A chain has 8 rounds to .80 (.8^7 = .210 is not yet .20), 4 to .90 (.2 · .8^3 = .102), 4 to .95, 3 to .97
    (.05 · .8^2 = .032): 19 rounds of 50 epochs. Sparse runs from 0it, 1ep, 10ep, 25ep, 50ep and 100ep take 200, 199,
    190, 175, 150 and 100 epochs, 1,014 in all, for each of 9 × 4.
    """
    stages = plan(read("studies/resnet20_cifar10.yaml"))
    counts = Counter(stage.kind for stage in stages.values())
    assert counts == {"dense": 24, "imp": 24, "match": 24, "barrier": 24, "control": 48, "sparse": 2592}
    assert len(stages) == 2736
    epochs = Counter()
    for stage in stages.values():
        epochs[stage.kind] += stage.epochs
    assert {kind: count for kind, count in epochs.items() if count} == {
        "dense": 12 * 2 * 200,
        "imp": 12 * 2 * 19 * 50,
        "sparse": 12 * 9 * 4 * 1014,
    }
    assert sum(epochs.values()) == 4_800 + 22_800 + 438_048 == 465_648


def test_each_dense_network_is_trained_once():
    dense = [stage for stage in plan(read("studies/resnet20_cifar10.yaml")).values() if stage.kind == "dense"]
    trained = [(stage.width, stage.settings["repetition"], stage.settings["role"]) for stage in dense]
    assert sorted(trained) == sorted({(w, seed, role) for w in (1, 4, 8, 16) for seed in (0, 1, 2) for role in "ab"})
    assert len({(stage.width, stage.settings["seed"]) for stage in dense}) == 24  # none starts as another does


@pytest.mark.parametrize("name", STUDIES)
def test_a_stage_comes_after_what_it_needs(name):
    before = set()
    for path, stage in plan(read(name)).items():
        assert stage.path == path
        assert stage.kind in KINDS
        assert set(stage.needs) <= before
        assert len(set(stage.needs)) == len(stage.needs)
        before.add(path)


@pytest.mark.parametrize("name", STUDIES)
def test_folders_can_be_read(name):
    number, moment = r"\d+(\.\d+)?", r"\d+(it|ep)"
    cell = rf"method=\w+(\+mask|\+own(@{moment})?)?,sparsity={number},rewind={moment}"
    parts = rf"dense_[ab]|imp_[ab]|match/\w+|barrier/\w+|controls/\w+(,rewind={moment})?|sparse/{cell}"
    member = rf"member=\d+/(match/\w+|sparse/{cell})|sparsity={number},rewind={moment},members=\d+"
    for path in plan(read(name)):
        assert re.fullmatch(rf"width={number}/(seed=\d+/({parts})|diversity/({member}))", path), path


def test_folders_say_what_lies_in_them():
    stages = plan(SMALL)
    assert "width=0.5/seed=1/sparse/method=permuted,sparsity=0.75,rewind=2ep" in stages
    assert "width=1/seed=0/controls/snip,rewind=0it" in stages
    assert "width=1/seed=0/controls/erk" in stages


def test_one_chain_serves_all_sparsities_moments_and_methods():
    stages = plan(SMALL)
    chains = {path: stage for path, stage in stages.items() if stage.kind == "imp"}
    assert len(chains) == 2 * 2 * 2  # widths × seeds × roles
    chain = chains["width=1/seed=0/imp_a"]
    assert chain.epochs == 2  # .5 and .75 are two halvings of one epoch each
    assert chain.outputs == (
        "final.ckpt",
        *("imp/sparsity-0.5.mask.safetensors", "imp/sparsity-0.5.ckpt"),
        *("imp/sparsity-0.75.mask.safetensors", "imp/sparsity-0.75.ckpt"),
    )
    own = [stage for path, stage in stages.items() if path.startswith("width=1/seed=0/sparse/")]
    from_a = [stage for stage in own if stage.settings["mask"].startswith("width=1/seed=0/imp_a/")]
    assert {stage.settings["method"] for stage in from_a} == {"lth", "naive"}
    assert len(from_a) == 2 * 2 * 2  # methods × sparsities × moments


def test_a_control_is_made_once_unless_it_looks_at_the_rewound_weights():
    names = [path.rpartition("/")[2] for path, stage in plan(SMALL).items() if stage.kind == "control"]
    once = {"random_permutation", "shuffled", "degree_preserving", "uniform", "erk", "b_magnitude"}
    by_moment = {f"{name},rewind={moment}" for name in ("snip", "grasp", "synflow") for moment in ("0it", "2ep")}
    assert Counter(names) == dict.fromkeys(once | by_moment, 4)  # widths × seeds


def test_more_of_an_axis_leaves_the_other_stages_as_they_are():
    stages = plan(SMALL)
    for changes in (
        {"seeds": [0, 1, 2]},
        {"widths": [1, 0.5, 2]},
        {"matchers": {"permuted": {}, "paper": {"preset": "paper"}}},
        {"barrier": {}},
        {"diversity": {}},
    ):
        more = grown(SMALL, **changes)
        assert {path: more[path] for path in stages} == stages
        assert len(more) > len(stages)
    fewer = grown(SMALL, methods=["lth"])
    assert fewer.items() <= stages.items()
    assert Counter(stage.kind for stage in fewer.values()) == {"dense": 8, "imp": 4, "match": 4, "sparse": 16}


def test_a_method_is_trained_in_the_cells_that_only_names_and_every_other_one_in_all():
    whole = plan(SMALL)
    only = {
        "permuted": {"sparsities": [0.75], "rewinds": ["2ep"]},
        "b_imp": {"widths": [1]},
        "snip": {"rewinds": ["0it"]},
    }
    some = grown(SMALL, only=only)
    assert some.items() <= whole.items()
    gone = [whole[path] for path in whole if path not in some]
    expected = {"permuted": 2 * 2 * 3, "b_imp": 2 * 4, "snip": 2 * 2 * 2}  # widths × seeds × cells
    assert Counter(stage.settings["method"] for stage in gone if stage.kind == "sparse") == expected
    others = Counter(path.rpartition("/")[2] for path in whole if path not in some and "/sparse/" not in path)
    assert others == {"imp_b": 2, "snip,rewind=2ep": 4}  # what no cell needs is not made


def test_cells_are_named_by_only_alone():
    study = replace(SMALL, only={"lth": {"widths": [0.5], "rewinds": ["0it"]}})
    cells = [cell for cell in study.cells if cell.method == "lth"]
    assert [(cell.width, cell.rewind, cell.sparsity) for cell in cells] == [(0.5, "0it", 0.5), (0.5, "0it", 0.75)]
    either = replace(SMALL, only={"lth": [{"rewinds": ["2ep"]}, {"sparsities": [0.5], "widths": [1]}]})
    cells = [cell for cell in either.cells if cell.method == "lth" and cell.width == 1]
    assert [(cell.rewind, cell.sparsity) for cell in cells] == [("0it", 0.5), ("2ep", 0.5), ("2ep", 0.75)]
    assert "only" not in SMALL.primitives()
    assert study.primitives()["only"] == {"lth": {"widths": [0.5], "rewinds": ["0it"]}}


def test_repetitions_are_independent_and_methods_of_one_are_compared_in_pairs():
    stages = plan(SMALL).values()
    seeds = {stage.settings["seed"] for stage in stages if stage.kind in {"dense", "imp"}}
    assert len(seeds) == 2 * 2 * 2  # repetitions × roles × (dense, chain); widths alike
    assert {stage_seed(seed, f"dense_{role}") for seed in (0, 1) for role in "ab"} == {0, 1, 10, 11}
    for seed in (0, 1):
        own = {stage.settings["seed"] for stage in stages if stage.kind == "sparse" and stage.settings["b"] == seed}
        assert own == {stage_seed(seed, "sparse")}
        matched = {
            stage.settings["seed"] for stage in stages if stage.kind == "match" and stage.settings["repetition"] == seed
        }
        assert matched == {stage_seed(seed, "match")} == {10 * seed + 6}


@pytest.mark.parametrize(
    ("method", "mask", "weights"),
    [
        ("lth", "imp_a/imp", "dense_a"),
        ("naive", "imp_a/imp", "dense_b"),
        ("b_imp", "imp_b/imp", "dense_b"),
        ("permuted", "match/permuted", "dense_b"),
        ("shuffled", "controls/shuffled", "dense_b"),
        ("snip", "controls/snip,rewind=2ep", "dense_b"),
    ],
)
def test_what_a_method_trains_under_which_mask(method, mask, weights):
    stage = plan(SMALL)[f"width=1/seed=1/sparse/method={method},sparsity=0.75,rewind=2ep"]
    root = "width=1/seed=1"
    assert stage.settings["mask"] == f"{root}/{mask}/sparsity-0.75.mask.safetensors"
    assert stage.settings["init_from"] == f"{root}/{weights}/rewind/2ep.ckpt"
    assert stage.needs == (f"{root}/{weights}", f"{root}/{mask.removesuffix('/imp')}")
    assert stage.epochs == 35


def test_sparse_runs_take_what_dense_training_had_left():
    stages = plan(replace(SMALL, recipe=replace(SMALL.recipe, sparse_epochs=None)))
    epochs = {stage.settings["rewind"]: stage.epochs for stage in stages.values() if stage.kind == "sparse"}
    assert epochs == {"0it": 4, "2ep": 2}


def test_matching_early_keeps_that_moment_of_the_dense_networks():
    stages = grown(SMALL, matchers={"permuted": {}, "early": {"at": "1ep"}}, methods=["early"])
    assert stages["width=1/seed=0/dense_b"].outputs == (
        "final.ckpt",
        "rewind/0it.ckpt",
        "rewind/2ep.ckpt",
        "rewind/1ep.ckpt",
    )
    assert not any(",rewind=1ep" in path for path in stages)  # it is no moment to train from


def test_barriers_are_measured_for_the_matchers_that_are_asked_for():
    matchers = {"permuted": {}, "other": {"stream": "last"}}
    for barrier, names in (({}, {"permuted", "other"}), ({"matchers": ["other"]}, {"other"})):
        stages = grown(SMALL, matchers=matchers, barrier=barrier)
        measured = [path for path, stage in stages.items() if stage.kind == "barrier"]
        assert {path.rpartition("/")[2] for path in measured} == names
        assert len(measured) == 4 * len(names)


def test_ensembles_compare_the_networks_b_under_the_mask_of_the_first_a():
    stages = grown(
        SMALL,
        widths=[1],
        methods=["naive"],
        diversity={"sparsities": [0.75], "rewinds": ["2ep"], "matcher": "permuted"},
    )
    (ensemble,) = [stage for stage in stages.values() if stage.kind == "diversity"]
    cell = "sparse/method={},sparsity=0.75,rewind=2ep/final.ckpt"
    assert ensemble.settings["members"] == {
        "dense": ["width=1/seed=0/dense_b/final.ckpt", "width=1/seed=1/dense_b/final.ckpt"],
        "imp": [f"width=1/seed={seed}/imp_b/imp/sparsity-0.75.ckpt" for seed in (0, 1)],
        **{
            name: [f"width=1/{place}/{cell.format(name)}" for place in ("seed=0", "diversity/member=1")]
            for name in ("lth", "permuted", "naive")
        },
    }
    member = stages["width=1/diversity/member=1/sparse/method=lth,sparsity=0.75,rewind=2ep"]
    assert member.settings["init_from"] == "width=1/seed=0/dense_a/rewind/2ep.ckpt"
    assert member.settings["seed"] == stage_seed(1, "sparse")
    assert set(ensemble.needs) >= {
        path.rpartition("/")[0].removesuffix("/imp") for path in ensemble.settings["members"]["imp"]
    }


def test_more_seeds_are_another_ensemble_of_the_members_there_were():
    few, more = (grown(SMALL, diversity={}, seeds=seeds) for seeds in ([0, 1], [0, 1, 2]))
    ensembles = {path for path, stage in few.items() if stage.kind == "diversity"}
    assert "width=1/diversity/sparsity=0.75,rewind=2ep,members=2" in ensembles
    assert "width=1/diversity/sparsity=0.75,rewind=2ep,members=3" in more
    assert {path: more[path] for path in few if path not in ensembles} == {
        path: stage for path, stage in few.items() if path not in ensembles
    }


def test_controls_are_made_from_the_weights_that_their_kinds_look_at():
    kinds = {name: CONTROLS[kind] for name, kind in control_methods().items()}
    stages = [stage for stage in grown(SMALL, methods=["lth", *kinds]).values() if stage.kind == "control"]
    assert {stage.settings["kind"] for stage in stages} == set(control_methods().values())
    for stage in stages:
        checkpoints = [name for name in stage.inputs if name.endswith(".ckpt")]
        moment = stage.settings["rewind"]
        weights = f"{stage.settings['b']}/{'final' if moment is None else f'rewind/{moment}'}.ckpt"
        assert checkpoints == [weights] * ("ckpt" in CONTROLS[stage.settings["kind"]].needs)


def test_what_a_stage_is_made_from_is_what_others_leave():
    stages = grown(SMALL, barrier={}, diversity={}, methods=["lth", "permuted", "b_imp", "snip", "shuffled"])
    left = {f"{path}/{name}": path for path, stage in stages.items() for name in stage.outputs}
    for path, stage in stages.items():
        assert {left[name] for name in stage.inputs} <= set(stage.needs), path
        assert bool(stage.inputs) == bool(stage.needs), path
