/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Xen's heap, in its own part of the RAM. Blocks lie one behind the other and
 * are walked from the first to the last; runs of whole pages follow, each
 * between two that fault. What is freed is overwritten, and blocks are kept
 * back for a while, pages for good.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

#define XEN_PAGES_NR (HOST_XEN_PAGES - HEAP_SIZE / HOST_PAGE_SIZE)
#define ALIGN      128UL                   /* Xen wants a cache line         */
#define CANARY     0xfeedc0dedeadbeefULL
#define CLASSES    24
#define PAGE_RUNS  64                      /* allocations of whole pages      */
#ifdef FFASHIM_SANITIZE_ADDRESS
#define QUARANTINE 1024
#else
#define QUARANTINE 32                      /* freed blocks not used again yet */
#endif

struct block {
    uint64_t canary;
    uint64_t size;
    uint64_t serial;
    uint64_t freed_by;
    ffashim_holding by;                    /* who has it                      */
    struct block *next;                    /* freed blocks of a class         */
    uint32_t class;
    uint32_t room;                         /* from here to the next block     */
    bool live;
    unsigned char data[] __attribute__((__aligned__(ALIGN)));
};

/* Whole pages that Xen has taken, in the order in which it did. */
struct pages {
    uint64_t serial;
    uint64_t freed_by;
    ffashim_holding by;
    uint32_t first;                        /* of Xen's whole pages            */
    uint8_t order;
    bool live;
};

static struct {
    size_t heap_used;
    uint32_t pages_used;                   /* of Xen's whole pages            */
    uint64_t serial;
    int64_t fail_nth, fail_count;
    struct block *freed[CLASSES], **freed_tail[CLASSES];
    uint32_t freed_nr[CLASSES];
    struct pages runs[PAGE_RUNS];
    uint32_t runs_nr;
} state MACHINE_STATE;

static bool guarded[XEN_PAGES_NR];         /* of Xen's whole pages            */

/* ---- Failing on demand --------------------------------------------------- */

/* Count an allocation of Xen's; true if the test wants this one to fail. */
static bool alloc_fails(void)
{
    state.serial++;
    if ( state.fail_nth <= 0 || --state.fail_nth )
        return false;
    if ( --state.fail_count > 0 )
        state.fail_nth = 1;

    return true;
}

uint64_t ffashim_allocations(void)
{
    return state.serial;
}

void ffashim_fail_allocation(int64_t nth, int64_t count)
{
    state.fail_nth = nth;
    state.fail_count = count;
}

/* ---- Blocks -------------------------------------------------------------- */

static unsigned char *heap_base(void)
{
    /* Not at the very start: no block is at machine address "nothing". */
    return host_directmap + HOST_PAGE_SIZE;
}

/* Right behind the last byte, wherever that leaves it. */
static void set_tail_canary(struct block *b)
{
    const uint64_t canary = CANARY;

    memcpy(b->data + b->size, &canary, sizeof(canary));
}

static uint64_t tail_canary(const struct block *b)
{
    uint64_t canary;

    memcpy(&canary, b->data + b->size, sizeof(canary));

    return canary;
}

static void check_block(struct block *b, const char *when)
{
    if ( b->canary != CANARY || tail_canary(b) != CANARY )
        host_fault(FFASHIM_MEMORY, NULL, 0,
                   "heap block %p of %llu bytes was written past its %s (%s)",
                   (void *)b->data, (unsigned long long)b->size,
                   b->canary != CANARY ? "start" : "end", when);
}

/* Of a block with its header and what follows it. */
static size_t block_size(uint32_t class)
{
    size_t size = sizeof(struct block) + (32UL << class) + sizeof(uint64_t);

    return (size + ALIGN - 1) & ~(ALIGN - 1);
}

static uint32_t class_of(size_t size)
{
    uint32_t class = 5;

    while ( (1UL << class) < size )
        class++;

    return class - 5;
}

static bool still_stale(const struct block *b)
{
    for ( size_t n = 0; n < b->size; n++ )
        if ( b->data[n] != HOST_STALE )
            return false;

    return true;
}

static struct block *reuse(uint32_t class, size_t align)
{
    struct block *b = state.freed[class];

    if ( !b || state.freed_nr[class] <= QUARANTINE ||
         (uintptr_t)b->data % align )
        return NULL;

    if ( !still_stale(b) )
        host_fault(FFASHIM_MEMORY, NULL, 0,
                   "heap block %p of %llu bytes was written after it was freed",
                   (void *)b->data, (unsigned long long)b->size);

    state.freed[class] = b->next;
    if ( !b->next )
        state.freed_tail[class] = NULL;
    state.freed_nr[class]--;

    return b;
}

/* Room at the end of the heap, which is always walked from block to block. */
static struct block *extend(uint32_t class, size_t align)
{
    struct block *b = (struct block *)(heap_base() + state.heap_used);
    size_t gap = -(uintptr_t)b->data & (align - 1);

    if ( state.heap_used + gap + block_size(class) > HEAP_SIZE - HOST_PAGE_SIZE )
        return NULL;
    state.heap_used += gap + block_size(class);
    if ( gap )
    {
        *b = (struct block){ .canary = CANARY, .room = gap };
        b = (struct block *)((unsigned char *)b + gap);
    }

    return b;
}

/* The block that an address lies in, or NULL. Walks them all. */
static struct block *block_at(uintptr_t addr)
{
    size_t at = 0;

    while ( at < state.heap_used )
    {
        struct block *b = (struct block *)(heap_base() + at);

        at += b->room;
        if ( within(b, b->room, addr) )
            return b;
    }

    return NULL;
}

bool heap_in_block(const void *p, bool *xens)
{
    const struct block *b = block_at((uintptr_t)p);

    *xens = b && (!b->live || b->serial);

    return b;
}

void *host_heap_alloc(size_t size, size_t align, void *caller)
{
    uint32_t class;
    struct block *b;

    /* The machine's own blocks have no caller, and never fail. */
    if ( caller && alloc_fails() )
        return NULL;
    if ( align > HOST_PAGE_SIZE || size > HEAP_SIZE / 4 )
        return NULL;
    if ( align < ALIGN )
        align = ALIGN;

    class = class_of(size);
    b = reuse(class, align);
    if ( !b && !(b = extend(class, align)) )
        return NULL;

    *b = (struct block){
        .canary = CANARY, .size = size, .serial = caller ? state.serial : 0,
        .by = cpu_takes(FFASHIM_BLOCK, caller),
        .class = class, .room = block_size(class), .live = true,
    };
    b->by.what = size;
    memset(b->data, HOST_FRESH, size);
    set_tail_canary(b);
    shadow_poison(b, block_size(class), POISON_HEAP);
    shadow_allow(b->data, size);

    return b->data;
}

static struct block *block_of(void *p)
{
    struct block *b = (struct block *)((unsigned char *)p -
                                       offsetof(struct block, data));

    if ( !within(heap_base(), state.heap_used, (uintptr_t)b) ||
         (uintptr_t)p % ALIGN )
        host_fault(FFASHIM_MEMORY, NULL, 0,
                   "xfree(%p): not a block of the heap", p);

    return b;
}

void host_heap_free(void *p, void *caller)
{
    struct block *b = block_of(p);
    uint32_t class = b->class;
    const char *queued;

    if ( b->canary == CANARY && !b->live )
        host_fault(FFASHIM_MEMORY, NULL, 0,
                   "xfree(%p): the block of %llu bytes is free already", p,
                   (unsigned long long)b->size);
    check_block(b, "found by xfree()");
    queued = xen_queued_in(b->data, b->size);
    if ( queued )
        host_fault(FFASHIM_MEMORY, NULL, 0,
                   "xfree(%p): %s is still queued in the block of %llu bytes",
                   p, queued, (unsigned long long)b->size);

    b->live = false;
    b->freed_by = call_site(caller);
    memset(b->data, HOST_STALE, b->size);
    shadow_poison(b->data, b->size + 7, POISON_FREED);
    b->next = NULL;
    if ( state.freed_tail[class] )
        *state.freed_tail[class] = b;
    else
        state.freed[class] = b;
    state.freed_tail[class] = &b->next;
    state.freed_nr[class]++;
}

/* ---- Whole pages --------------------------------------------------------- */

static unsigned char *xen_page(uint32_t page)
{
    return host_directmap + HEAP_SIZE + page * HOST_PAGE_SIZE;
}

static size_t run_size(const struct pages *run)
{
    return HOST_PAGE_SIZE << run->order;
}

/* Give Xen the pages of a run, and take away the one on either side. */
static void guard_run(const struct pages *run)
{
    uint32_t last = run->first + (1U << run->order);

    for ( uint32_t page = run->first - 1; page <= last; page++ )
    {
        bool guard = page < run->first || page == last;

        if ( guarded[page] == guard )
            continue;
        mprotect(xen_page(page), HOST_PAGE_SIZE,
                 guard ? PROT_NONE : PROT_READ | PROT_WRITE);
        guarded[page] = guard;
    }
}

void *host_alloc_pages(unsigned int order, void *caller)
{
    uint32_t first = state.pages_used + 1;
    struct pages *run;

    if ( alloc_fails() || state.runs_nr == PAGE_RUNS || order > 16 ||
         first + (1U << order) >= XEN_PAGES_NR )
        return NULL;

    run = &state.runs[state.runs_nr++];
    *run = (struct pages){
        state.serial, 0, cpu_takes(FFASHIM_PAGES, caller), first, order, true
    };
    run->by.what = run_size(run);
    state.pages_used += 1 + (1U << order);
    guard_run(run);
    shadow_allow(xen_page(first), run_size(run));
    memset(xen_page(first), HOST_FRESH, run_size(run));

    return xen_page(first);
}

void host_free_pages(void *va, unsigned int order, void *caller)
{
    for ( uint32_t n = 0; n < state.runs_nr; n++ )
    {
        struct pages *run = &state.runs[n];

        if ( !run->live || xen_page(run->first) != va )
            continue;
        if ( run->order != order )
            host_fault(FFASHIM_MEMORY, NULL, 0,
                       "free_xenheap_pages(%p): of order %u, freed as order %u",
                       va, run->order, order);
        run->live = false;
        /* Never handed out again before a reset, so a late use can be seen. */
        memset(va, HOST_STALE, run_size(run));
        shadow_poison(va, run_size(run), POISON_FREED);
        run->freed_by = call_site(caller);
        return;
    }

    host_fault(FFASHIM_MEMORY, NULL, 0,
               "free_xenheap_pages(%p): not allocated, or free already", va);
}

/* ---- What lies where ----------------------------------------------------- */

bool heap_place_of(uintptr_t addr, struct heap_place *place)
{
    const struct block *b;

    if ( within(heap_base(), state.heap_used, addr) )
    {
        uintptr_t at = (uintptr_t)heap_base();

        for ( ; ; at += b->room )
        {
            b = (const struct block *)at;
            if ( addr - at < b->room )
                break;
        }
        *place = (struct heap_place){
            (uintptr_t)b->data, b->size, b->by.caller, b->by.outer,
            b->freed_by, .freed = !b->live,
        };

        return true;
    }

    for ( uint32_t n = 0; n < state.runs_nr; n++ )
    {
        const struct pages *run = &state.runs[n];

        if ( !within(xen_page(run->first), run_size(run), addr) )
            continue;
        *place = (struct heap_place){
            (uintptr_t)xen_page(run->first), run_size(run), run->by.caller,
            run->by.outer, run->freed_by, .pages = true, .freed = !run->live,
        };

        return true;
    }

    return false;
}

/* Tell how far an address in a guard page lies from pages of Xen's own. */
bool heap_describe_guard(uintptr_t addr, char *buf, size_t size)
{
    for ( uint32_t n = 0; n < state.runs_nr; n++ )
    {
        const struct pages *run = &state.runs[n];
        uintptr_t start = (uintptr_t)host_directmap + HEAP_SIZE +
                          run->first * HOST_PAGE_SIZE;
        uintptr_t end = start + (HOST_PAGE_SIZE << run->order);

        if ( addr - end < HOST_PAGE_SIZE )
            snprintf(buf, size, "%lu bytes past the end of Xen's own page %p",
                     (unsigned long)(addr - end) + 1, (void *)start);
        else if ( start - addr <= HOST_PAGE_SIZE )
            snprintf(buf, size, "%lu bytes before the start of Xen's own page "
                     "%p", (unsigned long)(start - addr), (void *)start);
        else
            continue;

        return true;
    }

    return false;
}

uint32_t ffashim_heap(ffashim_block *blocks, uint32_t max)
{
    size_t at = 0;
    uint32_t nr = 0;

    while ( at < state.heap_used )
    {
        struct block *b = (struct block *)(heap_base() + at);

        at += b->room;
        if ( !b->live || !b->serial )
            continue;
        if ( nr < max )
            blocks[nr] = (ffashim_block){ b->serial, b->size, b->by.caller,
                                          b->by.outer };
        nr++;
    }

    for ( uint32_t n = 0; n < state.runs_nr; n++ )
    {
        const struct pages *run = &state.runs[n];

        if ( !run->live )
            continue;
        if ( nr < max )
            blocks[nr] = (ffashim_block){ run->serial,
                                          run_size(run),
                                          run->by.caller,
                                          run->by.outer };
        nr++;
    }

    return nr;
}

int ffashim_damaged(ffashim_block *block)
{
    size_t at = 0;

    while ( at < state.heap_used )
    {
        const struct block *b = (struct block *)(heap_base() + at);
        bool gap = !b->size;
        int how = b->canary != CANARY ? 1 : gap ? 0
                  : tail_canary(b) != CANARY ? 2
                  : !b->live && !still_stale(b) ? 3 : 0;

        if ( how )
        {
            *block = (ffashim_block){ b->serial, b->size, b->by.caller,
                                      b->by.outer };
            return how;
        }
        at += b->room;
    }

    return 0;
}

void heap_holdings(struct holdings *h)
{
    size_t at = 0;

    while ( at < state.heap_used )
    {
        const struct block *b = (struct block *)(heap_base() + at);

        at += b->room;
        if ( b->live && b->serial )
            holdings_add(h, &b->by);
    }
    for ( uint32_t n = 0; n < state.runs_nr; n++ )
        if ( state.runs[n].live )
            holdings_add(h, &state.runs[n].by);
}

/* ---- Snapshots ----------------------------------------------------------- */

struct heap_saved {
    size_t heap_used;
    uint32_t runs_nr;
    struct pages runs[PAGE_RUNS];
    unsigned char *heap, *pages;
    void *shadow;                          /* of the heap                     */
};

/* What lies in a run, which faults for Xen where it guards another one. */
static unsigned char *run_data(const struct pages *run)
{
    return memory_view(HEAP_SIZE / HOST_PAGE_SIZE + run->first);
}

struct heap_saved *heap_save(void)
{
    struct heap_saved *s = calloc(1, sizeof(*s));
    size_t size = 0;

    if ( !s )
        return NULL;

    s->heap_used = state.heap_used;
    s->runs_nr = state.runs_nr;
    memcpy(s->runs, state.runs, sizeof(s->runs));
    for ( uint32_t n = 0; n < s->runs_nr; n++ )
        size += run_size(&s->runs[n]);
    s->heap = malloc(s->heap_used + 1);
    s->pages = malloc(size + 1);
    s->shadow = shadow_save(heap_base(), s->heap_used);
    if ( !s->heap || !s->pages )
    {
        heap_saved_free(s);
        return NULL;
    }

    memcpy(s->heap, heap_base(), s->heap_used);
    size = 0;
    for ( uint32_t n = 0; n < s->runs_nr; n++ )
    {
        memcpy(s->pages + size, run_data(&s->runs[n]), run_size(&s->runs[n]));
        size += run_size(&s->runs[n]);
    }

    return s;
}

void heap_saved_free(struct heap_saved *s)
{
    if ( !s )
        return;
    free(s->heap);
    free(s->shadow);
    free(s->pages);
    free(s);
}

void heap_restore(const struct heap_saved *s)
{
    size_t size = 0;
    uint32_t n;

    memcpy(heap_base(), s->heap, s->heap_used);
    shadow_poison(heap_base(), state.heap_used, POISON_HEAP);
    shadow_restore(heap_base(), s->heap_used, s->shadow);
    for ( n = 0; n < state.runs_nr; n++ )
        shadow_poison(xen_page(state.runs[n].first), run_size(&state.runs[n]),
                      POISON_HEAP);
    for ( n = 0; n < s->runs_nr; n++ )
    {
        guard_run(&s->runs[n]);
        if ( s->runs[n].live )
            shadow_allow(xen_page(s->runs[n].first), run_size(&s->runs[n]));
        memcpy(run_data(&s->runs[n]), s->pages + size, run_size(&s->runs[n]));
        size += run_size(&s->runs[n]);
    }
}

uint64_t heap_hash(void)
{
    uint64_t hash = hash_of(0, heap_base(), state.heap_used);

    for ( uint32_t n = 0; n < state.runs_nr; n++ )
        if ( state.runs[n].live )
            hash = hash_of(hash, run_data(&state.runs[n]),
                           run_size(&state.runs[n]));

    return hash;
}
