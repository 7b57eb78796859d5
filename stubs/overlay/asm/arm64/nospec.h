/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Replaces the speculation barrier and the flag-setting compare: nothing
 * here is attacked by speculation, only the value of the mask counts.
 */
#ifndef FFASHIM_ASM_ARM64_NOSPEC_H
#define FFASHIM_ASM_ARM64_NOSPEC_H

#define csdb() barrier()

static inline unsigned long array_index_mask_nospec(unsigned long idx,
                                                    unsigned long sz)
{
    return idx < sz ? ~0UL : 0;
}
#define array_index_mask_nospec array_index_mask_nospec

#endif /* FFASHIM_ASM_ARM64_NOSPEC_H */
