/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sees Xen read what a guest shares with it, and tells if bytes are read a
 * second time in one call: another vCPU may have changed them in between.
 *
 * The compiler announces each access to memory to the functions that
 * ThreadSanitizer would have (-fsanitize=thread). These are ours, as in the
 * Linux kernel's KCSAN, and look at nothing but windows onto guest pages.
 */
#include "internal.h"

#ifdef FFASHIM_SANITIZE_FETCH

#define ACCESSES 4096                      /* of one call; more are not kept  */

static struct log {
    uint64_t fid;                          /* of the call                     */
    ffashim_access all[ACCESSES];
    uint32_t nr;
    const ffashim_access *before;          /* what the last one comes again to */
    enum announced { NOTHING, COPY, STRUCT } announced;
    const void *copy;                      /* what is about to be copied      */
    size_t copy_size;
} logs[FFASHIM_CPUS];

void fetch_begin(unsigned int cpu, uint64_t fid)
{
    logs[cpu].fid = fid;
    logs[cpu].nr = 0;
    logs[cpu].announced = NOTHING;
}

/*
 * The first read of a byte counts, for what followed from it has followed. So
 * does the last write: Xen knows what it wrote, not what it reads back.
 */
static const ffashim_access *earlier(const struct log *l, uint64_t ma,
                                     uint32_t size)
{
    const ffashim_access *written = NULL;

    for ( const ffashim_access *a = l->all; a < &l->all[l->nr]; a++ )
    {
        if ( ma >= a->ma + a->size || a->ma >= ma + size )
            continue;
        if ( !a->write )
            return a;
        written = a;
    }

    return written;
}

static void access(const void *p, size_t size, bool write, void *const *frame)
{
    struct log *l = &logs[host_cpu];
    uint64_t ma = memory_shared(p);
    ffashim_access *a;

    if ( !ma || !size || !cpu_running() )
        return;
    /* What lies behind the page faults by itself. */
    if ( size > HOST_PAGE_SIZE - ma % HOST_PAGE_SIZE )
        size = HOST_PAGE_SIZE - ma % HOST_PAGE_SIZE;

    l->before = write ? NULL : earlier(l, ma, size);
    a = &l->all[l->nr < ACCESSES ? l->nr++ : ACCESSES - 1];
    *a = (ffashim_access){
        .fid = l->fid, .ma = ma, .size = size, .write = write
    };
    a->frames = fault_walk(frame, a->frame,
                           sizeof(a->frame) / sizeof(a->frame[0]));

    if ( write || !(l->before || host_switching & (1U << FFASHIM_POINT_FETCH)) )
        return;
    if ( cpu_ask(FFASHIM_POINT_FETCH, p) == FFASHIM_FETCH_REFUSED )
        host_fault(FFASHIM_FETCH, NULL, 0, "%s",
                   l->before->write
                   ? "bytes that Xen wrote are read back from guest memory"
                   : "bytes of guest memory are read twice in one call");
}

/*
 * A copy is announced before it is made. If the compiler then makes it a call
 * of memcpy(), that is not another read; nor is the one access that it makes
 * of Xen's own memcpy().
 */
static void announce(enum announced by, const void *p, size_t size)
{
    struct log *l = &logs[host_cpu];

    l->announced = by;
    l->copy = p;
    l->copy_size = size;
}

static bool announced(enum announced at_most, const void *p, size_t size)
{
    struct log *l = &logs[host_cpu];
    bool same = l->announced && l->announced <= at_most && l->copy == p &&
                l->copy_size == size;

    l->announced = NOTHING;

    return same;
}

static inline void seen(const void *p, size_t size, bool write,
                        void *const *frame)
{
    if ( __builtin_expect(host_in_window(p), 0) &&
         (write || !announced(COPY, p, size)) )
        access(p, size, write, frame);
}

/* memcpy() and its like, as functions. */
void host_access(const void *p, size_t size, bool write, void *const *frame)
{
    if ( write || !announced(STRUCT, p, size) )
        seen(p, size, write, frame);
}

void host_copy(const void *d, const void *s, size_t n)
{
    announce(NOTHING, NULL, 0);
    seen(s, n, false, __builtin_frame_address(0));
    seen(d, n, true, __builtin_frame_address(0));
    announce(COPY, s, n);
}

uint32_t ffashim_accesses(uint32_t cpu, const ffashim_access **all)
{
    *all = logs[cpu].all;

    return logs[cpu].nr;
}

const ffashim_access *ffashim_accessed_before(uint32_t cpu)
{
    return logs[cpu].before;
}

/* ---- What the compiler calls --------------------------------------------- */

#define HERE __builtin_frame_address(0)

#define ACCESS(name, n)                                                 \
    void __tsan_read##name(const void *p);                              \
    void __tsan_read##name(const void *p) { seen(p, n, false, HERE); }  \
    void __tsan_write##name(void *p);                                   \
    void __tsan_write##name(void *p) { seen(p, n, true, HERE); }
#define UNALIGNED(n)                                                    \
    void __tsan_unaligned_read##n(const void *p);                       \
    void __tsan_unaligned_read##n(const void *p)                        \
    { seen(p, n, false, HERE); }                                        \
    void __tsan_unaligned_write##n(void *p);                            \
    void __tsan_unaligned_write##n(void *p) { seen(p, n, true, HERE); }

#pragma GCC visibility push(hidden)

ACCESS(1, 1)
ACCESS(2, 2)
ACCESS(4, 4)
ACCESS(8, 8)
ACCESS(16, 16)
UNALIGNED(2)
UNALIGNED(4)
UNALIGNED(8)
UNALIGNED(16)

void __tsan_read_range(const void *p, size_t size);
void __tsan_read_range(const void *p, size_t size)
{
    seen(p, size, false, HERE);
    announce(STRUCT, p, size);
}

void __tsan_write_range(void *p, size_t size);
void __tsan_write_range(void *p, size_t size)
{
    seen(p, size, true, HERE);
}

/* From clang 15 on a copy is not a call of memcpy(). */
void *__tsan_memcpy(void *d, const void *s, size_t n);
void *__tsan_memcpy(void *d, const void *s, size_t n)
{
    seen(s, n, false, HERE);
    seen(d, n, true, HERE);

    return host_memcpy(d, s, n);
}

void *__tsan_memmove(void *d, const void *s, size_t n);
void *__tsan_memmove(void *d, const void *s, size_t n)
{
    seen(s, n, false, HERE);
    seen(d, n, true, HERE);

    return host_memmove(d, s, n);
}

void *__tsan_memset(void *d, int c, size_t n);
void *__tsan_memset(void *d, int c, size_t n)
{
    seen(d, n, true, HERE);

    return host_memset(d, c, n);
}

/* What there is to know of functions and threads is of no interest here. */
void __tsan_init(void);
void __tsan_init(void) { }
void __tsan_func_entry(void *pc);
void __tsan_func_entry(void *pc) { (void)pc; }
void __tsan_func_exit(void);
void __tsan_func_exit(void) { }

/* gcc has these do the operation as well. */
#define ATOMIC_OP(bits, op)                                             \
    uint##bits##_t __tsan_atomic##bits##_fetch_##op(                    \
        volatile uint##bits##_t *p, uint##bits##_t v, int order);       \
    uint##bits##_t __tsan_atomic##bits##_fetch_##op(                    \
        volatile uint##bits##_t *p, uint##bits##_t v, int order)        \
    {                                                                   \
        (void)order;                                                    \
        seen((void *)p, bits / 8, false, HERE);                         \
        return __atomic_fetch_##op(p, v, __ATOMIC_SEQ_CST);             \
    }
#define ATOMIC(bits)                                                    \
    ATOMIC_OP(bits, add)                                                \
    ATOMIC_OP(bits, sub)                                                \
    ATOMIC_OP(bits, and)                                                \
    ATOMIC_OP(bits, or)                                                 \
    ATOMIC_OP(bits, xor)                                                \
    uint##bits##_t __tsan_atomic##bits##_load(                          \
        const volatile uint##bits##_t *p, int order);                   \
    uint##bits##_t __tsan_atomic##bits##_load(                          \
        const volatile uint##bits##_t *p, int order)                    \
    {                                                                   \
        (void)order;                                                    \
        seen((void *)p, bits / 8, false, HERE);                         \
        return __atomic_load_n(p, __ATOMIC_SEQ_CST);                    \
    }                                                                   \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *p,        \
                                     uint##bits##_t v, int order);      \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *p,        \
                                     uint##bits##_t v, int order)       \
    {                                                                   \
        (void)order;                                                    \
        seen((void *)p, bits / 8, true, HERE);                          \
        __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                       \
    }                                                                   \
    uint##bits##_t __tsan_atomic##bits##_exchange(                      \
        volatile uint##bits##_t *p, uint##bits##_t v, int order);       \
    uint##bits##_t __tsan_atomic##bits##_exchange(                      \
        volatile uint##bits##_t *p, uint##bits##_t v, int order)        \
    {                                                                   \
        (void)order;                                                    \
        seen((void *)p, bits / 8, false, HERE);                         \
        return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);             \
    }                                                                   \
    uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(          \
        volatile uint##bits##_t *p, uint##bits##_t old,                 \
        uint##bits##_t v, int order, int failure);                      \
    uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(          \
        volatile uint##bits##_t *p, uint##bits##_t old,                 \
        uint##bits##_t v, int order, int failure)                       \
    {                                                                   \
        (void)order;                                                    \
        (void)failure;                                                  \
        seen((void *)p, bits / 8, false, HERE);                         \
        __atomic_compare_exchange_n(p, &old, v, false,                  \
                                    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);\
        return old;                                                     \
    }                                                                   \
    int __tsan_atomic##bits##_compare_exchange_strong(                  \
        volatile uint##bits##_t *p, uint##bits##_t *old,                \
        uint##bits##_t v, int order, int failure);                      \
    int __tsan_atomic##bits##_compare_exchange_strong(                  \
        volatile uint##bits##_t *p, uint##bits##_t *old,                \
        uint##bits##_t v, int order, int failure)                       \
    {                                                                   \
        (void)order;                                                    \
        (void)failure;                                                  \
        seen((void *)p, bits / 8, false, HERE);                         \
        return __atomic_compare_exchange_n(p, old, v, false,            \
                                           __ATOMIC_SEQ_CST,            \
                                           __ATOMIC_SEQ_CST);           \
    }

ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

#pragma GCC visibility pop

#else /* !FFASHIM_SANITIZE_FETCH */

uint32_t ffashim_accesses(uint32_t cpu, const ffashim_access **all)
{
    (void)cpu;
    *all = NULL;

    return 0;
}

const ffashim_access *ffashim_accessed_before(uint32_t cpu)
{
    (void)cpu;

    return NULL;
}

#endif /* FFASHIM_SANITIZE_FETCH */
