"""YAML files that are bad in one way each."""

from __future__ import annotations

from pathlib import Path

FILES: dict[str, bytes] = {
    "cut": b"model: [1",
    "tab": b"a:\n\t- 1",
    "binary": b"\x00\x01\x02",
    "latin": "seed: 1 # gr\xf6\xdfer".encode("latin-1"),
    "twice": b"out: new\nckpt_a: a.ckpt\nout: new2\n",
    "twice_deep": b"trainer:\n  max_epochs: 6\n  max_epochs: 7\n",
    "object": b"!!python/object/apply:os.mkdir [executed]",
    "object_deep": b"model: !!python/object/apply:os.mkdir [executed]",
    "name": b"model: !!python/name:os.system",
    "laughs": b"a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    + b"".join(b"%c: &%c [%s]\n" % (c, c, b", ".join([b"*%c" % (c - 1)] * 9)) for c in range(ord("b"), ord("k"))),
    "endless": b"a: &a [*a]",
    "deep": b"[" * 5000,
    "list": b"[1, 2]",
    "scalar": b"hello",
    "empty": b"",
    "large": b"#" * (2**20 + 1),
    "unhashable": b"? [1, 2]\n: 3\n",
}


def write() -> None:
    for name, content in FILES.items():
        Path(f"{name}.yaml").write_bytes(content)


# file, what the message says after the file's name; wrong usage (2) as --config, a broken file (1) in a run's folder
CASES: list[tuple[str, str]] = [
    ("cut", "is not readable YAML: line"),
    ("tab", "is not readable YAML: line 2: found character '\\t'"),
    ("binary", "is not readable YAML"),
    ("latin", "is not readable YAML: it is not UTF-8 at byte"),
    ("twice", "is not readable YAML: line 3: key 'out' is there twice"),
    ("twice_deep", "is not readable YAML: line 3: key 'max_epochs' is there twice"),
    ("object", "could not determine a constructor for the tag"),
    ("object_deep", "could not determine a constructor for the tag"),
    ("name", "could not determine a constructor for the tag"),
    ("laughs", "its aliases multiply to more than 100000 values"),
    ("endless", "its aliases multiply to more than 100000 values"),
    ("deep", "is not readable YAML: it is nested more than 100 deep"),
    ("list", "holds a list, expected settings by name"),
    ("scalar", "holds a str, expected settings by name"),
    ("empty", "holds a NoneType, expected settings by name"),
    ("large", "is not readable YAML: it has 1048577 bytes, expected settings"),
    ("unhashable", "is not readable YAML: line 1: found unhashable key"),
]
