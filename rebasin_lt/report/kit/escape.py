"""Names as they are, wherever a report is read: what Markdown, LaTeX or a spreadsheet takes for more is escaped."""

from __future__ import annotations

import re

from rebasin_lt.process.terminal_text import on_terminal

_MARKS = "\\`*_[]|~$"
_BLOCK = re.compile(r"(?=[#+=-])|\d{1,9}(?=[.)])")
"""How a line begins that would be a heading, a list or a rule, up to the mark."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a cell begins that a spreadsheet computes; with apostrophes before it, so that they come back as they were."""


def markdown_text(text: str) -> str:
    """Part of a line that every renderer shows as it is: a cell, a heading, a label."""
    text = on_terminal(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{character}" if character in _MARKS else character for character in text)


def markdown_paragraph(text: str) -> str:
    """The same for a whole paragraph, which may begin as a heading or a list does."""
    text = markdown_text(text)
    return _BLOCK.sub(lambda begin: f"{begin[0]}\\", text, count=1) if _BLOCK.match(text) else text


_SMALL = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi "
    "rho sigma tau upsilon phi chi psi omega"
)
_LARGE = "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "−": "$-$", "–": "--", "·": r"$\cdot$", "×": r"$\times$", "<": "$<$", ">": "$>$"},
    **{"|": "$|$", "→": r"$\to$", "…": r"\dots{}", '"': "''", "†": r"$\dagger$", "½": r"$\frac12$"},
    **{
        "≥": r"$\ge$",
        "≤": r"$\le$",
        "≠": r"$\ne$",
        "√": r"$\surd$",
        "∂": r"$\partial$",
        "⊙": r"$\odot$",
        "ᵀ": r"$^\top$",
    },
    **{letter: f"$\\{name}$" for letter, name in zip("αβγδεζηθικλμνξπρστυφχψω", _SMALL.split(), strict=True)},
    **{letter: f"$\\{name}$" for letter, name in zip("ΓΔΘΛΞΠΣΦΨΩ", _LARGE.split(), strict=True)},
    **{sign: f"$^{plain}$" for sign, plain in zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True)},
    **{sign: f"$_{plain}$" for sign, plain in zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True)},
    **{"∞": r"$\infty$", "≈": r"$\approx$", "∈": r"$\in$", "∇": r"$\nabla$", "←": r"$\leftarrow$", "✓": r"$\surd$"},
    "─": "--",
}
"""As LaTeX sets them: its own marks, and the signs of reports and of runs' names that its fonts lack."""


def latex_text(text: str) -> str:
    """Text that LaTeX sets as it is: what it would take for a command is escaped, signs that fonts lack are its own."""
    return "".join(_LATEX.get(character, character) for character in on_terminal(" ".join(text.split())))


def csv_text(text: str) -> str:
    """A cell of a CSV file that no spreadsheet takes for a formula: text is led by an apostrophe, numbers stay."""
    text = text.replace("\r", " ")  # which csv does not quote, and some readers take for the end of a row
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def text_of_csv(cell: str) -> str:
    """The text that `csv_text` made a cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
