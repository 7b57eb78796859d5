# SPDX-License-Identifier: GPL-2.0-only
"""What is done to C source: small mistakes of the kind that people make and that reviews miss.

An operator looks at one node of a syntax tree and yields edits, each of which is one mutant. An
edit leaves what it drops in the source, behind a condition that is never true, so that no label and
no variable becomes unused: a compiler that refuses those would hide the mutant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from tree_sitter import Node

NO_BEHAVIOUR = re.compile(
    r"^(ASSERT\w*|BUILD_BUG_ON\w*|BUG_ON|WARN_ON|g?d?printk\w*|ACCESS_ONCE|offsetof|container_of"
    r"|va_\w+|IS_ENABLED|printk_ratelimit)$"
)
"""Calls that are left alone with all that is in them: no guest can tell what they do."""

_FOLLOWS = {
    "==": ["!="],
    "!=": ["=="],
    "<": ["<=", ">="],
    "<=": ["<", ">"],
    ">": [">=", "<="],
    ">=": [">", "<"],
}
_OTHER = {
    "&&": "||",
    "||": "&&",
    "&": "|",
    "|": "&",
    "^": "&",
    "<<": ">>",
    ">>": "<<",
    "+": "-",
    "-": "+",
    "*": "+",
    "/": "*",
    "%": "/",
    "+=": "-=",
    "-=": "+=",
    "|=": "&=",
    "&=": "|=",
    "<<=": ">>=",
    ">>=": "<<=",
    "++": "--",
    "--": "++",
}
_LOGIC = {"&&", "||"}
_BITS = {"&", "|", "^", "<<", ">>", "&=", "|=", "<<=", ">>="}
_ARITHMETIC = {"+", "-", "*", "/", "%", "+=", "-=", "++", "--"}

_UNLOCK = re.compile(r"unlock")
_BARRIER = re.compile(r"^(smp_\w*mb|[rw]?mb|dsb|dmb|isb|barrier)$")
_RELEASE = re.compile(
    r"(^|_)(put|free|xfree|unmap|release|destroy|del|kill|stop|clear|dec|sub|remove|cleanup"
    r"|teardown|unregister|end)(_|$)|XFREE|^xfree$"
)
_ERRNO = re.compile(r"^E[A-Z0-9]+$")
_STATUS = re.compile(r"^FFA_RET_\w+$")
_CONSTANT = re.compile(r"^[A-Z][A-Z0-9_]{2,}$")


@dataclass(frozen=True)
class Edit:
    """A range of bytes of a file, and what takes their place."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Operator:
    """A kind of mistake."""

    name: str
    what: str
    """In words, for a list."""
    edits: Callable[[Node], Iterator[Edit]]


# --- comparisons, logic, arithmetic --------------------------------------------------------------


def _comparison(node: Node) -> Iterator[Edit]:
    if node.type == "binary_expression" and (sign := _sign(node)):
        for other in _FOLLOWS.get(text(sign), ()):
            yield _replace(sign, other)


def _swapped(signs: set[str]) -> Callable[[Node], Iterator[Edit]]:
    def edits(node: Node) -> Iterator[Edit]:
        if node.type in ("binary_expression", "assignment_expression", "update_expression"):
            sign = _sign(node)
            if sign and text(sign) in signs:
                yield _replace(sign, _OTHER[text(sign)])

    return edits


def _clause(node: Node) -> Iterator[Edit]:
    if node.type == "binary_expression" and (sign := _sign(node)) and text(sign) in _LOGIC:
        left, right = _field(node, "left"), _field(node, "right")
        yield Edit(node.start_byte, right.start_byte, "")
        yield Edit(left.end_byte, node.end_byte, "")


def _negation(node: Node) -> Iterator[Edit]:
    if node.type == "unary_expression" and (sign := _sign(node)) and text(sign) in ("!", "~"):
        yield _replace(sign, "")


# --- conditions ----------------------------------------------------------------------------------


def _condition(node: Node) -> Iterator[Edit]:
    """Negate it; for an `if`, have it hold always. That it never does is the operator `check`."""
    if node.type not in ("if_statement", "while_statement", "do_statement"):
        if node.type == "conditional_expression":
            condition = _field(node, "condition")
            yield _replace(condition, f"!({text(condition)})")
        return
    condition = _inside(_field(node, "condition"))
    yield _replace(condition, f"!({text(condition)})")
    if node.type == "if_statement":
        yield _replace(condition, f"1 || ({text(condition)})")


def _check(node: Node) -> Iterator[Edit]:
    if node.type == "if_statement":
        condition = _inside(_field(node, "condition"))
        yield _replace(condition, f"0 && ({text(condition)})")


def _loop(node: Node) -> Iterator[Edit]:
    if node.type in ("while_statement", "do_statement", "for_statement"):
        condition = node.child_by_field_name("condition")
        if condition is not None:
            inner = _inside(condition)
            yield _replace(inner, f"0 && ({text(inner)})")


# --- values --------------------------------------------------------------------------------------


def _constant(node: Node) -> Iterator[Edit]:
    if node.type == "number_literal":
        yield _replace(node, f"({text(node)} + 1)")
        if not re.fullmatch(r"0[xX]?0*[uUlL]*", text(node)):
            yield _replace(node, f"({text(node)} - 1)")


def _bound(node: Node) -> Iterator[Edit]:
    named = node.type == "identifier" and _CONSTANT.match(text(node))
    if node.type == "sizeof_expression" or (named and not _is_status(node)):
        parent = node.parent
        if parent is None or parent.type not in (
            "binary_expression",
            "argument_list",
            "assignment_expression",
            "init_declarator",
            "initializer_pair",
            "return_statement",
        ):
            return
        yield _replace(node, f"({text(node)} + 1)")
        yield _replace(node, f"({text(node)} - 1)")


def _mask(node: Node) -> Iterator[Edit]:
    if node.type == "binary_expression" and (sign := _sign(node)) and text(sign) == "&":
        left, right = _field(node, "left"), _field(node, "right")
        yield Edit(left.end_byte, node.end_byte, "")
        yield _replace(right, f"(({text(right)}) >> 1)")


def _error(node: Node) -> Iterator[Edit]:
    if node.type != "identifier":
        return
    name = text(node)
    if _STATUS.match(name):
        other = "DENIED" if name == "FFA_RET_INVALID_PARAMETERS" else "INVALID_PARAMETERS"
        yield _replace(node, f"FFA_RET_{other}")
        if name != "FFA_RET_OK":
            yield _replace(node, "FFA_RET_OK")
    elif _ERRNO.match(name):
        yield _replace(node, "ENOSPC" if name != "ENOSPC" else "EBUSY")
        yield _replace(node, "0")


def _return(node: Node) -> Iterator[Edit]:
    if node.type != "return_statement":
        return
    value = next((each for each in node.named_children if each.type != "comment"), None)
    if value is None:
        return
    if text(value) in ("true", "false"):
        yield _replace(value, "false" if text(value) == "true" else "true")
    elif value.type not in ("number_literal", "null"):
        yield _replace(value, "0")


# --- statements ----------------------------------------------------------------------------------


def _assignment(node: Node) -> Iterator[Edit]:
    """Lose an assignment; the value that a variable or a field starts with becomes 0."""
    inner = _statement_of(node)
    if inner is not None and inner.type == "assignment_expression":
        yield _drop(node)
    if node.type in ("init_declarator", "initializer_pair"):
        value = _field(node, "value")
        plain = value.type in ("initializer_list", "number_literal", "null", "false", "true")
        if not plain or (node.type == "initializer_pair" and value.type == "number_literal"):
            yield _replace(value, "0")


def _counter(node: Node) -> Iterator[Edit]:
    inner = _statement_of(node)
    if inner is not None and inner.type == "update_expression":
        yield _drop(node)


def _dropped_call(wanted: Callable[[str], bool]) -> Callable[[Node], Iterator[Edit]]:
    def edits(node: Node) -> Iterator[Edit]:
        inner = _statement_of(node)
        if inner is not None and inner.type == "call_expression" and wanted(called(inner)):
            yield _drop(node)

    return edits


def _jump(node: Node) -> Iterator[Edit]:
    bare = node.type == "return_statement" and not node.named_children
    if bare or node.type in ("goto_statement", "break_statement", "continue_statement"):
        yield _drop(node)


def _case(node: Node) -> Iterator[Edit]:
    if node.type == "case_statement" and (value := node.child_by_field_name("value")):
        colon = next(each for each in node.children if text(each) == ":")
        assert value.end_byte <= colon.start_byte
        yield Edit(node.start_byte, colon.end_byte, "")


# --- calls ---------------------------------------------------------------------------------------


def _swap(node: Node) -> Iterator[Edit]:
    for one, two in pairwise(_arguments(node)):
        if text(one) != text(two):
            # What is between them may end a line.
            comma = _source(node)[one.end_byte - node.start_byte : two.start_byte - node.start_byte]
            yield Edit(one.start_byte, two.end_byte, text(two) + comma.decode() + text(one))


def _argument(node: Node) -> Iterator[Edit]:
    for each in _arguments(node):
        if each.type not in ("number_literal", "null", "string_literal", "type_descriptor"):
            yield _replace(each, "0")


def _is_unlock(name: str) -> bool:
    return bool(_UNLOCK.search(name))


def _is_barrier(name: str) -> bool:
    return bool(_BARRIER.search(name))


def _is_release(name: str) -> bool:
    return bool(_RELEASE.search(name)) and not _is_unlock(name)


def _is_other(name: str) -> bool:
    return not (_is_unlock(name) or _is_barrier(name) or _is_release(name))


OPERATORS: tuple[Operator, ...] = (
    Operator("comparison", "a comparison flipped, or its bound moved by one", _comparison),
    Operator("logic", "&& and || taken for each other", _swapped(_LOGIC)),
    Operator("clause", "one side of && or || dropped", _clause),
    Operator("negation", "a ! or ~ dropped", _negation),
    Operator("condition", "a condition negated, or an if that always holds", _condition),
    Operator("check", "an if that never holds", _check),
    Operator("loop", "a loop that never goes on", _loop),
    Operator("constant", "a number off by one", _constant),
    Operator("bound", "a named constant or a size off by one", _bound),
    Operator("mask", "a mask dropped, or narrowed", _mask),
    Operator("bits", "& and |, << and >> taken for each other", _swapped(_BITS)),
    Operator("arithmetic", "+ and -, * and / taken for each other", _swapped(_ARITHMETIC)),
    Operator("error", "another error, or success in its place", _error),
    Operator("return", "another value returned", _return),
    Operator("assignment", "an assignment lost", _assignment),
    Operator("counter", "a count that stands still", _counter),
    Operator("jump", "a goto, break, continue or return dropped", _jump),
    Operator("case", "a case label dropped", _case),
    Operator("swap", "two arguments swapped", _swap),
    Operator("argument", "0 in place of an argument", _argument),
    Operator("unlock", "an unlock dropped", _dropped_call(_is_unlock)),
    Operator("release", "a put, free, unmap or the like dropped", _dropped_call(_is_release)),
    Operator("barrier", "a memory barrier dropped", _dropped_call(_is_barrier)),
    Operator("call", "another call dropped", _dropped_call(_is_other)),
)


# --- nodes ---------------------------------------------------------------------------------------


def text(node: Node) -> str:
    """Return a node's source."""
    return _source(node).decode(errors="surrogateescape")


def called(call: Node) -> str:
    """Return the name of the function that a call expression calls, "" if it has none."""
    function = call.child_by_field_name("function")
    return text(function) if function is not None and function.type == "identifier" else ""


def heads_a_loop(call: Node) -> bool:
    """Tell whether a call expression is a macro that a loop's body follows, as in Linux' lists."""
    parent = call.parent
    return (
        parent is not None
        and parent.type == "expression_statement"
        and any(each.is_missing for each in parent.children)
    )


def _source(node: Node) -> bytes:
    assert node.text is not None  # only where a tree was parsed from no bytes
    return node.text


def _sign(node: Node) -> Node | None:
    return node.child_by_field_name("operator")


def _field(node: Node, name: str) -> Node:
    found = node.child_by_field_name(name)
    assert found is not None
    return found


def _inside(condition: Node) -> Node:
    """Return what is within the parentheses of an if or a while."""
    if condition.type == "parenthesized_expression" and condition.named_children:
        return condition.named_children[0]
    return condition


def _arguments(node: Node) -> list[Node]:
    if node.type != "call_expression" or heads_a_loop(node):
        return []
    return [each for each in _field(node, "arguments").named_children if each.type != "comment"]


def _statement_of(node: Node) -> Node | None:
    """Return the expression of a statement that is nothing else."""
    if node.type != "expression_statement" or any(each.is_missing for each in node.children):
        return None
    return next(iter(node.named_children), None)


def _is_status(node: Node) -> bool:
    return bool(_STATUS.match(text(node)) or _ERRNO.match(text(node)))


def _replace(node: Node, by: str) -> Edit:
    return Edit(node.start_byte, node.end_byte, by)


def _drop(statement: Node) -> Edit:
    return _replace(statement, f"{{ if ( 0 ) {text(statement)} }}")
