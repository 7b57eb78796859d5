/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Spinlocks and the slow paths of rwlocks. The host half keeps the account of
 * who holds what, so no field of Xen's lock structures is read or written.
 *
 * Xen's own headers are left out on purpose: the constness and the result type
 * of these functions differ between trees, their calling convention does not.
 */
#include <xen/types.h>

#include <ffashim/host.h>

void _spin_lock(void *lock);
void _spin_lock_cb(void *lock, void (*cb)(void *data), void *data);
void _spin_lock_irq(void *lock);
unsigned long _spin_lock_irqsave(void *lock);
void _spin_unlock(void *lock);
void _spin_unlock_irq(void *lock);
void _spin_unlock_irqrestore(void *lock, unsigned long flags);
unsigned long _spin_is_locked(const void *lock);
unsigned long _spin_trylock(void *lock);
void _spin_barrier(void *lock);
void queue_read_lock_slowpath(void *lock);
void queue_write_lock_slowpath(void *lock);
void check_lock(void *debug, bool try);
void lock_enter(const void *debug);
void lock_exit(const void *debug);

void _spin_lock(void *lock)
{
    host_lock(lock, HOST_SPIN);
}

void _spin_lock_cb(void *lock, void (*cb)(void *data), void *data)
{
    host_lock(lock, HOST_SPIN);
}

unsigned long _spin_lock_irqsave(void *lock)
{
    unsigned long flags = host_irq_flags[host_cpu];

    host_irq_flags[host_cpu] |= HOST_DAIF_I;
    host_lock(lock, HOST_SPIN);

    return flags;
}

void _spin_lock_irq(void *lock)
{
    _spin_lock_irqsave(lock);
}

void _spin_unlock(void *lock)
{
    host_unlock(lock, HOST_SPIN);
}

void _spin_unlock_irqrestore(void *lock, unsigned long flags)
{
    host_unlock(lock, HOST_SPIN);
    host_irq_flags[host_cpu] = flags;
}

void _spin_unlock_irq(void *lock)
{
    _spin_unlock_irqrestore(lock, host_irq_flags[host_cpu] & ~HOST_DAIF_I);
}

unsigned long _spin_is_locked(const void *lock)
{
    return host_is_locked(lock);
}

unsigned long _spin_trylock(void *lock)
{
    return host_trylock(lock, HOST_SPIN);
}

void _spin_barrier(void *lock)
{
    host_lock(lock, HOST_SPIN);
    host_unlock(lock, HOST_SPIN);
}

/*
 * Reached only where a rwlock is taken by code that the machine does not
 * observe: the inline fast path has already lost, and nobody can wait here.
 */
void queue_read_lock_slowpath(void *lock)
{
    host_fault(FFASHIM_DEADLOCK, NULL, 0,
               "read_lock(%p) contends outside the observed code", lock);
}

void queue_write_lock_slowpath(void *lock)
{
    host_fault(FFASHIM_DEADLOCK, NULL, 0,
               "write_lock(%p) contends outside the observed code", lock);
}

/*
 * CONFIG_DEBUG_LOCKS: the account above sees more than these would. That a
 * lock is always taken with interrupts on, or always off, Xen checks only once
 * spin_debug_enable() was called, which no Arm code does.
 */
void check_lock(void *debug, bool try)
{
}

void lock_enter(const void *debug)
{
}

void lock_exit(const void *debug)
{
}
