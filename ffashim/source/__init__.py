# SPDX-License-Identifier: GPL-2.0-only
"""Finding the Xen tree to work on, wherever it is, without changing it."""

from ffashim.source.provenance import FileHash, hash_files
from ffashim.source.resolve import resolve, resolve_default
from ffashim.source.tree import PatchRecord, Tree

__all__ = ["FileHash", "PatchRecord", "Tree", "hash_files", "resolve", "resolve_default"]
