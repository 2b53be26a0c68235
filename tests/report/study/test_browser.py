"""The page in a real browser: no errors, no network, nothing wider than the window, in light and dark."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import matplotlib as mpl
import pytest

from rebasin_lt.report.study.sections import write_study_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="needs Chromium")]
GROUNDS = {"light": [255, 255, 255], "dark": [13, 17, 23]}
METHODS = ("lth", "b_imp", "permuted", "permuted_paper", "naive", "b_magnitude", "random_permutation", "shuffled")


@pytest.fixture(scope="module")
def page(make_outcome, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    outcome = make_outcome(methods=METHODS, sparsities=(0.8, 0.9, 0.95, 0.97))
    masks = [mask for match in outcome.matches for mask in match["masks"]]
    for mask in masks:
        mask |= {"init_memory": 0.5, "init_memory_chance": 0.05, "sign_agreement": 0.9}
    write_study_report(outcome, folder)
    return folder / "report.html"


def browse(folder: Path, *arguments: str) -> tuple[str, str]:
    """What the browser prints, and what it complains about: console messages and failed requests."""
    assert BROWSER
    start = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
    command = [*start, f"--user-data-dir={folder / 'profile'}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, "\n".join(re.findall(r".*(?:CONSOLE|net::ERR|Refused).*", done.stderr))


@pytest.mark.parametrize("scheme", GROUNDS)
@pytest.mark.parametrize("width", [1280, 400])
def test_page_is_shown_without_complaints(page: Path, tmp_path: Path, scheme: str, width: int) -> None:
    picture = tmp_path / "page.png"
    options = [f"--blink-settings=preferredColorScheme={list(GROUNDS)[::-1].index(scheme)}"]
    options += [f"--window-size={width},2000", f"--screenshot={picture}"]
    _, complaints = browse(tmp_path, *options, page.as_uri())
    assert complaints == ""
    pixels = (mpl.image.imread(picture) * 255).round().astype(int)
    assert pixels.shape[1] == width
    assert pixels[2, 2, :3].tolist() == GROUNDS[scheme]


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_but_tables_is_wider_than_the_window(page: Path, tmp_path: Path, width: int) -> None:
    frame = tmp_path / "frame.html"
    measure = "document.title = this.contentDocument.documentElement.scrollWidth"
    open_all = "this.contentDocument.querySelectorAll('details').forEach(each => each.open = true)"
    frame.write_text(f'<iframe src="{page.as_uri()}" width="{width}" frameborder="0" onload="{open_all}; {measure}">')
    printed, _ = browse(
        tmp_path, "--allow-file-access-from-files", "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()
    )
    assert re.findall(r"<title>(\d+)</title>", printed) == [str(width)]


TOUCHING = """
const inner = this.contentDocument, found = [];
inner.querySelectorAll('details').forEach(each => each.open = true);
inner.querySelectorAll('tr').forEach(row => [...row.cells].forEach((cell, index) => {
  const words = inner.createRange(), next = row.cells[index + 1];
  words.selectNodeContents(cell);
  const right = Math.max(...[...words.getClientRects()].map(one => one.right));
  if (next) { words.selectNodeContents(next);
    const left = Math.min(...[...words.getClientRects()].map(one => one.left));
    if (left - right < 8) found.push(cell.innerText + '|' + next.innerText); }
}));
document.title = found.length + ' of ' + inner.querySelectorAll('tr').length + ': ' + found.slice(0, 3).join(' ')
"""


def test_the_texts_of_neighbouring_cells_are_apart(page: Path, tmp_path: Path) -> None:
    frame = tmp_path / "frame.html"
    script = TOUCHING.replace("\n", " ").replace('"', "&quot;")
    frame.write_text(f'<iframe src="{page.as_uri()}" width="1280" frameborder="0" onload="{script}">')
    printed, _ = browse(
        tmp_path, "--allow-file-access-from-files", "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()
    )
    (found,) = re.findall(r"<title>(.*?)</title>", printed)
    assert re.match(r"0 of [1-9]\d", found), found
