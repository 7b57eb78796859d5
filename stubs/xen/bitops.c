/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Atomic bit operations: assembly in arch/arm/arm64/lib/bitops.c of the tree.
 * As there, they work on the 32-bit word that holds the bit.
 */
#include <xen/bitops.h>

#include <ffashim/host.h>

static volatile uint32_t *word(int nr, volatile void *p)
{
    FFASHIM_POINT(FFASHIM_POINT_ATOMIC, p);

    return (volatile uint32_t *)p + nr / 32;
}

static uint32_t bit(int nr)
{
    return (uint32_t)1 << (nr % 32);
}

void set_bit(int nr, volatile void *p)
{
    *word(nr, p) |= bit(nr);
}

void clear_bit(int nr, volatile void *p)
{
    *word(nr, p) &= ~bit(nr);
}

void change_bit(int nr, volatile void *p)
{
    *word(nr, p) ^= bit(nr);
}

int test_and_set_bit(int nr, volatile void *p)
{
    volatile uint32_t *w = word(nr, p);
    int old = !!(*w & bit(nr));

    *w |= bit(nr);

    return old;
}

int test_and_clear_bit(int nr, volatile void *p)
{
    volatile uint32_t *w = word(nr, p);
    int old = !!(*w & bit(nr));

    *w &= ~bit(nr);

    return old;
}

int test_and_change_bit(int nr, volatile void *p)
{
    volatile uint32_t *w = word(nr, p);
    int old = !!(*w & bit(nr));

    *w ^= bit(nr);

    return old;
}
