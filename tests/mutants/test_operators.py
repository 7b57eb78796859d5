# SPDX-License-Identifier: GPL-2.0-only
"""The mistakes that each operator makes, on C of our own."""

from __future__ import annotations

import pytest

from ffashim.mutants import source
from ffashim.mutants.operators import OPERATORS

BY_NAME = {operator.name: operator for operator in OPERATORS}


def made(operator: str, body: str) -> list[str]:
    """Return what an operator makes of the body of a function, statement by statement."""
    content = f"static int f(struct s *s, int a)\n{{\n{body}\n}}\n".encode()
    return [each.after for each in source.find("f.c", content, [BY_NAME[operator]])]


@pytest.mark.parametrize(
    ("operator", "statement", "mistakes"),
    [
        ("comparison", "a = b < c;", ["a = b <= c;", "a = b >= c;"]),
        ("comparison", "a = b == c;", ["a = b != c;"]),
        ("logic", "a = b && c;", ["a = b || c;"]),
        ("clause", "a = b || c;", ["a = c;", "a = b;"]),
        ("negation", "a = !b & ~c;", ["a = b & ~c;", "a = !b & c;"]),
        ("condition", "while ( a ) g();", ["while ( !(a) ) g();"]),
        ("condition", "if ( a ) g();", ["if ( !(a) ) g();", "if ( 1 || (a) ) g();"]),
        ("condition", "a = b ? c : d;", ["a = !(b) ? c : d;"]),
        ("check", "if ( a ) return 1;", ["if ( 0 && (a) ) return 1;"]),
        ("loop", "for ( ; a < b; a++ ) g();", ["for ( ; 0 && (a < b); a++ ) g();"]),
        ("constant", "a = 7;", ["a = (7 + 1);", "a = (7 - 1);"]),
        ("constant", "a = 0U;", ["a = (0U + 1);"]),
        ("bound", "a = b < MOST;", ["a = b < (MOST + 1);", "a = b < (MOST - 1);"]),
        ("bound", "a = sizeof(*s);", ["a = (sizeof(*s) + 1);", "a = (sizeof(*s) - 1);"]),
        ("mask", "a = b & MASK;", ["a = b;", "a = b & ((MASK) >> 1);"]),
        ("bits", "a |= b << 2;", ["a &= b << 2;", "a |= b >> 2;"]),
        ("arithmetic", "a = b + c * d;", ["a = b - c * d;", "a = b + c + d;"]),
        ("error", "a = -EINVAL;", ["a = -ENOSPC;", "a = -0;"]),
        (
            "error",
            "return FFA_RET_INVALID_PARAMETERS;",
            ["return FFA_RET_DENIED;", "return FFA_RET_OK;"],
        ),
        ("error", "return FFA_RET_OK;", ["return FFA_RET_INVALID_PARAMETERS;"]),
        ("return", "return true;", ["return false;"]),
        ("return", "return a;", ["return 0;"]),
        ("return", "return 0;", []),
        ("assignment", "s->a = b;", ["{ if ( 0 ) s->a = b; }"]),
        ("assignment", "int b = s->a;", ["int b = 0;"]),
        ("assignment", "struct r r = { .a1 = b };", ["struct r r = { .a1 = 0 };"]),
        ("counter", "s->count++;", ["{ if ( 0 ) s->count++; }"]),
        ("arithmetic", "s->count++;", ["s->count--;"]),
        ("jump", "goto out;", ["{ if ( 0 ) goto out; }"]),
        ("jump", "return;", ["{ if ( 0 ) return; }"]),
        ("case", "switch ( a ) { case A: g(); }", ["switch ( a ) { g(); }"]),
        ("swap", "g(a, b, c);", ["g(b, a, c);", "g(a, c, b);"]),
        ("swap", "g(a, a);", []),
        ("argument", "g(s->a, 0);", ["g(0, 0);"]),
        ("unlock", "spin_unlock(&s->lock);", ["{ if ( 0 ) spin_unlock(&s->lock); }"]),
        ("release", "put_page(pg);", ["{ if ( 0 ) put_page(pg); }"]),
        ("release", "list_del(&s->list);", ["{ if ( 0 ) list_del(&s->list); }"]),
        ("barrier", "smp_wmb();", ["{ if ( 0 ) smp_wmb(); }"]),
        ("call", "list_add_tail(x, y);", ["{ if ( 0 ) list_add_tail(x, y); }"]),
        ("call", "spin_lock(&s->lock);", ["{ if ( 0 ) spin_lock(&s->lock); }"]),
    ],
)
def test_an_operator_makes_these_mistakes(
    operator: str, statement: str, mistakes: list[str]
) -> None:
    assert made(operator, statement) == mistakes


@pytest.mark.parametrize(
    ("taken", "by"),
    [("put_page(pg);", "call"), ("smp_mb();", "call"), ("up_unlock(l);", "release")],
)
def test_a_call_is_dropped_by_one_operator_only(taken: str, by: str) -> None:
    assert made(by, taken) == []


@pytest.mark.parametrize(
    "statement",
    [
        "ASSERT(a < 3);",
        'printk("%d", a + 1);',
        'gdprintk(XENLOG_DEBUG, "a %d", b == 1);',
        'if ( a < 3 ) printk("less");',
        'if ( a && printk_ratelimit() ) { printk("less"); } else { /* none */ printk("more"); }',
    ],
)
def test_what_no_guest_can_see_is_left_alone(statement: str) -> None:
    assert not source.find("f.c", f"void f(int a)\n{{\n{statement}\n}}\n".encode())


def test_a_call_in_the_condition_of_what_is_printed_is_not() -> None:
    assert made("comparison", 'if ( release(a) < 0 ) printk("failed");')


def test_each_operator_is_listed_once_with_its_words() -> None:
    assert len(BY_NAME) == len(OPERATORS)
    assert all(operator.what for operator in OPERATORS)
