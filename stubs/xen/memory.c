/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Xen's view of memory: its heap, page references, the p2m of each domain and
 * the mappings of guest pages. struct page_info is the tree's own and so is
 * the meaning of its reference count.
 */
#include <xen/domain_page.h>
#include <xen/irq.h>
#include <xen/lib.h>
#include <xen/mm.h>
#include <xen/sched.h>
#include <xen/xmalloc.h>

#include <asm/p2m.h>

#include <ffashim/xen.h>

#include "machine.h"

/* Both bases start at the first page of RAM: PDX and MFN are the same. */
vaddr_t directmap_virt_start;
unsigned long directmap_base_pdx = HOST_RAM_MFN;
unsigned long frametable_base_pdx = HOST_RAM_MFN;

/* Trees of before 2024 compress page numbers unless they are told not to: here there is no hole. */
unsigned long pfn_pdx_bottom_mask = ~0UL, ma_va_bottom_mask = ~0UL;
unsigned int pfn_pdx_hole_shift;
unsigned long pfn_hole_mask, pfn_top_mask, ma_top_mask;
unsigned long frametable_virt_end;
unsigned long max_page = HOST_RAM_MFN + HOST_RAM_PAGES;

struct domain *dom_xen, *dom_io;

const size_t xen_page_info_size = sizeof(struct page_info);

bool __mfn_valid(unsigned long mfn)
{
    return mfn - HOST_RAM_MFN < HOST_RAM_PAGES;
}

/* ---- The heap ------------------------------------------------------------ */

/* Nothing is allocated or freed in an interrupt, or with interrupts off. */

static void *heap_alloc(unsigned long size, unsigned long align, void *caller,
                        bool zero)
{
    void *p;

    ASSERT_ALLOC_CONTEXT();

    p = host_heap_alloc(size, align, caller);

    if ( p && zero )
        memset(p, 0, size);

    return p;
}

void *_xmalloc(unsigned long size, unsigned long align)
{
    return heap_alloc(size, align, __builtin_return_address(0), false);
}

void *_xzalloc(unsigned long size, unsigned long align)
{
    return heap_alloc(size, align, __builtin_return_address(0), true);
}

void xfree(void *p)
{
    ASSERT_ALLOC_CONTEXT();

    /* As in the tree: a size of zero yields this pointer, not NULL. */
    if ( p && p != ZERO_BLOCK_PTR )
        host_heap_free(p, __builtin_return_address(0));
}

void *alloc_xenheap_pages(unsigned int order, unsigned int memflags)
{
    ASSERT_ALLOC_CONTEXT();

    return host_alloc_pages(order, __builtin_return_address(0));
}

void free_xenheap_pages(void *v, unsigned int order)
{
    ASSERT_ALLOC_CONTEXT();

    if ( v )
        host_free_pages(v, order, __builtin_return_address(0));
}

/* ---- References to pages ------------------------------------------------- */

static struct page_info *page_of(unsigned long mfn)
{
    return mfn_to_page(_mfn(mfn));
}

/* A page of guest RAM as the toolstack's populate_physmap leaves it. */
void xen_page_init(unsigned long mfn)
{
    struct page_info *pg = page_of(mfn);

    if ( pg->count_info )
        return;

    pg->count_info = PGC_allocated | 1;
    page_set_owner(pg, page_owner_at(mfn));
}

static bool take_page(struct page_info *page, const struct domain *domain,
                      const void *caller)
{
    unsigned long mfn = mfn_x(page_to_mfn(page));

    FFASHIM_POINT(FFASHIM_POINT_ATOMIC, &page->count_info);

    /* No reference can be taken to a page that nobody holds. */
    if ( !(page->count_info & PGC_count_mask) ||
         page_get_owner(page) != domain )
        return false;

    if ( (page->count_info & PGC_count_mask) == PGC_count_mask )
        return false;

    page->count_info++;
    host_page_refs(mfn, 1, caller);

    return true;
}

bool get_page(struct page_info *page, const struct domain *domain)
{
    return take_page(page, domain, __builtin_return_address(0));
}

void put_page(struct page_info *page)
{
    unsigned long mfn = mfn_x(page_to_mfn(page));

    FFASHIM_POINT(FFASHIM_POINT_ATOMIC, &page->count_info);

    /* The one that keeps the page allocated is not the mediator's to drop. */
    if ( !host_page_refs_of(mfn) )
        host_fault(FFASHIM_MEMORY, NULL, 0,
                   "put_page() of page %#lx, to which Xen has no reference "
                   "left", mfn);

    page->count_info--;
    host_page_refs(mfn, -1, NULL);
    domain_page_put(page);
}

/* ---- The p2m ------------------------------------------------------------- */

struct page_info *p2m_get_page_from_gfn(struct domain *d, gfn_t gfn,
                                        p2m_type_t *t)
{
    enum ffashim_p2m type;
    unsigned long mfn = p2m_lookup_slot(d, gfn_x(gfn), &type);
    static const p2m_type_t types[] = {
        [FFASHIM_P2M_RAM_RW]   = p2m_ram_rw,
        [FFASHIM_P2M_RAM_RO]   = p2m_ram_ro,
        [FFASHIM_P2M_UNMAPPED] = p2m_invalid,
        [FFASHIM_P2M_MMIO]     = p2m_mmio_direct_dev,
        [FFASHIM_P2M_FOREIGN]  = p2m_map_foreign_rw,
        [FFASHIM_P2M_GRANT]    = p2m_grant_map_rw,
    };
    const void *caller = __builtin_return_address(0);
    struct page_info *page;

    FFASHIM_POINT(FFASHIM_POINT_ATOMIC, d);

    if ( t )
        *t = types[type];

    /* As the tree has it: only what is RAM or foreign has a page to give. */
    if ( type == FFASHIM_P2M_UNMAPPED || type == FFASHIM_P2M_MMIO ||
         !__mfn_valid(mfn) )
        return NULL;

    host_page_touch(mfn);
    xen_page_init(mfn);
    page = page_of(mfn);

    /* A foreign page is held in the name of the domain that owns it. */
    if ( type == FFASHIM_P2M_FOREIGN )
        d = page_get_owner(page);

    return take_page(page, d, caller) ? page : NULL;
}

/* ---- Mappings ------------------------------------------------------------ */

void *map_domain_page_global(mfn_t mfn)
{
    return host_map_window(mfn_x(mfn), __builtin_return_address(0));
}

void unmap_domain_page_global(const void *va)
{
    host_unmap_window(va);
}

void *map_domain_page(mfn_t mfn)
{
    return host_map_window(mfn_x(mfn), __builtin_return_address(0));
}

void unmap_domain_page(const void *va)
{
    host_unmap_window(va);
}
