"""What a grid may be, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from shipped_studies import STUDIES, read

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.study.folder import study_of
from rebasin_lt.study.grid import Study

RECIPE = Recipe(rewinds=("0it", "1ep"))


def study(change=None, **settings):
    return Study(**{"title": "grid", "recipe": replace(RECIPE, **(change or {})), "seeds": [0, 1], **settings})


GRIDS = [
    ({"seeds": []}, "seeds is empty, expected at least one value"),
    ({"seeds": [0, 1, 0]}, "seeds is [0, 1, 0], which holds 0 twice"),
    ({"seeds": [0, -1]}, "seeds is [0, -1], expected numbers from 0 to 429496728"),
    ({"seeds": [429496729]}, "seeds is [429496729], expected numbers from 0 to 429496728"),
    ({"widths": [1, 1.0]}, "widths is [1.0, 1.0], which holds 1 twice"),
    ({"widths": [1, 1.0000001]}, "widths is [1.0, 1.0000001], which holds 1 twice"),
    ({"widths": [float("inf")]}, "widths is [inf], expected positive numbers"),
    ({"widths": [0]}, "widths is [0.0], expected positive numbers"),
    ({"methods": []}, "methods is empty, expected at least one value"),
    ({"methods": ["lth", "lth"]}, "methods is ['lth', 'lth'], which holds lth twice"),
    (
        {"methods": ["permutd"]},
        "one of methods is 'permutd', which is not known (did you mean permuted?): expected lth, ",
    ),
    ({"methods": ["magic"]}, "one of methods is 'magic', which is not known: expected lth, b_imp, naive, permuted, "),
    ({"matchers": {}, "methods": ["permuted"]}, "one of methods is 'permuted', which is not known"),
    ({"matchers": {"lth": {}}}, "matchers holds lth, which is the name of a method already: choose another"),
    ({"matchers": {"erk": {}}}, "matchers holds erk, which is the name of a method already: choose another"),
    ({"matchers": {"permuted": "paper"}}, "matchers.permuted is 'paper', expected settings such as {preset: paper}"),
    ({"matchers": {5: {}}}, "matchers holds 5, which names folders: use letters, digits and _"),
    ({"matchers": {"../x": {}}}, "matchers holds '../x', which names folders: use letters, digits and _"),
    (
        {"matchers": {"early": {"at": "21ep"}}, "methods": ["lth"]},
        "moment 21ep is after the end of dense training at 20ep",
    ),
    ({"matchers": {"early": {"at": "soon"}}, "methods": ["lth"]}, "moment 'soon' is not understood"),
    (
        {"barrier": {"alphas": 3}},
        "barrier has no setting 'alphas' (did you mean num_alphas?): expected some of num_alphas, corrections, ",
    ),
    ({"barrier": {"matchers": ["early"]}}, "one of barrier.matchers is 'early', which is not known: expected permuted"),
    ({"barrier": {"matchers": "permuted"}}, "barrier.matchers is 'permuted', expected a list of some, or leave it out"),
    (
        {"diversity": {"sparsities": 0.9}},
        "diversity.sparsities is 0.9, expected a list of some, or leave it out for all",
    ),
    ({"diversity": {"rewinds": []}}, "diversity.rewinds is [], expected a list of some, or leave it out for all"),
    (
        {"diversity": {"matcher": ["permuted"]}},
        "diversity.matcher is ['permuted'], which is not known (did you mean permuted?)",
    ),
    (
        {"diversity": {"members": 5}},
        "diversity has no setting 'members': expected some of sparsities, rewinds, matcher",
    ),
    (
        {"only": {"permutd": {"sparsities": [0.9]}}},
        "one of only is 'permutd', which is not known (did you mean permuted?)",
    ),
    (
        {"only": {"lth": [0.9]}},
        "only.lth is [0.9], expected some of widths, sparsities, rewinds, each with a list; or a list of such",
    ),
    ({"only": {"lth": {}}}, "only.lth is {}, expected some of widths, sparsities, rewinds, each with a list"),
    ({"only": {"lth": {"sparsity": [0.9]}}}, "only.lth has no setting 'sparsity' (did you mean sparsities?)"),
    ({"only": {"lth": {"rewinds": "0it"}}}, "only.lth.rewinds is '0it', expected a list of some, or leave it out for"),
    ({"only": {"lth": {"rewinds": ["7ep"]}}}, "only.lth.rewinds holds 7ep, expected some of the grid's: 0it, 1ep"),
    ({"only": {"lth": {"sparsities": [0.5]}}}, "only.lth.sparsities holds 0.5, expected some of the grid's: 0.9, 0.95"),
    ({"only": {"lth": {"widths": [9]}}}, "only.lth.widths holds 9, expected some of the grid's: 1.0"),
    ({"diversity": {}, "seeds": [3]}, "diversity compares the networks of several seeds, but seeds is [3]"),
    ({"diversity": {"sparsities": [0.5]}}, "diversity.sparsities holds 0.5, expected some of the grid's: 0.9, 0.95"),
    ({"diversity": {"rewinds": ["2ep"]}}, "diversity.rewinds holds 2ep, expected some of the grid's: 0it, 1ep"),
    ({"diversity": {"matcher": "early"}}, "diversity.matcher is 'early', which is not known: expected permuted"),
    (
        {"diversity": {}, "matchers": {"own": {}}, "methods": ["own"]},
        "diversity.matcher is 'permuted', which is not known: expected own",
    ),
]

GRIDS += [
    ({"methods": [{"permuted": {}}]}, "methods holds {'permuted': {}}, expected a text in each place"),
    ({"methods": "lth"}, "methods is 'lth', expected a list"),
    ({"methods": {"lth": 1}}, "methods is {'lth': 1}, expected a list"),
    ({"seeds": ["0"]}, "seeds holds '0', expected a whole number in each place"),
    ({"seeds": [0.5]}, "seeds holds 0.5, expected a whole number in each place"),
    ({"seeds": 3}, "seeds is 3, expected a list"),
    ({"widths": ["wide"]}, "widths holds 'wide', expected a number in each place"),
    ({"widths": [None]}, "widths holds None, expected a number in each place"),
    ({"matchers": ["permuted"]}, "matchers is ['permuted'], expected settings by name"),
    ({"axes": ["sparse"]}, "axes is ['sparse'], expected settings by name"),
    ({"given": "runs/a"}, "given is 'runs/a', expected settings by name"),
    ({"barrier": True}, "barrier is True, expected settings by name"),
    ({"barrier": {"matchers": [{}]}}, "barrier.matchers holds {}, expected names or numbers"),
    ({"diversity": {"methods": [{"a": 1}]}}, "diversity.methods holds {'a': 1}, expected names or numbers"),
    ({"diversity": {"sparsities": [[0.9]]}}, "diversity.sparsities holds [0.9], expected names or numbers"),
    ({"early": "no"}, "early is 'no', expected true or false"),
    ({"title": 3}, "title is 3, expected a text"),
    ({"recipe": {"targets": [0.9]}}, "recipe is {'targets': [0.9]}, expected a Recipe"),
]

RECIPES = [
    ({"targets": ("0.9",)}, "recipe.targets holds '0.9', expected a number in each place"),
    ({"targets": (True,)}, "recipe.targets holds True, expected a number in each place"),
    ({"targets": 0.9}, "recipe.targets is 0.9, expected a list"),
    ({"rewinds": (1,)}, "recipe.rewinds holds 1, expected a text in each place"),
    ({"rewinds": "1ep"}, "recipe.rewinds is '1ep', expected a list"),
    ({"data": "digits"}, "recipe.data is 'digits', expected settings by name"),
    ({"dense_epochs": "2"}, "recipe.dense_epochs is '2', expected a whole number"),
    ({"fraction": "0.2"}, "recipe.fraction is '0.2', expected a number"),
    ({"module": 3}, "recipe.module is 3, expected a text"),
    ({"targets": ()}, "recipe.targets is empty, expected at least one value"),
    ({"targets": (0.9, 0.9)}, "recipe.targets is [0.9, 0.9], which holds 0.9 twice"),
    ({"targets": (0.9, 0.8)}, "imp targets are [0.9, 0.8], expected increasing sparsities"),
    ({"targets": (0.9, 0.90000001)}, "recipe.targets is [0.9, 0.90000001], which holds 0.9 twice"),
    ({"dense_epochs": None}, "recipe.dense_epochs is null: give it a value, or leave it out"),
    ({"data": None}, "recipe.data is null: give it a value, or leave it out"),
    ({"rewinds": ()}, "recipe.rewinds is empty, expected at least one value"),
    ({"rewinds": ("1ep", "1ep")}, "recipe.rewinds is ['1ep', '1ep'], which holds 1ep twice"),
    ({"rewinds": ("01ep",)}, "moment '01ep' names folders: write it as 1ep"),
    ({"rewinds": ("1",)}, "moment '1' is not understood"),
    ({"rewinds": ("21ep",)}, "moment 21ep is after the end of dense training at 20ep"),
    ({"rewinds": ("20ep",), "sparse_epochs": None}, "which means what 20 dense epochs have left at 20ep"),
    (
        {"network": {"arch": "mlp", "width": 2}},
        "recipe.network.width is set: a study takes it from `widths`, leave it out",
    ),
    ({"dense_epochs": 0}, "recipe.dense_epochs is 0, expected at least 1"),
    ({"epochs_per_round": 0}, "recipe.epochs_per_round is 0, expected at least 1"),
    ({"sparse_epochs": 0}, "recipe.sparse_epochs is 0, expected at least 1"),
]


@pytest.mark.parametrize(
    ("settings", "message"),
    [*GRIDS, *(({"change": change}, message) for change, message in RECIPES)],
    ids=[message[:60] for _, message in [*GRIDS, *RECIPES]],
)
def test_a_grid_that_cannot_be_is_refused(settings, message) -> None:
    with pytest.raises(InputError) as caught:
        study(**settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_moments_to_match_at_are_kept_beside_those_to_rewind_to() -> None:
    matchers = {"permuted": {}, "end": {"at": "final"}, "early": {"at": "5ep"}, "first": {"at": "1ep"}}
    assert study({"rewinds": ("2ep", "1ep")}, matchers=matchers).kept_moments == ("2ep", "1ep", "5ep")


def test_the_recipe_of_a_width_has_it_and_every_moment() -> None:
    grid = study(matchers={"permuted": {"at": "5ep"}}, widths=[4])
    recipe = grid.recipe_of(4)
    assert recipe.network["width"] == 4
    assert recipe.rewinds == ("0it", "1ep", "5ep")
    assert replace(recipe, network=RECIPE.network, rewinds=RECIPE.rewinds) == RECIPE
    assert grid.recipe == RECIPE


@pytest.mark.parametrize("name", STUDIES)
def test_a_grid_is_the_same_when_read_from_its_folder(name) -> None:
    grid = read(name)
    again = study_of(json.loads(json.dumps(grid.primitives())), "here")
    assert again == grid
    assert again.primitives() == grid.primitives()
