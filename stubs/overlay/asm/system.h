/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Replaces the barrier and event instructions of the tree's asm/system.h: one
 * host thread runs the whole machine, so holding the compiler back is enough.
 */
#include <ffashim/host.h>
#include_next <asm/system.h>

#ifndef FFASHIM_ASM_SYSTEM_H
#define FFASHIM_ASM_SYSTEM_H

#undef sev
#undef wfe
#undef wfi
#undef isb
#undef dsb
#undef dmb
#define sev()      barrier()
#define wfe()      barrier()
#define wfi()      barrier()
#define isb()      barrier()
#define dsb(scope) barrier()
#define dmb(scope) barrier()

#endif /* FFASHIM_ASM_SYSTEM_H */
