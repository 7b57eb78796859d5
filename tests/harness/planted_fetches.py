# SPDX-License-Identifier: GPL-2.0-only
"""Reads of a guest's page planted in a tree, as in planted.py: FFA_ID_GET makes the one in x1.

The page is at the address in x2. It holds a message: its size, its kind, words.
"""

from __future__ import annotations

from enum import IntEnum


class Read(IntEnum):
    """How the message is read, by the number in x1."""

    CHECKED_AND_READ_AGAIN = 1
    CHECKED_AND_KEPT = 2
    COMPARED_AND_COPIED = 3
    COPIED_AND_COMPARED = 4
    BACK = 5
    THROUGH_TWO_MAPPINGS = 6
    BYTE_BY_BYTE = 7
    NEIGHBOURS = 8
    HALVES_OF_A_WORD = 9
    STRUCT_COPIED_ONCE = 10
    SMALL_COPIES = 11
    STRUCT_COPIED_TWICE = 12
    STRING = 13
    ATOMIC = 14
    XENS_OWN_MEMORY = 15
    STRUCT_COPIED_BEFORE_A_BARRIER = 16
    COPIED_BY_MEMCPY = 17
    COPIED_BY_MEMCPY_BEFORE_A_BARRIER = 18


FUNCTIONS = """
struct plant_message { uint32_t size, kind, words[10]; };

static struct plant_message *plant_map(struct domain *d, uint64_t addr, struct page_info **pg)
{
    p2m_type_t t;

    *pg = get_page_from_gfn(d, addr >> PAGE_SHIFT, &t, P2M_ALLOC);

    return *pg ? __map_domain_page_global(*pg) : NULL;
}

static unsigned int noinline plant_sum(const struct plant_message *from, unsigned int n)
{
    struct plant_message m = *from;

    return m.size > 10 ? 0 : m.kind + m.words[n % 10] + m.size;
}

static unsigned int noinline plant_fenced_sum(const struct plant_message *from, unsigned int n)
{
    struct plant_message m = *from;

    barrier();

    return m.size > 10 ? 0 : m.kind + m.words[n % 10] + m.size;
}

static unsigned int noinline plant_copied_sum(const void *from, unsigned int n)
{
    struct plant_message m;

    memcpy(&m, from, sizeof(m));

    return m.size > 10 ? 0 : m.kind + m.words[n % 10] + m.size;
}

static unsigned int noinline plant_copied_fenced_sum(const void *from, unsigned int n)
{
    struct plant_message m;

    memcpy(&m, from, sizeof(m));
    barrier();

    return m.size > 10 ? 0 : m.kind + m.words[n % 10] + m.size;
}

static bool noinline plant_halves(const uint32_t *word)
{
    uint16_t low = *word & 0xffff, high = *word >> 16;

    return low == high;
}

static void plant(struct cpu_user_regs *regs, struct domain *d)
{
    uint64_t addr = get_user_reg(regs, 2);
    unsigned int n, sum = 0;
    struct plant_message copy = { }, *m, *again;
    struct page_info *pg, *same;
    unsigned char *block;
    size_t size;

    if ( !get_user_reg(regs, 1) )
        return;
    m = plant_map(d, addr, &pg);
    block = xzalloc_array(unsigned char, sizeof(*m));

    switch ( get_user_reg(regs, 1) )
    {
    case 1:
        if ( ACCESS_ONCE(m->size) <= sizeof(*m) )
            memcpy(block, m->words, ACCESS_ONCE(m->size));
        break;
    case 2:
        size = ACCESS_ONCE(m->size);
        if ( size <= sizeof(*m) )
            memcpy(block, m->words, size);
        break;
    case 3: size = 8 + (addr & 1); sum = memcmp(m, block, size); memcpy(block, m, size); break;
    case 4: memcpy(&copy, m, sizeof(copy)); sum = memcmp(m->words, block, 8 + (addr & 1)); break;
    case 5: ACCESS_ONCE(m->kind) = 3; sum = ACCESS_ONCE(m->kind); break;
    case 6:
        again = plant_map(d, addr, &same);
        sum = ACCESS_ONCE(m->kind) + ACCESS_ONCE(again->kind);
        unmap_domain_page_global(again);
        put_page(same);
        break;
    case 7:
        sum = ACCESS_ONCE(m->size);
        for ( n = 0; n < 8; n++ )
            sum += ACCESS_ONCE(((unsigned char *)m)[n]);
        break;
    case 8: sum = ACCESS_ONCE(m->size) + ACCESS_ONCE(m->kind); memcpy(block, m->words, 40); break;
    case 9: sum = plant_halves(&m->kind); break;
    case 10: sum = plant_sum(m, addr >> PAGE_SHIFT); break;
    case 11: memcpy(&copy.size, &m->size, 4); barrier(); memcpy(&sum, &m->size, 4); break;
    case 12: copy = *m; barrier(); *(struct plant_message *)block = *m; break;
    case 13: sum = strlen((char *)m) + ACCESS_ONCE(m->size); break;
    case 14: sum = read_atomic(&m->size); sum += read_atomic(&m->size); break;
    case 16: sum = plant_fenced_sum(m, addr >> PAGE_SHIFT); break;
    case 17: sum = plant_copied_sum(m, addr >> PAGE_SHIFT); break;
    case 18: sum = plant_copied_fenced_sum(m, addr >> PAGE_SHIFT); break;
    case 15:
        ACCESS_ONCE(block[0]) = 1;
        sum = ACCESS_ONCE(block[0]) + ACCESS_ONCE(block[0]);
        break;
    }

    printk("%u %u\\n", sum, copy.kind + block[0]);
    xfree(block);
    unmap_domain_page_global(m);
    put_page(pg);
}

"""
