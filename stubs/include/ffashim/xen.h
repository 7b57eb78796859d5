/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the Xen half of the machine (stubs/xen) offers to the host half and,
 * through it, to Python. Plain C types: both halves include it.
 */
#ifndef FFASHIM_XEN_H
#define FFASHIM_XEN_H

#include <ffashim/host.h>

#pragma GCC visibility push(hidden)

/* One job: something that a CPU of the machine does until it returns. */
struct xen_job {
    enum ffashim_job_kind kind;
    uint64_t a, b, c;
    uint64_t *regs;
    int64_t result;          /* slot, count, or -errno as Xen counts them    */
};

struct xen_domain {
    uint16_t id;
    uint16_t vcpus;
    bool aarch64;
    bool tee;                /* XEN_DOMCTL_CONFIG_TEE_FFA, else none         */
    uint64_t ram_base;       /* guest frame of its first page of RAM         */
    uint64_t ram_pages;
    bool fail_late;          /* domain_create() fails after the mediator     */
};

extern struct xen_domain xen_new_domain;
extern enum ffashim_conduit xen_conduit;
extern uint32_t smccc_ver;
extern const size_t xen_page_info_size;

void xen_run(struct xen_job *job);
void xen_at_rest(void);                     /* the part of host_at_rest()    */

bool xen_domain_exists(unsigned int slot);
uint32_t xen_domain_owner(unsigned int slot);   /* see ffashim_holding        */
int64_t xen_domid_of_owner(uint32_t owner);     /* modulo 2^16; -1 if gone     */
uint32_t xen_page_owner(unsigned long mfn);      /* ... of a page of RAM, or 0     */
extern uint32_t xen_last_owner;
bool xen_vcpu_set_online(unsigned int slot, unsigned int vcpu, bool online);
int xen_p2m_set(unsigned int slot, uint64_t gfn, enum ffashim_p2m type,
                unsigned long mfn);
unsigned long xen_p2m_get(unsigned int slot, uint64_t gfn,
                          enum ffashim_p2m *type);
void xen_page_init(unsigned long mfn);

bool xen_softirq_pending(void);
int64_t xen_next_timer(void);               /* when, LONG_MAX: none queued    */
unsigned int xen_timers(void);
const void *xen_timer_function(void);       /* of the next one, or NULL       */
/* What Xen has queued for later that lies in this memory, or NULL. */
const char *xen_queued_in(const void *start, size_t size);
bool xen_irq_requested(unsigned int irq, unsigned int cpu);
int xen_irq_type(unsigned int irq);           /* as last set, or -1             */

#pragma GCC visibility pop

#endif /* FFASHIM_XEN_H */
