/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Replaces MRS and MSR: system registers are asked of the machine, by name.
 * TPIDR_EL2, which holds the per-CPU offset, is on the path of every call and
 * so answered in place.
 */
#include <ffashim/host.h>
#include_next <asm/arm64/sysregs.h>

#ifndef FFASHIM_ASM_ARM64_SYSREGS_H
#define FFASHIM_ASM_ARM64_SYSREGS_H

#undef READ_SYSREG64
#undef WRITE_SYSREG64

#define READ_SYSREG64(name)                                             \
    (__builtin_strcmp(__stringify(name), "TPIDR_EL2")                   \
     ? host_read_sysreg(__stringify(name)) : host_percpu_offset)
#define WRITE_SYSREG64(v, name) host_write_sysreg(__stringify(name), v)

#endif /* FFASHIM_ASM_ARM64_SYSREGS_H */
