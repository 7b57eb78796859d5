/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Timers, tasklets and RCU callbacks: what Xen does later. Nothing of it runs
 * by itself; the test, or the machine between two calls, says when.
 */
#include <xen/lib.h>
#include <xen/rcupdate.h>
#include <xen/sched.h>
#include <xen/tasklet.h>
#include <xen/time.h>
#include <xen/timer.h>

#include "machine.h"

#define QUEUE_MAX 256

static struct timer *timers[QUEUE_MAX];
static unsigned int timers_nr;
static struct tasklet *tasklets[QUEUE_MAX];
static unsigned int tasklets_nr;
static struct rcu_head *callbacks, **callbacks_tail = &callbacks;

s_time_t get_s_time(void)
{
    return host_now();
}

/* ---- Timers -------------------------------------------------------------- */

void init_timer(struct timer *timer, void (*function)(void *data), void *data,
                unsigned int cpu)
{
    memset(timer, 0, sizeof(*timer));
    timer->function = function;
    timer->data = data;
    timer->cpu = cpu;
    timer->status = TIMER_STATUS_inactive;
}

static void timer_dequeue(struct timer *timer)
{
    unsigned int n;

    for ( n = 0; n < timers_nr && timers[n] != timer; n++ )
        ;
    if ( n == timers_nr )
        return;

    timers[n] = timers[--timers_nr];
}

void set_timer(struct timer *timer, s_time_t expires)
{
    if ( timer->status == TIMER_STATUS_killed )
        return;
    if ( timer->status == TIMER_STATUS_invalid )
        host_fault(FFASHIM_BUG, NULL, 0, "set_timer(%p) before init_timer()",
                   timer);

    timer_dequeue(timer);
    if ( timers_nr == QUEUE_MAX )
        host_fault(FFASHIM_MISUSE, NULL, 0, "more than %u timers are queued",
                   QUEUE_MAX);
    timer->expires = expires;
    timer->status = TIMER_STATUS_in_heap;
    timers[timers_nr++] = timer;
}

void stop_timer(struct timer *timer)
{
    timer_dequeue(timer);
    if ( timer->status == TIMER_STATUS_in_heap )
        timer->status = TIMER_STATUS_inactive;
}

void kill_timer(struct timer *timer)
{
    timer_dequeue(timer);
    timer->status = TIMER_STATUS_killed;
}

static struct timer *timer_next(void)
{
    struct timer *next = NULL;

    for ( unsigned int n = 0; n < timers_nr; n++ )
        if ( !next || timers[n]->expires < next->expires )
            next = timers[n];

    return next;
}

int64_t xen_next_timer(void)
{
    const struct timer *next = timer_next();

    return next ? next->expires : LONG_MAX;
}

const void *xen_timer_function(void)
{
    const struct timer *next = timer_next();

    return next ? (const void *)next->function : NULL;
}

unsigned int xen_timers(void)
{
    return timers_nr;
}

void timer_run_next(void)
{
    struct timer *next = timer_next();

    if ( !next )
        return;

    stop_timer(next);
    next->function(next->data);
}

/* ---- Tasklets ------------------------------------------------------------ */

void tasklet_init(struct tasklet *t, void (*func)(void *data), void *data)
{
    memset(t, 0, sizeof(*t));
    INIT_LIST_HEAD(&t->list);
    t->scheduled_on = -1;
    t->func = func;
    t->data = data;
}

void softirq_tasklet_init(struct tasklet *t, void (*func)(void *data),
                          void *data)
{
    tasklet_init(t, func, data);
    t->is_softirq = 1;
}

/* As in the tree, they run in the order in which they were scheduled. */
void tasklet_schedule(struct tasklet *t)
{
    if ( t->is_dead )
        return;

    for ( unsigned int n = 0; n < tasklets_nr; n++ )
        if ( tasklets[n] == t )
            return;

    if ( tasklets_nr == QUEUE_MAX )
        host_fault(FFASHIM_MISUSE, NULL, 0, "more than %u tasklets are queued",
                   QUEUE_MAX);
    tasklets[tasklets_nr++] = t;
}

void tasklet_schedule_on_cpu(struct tasklet *t, unsigned int cpu)
{
    tasklet_schedule(t);
}

static void tasklet_dequeue(const struct tasklet *t)
{
    unsigned int n, kept = 0;

    for ( n = 0; n < tasklets_nr; n++ )
        if ( tasklets[n] != t )
            tasklets[kept++] = tasklets[n];
    tasklets_nr = kept;
}

void tasklet_kill(struct tasklet *t)
{
    tasklet_dequeue(t);
    t->is_dead = true;
}

bool tasklet_pending_any(void)
{
    return tasklets_nr;
}

/* One that another CPU is running stays queued until that has returned. */
bool tasklet_run_all(void)
{
    unsigned int n = 0;
    bool ran = false;

    while ( n < tasklets_nr )
    {
        struct tasklet *t = tasklets[n];

        if ( t->is_running )
        {
            n++;
            continue;
        }
        tasklet_dequeue(t);
        t->is_running = true;
        t->func(t->data);
        t->is_running = false;
        ran = true;
        n = 0;
    }

    return ran;
}

/* ---- RCU ----------------------------------------------------------------- */

void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head))
{
    head->func = func;
    head->next = NULL;
    *callbacks_tail = head;
    callbacks_tail = &head->next;
}

bool rcu_pending_any(void)
{
    return callbacks;
}

/*
 * A read section has ended. Where no CPU is in one any more, a grace period
 * may end here: what the section protected is gone if it was given up.
 */
void xen_rcu_left(bool idle)
{
    if ( idle && callbacks )
        rcu_run_all();
}

/* A grace period has passed: no CPU is inside a read section. */
bool rcu_run_all(void)
{
    bool ran = callbacks;

    while ( callbacks )
    {
        struct rcu_head *head = callbacks;

        callbacks = head->next;
        if ( !callbacks )
            callbacks_tail = &callbacks;
        head->func(head);
    }

    return ran;
}

/* ---- Memory that goes away ----------------------------------------------- */

const char *xen_queued_in(const void *start, size_t size)
{
    unsigned long from = (unsigned long)start;

    for ( unsigned int n = 0; n < timers_nr; n++ )
        if ( (unsigned long)timers[n] - from < size )
            return "a timer";
    for ( unsigned int n = 0; n < tasklets_nr; n++ )
        if ( (unsigned long)tasklets[n] - from < size )
            return "a tasklet";
    for ( const struct rcu_head *head = callbacks; head; head = head->next )
        if ( (unsigned long)head - from < size )
            return "an RCU callback";

    return NULL;
}
