/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Replaces what is found through the stack pointer: the saved guest state of
 * the CPU that runs (get_cpu_info()).
 */
#include <ffashim/host.h>

#ifndef FFASHIM_ASM_CURRENT_H
#define FFASHIM_ASM_CURRENT_H

#define get_cpu_info get_cpu_info_from_stack_pointer_
#define switch_stack_and_jump_ unused
#include_next <asm/current.h>
#undef get_cpu_info
#undef switch_stack_and_jump
#undef get_per_cpu_offset

extern struct cpu_info host_cpu_info[FFASHIM_CPUS];

#define get_cpu_info()        (&host_cpu_info[host_cpu])
#define get_per_cpu_offset()  host_percpu_offset
#define switch_stack_and_jump(stack, fn) unreachable()

#endif /* FFASHIM_ASM_CURRENT_H */
