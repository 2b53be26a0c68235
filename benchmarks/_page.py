"""Generated parts of the documentation, between markers that stay."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def between(page: str, marker: str, text: str) -> str:
    """The page with `text` between `<!-- marker -->` and `<!-- end of marker -->`.

    Raises ValueError where the page does not have the markers, once and in this order.
    """
    begin, end = f"<!-- {marker} -->", f"<!-- end of {marker} -->"
    filled, count = re.subn(f"{begin}.*?{end}", lambda _: f"{begin}\n{text}\n{end}", page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"the page has {begin} … {end} {count} times, expected once")
    return filled
