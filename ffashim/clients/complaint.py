# SPDX-License-Identifier: GPL-2.0-only
"""What a client has to complain about."""

from __future__ import annotations

import errno as numbers

from ffashim.errors import FfashimError
from ffashim.ffa import FfaError
from ffashim.reply import Reply

ERRNO = {
    FfaError.NOT_SUPPORTED: numbers.EOPNOTSUPP,
    FfaError.INVALID_PARAMETERS: numbers.EINVAL,
    FfaError.NO_MEMORY: numbers.ENOMEM,
    FfaError.BUSY: numbers.EBUSY,
    FfaError.INTERRUPTED: numbers.EINTR,
    FfaError.DENIED: numbers.EACCES,
    FfaError.RETRY: numbers.EAGAIN,
    FfaError.ABORTED: numbers.ECANCELED,
    FfaError.NO_DATA: numbers.ENODATA,
    FfaError.NOT_READY: numbers.EAGAIN,
}
"""What Linux and, as far as 1.0 goes, U-Boot make of a status; of any other they make EINVAL."""


class ClientError(FfashimError):
    """A client gives up.

    what: the step that failed, in the client's words. errno: what its caller would get, a positive
    number of the `errno` module; None of a client that is a test suite. reply: the answer that it
    complains about, if it is about one.
    """

    def __init__(self, what: str, errno: int | None = None, reply: Reply | None = None) -> None:
        name = "" if errno is None else f": {numbers.errorcode.get(errno, str(errno))}"
        super().__init__(f"{what}{name}{f', after {reply}' if reply is not None else ''}")
        self.errno = errno
        self.reply = reply


class NoFramework(ClientError):
    """FFA_VERSION says that there is no FF-A, or the client has no use for its version."""


class Overrun(FfashimError):
    """A client would have written or read beyond its own array: it believed an answer too much."""


def errno_of(reply: Reply) -> int:
    """Return what a client makes of the status in w2 of FFA_ERROR."""
    status = reply.w(2) - ((reply.w(2) >> 31) << 32)
    return ERRNO[FfaError(status)] if status in _KNOWN else numbers.EINVAL


_KNOWN = frozenset(map(int, ERRNO))
