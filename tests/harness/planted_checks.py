# SPDX-License-Identifier: GPL-2.0-only
"""What the checks of every call and every test are to catch: mistakes of ours, each with its twin.

They are planted as those of planted.py are. FFA_ID_GET makes the one whose number is in x1, or,
with x4 = 1, does the same as it should be done.
"""

from __future__ import annotations

from enum import IntEnum


class Slip(IntEnum):
    """What FFA_ID_GET does wrong, by the number in x1."""

    ORDER = 100
    ORDER_OF_THREE = 101
    ORDER_IN_A_CLASS = 102
    LOCK_ZERO = 103
    LOCK_FREED = 104
    UPGRADE = 105
    READ_TWICE = 106
    LOCK_IN_IRQ = 107
    RCU_UNLOCK = 108
    USED_AFTER_SECTION = 109
    DOMAIN_REF = 110
    BLOCK = 111
    PAGE = 112
    MAPPING = 113
    TIMER_FREED = 114
    TASKLET_FREED = 115
    TIMER_FOR_EVER = 116
    STACK_IN_REPLY = 117
    HEAP_IN_REPLY = 118
    HEAP_IN_PAGE = 119
    STACK_IN_SMC = 120
    REGISTER = 121
    NO_TEARDOWN = 122
    RWLOCK_FREED = 123
    CALLBACK_FREED = 124
    LOCK_UNWRITTEN = 125
    WRITTEN_WHEN_FREE = 126
    UPPER_HALF = 127
    STASH = 128
    GUEST_IN_REPLY = 129
    GUEST_IN_PAGE = 130
    GUEST_IN_SMC = 131
    ONE_REGISTER_MORE = 132
    OWN_PAGES = 133


FUNCTIONS = """
static DEFINE_SPINLOCK(slip_a);
static DEFINE_SPINLOCK(slip_b);
static DEFINE_SPINLOCK(slip_c);
static DEFINE_SPINLOCK(slip_irq);
static DEFINE_RWLOCK(slip_rw);
static struct timer slip_timer;
static unsigned int slip_left;
static bool slip_keep;
static uint64_t slip_stash[4];

struct slip {
    spinlock_t lock;
    rwlock_t rwlock;
    struct timer timer;
    struct tasklet tasklet;
    struct rcu_head head;
};

static struct slip *slip_alloc(void)
{
    struct slip *s = xzalloc(struct slip);

    spin_lock_init(&s->lock);
    rwlock_init(&s->rwlock);

    return s;
}

#define slip_nested(outer, inner)                                       \\
    do {                                                                \\
        spin_lock(outer);                                               \\
        spin_lock(inner);                                               \\
        spin_unlock(inner);                                             \\
        spin_unlock(outer);                                             \\
    } while ( 0 )

static void slip_handler(int irq, void *data)
{
    spin_lock(&slip_irq);
    spin_unlock(&slip_irq);
}

static void slip_ignore(void *data)
{
}

static void slip_reclaim(struct rcu_head *head)
{
    xfree(container_of(head, struct slip, head));
}

static void slip_tick(void *data)
{
    if ( --slip_left )
        set_timer(&slip_timer, NOW() + SECONDS(1));
}

static unsigned long noinline slip_unwritten(bool fixed)
{
    unsigned long left[4];

    if ( fixed )
        memset(left, 0, sizeof(left));
    barrier();
    asm volatile ( "" : "=m" (left) );

    return left[1];
}

static void noinline slip_smc(bool fixed, uint64_t told)
{
    struct arm_smccc_1_2_regs arg, resp;

    asm volatile ( "" : "=m" (arg) );
    if ( fixed || told )
        memset(&arg, 0, sizeof(arg));
    arg.a0 = FFA_ID_GET;
    arg.a3 = fixed ? 0 : told;
    arm_smccc_1_2_smc(&arg, &resp);
}

static bool slip(struct cpu_user_regs *regs, struct domain *d)
{
    uint64_t addr = get_user_reg(regs, 2);
    bool fixed = get_user_reg(regs, 4);
    struct page_info *pg;
    struct slip *s, *other;
    unsigned long flags;
    void *p;

    switch ( get_user_reg(regs, 1) )
    {
    case 100:
        slip_nested(&slip_a, &slip_b);
        if ( fixed )
            slip_nested(&slip_a, &slip_b);
        else
            slip_nested(&slip_b, &slip_a);
        break;
    case 101:
        slip_nested(&slip_a, &slip_b);
        slip_nested(&slip_b, &slip_c);
        if ( fixed )
            slip_nested(&slip_a, &slip_c);
        else
            slip_nested(&slip_c, &slip_a);
        break;
    case 102:
        s = slip_alloc();
        other = slip_alloc();
        slip_nested(&s->lock, &other->lock);
        if ( fixed )
            slip_nested(&s->lock, &other->lock);
        else
            slip_nested(&other->lock, &s->lock);
        xfree(s);
        xfree(other);
        break;
    case 103:
    case 125:
        s = get_user_reg(regs, 1) == 103 ? xzalloc(struct slip) : xmalloc(struct slip);
        if ( fixed )
            spin_lock_init(&s->lock);
        spin_lock(&s->lock);
        spin_unlock(&s->lock);
        xfree(s);
        break;
    case 104:
        s = slip_alloc();
        if ( !fixed )
            xfree(s);
        spin_lock(&s->lock);
        spin_unlock(&s->lock);
        if ( fixed )
            xfree(s);
        break;
    case 105:
        read_lock(&slip_rw);
        if ( fixed )
            read_unlock(&slip_rw);
        write_lock(&slip_rw);
        write_unlock(&slip_rw);
        break;
    case 106:
        read_lock(&slip_rw);
        if ( fixed )
            read_unlock(&slip_rw);
        read_lock(&slip_rw);
        read_unlock(&slip_rw);
        break;
    case 107:
        if ( request_irq(addr, 0, (void *)slip_handler, "slip", NULL) )
            WARN();
        if ( fixed )
            spin_lock_irqsave(&slip_irq, flags);
        else
            spin_lock(&slip_irq);
        if ( fixed )
            spin_unlock_irqrestore(&slip_irq, flags);
        else
            spin_unlock(&slip_irq);
        break;
    case 108:
        if ( fixed )
            rcu_read_lock(&d->rcu_lock);
        rcu_read_unlock(&d->rcu_lock);
        break;
    case 109:
    {
        struct domain *peer = rcu_lock_domain_by_id(addr);

        if ( !peer )
            break;
        cpu_relax();
        if ( !fixed )
            rcu_unlock_domain(peer);
        set_user_reg(regs, 3, *(volatile uint8_t *)peer->arch.tee);
        if ( fixed )
            rcu_unlock_domain(peer);
        break;
    }
    case 110:
        get_knownalive_domain(d);
        if ( fixed )
            put_domain(d);
        break;
    case 111:
        p = xzalloc_array(char, 40);
        if ( fixed )
            xfree(p);
        break;
    case 112:
        p = plant_map(d, addr, &pg);
        unmap_domain_page_global(p);
        if ( fixed )
            put_page(pg);
        break;
    case 113:
        p = plant_map(d, addr, &pg);
        if ( fixed )
            unmap_domain_page_global(p);
        put_page(pg);
        break;
    case 114:
        s = slip_alloc();
        init_timer(&s->timer, slip_ignore, NULL, 0);
        set_timer(&s->timer, NOW() + SECONDS(1));
        if ( fixed )
            kill_timer(&s->timer);
        xfree(s);
        break;
    case 115:
        s = slip_alloc();
        tasklet_init(&s->tasklet, slip_ignore, NULL);
        tasklet_schedule(&s->tasklet);
        if ( fixed )
            tasklet_kill(&s->tasklet);
        xfree(s);
        break;
    case 116:
        slip_left = fixed ? 3 : 0;
        init_timer(&slip_timer, slip_tick, NULL, 0);
        set_timer(&slip_timer, NOW() + SECONDS(1));
        break;
    case 117:
        set_user_reg(regs, 3, slip_unwritten(fixed));
        break;
    case 118:
        p = xmalloc_array(uint64_t, 4);
        if ( fixed )
            memset(p, 0, 32);
        set_user_reg(regs, 3, *(volatile uint64_t *)p);
        xfree(p);
        break;
    case 119:
    {
        void *to = plant_map(d, addr, &pg);

        p = xmalloc_array(uint64_t, 4);
        if ( fixed )
            memset(p, 0, 32);
        memcpy(to, p, 32);
        xfree(p);
        unmap_domain_page_global(to);
        put_page(pg);
        break;
    }
    case 120: slip_smc(fixed, 0); break;
    case 121:
        if ( !fixed )
            set_user_reg(regs, 9, 0x1234);
        break;
    case 122: slip_keep = !fixed; break;
    case 123:
        s = slip_alloc();
        if ( !fixed )
            xfree(s);
        write_lock(&s->rwlock);
        write_unlock(&s->rwlock);
        if ( fixed )
            xfree(s);
        break;
    case 124:
        s = slip_alloc();
        call_rcu(&s->head, slip_reclaim);
        if ( !fixed )
            xfree(s);
        break;
    case 126:
        p = xzalloc_array(char, 40);
        if ( fixed )
            *(volatile char *)p = 1;
        xfree(p);
        if ( !fixed )
            *(volatile char *)p = 1;
        break;
    case 127:
        set_user_reg(regs, 0, FFA_SUCCESS_32);
        set_user_reg(regs, 2, fixed ? 1 : BIT(32, UL) | 1);
        break;
    case 128:
        p = plant_map(d, addr, &pg);
        memcpy(slip_stash, p, sizeof(slip_stash));
        unmap_domain_page_global(p);
        put_page(pg);
        break;
    case 129: set_user_reg(regs, 3, fixed ? 0 : slip_stash[0]); break;
    case 130:
        if ( fixed )
            memset(slip_stash, 0, sizeof(slip_stash));
        p = plant_map(d, addr, &pg);
        memcpy(p, slip_stash, sizeof(slip_stash));
        unmap_domain_page_global(p);
        put_page(pg);
        break;
    case 131: slip_smc(fixed, slip_stash[0]); break;
    case 132: set_user_reg(regs, fixed ? 17 : 18, get_user_reg(regs, 17)); break;
    case 133:
    {
        struct page_info *to_pg;
        void *to = plant_map(d, addr + PAGE_SIZE, &to_pg);

        p = plant_map(d, addr, &pg);
        memcpy(to, p, 64);
        unmap_domain_page_global(p);
        unmap_domain_page_global(to);
        put_page(pg);
        put_page(to_pg);
        break;
    }
    default:
        return false;
    }

    return true;
}

"""

TEARDOWN = (
    r"(domain_teardown\(struct domain \*d\)\n\{\n(?:.*;\n)+\n)",
    r"\1    if ( slip_keep )\n        return 0;\n\n",
)
"""What to look for in the tree, and what to put there, for NO_TEARDOWN: behind the declarations."""
