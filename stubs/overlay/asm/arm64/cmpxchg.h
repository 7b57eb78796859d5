/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Replaces the exclusive-access loops behind xchg() and cmpxchg() with the
 * compiler's atomics.
 */
#ifndef FFASHIM_ASM_ARM64_CMPXCHG_H
#define FFASHIM_ASM_ARM64_CMPXCHG_H

#include <ffashim/host.h>

#define xchg(ptr, x) ({                                                 \
    typeof(ptr) ptr_ = (ptr);                                           \
                                                                        \
    FFASHIM_POINT(FFASHIM_POINT_ATOMIC, ptr_);                             \
    __atomic_exchange_n(ptr_, (typeof(*ptr_))(x), __ATOMIC_SEQ_CST);    \
})

#define cmpxchg(ptr, o, n) ({                                           \
    typeof(ptr) ptr_ = (ptr);                                           \
    typeof(*ptr_ + 0) old_ = (typeof(*ptr_ + 0))(o);                    \
                                                                        \
    FFASHIM_POINT(FFASHIM_POINT_ATOMIC, ptr_);                             \
    (typeof(*ptr_))__sync_val_compare_and_swap(ptr_, old_, (n));        \
})

#define cmpxchg64(ptr, o, n) cmpxchg(ptr, o, n)

static inline bool __cmpxchg_timeout(volatile void *ptr, unsigned long *old,
                                     unsigned long new, int size,
                                     unsigned int max_try)
{
    FFASHIM_POINT(FFASHIM_POINT_ATOMIC, ptr);

#define CASE(n, type)                                                   \
    case n: *old = __sync_val_compare_and_swap((volatile type *)ptr,    \
                                               (type)*old, (type)new);  \
        break
    switch ( size )
    {
    CASE(1, uint8_t);
    CASE(2, uint16_t);
    CASE(4, uint32_t);
    CASE(8, uint64_t);
    }
#undef CASE

    return true;
}

#define __cmpxchg64_timeout(ptr, old, new, max_try) \
    __cmpxchg_timeout(ptr, old, new, 8, max_try)

static inline unsigned long __cmpxchg(volatile void *ptr, unsigned long old,
                                      unsigned long new, int size)
{
    __cmpxchg_timeout(ptr, &old, new, size, 1);

    return old;
}

#endif /* FFASHIM_ASM_ARM64_CMPXCHG_H */
