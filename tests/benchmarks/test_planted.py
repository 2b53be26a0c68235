"""Planted recovery at the size of a toy: what is measured, resumed, counted and written into the page."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from benchmarks import planted
from benchmarks.planted import Subject, main, plant, table, write_report


class Toy(nn.Sequential):
    """One group of six units."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3))


TOY = Subject("Toy", Toy, (1, 4, 4), 40, ("activations", "coordinate_descent", "frank_wolfe"), batch_size=20)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A file of three methods by two seeds, and a page with the markers, both written by `main`."""
    monkeypatch.setattr(planted, "SUBJECTS", {"toy": TOY})
    (tmp_path / "matching.md").write_text("before\n<!-- planted table -->\nold\n<!-- end of planted table -->\nafter\n")
    monkeypatch.setattr(planted, "write_report", lambda results: write_report(results, tmp_path))
    main(["--networks", "toy", "--seeds", "2", "--out", str(tmp_path)])
    return tmp_path / "planted.json"


def test_the_toy_is_recovered_and_the_page_says_so(results) -> None:
    records = json.loads(results.read_text())["networks"]["toy"]
    assert {method: sorted(seeds) for method, seeds in records.items()} == {key: ["0", "1"] for key in TOY.methods}
    for method, seeds in records.items():
        for record in seeds.values():
            assert (record["units"], record["wrong"], record["images"]) == (6, 0, 40 * (method == "activations"))
    page = (results.parent / "matching.md").read_text()
    assert page.startswith("before\n<!-- planted table -->\n| network")
    assert page.endswith("\n<!-- end of planted table -->\nafter\n")
    assert "old" not in page
    assert page.count("2 of 2") >= 3


def test_what_is_there_is_not_measured_again_unless_it_saw_other_images(results, monkeypatch) -> None:
    again = []
    monkeypatch.setattr(planted, "measure", lambda subject, method, seed: again.append((method, seed)) or {"images": 9})
    monkeypatch.setattr(planted, "write_report", lambda _: None)
    arguments = ["--seeds", "2", "--out", str(results.parent)]
    main(arguments)
    assert again == []
    monkeypatch.setattr(planted, "SUBJECTS", {"toy": TOY._replace(num_images=80)})
    main(arguments)
    assert again == [("activations", 0), ("activations", 1)]


def test_the_reference_is_the_permuted_source_with_noise() -> None:
    source, reference, permutation, images, symmetry = plant(TOY, 3)
    permuted = symmetry.permute(source, permutation)
    noise = torch.cat([(reference[name] - permuted[name]).flatten() for name in ("1.weight", "1.bias", "3.weight")])
    assert float(noise.std()) == pytest.approx(1e-3, rel=0.25)
    assert [len(batch) for batch in images] == [20, 20]
    assert permutation != symmetry.identity()


def test_rows_count_exact_seeds_and_dead_units(monkeypatch) -> None:
    monkeypatch.setattr(planted, "SUBJECTS", {"toy": TOY})

    def record(live: int, wrong: int, wrong_not_live: int, seconds: float) -> dict:
        return {"units": 6, "live": live, "wrong": wrong, "wrong_not_live": wrong_not_live, "seconds": seconds}

    found = {"0": record(6, 0, 0, 1.0), "1": record(5, 0, 2, 3.0), "2": record(4, 1, 0, 2.0)}
    written = table({"toy": {"activations": found, "frank_wolfe": {"0": found["0"]}}})
    assert written.rows == [
        ["Toy", "activations", "40", "6", "0–2", "2 of 3", "1 of 3", 2.0],
        ["Toy", "frank wolfe", "0", "6", "0", "1 of 1", "1 of 1", 1.0],
    ]


def test_an_unknown_network_is_refused(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--networks", "mlp,alexnet"])
    assert "no network alexnet, expected some of mlp, vgg11" in capsys.readouterr().err
