/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Replaces the single-copy atomic loads, stores and additions of the tree's
 * asm/atomic.h, which are written in assembly, by volatile accesses.
 */
#include_next <asm/atomic.h>

#ifndef FFASHIM_ASM_ATOMIC_H
#define FFASHIM_ASM_ATOMIC_H

#undef read_atomic
#undef write_atomic
#undef add_sized

#define read_atomic(p)     (*(const volatile typeof(*(p)) *)(p))
#define write_atomic(p, x) ((void)(*(volatile typeof(*(p)) *)(p) = (x)))
#define add_sized(p, x)    ((void)(*(volatile typeof(*(p)) *)(p) += (x)))

#endif /* FFASHIM_ASM_ATOMIC_H */
