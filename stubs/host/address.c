/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * --sanitize=address: what the compiler's checks call, in its kernel flavour,
 * and the shadow that they ask. A byte of the shadow stands for eight bytes of
 * memory: 0 for all of them, 1 to 7 for so many at their start, and a value
 * below zero for none, and why. Both compilers lay the shadow of locals and of
 * variables out alike; that of Xen's heap and pages is heap.c's to tell.
 *
 * Nothing of this is the compiler's own runtime, which would take malloc() and
 * signals from all of Python and had to be loaded before it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

#ifdef FFASHIM_SANITIZE_ADDRESS

#define GRANULE     8UL
#define ADDRESSES   (1UL << 48)            /* those that have a shadow        */
#define SHADOW_SIZE (ADDRESSES / GRANULE)
#define FRAME_MAGIC 0x41b58ab3UL           /* at the start of a frame         */
#define OBJECTS     256                    /* files that have variables       */

/* Of the compiler's making. */
struct variable {
    uintptr_t start;
    size_t size, size_with_redzone;
    const char *name;
    const char *module;
    uintptr_t unused[3];
};

static struct {
    const struct variable *first;
    size_t nr;
} object[OBJECTS];
static unsigned int objects_nr;

static int8_t *shadow(uintptr_t addr)
{
    return (int8_t *)(FFASHIM_SHADOW + addr / GRANULE);
}

/* Another extension in this process may have mapped it: they share it. */
static bool is_mapped(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    uintptr_t start;
    bool found = false;
    char line[512];

    while ( maps && !found && fgets(line, sizeof(line), maps) )
        found = sscanf(line, "%" SCNxPTR, &start) == 1 &&
                start == FFASHIM_SHADOW;
    if ( maps )
        fclose(maps);

    return found;
}

int shadow_open(void)
{
    static bool open;
    void *p;

    memory_libc();
    if ( open || is_mapped() )
    {
        open = true;
        return 0;
    }
    p = mmap((void *)FFASHIM_SHADOW, SHADOW_SIZE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
             MAP_FIXED_NOREPLACE, -1, 0);
    if ( p == MAP_FAILED )
        return errno;
    /* Neither in a core dump, which would take days, nor of huge pages. */
    madvise(p, SHADOW_SIZE, MADV_DONTDUMP);
    madvise(p, SHADOW_SIZE, MADV_NOHUGEPAGE);
    open = true;

    return 0;
}

void shadow_poison(const void *p, size_t size, enum poison why)
{
    memset(shadow((uintptr_t)p), why, size / GRANULE);
}

void shadow_allow(const void *p, size_t size)
{
    int8_t *s = shadow((uintptr_t)p);

    memset(s, 0, size / GRANULE);
    if ( size % GRANULE )
        s[size / GRANULE] = size % GRANULE;
}

void *shadow_save(const void *p, size_t size)
{
    void *copy = malloc(size / GRANULE + 1);

    return copy ? memcpy(copy, shadow((uintptr_t)p), size / GRANULE) : NULL;
}

void shadow_restore(const void *p, size_t size, const void *saved)
{
    memcpy(shadow((uintptr_t)p), saved, size / GRANULE);
}

/* ---- Reports ------------------------------------------------------------- */

/* The first byte of an access that is not to be touched, or 0. */
static uintptr_t first_bad(uintptr_t addr, size_t size)
{
    uintptr_t end = addr + size;

    if ( addr >= ADDRESSES || end >= ADDRESSES )
        return 0;                          /* which the processor refuses     */
    /* Where it would not: nothing of Xen's lies there. */
    if ( addr - FFASHIM_SHADOW < SHADOW_SIZE )
        return addr;
    while ( addr < end )
    {
        int8_t s = *shadow(addr);
        uintptr_t next = (addr | (GRANULE - 1)) + 1;

        if ( s && (s < 0 || (next > end ? end : next) - (next - GRANULE) >
                            (uintptr_t)s) )
            return s < 0 || addr % GRANULE >= (uintptr_t)s
                   ? addr : next - GRANULE + s;
        addr = next;
    }

    return 0;
}

static void place(char *buf, size_t size, uintptr_t addr, uintptr_t start,
                  size_t length, const char *what, const char *name)
{
    char quoted[80] = "";

    if ( name )
        snprintf(quoted, sizeof(quoted), " '%.64s'", name);
    if ( addr < start )
        snprintf(buf, size, "%lu bytes before the %s%s of %zu bytes",
                 (unsigned long)(start - addr), what, quoted, length);
    else if ( addr >= start + length )
        snprintf(buf, size, "%lu bytes past the end of the %s%s of %zu bytes",
                 (unsigned long)(addr - start - length) + 1, what, quoted,
                 length);
    else
        snprintf(buf, size, "in the %s%s of %zu bytes", what, quoted, length);
}

/*
 * A frame starts with a number, and a pointer to a list of what it holds: how
 * many, then offset, size, length of the name and "name:line" of each.
 */
static bool describe_local(uintptr_t addr, char *buf, size_t size)
{
    uintptr_t at = addr & ~(GRANULE - 1);
    uintptr_t last = cpu_stack_of(addr);
    uintptr_t start = 0;
    char name[64] = "", found[64] = "";
    size_t length = 0;
    const char *list;
    int nr, used;

    while ( last && at > last && *(const uint64_t *)at != FRAME_MAGIC )
        at -= GRANULE;
    if ( !last || at <= last )
        return false;

    list = *(const char *const *)(at + GRANULE);
    if ( sscanf(list, "%d%n", &nr, &used) != 1 )
        return false;
    for ( list += used; nr-- > 0; list += used )
    {
        unsigned long offset, bytes, letters;

        if ( sscanf(list, "%lu %lu %lu %63[^ :]%n", &offset, &bytes, &letters,
                    name, &used) != 4 )
            break;
        used += strcspn(list + used, " ");
        /* Of its neighbours, that which comes before it. */
        if ( start && at + offset > addr )
            break;
        start = at + offset;
        length = bytes;
        strcpy(found, name);
    }
    if ( !start )
        return false;
    place(buf, size, addr, start, length, "local variable", found);

    return true;
}

static bool describe_variable(uintptr_t addr, char *buf, size_t size)
{
    for ( unsigned int n = 0; n < objects_nr; n++ )
        for ( size_t i = 0; i < object[n].nr; i++ )
        {
            const struct variable *v = &object[n].first[i];

            if ( addr - v->start >= v->size_with_redzone )
                continue;
            place(buf, size, addr, v->start, v->size, "variable", v->name);
            return true;
        }

    return false;
}

static void FFASHIM_NORETURN refuse(uintptr_t bad, size_t size, bool write)
{
    char what[256];
    struct heap_place at;

    if ( heap_place_of(bad, &at) )
    {
        place(what, sizeof(what), bad, at.start, at.size,
              at.pages ? at.freed ? "freed page of Xen's own" :
                                    "page of Xen's own" :
              at.freed ? "freed heap block" : "heap block", NULL);
        fault_memory(&at);
    }
    else if ( !describe_local(bad, what, sizeof(what)) &&
              !describe_variable(bad, what, sizeof(what)) )
        memory_describe(bad, what, sizeof(what));

    host_fault(FFASHIM_WILD, NULL, 0, "%s of %zu bytes: %s",
               write ? "write" : "read", size, what);
}

void host_check_access(const void *p, size_t size, bool write)
{
    uintptr_t bad = first_bad((uintptr_t)p, size);

    if ( __builtin_expect(bad, 0) )
        refuse(bad, size, write);
}

/* ---- What the compiler calls --------------------------------------------- */

/* Nearly all of them: one granule, and none of it marked. */
static inline bool plain(uintptr_t addr, size_t size)
{
    return addr < ADDRESSES && addr - FFASHIM_SHADOW >= SHADOW_SIZE &&
           addr % GRANULE + size <= GRANULE && !*shadow(addr);
}

#define ACCESS(name, size, write)                                       \
    void __asan_ ## name ## _noabort(uintptr_t addr);                   \
    void __asan_ ## name ## _noabort(uintptr_t addr)                    \
    {                                                                   \
        if ( !plain(addr, size) )                                       \
            host_check_access((void *)addr, size, write);               \
    }
#define ACCESSES(size)                                                  \
    ACCESS(load ## size, size, false)                                   \
    ACCESS(store ## size, size, true)

ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)

#define RUNTIME(name, ...)                                              \
    void __asan_ ## name(__VA_ARGS__);                                  \
    void __asan_ ## name(__VA_ARGS__)

RUNTIME(loadN_noabort, uintptr_t addr, size_t size)
{
    host_check_access((void *)addr, size, false);
}

RUNTIME(storeN_noabort, uintptr_t addr, size_t size)
{
    host_check_access((void *)addr, size, true);
}

/* Locals whose block ends, or begins. */
RUNTIME(poison_stack_memory, uintptr_t addr, size_t size)
{
    shadow_poison((void *)addr, size + GRANULE - 1, POISON_SCOPE);
}

RUNTIME(unpoison_stack_memory, uintptr_t addr, size_t size)
{
    shadow_allow((void *)addr, size);
}

/* A large frame's shadow is laid out by calls. */
#define SET_SHADOW(value)                                               \
    RUNTIME(set_shadow_ ## value, uintptr_t at, size_t size)            \
    {                                                                   \
        memset((void *)at, 0x ## value, size);                          \
    }

SET_SHADOW(00)
SET_SHADOW(f1)
SET_SHADOW(f2)
SET_SHADOW(f3)
SET_SHADOW(f5)
SET_SHADOW(f8)

/* Called before what does not return: the CPU's whole stack is left then. */
RUNTIME(handle_no_return, void)
{
}

RUNTIME(register_globals, const struct variable *first, size_t nr)
{
    /* While the module is loaded: ffashim_open() tells what went wrong. */
    if ( shadow_open() )
        return;
    if ( objects_nr < OBJECTS )
    {
        object[objects_nr].first = first;
        object[objects_nr++].nr = nr;
    }
    for ( size_t n = 0; n < nr; n++ )
    {
        shadow_poison((void *)first[n].start, first[n].size_with_redzone,
                      POISON_VARIABLE);
        shadow_allow((void *)first[n].start, first[n].size);
    }
}

RUNTIME(unregister_globals, const struct variable *first, size_t nr)
{
    for ( size_t n = 0; n < nr; n++ )
        shadow_allow((void *)first[n].start, first[n].size_with_redzone);
}

#endif /* FFASHIM_SANITIZE_ADDRESS */
