"""New processes are timed up to where they should be."""

from __future__ import annotations

import json

from benchmarks.startup import main


def test_an_import_is_quicker_than_a_first_step(tmp_path) -> None:
    main(["--repeats", "1", "--out", str(tmp_path)])
    imported, stepped = json.loads((tmp_path / "startup.json").read_text())["figures"]
    assert 0 < imported["measured"][0] < 1000 * stepped["measured"][0]
