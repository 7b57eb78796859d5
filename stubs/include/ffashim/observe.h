/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Included ahead of every file of the tree: places the machine's memory, and
 * lets the machine see what Xen does inline, without a function to stand in.
 */
#ifndef FFASHIM_OBSERVE_H
#define FFASHIM_OBSERVE_H

#include <xen/types.h>
#include <ffashim/host.h>

/*
 * Memory lies where the host put it. The tree's own page_to_maddr(),
 * mfn_to_virt(), virt_to_page() and so on follow from these two.
 */
#undef FRAMETABLE_VIRT_START
#undef DIRECTMAP_VIRT_START
#define FRAMETABLE_VIRT_START ((vaddr_t)host_frame_table)
#define DIRECTMAP_VIRT_START  ((vaddr_t)host_directmap)

#ifndef FFASHIM_STUBS /* the machine itself is not observed */

#include <xen/rcupdate.h>
#include <xen/rwlock.h>
#include <xen/string.h>

#include <asm/processor.h>

/*
 * Read-write locks are taken inline. The tree's own code takes them; the
 * machine waits first, so that it never spins, and keeps the account.
 */
#define FFASHIM_RW_SITE_(rw, l) \
    FFASHIM_SITE(#l, (uint32_t *)&(rw)->lock.tickets)
#define FFASHIM_RW_TAKE_(l, mode, take)                                 \
    do {                                                                \
        rwlock_t *rw_ = (l);                                            \
                                                                        \
        FFASHIM_RW_SITE_(rw_, l);                                       \
        host_lock(rw_, mode);                                           \
        take(rw_);                                                      \
    } while ( 0 )
#define FFASHIM_RW_TRY_(l, try) ({                                      \
    rwlock_t *rw_ = (l);                                                \
                                                                        \
    FFASHIM_RW_SITE_(rw_, l);                                           \
    try(rw_);                                                           \
})
#define FFASHIM_RW_DROP_(l, mode, drop)                                 \
    do {                                                                \
        rwlock_t *rw_ = (l);                                            \
                                                                        \
        drop(rw_);                                                      \
        host_unlock(rw_, mode);                                         \
    } while ( 0 )

static always_inline void ffashim_read_lock_(rwlock_t *l)
{
    read_lock(l);
}

static always_inline void ffashim_write_lock_(rwlock_t *l)
{
    write_lock(l);
}

static always_inline bool ffashim_read_trylock_(rwlock_t *l)
{
    if ( !host_trylock(l, HOST_READ) )
        return false;
    read_lock(l);

    return true;
}

static always_inline bool ffashim_write_trylock_(rwlock_t *l)
{
    if ( !host_trylock(l, HOST_WRITE) )
        return false;
    write_lock(l);

    return true;
}

static always_inline void ffashim_read_unlock_(rwlock_t *l)
{
    read_unlock(l);
}

static always_inline void ffashim_write_unlock_(rwlock_t *l)
{
    write_unlock(l);
}

static always_inline void ffashim_rwlock_init_(rwlock_t *l)
{
    rwlock_init(l);
}

#undef rwlock_init
#undef read_lock
#undef write_lock
#undef read_trylock
#undef write_trylock
#undef read_unlock
#undef write_unlock
#define rwlock_init(l) ({                                               \
    rwlock_t *rw_ = (l);                                                \
                                                                        \
    ffashim_rwlock_init_(rw_);                                          \
    host_lock_init((uint32_t *)&rw_->lock.tickets, #l, __FILE__, __LINE__); \
})
#define read_lock(l)    FFASHIM_RW_TAKE_(l, HOST_READ, ffashim_read_lock_)
#define write_lock(l)   FFASHIM_RW_TAKE_(l, HOST_WRITE, ffashim_write_lock_)
#define read_unlock(l)  FFASHIM_RW_DROP_(l, HOST_READ, ffashim_read_unlock_)
#define write_unlock(l) FFASHIM_RW_DROP_(l, HOST_WRITE, ffashim_write_unlock_)

/*
 * Spinlocks are functions of the machine. Only the site is noted here, so
 * that a report can name the lock as Xen's source does; and the initialisation,
 * which makes a lock one of a class.
 */
static always_inline void ffashim_spin_lock_(spinlock_t *l)
{
    spin_lock(l);
}

static always_inline bool ffashim_spin_trylock_(spinlock_t *l)
{
    return spin_trylock(l);
}

static always_inline void ffashim_spin_lock_init_(spinlock_t *l)
{
    spin_lock_init(l);
}

#define FFASHIM_SPIN_(l, take) ({                                       \
    spinlock_t *spin_ = (l);                                            \
                                                                        \
    FFASHIM_SITE(#l, (uint32_t *)&spin_->tickets);                      \
    take(spin_);                                                        \
})

#undef spin_lock
#undef spin_trylock
#undef spin_lock_init
#define spin_lock(l)    FFASHIM_SPIN_(l, ffashim_spin_lock_)
#define spin_trylock(l) FFASHIM_SPIN_(l, ffashim_spin_trylock_)
#define spin_lock_init(l) ({                                            \
    spinlock_t *spin_ = (l);                                            \
                                                                        \
    ffashim_spin_lock_init_(spin_);                                     \
    host_lock_init((uint32_t *)&spin_->tickets, #l, __FILE__, __LINE__); \
})

/* RCU read sections: their end may be the end of what they protect. */
static always_inline void ffashim_rcu_read_lock_(rcu_read_lock_t *l)
{
    rcu_read_lock(l);
}

static always_inline void ffashim_rcu_read_unlock_(rcu_read_lock_t *l)
{
    rcu_read_unlock(l);
}

void xen_rcu_left(bool idle) FFASHIM_HIDDEN;

#define rcu_read_lock(l) \
    ({ host_rcu_enter(NULL); ffashim_rcu_read_lock_(l); })
#define rcu_read_unlock(l) ({                                           \
    bool idle_ = host_rcu_leave();                                      \
                                                                        \
    ffashim_rcu_read_unlock_(l);                                        \
    xen_rcu_left(idle_);                                                \
})

/* References to domains, so that one that stays can be told from others. */
#include <xen/sched.h>

static always_inline bool ffashim_get_domain_(struct domain *d)
{
    bool got = get_domain(d);

    if ( got )
        host_domain_get(d);

    return got;
}

static always_inline void ffashim_get_knownalive_domain_(struct domain *d)
{
    get_knownalive_domain(d);
    host_domain_get(d);
}

static always_inline void ffashim_put_domain_(struct domain *d)
{
    host_domain_put(d);
    put_domain(d);
}

#undef put_domain
#define get_domain(d)            ffashim_get_domain_(d)
#define get_knownalive_domain(d) ffashim_get_knownalive_domain_(d)
#define put_domain(d)            ffashim_put_domain_(d)

/* Plain atomic accesses have no function either. */
#undef ACCESS_ONCE
#define atomic_read(v) ({                                               \
    const atomic_t *atomic_ = (v);                                      \
                                                                        \
    FFASHIM_POINT(FFASHIM_POINT_ATOMIC, atomic_);                       \
    atomic_read(atomic_);                                               \
})
#define ACCESS_ONCE(x) (*({                                             \
    volatile typeof(x) *once_ = &(x);                                   \
                                                                        \
    FFASHIM_POINT(FFASHIM_POINT_ATOMIC, once_);                         \
    once_;                                                              \
}))

/* So is the pause in a loop that waits for another CPU, which then can run. */
#undef cpu_relax
#define cpu_relax()                                                     \
    do {                                                                \
        FFASHIM_POINT(FFASHIM_POINT_RELAX, NULL);                       \
        barrier();                                                      \
    } while ( 0 )

/* Copies to and from what a guest shares are switch points. */
static always_inline void *ffashim_memcpy_(void *d, const void *s, size_t n)
{
#ifndef FFASHIM_COVERAGE /* see FFASHIM_POINT() */
    if ( unlikely(host_switching) )
#endif
        host_switch_copy(d, s);
#ifndef FFASHIM_COVERAGE
    if ( host_in_window(d) )
#endif
        host_copies_out(d, s, n);

    return __builtin_memcpy(d, s, n);
}

#undef memcpy
#define memcpy(d, s, n) ffashim_memcpy_(d, s, n)

#if defined(FFASHIM_SANITIZE_FETCH) && !defined(__clang__)
/*
 * gcc announces no copy that it makes a few moves of. Those of a word are plain
 * accesses by then, and are announced.
 */
#undef memcpy
#undef memmove
#undef memcmp
#define memcpy(d, s, n) ({                                              \
    void *d_ = (d);                                                     \
    const void *s_ = (s);                                               \
    size_t n_ = (n);                                                    \
                                                                        \
    if ( unlikely(host_switching) )                                     \
        host_switch_copy(d_, s_);                                       \
    if ( !__builtin_constant_p(n) ||                                    \
         (n_ != 1 && n_ != 2 && n_ != 4 && n_ != 8) )                   \
        host_copy(d_, s_, n_);                                          \
    __builtin_memcpy(d_, s_, __builtin_constant_p(n) ? (n) : n_);       \
})
#endif

#endif /* !FFASHIM_STUBS */

#endif /* FFASHIM_OBSERVE_H */
