# SPDX-License-Identifier: GPL-2.0-only
"""The model and a machine side by side: all that happens, happens on both, until they differ."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from ffashim import capabilities
from ffashim.alarms import AlarmKind
from ffashim.defaults import default_spmc, partitions
from ffashim.descriptors import PartitionInfo
from ffashim.errors import FfashimError
from ffashim.ffa import (
    FFA,
    ID_SECURE,
    NOTIFICATIONS,
    PARTITION_INFO_COUNT_ONLY,
    FfaError,
    Version,
)
from ffashim.known_alarms import KNOWN
from ffashim.machine import DomainError, Machine
from ffashim.memory import PAGE, P2m
from ffashim.model.compare import Fit, Misfit, Observation, explain, match
from ffashim.model.deviation import Deviation, deviating
from ffashim.model.exchange import Plan, Smc
from ffashim.model.interrupt import schedule_receivers
from ffashim.model.lifecycle import PATIENCE, Refusal, not_excused
from ffashim.model.profile import Profile
from ffashim.model.registers import LOW, Call
from ffashim.model.rules import SINCE_1_1, modelled, predict
from ffashim.model.script import Script, Step, Who, named
from ffashim.model.state import Guest, Secure, System
from ffashim.reply import Reply
from ffashim.spmc import SecurePartition, Spmc
from ffashim.spmc.messages import is_framework
from ffashim.spmc.script import On
from ffashim.testing import secure_partitions
from ffashim.vm import Vm

RAM_PAGES = 16
WATCHED = (*range(8), RAM_PAGES - 1)
"""Pages of each guest that are compared before and after each call."""
WITH_DESCRIPTOR = frozenset({FFA.MEM_SHARE_64, FFA.RXTX_MAP_64})
"""SMCs of the hypervisor's that come with a descriptor in its TX."""


class Disagreement(AssertionError):
    """Xen has done what FF-A does not allow, or the model is wrong.

    what: what Xen did beside what the model says. script: how it came to that.
    """

    def __init__(self, what: str, script: Script) -> None:
        super().__init__(f"{what}\n\n{script}")
        self.what, self.script = what, script

    @property
    def kind(self) -> tuple[str, ...]:
        """What others of the kind have in common: the function, the rule, what is wrong."""
        lines = self.what.splitlines()
        called = _without_numbers(re.sub(r".* called (\S+).*", r"\1", lines[0]))
        wrong = (_without_numbers(line) for line in lines[1:] if line.startswith("->"))
        return called, *sorted({" ".join(line.split()[:3]) for line in wrong})


def _without_numbers(line: str) -> str:
    return re.sub(r"\b(0x[0-9a-f]+|\d+)\b", "N", line)


class Structure(Protocol):
    """Something of `ffashim.descriptors` that lies in memory."""

    def encode(self, version: Version) -> bytes:
        """Return its bytes in a version of FF-A."""
        ...


def profile_of(machine: Machine) -> Profile:
    """Return the profile of a tree's mediator. The machine must be booted afterwards."""
    vm_to_vm = machine.extension.enabled("FFA_VM_TO_VM")
    calls = capabilities.handled(machine) | {FFA.VERSION}
    messages = capabilities.missing(machine, messages=True) is None
    return Profile(
        "xen",
        capabilities.highest_version(machine),
        calls,
        vm_to_vm,
        messages,
        withheld_from_1_0=calls & SINCE_1_1 - capabilities.handled_in_1_0(machine),
        lists_from_version_on=vm_to_vm and capabilities.probe(machine, _lists_early),
    )


def _lists_early(machine: Machine) -> bool:
    other, caller = machine.create_vm(), machine.create_vm("1.1")
    other.smc(FFA.VERSION, 0x1_0001)
    before = caller.partition_info_get(flags=PARTITION_INFO_COUNT_ONLY)
    other.smc(FFA.ID_GET)
    return before[2] == caller.partition_info_get(flags=PARTITION_INFO_COUNT_ONLY)[2]


ESSENTIAL = frozenset({FFA.RXTX_MAP_64, FFA.PARTITION_INFO_GET, FFA.MSG_SEND_DIRECT_REQ_32})
"""What a hypervisor may be at a loss without: whom there is to talk to, and how."""

_ALARMS = frozenset(
    {
        AlarmKind.LOCK_ORDER, AlarmKind.LOCK_IRQ, AlarmKind.LOCK_INIT, AlarmKind.REGISTERS,
        AlarmKind.DISCLOSED, AlarmKind.LEAK,
    }
)  # fmt: skip
"""Those that are Xen's own doing, whatever the secure world does and says."""


class Pair:
    """A booted machine, and the model of it.

    machine: is booted anew. partitions: so many secure partitions, None for the default ones.
    deviations: defects that its tree is known to have.
    below: the version of the SPMC, "" for the highest that the tree takes, None for no SPMC.
    without: functions that the SPMC does not implement.
    unwilling: a function that the SPMC refuses at boot, once.
    scarce: which allocation of the hypervisor's fails at boot, from 1.
    nonsense: a function, a register and what it holds in the first answer to it, at boot.

    Whether a hypervisor does without what it lacks at boot, or without an SPMC, is its own choice.

    The model may not know which of several states the machine is in, as FF-A leaves some things
    open: it goes on with all that fit what was seen.
    """

    def __init__(
        self,
        machine: Machine,
        partitions: int | None = None,
        deviations: Iterable[Deviation] = (),
        below: str | None = "",
        without: Sequence[FFA] = (),
        unwilling: FFA | None = None,
        scarce: int = 0,
        nonsense: tuple[FFA, int, int] | None = None,
    ) -> None:
        profile = profile_of(machine)
        self._excused = [each for each in KNOWN if each.on(machine)]
        self.machine = machine
        self.deviations = tuple(deviations)
        self._silent = tuple(each for each in self.deviations if each.silent)
        self.known: set[str] = set()
        """What known defects have shown."""
        self.spmc = _world(machine, partitions, below, without)
        if unwilling is not None:
            self.spmc.on(unwilling).error(FfaError.DENIED, times=1)
        if nonsense is not None:
            self._garble(self.spmc.on(nonsense[0]), *nonsense[1:])
        if scarce:
            # Before it, boot has reset the machine.
            self.spmc.on(FFA.VERSION).call(lambda _x: machine.fail_allocation(scarce), times=1)
        machine.boot(self.spmc)
        machine.fail_allocation(0, 0)
        machine.forget_alarms()
        self._behave()
        lacks = bool(unwilling or nonsense or scarce) or not ESSENTIAL.isdisjoint(without)
        secure = _secure(self.spmc)
        given_up = (System(profile),) if lacks else ()
        # The handler of an interrupt is allocated, too.
        quiet = (replace(secure, calls=secure.calls.difference(NOTIFICATIONS)),) if scarce else ()
        self.states = _distinct((*(System(profile, each) for each in (secure, *quiet)), *given_up))
        """How things may stand, in an order that is the same each time."""
        self.vms: list[Vm] = []
        """Guests that live."""
        self._waiting: dict[Vm, tuple[frozenset[int], Refusal | None]] = {}
        """Guests whose end waits for memory that partitions use: handles of what they share, and
        what was refused."""
        self.calls = 0
        """How many calls were made on both."""
        self._options = {
            **({"partitions": partitions} if partitions is not None else {}),
            **({"below": below} if below != "" else {}),
            **({"without": tuple(without)} if without else {}),
            **({"unwilling": unwilling} if unwilling is not None else {}),
            **({"scarce": scarce} if scarce else {}),
            **({"nonsense": nonsense} if nonsense is not None else {}),
        }
        self._steps: list[Step] = []
        self._who: dict[Vm, Who] = {}
        self._sent: dict[int, bytes] = {}
        self._spoilt: set[int] = set()
        """Domain IDs that cannot be used again: the secure world has something of theirs."""
        self.spmc.witness = self._witness

    @property
    def firmware(self) -> bool:
        """Whether the hypervisor uses the secure world, for all that is known."""
        return all(state.secure.version is not None for state in self.states)

    # --- guests ----------------------------------------------------------------------------------

    def guest(self, bits: int = 64, vcpus: int = 1, domid: int | None = None) -> Vm:
        """Create a guest that has said nothing yet; its domain ID is the lowest that is free."""
        vm = self.attempt(bits, vcpus, domid)
        assert vm is not None, "only what was refused is an excuse"
        return vm

    def attempt(
        self,
        bits: int = 64,
        vcpus: int = 1,
        domid: int | None = None,
        refusal: Refusal | None = None,
        scarce: int = 0,
        pages: int = RAM_PAGES,
    ) -> Vm | None:
        """Create a guest, if the secure world has it and there is memory. None if not.

        refusal: what of `lifecycle.BIRTH` is refused. scarce: as in `call`. pages: of memory.
        """
        self._behave()
        if domid is None:
            taken = {vm.domid for vm in self.machine.vms.values()} | self._spoilt
            domid = next(n for n in itertools.count(1) if n not in taken)
        who = Who(1 + max((each.number for each in self._who.values()), default=-1))
        how = {"vcpus": vcpus, "domid": domid, "refusal": refusal, "scarce": scarce,
               **({"pages": pages} if pages != RAM_PAGES else {})}  # fmt: skip
        excused = refusal is not None or scarce > 0
        self._steps.append(Step("attempt" if excused else "guest", (bits,), how, who))
        rule = refusal.plant(self.spmc) if refusal else None
        blocks = len(self.machine.heap)
        if scarce:
            self.machine.fail_allocation(scarce)
        try:
            vm = self.machine.create_vm(bits=bits, vcpus=vcpus, domid=domid, ram_pages=pages)
        except DomainError as error:
            met = refusal if rule and rule.used else None
            paused = met is not None and met.pauses
            none = f"no guest, though nothing was refused: {error}"
            if not scarce and (met is None or (paused and not self._knows("forsakes", none))):
                raise Disagreement(none, self.script) from error
            more = len(self.machine.heap) - blocks
            self._gone(domid, [*([f"{more} blocks of Xen's heap"] if more else []),
                               *self.spmc.residue(domid + 1)],
                       "abandons", *(["forsakes"] if paused else []))  # fmt: skip
            return None
        finally:
            self.machine.fail_allocation(0, 0)
            self._behave()
        self._who[vm] = who
        vm.memory.allocate(pages)  # the test deals them out itself
        guest = Guest(vm.id, bits, (vm.memory.base, vm.memory.end), vcpus)
        self.states = _distinct(state.having(guest) for state in self.states)
        self.vms.append(vm)
        return vm

    def destroy(self, vm: Vm, refusal: Refusal | None = None, used: bool = False) -> None:
        """Destroy a guest: nothing of it is left, once partitions work for it no longer and do
        not use its memory.

        refusal: what of `lifecycle.DEATH` is refused. used: partitions go on using its memory, if
        they do, until `borrow` gives it back: the guest is gone some time after that.
        """
        self._note("destroy", vm, refusal=refusal, used=used)
        self._behave()
        if not used:
            for sp, handle in self._uses(vm):
                self.spmc.memory.relinquish(sp, handle)
        rule = refusal.plant(self.spmc) if refusal else None
        freed = vm.destroy()
        self.vms.remove(vm)
        self.states = _distinct(state.without(vm.id) for state in self.states)
        refused = refusal if rule and rule.used else None
        if self._uses(vm):
            if freed:
                self._gone(vm.domid, ["memory that a partition uses, free for others"], "leaves")
            shares = self.spmc.memory.shares.items()
            handles = frozenset(handle for handle, share in shares if share.sender == vm.id)
            self._waiting[vm] = handles, refused
            return
        self._behave()
        self._ended(vm, refused)

    def _ended(self, vm: Vm, refused: Refusal | None) -> None:
        """A guest must be gone, but for what somebody refused to let go."""
        left = ["memory that Xen still holds"] if vm.exists else []
        left += self.spmc.residue(vm.id)
        if left:
            self._spoilt.add(vm.domid)
        shown = refused.shows if refused else None
        kinds = ["leaves", *([shown] if shown else [])]
        self._gone(vm.domid, [*not_excused(left, refused)], *kinds)

    def _uses(self, vm: Vm) -> list[tuple[int, int]]:
        """Which partitions use what of a guest's memory: their IDs, with handles."""
        return [
            (sp, handle)
            for handle, share in self.spmc.memory.shares.items()
            for sp in share.retrieved
            if share.sender == vm.id
        ]

    def _gone(self, domid: int, left: Sequence[str], *known: str) -> None:
        """A domain is no more. What is left of it, spoils its ID if it is a known defect."""
        if left:
            self._spoilt.add(domid)
        if left := [each for each in left if not any(self._knows(kind, each) for kind in known)]:
            raise Disagreement("\n".join(["of a guest that is gone is left:", *left]), self.script)
        self._listen()

    def _behave(self) -> None:
        """The secure world does as it should while guests come and go, and is busy with nothing:
        what else becomes of that is for tests/abi.
        """
        self.spmc.state.rules.clear()
        self.spmc.state.running.clear()

    def put(
        self, vm: Vm, address: int, what: bytes | Structure, version: Version | None = None
    ) -> None:
        """Let a guest write to its memory, as much as there is room for in the page."""
        self._note("put", vm, address, what, *([version] if version else []))
        data = what if isinstance(what, bytes) else what.encode(version or Version(1, 1))
        vm.memory.write(address, data[: PAGE - address % PAGE])

    def set_type(self, vm: Vm, address: int, kind: P2m) -> None:
        """Change what a page of a guest is to Xen."""
        self._note("set_type", vm, address, kind)
        vm.memory.set_type(address, kind)
        self._change(vm, lambda guest: replace(
            guest,
            barred=guest.barred - {address} if kind is P2m.RAM_RW else guest.barred | {address},
        ))  # fmt: skip

    def online(self, vm: Vm, vcpu: int, value: bool) -> None:
        """Take a vCPU up or down."""
        self._note("online", vm, vcpu, value)
        vm.vcpus[vcpu].online() if value else vm.vcpus[vcpu].offline()
        self._change(vm, lambda guest: replace(
            guest, offline=guest.offline - {vcpu} if value else guest.offline | {vcpu}
        ))  # fmt: skip

    def _change(self, vm: Vm, change: Callable[[Guest], Guest]) -> None:
        self.states = _distinct(state.having(change(state.guest(vm.id))) for state in self.states)

    # --- calls -----------------------------------------------------------------------------------

    def may_call(self, vm: Vm, fid: int) -> bool:
        """Whether the model knows what becomes of a function."""
        return all(modelled(state.profile, fid & LOW) for state in self.states)

    def call(self, vm: Vm, fid: int, *registers: int, vcpu: int = 0, scarce: int = 0) -> Reply:
        """Make a call on both. Raises Disagreement if Xen does what FF-A does not allow.

        scarce: which allocation of Xen's fails, and which mapping of a page, from 1; 0 is none.
        A call that is known to end the machine of this tree is not made; its answer is what a
        function gets that nobody knows.
        """
        given = (fid, *registers) if vm.bits == 64 else (v & LOW for v in (fid, *registers))
        call = replace(Call.of(vm.id, *given), tx=self._tx(vm), scarce=bool(scarce))
        if end := self._ends(call):
            self.known.add(end)
            return Reply((LOW, *(0,) * 17))
        self._note("call", vm, *_without_zeros(call.registers), vcpu=vcpu, scarce=scarce)
        self.calls += 1
        # Each state's plans are made before the call is: a prediction, not an excuse.
        expected = {state: predict(state, call) for state in self.states}
        if scarce:
            self.machine.fail_allocation(scarce)
            self.machine.fail_mapping(scarce)
        replies: list[Reply] = []
        seen = self._watch(
            str(call), lambda: replies.append(vm.vcpus[vcpu].smc(*call.registers)), replies
        )
        if scarce:
            self.machine.fail_allocation(0, 0)
            self.machine.fail_mapping(0)
        self._compare(call, seen, expected)
        return replies[0]

    def _tx(self, vm: Vm) -> bytes:
        buffers = self.states[0].guest(vm.id).buffers
        return bytes(vm.memory.page(buffers.tx)) if buffers else b""

    def _ends(self, call: Call) -> str | None:
        return next(
            (
                each.defect.finding
                for each in self.deviations
                if each.ends and any(each.ends(state, call) for state in self.states)
            ),
            None,
        )

    # --- the secure world -------------------------------------------------------------------------

    def answer(self, fid: FFA, code: int) -> None:
        """Let the SPMC refuse the next SMC of a function with this status."""
        self._note("answer", fid, code)
        self._of_guests(fid).error(code, times=1)

    def preempt(self, fid: FFA, times: int) -> None:
        """Let the next direct request find its partition preempted so many times."""
        self._note("preempt", fid, times)
        self._of_guests(fid).delay(times)

    def garble(self, fid: FFA, register: int, value: int) -> None:
        """Let a register of the next answer to a function hold something else."""
        self._note("garble", fid, register, value)
        self._garble(self._of_guests(fid), register, value)

    @staticmethod
    def _garble(on: On, register: int, value: int) -> None:
        on.garble(lambda _, reply: (*reply[:register], value, *reply[register + 1 :]), times=1)

    def mislead(self, fid: FFA, *registers: int) -> None:
        """Let the SPMC not do the next thing that it is asked for, and answer this."""
        self._note("mislead", fid, *registers)
        self._of_guests(fid).reply(*registers, times=1)

    def _of_guests(self, fid: FFA) -> On:
        """What Xen asks for guests' sake: RX of its own it needs to go on."""
        own = FFA.RX_RELEASE
        return self.spmc.on(fid).when(lambda x: not is_framework(x) and (x[0] != own or x[1] != 0))

    def borrow(self, handle: int, back: bool) -> None:
        """Let a partition use memory that is shared with it, or relinquish it."""
        self._note("borrow", handle, back)
        sp = self.spmc.memory.shares[handle].borrowers[0][0]
        use = self.spmc.memory.relinquish if back else self.spmc.memory.retrieve
        use(sp, handle)

    def advance(self, seconds: float) -> None:
        """Let time pass; nothing that guests see comes of it."""
        self._note("advance", seconds)

        def wait() -> None:
            self.machine.advance(seconds)

        free = [vm for vm in self._waiting if not self._uses(vm)]
        self._below(wait)
        for vm in [*self._waiting]:
            if vm.exists and not (vm in free and seconds >= PATIENCE):
                continue
            _, refused = self._waiting.pop(vm)
            self._ended(vm, refused)

    def notify(self, sp: int, vm: Vm, bits: int) -> None:
        """Let a partition notify a guest that has bound these notifications to it."""
        self._note("notify", sp, vm, bits)
        self._below(lambda: self.spmc.notifications.notify(sp, vm.id, bits))

    def notify_all(self, sp: int, bits: int, *vms: Vm) -> None:
        """Let a partition notify guests that have bound these to it, with one interrupt for all."""
        self._note("notify_all", sp, bits, *vms)

        def notify() -> None:
            *others, last = vms
            for vm in others:
                self.spmc.notifications.notify(sp, vm.id, bits, delay=True)
            self.spmc.notifications.notify(sp, last.id, bits)

        self._below(notify)

    def send(self, sp: int, vm: Vm, payload: bytes) -> FfaError | None:
        """Let a partition send a guest a message: None, or why the SPMC could not deliver it."""
        self._note("send", sp, vm, payload)
        errors: list[FfaError | None] = []

        def send() -> int | None:
            errors.append(self.spmc.messages.send(sp, vm.id, payload))
            return vm.id if errors[0] is None else None

        self._below(send)
        return errors[0]

    def _below(self, action: Callable[[], int | None]) -> None:
        """Something happens below; whether an interrupt comes of it, is seen.

        action: returns the endpoint whose RX the SPMC has filled, if it has filled one.
        """
        done: list[int | None] = []
        seen = self._watch(
            "the secure world's doing", lambda: done.append(action()), [Reply((0,) * 18)]
        )
        states = self.states
        if (filled := done[0]) is not None:
            states = _distinct(_filled_below(state, filled) for state in states)
            # What the SPMC has written there is its own doing.
            theirs = {page: data for page, data in seen.after.items() if page[0] == filled}
            seen = replace(seen, before={**seen.before, **theirs})
        seen = replace(seen, smcs=tuple(smc for smc in seen.smcs if not self._clears_up(smc)))
        if seen.smcs or seen.interrupts:
            expected = {state: schedule_receivers(state) for state in states}
            self._compare(Call.of(0, 0), seen, expected)
        else:
            self.states = states

    def _clears_up(self, smc: Smc) -> bool:
        """Whether it is for the sake of a guest whose end waits."""
        x = smc.request
        if is_framework(x):
            return any(x[5] & LOW == vm.id for vm in self._waiting)
        handle = x[1] & LOW | (x[2] & LOW) << 32
        mine = any(handle in handles for handles, _ in self._waiting.values())
        return mine and x[0] & LOW == FFA.MEM_RECLAIM

    # --- what is seen ----------------------------------------------------------------------------

    def _watch(
        self, what: str, action: Callable[[], object], replies: Sequence[Reply]
    ) -> Observation:
        """Do something, and see what comes of it. ``replies`` holds the guest's answer then."""
        first = len(self.spmc.log.entries)
        interrupts = len(self.machine.virqs)
        self._sent.clear()
        before = self._pages()
        try:
            action()
        except FfashimError as fault:
            raise Disagreement(f"{what} did not return: {fault}", self.script) from fault
        smcs = tuple(
            Smc(request, answer, self._sent.get(n, b""))
            for n, (request, answer) in enumerate(self.spmc.log.entries[first:], first)
            if request is not None and answer is not None
        )
        return Observation(
            tuple(replies[0]), before, self._pages(), self._held(), smcs,
            tuple((each.domain + 1, each.vcpu, each.intid)
                  for each in self.machine.virqs[interrupts:]),
            self._frame,
        )  # fmt: skip

    def _witness(self, registers: tuple[int, ...]) -> None:
        """Keep what the hypervisor's TX holds as an SMC is made: it is used again and again."""
        own = self.spmc.state.hypervisor
        if registers[0] & LOW in WITH_DESCRIPTOR and own is not None:
            data = self.spmc.host.read(own.tx[0].base, PAGE)
            self._sent[len(self.spmc.log.entries) - 1] = data

    def _frame(self, endpoint: int, address: int) -> int:
        vm = next(vm for vm in self.vms if vm.id == endpoint)
        return vm.memory.machine_address(address)

    def _watched(self) -> list[tuple[Vm, int]]:
        return [(vm, vm.memory.base + n * PAGE) for vm in self.vms for n in WATCHED]

    def _pages(self) -> dict[tuple[int, int], bytes]:
        return {(vm.id, page): bytes(vm.memory.page(page)) for vm, page in self._watched()}

    def _held(self) -> dict[tuple[int, int], int]:
        return {(vm.id, page): vm.memory.references(page) for vm, page in self._watched()}

    # --- comparison ------------------------------------------------------------------------------

    def _compare(
        self, call: Call, seen: Observation, expected: Mapping[System, Sequence[Plan]]
    ) -> None:
        """Go on with the states that fit what was seen. Raises Disagreement if none does."""
        found = {
            state: [each for plan in plans for each in match(call, plan, seen)]
            for state, plans in expected.items()
        }
        after = [each.after for many in found.values() for each in many if isinstance(each, Fit)]
        after += self._deviate(call, seen, found, right=bool(after))
        if not after:
            who = next(iter(expected)).guest(call.caller) if call.caller else None
            misfits = [each for many in found.values() for each in many if isinstance(each, Misfit)]
            raise Disagreement(explain(call, who, misfits, seen), self.script)
        for line in map(str, self.spmc.violations):
            if not self._knows("forbidden", line):
                raise Disagreement(f"the SPMC was sent what FF-A forbids: {line}", self.script)
        self.spmc.violations.clear()
        self._listen()
        self.states = _distinct(after)

    def _listen(self) -> None:
        """Look what the machine has seen go wrong. Raises Disagreement."""
        for alarm in self.machine.alarms:
            if alarm.kind in _ALARMS and not any(each.covers(alarm) for each in self._excused):
                raise Disagreement(str(alarm), self.script)

    def _deviate(
        self,
        call: Call,
        seen: Observation,
        found: Mapping[System, Sequence[Fit | Misfit]],
        right: bool,
    ) -> list[System]:
        """Return how things may stand after a known defect; report it unless Xen was ``right``.

        In a state in which Xen was right only what a defect does in silence is looked for: it
        shows later on.
        """
        after = []
        for state, many in found.items():
            fits = any(isinstance(each, Fit) for each in many)
            used = self._silent if fits else self.deviations
            for plan in deviating(used, state, call) if used and call.caller else ():
                for then in match(call, plan, seen):
                    if isinstance(then, Fit):
                        after.append(then.after)
                        if not right:
                            self.known.update(then.known)
        return after

    def _knows(self, what: str, line: str) -> bool:
        """Whether what a line says is a known defect."""
        patterns = [(each.defect.finding, getattr(each, what)) for each in self.deviations]
        known = {name for name, pattern in patterns if pattern and re.search(pattern, line)}
        self.known.update(known)
        return bool(known)

    # --- what has happened ------------------------------------------------------------------------

    def _note(self, method: str, *arguments: object, **options: object) -> None:
        told = (self._who[each] if isinstance(each, Vm) else each for each in arguments)
        self._steps.append(Step(method, tuple(told), options))

    @property
    def script(self) -> Script:
        """What has happened, to be done again or to be printed as a test."""
        return Script(self._options, tuple(self._steps), bool(self.known))

    def take(self, step: Step) -> None:
        """Do what a step of another pair's did. Raises LookupError if its guest is not here."""
        if step.made is not None:
            vm = self.attempt(*step.arguments, **step.options)
            if vm is not None:
                self._who[vm] = step.made
            self._steps[-1] = step
            return
        guests = {who: vm for vm, who in self._who.items()}
        arguments = (guests[each] if isinstance(each, Who) else each for each in step.arguments)
        getattr(self, step.method)(*arguments, **step.options)


def _without_zeros(registers: Sequence[int]) -> list[int]:
    """Return a call's registers up to the last one that is not zero, its function by name."""
    shown = list(registers)
    while len(shown) > 1 and not shown[-1]:
        shown.pop()
    return [named(shown[0]), *shown[1:]]


def _distinct(states: Iterable[System]) -> tuple[System, ...]:
    return tuple(dict.fromkeys(states))


def _filled_below(state: System, endpoint: int) -> System:
    guest = state.guest(endpoint)
    assert guest.buffers is not None, "the SPMC fills no buffer of which it was not told"
    buffers = replace(guest.buffers, owned=True, filled_below=True)
    return state.having(replace(guest, buffers=buffers))


def _world(machine: Machine, count: int | None, below: str | None, without: Sequence[FFA]) -> Spmc:
    default = default_spmc(machine.extension)
    version = default.version if below == "" else below
    chosen: Iterable[SecurePartition]
    chosen = partitions() if count is None else secure_partitions(count)
    return Spmc(version, chosen, features_off=without)


def _secure(spmc: Spmc) -> Secure:
    """What a hypervisor has to know of the secure world, once it has booted."""
    if spmc.version is None:
        return Secure()
    listed = tuple(
        PartitionInfo.decode(descriptor)
        for partition in spmc.state.partitions
        for descriptor in partition.descriptors.values()
        if partition.id & ID_SECURE
    )
    calls = frozenset(fid for fid in FFA if fid in spmc.state.abis)
    return Secure(spmc.state.negotiated, calls, listed)
