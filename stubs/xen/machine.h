/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the Xen half ask of each other.
 */
#ifndef FFASHIM_MACHINE_H
#define FFASHIM_MACHINE_H

#include <xen/mm.h>
#include <xen/sched.h>

#include <ffashim/xen.h>

struct domain *domain_of_slot(unsigned int slot);
unsigned long p2m_lookup_slot(struct domain *d, unsigned long gfn,
                              enum ffashim_p2m *type);
struct domain *page_owner_at(unsigned long mfn);
void domain_page_put(struct page_info *page);
void idle_init(void);
void idle_enter(void);

int64_t domain_create_slot(const struct xen_domain *how);
int64_t domain_kill_slot(unsigned int slot);

void irq_deliver(unsigned int irq);
void timer_run_next(void);
bool tasklet_run_all(void);
void xen_rcu_left(bool idle);
bool rcu_run_all(void);
bool rcu_pending_any(void);
bool tasklet_pending_any(void);

#endif /* FFASHIM_MACHINE_H */
