/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Replaces the load/store-exclusive loops behind atomic_t: one host thread
 * runs the whole machine, so a plain operation between two switch points is
 * atomic.
 */
#ifndef FFASHIM_ASM_ARM64_ATOMIC_H
#define FFASHIM_ASM_ARM64_ATOMIC_H

#include <ffashim/host.h>

static inline int atomic_add_return(int i, atomic_t *v)
{
    FFASHIM_POINT(FFASHIM_POINT_ATOMIC, v);
    return __atomic_add_fetch(&v->counter, i, __ATOMIC_SEQ_CST);
}

static inline int atomic_sub_return(int i, atomic_t *v)
{
    FFASHIM_POINT(FFASHIM_POINT_ATOMIC, v);
    return __atomic_sub_fetch(&v->counter, i, __ATOMIC_SEQ_CST);
}

static inline void atomic_add(int i, atomic_t *v)
{
    atomic_add_return(i, v);
}

static inline void atomic_sub(int i, atomic_t *v)
{
    atomic_sub_return(i, v);
}

static inline void atomic_and(int m, atomic_t *v)
{
    FFASHIM_POINT(FFASHIM_POINT_ATOMIC, v);
    __atomic_and_fetch(&v->counter, m, __ATOMIC_SEQ_CST);
}

static inline int atomic_cmpxchg(atomic_t *v, int old, int new)
{
    FFASHIM_POINT(FFASHIM_POINT_ATOMIC, v);
    __atomic_compare_exchange_n(&v->counter, &old, new, false,
                                __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return old;
}

static inline int __atomic_add_unless(atomic_t *v, int a, int u)
{
    int c = v->counter;

    if ( c != u )
        atomic_add(a, v);

    return c;
}

#endif /* FFASHIM_ASM_ARM64_ATOMIC_H */
