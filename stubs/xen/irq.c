/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Interrupts: those that Xen requests and the secure world raises, and those
 * that Xen injects into guests, which are only recorded.
 */
#include <xen/errno.h>
#include <xen/irq.h>
#include <xen/sched.h>

#include <asm/gic.h>

#include "machine.h"

#define IRQS 1020            /* SGIs, PPIs and SPIs of a GIC                 */

/* Older trees hand the interrupted registers to a handler as well. */
typedef void (*handler_t)(int irq, void *dev, struct cpu_user_regs *regs);

struct action {
    handler_t handler;
    void *dev;
};

/* SGIs and PPIs are private to a CPU. */
static struct action private_actions[FFASHIM_CPUS][32];
static struct action shared_actions[IRQS - 32];

static struct action *action_of(unsigned int irq, unsigned int cpu)
{
    if ( irq < 32 )
        return &private_actions[cpu][irq];

    return irq < IRQS ? &shared_actions[irq - 32] : NULL;
}

int request_irq(unsigned int irq, unsigned int irqflags,
                typeof(((struct irqaction *)0)->handler) handler,
                const char *devname, void *dev_id)
{
    struct action *action = action_of(irq, host_cpu);

    if ( !action || !handler )
        return -EINVAL;
    if ( action->handler )
        return -EBUSY;

    *action = (struct action){ (handler_t)(void *)handler, dev_id };

    return 0;
}

void release_irq(unsigned int irq, const void *dev_id)
{
    struct action *action = action_of(irq, host_cpu);

    if ( action )
        *action = (struct action){ };
}

int irq_set_type(unsigned int irq, unsigned int type)
{
    return 0;
}

bool xen_irq_requested(unsigned int irq, unsigned int cpu)
{
    const struct action *action = action_of(irq, cpu);

    return action && action->handler;
}

void irq_deliver(unsigned int irq)
{
    const struct action *action = action_of(irq, host_cpu);

    if ( action && action->handler )
        action->handler(irq, action->dev, guest_cpu_user_regs());
}

void vgic_inject_irq(struct domain *d, struct vcpu *v, unsigned int virq,
                     bool level)
{
    if ( !v )
        host_fault(FFASHIM_WILD, NULL, 0,
                   "vgic_inject_irq(%u) without a vCPU", virq);

    /* As in the tree: a falling level makes nothing pending. */
    if ( !level )
        return;

    host_event(FFASHIM_EVENT_VIRQ, d->domain_id, v->vcpu_id, virq);
}
