# SPDX-License-Identifier: GPL-2.0-only
"""A machine that is nothing but memory: to try a secure world, or a script, without Xen."""

from __future__ import annotations

from ffashim.errors import UsageError
from ffashim.ffa import FFA, Version
from ffashim.spmc.replies import Regs, registers
from ffashim.spmc.world import Spmc

TX, RX = 0x1000, 0x2000
"""Where `FlatHost.boot` puts the hypervisor's buffers: a page each."""


class FlatHost:
    """Memory from address 0 on, a list of the interrupts raised, and SMCs by hand.

    irqs: (interrupt ID, CPU) pairs, oldest first.
    """

    def __init__(self, spmc: Spmc, size: int = 1 << 20) -> None:
        self.spmc = spmc
        self.memory = bytearray(size)
        self.irqs: list[tuple[int, int]] = []
        spmc.attach(self)

    def read(self, pa: int, size: int) -> bytes:
        """See `SecureHost`. Raises UsageError outside of the memory."""
        self._check(pa, size)
        return bytes(self.memory[pa : pa + size])

    def write(self, pa: int, data: bytes) -> None:
        """See `SecureHost`. Raises UsageError outside of the memory."""
        self._check(pa, len(data))
        self.memory[pa : pa + len(data)] = data

    def raise_irq(self, intid: int, cpu: int = 0) -> None:
        """See `SecureHost`."""
        self.irqs.append((intid, cpu))

    def smc(self, *regs: int) -> Regs:
        """An SMC with these registers, x0 first."""
        return self.spmc.smc(registers(*regs))

    def boot(self, version: str = "1.2") -> None:
        """Agree on a version and map the hypervisor's buffers."""
        self.smc(FFA.VERSION, Version.parse(version).value)
        self.smc(FFA.RXTX_MAP_64, TX, RX, 1)

    def _check(self, pa: int, size: int) -> None:
        if pa < 0 or pa + size > len(self.memory):
            raise UsageError(f"no memory at {pa:#x} to {pa + size:#x}")
