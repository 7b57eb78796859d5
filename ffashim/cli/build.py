# SPDX-License-Identifier: GPL-2.0-only
"""``ffashim build``: compile a tree, and tell what came of it."""

from __future__ import annotations

import json

from ffashim import sanitizers
from ffashim.cli import options, subject

EPILOG = options.epilog(
    "ffashim build --xen ~/src/xen",
    "ffashim build --xen ~/src/xen --config FFA_VM_TO_VM=n --config DEBUG=n --cc clang",
)


def build(
    xen: options.Xen = None,
    patch: options.Patch = None,
    config: options.Config = None,
    cc: options.Cc = None,
    sanitize: options.Sanitize = None,
) -> None:
    """Compile a tree's mediator, and tell what went into it.

    Prints the extension's path, then its record as JSON: the tree, the hash of every file compiled,
    the configuration, the compiler and its flags. What was built before is found in the cache.
    """
    settings = options.settings(config)
    for tree in subject.find_trees(xen, patch):
        extension = subject.build(
            tree, settings, options.compiler(cc), sanitize=sanitizers.parse(sanitize)
        )
        print(extension.path)
        print(json.dumps(dict(extension.record), indent=2))
