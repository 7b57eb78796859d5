/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Interrupts: those that Xen requests and the secure world raises, and those
 * that Xen injects into guests, which are only recorded.
 */
#include <xen/errno.h>
#include <xen/irq.h>
#include <xen/irq_cpustat.h>
#include <xen/sched.h>
#include <xen/xmalloc.h>

#include <asm/gic.h>

#include "machine.h"

#define LOCAL 32             /* SGIs and PPIs                                */
#define LINES 1020           /* SGIs, PPIs and SPIs of the largest GIC       */

/* Xen's own SGIs come first: what follows them has had two names. */
#define STATIC_SGIS (GIC_SGI_CALL_FUNCTION + 1)

/* Extended SPIs follow the others in the tables below. */
#ifdef CONFIG_GICV3_ESPI
#define ENTRIES (NR_IRQS + NR_ESPI_IRQS)
#else
#define ENTRIES NR_IRQS
#endif

typedef typeof(((struct irqaction *)0)->handler) handler_t;

/* Older trees hand the interrupted registers to a handler as well. */
typedef void (*handler2_t)(int irq, void *dev);
typedef void (*handler3_t)(int irq, void *dev, struct cpu_user_regs *regs);

struct action {
    handler_t handler;
    void *dev;
    struct irqaction *memory;        /* Xen's own copy, which may not be had */
};

irq_cpustat_t irq_stat[NR_CPUS];

/* How each interrupt triggers, once somebody has said so. */
static struct {
    bool set;
    unsigned int type;
} types[ENTRIES];

/* SGIs and PPIs are private to a CPU. */
static struct action private_actions[FFASHIM_CPUS][LOCAL];
static struct action shared_actions[ENTRIES - LOCAL];

/* ENTRIES for what has no descriptor. */
static unsigned int entry_of(unsigned int irq)
{
#ifdef CONFIG_GICV3_ESPI
    if ( irq >= ESPI_BASE_INTID && irq <= ESPI_MAX_INTID )
        return NR_IRQS + irq - ESPI_BASE_INTID;
#endif

    return irq < NR_IRQS ? irq : ENTRIES;
}

static struct action *action_of(unsigned int irq, unsigned int cpu)
{
    unsigned int entry = entry_of(irq);

    if ( irq < LOCAL )
        return &private_actions[cpu][irq];

    return entry < ENTRIES ? &shared_actions[entry - LOCAL] : NULL;
}

unsigned int gic_number_lines(void)
{
    return LINES;
}

#ifdef CONFIG_GICV3_ESPI
unsigned int gic_number_espis(void)
{
    return NR_ESPI_IRQS;
}
#endif

int request_irq(unsigned int irq, unsigned int irqflags, handler_t handler,
                const char *devname, void *dev_id)
{
    struct action *action = action_of(irq, host_cpu);
    struct irqaction *memory;

    if ( !action || !handler || action->handler )
        return -EINVAL;

    /* As gic_route_irq_to_xen() has it: such a line does not exist. */
    ASSERT(irq < LINES || irq >= NR_IRQS);

    memory = xmalloc(struct irqaction);
    if ( !memory )
        return -ENOMEM;

    *action = (struct action){ handler, dev_id, memory };

    return 0;
}

void release_irq(unsigned int irq, const void *dev_id)
{
    struct action *action = action_of(irq, host_cpu);

    if ( !action )
        return;

    xfree(action->memory);
    *action = (struct action){ };
}

/* Xen looks up the descriptor of an SPI without a look at its number. */
int irq_set_type(unsigned int irq, unsigned int type)
{
    unsigned int entry = entry_of(irq);

    if ( entry == ENTRIES )
        host_fault(FFASHIM_WILD, NULL, 0,
                   "irq_set_type(%u): the descriptors end at interrupt %u",
                   irq, NR_IRQS - 1);

    if ( types[entry].set && types[entry].type != type )
        return -EBUSY;

    types[entry].set = true;
    types[entry].type = type;

    return 0;
}

bool xen_irq_requested(unsigned int irq, unsigned int cpu)
{
    const struct action *action = action_of(irq, cpu);

    return action && action->handler;
}

int xen_irq_type(unsigned int irq)
{
    unsigned int entry = entry_of(irq);

    return entry < ENTRIES && types[entry].set ? (int)types[entry].type : -1;
}

void irq_deliver(unsigned int irq)
{
    const struct action *action = action_of(irq, host_cpu);

    /* As gic_interrupt() has it: Xen's own SGIs are no handler's. */
    if ( irq < STATIC_SGIS || !action || !action->handler )
        return;

    irq_enter();
    host_irq(true);
    if ( __builtin_types_compatible_p(handler_t, handler2_t) )
        ((handler2_t)(void *)action->handler)(irq, action->dev);
    else
        ((handler3_t)(void *)action->handler)(irq, action->dev,
                                              guest_cpu_user_regs());
    host_irq(false);
    irq_exit();
}

void vgic_inject_irq(struct domain *d, struct vcpu *v, unsigned int virq,
                     bool level)
{
    /* As in the tree: a falling level makes nothing pending. */
    if ( !level )
        return;

    if ( !v )
        host_fault(FFASHIM_WILD, NULL, 0,
                   "vgic_inject_irq(%u) without a vCPU", virq);

    /* Nor does anything on a vCPU that is offline. */
    if ( test_bit(_VPF_down, &v->pause_flags) )
        return;

    host_event(FFASHIM_EVENT_VIRQ, d->domain_id, v->vcpu_id, virq);
}
