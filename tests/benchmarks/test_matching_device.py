"""The benchmark for a GPU runs at toy size anywhere."""

from __future__ import annotations

import json

from benchmarks import matching_device


def test_every_network_is_measured_on_the_images_asked_for(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(matching_device, "SUBJECTS", (("resnet20", 1, 50_000), ("resnet20", 0.25, 20_000)))
    matching_device.main(["--device", "cpu", "--scale", "0.0004", "--batch", "4", "--out", str(tmp_path)])
    records = json.loads((tmp_path / "matching_device.json").read_text())["records"]
    assert [record["images"] for record in records] == [20, 8]
    assert all(record["forwards"] > 0 and record["seconds"] > 0 for record in records)
    assert capsys.readouterr().out.count("two forwards") == 2
