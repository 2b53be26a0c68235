"""Which names are code of the user's own."""

import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.settings.user_code import import_named, is_user_code


@pytest.mark.parametrize("name", ["module:thing", "package.module:Outer.Inner"])
def test_what_has_a_module_and_something_in_it_is(name):
    assert is_user_code(name)
    recipe = Recipe(network={"arch": name}, data={"name": name})
    assert (recipe.own_code, recipe.own_data) == (name, name)


@pytest.mark.parametrize("name", ["resnet20", "torchvision:resnet18", ":thing", "module:", ""])
def test_names_of_the_registry_and_of_torchvision_are_not(name):
    assert not is_user_code(name)
    recipe = Recipe(network={"arch": name}, data={"name": name})
    assert (recipe.own_code, recipe.own_data) == (None, None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rebasin_lt:Msk", r"has no attribute 'Msk' \(did you mean Mask\?\)$"),
        ("rebasin_lt:Quux", "has no attribute 'Quux'$"),
        ("rebasin_tl:Mask", "No module named 'rebasin_tl'; is it on PYTHONPATH"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_the_near_one(name, reason):
    with pytest.raises(InputError, match=rf"^--model is '{name}', which cannot be imported: .*{reason}"):
        import_named("--model", name)
