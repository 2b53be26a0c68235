"""The process of the command line: it listens to signals before its imports, which take a while, until it has ended."""

from __future__ import annotations

import sys

from rebasin_lt.process.stop_request import stop_request

stop_request.hold()

from rebasin_lt.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
