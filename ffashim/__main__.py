# SPDX-License-Identifier: GPL-2.0-only
"""``python -m ffashim`` is the ``ffashim`` command."""

from __future__ import annotations

from ffashim.cli import main

if __name__ == "__main__":
    main()
