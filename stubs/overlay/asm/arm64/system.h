/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Replaces the instructions that mask interrupts: PSTATE.DAIF is a variable
 * of the CPU that runs.
 */
#ifndef FFASHIM_ASM_ARM64_SYSTEM_H
#define FFASHIM_ASM_ARM64_SYSTEM_H

#include <asm/arm64/cmpxchg.h>

#define local_daif_set_(bits)                                           \
    ((void)(host_irq_flags[host_cpu] |= (bits)))
#define local_daif_clear_(bits)                                         \
    ((void)(host_irq_flags[host_cpu] &= ~(unsigned long)(bits)))

#define local_fiq_disable()   local_daif_set_(PSR_FIQ_MASK)
#define local_fiq_enable()    local_daif_clear_(PSR_FIQ_MASK)
#define local_irq_disable()   local_daif_set_(PSR_IRQ_MASK)
#define local_irq_enable()    local_daif_clear_(PSR_IRQ_MASK)
#define local_abort_disable() local_daif_set_(PSR_ABT_MASK)
#define local_abort_enable()  local_daif_clear_(PSR_ABT_MASK)

#define local_save_flags(x)   ((void)((x) = host_irq_flags[host_cpu]))
#define local_irq_save(x)     ({ local_save_flags(x); local_irq_disable(); })
#define local_irq_restore(x)  ((void)(host_irq_flags[host_cpu] = (x)))

static inline int local_irq_is_enabled(void)
{
    return !(host_irq_flags[host_cpu] & PSR_IRQ_MASK);
}

static inline int local_fiq_is_enabled(void)
{
    return !(host_irq_flags[host_cpu] & PSR_FIQ_MASK);
}

#endif /* FFASHIM_ASM_ARM64_SYSTEM_H */
