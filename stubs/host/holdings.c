/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who holds what: what Xen took while it worked for a guest, and has not given
 * back. Blocks, pages and mappings know it themselves; references to domains
 * are kept here.
 */
#include <string.h>

#include "internal.h"

/* References to domains, all from one place together. */
#define DOMAIN_REFS 64
struct domain_ref {
    ffashim_holding by;
    const void *d;
};

static struct {
    struct domain_ref refs[DOMAIN_REFS];
    uint32_t nr;
} state MACHINE_STATE;

/* All references from one place in one call of one guest share an entry. */
void host_domain_get(const void *d)
{
    struct domain_ref by = {
        cpu_takes(FFASHIM_DOMAIN_REF, __builtin_return_address(0)), d
    };
    uint32_t n;

    for ( n = 0; n < state.nr; n++ )
    {
        const struct domain_ref *r = &state.refs[n];

        if ( r->d == d && r->by.caller == by.by.caller &&
             r->by.owner == by.by.owner && r->by.call == by.by.call )
            break;
    }
    if ( n < state.nr )
        state.refs[n].by.count++;
    else if ( n < DOMAIN_REFS )
        state.refs[state.nr++] = by;
}

/* Which one is given back nobody can tell: the last one of this domain. */
void host_domain_put(const void *d)
{
    for ( uint32_t n = state.nr; n--; )
    {
        struct domain_ref *r = &state.refs[n];

        if ( r->d != d )
            continue;
        if ( !--r->by.count )
            memmove(r, r + 1, (--state.nr - n) * sizeof(*r));
        return;
    }
}

void holdings_add(struct holdings *h, const ffashim_holding *by)
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

    heap_holdings(&h);
    memory_holdings(&h);
    for ( uint32_t n = 0; n < state.nr; n++ )
        holdings_add(&h, &state.refs[n].by);

    return h.nr;
}
