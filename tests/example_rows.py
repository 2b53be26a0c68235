"""The examples, as their README names them, and what some need beyond this package's own dependencies."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| `(examples\.\S+)` \| `(examples\.\S+)` \| `(\w+)` \|$", README, flags=re.MULTILINE)
"""Name, module, data and loss of each."""
NEEDS = {"timm_images": "timm", "encoder": "transformers", "decoder": "transformers"}
