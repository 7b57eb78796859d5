# SPDX-License-Identifier: GPL-2.0-only
"""valgrind sees through a plain build: a local that is read before it is written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from planted import plant

from ffashim import loader, paths
from ffashim.source import Tree, resolve

# Without escaping, the compiler would see it too, and read nothing.
FUNCTION = """
static void noinline plant_escape(void *p)
{
    asm volatile ( "" :: "r" (p) : "memory" );
}

static void plant(struct cpu_user_regs *regs, struct domain *d)
{
    char local[8];

    if ( !get_user_reg(regs, 1) )
        local[4] = 1;
    plant_escape(local);
    if ( local[4] )
        printk("planted\\n");
}

"""

CALLS = """
import json, sys
from pathlib import Path
from ffashim import FFA, Machine
from ffashim.loader import Extension

vm = Machine(Extension(Path(sys.argv[1]), json.loads(sys.argv[2]))).boot().create_vm("1.1")
vm.map_rxtx()
for x1 in map(int, sys.argv[3:]):
    asked = (FFA.PARTITION_INFO_GET,), (FFA.RX_RELEASE,), (FFA.ID_GET, x1)
    print(x1, *(vm.smc(*registers).ok for registers in asked), flush=True)
    print("--- end of call", x1, file=sys.stderr, flush=True)
"""


def test_what_is_kept_from_valgrind_s_report_is_python_s() -> None:
    text = (paths.STUBS / "valgrind.supp").read_text()
    entries = re.findall(r"^\{\n(.*?)^\}$", text, re.MULTILINE | re.DOTALL)
    assert entries
    for entry in entries:
        _, _, *frames = (line.strip() for line in entry.splitlines())
        assert frames == ["obj:*/*python3*"]


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_valgrind_sees_what_was_never_written_and_nothing_else(tree: Tree, tmp_path: Path) -> None:
    built = loader.build(resolve(tree.spec, [plant(tree, tmp_path, FUNCTION)]))
    built.load()
    suppressions = paths.STUBS / "valgrind.supp"
    done = subprocess.run(
        [
            *("valgrind", "-q", f"--suppressions={suppressions}", sys.executable, "-c", CALLS),
            *(str(built.path), json.dumps(dict(built.record)), "0", "1"),
        ],
        env={**os.environ, "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stdout.splitlines() == ["0 True True True", "1 True True True"], done.stderr
    twin, mistake, _ = re.split("--- end of call .*", done.stderr)
    assert not re.search("^==", twin, re.MULTILINE), twin
    assert re.search(
        r"depends on uninitialised value.*\n==\d+==\s+at 0x\w+: (plant|ffa_handle_call) \(ffa\.c:",
        mistake,
    ), mistake
