/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the host half ask of each other.
 */
#ifndef FFASHIM_INTERNAL_H
#define FFASHIM_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ffashim/xen.h>

#pragma GCC visibility push(hidden)

#include "ffashim.h"

/*
 * Marks what belongs to the machine's state: snapshots copy it along with
 * Xen's own data. Everything else in this half outlives a reset.
 */
#define MACHINE_STATE __attribute__((__section__(".data.ffashim.state")))

/* The offset of @pc in the module, 0 if it lies outside of it. */
uint64_t module_offset(const void *pc);

/* The two callbacks into Python, set once by ffashim_connect(). */
extern int (*python_smc)(uint32_t cpu, uint64_t *regs);
extern int (*python_point)(uint32_t cpu, uint32_t point, uint64_t addr);

/* fault.c */
void fault_open(void);
void fault_thread(void);
void FFASHIM_NORETURN fault_raise(void);

/* coverage.c */
#ifdef FFASHIM_COVERAGE
void coverage_begin(void);
void coverage_take_back(void);
#else
static inline void coverage_begin(void) { }
static inline void coverage_take_back(void) { }
#endif

/* memory.c */
int memory_open(void);
const char *memory_describe(uintptr_t addr, char *buf, size_t size);
const char *memory_absent(uintptr_t addr);

struct memory_saved;
struct memory_saved *memory_save(void);
void memory_restore(const struct memory_saved *saved);
void memory_saved_free(struct memory_saved *saved);

/* cpu.c */
/*
 * Switching stacks: the compiler's setjmp where it is known to work, for it
 * is a few moves. It brings back the stack and frame pointers only; the other
 * registers that a function must preserve are declared lost after it, so that
 * the function which contains it saves them. And its callers may not look into
 * it, or they would keep in a register what it seems to leave alone.
 */
#ifndef __has_attribute
#define __has_attribute(x) 0
#endif
#if __has_attribute(__noipa__)
#define SWITCHES __attribute__((__noinline__, __noipa__))
#else
#define SWITCHES __attribute__((__noinline__))
#endif

#if defined(__x86_64__)
typedef void *cpu_env[5];
#define cpu_save(env)  __builtin_setjmp(env)
#define cpu_enter(env) __builtin_longjmp(env, 1)
#define cpu_resumed()                                                   \
    __asm__ __volatile__ ( "" ::: "memory", "rbx", "r12", "r13", "r14", "r15" )
#else
#include <setjmp.h>
typedef sigjmp_buf cpu_env;
#define cpu_save(env)  sigsetjmp(env, 0)
#define cpu_enter(env) siglongjmp(env, 1)
#define cpu_resumed()  ((void)0)
#endif
extern cpu_env *cpu_main;                  /* where the running CPU yields to */
int cpu_open(void);
void cpu_abandon_all(void);
bool cpu_running(void);
bool cpu_stack_guard(uintptr_t addr);
extern uint64_t cpu_progress;              /* moves with every call           */

#pragma GCC visibility pop

#endif /* FFASHIM_INTERNAL_H */
