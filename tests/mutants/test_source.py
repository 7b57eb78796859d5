# SPDX-License-Identifier: GPL-2.0-only
"""Where mistakes are made in a C file of our own, and what a mutant is called."""

from __future__ import annotations

from ffashim.mutants import source
from ffashim.mutants.operators import OPERATORS

FILE = b"""\
#define MOST 5

static const int table[MOST] = { 1, 2, 3 };

#ifdef CONFIG_THING
static int __must_check first(struct thing *thing)
{
    struct list *one;

    list_for_each_entry(one, &thing->list, link)
    {
        if ( one->value > MOST )
            return -EINVAL;
    }

    return 0;
}
#endif

/* x == 1 */
static void cf_check second(struct thing *thing,
                            int value)
{
    char buffer[16];

    call(thing,
         value,
         buffer);
    thing->value = 1;
    thing->value = 1;
}
"""


def keys(content: bytes) -> list[str]:
    return [each.key for each in source.find("f.c", content)]


def test_functions_are_found_behind_qualifiers_and_conditions() -> None:
    assert source.functions(FILE) == ["first", "second"]


def test_nothing_is_done_outside_functions() -> None:
    assert {each.function for each in source.find("f.c", FILE)} == {"first", "second"}


def test_the_head_of_a_loop_of_macros_is_left_alone_and_its_body_is_not() -> None:
    lines = {each.line for each in source.find("f.c", FILE)}
    assert 10 not in lines
    assert {12, 13} <= lines


def test_the_size_of_an_array_is_left_alone() -> None:
    assert 24 not in {each.line for each in source.find("f.c", FILE)}


def test_a_mutant_has_as_many_lines_as_the_original() -> None:
    for mutant in source.find("f.c", FILE):
        assert source.apply(FILE, mutant.edit).count(b"\n") == FILE.count(b"\n"), mutant


def test_a_mutant_differs_from_the_original_and_from_the_others() -> None:
    found = source.find("f.c", FILE)
    made = {source.apply(FILE, mutant.edit) for mutant in found}
    assert len(made) == len(found)
    assert FILE not in made


def test_only_the_lines_asked_for_are_changed() -> None:
    found = source.find("f.c", FILE, OPERATORS, {"f.c": {12}, "g.c": {13}})
    assert found
    assert {each.line for each in found} == {12}
    assert not source.find("f.c", FILE, OPERATORS, {"g.c": {12}})


def test_a_statement_of_many_lines_is_found_by_any_of_them() -> None:
    for line in (26, 27, 28):
        found = source.find("f.c", FILE, OPERATORS, {"f.c": {line}})
        assert "{ if ( 0 ) call(thing, value, buffer); }" in [each.after for each in found]


def test_keys_tell_mutants_apart() -> None:
    assert len(set(keys(FILE))) == len(keys(FILE))


def test_keys_stay_when_code_moves_and_is_laid_out_anew() -> None:
    moved = FILE.replace(b"static int", b"/* new */\n\nstatic int").replace(
        b"call(thing,\n         value,", b"call(thing, value,"
    )
    assert keys(moved) == keys(FILE)


def test_a_key_changes_with_its_statement() -> None:
    changed = FILE.replace(b"one->value > MOST", b"one->other > MOST")
    gone = set(keys(FILE)) - set(keys(changed))
    assert gone
    assert {key.partition("/")[0] for key in gone} == {"first"}


def test_a_mutant_knows_the_conditions_around_it() -> None:
    by_line = {each.line: each.within for each in source.find("f.c", FILE)}
    assert len(by_line[13]) == 1
    assert by_line[12] == by_line[13]
    assert by_line[29] == ()


def test_a_file_that_is_no_c_has_no_mutants_and_is_no_error() -> None:
    assert not source.find("f.c", b"{ this (( is ]] not \xff C")
