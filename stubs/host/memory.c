/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The RAM of the machine, Xen's heap in it, and the windows through which Xen
 * sees guest pages.
 *
 * RAM is one memfd. Xen's part of it is mapped at the directmap; guests' part
 * is mapped there without access, for Xen reaches it only through a window:
 * one page between two that fault. The test reaches all of it through a view
 * of its own.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define RAM_SIZE   (HOST_RAM_PAGES * HOST_PAGE_SIZE)
#define XEN_SIZE   (HOST_XEN_PAGES * HOST_PAGE_SIZE)
#define HEAP_SIZE  (XEN_SIZE / 2)          /* blocks; whole pages follow      */
#define XEN_PAGES_NR (HOST_XEN_PAGES - HEAP_SIZE / HOST_PAGE_SIZE)
#define WINDOWS    1024
#define WINDOWS_SIZE HOST_WINDOWS_SIZE
_Static_assert(WINDOWS_SIZE == (WINDOWS * 2 + 1) * HOST_PAGE_SIZE,
               "a page that faults on either side of each window");
#define FRAMES_SIZE                                                     \
    ((HOST_RAM_PAGES * xen_page_info_size + HOST_PAGE_SIZE - 1) &       \
     ~(HOST_PAGE_SIZE - 1))
#define GAP        (1UL << 30)             /* between the three, faulting     */
#define ALIGN      128UL                   /* Xen wants a cache line         */
#define CANARY     0xfeedc0dedeadbeefULL
#define CLASSES    24
#define PAGE_RUNS  64                      /* allocations of whole pages      */
#ifdef FFASHIM_SANITIZE_ADDRESS
#define QUARANTINE 1024
#else
#define QUARANTINE 32                      /* freed blocks not used again yet */
#endif

unsigned char *host_directmap;
void *host_frame_table;

static unsigned char *view;                /* the test's mapping of RAM       */
unsigned char *host_windows;               /* WINDOWS * 2 + 1 pages           */
static int ram_fd = -1;

void *(*host_memcpy)(void *d, const void *s, size_t n);
void *(*host_memmove)(void *d, const void *s, size_t n);
void *(*host_memset)(void *d, int c, size_t n);
int (*host_memcmp)(const void *a, const void *b, size_t n);

/* ---- State --------------------------------------------------------------- */

struct block {
    uint64_t canary;
    uint64_t size;
    uint64_t serial;
    uint64_t caller;
    uint64_t outer;                        /* who has called the caller       */
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
    uint64_t caller;
    uint64_t freed_by;
    ffashim_holding by;
    uint32_t first;                        /* of Xen's whole pages            */
    uint8_t order;
    bool live;
};

struct window {
    ffashim_holding by;
    uint32_t page;                         /* of RAM, 0: none                 */
    bool mapped;
};

/* References to domains, all from one place together. */
#define DOMAIN_REFS 64
struct domain_ref {
    ffashim_holding by;
    const void *d;
};

static struct {
    size_t heap_used;
    uint32_t pages_used;                   /* of Xen's whole pages            */
    uint32_t guest_used;                   /* of guests' pages                */
    uint64_t serial;
    int64_t fail_nth, fail_count;
    int64_t map_fail_nth;
    struct block *freed[CLASSES], **freed_tail[CLASSES];
    uint32_t freed_nr[CLASSES];
    uint32_t next_window;
    uint32_t windows_mapped;
    uint32_t touched_nr;
    struct pages runs[PAGE_RUNS];
    uint32_t runs_nr;
    struct domain_ref domain_refs[DOMAIN_REFS];
    uint32_t domain_refs_nr;
} state MACHINE_STATE;

static struct window window[WINDOWS];
static uint32_t touched[HOST_RAM_PAGES];   /* guest pages, not as when new   */
static uint8_t *touch_flag;                /* per page of RAM                 */
static uint16_t *xen_refs;                 /* references that Xen itself took */
static ffashim_holding *xen_took;          /* the last of these               */
static bool guarded[XEN_PAGES_NR];         /* of Xen's whole pages            */

/* ---- Set-up -------------------------------------------------------------- */

static void *map(void *at, size_t size, int flags, int fd)
{
    void *p = mmap(at, size, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd,
                   0);

    return p == MAP_FAILED ? NULL : p;
}

/*
 * Address space for the machine, with so much of it on either side that faults
 * that an index of 32 bits times a count of FF-A's does not lead out of it and
 * into the host's memory, where nobody would notice.
 */
static unsigned char *reserve(size_t size, size_t *guard)
{
    for ( *guard = 1UL << 39; *guard >= 1UL << 30; *guard /= 8 )
    {
        void *p = mmap(NULL, size + 2 * *guard, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if ( p != MAP_FAILED )
            return p;
    }

    return NULL;
}

void memory_libc(void)
{
    host_memcpy = dlsym(RTLD_DEFAULT, "memcpy");
    host_memmove = dlsym(RTLD_DEFAULT, "memmove");
    host_memset = dlsym(RTLD_DEFAULT, "memset");
    host_memcmp = dlsym(RTLD_DEFAULT, "memcmp");
}

int memory_open(void)
{
    unsigned char *reserved;
    size_t guard;
    int error;

    memory_libc();
    if ( host_directmap )
        return 0;
    if ( (error = shadow_open()) )
        return error;

    ram_fd = memfd_create("ffashim-ram", MFD_CLOEXEC);
    if ( ram_fd < 0 || ftruncate(ram_fd, RAM_SIZE) )
        return errno;

    reserved = reserve(RAM_SIZE + WINDOWS_SIZE + FRAMES_SIZE + 3 * GAP, &guard);
    if ( !reserved )
        return ENOMEM;
    host_directmap = reserved + guard;
    host_windows = host_directmap + RAM_SIZE + GAP;
    host_frame_table = host_windows + WINDOWS_SIZE + GAP;

    view = map(NULL, RAM_SIZE, MAP_SHARED, ram_fd);
    touch_flag = map(NULL, HOST_RAM_PAGES, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    xen_refs = map(NULL, HOST_RAM_PAGES * sizeof(*xen_refs),
                   MAP_PRIVATE | MAP_ANONYMOUS, -1);
    xen_took = map(NULL, HOST_RAM_PAGES * sizeof(*xen_took),
                   MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if ( !view || !touch_flag || !xen_refs || !xen_took ||
         !map(host_directmap, XEN_SIZE, MAP_SHARED | MAP_FIXED, ram_fd) ||
         !map(host_frame_table, FRAMES_SIZE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1) )
        return errno ? errno : ENOMEM;

    for ( const struct host_absent *a = host_absent; a && a->at; a++ )
        if ( mprotect((void *)a->at, HOST_PAGE_SIZE, PROT_NONE) )
            return errno;

    shadow_poison(host_directmap, XEN_SIZE, POISON_HEAP);
    state.guest_used = HOST_XEN_PAGES;

    return 0;
}

/* ---- Addresses ----------------------------------------------------------- */

static bool in(const void *base, size_t size, uintptr_t addr)
{
    return addr - (uintptr_t)base < size;
}

static struct window *window_of(const void *va)
{
    size_t page = ((uintptr_t)va - (uintptr_t)host_windows) / HOST_PAGE_SIZE;

    return host_in_window(va) && page % 2 ? &window[page / 2] : NULL;
}

static void *window_va(const struct window *w)
{
    return host_windows + ((size_t)(w - window) * 2 + 1) * HOST_PAGE_SIZE;
}

uint64_t memory_shared(const void *va)
{
    const struct window *w = window_of(va);

    return w && w->mapped && w->page >= HOST_XEN_PAGES
           ? HOST_RAM_BASE + w->page * HOST_PAGE_SIZE +
             ((uintptr_t)va & (HOST_PAGE_SIZE - 1)) : 0;
}

bool host_va_to_ma(unsigned long va, uint64_t *ma)
{
    const struct window *w = window_of((void *)va);

    if ( in(host_directmap, RAM_SIZE, va) )
        *ma = HOST_RAM_BASE + (va - (uintptr_t)host_directmap);
    else if ( w && w->mapped )
        *ma = HOST_RAM_BASE + w->page * HOST_PAGE_SIZE +
              (va & (HOST_PAGE_SIZE - 1));
    else
        return false;

    *ma &= ~(HOST_PAGE_SIZE - 1);

    return true;
}

uint32_t memory_owner(const void *va)
{
    const struct window *w = window_of(va);

    return w && w->mapped ? xen_page_owner(HOST_RAM_MFN + w->page) : 0;
}

/* Whether Xen alone writes to what lies there: not the SPMC, not a guest. */
bool memory_is_xens(const void *p)
{
    return !host_in_window(p) &&
           !in(host_directmap + HEAP_SIZE, RAM_SIZE - HEAP_SIZE, (uintptr_t)p);
}

/* The name of the variable at an address that nothing defines, or NULL. */
const char *memory_absent(uintptr_t addr)
{
    for ( const struct host_absent *a = host_absent; a && a->at; a++ )
        if ( in(a->at, HOST_PAGE_SIZE, addr) )
            return a->name;

    return NULL;
}

/* Tell how far an address in a guard page lies from pages of Xen's own. */
static bool describe_guard(uintptr_t addr, char *buf, size_t size)
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

/* What lies at an address that faulted, for people. */
const char *memory_describe(uintptr_t addr, char *buf, size_t size)
{
    if ( addr < 0x10000 )
        snprintf(buf, size, "NULL pointer (%#lx)", (unsigned long)addr);
    else if ( host_in_window((void *)addr) )
    {
        const struct window *w = window_of((void *)addr);

        if ( w )
            snprintf(buf, size,
                     "guest page %#lx through a mapping that is gone",
                     w->page + HOST_RAM_MFN);
        else
        {
            size_t page = (addr - (uintptr_t)host_windows) / HOST_PAGE_SIZE;
            bool after = page && window[page / 2 - 1].mapped &&
                         (addr & (HOST_PAGE_SIZE - 1)) < HOST_PAGE_SIZE / 2;

            w = after ? &window[page / 2 - 1]
                      : page / 2 < WINDOWS ? &window[page / 2] : NULL;
            snprintf(buf, size, "%lu bytes %s the mapped guest page %#lx",
                     after ? (addr & (HOST_PAGE_SIZE - 1)) + 1
                           : HOST_PAGE_SIZE - (addr & (HOST_PAGE_SIZE - 1)),
                     after ? "past the end of" : "before the start of",
                     w ? w->page + HOST_RAM_MFN : 0);
        }
    }
    else if ( describe_guard(addr, buf, size) )
        ;
    else if ( in(host_directmap, RAM_SIZE, addr) )
        snprintf(buf, size, "page %#lx, which Xen has not mapped",
                 (addr - (uintptr_t)host_directmap) / HOST_PAGE_SIZE +
                 HOST_RAM_MFN);
    else if ( cpu_stack_guard(addr) )
        snprintf(buf, size, "the end of Xen's stack (%#lx)",
                 (unsigned long)addr);
    else
        snprintf(buf, size, "wild pointer (%#lx)", (unsigned long)addr);

    return buf;
}

/* ---- The heap ------------------------------------------------------------ */

static unsigned char *heap_base(void)
{
    /* Not at the very start: no block is at machine address "nothing". */
    return host_directmap + HOST_PAGE_SIZE;
}


static unsigned char *xen_page(uint32_t page)
{
    return host_directmap + HEAP_SIZE + page * HOST_PAGE_SIZE;
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

static size_t run_size(const struct pages *run)
{
    return HOST_PAGE_SIZE << run->order;
}

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
        if ( in(b, b->room, addr) )
            return b;
    }

    return NULL;
}

bool memory_in_block(const void *p, bool *xens)
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
        .caller = module_offset(caller), .outer = outer_of(caller),
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

    if ( !in(heap_base(), state.heap_used, (uintptr_t)b) ||
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
    b->freed_by = module_offset(caller);
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

bool memory_heap_place(uintptr_t addr, struct heap_place *place)
{
    const struct block *b;

    if ( in(heap_base(), state.heap_used, addr) )
    {
        uintptr_t at = (uintptr_t)heap_base();

        for ( ; ; at += b->room )
        {
            b = (const struct block *)at;
            if ( addr - at < b->room )
                break;
        }
        *place = (struct heap_place){
            (uintptr_t)b->data, b->size, b->caller, b->outer, b->freed_by,
            .freed = !b->live,
        };

        return true;
    }

    for ( uint32_t n = 0; n < state.runs_nr; n++ )
    {
        const struct pages *run = &state.runs[n];

        if ( !in(xen_page(run->first), run_size(run), addr) )
            continue;
        *place = (struct heap_place){
            (uintptr_t)xen_page(run->first), run_size(run), run->caller,
            0, run->freed_by, .pages = true, .freed = !run->live,
        };

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
            blocks[nr] = (ffashim_block){ b->serial, b->size, b->caller,
                                          b->outer };
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
                                          run->caller, 0 };
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
            *block = (ffashim_block){ b->serial, b->size, b->caller, b->outer };
            return how;
        }
        at += b->room;
    }

    return 0;
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

void *host_alloc_pages(unsigned int order, void *caller)
{
    uint32_t first = state.pages_used + 1;
    struct pages *run;

    if ( alloc_fails() || state.runs_nr == PAGE_RUNS || order > 16 ||
         first + (1U << order) >= XEN_PAGES_NR )
        return NULL;

    run = &state.runs[state.runs_nr++];
    *run = (struct pages){
        state.serial, module_offset(caller), 0,
        cpu_takes(FFASHIM_PAGES, caller), first, order, true
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
        run->freed_by = module_offset(caller);
        return;
    }

    host_fault(FFASHIM_MEMORY, NULL, 0,
               "free_xenheap_pages(%p): not allocated, or free already", va);
}

/* ---- Guest pages --------------------------------------------------------- */

unsigned long host_alloc_guest_pages(unsigned long count)
{
    uint32_t first = state.guest_used;

    if ( count > HOST_RAM_PAGES - first )
        return 0;
    state.guest_used += count;

    return HOST_RAM_MFN + first;
}

void host_free_guest_pages(unsigned long mfn, unsigned long count)
{
    if ( mfn + count == HOST_RAM_MFN + state.guest_used )
        state.guest_used -= count;
}

/* Leave in it what no guest has written, so that its owner is known by it. */
static void page_fill(uint32_t page)
{
    uint32_t owner = xen_page_owner(HOST_RAM_MFN + page);
    uint32_t word = owner ? HOST_OF_GUEST | (uint16_t)owner : 0;
    uint32_t *at = (uint32_t *)(view + page * HOST_PAGE_SIZE);

    for ( size_t n = 0; n < HOST_PAGE_SIZE / sizeof(*at); n++ )
        at[n] = word;
}

void host_page_touch(unsigned long mfn)
{
    uint32_t page = mfn - HOST_RAM_MFN;

    if ( page >= HOST_RAM_PAGES || touch_flag[page] )
        return;

    touch_flag[page] = 1;
    touched[state.touched_nr++] = page;
    if ( page >= HOST_XEN_PAGES )
        page_fill(page);
}

void host_page_refs(unsigned long mfn, int change, const void *caller)
{
    uint32_t page = mfn - HOST_RAM_MFN;

    host_page_touch(mfn);
    xen_refs[page] += change;
    if ( change > 0 )
    {
        xen_took[page] = cpu_takes(FFASHIM_PAGE_REF, caller);
        xen_took[page].what = mfn;
    }
    if ( xen_refs[page] )
        return;

    /* Xen has no right to this page any more: close what windows it has. */
    for ( uint32_t n = 0; state.windows_mapped && n < WINDOWS; n++ )
        if ( window[n].mapped && window[n].page == page )
            mprotect(window_va(&window[n]), HOST_PAGE_SIZE, PROT_NONE);
}

unsigned int host_page_refs_of(unsigned long mfn)
{
    return mfn - HOST_RAM_MFN < HOST_RAM_PAGES ? xen_refs[mfn - HOST_RAM_MFN]
                                               : 0;
}

static void *page_view(uint32_t page)
{
    host_page_touch(HOST_RAM_MFN + page);

    return view + page * HOST_PAGE_SIZE;
}

void *ffashim_ram_page(uint64_t ma)
{
    uint64_t page = (ma >> HOST_PAGE_SHIFT) - HOST_RAM_MFN;

    return page < HOST_RAM_PAGES ? page_view(page) : NULL;
}

void *ffashim_guest_page(uint32_t slot, uint64_t gfn)
{
    enum ffashim_p2m type;
    unsigned long mfn;

    if ( !xen_domain_exists(slot) )
        return NULL;
    mfn = xen_p2m_get(slot, gfn, &type);

    return mfn - HOST_RAM_MFN < HOST_RAM_PAGES ? page_view(mfn - HOST_RAM_MFN)
                                               : NULL;
}

int64_t ffashim_page_refs(uint32_t slot, uint64_t gfn)
{
    enum ffashim_p2m type;
    unsigned long mfn;

    if ( !xen_domain_exists(slot) )
        return -1;
    mfn = xen_p2m_get(slot, gfn, &type);

    return mfn - HOST_RAM_MFN < HOST_RAM_PAGES
           ? xen_refs[mfn - HOST_RAM_MFN] : -1;
}

/* ---- Windows ------------------------------------------------------------- */

void *host_map_window(unsigned long mfn, const void *caller)
{
    uint32_t page = mfn - HOST_RAM_MFN;
    uint32_t tries;
    struct window *w;

    if ( state.map_fail_nth > 0 && --state.map_fail_nth == 0 )
        return NULL;
    if ( page >= HOST_RAM_PAGES )
        host_fault(FFASHIM_MEMORY, NULL, 0,
                   "map_domain_page() of %#lx, which is no RAM", mfn);

    /* In turn, so that a mapping that is gone stays gone for long. */
    for ( tries = 0; tries < WINDOWS; tries++ )
    {
        w = &window[state.next_window++ % WINDOWS];
        if ( !w->mapped )
            break;
    }
    if ( tries == WINDOWS ||
         mmap(window_va(w), HOST_PAGE_SIZE, PROT_READ | PROT_WRITE,
              MAP_SHARED | MAP_FIXED, ram_fd,
              page * HOST_PAGE_SIZE) == MAP_FAILED )
        return NULL;

    host_page_touch(mfn);
    *w = (struct window){ cpu_takes(FFASHIM_MAPPING, caller), page, true };
    w->by.what = mfn;
    state.windows_mapped++;

    return window_va(w);
}

static void window_close(struct window *w)
{
    w->mapped = false;
    state.windows_mapped--;
    mprotect(window_va(w), HOST_PAGE_SIZE, PROT_NONE);
}

void host_unmap_window(const void *va)
{
    struct window *w = window_of(va);

    if ( !w || !w->mapped || (uintptr_t)va % HOST_PAGE_SIZE )
        host_fault(FFASHIM_MEMORY, NULL, 0,
                   "unmap_domain_page(%p): not mapped", va);

    window_close(w);
}

uint32_t ffashim_mappings(uint64_t *mfns, uint32_t max)
{
    uint32_t nr = 0;

    for ( uint32_t n = 0; state.windows_mapped && n < WINDOWS; n++ )
    {
        if ( !window[n].mapped )
            continue;
        if ( nr < max )
            mfns[nr] = window[n].page + HOST_RAM_MFN;
        nr++;
    }

    return nr;
}

void ffashim_fail_mapping(int64_t nth)
{
    state.map_fail_nth = nth;
}

/* ---- Who holds what ------------------------------------------------------ */

/* All references from one place in one call of one guest share an entry. */
void host_domain_get(const void *d)
{
    struct domain_ref by = {
        cpu_takes(FFASHIM_DOMAIN_REF, __builtin_return_address(0)), d
    };
    uint32_t n;

    for ( n = 0; n < state.domain_refs_nr; n++ )
    {
        const struct domain_ref *r = &state.domain_refs[n];

        if ( r->d == d && r->by.caller == by.by.caller &&
             r->by.owner == by.by.owner && r->by.call == by.by.call )
            break;
    }
    if ( n < state.domain_refs_nr )
        state.domain_refs[n].by.count++;
    else if ( n < DOMAIN_REFS )
        state.domain_refs[state.domain_refs_nr++] = by;
}

/* Which one is given back nobody can tell: the last one of this domain. */
void host_domain_put(const void *d)
{
    for ( uint32_t n = state.domain_refs_nr; n--; )
    {
        struct domain_ref *r = &state.domain_refs[n];

        if ( r->d != d )
            continue;
        if ( !--r->by.count )
            memmove(r, r + 1, (--state.domain_refs_nr - n) * sizeof(*r));
        return;
    }
}

struct holdings {
    uint32_t owner, max, nr;
    ffashim_holding *list;
};

static void hold(struct holdings *h, const ffashim_holding *by)
{
    if ( h->owner && by->owner != h->owner )
        return;
    if ( h->nr < h->max )
        h->list[h->nr] = *by;
    h->nr++;
}

uint32_t ffashim_holdings(uint32_t owner, ffashim_holding *list, uint32_t max)
{
    struct holdings h = { owner, max, 0, list };
    size_t at = 0;

    while ( at < state.heap_used )
    {
        struct block *b = (struct block *)(heap_base() + at);

        at += b->room;
        if ( b->live && b->serial )
            hold(&h, &b->by);
    }
    for ( uint32_t n = 0; n < state.runs_nr; n++ )
        if ( state.runs[n].live )
            hold(&h, &state.runs[n].by);
    for ( uint32_t n = 0; n < state.touched_nr; n++ )
    {
        ffashim_holding by = xen_took[touched[n]];

        by.count = xen_refs[touched[n]];
        if ( by.count )
            hold(&h, &by);
    }
    for ( uint32_t n = 0; state.windows_mapped && n < WINDOWS; n++ )
        if ( window[n].mapped )
            hold(&h, &window[n].by);
    for ( uint32_t n = 0; n < state.domain_refs_nr; n++ )
        hold(&h, &state.domain_refs[n].by);

    return h.nr;
}

/* ---- Snapshots ----------------------------------------------------------- */

struct saved_page {
    uint32_t page;
    uint16_t xen_refs;
    ffashim_holding took;
    unsigned char data[HOST_PAGE_SIZE];
};

struct memory_saved {
    size_t heap_used;
    uint32_t touched_nr, windows_mapped, runs_nr;
    struct pages runs[PAGE_RUNS];
    unsigned char *heap, *pages, *frames;
    void *shadow;                          /* of the heap                     */
    struct saved_page *touched;
    struct window window[WINDOWS];
};

static unsigned char *frame(uint32_t page)
{
    return (unsigned char *)host_frame_table + page * xen_page_info_size;
}

/* What lies in a run of Xen's pages, out of the test's view of them. */
static unsigned char *run_data(const struct pages *run)
{
    return view + HEAP_SIZE + run->first * HOST_PAGE_SIZE;
}

static void *copy_of(const void *p, size_t size)
{
    void *copy = malloc(size ? size : 1);

    return copy ? memcpy(copy, p, size) : NULL;
}

struct memory_saved *memory_save(void)
{
    struct memory_saved *s = calloc(1, sizeof(*s));
    size_t size = 0;

    if ( !s )
        return NULL;

    s->heap_used = state.heap_used;
    s->runs_nr = state.runs_nr;
    memcpy(s->runs, state.runs, sizeof(s->runs));
    for ( uint32_t n = 0; n < s->runs_nr; n++ )
        size += run_size(&s->runs[n]);
    s->touched_nr = state.touched_nr;
    s->windows_mapped = state.windows_mapped;
    s->heap = copy_of(heap_base(), s->heap_used);
    s->shadow = shadow_save(heap_base(), s->heap_used);
    s->pages = malloc(size + 1);
    s->touched = malloc((s->touched_nr + 1) * sizeof(*s->touched));
    s->frames = malloc((s->touched_nr + 1) * xen_page_info_size);
    memcpy(s->window, window, sizeof(window));
    if ( !s->heap || !s->pages || !s->touched || !s->frames )
    {
        memory_saved_free(s);
        return NULL;
    }

    size = 0;
    for ( uint32_t n = 0; n < s->runs_nr; n++ )
    {
        memcpy(s->pages + size, run_data(&s->runs[n]), run_size(&s->runs[n]));
        size += run_size(&s->runs[n]);
    }

    for ( uint32_t n = 0; n < s->touched_nr; n++ )
    {
        uint32_t page = touched[n];

        s->touched[n].page = page;
        s->touched[n].xen_refs = xen_refs[page];
        s->touched[n].took = xen_took[page];
        memcpy(s->touched[n].data, view + page * HOST_PAGE_SIZE,
               HOST_PAGE_SIZE);
        memcpy(s->frames + n * xen_page_info_size, frame(page),
               xen_page_info_size);
    }

    return s;
}

void memory_saved_free(struct memory_saved *s)
{
    free(s->heap);
    free(s->shadow);
    free(s->pages);
    free(s->touched);
    free(s->frames);
    free(s);
}

/* Called before the state itself is put back: it still tells what to undo. */
void memory_restore(const struct memory_saved *s)
{
    size_t size = 0;
    uint32_t n;

    for ( n = 0; n < state.touched_nr; n++ )
    {
        uint32_t page = touched[n];

        touch_flag[page] = 0;
        xen_refs[page] = 0;
        memset(frame(page), 0, xen_page_info_size);
    }

    if ( state.windows_mapped || s->windows_mapped )
        for ( n = 0; n < WINDOWS; n++ )
        {
            struct window *w = &window[n];
            const struct window *old = &s->window[n];

            if ( w->mapped && !(old->mapped && old->page == w->page) )
                mprotect(window_va(w), HOST_PAGE_SIZE, PROT_NONE);
            if ( old->mapped )
                mmap(window_va(w), HOST_PAGE_SIZE, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_FIXED, ram_fd,
                     old->page * HOST_PAGE_SIZE);
            *w = *old;
        }

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

    for ( n = 0; n < s->touched_nr; n++ )
    {
        uint32_t page = s->touched[n].page;

        touched[n] = page;
        touch_flag[page] = 1;
        xen_refs[page] = s->touched[n].xen_refs;
        xen_took[page] = s->touched[n].took;
        memcpy(frame(page), s->frames + n * xen_page_info_size,
               xen_page_info_size);
        if ( page >= HOST_XEN_PAGES )
            memcpy(view + page * HOST_PAGE_SIZE, s->touched[n].data,
                   HOST_PAGE_SIZE);
    }
}
