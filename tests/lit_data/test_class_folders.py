"""Class folders are listed as torchvision lists them; loops of links are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from rebasin_lt.errors import InputError
from rebasin_lt.lit.data.class_folders import class_names, image_files


@pytest.fixture
def root(tmp_path) -> Path:
    names = ["a/1.png", "a/10.JPG", "a/2.jpeg", "a/x/1.png", "a/x/y/3.tif", "a/x.y/1.webp", "a/notes.txt", "b/0.pgm"]
    for name in [*names, "c/.hidden.png", "c/d/1.tiff", "readme.png"]:
        path = tmp_path / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "train"


def listed(root: Path) -> list[tuple[str, int]]:
    return image_files(root, class_names(root))


def test_files_are_those_of_torchvision_in_its_order(root) -> None:
    (root.parent / "elsewhere").mkdir()
    (root.parent / "elsewhere/1.png").touch()
    (root / "b/link").symlink_to(root.parent / "elsewhere")  # leads nowhere near itself
    (root / "b/link.png").symlink_to(root / "a/1.png")
    (root / "d").symlink_to(root.parent / "elsewhere")
    assert listed(root) == ImageFolder(str(root)).samples
    assert len(listed(root)) == 12


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("a/self", "."),
        ("a/x/up", ".."),
        ("a/x/y/top", "../../.."),
        ("a/all", "../../train"),
        ("b/root", "/"),
        ("a/x/real", "ROOT/a"),
        ("all", "."),
    ],
)
def test_a_link_to_what_holds_it_is_refused(root, link, target) -> None:
    (root / link).symlink_to(target.replace("ROOT", str(root)))
    with pytest.raises(InputError, match=rf"root has .*{link}.*, a link to a folder that holds it: remove it"):
        listed(root)


def test_two_links_that_lead_to_each_other_are_refused(root) -> None:
    (root / "a/to_b").symlink_to("../b")
    (root / "b/to_a").symlink_to("../a")
    with pytest.raises(InputError, match=r"root has .*a/to_b/to_a, a link to a folder that holds it: remove it"):
        listed(root)
