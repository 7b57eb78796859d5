/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Replaces boot-time instruction patching: of two alternatives of Arm code,
 * neither can run here.
 */
#include_next <asm/alternative.h>

#ifndef FFASHIM_ASM_ALTERNATIVE_H
#define FFASHIM_ASM_ALTERNATIVE_H

#undef ALTERNATIVE
#undef ALTERNATIVE_CB
#define ALTERNATIVE(old, new, ...)  ""
#define ALTERNATIVE_CB(old, cb)     ""

#endif /* FFASHIM_ASM_ALTERNATIVE_H */
