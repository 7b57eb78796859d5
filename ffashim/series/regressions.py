# SPDX-License-Identifier: GPL-2.0-only
"""What a commit does to the tests: which newly fail, which newly pass, which defects come and go.

A tree's results are its own. They are compared with those of the last tree before that was built,
in the configuration nearest to theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from ffashim.faults import alike
from ffashim.series.findings import ERROR, NOTE, Finding
from ffashim.series.plan import Plan, Results, name_of
from ffashim.variants import VM_TO_VM, nearest


@dataclass(frozen=True)
class _Change:
    """A test whose outcome is another one. where: the configurations. why: what tells changes of a
    kind apart.
    """

    rule: str
    name: str
    test: Mapping[str, Any]
    why: str
    where: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The test's name for people, its parameters as they are."""
        words, bracket, rest = self.name.rpartition("::")[2].partition("[")
        return words.removeprefix("test_").replace("_", " ") + (bracket and f" [{rest}")


def find(plan: Plan, found: Results, number: int) -> Iterator[Finding]:
    """Yield what a commit does to the tests: a finding for each that it breaks, whatever its
    parameters, or for each place in Xen where tests end, and one for each defect that comes or
    goes.
    """
    for chosen in plan.variants(plan.trees[number]):
        here = name_of(chosen)
        if found.conformance.get((number, here), {}).get("tests") and not _last_tested(
            plan, found, number, chosen
        ):
            told = "the tests are compared with nothing: no tree before could be tested"
            yield Finding("unknown", ERROR, told, (here,))
    changes = list(_changes(plan, found, number))
    broken: dict[tuple[str, str], list[_Change]] = {}
    for change in changes:
        if change.rule in ("test", "lost"):
            broken.setdefault((change.rule, _cause(change)), []).append(change)
    for same in broken.values():
        yield _broken(plan, found, number, same)
    for rule in ("defect", "fixed"):
        groups: dict[str, list[_Change]] = {}
        for change in changes:
            if change.rule == rule:
                groups.setdefault(change.why, []).append(change)
        for why, same in groups.items():
            yield _grouped(plan, found, number, why, same)


def _cause(change: _Change) -> str:
    """Return what tests have in common that are one finding: the fault's place, or their name."""
    if change.rule == "test" and change.test.get("fault"):
        return alike(change.why)
    return change.name.partition("[")[0]


def _changes(plan: Plan, found: Results, number: int) -> Iterator[_Change]:
    merged: dict[tuple[str, str, str], list[tuple[str, Mapping[str, Any]]]] = {}
    for chosen in plan.variants(plan.trees[number]):
        here = name_of(chosen)
        old = _last_tested(plan, found, number, chosen)
        new = found.conformance.get((number, here), {}).get("tests", {})
        known = {test["reason"] for test in old.values() if test["outcome"] == "known_defect"}
        for name, test in new.items() if old else ():
            was = old.get(name, {"outcome": "not_applicable", "reason": ""})
            if kind := _change(was, test, known):
                merged.setdefault((*kind, name), []).append((here, test))
    for (rule, why, name), many in merged.items():
        yield _Change(rule, name, many[0][1], why, tuple(here for here, _ in many))


def _last_tested(
    plan: Plan, found: Results, number: int, chosen: Mapping[str, str]
) -> Mapping[str, Any]:
    """Return what became of the tests on the last tree before that was built."""
    for earlier in range(number - 1, -1, -1):
        name = name_of(nearest(plan.trees[earlier], chosen))
        if tests := found.conformance.get((earlier, name), {}).get("tests"):
            before: Mapping[str, Any] = tests
            return before
    return {}


def _change(
    was: Mapping[str, Any], test: Mapping[str, Any], known: Set[str]
) -> tuple[str, str] | None:
    """Return the rule that a change of outcome falls under, and why; None if it is none.

    known: the defects that the tree before has.
    """
    before, now = was["outcome"], test["outcome"]
    if now == "failed" and before != "failed":
        return "test", test["reason"]
    if now == "known_defect" and before == "passed":
        return "defect", test["reason"]
    # Another defect than before, or one that more tests can see now.
    if now == "known_defect" and before != "failed" and test["reason"] not in known:
        return "defect", test["reason"]
    if now == "passed" and before == "known_defect":
        return "fixed", was["reason"]
    if now == "passed" and before == "failed":
        return "fixed", ""
    if now == "not_applicable" and before == "passed" and VM_TO_VM not in test["reason"]:
        return "lost", test["reason"]
    return None


def _broken(plan: Plan, found: Results, number: int, same: Sequence[_Change]) -> Finding:
    first = same[0]
    how = "fails" if first.rule == "test" else "no longer applies"
    told, detail = first.sentence, first.test["said"]
    if len(same) > 1:
        told = (
            f"{told.partition(' [')[0]} {how} in {len(same)} cases, with {told.rpartition(' ')[2]}"
        )
        detail = "\n".join([*(each.sentence for each in same), "", detail])
    else:
        told = f"{told} {how}"
    again = first.name.partition("[")[0].rpartition("::")[2]
    title = f"{first.test['abi']}: {told}: {first.why} (-k {again})"
    if len({each.name.partition("[")[0] for each in same}) > 1:
        abis = ", ".join(dict.fromkeys(each.test["abi"] for each in same))
        title = f"{first.why} ({len(same)} tests of {abis}, the first by -k {again})"
    return Finding(
        first.rule,
        ERROR,
        title,
        tuple(dict.fromkeys(name for each in same for name in each.where)),
        detail,
        file=f"tests/{first.name.partition('::')[0]}",
        mended=_mended(plan, found, number, same),
    )


def _grouped(plan: Plan, found: Results, number: int, why: str, same: Sequence[_Change]) -> Finding:
    rule = same[0].rule
    count = f"{len(same)} test{'s' if len(same) > 1 else ''}"
    abis = ", ".join(dict.fromkeys(change.test["abi"] for change in same))
    where = tuple(dict.fromkeys(name for change in same for name in change.where))
    listed = "\n".join(f"{change.test['abi']}: {change.sentence}" for change in same)
    if rule == "defect":
        title = f"a known defect comes in: {why} ({count} of {abis})"
        later = _mended(plan, found, number, same)
        return Finding(rule, ERROR, title, where, listed, mended=later)
    title = f"a known defect is gone: {why} ({count} of {abis})" if why else f"{count} of {abis} "
    title += "" if why else ("pass now" if len(same) > 1 else "passes now")
    return Finding(rule, NOTE, title, where, listed)


def _mended(plan: Plan, found: Results, number: int, same: Sequence[_Change]) -> int:
    """Return the commit at which none of some tests is any more what it has become."""

    def there(later: int) -> bool:
        outcomes = [
            result.get("tests", {}).get(change.name, {}).get("outcome", change.test["outcome"])
            == change.test["outcome"]
            for (n, here), result in found.conformance.items()
            for change in same
            if n == later and here in change.where
        ]
        return any(outcomes) or not outcomes

    return mended(plan, number, there)


def mended(plan: Plan, number: int, there: Callable[[int], bool]) -> int:
    """Return the first later commit at which something is not there, 0 if there is none."""
    after = range(number + 1, len(plan.trees))
    return next((later for later in after if not there(later)), 0)
