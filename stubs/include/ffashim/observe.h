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

#include <xen/rwlock.h>
#include <xen/string.h>

#include <asm/processor.h>

/*
 * Read-write locks are taken inline. The tree's own code takes them; the
 * machine waits first, so that it never spins, and keeps the account.
 */
#define FFASHIM_RW_TAKE_(l, mode, take)                                 \
    do {                                                                \
        rwlock_t *rw_ = (l);                                            \
                                                                        \
        FFASHIM_SITE(#l);                                               \
        host_lock(rw_, mode);                                           \
        take(rw_);                                                      \
    } while ( 0 )
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

static always_inline void ffashim_read_unlock_(rwlock_t *l)
{
    read_unlock(l);
}

static always_inline void ffashim_write_unlock_(rwlock_t *l)
{
    write_unlock(l);
}

#undef read_lock
#undef write_lock
#undef read_unlock
#undef write_unlock
#define read_lock(l)    FFASHIM_RW_TAKE_(l, HOST_READ, ffashim_read_lock_)
#define write_lock(l)   FFASHIM_RW_TAKE_(l, HOST_WRITE, ffashim_write_lock_)
#define read_unlock(l)  FFASHIM_RW_DROP_(l, HOST_READ, ffashim_read_unlock_)
#define write_unlock(l) FFASHIM_RW_DROP_(l, HOST_WRITE, ffashim_write_unlock_)

/*
 * Spinlocks are functions of the machine. Only the site is noted here, so
 * that a report can name the lock as Xen's source does.
 */
static always_inline void ffashim_spin_lock_(spinlock_t *l)
{
    spin_lock(l);
}

static always_inline bool ffashim_spin_trylock_(spinlock_t *l)
{
    return spin_trylock(l);
}

#undef spin_lock
#undef spin_trylock
#define spin_lock(l)    ({ FFASHIM_SITE(#l); ffashim_spin_lock_(l); })
#define spin_trylock(l) ({ FFASHIM_SITE(#l); ffashim_spin_trylock_(l); })

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
