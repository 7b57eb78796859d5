/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Numbers that all layers share, Python included: cffi parses this file, so
 * it holds nothing but enumerations.
 */
#ifndef FFASHIM_ENUMS_H
#define FFASHIM_ENUMS_H

/* What ends a call before it returns. */
enum ffashim_fault {
    FFASHIM_OK,
    FFASHIM_ASSERT,          /* ASSERT() failed                              */
    FFASHIM_BUG,             /* BUG(), BUG_ON()                              */
    FFASHIM_PANIC,           /* panic()                                      */
    FFASHIM_DEADLOCK,        /* a lock that its waiter will never get        */
    FFASHIM_UNLOCK,          /* a lock released that was not held            */
    FFASHIM_HELD,            /* a lock or RCU section still held at return   */
    FFASHIM_WILD,            /* an access that faults: NULL, stale, overrun  */
    FFASHIM_HANG,            /* an endless loop                              */
    FFASHIM_MEMORY,          /* heap or page reference misuse                */
    FFASHIM_UNMODELLED,      /* a part of Xen that the machine lacks         */
    FFASHIM_UB,              /* what C gives no meaning to                   */
    FFASHIM_FETCH,           /* guest memory is read twice                   */
    FFASHIM_MISUSE,          /* the harness was asked for what cannot be     */
};

/* What a CPU of the machine can be told to do. */
enum ffashim_job_kind {
    FFASHIM_JOB_BOOT,        /* initcalls, then secondary CPUs               */
    FFASHIM_JOB_CALL,        /* SMC or HVC of a vCPU: a: slot, b: vcpu       */
    FFASHIM_JOB_BATCH,       /* the same, c frames of 18 registers           */
    FFASHIM_JOB_LOOP,        /* one frame, c times over                      */
    FFASHIM_JOB_CREATE,      /* domain_create()                              */
    FFASHIM_JOB_KILL,        /* domain_kill(): a: slot                       */
    FFASHIM_JOB_IRQ,         /* interrupt a                                  */
    FFASHIM_JOB_TIMER,       /* the timer that is due next                   */
    FFASHIM_JOB_SOFTIRQ,     /* tasklets and RCU callbacks                   */
};

/* What a CPU is at. */
enum ffashim_state {
    FFASHIM_IDLE,            /* no job                                       */
    FFASHIM_READY,           /* a job that can go on                         */
    FFASHIM_BLOCKED,         /* it waits for a lock                          */
    FFASHIM_IN_SMC,          /* the secure world has it                      */
    FFASHIM_DONE,
    FFASHIM_FAULTED,
    FFASHIM_OTHER_THREAD,    /* not a state: another thread has the machine  */
};

/* How a call traps: by SMC, by HVC, or straight into tee_handle_call(). */
enum ffashim_conduit { FFASHIM_SMC, FFASHIM_HVC, FFASHIM_TEE };

/* Where a call can be left for another CPU. */
enum ffashim_point {
    FFASHIM_POINT_LOCK,
    FFASHIM_POINT_UNLOCK,
    FFASHIM_POINT_ATOMIC,
    FFASHIM_POINT_COPY,
    FFASHIM_POINT_SMC,
    FFASHIM_POINT_RELAX,
    FFASHIM_POINT_FETCH,     /* in a build for --sanitize=double-fetch only  */
};

/* What a callback at such a fetch may answer, beside 0. */
enum ffashim_verdict { FFASHIM_FETCH_REFUSED = 2 };

/* What a guest frame is to Xen. */
enum ffashim_p2m {
    FFASHIM_P2M_RAM_RW,
    FFASHIM_P2M_RAM_RO,
    FFASHIM_P2M_UNMAPPED,
    FFASHIM_P2M_MMIO,
    FFASHIM_P2M_FOREIGN,
    FFASHIM_P2M_GRANT,
};

/* What the machine records for the test to look at. */
enum ffashim_event_kind {
    FFASHIM_EVENT_VIRQ,      /* a: domain, b: vcpu, c: interrupt             */
    FFASHIM_EVENT_TAINT,     /* a: flag                                      */
    FFASHIM_EVENT_WARN,      /* a: line, b: file (const char *)              */
};

/* What Xen has taken and is to give back. */
enum ffashim_holding_kind {
    FFASHIM_BLOCK,           /* of the heap                                  */
    FFASHIM_PAGES,           /* whole pages of Xen's own                     */
    FFASHIM_PAGE_REF,        /* references to a guest's page                 */
    FFASHIM_MAPPING,         /* of a guest's page                            */
    FFASHIM_DOMAIN_REF,      /* references to a domain                       */
};

/* What is wrong although the call that did it has returned. */
enum ffashim_alarm_kind {
    FFASHIM_ALARM_ORDER,     /* locks are taken in two orders                */
    FFASHIM_ALARM_IRQ,       /* a lock that its own interrupt may wait for   */
    FFASHIM_ALARM_INIT,      /* a lock that nobody has initialised           */
    FFASHIM_ALARM_DISCLOSED, /* what was left on stack or heap gets out      */
    FFASHIM_ALARM_REGISTERS, /* of the guest's, that the call has no say in  */
};

enum ffashim_limits {
    FFASHIM_CPUS = 4,        /* physical CPUs                                */
    FFASHIM_DOMAINS = 512,   /* domains alive at one time                    */
};

#endif /* FFASHIM_ENUMS_H */
