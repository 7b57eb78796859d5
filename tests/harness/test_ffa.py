# SPDX-License-Identifier: GPL-2.0-only
"""The numbers of FF-A, and the helpers that come with them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffashim.errors import UsageError
from ffashim.ffa import FFA, FfaError, Version, error_code, fid_name, is_64bit, is_ffa


@given(st.integers(0, 0x7FFF), st.integers(0, 0xFFFF))
def test_a_version_survives_text_and_register(major: int, minor: int) -> None:
    version = Version(major, minor)
    assert Version.parse(str(version)) == version
    assert Version.parse(version.value) == version
    assert Version.parse((major, minor)) == version


def test_versions_are_ordered_by_major_then_minor() -> None:
    assert Version(1, 0) < Version(1, 2) < Version(1, 10) < Version(2, 0)


@pytest.mark.parametrize("text", ["", "1", "1.", ".2", "1.2.3", "a.b", "-1.0", "32768.0"])
def test_what_is_no_version_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match=r"FF-A version"):
        Version.parse(text)


def test_every_function_id_is_in_the_range_of_ff_a_and_has_the_convention_of_its_name() -> None:
    for fid in FFA:
        assert is_ffa(fid)
        if fid.name.endswith("_64"):
            assert is_64bit(fid)
        if fid.name.endswith("_32"):
            assert not is_64bit(fid)


def test_the_two_conventions_of_an_abi_share_their_number() -> None:
    for fid in FFA:
        if fid.name.endswith("_32"):
            twin = FFA[fid.name[:-2] + "64"]
            assert twin == fid | 0x40000000


@pytest.mark.parametrize("fid", [0x8400005F, 0x840000F0, 0x84000160, 0xC600000F, 0x04000063, 0])
def test_what_is_outside_the_range_is_not_ff_a(fid: int) -> None:
    assert not is_ffa(fid)


def test_names_are_those_of_the_specification() -> None:
    assert fid_name(0xC400008B) == "FFA_PARTITION_INFO_GET_REGS"
    assert fid_name(0x840000EF) == "0x840000ef"


@pytest.mark.parametrize("code", list(FfaError))
def test_an_error_is_recognised_in_a_register_of_either_width(code: FfaError) -> None:
    assert error_code(code.w) is code
    assert error_code(int(code) & (1 << 64) - 1) is code


def test_a_status_that_ff_a_does_not_know_stays_a_number() -> None:
    assert error_code(0xFFFFFF9C) == -100
    assert error_code(5) == 5
