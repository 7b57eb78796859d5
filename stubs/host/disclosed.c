/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a call gives away: nothing that Xen has left on its stack or its heap
 * may reach a guest or the SPMC, and nothing of one guest's memory another by
 * a call of neither's. All three are filled with what nobody else writes;
 * where that turns up in a register or in a guest's page, it has leaked. And
 * what a call may change of the guest's registers.
 */
#include <stdio.h>
#include <string.h>

#include "internal.h"

#define SOILED 512                         /* of the stack, for each call     */
#define ALL(byte) ((byte) * 0x01010101U)

#define OWNER_MASK 0xffffU                 /* the rest is HOST_OF_GUEST       */

#define IS_SMC32(x0) (((x0) & 0xffffffffff000000) == 0x84000000)
#define FFA_RESP2    0xc400008eU           /* the two calls whose results     */
#define FFA_GET_REGS 0xc400008bU           /* reach into x8 to x17            */

/* Four words at once. */
typedef uint32_t words __attribute__((__vector_size__(16), __aligned__(8),
                                      __may_alias__));

/* What the next function finds on the stack. */
__attribute__((__noinline__))
void host_soil_stack(void)
{
    words left[SOILED / sizeof(words)];

    for ( unsigned int n = 0; n < SOILED / sizeof(words); n++ )
        left[n] = (words){ 0 } + ALL(HOST_UNWRITTEN);
    __asm__ __volatile__ ( "" :: "r" (left) : "memory" );
}

const void *host_set_by[18];

static bool unwritten(uint32_t w)
{
    return w == ALL(HOST_UNWRITTEN) || w == ALL(HOST_FRESH) ||
           w == ALL(HOST_STALE);
}

/* Whether it comes from a guest other than these. */
static bool foreign(uint32_t w, uint32_t owner, uint32_t receiver)
{
    return (w & ~OWNER_MASK) == HOST_OF_GUEST &&
           ((w ^ owner) & OWNER_MASK) && ((w ^ receiver) & OWNER_MASK);
}

/* What a word tells of that nobody may learn, or NULL. */
static const char *secret(uint32_t w, uint32_t owner, uint32_t receiver)
{
    static char text[64];

    if ( foreign(w, owner, receiver) )
    {
        int64_t domid = xen_domid_of_owner(w & OWNER_MASK);

        if ( domid < 0 )
            return "memory of a domain that is gone";
        snprintf(text, sizeof(text), "memory of domain %d", (int)domid);
        return text;
    }

    return w == ALL(HOST_UNWRITTEN) ? "what Xen has left on its stack"
           : w == ALL(HOST_FRESH) ? "what Xen has left in memory that it never "
                                    "wrote"
           : w == ALL(HOST_STALE) ? "what Xen has left in memory that it has "
                                    "freed"
           : NULL;
}

/* The same of a register that the call of this guest's has set. */
static const char *secret_of(uint64_t x, uint32_t owner)
{
    const char *lower = secret(x, owner, owner);

    return lower ? lower : secret(x >> 32, owner, owner);
}

static bool among(uint64_t x, const uint64_t *regs)
{
    for ( unsigned int n = 0; regs && n < 18; n++ )
        if ( regs[n] == x || (uint32_t)regs[n] == x )
            return true;

    return false;
}

static ffashim_taken here(void)
{
    ffashim_taken by = { .call = cpu_call() };

    by.frames = fault_frames(by.frame, sizeof(by.frame) / sizeof(by.frame[0]));

    return by;
}

static void alarm_by(ffashim_alarm *alarm, const ffashim_taken *by)
{
    alarm->taken[0] = *by;
    alarm->taken_nr = 1;
}

void disclosed_to_spmc(const uint64_t x[18])
{
    for ( unsigned int n = 0; n < 18 && !cpu_told(); n++ )
    {
        const char *what = secret_of(x[n], cpu_owner());

        if ( what && !among(x[n], cpu_given()) )
        {
            const ffashim_taken by = here();

            alarm_by(alarm_new(FFASHIM_ALARM_DISCLOSED,
                               "x%u of an SMC tells the SPMC %#llx: %s", n,
                               (unsigned long long)x[n], what), &by);
        }
    }
}

void disclosed_by_spmc(const uint64_t x[18])
{
    for ( unsigned int n = 0; n < 18; n++ )
        if ( secret_of(x[n], 0) )
            cpu_is_told();
}

void host_copies_out(const void *d, const void *s, size_t n)
{
    uint32_t receiver, giver;
    bool xens;

    if ( !host_in_window(d) )
        return;

    /* What is a guest's own, though it be half a pattern, it may give away. */
    receiver = memory_owner(d);
    giver = memory_owner(s);
    if ( giver && (giver == receiver || giver == cpu_owner()) )
        return;

    xens = memory_is_xens(s);
    for ( size_t at = 0; at + sizeof(uint32_t) <= n; at += sizeof(uint32_t) )
    {
        uint32_t w;

        memcpy(&w, (const char *)s + at, sizeof(w));
        if ( (xens && unwritten(w)) || foreign(w, cpu_owner(), receiver) )
        {
            const ffashim_taken by = here();

            alarm_by(alarm_new(FFASHIM_ALARM_DISCLOSED,
                               "a guest's page is given %#x, %zu bytes into a "
                               "copy of %zu: %s", w, at, n,
                               secret(w, cpu_owner(), receiver)), &by);
            return;
        }
    }
}

/*
 * The first register from x8 on that is not as it was, though the call has no
 * say in it, or 0. A 64-bit guest of 1.2 may find them all zero.
 */
static int odd_register(const uint64_t *given, const uint64_t *x, bool aarch64)
{
    bool kept = true, zero = aarch64;

    if ( x[0] == FFA_RESP2 || (uint32_t)given[0] == FFA_GET_REGS )
        return 0;
    for ( int n = 8; n < 18; n++ )
    {
        kept &= x[n] == (aarch64 ? given[n] : (uint32_t)given[n]);
        zero &= !x[n];
        if ( !kept && !zero )
            return n;
    }

    return 0;
}

/*
 * The first register whose upper half an answer in 32 bits has set, or 0: the
 * guest may take it for part of the answer. Not so the sign of a status.
 */
static int wide_register(const uint64_t *given, const uint64_t *x)
{
    if ( x[0] == given[0] || !IS_SMC32(x[0]) )
        return 0;
    for ( int n = 1; n < 8; n++ )
        if ( x[n] >> 32 && (int64_t)x[n] != (int32_t)x[n] )
            return n;

    return 0;
}

/* The slow half: something about the registers is not as it mostly is. */
__attribute__((__noinline__))
static void look_closely(const uint64_t *given, const uint64_t *x,
                         uint64_t rest, bool aarch64)
{
    int odd = odd_register(given, x, aarch64), wide = wide_register(given, x);

    for ( unsigned int n = 18; n < 31; n++ )
        if ( x[n] != rest )
        {
            alarm_new(FFASHIM_ALARM_REGISTERS,
                      "x%u is %#llx after the call, which has no say in it", n,
                      (unsigned long long)x[n]);
            break;
        }
    if ( wide )
        alarm_new(FFASHIM_ALARM_REGISTERS,
                  "x%d is %#llx in an answer of 32 bits, %#llx", wide,
                  (unsigned long long)x[wide], (unsigned long long)x[0]);
    if ( odd )
        alarm_new(FFASHIM_ALARM_REGISTERS,
                  "x%d is %#llx after the call and was %#llx before it: "
                  "neither kept nor zero", odd, (unsigned long long)x[odd],
                  (unsigned long long)given[odd]);

    for ( unsigned int n = 0; n < 18 && !cpu_told(); n++ )
    {
        ffashim_taken by = { .call = cpu_call(), .frames = 1 };
        const char *what = secret_of(x[n], cpu_owner());

        if ( !what || among(x[n], given) )
            continue;
        by.frame[0] = call_site(host_set_by[n]);
        alarm_by(alarm_new(FFASHIM_ALARM_DISCLOSED,
                           "x%u of the reply is %#llx: %s", n,
                           (unsigned long long)x[n], what), &by);
        break;
    }
}

/* On the path of every call: all registers at once, without a branch. */
void host_call_ends(const uint64_t given[18], const uint64_t x[31],
                    uint64_t rest, bool aarch64)
{
    const words *now = (const words *)x, *then = (const words *)given;
    const words none = { 0 };
    const words upper = { 0, ~0U, 0, ~0U };
    words hit = none, changed = none, left = none;
    union { words w; uint64_t half[2]; } sum;

    for ( unsigned int n = 0; n < 9; n++ )
        hit |= (words)(now[n] == none + ALL(HOST_UNWRITTEN)) |
               (words)(now[n] == none + ALL(HOST_FRESH)) |
               (words)(now[n] == none + ALL(HOST_STALE)) |
               (words)((now[n] & ~OWNER_MASK) == none + HOST_OF_GUEST);
    for ( unsigned int n = 0; n < 4; n++ )
        hit |= now[n] & upper;
    for ( unsigned int n = 9; n < 15; n++ )
        hit |= now[n] ^ (none + (uint32_t)rest);
    hit |= (words)(none + (uint32_t)(x[30] != rest));
    for ( unsigned int n = 4; n < 9; n++ )
    {
        changed |= now[n] ^ then[n];
        left |= now[n];
    }

    sum.w = changed;
    if ( sum.half[0] | sum.half[1] )
    {
        sum.w = left;
        hit |= (words)(none + (uint32_t)((sum.half[0] | sum.half[1]) != 0));
    }
    sum.w = hit;
    if ( __builtin_expect(sum.half[0] | sum.half[1], 0) )
        look_closely(given, x, rest, aarch64);
}
