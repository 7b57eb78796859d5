/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Domains: struct domain and struct vcpu are the tree's, their life follows
 * domain_create(), domain_kill() and complete_domain_destroy() of
 * common/domain.c as far as the mediator can tell, in the same order.
 */
#include <xen/errno.h>
#include <xen/lib.h>
#include <xen/mm.h>
#include <xen/rcupdate.h>
#include <xen/sched.h>
#include <xen/xmalloc.h>

#include <asm/tee/tee.h>
#include <public/domctl.h>

#include "machine.h"

/* Not every tree has this one: where it is absent, teardown does its work. */
void tee_free_domain_ctx(struct domain *d) __attribute__((__weak__));

struct p2m_entry {
    unsigned long gfn, mfn;
    enum ffashim_p2m type;
};

struct slot {
    struct domain *d;        /* until it is freed                            */
    uint32_t owner;          /* its number: no other domain ever has it      */
    bool listed;             /* can be looked up by its ID                   */
    bool torn_down;          /* domain_teardown() is done                     */
    unsigned long ram_base, ram_pages, ram_mfn;
    struct p2m_entry *p2m;   /* what differs from plain RAM                  */
    unsigned int p2m_nr, p2m_max;
};

/* The few first are looked at far more often than the rest. */
static struct slot slots[FFASHIM_DOMAINS];
static unsigned int slots_used;

struct xen_domain xen_new_domain;
unsigned int nr_cpu_ids = FFASHIM_CPUS;
cpumask_t cpu_online_map = { { (1UL << FFASHIM_CPUS) - 1 } };

static struct domain idle_domain;
static struct vcpu idle_vcpus[FFASHIM_CPUS];

DEFINE_PER_CPU(unsigned int, cpu_id);
DEFINE_PER_CPU(struct vcpu *, curr_vcpu);
DEFINE_PER_CPU(unsigned int, __preempt_count);
DEFINE_PER_CPU(unsigned int, rcu_lock_cnt);

struct domain *hardware_domain;
struct vcpu *idle_vcpu[NR_CPUS];

/* ---- Slots --------------------------------------------------------------- */

struct domain *domain_of_slot(unsigned int slot)
{
    return slot < slots_used ? slots[slot].d : NULL;
}

bool xen_domain_exists(unsigned int slot)
{
    return domain_of_slot(slot);
}

uint32_t xen_last_owner;

uint32_t xen_domain_owner(unsigned int slot)
{
    return slot < slots_used ? slots[slot].owner : 0;
}

int64_t xen_domid_of_owner(uint32_t owner)
{
    for ( unsigned int n = 0; n < slots_used; n++ )
        if ( slots[n].d && (uint16_t)slots[n].owner == owner )
            return slots[n].d->domain_id;

    return -1;
}

static struct slot *slot_of_domain(const struct domain *d)
{
    for ( unsigned int n = 0; n < slots_used; n++ )
        if ( slots[n].d == d )
            return &slots[n];

    return NULL;
}

static struct domain *listed_domain(domid_t id)
{
    for ( unsigned int n = 0; n < slots_used; n++ )
        if ( slots[n].listed && slots[n].d->domain_id == id )
            return slots[n].d;

    return NULL;
}

void idle_init(void)
{
    idle_domain.domain_id = DOMID_IDLE;

    for ( unsigned int cpu = 0; cpu < FFASHIM_CPUS; cpu++ )
    {
        idle_vcpus[cpu].domain = &idle_domain;
        idle_vcpus[cpu].vcpu_id = cpu;
        idle_vcpu[cpu] = &idle_vcpus[cpu];
    }
}

void idle_enter(void)
{
    set_current(&idle_vcpus[host_cpu]);
}

/* ---- Look-up ------------------------------------------------------------- */

/*
 * The observed code ends the read section: that of another domain only, as
 * rcu_lock_domain() has it.
 */
static struct domain *lock_domain(domid_t id, const void *caller)
{
    struct domain *d = listed_domain(id);

    if ( d && d != current->domain )
        host_rcu_enter(caller);
    FFASHIM_POINT(FFASHIM_POINT_ATOMIC, d);

    return d ? rcu_lock_domain(d) : NULL;
}

static void unlock_domain(struct domain *d)
{
    bool idle = d != current->domain && host_rcu_leave();

    rcu_unlock_domain(d);
    xen_rcu_left(idle);
}

struct domain *rcu_lock_domain_by_id(domid_t id)
{
    return lock_domain(id, __builtin_return_address(0));
}

int rcu_lock_live_remote_domain_by_id(domid_t id, struct domain **d)
{
    *d = lock_domain(id, __builtin_return_address(0));
    if ( !*d )
        return -ESRCH;

    if ( *d == current->domain )
    {
        unlock_domain(*d);
        return -EPERM;
    }

    if ( (*d)->is_dying )
    {
        unlock_domain(*d);
        return -EINVAL;
    }

    return 0;
}

/* ---- Guest RAM ----------------------------------------------------------- */

static const struct slot *slot_of_page(unsigned long mfn)
{
    for ( unsigned int n = 0; n < slots_used; n++ )
        if ( mfn - slots[n].ram_mfn < slots[n].ram_pages )
            return &slots[n];

    return NULL;
}

struct domain *page_owner_at(unsigned long mfn)
{
    const struct slot *s = slot_of_page(mfn);

    return s ? s->d : NULL;
}

uint32_t xen_page_owner(unsigned long mfn)
{
    const struct slot *s = slot_of_page(mfn);

    return s ? s->owner : 0;
}

static struct p2m_entry *p2m_entry_of(const struct slot *s, unsigned long gfn)
{
    for ( unsigned int n = 0; n < s->p2m_nr; n++ )
        if ( s->p2m[n].gfn == gfn )
            return &s->p2m[n];

    return NULL;
}

static unsigned long lookup(const struct slot *s, unsigned long gfn,
                            enum ffashim_p2m *type)
{
    const struct p2m_entry *e = p2m_entry_of(s, gfn);

    if ( e )
    {
        *type = e->type;
        return e->mfn;
    }

    if ( gfn - s->ram_base < s->ram_pages )
    {
        *type = FFASHIM_P2M_RAM_RW;
        return s->ram_mfn + (gfn - s->ram_base);
    }

    *type = FFASHIM_P2M_UNMAPPED;

    return 0;
}

unsigned long p2m_lookup_slot(struct domain *d, unsigned long gfn,
                              enum ffashim_p2m *type)
{
    return lookup(slot_of_domain(d), gfn, type);
}

unsigned long xen_p2m_get(unsigned int slot, uint64_t gfn,
                          enum ffashim_p2m *type)
{
    return lookup(&slots[slot], gfn, type);
}

int xen_p2m_set(unsigned int slot, uint64_t gfn, enum ffashim_p2m type,
                unsigned long mfn)
{
    struct slot *s = &slots[slot];
    struct p2m_entry *e = p2m_entry_of(s, gfn);

    if ( !e && s->p2m_nr == s->p2m_max )
    {
        unsigned int max = s->p2m_max ? s->p2m_max * 2 : 16;
        struct p2m_entry *grown = host_heap_alloc(max * sizeof(*grown), 16,
                                                  NULL);

        if ( !grown )
            return -ENOMEM;
        if ( s->p2m )
        {
            memcpy(grown, s->p2m, s->p2m_nr * sizeof(*grown));
            host_heap_free(s->p2m, NULL);
        }
        s->p2m = grown;
        s->p2m_max = max;
    }

    if ( !e )
        e = &s->p2m[s->p2m_nr++];
    *e = (struct p2m_entry){ gfn, mfn, type };

    return 0;
}

/* ---- Birth --------------------------------------------------------------- */

static void free_tee_ctx(struct domain *d)
{
    if ( tee_free_domain_ctx )
        tee_free_domain_ctx(d);
}

static void free_vcpus(struct domain *d)
{
    for ( unsigned int n = 0; n < d->max_vcpus; n++ )
        if ( d->vcpu[n] )
            host_heap_free(d->vcpu[n], NULL);

    d->max_vcpus = 0;
    if ( d->vcpu )
        host_heap_free(d->vcpu, NULL);
    d->vcpu = NULL;
}

static void domain_free(struct domain *d)
{
    struct slot *s = slot_of_domain(d);

    free_vcpus(d);
    if ( s->p2m )
        host_heap_free(s->p2m, NULL);
    *s = (struct slot){ };
    host_heap_free(d, NULL);
}

/* The machine's own memory never fails: the test fails Xen's allocations. */
static void *alloc_zeroed(size_t size, size_t align)
{
    void *p = host_heap_alloc(size, align, NULL);

    return p ? memset(p, 0, size) : NULL;
}

static int tee_init_domain(struct domain *d, const struct xen_domain *how)
{
    uint16_t type = how->tee ? XEN_DOMCTL_CONFIG_TEE_FFA
                             : XEN_DOMCTL_CONFIG_TEE_NONE;

    /* arch_sanitise_domain_config() */
    if ( how->tee && tee_get_type() != type )
        return -EINVAL;

    return tee_domain_init(d, type);
}

static int create_vcpus(struct domain *d, unsigned int nr)
{
    for ( unsigned int v = 0; v < nr; v++ )
    {
        d->vcpu[v] = alloc_zeroed(sizeof(struct vcpu), __alignof__(struct vcpu));
        if ( !d->vcpu[v] )
            return -ENOMEM;
        d->vcpu[v]->domain = d;
        d->vcpu[v]->vcpu_id = v;
        if ( v )
            d->vcpu[v - 1]->next_in_list = d->vcpu[v];
    }

    return 0;
}

int64_t domain_create_slot(const struct xen_domain *how)
{
    unsigned int n;
    struct slot *s;
    struct domain *d;
    unsigned long ram;
    bool created;                          /* as far as arch_domain_create() */
    int rc;

    for ( n = 0; n < slots_used && slots[n].d; n++ )
        ;
    if ( n == FFASHIM_DOMAINS )
        return -ENOSPC;
    if ( listed_domain(how->id) )
        return -EEXIST;

    ram = host_alloc_guest_pages(how->ram_pages);
    if ( !ram )
        return -ENOMEM;

    d = alloc_zeroed(sizeof(*d), __alignof__(*d));
    if ( d && !(d->vcpu = alloc_zeroed(how->vcpus * sizeof(*d->vcpu),
                                       __alignof__(*d->vcpu))) )
    {
        host_heap_free(d, NULL);
        d = NULL;
    }
    if ( !d )
    {
        host_free_guest_pages(ram, how->ram_pages);
        return -ENOMEM;
    }

    s = &slots[n];
    *s = (struct slot){ .d = d, .owner = ++xen_last_owner };
    host_works_for(s->owner);
    if ( n == slots_used )
        slots_used++;

    d->domain_id = how->id;
    d->max_vcpus = how->vcpus;
    atomic_set(&d->refcnt, 1);
    RCU_READ_LOCK_INIT(&d->rcu_lock);

    rc = tee_init_domain(d, how);
    created = !rc;
    if ( created && how->fail_late )
        rc = -ENOMEM;
    if ( !rc )
        rc = create_vcpus(d, how->vcpus);

    if ( rc )
    {
        /* arch_domain_create() cleans up after itself, ... */
        d->is_dying = DOMDYING_dead;
        if ( !created )
            free_tee_ctx(d);
        /* ... and then domain_create() does, in this order. */
        atomic_set(&d->refcnt, DOMAIN_DESTROYED);
        free_vcpus(d);
        if ( created )
            free_tee_ctx(d);
        tee_domain_teardown(d);
        domain_free(d);
        host_free_guest_pages(ram, how->ram_pages);

        return rc;
    }

    s->listed = true;

    /* The toolstack populates RAM, and sets the width, once it exists. */
    s->ram_base = how->ram_base;
    s->ram_pages = how->ram_pages;
    s->ram_mfn = ram;
    FFASHIM_DOMAIN_TYPE(d) = how->aarch64 ? DOMAIN_64BIT : DOMAIN_32BIT;

    return n;
}

bool xen_vcpu_set_online(unsigned int slot, unsigned int vcpu, bool online)
{
    struct domain *d = domain_of_slot(slot);

    if ( !d || vcpu >= d->max_vcpus )
        return false;

    if ( online )
        clear_bit(_VPF_down, &d->vcpu[vcpu]->pause_flags);
    else
        set_bit(_VPF_down, &d->vcpu[vcpu]->pause_flags);

    return true;
}

/* ---- Death --------------------------------------------------------------- */

static void complete_domain_destroy(struct rcu_head *head)
{
    struct domain *d = container_of(head, struct domain, rcu);

    /* arch_domain_destroy() */
    free_tee_ctx(d);
    domain_free(d);
}

void domain_destroy(struct domain *d)
{
    if ( atomic_cmpxchg(&d->refcnt, 0, DOMAIN_DESTROYED) != 0 )
        return;

    slot_of_domain(d)->listed = false;
    call_rcu(&d->rcu, complete_domain_destroy);
}

/* A reference to @page is gone; with the last, the domain has a page less. */
void domain_page_put(struct page_info *page)
{
    struct domain *d = page_get_owner(page);

    if ( page->count_info & PGC_count_mask )
        return;

    page->count_info = 0;
    page_set_owner(page, NULL);
    if ( d && d->is_dying )
        put_domain(d);
}

static int until_done(int (*stage)(struct domain *d), struct domain *d)
{
    int rc = -ERESTART;

    for ( unsigned int tries = 0; rc == -ERESTART && tries < 1000; tries++ )
        rc = stage(d);

    return rc;
}

int64_t domain_kill_slot(unsigned int slot)
{
    struct domain *d = domain_of_slot(slot);
    struct slot *s = &slots[slot];
    int rc;

    if ( !d )
        return -ESRCH;

    if ( d->is_dying == DOMDYING_dead )
        return 0;

    /* Xen pauses the domain first, and so waits for the end of its calls. */
    for ( unsigned int cpu = 0; cpu < FFASHIM_CPUS; cpu++ )
        if ( per_cpu(curr_vcpu, cpu)->domain == d )
            return -EBUSY;

    host_works_for(s->owner);
    d->is_dying = DOMDYING_dying;

    /*
     * domain_teardown() and domain_relinquish_resources(). The toolstack calls
     * again where either asks for it; each remembers that it is done.
     */
    if ( !s->torn_down )
    {
        rc = until_done(tee_domain_teardown, d);
        if ( rc )
            return rc;
        s->torn_down = true;
    }
    rc = until_done(tee_relinquish_resources, d);
    if ( rc )
        return rc;

    /*
     * relinquish_memory() drops the reference that keeps a page allocated. A
     * page that somebody still holds keeps the domain from being freed.
     */
    for ( unsigned long n = 0; n < s->ram_pages; n++ )
    {
        struct page_info *pg = mfn_to_page(_mfn(s->ram_mfn + n));

        if ( !(pg->count_info & PGC_allocated) )
            continue;
        pg->count_info = (pg->count_info & ~PGC_allocated) - 1;
        if ( pg->count_info & PGC_count_mask )
            atomic_inc(&d->refcnt);
        else
            page_set_owner(pg, NULL);
    }

    d->is_dying = DOMDYING_dead;
    put_domain(d);

    return 0;
}
