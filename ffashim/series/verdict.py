# SPDX-License-Identifier: GPL-2.0-only
"""From results to a verdict: what is wrong with which commit, since when, and until which.

A commit is judged against the one before it. What it breaks counts also where a later commit mends
it: who bisects stops there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ffashim import lint
from ffashim.series import lines, regressions
from ffashim.series.findings import ERROR, NOTE, WARNING, Finding, Judgement, Verdict
from ffashim.series.plan import Plan, Results, name_of
from ffashim.series.regressions import mended
from ffashim.variants import nearest


def judge(plan: Plan, found: Results) -> Verdict:
    """Put the results together."""
    judgements = []
    for number, commit in enumerate(plan.series.commits, 1):
        judgement = Judgement(commit)
        judgement.outcomes = _outcomes(found, number)
        judgement.broken = _broken(plan, found, number)
        built = _errors(plan, found, number) or list(_builds(plan, found, number))
        refused = "\n".join(each.detail for each in built if each.rule == "build")
        judgement.findings = [
            *built,
            *(each for each in _warnings(plan, found, number) if not _is_told(each, refused)),
            *regressions.find(plan, found, number),
            *_behaviour(plan, found, judgement, number),
            *_coverage(plan, found, judgement, number),
            *_mutants(plan, found, judgement, number),
        ]
        judgements.append(judgement)
    return Verdict(plan.series, judgements, _outcomes(found, 0), _notes(plan, found))


def _notes(plan: Plan, found: Results) -> list[str]:
    notes = [*plan.notes]
    for (number, name), result in found.conformance.items():
        if number == 0 and (why := result.get("error") or result.get("failed")):
            notes.append(f"the base could not be tested ({name}): {_first_error(why)}")
    if why := found.mutants.get("why") or found.mutants.get("failed"):
        notes.append(f"no mutants were made: {why}")
    if why := found.coverage.get("failed"):
        notes.append(f"coverage was not counted: {why}")
    return notes


def _outcomes(found: Results, number: int) -> Counter[str]:
    return Counter(
        test["outcome"]
        for (n, _), result in found.conformance.items()
        if n == number
        for test in result.get("tests", {}).values()
    )


# --- builds --------------------------------------------------------------------------------------


def _configurations(plan: Plan, number: int) -> Iterator[tuple[str, str]]:
    """Yield each configuration's name, and the name of the nearest one of the tree before."""
    before = plan.trees[number - 1]
    for chosen in plan.variants(plan.trees[number]):
        yield name_of(chosen), name_of(nearest(before, chosen))


def _builds(plan: Plan, found: Results, number: int) -> Iterator[Finding]:
    said: dict[str, list[str]] = {}
    details: dict[str, str] = {}
    for here, _ in _configurations(plan, number):
        result = found.conformance.get((number, here), {})
        if why := result.get("failed"):
            yield Finding("unknown", ERROR, f"the tests came to no result: {why}", (here,))
        if error := result.get("error"):
            said.setdefault(_first_error(error), []).append(here)
            details.setdefault(_first_error(error), error)  # where files lie differs
    for head, where in said.items():
        old = [found.conformance.get((number - 1, before), {}).get("error")
               for here, before in _configurations(plan, number) if here in where]  # fmt: skip
        if all(old):
            continue  # it did not build before either

        def there(later: int) -> bool:
            results = (r for (n, _), r in found.conformance.items() if n == later)
            return any(result.get("error") for result in results)

        yield Finding("build", ERROR, f"does not build: {head}", tuple(where), details[head],
                      mended=mended(plan, number, there))  # fmt: skip


def _broken(plan: Plan, found: Results, number: int) -> bool:
    results = (result for (n, _), result in found.conformance.items() if n == number)
    said = (found.compiles.get((number, cc), {}) for cc in plan.compilers)
    return any(each.get("error") for each in results) or any(map(_refused, said))


def _first_error(text: str) -> str:
    lines_ = text.splitlines()
    found = next((line for line in lines_ if "error:" in line), lines_[0] if lines_ else "")
    return found.rpartition("/xen/")[2] or found


def _errors(plan: Plan, found: Results, number: int) -> list[Finding]:
    """Return what compilers refuse: one finding, however many they are and say so."""
    where: dict[str, None] = {}
    said: list[Mapping[str, Any]] = []
    for cc in plan.compilers:
        ends = [found.compiles.get((n, cc), {}) for n in (number - 1, number)]
        if "said" not in ends[0] or _refused(ends[0]):
            continue  # nobody knows what is new
        if new := _refused(ends[1]):
            where.update(dict.fromkeys([cc, *(name for each in new for name in each["in"])]))
            said += new
    if not said:
        return []

    def there(later: int) -> bool:
        return any(_refused(found.compiles.get((later, cc), {})) for cc in plan.compilers)

    first = said[0]
    lines_ = [f"{each['file']}:{each['line']}: error: {each['text']}" for each in said]
    title = f"does not build: {first['file']}:{first['line']}: {first['text']}"
    return [Finding("build", ERROR, title, tuple(where), "\n".join(dict.fromkeys(lines_)),
                    file=first["file"], line=first["line"],
                    mended=mended(plan, number, there))]  # fmt: skip


def _refused(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in result.get("said", ()) if each["kind"] == "error"]


def _warnings(plan: Plan, found: Results, number: int) -> Iterator[Finding]:
    for cc in plan.compilers:
        ends = [found.compiles.get((n, cc), {}) for n in (number - 1, number)]
        if why := ends[1].get("failed"):
            yield Finding("unknown", ERROR, f"{cc} came to no result: {why}", (cc,))
        if "said" not in ends[0]:
            continue  # nobody knows what is new
        old = Counter(_warned(each) for each in ends[0]["said"])
        for each in ends[1].get("said", ()):
            key = _warned(each)
            if each["kind"] == "error":
                continue
            if old[key]:
                old[key] -= 1
                continue

            def there(later: int, key: tuple[str, ...] = key, cc: str = cc) -> bool:
                said = found.compiles.get((later, cc), {}).get("said", ())
                return any(_warned(other) == key for other in said)

            yield Finding(
                "warning",
                WARNING if _is_further(each["text"]) else ERROR,
                f"{cc} warns: {each['text']}",
                (cc, *each["in"]),
                file=each["file"],
                line=each["line"],
                mended=mended(plan, number, there),
            )


def _is_told(warning: Finding, refused: str) -> bool:
    """Tell whether a warning is what the tree does not build for."""
    place = f"{warning.file}:{warning.line}:"
    return any(place in line and "error: " in line for line in refused.splitlines())


def _is_further(text: str) -> bool:
    """Tell whether a warning is one that Xen's developers have not asked for by -Wall or so."""
    found = re.search(r" \[(-W[^\]=]+)=?\]$", text)
    return found is not None and found[1] in (*lint.OPTIONS, *lint.EXTRA)


def _warned(said: Mapping[str, Any]) -> tuple[str, ...]:
    return said["kind"], said["file"], said["text"]


# --- behaviour -----------------------------------------------------------------------------------


def _behaviour(plan: Plan, found: Results, judgement: Judgement, number: int) -> Iterator[Finding]:
    claim = judgement.commit.claim
    merged: dict[tuple[str, str, str], list[tuple[str, Mapping[str, Any]]]] = {}
    for here, _ in _configurations(plan, number):
        result = found.compares.get((number, here), {})
        judgement.conversations += result.get("conversations", 0)
        if why := result.get("failed"):
            # Then nobody knows whether it does what it says.
            level = ERROR if claim else WARNING
            yield Finding("unknown", level, f"behaviour was not compared: {why}", (here,))
        if left := result.get("left"):
            told = f"{left} more kinds of difference, not looked into"
            yield Finding("behaviour", NOTE, f"others: {told}", (here,))
        for each in result.get("differences", ()):
            key = each["kind"], each["subject"], each["what"]
            merged.setdefault(key, []).append((here, each))
    for (kind, subject, what), many in merged.items():
        where = tuple(here for here, _ in many)
        each = many[0][1]
        rule, level = ("behaviour", NOTE) if kind == "seen" else (kind, NOTE)
        if claim:
            # At other times, or in another order, it may be no function that has changed.
            rule, level = ("claim", ERROR) if kind == "seen" else (kind, WARNING)
        detail = [*(f"before: {line}" for line in each["before"]),
                  *(f"after:  {line}" for line in each["after"])]  # fmt: skip
        said = f' though it says "{claim}"' if rule == "claim" else ""
        yield Finding(rule, level, f"{subject}: {what}{said}", where, "\n".join(detail),
                      each["test"])  # fmt: skip


# --- coverage and mutants ------------------------------------------------------------------------


def _coverage(plan: Plan, found: Results, judgement: Judgement, number: int) -> Iterator[Finding]:
    counted = found.coverage.get("lines", {})
    if not counted:
        return
    places = lines.at_the_end(plan.series, number)
    for file, of_file in places.items():
        margin = judgement.margin.setdefault(file, {})
        status = counted.get(file, {})
        owned = plan.owners.get(file, {})
        missed = []
        for here, there in of_file.items():
            if owned.get(there) != number:
                continue
            if there in status:
                reached, gone, _ = status[there]
                margin[here] = "missed" if not reached else "partly" if gone else "reached"
                if not reached:
                    missed.append(here)
        for first, last in _runs(missed):
            told = f"line {first}" if first == last else f"lines {first} to {last}"
            yield Finding("coverage", WARNING, f"{told} of {file}: reached by no test",
                          file=file, line=first)  # fmt: skip


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of each run of numbers."""
    first = last = None
    for number in sorted(numbers):
        if last is None or number != last + 1:
            if first is not None and last is not None:
                yield first, last
            first = number
        last = number
    if first is not None and last is not None:
        yield first, last


def _mutants(plan: Plan, found: Results, judgement: Judgement, number: int) -> Iterator[Finding]:
    top = "xen/arch/arm/tee/"
    for each in found.mutants.get("mutants", ()):
        file = top + each["file"]
        if plan.owners.get(file, {}).get(each["line"]) != number:
            continue
        judgement.mutants[each["fate"]] += 1
        if each["fate"] == "survived":
            yield Finding(
                "mutant",
                WARNING,
                f"{each['function']}(), line {each['line']}: no test notices "
                f"`{each['after']}` for `{each['before']}`",
                detail=f"- {each['before']}\n+ {each['after']}",
                file=file,
                line=each["line"],
            )
