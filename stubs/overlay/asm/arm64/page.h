/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Replaces cache maintenance (the host is coherent) and the address
 * translation instructions, which become a look-up in the machine's memory.
 */
#ifndef FFASHIM_ASM_ARM64_PAGE_H
#define FFASHIM_ASM_ARM64_PAGE_H

#include <ffashim/host.h>

#define __invalidate_dcache_one(R)           ""
#define __clean_dcache_one(R)                ""
#define __clean_and_invalidate_dcache_one(R) ""

static inline void invalidate_icache(void)
{
}

static inline void invalidate_icache_local(void)
{
}

/* PAR_EL1 as the MMU would leave it: bit 0 is set where the walk faulted. */
static inline uint64_t __va_to_par(vaddr_t va)
{
    uint64_t ma;

    return host_va_to_ma(va, &ma) ? ma : 1;
}

/* No handler walks a guest's own page tables. */
static inline uint64_t gva_to_ma_par(vaddr_t va, unsigned int flags)
{
    return 1;
}

static inline uint64_t gva_to_ipa_par(vaddr_t va, unsigned int flags)
{
    return 1;
}

extern void clear_page(void *to);

#endif /* FFASHIM_ASM_ARM64_PAGE_H */
