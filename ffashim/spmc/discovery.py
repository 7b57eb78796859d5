# SPDX-License-Identifier: GPL-2.0-only
"""Setup and discovery: VERSION, FEATURES, ID_GET, SPM_ID_GET, PARTITION_INFO_GET and GET_REGS."""

from __future__ import annotations

from uuid import UUID

from ffashim.descriptors import PartitionInfo, encode_partition_info_regs
from ffashim.ffa import (
    FFA,
    HYPERVISOR_ID,
    PARTITION_INFO_COUNT_ONLY,
    V1_0,
    V1_1,
    V1_2,
    Feature,
    FfaError,
    Version,
)
from ffashim.spmc.replies import OK, UNKNOWN, Regs, error, registers, success
from ffashim.spmc.state import OWN_RX, Buffers
from ffashim.spmc.topic import Abis, Topic

FILL = b"\xa5"
"""What fills a descriptor beyond the 24 bytes that the specification defines."""
_NIL = UUID(int=0)
_NOT_SUPPORTED = error(FfaError.NOT_SUPPORTED)
_RXTX_MAP = frozenset(map(int, (FFA.RXTX_MAP_32, FFA.RXTX_MAP_64)))
_SRI = int(Feature.SCHEDULE_RECV_INTR)
_OTHERS = {
    int(FFA.ERROR): V1_0,
    int(FFA.SUCCESS_32): V1_0,
    int(FFA.SUCCESS_64): V1_0,
    int(FFA.INTERRUPT): V1_0,
    int(FFA.MSG_WAIT): V1_0,
    int(FFA.MSG_YIELD): V1_0,
    int(FFA.MSG_SEND_DIRECT_RESP_32): V1_0,
    int(FFA.MSG_SEND_DIRECT_RESP_64): V1_0,
    int(FFA.MEM_FRAG_RX): V1_0,
    int(FFA.MSG_SEND_DIRECT_RESP2): V1_2,
}
"""What FFA_FEATURES reports, though it is an answer rather than a call: since which version."""
_NEVER = Version(0x7FFF, 0xFFFF)


class DiscoveryAbis(Topic):
    """Who is there, and what can it do (chapter 13)."""

    def abis(self) -> Abis:
        """The ABIs of this topic."""
        return {
            FFA.VERSION: (V1_0, self.version),
            FFA.FEATURES: (V1_0, self.features),
            FFA.ID_GET: (V1_0, self.id_get),
            FFA.SPM_ID_GET: (V1_1, self.spm_id_get),
            FFA.PARTITION_INFO_GET: (V1_0, self.partition_info_get),
            FFA.PARTITION_INFO_GET_REGS: (V1_2, self.partition_info_get_regs),
        }

    def version(self, x: Regs) -> Regs:
        """FFA_VERSION (13.2): answers with its own version, and works at the lower of the two."""
        spmc = self.spmc
        own = spmc.version
        assert own is not None
        if x[1] >> 31 & 1:
            spmc.violation("mbz", "FFA_VERSION: bit 31 of w1 must be zero (13.2)")
            return UNKNOWN
        asked = Version.parse(x[1] & 0x7FFFFFFF)
        if self.state.hypervisor is not None:
            spmc.violation("version", "FFA_VERSION after other calls cannot change it (13.2.1)")
        if asked.major == own.major:
            spmc.agree(min(asked, own))
        return registers(own.value)

    def features(self, x: Regs) -> Regs:
        """FFA_FEATURES (13.3): about a function ID, or with bit 31 clear, a feature ID."""
        spmc = self.spmc
        what = x[1] & 0xFFFFFFFF
        if what in spmc.features_off or what in spmc.unreported:
            return _NOT_SUPPORTED
        if what in _RXTX_MAP and what in self.state.abis:
            # Bits 1:0: 4 KiB is the smallest buffer, and its alignment.
            return success(spmc.max_rxtx_pages << 16 if spmc.negotiated >= V1_2 else 0)
        if what in self.state.abis:
            return OK
        if what == _SRI and spmc.negotiated >= V1_1:
            return success(spmc.sri)
        return OK if spmc.negotiated >= _OTHERS.get(what, _NEVER) else _NOT_SUPPORTED

    def id_get(self, _x: Regs) -> Regs:
        """FFA_ID_GET (13.10): the caller is the hypervisor."""
        return success(HYPERVISOR_ID)

    def spm_id_get(self, _x: Regs) -> Regs:
        """FFA_SPM_ID_GET (13.11): at this instance, the SPMC's own ID."""
        return success(self.spmc.spmc_id)

    def matches(self, wanted: UUID) -> list[bytes]:
        """The descriptors that a UUID selects (Nil: all), in the layout that was agreed on.

        A descriptor for each UUID of a partition; a 1.0 caller sees each partition once. Where the
        caller named the UUID, that field is Nil (13.8).
        """
        found: list[bytes] = []
        for partition in self.state.partitions:
            if wanted != _NIL:
                known = partition.descriptors.get(wanted)
                found += [known[:8] + bytes(16)] if known else []
            elif self.spmc.negotiated < V1_1:
                found.append(next(iter(partition.descriptors.values())))
            else:
                found += partition.descriptors.values()
        if self.spmc.negotiated < V1_1:
            return [one[:8] for one in found]
        return found

    def partition_info_get(self, x: Regs) -> Regs:
        """FFA_PARTITION_INFO_GET (13.8): into the hypervisor's RX buffer, or only a count."""
        spmc, state = self.spmc, self.state
        before_1_1 = spmc.negotiated < V1_1
        flags = x[5] & 0xFFFFFFFF
        if flags & ~PARTITION_INFO_COUNT_ONLY or (flags and before_1_1):
            spmc.violation("mbz", f"PARTITION_INFO_GET: flags {flags:#x} (13.8)")
            return error(FfaError.INVALID_PARAMETERS)
        wanted = UUID(bytes=b"".join((w & 0xFFFFFFFF).to_bytes(4, "little") for w in x[1:5]))
        found = self.matches(wanted)
        if wanted != _NIL and not found:
            return error(FfaError.INVALID_PARAMETERS)
        if flags:
            return success(len(found))
        state.ended -= {OWN_RX}  # whether it fills RX or fails
        own = state.hypervisor
        if own is None:
            spmc.bookkeeping("rx", "PARTITION_INFO_GET without RX/TX buffers (13.8)")
            return error(FfaError.BUSY)
        if own.held:
            spmc.bookkeeping("rx", "PARTITION_INFO_GET while RX is not released (13.8)")
            return error(FfaError.BUSY)
        size = 8 if before_1_1 else spmc.descriptor_size
        data = b"".join(one.ljust(size, FILL) for one in found)
        if len(data) > sum(r.pages for r in own.rx) << 12:
            return error(FfaError.NO_MEMORY)
        spmc.host.write(own.rx[0].base, data)
        state.hypervisor = Buffers(own.tx, own.rx, held=True)
        return success(len(found), 0 if before_1_1 else size)

    def partition_info_get_regs(self, x: Regs) -> Regs:
        """FFA_PARTITION_INFO_GET_REGS (1.2, 13.9): up to five descriptors in x3 to x17."""
        state = self.state
        wanted = UUID(bytes=x[1].to_bytes(8, "little") + x[2].to_bytes(8, "little"))
        start, tag = x[3] & 0xFFFF, x[3] >> 16 & 0xFFFF
        if tag != (state.tag if start else 0):
            return error(FfaError.RETRY)
        found = self.matches(wanted)
        if start >= len(found):
            return error(FfaError.INVALID_PARAMETERS)
        window = [PartitionInfo.decode(one) for one in found[start : start + 5]]
        return encode_partition_info_regs(window, start=start, total=len(found), tag=state.tag)
