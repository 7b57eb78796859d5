/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The RAM of the machine, and the windows through which Xen sees guest pages.
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
#define WINDOWS    1024
#define WINDOWS_SIZE HOST_WINDOWS_SIZE
_Static_assert(WINDOWS_SIZE == (WINDOWS * 2 + 1) * HOST_PAGE_SIZE,
               "a page that faults on either side of each window");
#define FRAMES_SIZE                                                     \
    ((HOST_RAM_PAGES * xen_page_info_size + HOST_PAGE_SIZE - 1) &       \
     ~(HOST_PAGE_SIZE - 1))
#define GAP        (1UL << 30)             /* between the three, faulting     */

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

struct window {
    ffashim_holding by;
    uint32_t page;                         /* of RAM, 0: none                 */
    bool mapped;
};

static struct {
    uint32_t guest_used;                   /* of guests' pages                */
    int64_t map_fail_nth;
    uint32_t next_window;
    uint32_t windows_mapped;
    uint32_t touched_nr;
} state MACHINE_STATE;

static struct window window[WINDOWS];
static uint32_t touched[HOST_RAM_PAGES];   /* guest pages, not as when new   */
static uint8_t *touch_flag;                /* per page of RAM                 */
static uint16_t *xen_refs;                 /* references that Xen itself took */
static ffashim_holding *xen_took;          /* the last of these               */

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

    if ( within(host_directmap, RAM_SIZE, va) )
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
           !within(host_directmap + HEAP_SIZE, RAM_SIZE - HEAP_SIZE, (uintptr_t)p);
}

void *memory_view(uint32_t page)
{
    return view + page * HOST_PAGE_SIZE;
}

/* The name of the variable at an address that nothing defines, or NULL. */
const char *memory_absent(uintptr_t addr)
{
    for ( const struct host_absent *a = host_absent; a && a->at; a++ )
        if ( within(a->at, HOST_PAGE_SIZE, addr) )
            return a->name;

    return NULL;
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
    else if ( heap_describe_guard(addr, buf, size) )
        ;
    else if ( within(host_directmap, RAM_SIZE, addr) )
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

void memory_holdings(struct holdings *h)
{
    for ( uint32_t n = 0; n < state.touched_nr; n++ )
    {
        ffashim_holding by = xen_took[touched[n]];

        by.count = xen_refs[touched[n]];
        if ( by.count )
            holdings_add(h, &by);
    }
    for ( uint32_t n = 0; state.windows_mapped && n < WINDOWS; n++ )
        if ( window[n].mapped )
            holdings_add(h, &window[n].by);
}

/* ---- Snapshots ----------------------------------------------------------- */

struct saved_page {
    uint32_t page;
    uint16_t xen_refs;
    ffashim_holding took;
    unsigned char data[HOST_PAGE_SIZE];
};

struct memory_saved {
    uint32_t touched_nr, windows_mapped;
    unsigned char *frames;
    struct heap_saved *heap;
    struct saved_page *touched;
    struct window window[WINDOWS];
};

static unsigned char *frame(uint32_t page)
{
    return (unsigned char *)host_frame_table + page * xen_page_info_size;
}

struct memory_saved *memory_save(void)
{
    struct memory_saved *s = calloc(1, sizeof(*s));

    if ( !s )
        return NULL;

    s->touched_nr = state.touched_nr;
    s->windows_mapped = state.windows_mapped;
    s->heap = heap_save();
    s->touched = malloc((s->touched_nr + 1) * sizeof(*s->touched));
    s->frames = malloc((s->touched_nr + 1) * xen_page_info_size);
    memcpy(s->window, window, sizeof(window));
    if ( !s->heap || !s->touched || !s->frames )
    {
        memory_saved_free(s);
        return NULL;
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
    heap_saved_free(s->heap);
    free(s->touched);
    free(s->frames);
    free(s);
}

/* Called before the state itself is put back: it still tells what to undo. */
void memory_restore(const struct memory_saved *s)
{
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

    heap_restore(s->heap);

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

/* By the sum: in which order pages were first used makes no difference. */
uint64_t memory_hash(void)
{
    uint64_t sum = 0;
    uint32_t n;

    for ( n = 0; n < state.touched_nr; n++ )
    {
        uint32_t page = touched[n];
        uint64_t hash = page | (uint64_t)xen_refs[page] << 32;

        hash = hash_of(hash, frame(page), xen_page_info_size);
        if ( page >= HOST_XEN_PAGES )
            hash = hash_of(hash, view + page * HOST_PAGE_SIZE, HOST_PAGE_SIZE);
        sum += hash;
    }
    for ( n = 0; state.windows_mapped && n < WINDOWS; n++ )
        if ( window[n].mapped )
        {
            uint64_t pair = window[n].page | (uint64_t)n << 32;

            sum += hash_of(0, &pair, sizeof(pair));
        }

    return sum;
}
