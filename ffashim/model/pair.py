# SPDX-License-Identifier: GPL-2.0-only
"""The model and a machine side by side: every call is made on both, until they differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ffashim import capabilities
from ffashim.defaults import default_spmc
from ffashim.descriptors import PartitionInfo
from ffashim.errors import FfashimError
from ffashim.ffa import FFA, ID_SECURE
from ffashim.machine import Machine
from ffashim.memory import PAGE
from ffashim.model.compare import Misfit, Observation, explain, match
from ffashim.model.deviation import Deviation, deviating
from ffashim.model.profile import Profile
from ffashim.model.registers import LOW, Call
from ffashim.model.rules import modelled, predict
from ffashim.model.state import Guest, System
from ffashim.reply import Reply
from ffashim.testing import boot_with, secure_partitions
from ffashim.vm import Vm

RAM_PAGES = 16
WATCHED = (*range(6), RAM_PAGES - 1)
"""Pages of each guest that are compared before and after each call."""


class Disagreement(AssertionError):
    """Xen has done what FF-A does not allow, or the model is wrong."""


def profile_of(machine: Machine) -> Profile:
    """Return the profile of a tree's mediator. The machine must be booted afterwards."""
    vm_to_vm = machine.extension.enabled("FFA_VM_TO_VM")
    calls = capabilities.handled(machine) | {FFA.VERSION}
    return Profile("xen", capabilities.highest_version(machine), calls, vm_to_vm)


class Pair:
    """A booted machine, and the model of it.

    machine: is booted anew. partitions: so many secure partitions, None for the default ones.
    deviations: defects that its tree is known to have.

    The model may not know which of several states the machine is in, as FF-A leaves some things
    open: it goes on with all that fit what was seen.
    """

    def __init__(
        self,
        machine: Machine,
        partitions: int | None = None,
        deviations: Iterable[Deviation] = (),
    ) -> None:
        profile = profile_of(machine)
        self.machine = machine
        self.deviations = tuple(deviations)
        self._silent = tuple(each for each in self.deviations if each.silent)
        self.known: set[str] = set()
        """What known defects have shown."""
        if partitions is None:
            machine.boot(default_spmc(machine.extension))
        else:
            boot_with(machine, secure_partitions(partitions))
        listed = tuple(
            PartitionInfo.decode(descriptor)
            for partition in machine.spmc.state.partitions
            for descriptor in partition.descriptors.values()
            if partition.id & ID_SECURE
        )
        self.states = frozenset({System(profile, listed)})
        self.vms: list[Vm] = []
        """Guests that live."""
        self._names: dict[Vm, str] = {}
        given = "" if partitions is None else f", partitions={partitions}"
        self._script = [f"pair = Pair(xen{given})"]

    # --- what happens ----------------------------------------------------------------------------

    def guest(self, bits: int = 64, vcpus: int = 1) -> Vm:
        """Create a guest that has said nothing yet."""
        vm = self.machine.create_vm(bits=bits, vcpus=vcpus, ram_pages=RAM_PAGES)
        vm.memory.allocate(RAM_PAGES)  # the test deals them out itself
        guest = Guest(vm.id, bits, (vm.memory.base, vm.memory.end), vcpus)
        self.states = frozenset(state.having(guest) for state in self.states)
        self.vms.append(vm)
        name = self._names[vm] = f"guest_{len(self._names)}"
        vcpus_given = f", vcpus={vcpus}" if vcpus != 1 else ""
        self._script.append(f"{name} = pair.guest({bits}{vcpus_given})")
        return vm

    def destroy(self, vm: Vm) -> None:
        """Destroy a guest: nothing of it is left."""
        self._script.append(f"pair.destroy({self._names[vm]})")
        freed = vm.destroy()
        self.vms.remove(vm)
        self.states = frozenset(state.without(vm.id) for state in self.states)
        if not freed or self.machine.spmc.residue(vm.id):
            left = self.machine.spmc.residue(vm.id) or ["memory that Xen still holds"]
            raise Disagreement("\n".join(["of a guest that is gone is left:", *left, self.script]))

    def may_call(self, vm: Vm, fid: int) -> bool:
        """Whether the model knows what becomes of a function."""
        return all(modelled(state.profile, fid & LOW) for state in self.states)

    def call(self, vm: Vm, fid: int, *registers: int) -> Reply:
        """Make a call on both. Raises Disagreement if Xen does what FF-A does not allow.

        A call that is known to end the machine of this tree is not made; its answer is what a
        function gets that nobody knows.
        """
        given = (fid, *registers) if vm.bits == 64 else (v & LOW for v in (fid, *registers))
        call = Call.of(vm.id, *given)
        if end := self._ends(call):
            self.known.add(end)
            return Reply((LOW, *(0,) * 17))
        self._script.append(self._line(vm, call))
        # Each state's outcomes are known before the call is made: a prediction, not an excuse.
        expected = {state: predict(state, call) for state in self.states}
        before = self._pages()
        try:
            reply = vm.smc(*call.registers)
        except FfashimError as fault:
            raise Disagreement(f"{call} did not return: {fault}\n\n{self.script}") from fault
        seen = Observation(tuple(reply), before, self._pages(), self._held())
        found = {
            state: [match(call, outcome, seen) for outcome in outcomes]
            for state, outcomes in expected.items()
        }
        after = {each for many in found.values() for each in many if isinstance(each, System)}
        after |= self._deviate(call, seen, found, right=bool(after))
        if not after:
            who = next(iter(self.states)).guest(vm.id)
            misfits = [each for many in found.values() for each in many if isinstance(each, Misfit)]
            raise Disagreement(f"{explain(call, who, misfits, seen)}\n\n{self.script}")
        self.states = frozenset(after)
        return reply

    def _deviate(
        self,
        call: Call,
        seen: Observation,
        found: Mapping[System, Sequence[System | Misfit]],
        right: bool,
    ) -> set[System]:
        """Return how things may stand after a known defect; report it unless Xen was ``right``.

        In a state in which Xen was right only what a defect does in silence is looked for: it
        shows later on.
        """
        after = set()
        for state, many in found.items():
            fits = any(isinstance(each, System) for each in many)
            used = self._silent if fits else self.deviations
            for outcome in deviating(used, state, call) if used else ():
                then = match(call, outcome, seen)
                if isinstance(then, System):
                    after.add(then)
                    if not right:
                        self.known.update(outcome.known)
        return after

    def _ends(self, call: Call) -> str | None:
        return next(
            (
                each.finding
                for each in self.deviations
                if each.ends and any(each.ends(state, call) for state in self.states)
            ),
            None,
        )

    # --- what is seen ----------------------------------------------------------------------------

    def _watched(self) -> list[tuple[Vm, int]]:
        return [(vm, vm.memory.base + n * PAGE) for vm in self.vms for n in WATCHED]

    def _pages(self) -> dict[tuple[int, int], bytes]:
        return {(vm.id, page): bytes(vm.memory.page(page)) for vm, page in self._watched()}

    def _held(self) -> dict[tuple[int, int], int]:
        return {(vm.id, page): vm.memory.references(page) for vm, page in self._watched()}

    # --- what is told ----------------------------------------------------------------------------

    def _line(self, vm: Vm, call: Call) -> str:
        registers = list(call.registers)
        while len(registers) > 1 and not registers[-1]:
            registers.pop()
        try:
            first = f"FFA.{FFA(registers[0]).name}"
        except ValueError:
            first = hex(registers[0])
        rest = [str(value) if value < 10 else hex(value) for value in registers[1:]]
        return f"pair.call({', '.join([self._names[vm], first, *rest])})"

    @property
    def script(self) -> str:
        """What has happened, as a test that can be put into a file and run."""
        return "\n".join(
            [
                "from ffashim import FFA, Machine",
                "from ffashim.model import Pair",
                "",
                "",
                "def test_xen_does_what_the_model_says(xen: Machine) -> None:",
                *(f"    {line}" for line in self._script),
            ]
        )


def known_of(machine: Machine, deviations: Sequence[Deviation]) -> list[Deviation]:
    """Return those that a machine's tree has. The machine must be booted afterwards."""
    return [each for each in deviations if capabilities.probe(machine, each.probe)]
