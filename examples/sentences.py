"""Sentences to read without a download: those of the docstrings of Python's standard library, by what they are about.

They are read out of the sources of the Python that runs this, so another version has a few others.
"""

from __future__ import annotations

import ast
import random
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TOPICS = {
    "internet": ("http", "email", "urllib"),
    "processes": ("asyncio", "multiprocessing", "concurrent", "threading.py"),
    "numbers": ("statistics.py", "fractions.py", "_pydecimal.py", "random.py", "datetime.py", "_pydatetime.py"),
    "tests": ("unittest", "doctest.py", "pdb.py", "bdb.py", "traceback.py"),
}
"""Files and folders of the standard library."""

PAD, UNKNOWN = 0, 1
"""Numbers of what fills a batch, and of words that are not in the vocabulary."""

Sentence = tuple[str, ...]


@cache
def sentences() -> tuple[tuple[Sentence, int], ...]:
    """Words of each sentence, 4 to 24, and its topic: as many of each topic, in an order drawn by a fixed seed."""
    by_topic = [sorted(set(_sentences_of(files))) for files in TOPICS.values()]
    draw = random.Random(0)
    fewest = min(map(len, by_topic))
    found = [(words, topic) for topic, each in enumerate(by_topic) for words in draw.sample(each, fewest)]
    draw.shuffle(found)
    return tuple(found)


@cache
def vocabulary(size: int) -> dict[str, int]:
    """The most frequent words, and their numbers from 2 to `size` − 1."""
    counts = Counter(word for words, _ in sentences() for word in words)
    frequent = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: number for number, word in enumerate(frequent[: size - 2], start=2)}


def encoded(size: int) -> list[tuple[list[int], int]]:
    """All sentences as the numbers of their words in a vocabulary, with their topics."""
    numbers = vocabulary(size)
    return [([numbers.get(word, UNKNOWN) for word in words], topic) for words, topic in sentences()]


def _sentences_of(files: tuple[str, ...]) -> Iterator[Sentence]:
    root = Path(sysconfig.get_path("stdlib"))
    for name in files:
        for path in [root / name] if name.endswith(".py") else sorted((root / name).glob("*.py")):
            if path.exists():
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                        yield from _words_of(ast.get_docstring(node) or "")


def _words_of(text: str) -> Iterator[Sentence]:
    for sentence in re.split(r"(?<=[.!?])\s+|\n\n", text.lower()):
        words = re.findall(r"[a-z]+", sentence)
        if 4 <= len(words) <= 24:
            yield tuple(words)
