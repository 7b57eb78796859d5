# SPDX-License-Identifier: GPL-2.0-only
"""Where in the tree's files a mutation can be made.

Xen's C is parsed as it stands, before the preprocessor, by a parser that goes on where it does not
understand. What it takes for something else than it is makes a mutant that does not compile, and
that does not count.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import tree_sitter_c
from tree_sitter import Language, Node, Parser

from ffashim.mutants.operators import (
    NO_BEHAVIOUR,
    OPERATORS,
    Edit,
    Operator,
    called,
    heads_a_loop,
    text,
)

Lines = Mapping[str, Collection[int]]
"""Names of files, with the numbers of the lines in which mutants are wanted, from 1."""

# Macros that qualify a declaration. C's grammar has no place for a name there.
_QUALIFIERS = re.compile(
    rb"\b(cf_check|__init|__initdata|__must_check|__read_mostly|__ro_after_init|__exit|noreturn"
    rb"|always_inline|noinline|__maybe_unused|__packed)\b"
)

_SKIPPED = frozenset(
    {
        "ERROR",
        "array_declarator",
        "attribute_specifier",
        "comment",
        "gnu_asm_expression",
        "preproc_call",
        "preproc_def",
        "preproc_defined",
        "preproc_function_def",
        "preproc_include",
        "string_literal",
    }
)
"""Nodes in which nothing is looked for."""


@dataclass(frozen=True)
class Mutant:
    """One small mistake in one file."""

    file: str
    """The name of the file, relative to the mediator's directory."""
    line: int
    """Of the mistake, from 1."""
    function: str
    operator: str
    """The name of the operator that makes it."""
    edit: Edit
    before: str
    """The lines that are changed, as one."""
    after: str
    """What they become, as one."""
    key: str
    """Names the mutant in every tree whose statement reads the same, wherever it stands."""
    within: tuple[str, ...] = ()
    """Hashes of the conditions that it depends on, those of the ifs around it, outermost last."""


def find(
    file: str, content: bytes, operators: Sequence[Operator] = OPERATORS, lines: Lines | None = None
) -> list[Mutant]:
    """Return the mutants of a C file in the order of the source.

    Only within functions; with ``lines``, only where one of a mutant's own lines is among them.
    """
    wanted = None if lines is None else lines.get(file, ())
    mutants: list[Mutant] = []
    seen: Counter[str] = Counter()
    for function, node in _nodes(content):
        for operator in operators:
            for edit in operator.edits(node):
                mutant = _mutant(file, content, function, node, operator, edit, seen)
                first, last = _span(content, edit)
                if wanted is None or any(first <= line <= last for line in wanted):
                    mutants.append(mutant)
    return sorted(mutants, key=lambda each: (each.edit.start, each.edit.end))


def apply(content: bytes, edit: Edit) -> bytes:
    """Return a file with a mistake in it, in as many lines: those that follow keep their numbers,
    which assertions hold.
    """
    before, after = content[edit.start : edit.end], _bytes(edit)
    after += b"\n" * (before.count(b"\n") - after.count(b"\n"))
    return content[: edit.start] + after + content[edit.end :]


def functions(content: bytes) -> list[str]:
    """Return the names of the functions in which mutants are looked for."""
    return [_name(node) for node in _definitions(_parse(content))]


# --- the syntax tree -----------------------------------------------------------------------------


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_c.language()))


def _parse(content: bytes) -> Node:
    masked = _QUALIFIERS.sub(lambda found: b" " * len(found[0]), content)
    return _parser().parse(masked).root_node


def _definitions(node: Node) -> Iterator[Node]:
    for child in node.children:
        if child.type == "function_definition":
            yield child
        elif child.type.startswith("preproc_") or child.type == "ERROR":
            yield from _definitions(child)


def _nodes(content: bytes) -> Iterator[tuple[str, Node]]:
    """Yield each node in which a mistake can be made, with the name of its function."""
    for definition in _definitions(_parse(content)):
        body = definition.child_by_field_name("body")
        if body is not None:
            name = _name(definition)
            for node in _walk(body):
                yield name, node


def _walk(node: Node) -> Iterator[Node]:
    if node.type in _SKIPPED or node.is_missing:
        return
    if _only_tells(node):
        return
    yield node
    if node.type == "sizeof_expression" or (node.type == "call_expression" and heads_a_loop(node)):
        return
    for index, child in enumerate(node.children):
        field = node.field_name_for_child(index)
        if field == "value" and node.type == "case_statement":
            continue  # two cases of one value are none
        if field == "condition" and node.type.startswith("preproc_"):
            continue
        if field == "designator" and node.type == "initializer_pair":
            continue
        yield from _walk(child)


def _only_tells(node: Node) -> bool:
    """Tell whether a node does nothing that a guest could notice, such as to print."""
    if node.type == "call_expression":
        return bool(NO_BEHAVIOUR.match(called(node)))
    if node.type == "if_statement":
        parts = [node.child_by_field_name(name) for name in ("consequence", "alternative")]
        return all(_only_tells(part) for part in parts if part) and not _calls(node)
    if node.type in ("expression_statement", "compound_statement", "else_clause"):
        inner = [each for each in node.named_children if each.type != "comment"]
        return bool(inner) and all(map(_only_tells, inner))
    return node.type == "comment"


def _calls(node: Node) -> bool:
    """Tell whether anything is called there that does more than to tell."""
    if node.type == "call_expression":
        return not NO_BEHAVIOUR.match(called(node))
    return any(map(_calls, node.children))


def _name(definition: Node) -> str:
    node = definition.child_by_field_name("declarator")
    while node is not None and node.type != "identifier":
        node = node.child_by_field_name("declarator")
    return text(node) if node is not None else "?"


# --- mutants -------------------------------------------------------------------------------------


def _mutant(
    file: str,
    content: bytes,
    function: str,
    node: Node,
    operator: Operator,
    edit: Edit,
    seen: Counter[str],
) -> Mutant:
    start, end = _head(node)
    statement = _one_line(content[start : edit.start]), _one_line(content[edit.start : end])
    within = tuple(_conditions(node))
    # A statement such as `continue` is told from others by what it depends on.
    identity = "\0".join(
        [function, operator.name, *statement, _one_line(_bytes(edit)), *within[:1]]
    )
    digest = _hash(identity)
    seen[digest] += 1
    again = f".{seen[digest]}" if seen[digest] > 1 else ""
    first = content.rfind(b"\n", 0, edit.start) + 1
    last = (content.find(b"\n", edit.end) + 1 or len(content) + 1) - 1
    changed = content[first : edit.start] + _bytes(edit) + content[edit.end : last]
    return Mutant(
        file=file,
        line=content.count(b"\n", 0, edit.start) + 1,
        function=function,
        operator=operator.name,
        edit=edit,
        before=_one_line(content[first:last]),
        after=_one_line(changed),
        key=f"{function}/{operator.name}/{digest}{again}",
        within=within,
    )


def _conditions(node: Node | None) -> Iterator[str]:
    while node is not None:
        if node.type == "if_statement" and (condition := node.child_by_field_name("condition")):
            yield _hash(_one_line(text(condition).encode(errors="surrogateescape")))
        node = node.parent


def _hash(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


def _head(node: Node) -> tuple[int, int]:
    """Return where the statement starts and ends that a node is in, without the body of one that
    has one.
    """
    while node.parent is not None and not node.type.endswith(("_statement", "declaration")):
        node = node.parent
    for name in ("consequence", "body"):
        if (body := node.child_by_field_name(name)) is not None:
            return node.start_byte, max(node.start_byte, body.start_byte)
    if node.type == "case_statement" and (value := node.child_by_field_name("value")):
        return node.start_byte, value.end_byte
    return node.start_byte, node.end_byte


def _span(content: bytes, edit: Edit) -> tuple[int, int]:
    first = content.count(b"\n", 0, edit.start) + 1
    return first, first + content.count(b"\n", edit.start, max(edit.start, edit.end - 1))


def _bytes(edit: Edit) -> bytes:
    return edit.text.encode(errors="surrogateescape")


def _one_line(source: bytes) -> str:
    return " ".join(source.decode(errors="replace").split())
