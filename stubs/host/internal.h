/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the host half ask of each other.
 */
#ifndef FFASHIM_INTERNAL_H
#define FFASHIM_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <ffashim/xen.h>

#pragma GCC visibility push(hidden)

#include "ffashim.h"

/*
 * Marks what belongs to the machine's state: snapshots copy it along with
 * Xen's own data. Everything else in this half outlives a reset.
 */
#define MACHINE_STATE __attribute__((__section__(".data.ffashim.state")))
/* The same, but nothing that is still to come depends on it. */
#define MACHINE_PAST __attribute__((__section__(".data.ffashim.past")))

/* The offset of @pc in the module, 0 if it lies outside of it. */
uint64_t module_offset(const void *pc);
/* The offset of a call, by the address to which it returns; 0: not one of ours. */
uint64_t call_site(const void *caller);

/* The two callbacks into Python, set once by ffashim_connect(). */
extern int (*python_smc)(uint32_t cpu, uint64_t *regs);
extern int (*python_point)(uint32_t cpu, uint32_t point, uint64_t addr);

/* fault.c */
void fault_open(void);
void fault_thread(void);
void FFASHIM_NORETURN fault_raise(void);
/* The callers of a function whose frame is at @fp, as offsets in the module. */
uint32_t fault_walk(void *const *fp, uint64_t *frame, uint32_t max);
struct heap_place;
/* What the next fault is about. */
void fault_memory(const struct heap_place *place);

/* address.c */
enum poison {
    POISON_HEAP = 0xfa,                    /* no block, or between two        */
    POISON_FREED = 0xfd,
    POISON_SCOPE = 0xf8,                   /* a local whose block has ended   */
    POISON_VARIABLE = 0xf9,                /* around one                      */
};

#ifdef FFASHIM_SANITIZE_ADDRESS
/* By their names they are Xen's, and checked; the machine may touch all. */
#define memcpy  host_memcpy
#define memmove host_memmove
#define memset  host_memset
#define memcmp  host_memcmp

int shadow_open(void);
/* Whole granules of eight bytes, and from the start of one on, always. */
void shadow_poison(const void *p, size_t size, enum poison why);
void shadow_allow(const void *p, size_t size);
void *shadow_save(const void *p, size_t size);
void shadow_restore(const void *p, size_t size, const void *saved);
#else
#define shadow_open() 0
#define shadow_poison(p, size, why) ((void)0)
#define shadow_allow(p, size) ((void)0)
#define shadow_save(p, size) NULL
#define shadow_restore(p, size, saved) ((void)0)
#endif
uint32_t fault_frames(uint64_t *frame, uint32_t max);

/* alarm.c */
ffashim_alarm *alarm_new(enum ffashim_alarm_kind kind, const char *fmt, ...)
    FFASHIM_PRINTF(2, 3);

/* A lock that a CPU holds or waits for. */
struct held {
    const void *lock;
    struct host_site site;
    uint64_t caller;
    enum host_lock_mode mode;
    uint8_t class;                         /* 0: none                         */
    uint16_t serial;                       /* of the lock, among its class    */
};

/* order.c */
void order_forget(void);
void order_identify(struct held *want);
void order_check(const struct held *held, unsigned int nr,
                 const struct held *want, bool waits);
ffashim_lock order_describe(const struct held *held);

/* disclosed.c */
void disclosed_to_spmc(const uint64_t x[18]);
void disclosed_by_spmc(const uint64_t x[18]);

/* coverage.c */
#ifdef FFASHIM_COVERAGE
void coverage_begin(void);
void coverage_take_back(void);
#else
static inline void coverage_begin(void) { }
static inline void coverage_take_back(void) { }
#endif

/* fetch.c */
#ifdef FFASHIM_SANITIZE_FETCH
void fetch_begin(unsigned int cpu, uint64_t fid); /* another job, or call     */
#else
#define fetch_begin(cpu, fid) ((void)(fid))
#endif

/* memory.c */
/* libc's functions, which by their names are the module's own. */
extern void *(*host_memcpy)(void *d, const void *s, size_t n);
extern void *(*host_memmove)(void *d, const void *s, size_t n);
extern void *(*host_memset)(void *d, int c, size_t n);
extern int (*host_memcmp)(const void *a, const void *b, size_t n);
void memory_libc(void);

static inline bool within(const void *base, size_t size, uintptr_t addr)
{
    return addr - (uintptr_t)base < size;
}

/* Where in RAM a window of Xen's leads to, 0 if @va lies in none of a guest. */
uint64_t memory_shared(const void *va);
int memory_open(void);
const char *memory_describe(uintptr_t addr, char *buf, size_t size);
const char *memory_absent(uintptr_t addr);
bool memory_is_xens(const void *p);
/* Whose page a window shows: see xen_domain_owner(). */
uint32_t memory_owner(const void *va);
/* A page of RAM, whoever may reach it otherwise. */
void *memory_view(uint32_t page);

struct memory_saved;
struct memory_saved *memory_save(void);
void memory_restore(const struct memory_saved *saved);
uint64_t memory_hash(void);
void memory_saved_free(struct memory_saved *saved);

/* heap.c */
#define HEAP_SIZE (HOST_XEN_PAGES * HOST_PAGE_SIZE / 2) /* whole pages follow */

/* The block or run of pages of Xen's nearest to an address. */
struct heap_place {
    uintptr_t start;
    size_t size;
    uint64_t allocated_by, allocated_outer, freed_by;
    bool pages, freed;
};

bool heap_place_of(uintptr_t addr, struct heap_place *place);
bool heap_describe_guard(uintptr_t addr, char *buf, size_t size);
/* Whether it lies in a block of the heap, and Xen itself has, or had, it. */
bool heap_in_block(const void *p, bool *xens);

struct heap_saved;
struct heap_saved *heap_save(void);
void heap_restore(const struct heap_saved *saved);
uint64_t heap_hash(void);
void heap_saved_free(struct heap_saved *saved);

/* holdings.c */
struct holdings {
    uint32_t owner, max, nr;
    ffashim_holding *list;
};

void holdings_add(struct holdings *h, const ffashim_holding *by);
void heap_holdings(struct holdings *h);
void memory_holdings(struct holdings *h);

/* machine.c */
/* Of whole words; what is left over of others is not looked at. */
uint64_t hash_of(uint64_t hash, const void *data, size_t size);

/* cpu.c */
/*
 * Switching stacks: the compiler's setjmp where it is known to work, for it
 * is a few moves. It brings back the stack and frame pointers only; the other
 * registers that a function must preserve are declared lost after it, so that
 * the function which contains it saves them. And its callers may not look into
 * it, or they would keep in a register what it seems to leave alone.
 */
#ifndef __has_attribute
#define __has_attribute(x) 0
#endif
#if __has_attribute(__noipa__)
#define SWITCHES __attribute__((__noinline__, __noipa__))
#else
#define SWITCHES __attribute__((__noinline__))
#endif

#if defined(__x86_64__)
typedef void *cpu_env[5];
#define cpu_save(env)  __builtin_setjmp(env)
#define cpu_enter(env) __builtin_longjmp(env, 1)
#define cpu_resumed()                                                   \
    __asm__ __volatile__ ( "" ::: "memory", "rbx", "r12", "r13", "r14", "r15" )
#else
#include <setjmp.h>
typedef sigjmp_buf cpu_env;
#define cpu_save(env)  sigsetjmp(env, 0)
#define cpu_enter(env) siglongjmp(env, 1)
#define cpu_resumed()  ((void)0)
#endif
extern cpu_env *cpu_main;                  /* where the running CPU yields to */
int cpu_open(void);
/* Stop the running CPU at a point whoever watches. The callback's answer. */
int cpu_ask(enum ffashim_point point, const void *addr);
void cpu_abandon_all(void);
bool cpu_running(void);
bool cpu_stack_guard(uintptr_t addr);
uintptr_t cpu_stack_of(uintptr_t addr);
bool cpu_in_irq(void);
const uint64_t *cpu_given(void);
/* The SPMC has told this call what looks like a secret: it may be its value. */
void cpu_is_told(void);
bool cpu_told(void);
uint32_t cpu_owner(void);                  /* the guest it works for, or 0    */
uint32_t cpu_call(void);                   /* see ffashim_taken               */
/* A holding that is taken now, by the code at @caller. */
ffashim_holding cpu_takes(enum ffashim_holding_kind kind, const void *caller);
extern uint64_t cpu_progress;              /* moves with every call           */

#pragma GCC visibility pop

#endif /* FFASHIM_INTERNAL_H */
