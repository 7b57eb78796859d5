/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The seam between the two halves of the machine.
 *
 * stubs/xen is compiled against Xen's headers and cannot see libc; stubs/host
 * is compiled against libc and cannot see Xen. What passes between them is
 * declared here, in plain C types. The including file brings the fixed-width
 * types, bool and size_t along: from <xen/types.h> or from libc.
 */
#ifndef FFASHIM_HOST_H
#define FFASHIM_HOST_H

#define FFASHIM_HIDDEN __attribute__((__visibility__("hidden")))
#define FFASHIM_NORETURN __attribute__((__noreturn__))
#define FFASHIM_PRINTF(f, a) __attribute__((__format__(__printf__, f, a)))

#include <ffashim/enums.h>

#pragma GCC visibility push(hidden)

/* Without the checks of each call, to measure what they cost: for nothing else. */
#ifdef FFASHIM_UNCHECKED
#define FFASHIM_CHECKS false
#else
#define FFASHIM_CHECKS true
#endif

#define HOST_PAGE_SHIFT 12
#define HOST_PAGE_SIZE  (1UL << HOST_PAGE_SHIFT)

/* ---- What ends a call before it returns ---------------------------------- */

void FFASHIM_NORETURN host_fault(enum ffashim_fault kind, const char *file,
                                 unsigned int line, const char *fmt, ...)
    FFASHIM_PRINTF(4, 5);

/* The same for something that was done at @caller, before. */
void FFASHIM_NORETURN host_fault_of(enum ffashim_fault kind, uint64_t caller,
                                    const char *fmt, ...)
    FFASHIM_PRINTF(3, 4);

/* ---- Locks, as every layer sees them ------------------------------------- */

enum host_lock_mode { HOST_SPIN, HOST_READ, HOST_WRITE };

/* Where the code that runs now takes a lock: set just before it does. */
struct host_site {
    const char *name;        /* the expression, as Xen wrote it              */
    const char *file;
    unsigned int line;
    uint32_t *tag;           /* a word in it that is the machine's, or NULL   */
};

extern struct host_site host_site;

#define FFASHIM_SITE(name, tag) \
    (host_site = (struct host_site){ name, __FILE__, __LINE__, tag })

/* The lock with this tag was just initialised by this expression of Xen's. */
void host_lock_init(uint32_t *tag, const char *name, const char *file,
                    unsigned int line);

/*
 * Take, try or drop the lock at @lock for the current CPU. host_lock() lets
 * the other CPUs run while it waits.
 */
void host_lock(const void *lock, enum host_lock_mode mode);
bool host_trylock(const void *lock, enum host_lock_mode mode);
void host_unlock(const void *lock, enum host_lock_mode mode);
bool host_is_locked(const void *lock);

/* The CPU that runs now begins, or ends, to handle an interrupt. */
void host_irq(bool handles);

/*
 * An RCU read section begins, entered by @caller, or ends. Returns whether no
 * CPU is in one any more.
 */
void host_rcu_enter(const void *caller);
bool host_rcu_leave(void);
bool host_rcu_idle(void);

/* Faults where the current CPU, back from a call, holds something. */
void host_at_rest(void);

/* ---- The switch point ---------------------------------------------------- */

/* Non-zero while somebody wants to know of switch points. */
extern unsigned int host_switching;
void host_switch(enum ffashim_point point, const void *addr);
/* The same for a copy, if either side is what a guest shares. */
void host_switch_copy(const void *d, const void *s);

#ifdef FFASHIM_COVERAGE
/* Without a branch of ours, which would count as one of the line it is on. */
#define FFASHIM_POINT(point, addr) host_switch(point, (const void *)(addr))
#else
#define FFASHIM_POINT(point, addr)                                      \
    do {                                                                \
        if ( __builtin_expect(host_switching, 0) )                      \
            host_switch(point, (const void *)(addr));                   \
    } while ( 0 )
#endif

/* ---- CPUs ---------------------------------------------------------------- */

extern unsigned int host_cpu;               /* the CPU that runs now         */
extern unsigned long host_percpu_offset;    /* and its per-CPU area          */
extern unsigned long host_irq_flags[FFASHIM_CPUS];   /* and its DAIF         */
#define HOST_DAIF_I 0x80UL                  /* no interrupt is taken          */

static inline bool host_irqs_off(void)
{
    return host_irq_flags[host_cpu] & HOST_DAIF_I;
}

/* ---- Memory -------------------------------------------------------------- */

/*
 * RAM of the machine: where it starts, how many pages it has, and how many of
 * them, at its start, are Xen's own (the heap, then whole pages). The others
 * are guests' and out of Xen's sight until it maps them.
 */
#define HOST_RAM_BASE       0x80000000UL
#define HOST_RAM_PAGES      0x40000UL
#define HOST_XEN_PAGES      0x1000UL
#define HOST_RAM_MFN        (HOST_RAM_BASE >> HOST_PAGE_SHIFT)

extern unsigned char *host_directmap;       /* every RAM page, back to back  */
extern void *host_frame_table;              /* struct page_info per page     */

/* Translate between the directmap or a window and machine addresses. */
bool host_va_to_ma(unsigned long va, uint64_t *ma);

/* Whole pages of Xen's, 2^order of them. NULL where none are left. */
void *host_alloc_pages(unsigned int order, void *caller);
void host_free_pages(void *va, unsigned int order, void *caller);

/* @count consecutive pages for a guest. Their first mfn, or 0. */
unsigned long host_alloc_guest_pages(unsigned long count);
/* Give them back, unused. The last ones only can be handed out again. */
void host_free_guest_pages(unsigned long mfn, unsigned long count);

/*
 * What lies in memory that nobody has written to: Xen's stack at the start of
 * each call, blocks and pages of its own when they are new, and freed ones.
 */
#define HOST_UNWRITTEN 0xc9
#define HOST_FRESH     0x95
#define HOST_STALE     0xdf
/* ... and a guest's RAM and registers, by word: whose is xen_domain_owner(). */
#define HOST_OF_GUEST  0xb7e50000U

/* A window with guard pages round it, onto the page @mfn. */
void *host_map_window(unsigned long mfn, const void *caller);
void host_unmap_window(const void *va);
extern unsigned char *host_windows;
#define HOST_WINDOWS_SIZE (HOST_PAGE_SIZE * 2049)

static inline bool host_in_window(const void *va)
{
    return (unsigned long)va - (unsigned long)host_windows < HOST_WINDOWS_SIZE;
}

/* @n bytes are copied to @d, which may lie in one. */
void host_copies_out(const void *d, const void *s, size_t n);

/* Xen's heap: zeroed is the caller's business. */
void *host_heap_alloc(size_t size, size_t align, void *caller);
void host_heap_free(void *p, void *caller);

/* Memory that Xen is about to touch by other means than its own code. */
#if defined(FFASHIM_SANITIZE_ADDRESS)
void host_check_access(const void *p, size_t size, bool write);
#elif defined(FFASHIM_SANITIZE_FETCH)
/* The place is in the function that called the one whose frame is at @frame. */
void host_access(const void *p, size_t size, bool write, void *const *frame);
#define host_check_access(p, size, write)                               \
    host_access(p, size, write, __builtin_frame_address(0))
/* Xen is about to copy, by whatever the compiler makes of it. */
void host_copy(const void *d, const void *s, size_t n);
#else
#define host_check_access(p, size, write) ((void)0)
#endif

/* Xen took (or, below zero, gave back) references to the page @mfn. */
void host_page_refs(unsigned long mfn, int change, const void *caller);
unsigned int host_page_refs_of(unsigned long mfn);

/* Xen took a reference to the domain at @d, or gave one back. */
void host_domain_get(const void *d);
void host_domain_put(const void *d);

/* The page @mfn is used from now on: a reset makes it fresh again. */
void host_page_touch(unsigned long mfn);

/*
 * Variables that Xen uses and nothing defines: a page each, which faults. The
 * build writes the table, which is absent where there are none.
 */
struct host_absent {
    const void *at;
    const char *name;
};

extern const struct host_absent host_absent[] __attribute__((__weak__));

/* ---- Everything else that leaves the machine ----------------------------- */

void host_console(int level, const char *text);
int64_t host_now(void);                     /* ns since boot                 */
void host_smc(uint64_t regs[18]);
/* Another call of a guest begins, or ends, with these registers of so wide. */
void host_call_begins(const uint64_t x[18]);
void host_soil_stack(void);
extern const void *host_set_by[18];         /* who set a register last        */
/* Of the 31 after it, those from x18 on were @rest. */
void host_call_ends(const uint64_t given[18], const uint64_t x[31],
                    uint64_t rest, bool aarch64);
void host_works_for(uint32_t owner);        /* a guest: see ffashim_holding   */
void host_event(enum ffashim_event_kind kind, uint64_t a, uint64_t b,
                uint64_t c);
unsigned long host_read_sysreg(const char *name);
void host_write_sysreg(const char *name, unsigned long value);

#pragma GCC visibility pop

#endif /* FFASHIM_HOST_H */
