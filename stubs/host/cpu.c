/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The CPUs of the machine. Each runs its job on a stack of its own, so that a
 * call can be left in the middle while another CPU runs, and be abandoned
 * when it faults. Python always runs on the stack it came from.
 *
 * ucontext makes a stack. Switching between stacks that exist is on the path
 * of every call: see cpu_save() in internal.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "internal.h"

#define STACK_SIZE (256 * 1024)
#define HELD_MAX   32
#define RCU_MAX    8
#define HISTORY    16
#define SMCS_MAX   10000                   /* of one call: more is no end     */

struct cpu {
    enum ffashim_state status;
    bool fresh;                            /* no job ever ran on this stack   */
    bool in_point;                         /* inside a callback at a point    */
    unsigned char *stack;
    cpu_env env;
    uint64_t turn;                         /* counts resumptions              */
    struct xen_job job;
    unsigned int smcs;                     /* made in this call               */
    uint64_t *smc;                         /* registers of the pending SMC    */
    uint32_t point;
    const void *point_addr;
    int answer;                            /* to the last point               */
    struct held held[HELD_MAX];
    unsigned int held_nr;
    struct held waits;                     /* lock: NULL when it does not     */
    uint32_t call;                         /* what it is at, and for whom:    */
    uint32_t owner;                        /* see ffashim_holding             */
    const uint64_t *given;                 /* registers of the guest's call   */
    bool told;                             /* by the SPMC: see disclosed.c    */
    bool in_irq;
    uint32_t rcu_depth;                    /* RCU read sections it is in, and */
    uint64_t rcu[RCU_MAX];                 /* where they were entered         */
    uint64_t frame[18];
};

static struct cpu cpus[FFASHIM_CPUS];
static struct cpu *running;
static uint64_t staging[18];               /* where Python leaves a call      */
static ffashim_past history[HISTORY];
static uint64_t history_nr;
static bool stopped;                       /* by a fault, until a reset       */

cpu_env *cpu_main;
uint64_t cpu_progress;

unsigned int host_cpu MACHINE_PAST;
unsigned long host_percpu_offset MACHINE_PAST;
unsigned long host_irq_flags[FFASHIM_CPUS] MACHINE_STATE;
unsigned int host_switching;
static uint32_t passed_over;               /* points still to come            */
struct host_site host_site;

int (*python_smc)(uint32_t cpu, uint64_t *regs);
int (*python_point)(uint32_t cpu, uint32_t point, uint64_t addr);

extern unsigned long __per_cpu_offset[];

bool cpu_running(void)
{
    return running;
}

bool cpu_stack_guard(uintptr_t addr)
{
    for ( unsigned int n = 0; n < FFASHIM_CPUS; n++ )
        if ( addr - (uintptr_t)cpus[n].stack < HOST_PAGE_SIZE )
            return true;

    return false;
}

/* Where the stack that an address lies on starts, 0 if it lies on none. */
uintptr_t cpu_stack_of(uintptr_t addr)
{
    for ( unsigned int n = 0; n < FFASHIM_CPUS; n++ )
        if ( addr - (uintptr_t)cpus[n].stack < STACK_SIZE )
            return (uintptr_t)cpus[n].stack + HOST_PAGE_SIZE;

    return 0;
}

int cpu_open(void)
{
    for ( unsigned int n = 0; n < FFASHIM_CPUS; n++ )
    {
        struct cpu *c = &cpus[n];

        if ( c->stack )
            continue;
        c->stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        if ( c->stack == MAP_FAILED ||
             mprotect(c->stack, HOST_PAGE_SIZE, PROT_NONE) )
            return errno;
        c->fresh = true;
    }

    return 0;
}

static void forget(struct cpu *c)
{
    c->status = FFASHIM_IDLE;
    c->held_nr = 0;
    c->waits.lock = NULL;
    c->in_point = false;
    c->in_irq = false;
    c->rcu_depth = 0;
}

/* After a reset no CPU is in the middle of anything. */
void cpu_abandon_all(void)
{
    for ( unsigned int n = 0; n < FFASHIM_CPUS; n++ )
    {
        if ( cpus[n].status != FFASHIM_IDLE && cpus[n].status != FFASHIM_DONE )
            cpus[n].fresh = true;
        cpus[n].turn++;
        forget(&cpus[n]);
    }
    history_nr = 0;
    stopped = false;
}

/* ---- Switching stacks ---------------------------------------------------- */

static void SWITCHES __attribute__((__noreturn__)) leave(cpu_env *to)
{
    cpu_enter(*to);
}

static void SWITCHES yield(struct cpu *c, enum ffashim_state status)
{
    c->status = status;
    if ( !cpu_save(c->env) )
        leave(cpu_main);
    cpu_resumed();
}

void host_at_rest(void)
{
    struct cpu *c = running;

    if ( c->held_nr )
    {
        const struct held *h = &c->held[c->held_nr - 1];

        host_fault(FFASHIM_HELD, h->site.file, h->site.line,
                   "%s is still held at return",
                   h->site.name ? h->site.name : "a lock");
    }
    if ( c->rcu_depth )
        host_fault_of(FFASHIM_HELD, c->rcu[c->rcu_depth - 1],
                      "an RCU read section is still open at return");
    xen_at_rest();
}

static void cpu_loop(void)
{
    for ( ; ; )
    {
        struct cpu *c = running;

        xen_run(&c->job);
        host_at_rest();
        yield(c, FFASHIM_DONE);
    }
}

/* Let @c run until it yields; what it then is stands in its status. */
static void SWITCHES resume(struct cpu *c)
{
    static ucontext_t fresh, unused;
    cpu_env *volatile outer = cpu_main;
    struct cpu *volatile interrupted = running;
    cpu_env here;
    unsigned int cpu = c - cpus;

    cpu_progress++;
    c->turn++;
    if ( !cpu_save(here) )
    {
        cpu_main = &here;
        running = c;
        host_cpu = cpu;
        host_percpu_offset = __per_cpu_offset[cpu];
        if ( !c->fresh )
            leave(&c->env);

        c->fresh = false;
        /* What was left on it may have marked its locals. */
        shadow_allow(c->stack, STACK_SIZE);
        getcontext(&fresh);
        fresh.uc_stack.ss_sp = c->stack + HOST_PAGE_SIZE;
        fresh.uc_stack.ss_size = STACK_SIZE - HOST_PAGE_SIZE;
        fresh.uc_link = NULL;
        makecontext(&fresh, cpu_loop, 0);
        swapcontext(&unused, &fresh);
    }
    cpu_resumed();

    cpu_main = outer;
    running = interrupted;
    if ( interrupted )
    {
        host_cpu = interrupted - cpus;
        host_percpu_offset = __per_cpu_offset[host_cpu];
    }
}

/* Leave the CPU's stack for good: the report says why. */
void fault_raise(void)
{
    struct cpu *c = running;

    c->fresh = true;
    c->status = FFASHIM_FAULTED;
    stopped = true;
    leave(cpu_main);
}

/*
 * A thread of Python's that is in the machine keeps the others out, also while
 * it runs a callback: two of them would run on one set of CPUs.
 */
static pthread_t owner;
static unsigned int owner_depth;

static bool enter(void)
{
    pthread_t none = 0, self = pthread_self();

    if ( !__atomic_compare_exchange_n(&owner, &none, self, false,
                                      __ATOMIC_ACQUIRE, __ATOMIC_RELAXED) &&
         !pthread_equal(none, self) )
        return false;

    if ( !owner_depth++ )
        fault_thread();

    return true;
}

static void leave_thread(void)
{
    if ( !--owner_depth )
        __atomic_store_n(&owner, 0, __ATOMIC_RELEASE);
}

/*
 * Run @cpu until its job is done, has faulted or waits for a lock that
 * another CPU holds. Callbacks run here, on Python's own stack, and may drive
 * other CPUs, this one included while it is only at a switch point: then what
 * they left it as counts.
 */
int ffashim_drive(uint32_t cpu)
{
    struct cpu *c = &cpus[cpu];
    struct cpu *interrupted = running;
    int status;

    if ( !enter() )
        return FFASHIM_OTHER_THREAD;
    if ( owner_depth == 1 )
        coverage_begin();

    while ( c->status == FFASHIM_READY || c->status == FFASHIM_BLOCKED )
    {
        uint64_t turn;
        int rc;

        resume(c);
        turn = c->turn;

        if ( c->status == FFASHIM_BLOCKED )
            break;

        if ( c->status == FFASHIM_IN_SMC )
        {
            running = NULL;
            rc = python_smc(cpu, c->smc);
            running = interrupted;
            if ( c->turn != turn )         /* reset by the callback           */
                break;
            c->status = FFASHIM_READY;
        }
        else if ( c->in_point && c->status == FFASHIM_READY )
        {
            running = NULL;
            rc = python_point(cpu, c->point, (uintptr_t)c->point_addr);
            running = interrupted;
            if ( c->turn != turn )
                continue;
            c->in_point = false;
            c->answer = rc;
            if ( rc == 1 )                 /* leave it here for now           */
                break;
        }
        else
            continue;

        if ( rc < 0 )
        {
            c->fresh = true;
            c->status = FFASHIM_FAULTED;
            stopped = true;
            break;
        }
    }

    status = c->status;
    leave_thread();

    return status;
}

int ffashim_start(uint32_t cpu, uint32_t kind, uint64_t a, uint64_t b,
                  uint64_t c, uint64_t *regs)
{
    struct cpu *p = &cpus[cpu];

    if ( p->status != FFASHIM_IDLE )
        return -1;
    p->job = (struct xen_job){ .kind = kind, .a = a, .b = b, .c = c,
                               .regs = regs };
    p->smcs = 0;
    p->call = kind;
    p->owner = 0;
    p->given = NULL;
    p->told = false;
    p->status = FFASHIM_READY;
    fetch_begin(cpu, 0);

    return 0;
}

int ffashim_cpu_state(uint32_t cpu)
{
    return cpus[cpu].status;
}

int64_t ffashim_result(uint32_t cpu)
{
    return cpus[cpu].job.result;
}

void ffashim_retire(uint32_t cpu)
{
    forget(&cpus[cpu]);
}

uint64_t *ffashim_frame(void)
{
    return staging;
}

/* 0: done. -1: the CPU is busy. Else its state, which is then kept. */
int ffashim_job(uint32_t cpu, uint32_t kind, uint64_t a, uint64_t b,
                uint64_t c, uint64_t *regs)
{
    int status;

    if ( ffashim_start(cpu, kind, a, b, c, regs) )
        return -1;
    status = ffashim_drive(cpu);
    if ( status == FFASHIM_OTHER_THREAD )
        forget(&cpus[cpu]);
    if ( status != FFASHIM_DONE )
        return status;
    cpus[cpu].status = FFASHIM_IDLE;

    return 0;
}

int ffashim_start_call(uint32_t cpu, uint32_t slot, uint32_t vcpu)
{
    struct cpu *c = &cpus[cpu];
    ffashim_past *past;

    if ( c->status != FFASHIM_IDLE )
        return -1;
    past = &history[history_nr++ % HISTORY];
    past->slot = slot;
    past->vcpu = vcpu;
    memcpy(past->x, staging, sizeof(staging));
    memcpy(c->frame, staging, sizeof(staging));

    return ffashim_start(cpu, FFASHIM_JOB_CALL, slot, vcpu, 0, c->frame);
}

int ffashim_calling(uint32_t slot, uint32_t vcpu)
{
    pthread_t by = __atomic_load_n(&owner, __ATOMIC_RELAXED);

    /* Another thread's call: to be kept out is what its caller is told. */
    if ( by && !pthread_equal(by, pthread_self()) )
        return 0;
    for ( unsigned int n = 0; n < FFASHIM_CPUS; n++ )
    {
        const struct cpu *c = &cpus[n];

        if ( c->status != FFASHIM_IDLE && c->status != FFASHIM_DONE &&
             (c->job.kind == FFASHIM_JOB_CALL ||
              c->job.kind == FFASHIM_JOB_BATCH) &&
             c->job.a == slot && c->job.b == vcpu )
            return 1;
    }

    return 0;
}

void ffashim_fetch(uint32_t cpu)
{
    memcpy(staging, cpus[cpu].frame, sizeof(staging));
}

int ffashim_call(uint32_t cpu, uint32_t slot, uint32_t vcpu)
{
    struct cpu *c = &cpus[cpu];
    int status;

    if ( stopped )
        return -4;
    if ( ffashim_start_call(cpu, slot, vcpu) )
        return -1;
    status = ffashim_drive(cpu);
    if ( status == FFASHIM_OTHER_THREAD )
        forget(c);
    if ( status != FFASHIM_DONE )
        return status;
    c->status = FFASHIM_IDLE;
    ffashim_fetch(cpu);

    return c->job.result ? -2 : xen_softirq_pending() ? -3 : 0;
}

uint32_t ffashim_history(ffashim_past *past, uint32_t max)
{
    uint64_t nr = history_nr < HISTORY ? history_nr : HISTORY;

    if ( nr > max )
        nr = max;
    for ( uint64_t n = 0; n < nr; n++ )
        past[n] = history[(history_nr - nr + n) % HISTORY];

    return nr;
}

/* ---- What Xen does on a CPU ---------------------------------------------- */

void host_call_begins(const uint64_t x[18])
{
    running->smcs = 0;
    running->call = x[0];
    running->given = x;
    running->told = false;
    cpu_progress++;
    fetch_begin(running - cpus, (uint32_t)x[0]);
}

const uint64_t *cpu_given(void)
{
    return running->given;
}

void cpu_is_told(void)
{
    running->told = true;
}

bool cpu_told(void)
{
    return running->told;
}

void host_smc(uint64_t regs[18])
{
    struct cpu *c = running;

    FFASHIM_POINT(FFASHIM_POINT_SMC, NULL);
    if ( ++c->smcs > SMCS_MAX )
        host_fault(FFASHIM_HANG, NULL, 0, "no end after %u SMCs", SMCS_MAX);
    c->smc = regs;
    disclosed_to_spmc(regs);
    yield(c, FFASHIM_IN_SMC);
    disclosed_by_spmc(regs);
}

int cpu_ask(enum ffashim_point point, const void *addr)
{
    struct cpu *c = running;

    if ( !c || c->in_point )
        return 0;
    c->point = point;
    c->point_addr = addr;
    c->in_point = true;
    yield(c, FFASHIM_READY);
    c->in_point = false;

    return c->answer;
}

void host_switch(enum ffashim_point point, const void *addr)
{
    if ( !(host_switching & (1U << point)) || !running || running->in_point )
        return;
    if ( passed_over )
        passed_over--;
    else
        cpu_ask(point, addr);
}

void host_switch_copy(const void *d, const void *s)
{
    if ( host_in_window(d) || host_in_window(s) )
        host_switch(FFASHIM_POINT_COPY, host_in_window(d) ? d : s);
}

void ffashim_watch(uint32_t points)
{
    ffashim_watch_after(points, 0);
}

void ffashim_watch_after(uint32_t points, uint32_t many)
{
    host_switching = points;
    passed_over = many;
}

/* ---- Locks --------------------------------------------------------------- */

static bool holds(const struct cpu *c, const void *lock,
                  enum host_lock_mode mode)
{
    for ( unsigned int n = 0; c && n < c->held_nr; n++ )
        if ( c->held[n].lock == lock && c->held[n].mode == mode )
            return true;

    return false;
}

/* The CPU whose hold on @lock keeps @mode from being granted, or NULL. */
static struct cpu *holder_of(const void *lock, enum host_lock_mode mode)
{
    if ( mode == HOST_READ && holds(running, lock, HOST_WRITE) )
        return NULL;                       /* as Xen's writers may            */

    for ( unsigned int n = 0; n < FFASHIM_CPUS; n++ )
        for ( unsigned int i = 0; i < cpus[n].held_nr; i++ )
        {
            const struct held *h = &cpus[n].held[i];

            if ( h->lock != lock )
                continue;
            /* Readers share; but one that comes again may wait for a writer. */
            if ( mode == HOST_READ && h->mode == HOST_READ &&
                 &cpus[n] != running )
                continue;

            return &cpus[n];
        }

    return NULL;
}

static void take_site(struct held *h, const void *lock,
                      enum host_lock_mode mode, const void *caller)
{
    *h = (struct held){ lock, host_site, module_offset(caller), mode, 0, 0 };
    if ( mode == HOST_SPIN )
        h->site.tag = (uint32_t *)lock;
    host_site = (struct host_site){ };
}

static void grant(struct cpu *c, const struct held *h)
{
    if ( c->held_nr == HELD_MAX )
        host_fault(FFASHIM_DEADLOCK, h->site.file, h->site.line,
                   "a CPU holds more than %d locks", HELD_MAX);
    c->held[c->held_nr++] = *h;
}

static const char *name_of(const struct held *h)
{
    return h->site.name ? h->site.name : "the lock";
}

static void FFASHIM_NORETURN taken_twice(const struct cpu *c,
                                         const struct held *want)
{
    const char *how = "is taken twice by one CPU";

    if ( holds(c, want->lock, HOST_READ) )
        how = want->mode == HOST_READ
              ? "is read inside of a section that reads it: a writer that "
                "waits meanwhile comes first"
              : "is written inside of a section that reads it";
    host_fault(FFASHIM_DEADLOCK, want->site.file, want->site.line, "%s %s",
               name_of(want), how);
}

static void look(const struct cpu *c, struct held *want, bool waits)
{
    if ( !FFASHIM_CHECKS )
        return;
    order_identify(want);
    order_check(c->held, c->held_nr, want, waits);
}

void host_lock(const void *lock, enum host_lock_mode mode)
{
    struct cpu *c = running;
    struct held want;
    struct cpu *holder;

    take_site(&want, lock, mode, __builtin_return_address(0));
    FFASHIM_POINT(FFASHIM_POINT_LOCK, lock);

    while ( (holder = holder_of(lock, mode)) != NULL )
    {
        if ( holder == c )
            taken_twice(c, &want);
        c->waits = want;
        yield(c, FFASHIM_BLOCKED);
        c->waits.lock = NULL;
    }

    look(c, &want, true);
    grant(c, &want);
}

bool host_trylock(const void *lock, enum host_lock_mode mode)
{
    struct cpu *c = running;
    struct held want;

    take_site(&want, lock, mode, __builtin_return_address(0));
    FFASHIM_POINT(FFASHIM_POINT_LOCK, lock);

    if ( holder_of(lock, mode) )
        return false;

    look(c, &want, false);
    grant(c, &want);

    return true;
}

void host_unlock(const void *lock, enum host_lock_mode mode)
{
    struct cpu *c = running;
    unsigned int n = c->held_nr;

    while ( n && !(c->held[n - 1].lock == lock && c->held[n - 1].mode == mode) )
        n--;
    if ( !n )
        host_fault(FFASHIM_UNLOCK, NULL, 0,
                   "a lock (%p) is released that this CPU does not hold", lock);

    memmove(&c->held[n - 1], &c->held[n],
            (c->held_nr - n) * sizeof(c->held[0]));
    c->held_nr--;
    FFASHIM_POINT(FFASHIM_POINT_UNLOCK, lock);
}

bool host_is_locked(const void *lock)
{
    return holder_of(lock, HOST_WRITE);
}

uint32_t ffashim_locks(uint32_t cpu, ffashim_lock *locks, uint32_t max)
{
    const struct cpu *c = &cpus[cpu];

    for ( uint32_t n = 0; n < c->held_nr && n < max; n++ )
        locks[n] = order_describe(&c->held[n]);

    return c->held_nr;
}

int ffashim_waits(uint32_t cpu, ffashim_lock *lock, uint32_t *holder)
{
    const struct cpu *c = &cpus[cpu];
    struct cpu *by;

    if ( !c->waits.lock )
        return 0;
    by = holder_of(c->waits.lock, c->waits.mode);
    *lock = order_describe(&c->waits);
    *holder = by ? by - cpus : FFASHIM_CPUS;

    return 1;
}

/* ---- RCU and interrupts -------------------------------------------------- */

void host_irq(bool handles)
{
    running->in_irq = handles;
}

bool cpu_in_irq(void)
{
    return running->in_irq;
}

uint32_t cpu_call(void)
{
    return running ? running->call : FFASHIM_JOB_BOOT;
}

uint32_t cpu_owner(void)
{
    return running ? running->owner : 0;
}

void host_works_for(uint32_t owner)
{
    running->owner = owner;
}

#define OUTER_MAX 8                        /* frames from here to the machine */
/* Who has called the code at @site, which has called the machine; 0: not known. */
static uint64_t outer_of(uint64_t site)
{
    uint64_t frame[OUTER_MAX];
    uint32_t n, nr = site ? fault_frames(frame, OUTER_MAX) : 0;

    for ( n = 0; n + 1 < nr; n++ )
        if ( frame[n] == site )
            return frame[n + 1];

    return 0;
}

ffashim_holding cpu_takes(enum ffashim_holding_kind kind, const void *caller)
{
    uint64_t site = call_site(caller);

    return (ffashim_holding){
        .kind = kind, .owner = cpu_owner(), .call = cpu_call(), .count = 1,
        .caller = site, .outer = outer_of(site),
    };
}

void host_rcu_enter(const void *caller)
{
    struct cpu *c = running;

    if ( c->rcu_depth == RCU_MAX )
        host_fault(FFASHIM_HELD, NULL, 0, "%d RCU read sections, nested",
                   RCU_MAX);
    c->rcu[c->rcu_depth++] =
        call_site(caller ? caller : __builtin_return_address(0));
}

bool host_rcu_leave(void)
{
    struct cpu *c = running;

    if ( !c->rcu_depth )
        host_fault(FFASHIM_UNLOCK, NULL, 0,
                   "rcu_read_unlock() outside of a read section");

    return !--c->rcu_depth && host_rcu_idle();
}

/* Whether no CPU is in a read section, nor handles an interrupt. */
bool host_rcu_idle(void)
{
    for ( unsigned int n = 0; n < FFASHIM_CPUS; n++ )
        if ( cpus[n].rcu_depth || cpus[n].in_irq )
            return false;

    return true;
}
