# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin: what a user's own test file gets from it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ffashim.source import Tree

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a test file of a user's on the tree under test, one variant of it."""
    monkeypatch.setenv("PYTHONPATH", "")

    def run(body: str, *args: str) -> pytest.RunResult:
        pytester.makepyfile(body)
        return pytester.runpytest_subprocess("--xen", str(tree.root), *args)

    return run


def test_a_failure_shows_the_console_and_the_smcs(run: Run) -> None:
    result = run(
        """
        def test_it(vm):
            assert not vm.map_rxtx()
        """
    )
    result.stdout.fnmatch_lines(["*Xen's console*", "*ARM FF-A Mediator version*"])
    result.stdout.fnmatch_lines(["*SMCs that the SPMC saw*", "FFA_VERSION*"])


def test_a_failure_shows_the_guest_calls_and_the_features_in_one_line(run: Run) -> None:
    result = run(
        """
        from ffashim import FFA

        def test_it(vm):
            assert not vm.smc(FFA.ID_GET).ok
        """
    )
    result.stdout.fnmatch_lines(["*Guest calls*", "d1v0 FFA_VERSION*", "d1v0 FFA_ID_GET"])
    result.stdout.fnmatch_lines(["FFA_FEATURES, * times, answered *"])
    sections = result.stdout.str().count("- SMCs that the SPMC saw -")
    assert result.stdout.str().count("FFA_FEATURES") <= 4 * sections


def test_a_failure_names_the_rules_that_were_never_asked(run: Run) -> None:
    result = run(
        """
        from ffashim import FFA, FfaError

        def test_fails(vm, spmc):
            spmc.on(FFA.MEM_SHARE_64).error(FfaError.NO_MEMORY)
            spmc.on(FFA.MSG_SEND_DIRECT_REQ_32).error(FfaError.BUSY)
            assert vm.smc(FFA.MSG_SEND_DIRECT_REQ_32, vm.id << 16 | 0x8001).error is None

        def test_passes(vm, spmc):
            spmc.on(FFA.MEM_SHARE_64).error(FfaError.DENIED)
        """
    )
    text = result.stdout.str()
    assert "on(FFA.MEM_SHARE_64).error(FfaError.NO_MEMORY) was never asked" in text
    assert "BUSY) was never asked" not in text
    assert "DENIED) was never asked" not in text
    assert result.parseoutcomes()["passed"]


def test_a_failure_ends_in_the_line_of_the_test(run: Run) -> None:
    body = """
        import pytest
        from ffashim import FFA, traffic

        def test_by_a_method(vm):
            vm.smc(FFA.ID_GET, -1)

        def test_by_a_helper(xen):
            traffic.share(xen.create_vm("1.1"))

        @pytest.mark.spmc(verson="1.1")
        def test_by_a_key(vm):
            pass

        @pytest.mark.needs
        def test_by_a_bare_marker(vm):
            pass

        @pytest.mark.spmc(features_off=5)
        def test_by_a_fixture(vm):
            pass

        @pytest.mark.needs(versoin="1.1")
        def test_by_a_marker(vm):
            pass
        """
    text = run(body).stdout.str()
    assert ">       vm.smc(FFA.ID_GET, -1)" in text
    assert '>       traffic.share(xen.create_vm("1.1"))' in text
    assert "ffashim/vm.py" not in text
    assert "ffashim/traffic.py" not in text
    assert "UsageError: x1=-0x1: a register holds" in text
    assert "call map_rxtx() first" in text
    # A mistake that is told by no error of ours keeps our frames.
    assert "object is not iterable" in text.partition("TypeError")[2]
    assert "spmc(verson=...): name one of version, partitions, features_off, " in text
    assert "needs(): say what, by name: vm_to_vm=, abi=, version=, messages= or sanitize=" in text
    assert "needs(versoin=...): name one of vm_to_vm, abi, version, messages, sanitize" in text
    assert "ffashim/vm.py" in run(body, "--full-trace").stdout.str()


def test_a_known_defect_that_shows_twice_in_a_test_counts_once(run: Run) -> None:
    result = run(
        """
        import pytest

        @pytest.mark.known_defect(bool, "it sends what it may not, and fails")
        def test_it(xen):
            xen.spmc.smc((0x84000077, 0xdead, *[0] * 16))
            assert False

        def test_to_compare(xen):
            pass
        """
    )
    outcome = result.parseoutcomes()
    assert outcome == {"xfailed": outcome["passed"], "passed": outcome["passed"]}


def test_what_the_spmc_may_not_be_sent_fails_the_test(run: Run) -> None:
    result = run(
        """
        def test_it(xen):
            xen.spmc.smc((0x84000077, 0xdead, *[0] * 16))  # FFA_MEM_RECLAIM of what nobody shared
            xen.spmc.smc((0x84000065, 0x1234, *[0] * 16))  # FFA_RX_RELEASE for nobody
        """
    )
    result.stdout.fnmatch_lines(["*Xen sent the SPMC what FF-A forbids*"])
    assert result.ret == 1


def test_a_test_says_what_it_needs(run: Run) -> None:
    result = run(
        """
        import pytest

        @pytest.mark.needs(version="1.0")
        def test_old(xen):
            pass

        @pytest.mark.needs(version="7.0")
        def test_new(xen):
            pass
        """,
        "-rs",
    )
    outcome = result.parseoutcomes()
    assert outcome["passed"] == outcome["skipped"]
    result.stdout.fnmatch_lines(["*needs a mediator of FF-A 7.0*"])


def test_the_marker_makes_the_secure_world(run: Run) -> None:
    result = run(
        """
        import pytest
        from ffashim import SecurePartition

        @pytest.mark.spmc(partitions=[SecurePartition(0x8123)])
        def test_it(vm):
            vm.map_rxtx()
            assert vm.partition_info_get().ok
            assert vm.rx.read(2) == b"\\x23\\x81"
        """
    )
    result.assert_outcomes(passed=result.parseoutcomes()["passed"])


@pytest.mark.parametrize("option", ["--xfail-tb", "--runxfail"])
def test_the_lines_of_a_known_defect_are_shown_if_they_are_asked_for(run: Run, option: str) -> None:
    body = """
        import pytest

        @pytest.mark.known_defect(bool, "it fails")
        def test_it(xen):
            answer = 41
            assert answer == 42
        """
    assert ">       assert answer == 42" in run(body, option, "-rx").stdout.str()


def test_a_failure_that_an_xfail_of_the_users_does_not_expect_is_shown_with_its_lines(
    run: Run,
) -> None:
    result = run(
        """
        import pytest

        @pytest.mark.xfail(False, reason="not here")
        def test_it(xen):
            answer = 41
            assert answer == 42
        """
    )
    assert ">       assert answer == 42" in result.stdout.str()


def test_a_known_defect_is_expected_where_it_is_and_reported_where_it_is_mended(
    run: Run,
) -> None:
    result = run(
        """
        import pytest

        def present(machine):
            return True

        def absent(machine):
            return False

        @pytest.mark.known_defect(present, "it fails")
        def test_there(xen):
            assert False

        @pytest.mark.known_defect(present, "it no longer fails")
        def test_mended(xen):
            pass

        @pytest.mark.known_defect(absent, "it is not here")
        def test_elsewhere(xen):
            pass
        """
    )
    outcome = result.parseoutcomes()
    assert outcome["xfailed"] == outcome["failed"] == outcome["passed"]


def test_a_tree_that_is_none_ends_the_run_with_a_sentence(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile("def test_it(xen): pass")
    result = pytester.runpytest_subprocess("--xen", "/nowhere/at/all")
    result.stderr.fnmatch_lines(["ERROR: there is no directory /nowhere/at/all."])
    assert not result.stdout.str().strip()
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_sanitizers_are_asked_of_the_build(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        from ffashim import loader
        from ffashim.errors import BuildError

        def build(tree, settings, *, sanitize, **others):
            raise BuildError(f"asked for {sanitize}")

        loader.build = build
        """
    )
    body = "def test_it(xen): pass"
    result = run(body, "--sanitize=undefined,address")
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*error: asked for ('address', 'undefined')*"])
    result = run(body, "--sanitize=memory")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*there is no 'memory'; there are address, undefined*"])


def test_who_selects_nothing_is_told_what_an_expression_takes(run: Run) -> None:
    result = run("def test_it(vm): pass", "-k", "nosuch")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["-k nosuch: no test of these files is selected.", "It takes *"])
