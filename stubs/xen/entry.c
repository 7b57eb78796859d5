/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The jobs of a CPU: each enters Xen where hardware or the toolstack would.
 */
#include <xen/errno.h>
#include <xen/init.h>
#include <xen/lib.h>
#include <xen/preempt.h>
#include <xen/rcupdate.h>
#include <xen/sched.h>

#include <asm/hsr.h>
#include <asm/processor.h>
#include <asm/regs.h>
#include <asm/tee/tee.h>

#include "machine.h"

typedef int (*initcall)(void);

extern const initcall ffashim_initcalls_start[], ffashim_initcalls_end[];

/* Absent where the tree's vsmc.c does not compile. */
void do_trap_smc(struct cpu_user_regs *regs, const union hsr hsr)
    __attribute__((__weak__));
void do_trap_hvc_smccc(struct cpu_user_regs *regs) __attribute__((__weak__));

void init_tee_secondary(void) __attribute__((__weak__));

bool check_conditional_instr(struct cpu_user_regs *regs, const union hsr hsr);
void advance_pc(struct cpu_user_regs *regs, const union hsr hsr);
void inject_undef_exception(struct cpu_user_regs *regs);

enum ffashim_conduit xen_conduit;

/* Guest code whose every instruction executes. */
bool check_conditional_instr(struct cpu_user_regs *regs, const union hsr hsr)
{
    return true;
}

void advance_pc(struct cpu_user_regs *regs, const union hsr hsr)
{
    regs->pc += 4;
}

void inject_undef_exception(struct cpu_user_regs *regs)
{
    /* Its vectors are not modelled: the guest finds its registers as they were. */
}

/* ---- Boot ---------------------------------------------------------------- */

static void boot(void)
{
    const initcall *call;

    idle_init();
    for ( host_cpu = 0; host_cpu < FFASHIM_CPUS; host_cpu++ )
    {
        host_percpu_offset = __per_cpu_offset[host_cpu];
        this_cpu(cpu_id) = host_cpu;
        idle_enter();
    }
    host_cpu = 0;
    host_percpu_offset = __per_cpu_offset[0];

    for ( call = ffashim_initcalls_start; call < ffashim_initcalls_end; call++ )
        (*call)();

    for ( host_cpu = 1; host_cpu < FFASHIM_CPUS; host_cpu++ )
    {
        host_percpu_offset = __per_cpu_offset[host_cpu];
        if ( init_tee_secondary )
            init_tee_secondary();
    }
    host_cpu = 0;
    host_percpu_offset = __per_cpu_offset[0];
}

/* ---- Calls --------------------------------------------------------------- */

static void trap(struct cpu_user_regs *regs, bool aarch64)
{
    union hsr hsr = { .bits = 0 };

    hsr.len = 1;
    if ( xen_conduit == FFASHIM_TEE || !do_trap_smc || !do_trap_hvc_smccc )
    {
        if ( !tee_handle_call(regs) )
            set_user_reg(regs, 0, ~0UL);
    }
    else if ( xen_conduit == FFASHIM_HVC )
    {
        hsr.ec = aarch64 ? HSR_EC_HVC64 : HSR_EC_HVC32;
        regs->hsr = hsr.bits;
        do_trap_hvc_smccc(regs);
    }
    else
    {
        hsr.ec = aarch64 ? HSR_EC_SMC64 : HSR_EC_SMC32;
        regs->hsr = hsr.bits;
        do_trap_smc(regs, hsr);
    }
}

/* x18 to x30 hold @rest, for no call has a say in them. */
static void call(struct vcpu *v, uint64_t *x, uint64_t rest)
{
    struct cpu_user_regs *regs = guest_cpu_user_regs();
    bool aarch64 = is_64bit_domain(v->domain);
    unsigned int n;

    BUILD_BUG_ON(offsetof(struct cpu_user_regs, lr) != 30 * 8);

    host_call_begins(x);
    set_current(v);
    regs->cpsr = aarch64 ? PSR_MODE_EL1h : PSR_MODE_BIT | PSR_MODE_SVC;

    /* The entry from AArch32 leaves zeros in the upper halves. */
    if ( aarch64 )
        memcpy(&regs->x0, x, 18 * sizeof(*x));
    else
        for ( n = 0; n < 18; n++ )
            (&regs->x0)[n] = (uint32_t)x[n];

    if ( FFASHIM_CHECKS )
    {
        for ( n = 18; n < 31; n++ )
            (&regs->x0)[n] = rest;
        host_soil_stack();
    }
    trap(regs, aarch64);
    if ( FFASHIM_CHECKS )
        host_call_ends(x, &regs->x0, rest, aarch64);

    /* ... and an AArch32 guest sees the lower ones only. */
    if ( aarch64 )
        memcpy(x, &regs->x0, 18 * sizeof(*x));
    else
        for ( n = 0; n < 18; n++ )
            x[n] = (uint32_t)(&regs->x0)[n];
}

static int64_t calls(struct xen_job *job)
{
    struct domain *d = domain_of_slot(job->a);
    struct vcpu *v;
    uint32_t owner;
    uint64_t n, rest;

    if ( !d || d->is_dying || job->b >= d->max_vcpus )
        return -ESRCH;
    v = d->vcpu[job->b];
    if ( !is_vcpu_online(v) )
        return -ENOENT;

    owner = xen_domain_owner(job->a);
    host_works_for(owner);
    rest = HOST_OF_GUEST | (uint16_t)owner;
    rest |= rest << 32;
    switch ( job->kind )
    {
    case FFASHIM_JOB_CALL:
        call(v, job->regs, rest);
        break;

    case FFASHIM_JOB_BATCH:
        for ( n = 0; n < job->c; n++ )
        {
            call(v, job->regs + 18 * n, rest);
            host_at_rest();
        }
        break;

    default:
        for ( n = 0; n < job->c; n++ )
        {
            uint64_t x[18];

            memcpy(x, job->regs, sizeof(x));
            call(v, x, rest);
        }
        break;
    }

    return 0;
}

void xen_run(struct xen_job *job)
{
    job->result = 0;

    switch ( job->kind )
    {
    case FFASHIM_JOB_BOOT:
        boot();
        break;

    case FFASHIM_JOB_CALL:
    case FFASHIM_JOB_BATCH:
    case FFASHIM_JOB_LOOP:
        job->result = calls(job);
        break;

    case FFASHIM_JOB_CREATE:
        job->result = domain_create_slot(&xen_new_domain);
        break;

    case FFASHIM_JOB_KILL:
        job->result = domain_kill_slot(job->a);
        /* No CPU need have been in a read section when the domain was let go. */
        if ( host_rcu_idle() )
            rcu_run_all();
        break;

    case FFASHIM_JOB_IRQ:
        irq_deliver(job->a);
        break;

    case FFASHIM_JOB_TIMER:
        timer_run_next();
        break;

    case FFASHIM_JOB_SOFTIRQ:
        job->result = tasklet_run_all();
        if ( host_rcu_idle() )
            job->result |= rcu_run_all();
        break;
    }

    idle_enter();
}

bool xen_softirq_pending(void)
{
    return tasklet_pending_any() || rcu_pending_any();
}

/* What must hold on a CPU that returns to a guest or goes idle. */
void xen_at_rest(void)
{
    if ( this_cpu(rcu_lock_cnt) )
        host_fault(FFASHIM_HELD, NULL, 0,
                   "an RCU read section is still open at return");
    if ( preempt_count() )
        host_fault(FFASHIM_HELD, NULL, 0,
                   "preemption is still disabled at return");
    if ( !local_irq_is_enabled() )
        host_fault(FFASHIM_HELD, NULL, 0,
                   "interrupts are still disabled at return");
}
