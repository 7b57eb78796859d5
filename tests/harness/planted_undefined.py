# SPDX-License-Identifier: GPL-2.0-only
"""Mistakes for the sanitizers: FFA_ID_GET makes the one whose number is in x1, if x2 says so.

With the one value of x2 it is a mistake, with the other the same code is right: its fixed twin.
"""

from __future__ import annotations

from typing import NamedTuple

_NEGATIVE = 2**64 - 1


class Mistake(NamedTuple):
    """One mistake, and what is said of it."""

    name: str
    code: str
    """Of C, with ``n`` for x2, on a ``sink`` that is volatile."""
    wrong: int
    right: int
    said: str
    """A regular expression that the report's text matches."""


ADDRESS = (
    Mistake(
        "read_past_the_end_of_a_block",
        "p = xmalloc_array(char, 40); sink = p[n]; xfree(p);",
        *(43, 39, "read of 1 bytes: 4 bytes past the end of the heap block of 40 bytes"),
    ),
    Mistake(
        "read_before_the_start_of_a_block",
        "p = xmalloc_array(char, 40); sink = p[(long)n]; xfree(p);",
        *(_NEGATIVE, 0, "read of 1 bytes: 1 bytes before the heap block of 40 bytes"),
    ),
    Mistake(
        "write_past_an_odd_end",
        "p = xmalloc_array(char, 41); p[n] = 1; xfree(p);",
        *(41, 40, "write of 1 bytes: 1 bytes past the end of the heap block of 41 bytes"),
    ),
    Mistake(
        "write_past_a_block_that_is_aligned_to_a_page",
        "p = _xmalloc(40, PAGE_SIZE); BUG_ON((unsigned long)p & ~PAGE_MASK); p[n] = 1; xfree(p);",
        *(40, 39, "write of 1 bytes: 1 bytes past the end of the heap block of 40 bytes"),
    ),
    Mistake(
        "read_of_a_freed_block",
        "p = xzalloc_array(char, 40); if ( n ) xfree(p); sink = p[8]; if ( !n ) xfree(p);",
        *(1, 0, "read of 1 bytes: in the freed heap block of 40 bytes"),
    ),
    Mistake(
        "copy_past_the_end_of_a_block",
        "p = xzalloc_array(char, 40); memcpy(copy, p, n); sink = copy[0]; xfree(p);",
        *(48, 40, "read of 48 bytes: 1 bytes past the end of the heap block of 40 bytes"),
    ),
    Mistake(
        "read_of_a_freed_page",
        "p = alloc_xenheap_pages(0, 0); if ( n ) free_xenheap_pages(p, 0); sink = p[8];"
        " if ( !n ) free_xenheap_pages(p, 0);",
        *(1, 0, "read of 1 bytes: in the freed page of Xen's own of 4096 bytes"),
    ),
    Mistake(
        "write_past_the_end_of_a_local",
        "plant_local(n);",
        *(24, 23, "write of 1 bytes: 1 bytes past the end of the local variable 'local' of 24"),
    ),
    Mistake(
        "use_of_a_local_whose_block_has_ended",
        "if ( n ) { char inner[16]; p = inner; plant_escape(p); }"
        " else { p = copy; } *(volatile char *)p = 1;",
        *(1, 0, "write of 1 bytes: in the local variable 'inner' of 16 bytes"),
    ),
    Mistake(
        "read_past_the_end_of_a_variable",
        "p = plant_variable; plant_escape(p); sink = p[n];",
        *(13, 12, "read of 1 bytes: 1 bytes past the end of the variable '.*plant_variable' of 13"),
    ),
)
"""What --sanitize=address sees."""

POINTERS = (
    Mistake(
        "load_that_is_not_aligned",
        "sink = *(uint32_t *)(plant_words + n);",
        *(1, 4, "a load of 'uint32_t' .*which is not aligned to 4 bytes"),
    ),
    Mistake(
        "member_of_nothing",
        "sink = (n ? NULL : d)->domain_id;",
        *(1, 0, "a member of 'struct domain' through NULL"),
    ),
)
"""What --sanitize=undefined sees of pointers: accesses, too."""

UNDEFINED = (
    Mistake(
        "signed_overflow",
        "sink = 0x7ffffffe + (int)n;",
        *(2, 1, "2147483646.* is no value of type 'int'"),
    ),
    Mistake(
        "shift_as_far_as_the_type_is_wide",
        "sink = 1U << n;",
        *(32, 31, "a shift by 32 of 'unsigned int', which has 32 bits"),
    ),
    Mistake(
        "index_outside_of_an_array",
        "sink = plant_variable[n];",
        *(13, 12, r"index 13 into 'char ?\[13\]'"),
    ),
    Mistake(
        "division_by_zero",
        "sink = 40 / (int)n;",
        *(0, 1, "40 divided by 0 is no value of type 'int'"),
    ),
    Mistake(
        "bool_that_is_neither",
        "plant_words[0] = n; sink = *(bool *)plant_words;",
        *(2, 1, "2 is no value of type '_?[bB]ool'"),
    ),
)
"""What --sanitize=undefined sees."""

MISTAKES = (*ADDRESS, *POINTERS, *UNDEFINED)

NUMBERS = {mistake.name: n for n, mistake in enumerate(MISTAKES, 1)}
"""The value of x1 for each."""

FUNCTIONS = """
static char plant_variable[13];
static char plant_words[16] __attribute__((__aligned__(16)));

static void noinline plant_escape(void *p)
{
    asm volatile ( "" :: "r" (p) : "memory" );
}

static void noinline plant_local(unsigned long n)
{
    char local[24], *p = local;

    plant_escape(p);
    p[n] = 1;
}

static void plant(struct cpu_user_regs *regs, struct domain *d)
{
    unsigned long n = get_user_reg(regs, 2);
    volatile unsigned long sink;
    char copy[64], *p;

    plant_escape(copy);
    switch ( get_user_reg(regs, 1) )
    {
%s    }
}

""" % "".join(  # noqa: UP031 - C has braces
    f"    case {NUMBERS[mistake.name]}: {mistake.code} break;\n" for mistake in MISTAKES
)
"""Goes into ffa.c; see `planted.make_patch`."""
