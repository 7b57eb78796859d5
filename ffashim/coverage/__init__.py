# SPDX-License-Identifier: GPL-2.0-only
"""Which lines and branches of a tree's mediator the tests reach.

`loader.build(coverage=True)` has gcc count what is executed of the tree's files, which are compiled
without optimisation for it; the counters outlive resets of the machine. From there::

    session    each pytest process writes the counters of what it has run to one directory
    gcov       reads them: lines and branches of each build, by gcc's gcov and the gcovr package
    union      puts the builds of a tree together, whatever their configuration
    changes    which lines of a tree are new, against the tree before a change
    unreached  what no test has reached, function by function
    reasons    why, as far as it is known
    summary    says it all: on the terminal, and in files

What counts is what Xen's source says, by these rules:

- A line or branch counts as reached if it was executed in any test, failed or not, on any of the
  configurations; probes, which find out what a tree can do, do not count.
- A condition that the configuration decides (``IS_ENABLED``) is no branch where it is decided.
- The failing side of ``ASSERT()`` and ``BUG_ON()`` is no branch: to get there is a defect. For the
  same reason ``ASSERT_UNREACHABLE()`` is no line.
- Debug messages have no branches to begin with: without optimisation and with ``DEBUG=y`` they are
  calls. The machine's own hooks in Xen's lines (switch points, locks) have none in these builds.
- A call that ends in an access that faults, or in a loop that does not end, does not count, nor do
  calls that it interrupts: where it broke off, gcov would take it to have gone on.
"""
