/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the compiler's --coverage counts, in a build that is made with it.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* Laid out by the linker script: nothing, in other builds. */
extern unsigned char ffashim_counters_start[], ffashim_counters_end[];

static size_t size(void)
{
    return ffashim_counters_end - ffashim_counters_start;
}

uint64_t *ffashim_counters(uint64_t *nr)
{
    *nr = size() / sizeof(uint64_t);

    return (uint64_t *)ffashim_counters_start;
}

#ifdef FFASHIM_COVERAGE

/* Of the compiler's own library. */
void __gcov_dump(void);
void __gcov_reset(void);
/* Called at the end of the process, in place of what would write there. */
void __wrap___gcov_exit(void);

static void *begun;

void __wrap___gcov_exit(void)
{
}

void ffashim_write_counters(const char *directory)
{
    /* For the file's name, the directories that the compiler wrote to go. */
    setenv("GCOV_PREFIX", directory, 1);
    setenv("GCOV_PREFIX_STRIP", "999", 1);
    __gcov_dump();
    __gcov_reset();
    unsetenv("GCOV_PREFIX");
    unsetenv("GCOV_PREFIX_STRIP");
}

/*
 * Only some edges are counted, the others are worked out from these: who
 * enters a block leaves it, or is in a call that does not return. An access
 * that faults leaves it in the middle, and would be taken to have gone on. So
 * what was counted since the CPUs were last at rest is taken back then.
 */
void coverage_begin(void)
{
    if ( !begun )
        begun = malloc(size());
    if ( begun )
        memcpy(begun, ffashim_counters_start, size());
}

void coverage_take_back(void)
{
    if ( begun )
        memcpy(ffashim_counters_start, begun, size());
}

#else

void ffashim_write_counters(const char *directory)
{
    (void)directory;
}

#endif /* FFASHIM_COVERAGE */
