/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * printk_ratelimit(), with Xen's defaults. On its own and without Xen's
 * headers: its result type differs between trees.
 */
#include <xen/types.h>

#include <ffashim/host.h>

/* Ten messages at once, then one every five seconds. */
#define BURST       10
#define INTERVAL_NS (5000 * 1000000LL)

unsigned long printk_ratelimit(void);

static int64_t tokens = BURST * INTERVAL_NS;
static int64_t last;

unsigned long printk_ratelimit(void)
{
    int64_t now = host_now();

    tokens += now - last;
    last = now;
    if ( tokens > BURST * INTERVAL_NS )
        tokens = BURST * INTERVAL_NS;

    if ( tokens < INTERVAL_NS )
        return false;
    tokens -= INTERVAL_NS;

    return true;
}
