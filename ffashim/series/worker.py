# SPDX-License-Identifier: GPL-2.0-only
"""A task in a process of its own: a crash there is a result here.

``python -m ffashim.series.worker KIND`` calls a function of `work` with the arguments that it reads
as JSON, and prints what that returns as JSON too, after a NUL: pytest and compilers may have
printed before it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import NoReturn

from ffashim.errors import FfashimError
from ffashim.series import work


def main(kind: str) -> NoReturn:
    """Do it, and end without taking down what the machine and pytest hold."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        found = work.KINDS[kind](**json.load(sys.stdin))
    except FfashimError as error:
        found = {"failed": str(error)}
    out.write("\n\0" + json.dumps(found))
    out.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
