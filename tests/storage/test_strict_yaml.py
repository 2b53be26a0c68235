"""What the table of bad files does not show: what is still allowed."""

from __future__ import annotations

import pytest
import yaml

from rebasin_lt.settings.config_files import find_config, shipped
from rebasin_lt.storage.strict_yaml import read_yaml


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: {a: 1, c: [a, a]}\n",
        "base: &base {a: 1, b: 2}\nown: {<<: *base, a: 3}\n",
        "x: &x [1, 2]\ny: *x\nz: *x\n",
        "1: one\nb: 2.5e-3\nc: null\nd: 'größer'\n",
        "",
    ],
)
def test_reads_what_yaml_does(tmp_path, text) -> None:
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert read_yaml(tmp_path / "x.yaml") == yaml.safe_load(text)


@pytest.mark.parametrize("name", shipped())
def test_reads_the_shipped_files(name) -> None:
    assert isinstance(read_yaml(find_config(name)), dict)


@pytest.mark.parametrize("text", ["a: 1\na: 1", "x: {b: 1, c: 2, b: 1}", "- {a: 1, 'a': 2}"])
def test_refuses_a_key_that_is_there_twice(tmp_path, text) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"line \d: key '.' is there twice"):
        read_yaml(tmp_path / "x.yaml")
