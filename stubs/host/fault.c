/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What would hang or kill a hypervisor ends the call instead: an assertion
 * that failed, an access that faults, a loop that does not end.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <ucontext.h>

#include "internal.h"

#define TICK_MS     20
#define FRAMES      32

extern const char __ehdr_start[], _end[];

static ffashim_report report;
static struct sigaction old_segv, old_bus, old_fpe;
static int64_t hang_ms = 2000;
static pthread_t runner;

uint64_t module_offset(const void *pc)
{
    uintptr_t at = (uintptr_t)pc;

    return at >= (uintptr_t)__ehdr_start && at < (uintptr_t)_end
           ? at - (uintptr_t)__ehdr_start : 0;
}

uint64_t call_site(const void *caller)
{
    uint64_t at = module_offset(caller);

    return at ? at - 1 : 0;
}

const ffashim_report *ffashim_last_report(void)
{
    return &report;
}

/* Frame pointers are kept throughout, so the chain can simply be followed. */
uint32_t fault_walk(void *const *fp, uint64_t *frame, uint32_t max)
{
    uint32_t nr = 0;

    while ( nr < max && fp && !((uintptr_t)fp % 8) )
    {
        void *const *next = fp[0];
        uint64_t at = module_offset(fp[1]);

        if ( !at )
            break;
        frame[nr++] = at - 1;
        if ( next <= fp || (uintptr_t)next - (uintptr_t)fp > 256 * 1024 )
            break;
        fp = next;
    }

    return nr;
}

static void walk(const void *pc, void *const *fp)
{
    uint64_t at = module_offset(pc);

    report.frames = 0;
    if ( at )
        report.frame[report.frames++] = at;
    report.frames += fault_walk(fp, report.frame + report.frames,
                                FRAMES - report.frames);
}

/* The way to the caller of this function's caller. How many frames. */
uint32_t fault_frames(uint64_t *frame, uint32_t max)
{
    void *const *fp = __builtin_frame_address(0);

    return fault_walk(fp[0], frame, max);
}

static struct heap_place memory;

void fault_memory(const struct heap_place *place)
{
    memory = *place;
}

static void begin(enum ffashim_fault kind, const char *file, unsigned int line)
{
    report.kind = kind;
    report.cpu = host_cpu;
    report.line = line;
    report.allocated_by = memory.allocated_by;
    report.allocated_outer = memory.allocated_outer;
    report.freed_by = memory.freed_by;
    memory = (struct heap_place){ };
    snprintf(report.file, sizeof(report.file), "%s", file ? file : "");
}

static void FFASHIM_NORETURN end(void)
{
    if ( !cpu_running() )
    {
        fprintf(stderr, "ffashim: %s (outside of a job)\n", report.text);
        abort();
    }
    fault_raise();
}

void host_fault(enum ffashim_fault kind, const char *file, unsigned int line,
                const char *fmt, ...)
{
    va_list args;

    begin(kind, file, line);
    va_start(args, fmt);
    vsnprintf(report.text, sizeof(report.text), fmt, args);
    va_end(args);
    walk(NULL, __builtin_frame_address(0));
    end();
}

void host_fault_of(enum ffashim_fault kind, uint64_t caller, const char *fmt,
                   ...)
{
    va_list args;

    begin(kind, NULL, 0);
    va_start(args, fmt);
    vsnprintf(report.text, sizeof(report.text), fmt, args);
    va_end(args);
    report.frames = 1;
    report.frame[0] = caller;
    end();
}

/* ---- Signals ------------------------------------------------------------- */

static void where(const ucontext_t *uc, void **pc, void ***fp)
{
#if defined(__x86_64__)
    *pc = (void *)uc->uc_mcontext.gregs[REG_RIP];
    *fp = (void **)uc->uc_mcontext.gregs[REG_RBP];
    /* libc's copy functions keep no frame: what called one is on the stack. */
    if ( !module_offset(*pc) )
        *pc = *(void **)uc->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    *pc = (void *)uc->uc_mcontext.pc;
    *fp = (void **)uc->uc_mcontext.regs[29];
    if ( !module_offset(*pc) )
        *pc = (void *)uc->uc_mcontext.regs[30];
#else
    *pc = NULL;
    *fp = NULL;
#endif
}

static void chain(const struct sigaction *old, int sig, siginfo_t *info,
                  void *ctx)
{
    if ( old->sa_flags & SA_SIGINFO )
        old->sa_sigaction(sig, info, ctx);
    else if ( old->sa_handler != SIG_IGN && old->sa_handler != SIG_DFL )
        old->sa_handler(sig);
    else
        signal(sig, old->sa_handler);      /* and fault again                 */
}

static void on_fault(int sig, siginfo_t *info, void *ctx)
{
    const char *absent;
    char what[160];
    void *pc, **fp;

    /* Not Xen's: Python, or the secure world in Python. */
    if ( !cpu_running() || !pthread_equal(pthread_self(), runner) )
    {
        chain(sig == SIGSEGV ? &old_segv : sig == SIGBUS ? &old_bus : &old_fpe,
              sig, info, ctx);
        return;
    }

    where(ctx, &pc, &fp);
    absent = memory_absent((uintptr_t)info->si_addr);
    begin(absent ? FFASHIM_UNMODELLED : FFASHIM_WILD, NULL, 0);
    if ( absent )
        snprintf(report.text, sizeof(report.text),
                 "the variable %s is used, which this machine lacks", absent);
    else if ( sig == SIGFPE )
        snprintf(report.text, sizeof(report.text), "division by zero");
    else if ( info->si_code == SI_KERNEL )
        /* The processor refused the address and does not tell which it was. */
        snprintf(report.text, sizeof(report.text),
                 "access through what is no pointer: memory that was freed "
                 "(0xdf..), never written (0x95..), or text");
    else
        snprintf(report.text, sizeof(report.text), "access to %s",
                 memory_describe((uintptr_t)info->si_addr, what, sizeof(what)));
    walk(pc, fp);
    coverage_take_back();
    fault_raise();
}

/* One tick of the CPU time that this process has used. */
static void on_tick(int sig, siginfo_t *info, void *ctx)
{
    static uint64_t seen;
    static int64_t ticks;
    void *pc, **fp;

    (void)sig;
    (void)info;

    if ( cpu_running() && !pthread_equal(pthread_self(), runner) )
    {
        pthread_kill(runner, SIGVTALRM);
        return;
    }
    if ( !cpu_running() || seen != cpu_progress )
    {
        seen = cpu_progress;
        ticks = 0;
        return;
    }
    if ( ++ticks * TICK_MS < hang_ms )
        return;

    ticks = 0;
    where(ctx, &pc, &fp);
    begin(FFASHIM_HANG, NULL, 0);
    snprintf(report.text, sizeof(report.text),
             "no end after %lld ms", (long long)hang_ms);
    walk(pc, fp);
    coverage_take_back();
    fault_raise();
}

int64_t ffashim_set_hang_limit(int64_t ms)
{
    int64_t old = hang_ms;

    hang_ms = ms;

    return old;
}

static void handle(int sig, void (*handler)(int, siginfo_t *, void *),
                   struct sigaction *old)
{
    struct sigaction sa = { .sa_sigaction = handler,
                            .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER |
                                        SA_RESTART };
    struct sigaction now;

    sigaction(sig, NULL, &now);
    if ( (now.sa_flags & SA_SIGINFO) && now.sa_sigaction == handler )
        return;
    sigaction(sig, &sa, old);
}

/* Faults of this thread are the machine's from now on. */
void fault_thread(void)
{
    static __thread void *stack;
    stack_t ss = { .ss_size = 64 * 1024 };

    runner = pthread_self();
    if ( stack )
        return;
    /* Xen's own stack may be what has run out. */
    stack = ss.ss_sp = malloc(ss.ss_size);
    if ( stack )
        sigaltstack(&ss, NULL);
}

/*
 * Called at each power-on: others, faulthandler for one, may have taken the
 * signals since. What they installed is called for what is not the machine's.
 */
void fault_open(void)
{
    static bool ticking;
    const struct itimerval tick = {
        .it_interval = { .tv_usec = TICK_MS * 1000 },
        .it_value = { .tv_usec = TICK_MS * 1000 },
    };

    handle(SIGSEGV, on_fault, &old_segv);
    handle(SIGBUS, on_fault, &old_bus);
    handle(SIGFPE, on_fault, &old_fpe);
    handle(SIGVTALRM, on_tick, NULL);
    if ( !ticking )
        setitimer(ITIMER_VIRTUAL, &tick, NULL);
    ticking = true;
}
