# SPDX-License-Identifier: GPL-2.0-only
"""The errors meant for people.

Their text says what is wrong, where, and what to do about it, so that a command can print it as it
stands. Everything that bad input can cause derives from :class:`FfashimError`.
"""

from __future__ import annotations


class FfashimError(Exception):
    """Base of every error that a user can cause and can put right."""


class UsageError(FfashimError):
    """An argument, an option or the environment makes no sense."""


class CacheError(FfashimError):
    """The cache directory cannot be used."""


class SourceError(FfashimError):
    """No usable Xen tree could be found, read or fetched."""


class PatchError(SourceError):
    """A patch cannot be read or does not apply to the tree."""


class ConfigError(FfashimError):
    """The tree's Kconfig does not know a symbol, or cannot give it the value asked for."""


class BuildError(FfashimError):
    """The tree does not compile or link, or there is no usable compiler."""


class CoverageError(FfashimError):
    """What the tests reach cannot be counted or reported: a tool is missing, or fails."""
