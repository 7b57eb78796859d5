# SPDX-License-Identifier: GPL-2.0-only
"""A tree with mistakes planted in it: FFA_ID_GET makes the one whose number is in x1.

The mistakes are ours. They go into a private copy of the tree under test as a patch that is made
when the tests run, from the tree's own lines, so that none of those is kept here.
"""

from __future__ import annotations

import difflib
import re
from enum import IntEnum
from pathlib import Path

from planted_checks import FUNCTIONS, TEARDOWN

from ffashim.source import Tree


class Plant(IntEnum):
    """What FFA_ID_GET does wrong, by the number in x1."""

    ASSERT = 1
    BUG = 2
    PANIC = 3
    LOCK_TWICE = 4
    LOCK_HELD = 5
    UNLOCK = 6
    NULL = 7
    LOOP = 8
    STACK = 9
    RCU_HELD = 10
    DOUBLE_FREE = 11
    HEAP_OVERRUN = 12
    STALE_MAPPING = 13
    PAGE_OVERRUN = 14
    PAGE_LEAK = 15
    PUT_TOO_MANY = 16
    IRQS_OFF = 17
    READ_HELD = 18
    WRITE_HELD = 19
    WARN = 20
    ORDER_AB = 21
    ORDER_BA = 22
    PUT_WHILE_MAPPED = 23
    HEAP_LEAK = 24
    WRITE_TWICE = 25
    WILD = 26
    LOCK_AND_SMC = 27
    TRYLOCK = 28
    READ = 29
    WRITE = 30
    USE_AFTER_FREE = 31
    COPY_OVERRUN = 32
    SMC_LOOP = 33
    HEAP_OVERRUN_ODD = 34
    PUT_NOT_TAKEN = 35
    XEN_PAGE_OVERRUN = 36
    XEN_PAGE_UNDERRUN = 37
    SPIN = 38
    RELEASE = 39
    DEFER = 40
    IRQ_TYPE = 41
    IRQ = 42
    ALLOCATE_IRQS_OFF = 43
    ALLOCATE_IN_IRQ = 44
    DEFER_IN_IRQ = 45


_FUNCTIONS = """
static DEFINE_SPINLOCK(plant_a);
static DEFINE_SPINLOCK(plant_b);
static DEFINE_RWLOCK(plant_rw);
static bool plant_released;
static struct tasklet plant_tasklets[3];
static struct rcu_head plant_heads[3];

static void plant_softly(void *data)
{
    printk("tasklet %lu\\n", (unsigned long)data);
}

static void plant_later(struct rcu_head *head)
{
    printk("callback %lu\\n", (unsigned long)(head - plant_heads));
}

static void plant_locked(void *data)
{
    printk("in\\n");
    spin_lock(&plant_a);
    spin_unlock(&plant_a);
    printk("out\\n");
}

static DECLARE_TASKLET(plant_tasklet, plant_locked, NULL);

static void plant_defer(int irq, void *data)
{
    tasklet_schedule(&plant_tasklet);
}

static void plant_allocate(int irq, void *data)
{
    xfree(xzalloc_array(char, 40));
}

static unsigned int noinline plant_recurse(volatile unsigned int *depth)
{
    volatile unsigned int frame[64];

    frame[0] = ++*depth;

    return plant_recurse(depth) + frame[0];
}

static void *plant_map(struct domain *d, uint64_t addr, struct page_info **pg)
{
    p2m_type_t t;

    *pg = get_page_from_gfn(d, addr >> PAGE_SHIFT, &t, P2M_ALLOC);

    return *pg ? __map_domain_page_global(*pg) : NULL;
}

static void plant(struct cpu_user_regs *regs, struct domain *d)
{
    uint64_t addr = get_user_reg(regs, 2);
    volatile unsigned int depth = 0;
    struct page_info *pg;
    volatile char *p;

    switch ( get_user_reg(regs, 1) )
    {
    case 1: ASSERT(addr == 42); break;
    case 2: BUG_ON(!addr); break;
    case 3: panic("planted %u\\n", 3); break;
    case 4: spin_lock(&plant_a); spin_lock(&plant_a); break;
    case 5: spin_lock(&plant_a); break;
    case 6: spin_unlock(&plant_a); break;
    case 7: *(volatile int *)(addr & 8) = 1; break;
    case 8: while ( !depth ) barrier(); break;
    case 9: plant_recurse(&depth); break;
    case 10: rcu_read_lock(&d->rcu_lock); break;
    case 11: p = xzalloc_array(char, 40); xfree((void *)p); xfree((void *)p); break;
    case 12: p = xzalloc_array(char, 40); p[40] = 1; xfree((void *)p); break;
    case 13:
        p = plant_map(d, addr, &pg);
        unmap_domain_page_global((void *)p);
        put_page(pg);
        p[8] = 1;
        break;
    case 14: p = plant_map(d, addr, &pg); p[PAGE_SIZE] = 1; break;
    case 15: plant_map(d, addr, &pg); break;
    case 16: plant_map(d, addr, &pg); put_page(pg); put_page(pg); put_page(pg); break;
    case 17: local_irq_disable(); break;
    case 18: read_lock(&plant_rw); break;
    case 19: write_lock(&plant_rw); break;
    case 20: WARN(); break;
    case 21: spin_lock(&plant_a); spin_lock(&plant_b); spin_unlock(&plant_b);
             spin_unlock(&plant_a); break;
    case 22: spin_lock(&plant_b); spin_lock(&plant_a); spin_unlock(&plant_a);
             spin_unlock(&plant_b); break;
    case 23: p = plant_map(d, addr, &pg); put_page(pg); p[8] = 1; break;
    case 24: xzalloc_array(char, 40); break;
    case 25: write_lock(&plant_rw); write_lock(&plant_rw); break;
    case 26: *(volatile int *)0x456789abc000UL = 1; break;
    case 27:
    {
        const struct arm_smccc_1_2_regs arg = { .a0 = FFA_ID_GET };
        struct arm_smccc_1_2_regs resp;

        spin_lock(&plant_a);
        arm_smccc_1_2_smc(&arg, &resp);
        spin_unlock(&plant_a);
        break;
    }
    case 28:
        if ( spin_trylock(&plant_a) )
            spin_unlock(&plant_a);
        else
            WARN();
        break;
    case 29: read_lock(&plant_rw); read_unlock(&plant_rw); break;
    case 30: write_lock(&plant_rw); write_unlock(&plant_rw); break;
    case 32: p = plant_map(d, addr, &pg);
             memset((void *)p, 0, PAGE_SIZE + get_user_reg(regs, 3)); break;
    case 33:
        while ( !depth )
        {
            const struct arm_smccc_1_2_regs arg = { .a0 = FFA_ID_GET };
            struct arm_smccc_1_2_regs resp;

            arm_smccc_1_2_smc(&arg, &resp);
        }
        break;
    case 34: p = xzalloc_array(char, 41); p[41] = 1; xfree((void *)p); break;
    case 35: put_page(mfn_to_page(_mfn(addr >> PAGE_SHIFT))); break;
    case 36: p = alloc_xenheap_pages(0, 0); p[PAGE_SIZE] = 1; break;
    case 37: p = alloc_xenheap_pages(1, 0); p[-1] = 1; break;
    case 38: while ( !plant_released ) cpu_relax(); break;
    case 39: plant_released = true; break;
    case 40:
        for ( depth = 0; depth < 3; depth++ )
        {
            tasklet_init(&plant_tasklets[depth], plant_softly, (void *)(unsigned long)depth);
            tasklet_schedule(&plant_tasklets[depth]);
            call_rcu(&plant_heads[depth], plant_later);
        }
        if ( addr )
            tasklet_kill(&plant_tasklets[0]);
        break;
    case 41: irq_set_type(addr, IRQ_TYPE_EDGE_RISING); break;
    case 42: if ( request_irq(addr, 0, (void *)plant_softly, "plant", NULL) ) WARN(); break;
    case 43: local_irq_disable(); plant_allocate(0, NULL); local_irq_enable(); break;
    case 44: if ( request_irq(addr, 0, (void *)plant_allocate, "plant", NULL) ) WARN(); break;
    case 45: if ( request_irq(addr, 0, (void *)plant_defer, "plant", NULL) ) WARN(); break;
    case 31: p = xzalloc_array(char, 40); xfree((void *)p); p[0] = 1;
             for ( depth = 0; depth < 99; depth++ ) xfree(xzalloc_array(char, 40));
             break;
    }
}

"""


_PLANT = "        plant(regs, d);\n"
_SLIP = "        if ( slip(regs, d) )\n            return true;\n"


def make_patch(tree: Tree, functions: str = _FUNCTIONS + FUNCTIONS) -> str:
    """Return a patch that plants mistakes in the tree's ffa.c: plant(), and what it stands on.

    Where there is a slip() among them, it comes first.
    """
    call = (_SLIP if "bool slip(" in functions else "") + _PLANT
    name = "xen/arch/arm/tee/ffa.c"
    before = (tree.root / name).read_text()
    after, calls = re.subn(r"(\n    case FFA_ID_GET:\n)", rf"\1{call}", before)
    assert calls, "ffa_handle_call() has no FFA_ID_GET"
    # The last one is the handler's; FFA_FEATURES may have one of its own.
    if calls > 1:
        head, mark, tail = after.rpartition(call)
        after = head.replace(call, "") + mark + tail
    after, calls = re.subn(
        r"\nstatic bool ffa_handle_call\(",
        lambda match: functions + match.group()[1:],
        after,
    )
    assert calls == 1, "there is no ffa_handle_call()"
    # Which the toolstack has to call again, as it may: Xen's own has nothing to do, so far.
    after = re.sub(
        r"(relinquish_resources\(struct domain \*d\)\n\{\n)    return 0;\n",
        r"\1    static bool again;\n\n    again = !again;\n\n    return again ? -ERESTART : 0;\n",
        after,
    )
    if _SLIP in call:
        after = re.sub(*TEARDOWN, after)
    names = ("irq", "rcupdate", "rwlock", "sched", "tasklet", "timer")
    headers = "".join(f"#include <xen/{name}.h>\n" for name in names)
    after = after.replace("#include <xen/types.h>\n", headers + "#include <xen/types.h>\n", 1)
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    return "".join(lines)


def plant(tree: Tree, directory: Path, functions: str = _FUNCTIONS + FUNCTIONS) -> Path:
    """Write the patch into a directory and return the file."""
    path = directory / "planted.patch"
    path.write_text(make_patch(tree, functions))
    return path
