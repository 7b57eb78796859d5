# SPDX-License-Identifier: GPL-2.0-only
"""The machine: Xen's real mediator, booted on the host, with guests above and an SPMC below it."""

from __future__ import annotations

import errno
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import IntFlag
from typing import Any, Protocol

from ffashim import ending, faults, fetches, holdings
from ffashim.alarms import Alarm
from ffashim.defaults import default_spmc
from ffashim.errors import FfashimError, UsageError
from ffashim.faults import Blocked, Report, XenFault
from ffashim.fetches import Fetch
from ffashim.ffa import Version
from ffashim.loader import Extension
from ffashim.reply import Reply
from ffashim.seam import Core, Host, core_of
from ffashim.spmc import SecureHost
from ffashim.symbols import shorten
from ffashim.told import Told
from ffashim.vm import Conduit, UnexpectedReply, Vm

RAM_BASE = 0x4000_0000
"""Where a guest's RAM starts, unless the test says otherwise."""
RAM_PAGES = 512
MACHINE_PAGES = 0x40000
"""All the RAM of the machine, which guests share with Xen: HOST_RAM_PAGES of stubs/."""
HISTORY = 16
"""How many of the last guest calls a fault's report lists."""


class SecureWorld(Protocol):
    """What answers SMCs. `Spmc` is one; a test may bring its own."""

    def smc(self, regs: tuple[int, ...]) -> Sequence[int]:
        """Answer: x0 to x17 in, x0 to x17 out."""
        ...

    def attach(self, host: SecureHost) -> None:
        """Be told of the machine before it boots."""
        ...

    def snapshot(self) -> object:
        """Return the state."""
        ...

    def restore(self, state: Any) -> None:
        """Go back to a state."""
        ...


class Points(IntFlag):
    """Places at which a call can be left for another CPU."""

    LOCK = 1 << 0
    """Before a lock is taken."""
    UNLOCK = 1 << 1
    """After one is released."""
    ATOMIC = 1 << 2
    """Before an atomic or bit operation, or a reference to a page or domain."""
    COPY = 1 << 3
    """Before a copy to or from memory that is shared with a guest."""
    SMC = 1 << 4
    """Before an SMC."""
    RELAX = 1 << 5
    """In a loop that waits for another CPU: cpu_relax()."""
    ALL = 0x3F


@dataclass(frozen=True)
class Point:
    """A switch point that a call has reached."""

    cpu: int
    kind: Points
    address: int
    """Of the lock, the variable or the memory."""

    def __repr__(self) -> str:
        return f"<Point {self.kind.name} of {self.address:#x}, CPU {self.cpu}>"


@dataclass(frozen=True)
class VirtualInterrupt:
    """An interrupt that Xen injected into a guest."""

    domain: int
    vcpu: int
    intid: int


@dataclass(frozen=True)
class ConsoleLine:
    """A printk()."""

    level: int | None
    """0 error, 1 warning, 2 information, 3 debug; None where Xen named none."""
    text: str

    def __str__(self) -> str:
        mark = "EWID"[self.level] if self.level is not None else " "
        return f"{mark} {self.text}"


@dataclass(frozen=True)
class HeapBlock:
    """A block of Xen's heap that is in use."""

    serial: int
    """It was the how-manieth allocation since boot."""
    size: int
    """Bytes."""
    where: str
    """Who allocated it."""


@dataclass(frozen=True)
class _Snapshot:
    core: Core
    memory: Any
    world: object
    vms: dict[int, Vm]
    pages: dict[int, int]
    booted: bool


class DomainError(FfashimError):
    """domain_create() or domain_kill() failed in Xen."""

    def __init__(self, what: str, code: int, said: str = "") -> None:
        told = f"; Xen said: {said}" if said else ""
        super().__init__(f"{what} failed with -{errno.errorcode.get(code, code)}{told}")
        self.code = code
        """The error, as a positive errno value."""


class Machine:
    """A machine that runs one extension.

    extension: from `loader.build()`. One machine at a time runs on it; a new one takes over.
    spmc: the secure world; None is an SPMC of the default version with four partitions.
    smccc: the version of the calling convention that the firmware reports.

    `boot()` it before use. Nothing happens by itself: time, interrupts of the secure world and
    what Xen defers move between calls, never during them.
    """

    def __init__(
        self, extension: Extension, spmc: SecureWorld | None = None, *, smccc: str = "1.2"
    ) -> None:
        self.extension = extension
        module = extension.load()
        self.ffi: Any = module.ffi
        self.lib: Any = module.lib
        self._core = core_of(module, extension.sanitize)
        if self._core.owner is not None:
            self._core.owner._disown()
        self._core.owner = self
        self.cpus: int = self.lib.FFASHIM_CPUS
        self.told = Told(self.ffi, self.lib, extension)
        """What the extension tells of itself, for reports."""
        self._frame = self.ffi.buffer(self.lib.ffashim_frame(), 18 * 8)
        self.smccc = Version.parse(smccc)
        self.vms: dict[int, Vm] = {}
        self.spmc: Any = None
        self.stopped: XenFault | None = None
        self._script_error: BaseException | None = None
        self._text: Any = self.ffi.new("const char **")
        self._on_point: Callable[[Point], None] | None = None
        self._on_fetch: Callable[[Fetch], None] | None = None
        self._suspend: set[int] = set()
        self._pending_irqs: list[tuple[int, int]] = []
        self._next_page: dict[int, int] = {}
        self._booted = False
        self._alarms: list[Alarm] = []
        self._power_on(spmc if spmc is not None else default_spmc(extension))

    # --- life ----------------------------------------------------------------------------------

    def _power_on(self, spmc: SecureWorld) -> None:
        """Back to the state before the first instruction, with this secure world."""
        self.lib.ffashim_rearm()
        self.lib.ffashim_restore(self._core.cold)
        self.spmc = spmc
        self._forget()
        self._set_vms({})
        self._next_page = {}
        self._booted = False
        spmc.attach(Host(self))

    def _disown(self) -> None:
        for vm in self.vms.values():
            vm.disable()

    def _set_vms(self, vms: dict[int, Vm]) -> None:
        """These guests exist and no others."""
        for vm in self.vms.values():
            vm.disable()
        for vm in vms.values():
            vm.enable()
        self.vms = vms

    def _forget(self) -> None:
        self.stopped = None
        self._script_error = None
        self._pending_irqs.clear()
        self._suspend.clear()
        self._on_point = None
        self._on_fetch = None
        self.lib.ffashim_watch(0)

    def boot(self, spmc: SecureWorld | None = None) -> Machine:
        """Boot from nothing, through the real tee_init(), with the same secure world or a new one.

        All guests are gone. Raises XenFault if Xen does not survive it.
        """
        self._mine()
        if self._booted or spmc is not None:
            self._power_on(spmc if spmc is not None else self.spmc)
        self.lib.ffashim_smccc_version((self.smccc.major << 16) | self.smccc.minor)
        self._booted = True
        self._job(self.lib.FFASHIM_JOB_BOOT)
        self._settle()
        return self

    def snapshot(self) -> object:
        """Remember the whole machine, guests and secure world included, for `restore()`."""
        self._usable()
        if any(self.lib.ffashim_cpu_state(cpu) for cpu in range(self.cpus)):
            raise UsageError("a snapshot can be taken between calls only, not in the middle of one")
        handle = self.ffi.new("void **")
        if self.lib.ffashim_snapshot(handle):
            raise FfashimError("there is no memory left for a snapshot")
        memory = self.ffi.gc(handle[0], self.lib.ffashim_snapshot_free)
        world = self.spmc.snapshot()
        return _Snapshot(
            self._core, memory, world, dict(self.vms), dict(self._next_page), self._booted
        )

    def restore(self, snapshot: object) -> None:
        """Go back to a snapshot of this machine. A fault is forgotten; guests since are gone."""
        self._mine()
        if not isinstance(snapshot, _Snapshot):
            raise UsageError(f"restore({snapshot!r}): want what snapshot() has returned")
        if snapshot.core is not self._core:
            raise UsageError("this snapshot is of a machine that runs another extension")
        self.lib.ffashim_restore(snapshot.memory)
        self._forget()
        self._set_vms(dict(snapshot.vms))
        self._next_page = dict(snapshot.pages)
        self._booted = snapshot.booted
        self.spmc.restore(snapshot.world)

    def fingerprint(self) -> int:
        """Return 64 bits that are the same whenever Xen and the memory of the machine are.

        Then Xen does the same from there on, if the secure world does. Different ones may still
        mean no difference that a call can tell, such as where a block of memory lies. What only
        looks back has no part in it: the console, the interrupts that guests got.
        """
        self._usable()
        return int(self.lib.ffashim_fingerprint())

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Let what is called meanwhile not count as reached, in a build that counts it."""
        number = self.ffi.new("uint64_t *")
        counters = self.ffi.buffer(self.lib.ffashim_counters(number), number[0] * 8)
        before = bytes(counters)
        try:
            yield
        finally:
            counters[:] = before

    @property
    def mediator(self) -> bool:
        """Whether Xen found an FF-A mediator that works: guests can be given one."""
        try:
            vm = self.create_vm()
        except DomainError:
            return False
        vm.destroy()
        return True

    # --- guests --------------------------------------------------------------------------------

    def create_vm(
        self,
        ffa_version: str | None = None,
        *,
        bits: int = 64,
        vcpus: int = 1,
        domid: int | None = None,
        ram_pages: int = RAM_PAGES,
        ram_base: int = RAM_BASE,
        tee: bool = True,
        fail_late: bool = False,
    ) -> Vm:
        """Create a guest, as domain_create() and then the toolstack do.

        ffa_version: negotiate it ("1.0" to "1.2"), by FFA_VERSION and FFA_ID_GET; None does
            nothing yet.
        bits: 64 or 32, the width of the guest's kernel.
        domid: its domain ID, the lowest that is free from 1 unless given. Its FF-A ID is one more.
        ram_pages, ram_base: its RAM, in 4 KiB pages, and where the guest sees it.
        tee: give it the mediator. fail_late: let domain_create() fail after the mediator has
            been set up.

        Raises DomainError if Xen refuses.
        """
        self._usable()
        if bits not in (32, 64):
            raise UsageError(f"bits={bits}: a guest is of 32 or 64 bits")
        if not 1 <= vcpus <= 128:
            raise UsageError(f"vcpus={vcpus}: a guest has 1 to 128 vCPUs")
        if ram_base % 4096:
            raise UsageError(f"ram_base={ram_base:#x}: RAM starts at a page, a multiple of 4096")
        if domid is None:
            taken = {vm.domid for vm in self.vms.values()}
            domid = next(n for n in range(1, 0x7FF0) if n not in taken)
        if not 0 <= domid <= 0xFFFF:
            raise UsageError(f"domid={domid}: a domain ID has 16 bits")
        if not 0 <= ram_pages <= MACHINE_PAGES:
            raise UsageError(
                f"ram_pages={ram_pages}: a number of pages is wanted, of the {MACHINE_PAGES} "
                "(1 GiB) that the machine has for Xen and all guests"
            )
        if ffa_version is not None:
            Version.parse(ffa_version)
        fault = self.ffi.new("int *")
        cpu = self._idle_cpu()
        said = self.lib.ffashim_console(self._text)
        before = self.lib.ffashim_last_owner()
        slot = self.lib.ffashim_domain_create(
            cpu, domid, vcpus, bits == 64, tee, ram_base >> 12, ram_pages, fail_late, fault
        )
        if fault[0]:
            self._finish(cpu, fault[0])
            slot = self.lib.ffashim_result(cpu)
            self.lib.ffashim_retire(cpu)
        self._settle()
        owner = int(self.lib.ffashim_last_owner())
        if slot < 0:
            if owner != before:
                self._alarms += holdings.leaks(self, owner, f"domain {domid}, never created,")
            raise DomainError(f"domain_create() of domain {domid}", -slot, self._complaint(said))
        vm = Vm(self, slot, domid, bits, vcpus, ram_base, ram_pages)
        vm.owner = owner
        self.vms[slot] = vm
        self._next_page[slot] = 0
        if ffa_version is not None:
            try:
                vm.negotiate(ffa_version)
            except UnexpectedReply:
                vm.destroy()
                raise
        return vm

    def _kill(self, vm: Vm) -> bool:
        """Run domain_kill(). True if nothing holds the domain any more."""
        self._usable()
        result = self._job(self.lib.FFASHIM_JOB_KILL, vm.slot)
        if result == -errno.EBUSY:
            raise UsageError(
                f"domain {vm.domid} is in the middle of a call, whose end domain_kill() waits for"
            )
        if result < 0:
            raise DomainError(f"domain_kill() of domain {vm.domid}", -result)
        vm.dead = True
        vm.disable()
        self._settle()
        return vm.slot not in self.vms

    # --- calls ---------------------------------------------------------------------------------

    def _caller(self, slot: int, vcpu: int) -> Callable[..., Reply]:
        """Return a function that makes a vCPU's calls: registers in, the reply out."""
        caller: Callable[..., Reply] = self._core.caller((slot, vcpu, self._slow_call, Reply))
        return caller

    def _slow_call(self, code: int, slot: int, vcpu: int) -> None:
        """Bring a call to its end that did not simply run through; the frame then holds it."""
        cpu = 0
        if code == -4:
            self._usable()
        if code == -1:
            self._require_free(slot, vcpu)
            cpu = self._idle_cpu()
            code = self.lib.ffashim_call(cpu, slot, vcpu)
        if code > 0:
            self._finish(cpu, code)
            code = -2 if self.lib.ffashim_result(cpu) else -3
            self.lib.ffashim_fetch(cpu)
            self.lib.ffashim_retire(cpu)
        if code == -2:
            self._refused(cpu, slot, vcpu)
        if code == -3:
            answer = bytes(self._frame)
            self._settle()
            self._frame[:] = answer

    def _require_free(self, slot: int, vcpu: int) -> None:
        """Refuse what no hardware can do: a call of a vCPU that is in the middle of one."""
        if not self.lib.ffashim_calling(slot, vcpu):
            return
        vm = self.vms.get(slot)
        name = f"domain {vm.domid}" if vm else "a guest"
        busy = f"vCPU {vcpu} of {name} is in the middle of a call"
        if vm is None or len(vm.vcpus) == 1:
            raise UsageError(f"{busy}: create it with vcpus=2, and use the other: vm.vcpus[1]")
        raise UsageError(f"{busy}; use another: vm.vcpus[{1 if vcpu == 0 else 0}]")

    def _refused(self, cpu: int, slot: int, vcpu: int) -> None:
        vm = self.vms.get(slot)
        name = f"domain {vm.domid}" if vm else "the guest"
        if -self.lib.ffashim_result(cpu) == errno.ENOENT:
            raise UsageError(f"vCPU {vcpu} of {name} is offline and cannot make calls")
        raise UsageError(f"{name} is dead or has no vCPU {vcpu}: it cannot make calls")

    def _batch(self, slot: int, vcpu: int, frames: Any, count: int) -> None:
        self._usable()
        self._require_free(slot, vcpu)
        result = self._job(self.lib.FFASHIM_JOB_BATCH, slot, vcpu, count, regs=frames)
        if result:
            self._refused(0, slot, vcpu)
        self._settle()

    # --- jobs ----------------------------------------------------------------------------------

    def _idle_cpu(self) -> int:
        for cpu in range(self.cpus):
            if self.lib.ffashim_cpu_state(cpu) == self.lib.FFASHIM_IDLE:
                return cpu
        self._usable()
        raise UsageError(f"all {self.cpus} CPUs of the machine are in the middle of a call")

    def _job(
        self, kind: int, a: int = 0, b: int = 0, c: int = 0, *, regs: Any = None, cpu: int = -1
    ) -> int:
        if cpu < 0:
            cpu = self._idle_cpu()
        code = self.lib.ffashim_job(cpu, kind, a, b, c, regs if regs is not None else self.ffi.NULL)
        if code == -1:
            raise UsageError(f"CPU {cpu} is in the middle of a call")
        if code > 0:
            self._finish(cpu, code)
            result = int(self.lib.ffashim_result(cpu))
            self.lib.ffashim_retire(cpu)
            return result
        return int(self.lib.ffashim_result(cpu))

    def _finish(self, cpu: int, state: int) -> None:
        """Drive a CPU whose job could not run through until it is done; raise what ended it."""
        lib = self.lib
        while state != lib.FFASHIM_DONE:
            if state == lib.FFASHIM_FAULTED:
                self._raise(cpu)
            elif state == lib.FFASHIM_BLOCKED:
                self._help_holder(cpu)
            elif state == lib.FFASHIM_IN_SMC:
                raise Blocked(
                    f"CPU {cpu} is inside the SMC that this script answers, and cannot go on before"
                )
            elif state == lib.FFASHIM_OTHER_THREAD:
                raise UsageError(
                    "another thread is in the middle of a call of this machine: use a machine "
                    "from one thread at a time"
                )
            elif state == lib.FFASHIM_IDLE:
                raise UsageError("the machine was reset in the middle of this call")
            state = lib.ffashim_drive(cpu)

    def _help_holder(self, cpu: int) -> None:
        """Let the CPU that holds what this one waits for run on."""
        lib = self.lib
        chain = [cpu]
        while True:
            lock, holder = self.told.waits(chain[-1])
            if lock is None or holder >= self.cpus:
                return
            if holder in chain:
                self._deadlock(cpu)
            state = lib.ffashim_cpu_state(holder)
            if state == lib.FFASHIM_IN_SMC:
                raise Blocked(
                    f"CPU {cpu} waits for {lock.name} ({lock.where}), which CPU {holder} holds "
                    "while this script answers its SMC.\nUse Vcpu.start() here, and the call's "
                    "reply() once the script has returned."
                )
            if state == lib.FFASHIM_READY:
                if lib.ffashim_drive(holder) == lib.FFASHIM_FAULTED:
                    self._raise(holder)
                return
            if state != lib.FFASHIM_BLOCKED:
                self._deadlock(cpu)
            chain.append(holder)

    def _deadlock(self, cpu: int) -> None:
        locks, waits = self.told.locks(), self.told.all_waits()
        lock, holder = self.told.waits(cpu)
        name = lock.name if lock else "a lock"
        self._stop(
            faults.XenDeadlock,
            Report(
                f"CPU {cpu} waits for {name} of CPU {holder}, which will not release it",
                where=lock.where if lock else "",
                locks=locks,
                waits=waits,
            ),
        )

    # --- faults --------------------------------------------------------------------------------

    def _mine(self) -> None:
        if self._core.owner is not self:
            raise UsageError(
                "another Machine has been created on the same extension and has taken it over.\n"
                "Use that one, or build a second extension with other settings."
            )

    def _usable(self) -> None:
        self._mine()
        if self.stopped is not None:
            raise UsageError(
                f"the machine has stopped: {self.stopped.headline}: {self.stopped.report.text}\n"
                "Call boot() or restore() before it is used again."
            )
        if not self._booted:
            raise UsageError("the machine has not booted: call boot() first")

    def _raise(self, cpu: int) -> None:
        if self._script_error is not None:
            error, self._script_error = self._script_error, None
            if self.stopped is None:
                self.stopped = XenFault(Report(f"the secure world's script raised {error!r}"))
            raise error
        raw = self.lib.ffashim_last_report()
        kind, report = self.told.fault(raw)
        self._stop(kind, replace(report, earlier=self._earlier(raw)))

    def _earlier(self, raw: Any) -> tuple[str, ...]:
        """Return where the bytes were read, or written, before that are read again."""
        if raw.kind != self.lib.FFASHIM_FETCH:
            return ()
        fetch = fetches.fetch_of(self, raw.cpu)
        assert fetch.first is not None
        return (str(fetch.first), *map(str, fetch.first.chain[1:]))

    def _stop(self, kind: type[XenFault], report: Report) -> None:
        console = tuple(str(line) for line in self.console[-10:])
        fault = kind(replace(report, console=console, calls=self.history))
        self.stopped = fault
        raise fault

    @property
    def history(self) -> tuple[str, ...]:
        """The last guest calls, oldest first, a line each: the vCPU, and what was in registers."""
        past = self.ffi.new("ffashim_past[]", HISTORY)
        return tuple(
            self._describe(past[n].slot, past[n].vcpu, tuple(past[n].x))
            for n in range(self.lib.ffashim_history(past, HISTORY))
        )

    def _describe(self, slot: int, vcpu: int, regs: tuple[int, ...]) -> str:
        vm = self.vms.get(slot)
        return f"d{vm.domid if vm else '?'}v{vcpu} {Reply(regs)}"

    # --- what the secure world and switch points call --------------------------------------------

    def _smc_from_xen(self, cpu: int, regs: Any) -> None:
        self.spmc.cpu = cpu
        response = self.spmc.smc(tuple(regs[0:18]))
        try:
            regs[0:18] = response
        except (ValueError, TypeError, OverflowError) as error:
            raise UsageError(
                f"the secure world answered an SMC with {response!r}: an answer is 18 registers, "
                "x0 to x17, of 64 bits each"
            ) from error

    def _reached(self, cpu: int, kind: int, address: int) -> int:
        if kind == self.lib.FFASHIM_POINT_FETCH:
            return self._fetched(fetches.fetch_of(self, cpu))
        if cpu in self._suspend:
            return 1
        callback = self._on_point
        if callback is not None:
            self.lib.ffashim_watch(0)
            try:
                callback(Point(cpu, Points(1 << kind), address))
            finally:
                self.lib.ffashim_watch(self._watched)
        return 0

    def _fetched(self, fetch: Fetch) -> int:
        callback = self._on_fetch
        if callback is None:
            harmless = fetch.first is None or fetches.reason(fetch)
            return 0 if harmless else int(self.lib.FFASHIM_FETCH_REFUSED)
        watched = self._watched
        self.lib.ffashim_watch(0)
        self._on_fetch = _look_away
        try:
            callback(fetch)
        finally:
            self._on_fetch = callback
            self.lib.ffashim_watch(watched)
        return 0

    _watched = 0

    @contextmanager
    def at_fetches(self, callback: Callable[[Fetch], None]) -> Iterator[None]:
        """Run a function at every read of a guest's memory that a call makes in the body, before
        it is made: `Fetch.data` can be changed, as another vCPU could.

        That bytes are read twice is no error there: what comes of it is the test's to tell. The
        function may make other vCPUs call, as in `at_points()`. It wants a build with
        ``--sanitize=double-fetch``.
        """
        self._usable()
        if not any(name.startswith(fetches.SANITIZER) for name in self.extension.sanitize):
            raise UsageError(
                "what Xen reads is not seen in this build: run pytest or ffashim check with "
                "--sanitize=double-fetch, or loader.build(tree, sanitize=['double-fetch'])"
            )
        _require_takes_one(callback, "at_fetches", "the Fetch")
        before, watched = self._on_fetch, self._watched
        self._on_fetch, self._watched = callback, watched | 1 << self.lib.FFASHIM_POINT_FETCH
        self.lib.ffashim_watch(self._watched)
        try:
            yield
        finally:
            self._on_fetch, self._watched = before, watched
            self.lib.ffashim_watch(watched)

    @contextmanager
    def at_points(
        self,
        callback: Callable[[Point], None],
        points: Points = Points.ALL,
        *,
        only: int | None = None,
    ) -> Iterator[None]:
        """Run a function at every switch point that a call reaches in the body.

        It may make other vCPUs call, of the same guest or another: they run on other CPUs, in the
        middle of the first call, and meet no switch points themselves. If one of them waits for a
        lock that the first call holds, the first call goes on until it releases it.

        only: at one of these points alone, by its number from 0.
        """
        self._usable()
        _require_takes_one(callback, "at_points", "the Point")
        if only is not None:
            callback = self._once(callback)
        before, before_points = self._on_point, self._watched
        fetch = before_points & 1 << self.lib.FFASHIM_POINT_FETCH
        self._on_point, self._watched = callback, int(points) | fetch
        self.lib.ffashim_watch_after(self._watched, only or 0)
        try:
            yield
        finally:
            self._on_point, self._watched = before, before_points
            self.lib.ffashim_watch(before_points)

    def _once(self, callback: Callable[[Point], None]) -> Callable[[Point], None]:
        def reached(point: Point) -> None:
            self._watched &= 1 << self.lib.FFASHIM_POINT_FETCH
            callback(point)

        return reached

    # --- time, interrupts, what Xen defers --------------------------------------------------------

    @property
    def now(self) -> int:
        """Nanoseconds since boot: NOW(). Only `advance()` moves it."""
        return int(self.lib.ffashim_now())

    def advance(self, seconds: float) -> int:
        """Let time pass. Timers that come due run in their order, each at its own time.

        Returns how many ran. A timer that re-arms itself runs again if it comes due again.
        """
        self._usable()
        until = self.now + round(seconds * 1_000_000_000)
        ran = 0
        while (due := self.lib.ffashim_next_timer()) <= until:
            self.lib.ffashim_set_now(max(due, self.now))
            self._job(self.lib.FFASHIM_JOB_TIMER)
            self._settle()
            ran += 1
        self.lib.ffashim_set_now(until)
        return ran

    @property
    def timers(self) -> int:
        """How many timers are queued."""
        return int(self.lib.ffashim_timers())

    def raise_irq(self, intid: int, cpu: int = 0) -> None:
        """Make a physical interrupt pending. It is taken when no call is under way."""
        if not 0 <= cpu < self.cpus:
            raise UsageError(f"cpu={cpu}: the machine has {self.cpus} CPUs")
        self._pending_irqs.append((intid, cpu))
        self._settle()

    def take_irq(self, intid: int) -> None:
        """Let an idle CPU take a physical interrupt at once, and do what its handler defers: also
        in the middle of another CPU's call, in `at_points()`.
        """
        self._usable()
        cpu = self._idle_cpu()
        self._job(self.lib.FFASHIM_JOB_IRQ, intid, cpu=cpu)
        self._job(self.lib.FFASHIM_JOB_SOFTIRQ, cpu=cpu)

    def irq_requested(self, intid: int, cpu: int = 0) -> bool:
        """Tell whether Xen has installed a handler for a physical interrupt on a CPU."""
        return bool(self.lib.ffashim_irq_requested(intid, cpu))

    def irq_type(self, intid: int) -> int | None:
        """How a physical interrupt triggers, as irq_set_type() was told: IRQ_TYPE_* of Xen's
        device_tree.h. None if nobody has said, as for an SGI, which is edge triggered always.
        """
        kind: int = self.lib.ffashim_irq_type(intid)
        return None if kind < 0 else kind

    def _settle(self) -> None:
        """Take pending interrupts and do what Xen has deferred, once no CPU is in a call."""
        lib = self.lib
        while self._pending_irqs or lib.ffashim_softirq_pending():
            if any(lib.ffashim_cpu_state(cpu) for cpu in range(self.cpus)) or not self._booted:
                return
            if self._pending_irqs:
                intid, cpu = self._pending_irqs.pop(0)
                self._job(lib.FFASHIM_JOB_IRQ, intid, cpu=cpu)
            else:
                self._job(lib.FFASHIM_JOB_SOFTIRQ)
        for slot in [slot for slot, vm in self.vms.items() if vm.dead]:
            if lib.ffashim_owner(slot) != self.vms[slot].owner:
                self._alarms += ending.of_guest(self, self.vms.pop(slot))

    # --- what can be looked at --------------------------------------------------------------------

    @property
    def console(self) -> list[ConsoleLine]:
        """Every printk() since boot, oldest first, levels included, the rate limit at work."""
        return self._console_from(0)

    def _complaint(self, start: int) -> str:
        """Return the last error or warning that Xen printed since the console was this long."""
        lines = [line for line in self._console_from(start) if line.level in (0, 1)]
        return lines[-1].text if lines else ""

    def _console_from(self, start: int) -> list[ConsoleLine]:
        used = self.lib.ffashim_console(self._text)
        raw = bytes(self.ffi.buffer(self._text[0], used))[start:].decode(errors="replace")
        return [
            ConsoleLine(int(line[0]) if line[0] != "9" else None, line[1:].rstrip("\n"))
            for line in raw.split("\0")
            if line
        ]

    def _events(self, kind: int) -> Iterator[Any]:
        events = self.ffi.new("const ffashim_event **")
        for n in range(self.lib.ffashim_events(events)):
            if events[0][n].kind == kind:
                yield events[0][n]

    @property
    def virqs(self) -> list[VirtualInterrupt]:
        """Interrupts that Xen injected into guests, oldest first."""
        return [
            VirtualInterrupt(int(e.a), int(e.b), int(e.c))
            for e in self._events(self.lib.FFASHIM_EVENT_VIRQ)
        ]

    @property
    def taints(self) -> int:
        """How often add_taint() was called."""
        return sum(1 for _ in self._events(self.lib.FFASHIM_EVENT_TAINT))

    @property
    def warnings(self) -> list[str]:
        """File and line of every WARN() that was reached."""
        found = []
        for e in self._events(self.lib.FFASHIM_EVENT_WARN):
            file = self.ffi.string(self.ffi.cast("const char *", e.b)).decode()
            found.append(f"{shorten(file)}:{e.a}")
        return found

    @property
    def alarms(self) -> list[Alarm]:
        """What the machine has seen go wrong since `forget_alarms()`, though no call ended of it.

        No reset forgets them: all that a test does counts, whatever it started from.
        """
        raw = self.ffi.new("const ffashim_alarm **")
        seen = [self.told.alarm(raw[0][n]) for n in range(self.lib.ffashim_alarms(raw))]
        return seen + self._alarms

    def forget_alarms(self) -> None:
        """Begin to look for what is wrong afresh; the order of locks that was seen is forgotten."""
        self.lib.ffashim_forget_alarms()
        self._alarms.clear()

    @property
    def heap(self) -> list[HeapBlock]:
        """Blocks of Xen's heap that are in use."""
        raw = self.ffi.new("ffashim_block[]", 4096)
        return [
            HeapBlock(
                int(raw[n].serial),
                int(raw[n].size),
                str(self.told.site(raw[n].caller, raw[n].outer)),
            )
            for n in range(min(4096, self.lib.ffashim_heap(raw, 4096)))
        ]

    @property
    def allocations(self) -> int:
        """How many allocations Xen has made since boot, failed ones included."""
        return int(self.lib.ffashim_allocations())

    def fail_allocation(self, nth: int = 1, count: int = 1) -> None:
        """Let the nth allocation of Xen's from now on fail, and those after it up to `count`."""
        if nth < 0 or count < 0:
            raise UsageError(f"fail_allocation({nth}, {count}): want numbers from 0 up")
        self.lib.ffashim_fail_allocation(nth, count)

    def fail_mapping(self, nth: int = 1) -> None:
        """Let the nth mapping of a guest page from now on fail."""
        self.lib.ffashim_fail_mapping(nth)

    @property
    def mappings(self) -> list[int]:
        """Machine frame numbers of the pages that Xen has mapped, one entry a mapping."""
        raw = self.ffi.new("uint64_t[]", 1024)
        return [int(raw[n]) for n in range(self.lib.ffashim_mappings(raw, 1024))]

    @contextmanager
    def conduit(self, conduit: Conduit) -> Iterator[None]:
        """Let the guests' calls in the body reach Xen by SMC (as ever), HVC or directly."""
        self.lib.ffashim_conduit(getattr(self.lib, f"FFASHIM_{conduit.name}"))
        try:
            yield
        finally:
            self.lib.ffashim_conduit(self.lib.FFASHIM_SMC)

    @contextmanager
    def hang_limit(self, milliseconds: int) -> Iterator[None]:
        """Change how much CPU time a call may take before it counts as endless (2000 ms)."""
        before = self.lib.ffashim_set_hang_limit(milliseconds)
        try:
            yield
        finally:
            self.lib.ffashim_set_hang_limit(before)


def _look_away(fetch: Fetch) -> None:
    """What calls fetch that are made while another one is at a fetch is nobody's concern."""


def _require_takes_one(callback: object, function: str, argument: str) -> None:
    code = getattr(callback, "__code__", None)
    if code is not None and code.co_argcount == 1 and not code.co_kwonlyargcount:
        return  # the usual case, told in no time
    try:
        if not callable(callback):
            raise TypeError("it is no function")
        inspect.signature(callback).bind(None)
    except TypeError as error:
        raise UsageError(
            f"{function}({callback!r}): want a function of one argument, {argument}: {error}"
        ) from None
    except ValueError:  # it is in C, and does not tell
        pass
