# SPDX-License-Identifier: GPL-2.0-only
"""A guest that looks round: what `ffashim run` shows, call by call."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ffashim.descriptors import (
    DescriptorError,
    PartitionInfo,
    PartitionInfoRegs,
    decode_partition_infos,
)
from ffashim.ffa import FFA, PartitionProperty, Version, fid_name

if TYPE_CHECKING:
    from ffashim import Machine, Reply, Vm

_ASKED = Version(1, 2)


def walk(machine: Machine, console: Console) -> None:
    """Show how a freshly booted machine came up, then a guest that walks its partitions."""
    console.print("\nXen boots")
    for line in machine.console:
        console.print(f"  {line}")
    _show_smcs(machine, console, 0)

    # Another guest, so that there is one to be seen where guests see each other.
    machine.create_vm("1.1")
    guest = _Guest(machine, console)
    console.print(f"\nDomain {guest.vm.domid}, {guest.vm.bits} bits, looks round")
    guest.identify()
    guest.map_buffers()
    found = guest.walk_buffer()
    guest.show(found)
    guest.call(FFA.RX_RELEASE)
    guest.greet(found)
    guest.call(FFA.RXTX_UNMAP)


def compare(machine: Machine, console: Console) -> bool:
    """Show what a guest finds by FFA_PARTITION_INFO_GET_REGS, beside what it finds in RX.

    Returns whether the two agree.
    """
    machine.boot()
    machine.create_vm("1.2")
    guest = _Guest(machine, console, quiet=True)
    console.print(f"\nDomain {guest.vm.domid} walks the partitions by registers")
    guest.identify()
    guest.map_buffers()
    in_rx = guest.walk_buffer()
    guest.quiet = False
    in_registers = guest.walk_registers()

    table = Table("index", "ID", "UUID", "RX", "registers")
    for n, each in enumerate(dict.fromkeys([*in_registers, *in_rx])):
        found = ["yes" if each in listing else "no" for listing in (in_rx, in_registers)]
        table.add_row(str(n), f"{each.id:#06x}", str(each.uuid), *found)
    console.print(table)
    agree = bool(in_rx) and Counter(in_rx) == Counter(in_registers)
    verdict = f"agree on {len(in_rx)} partitions" if agree else "do NOT agree"
    console.print(f"FFA_PARTITION_INFO_GET and FFA_PARTITION_INFO_GET_REGS {verdict}.")
    return agree


class _Guest:
    """A guest whose every call is printed, with the calls to the SPMC that Xen makes of it."""

    def __init__(self, machine: Machine, console: Console, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.machine = machine
        self.console = console
        self.vm: Vm = machine.create_vm()

    def call(self, fid: FFA, *arguments: int) -> Reply:
        before = len(self.machine.spmc.log)
        reply = self.vm.smc(fid, *arguments)
        if self.quiet:
            return reply
        given = [f"x{n}={value:#x}" for n, value in enumerate(arguments, 1) if value]
        self.console.print(f"  {' '.join([fid_name(fid), *given])} -> {reply}")
        _show_smcs(self.machine, self.console, before)
        return reply

    def identify(self) -> None:
        self.version = self.call(FFA.VERSION, _ASKED.value).fid
        self.call(FFA.ID_GET)
        self.call(FFA.SPM_ID_GET)

    def map_buffers(self) -> None:
        self.tx, self.rx = self.vm.memory.allocate(), self.vm.memory.allocate()
        self.call(FFA.RXTX_MAP_64, self.tx, self.rx, 1)

    def walk_buffer(self) -> list[PartitionInfo]:
        """Walk by FFA_PARTITION_INFO_GET: all descriptors at once, in RX."""
        reply = self.call(FFA.PARTITION_INFO_GET)
        if not reply.ok:
            return []
        size = reply.x3 if self.version > Version(1, 0).value else 0
        data = self.vm.memory.read(self.rx, 4096)
        return decode_partition_infos(data, reply.x2, size)

    def walk_registers(self) -> list[PartitionInfo]:
        """Walk by FFA_PARTITION_INFO_GET_REGS: up to five descriptors a call."""
        found: list[PartitionInfo] = []
        start = tag = 0
        while True:
            reply = self.call(FFA.PARTITION_INFO_GET_REGS, 0, 0, start | tag << 16)
            try:
                window = PartitionInfoRegs.decode(reply, start)
            except DescriptorError:  # an error: the line above says which
                return found
            self.console.print(
                f"      index {start} to {window.current} of {window.last}, tag {window.tag:#x}"
            )
            found += window.partitions
            # An answer that does not go on would be asked for again for ever.
            if not start <= window.current < window.last:
                return found
            start, tag = window.current + 1, window.tag

    def greet(self, partitions: list[PartitionInfo]) -> None:
        """Send a direct request to the first partition that takes one."""
        for partition in partitions:
            if partition.properties & PartitionProperty.DIRECT_REQ_RECV:
                route = (self.vm.id << 16) | partition.id
                self.call(FFA.MSG_SEND_DIRECT_REQ_32, route, 0, 0x48, 0x69)
                return

    def show(self, partitions: list[PartitionInfo]) -> None:
        for each in partitions:
            properties = PartitionProperty(each.properties)
            self.console.print(
                f"      partition {each.id:#06x}, {each.exec_contexts} contexts, UUID {each.uuid}, "
                f"{properties.name or hex(properties)}"
            )


def _show_smcs(machine: Machine, console: Console, since: int) -> None:
    for smc in machine.spmc.log[since:]:
        console.print(f"      Xen calls {smc}", style="dim")
