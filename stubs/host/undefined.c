/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * --sanitize=undefined: what the compiler's checks call when C has no meaning
 * for what a line does. They pass a table each, which says where and of which
 * types; the layouts are those of gcc and clang, which agree.
 */
#include <stdio.h>

#include "internal.h"

#ifdef FFASHIM_SANITIZE_UNDEFINED

struct place {
    const char *file;
    uint32_t line, column;
};

struct type {
    uint16_t kind;                         /* 0: an integer                   */
    uint16_t info;                         /* of one: log2 of bits, is signed */
    char name[];                           /* in quotes                       */
};

/* All start alike; what is not in a table is not looked at. */
struct table {
    struct place at;
    const struct type *type, *second;
};

struct pointer_table {
    struct place at;
    const struct type *type;
    unsigned char log_align;
    unsigned char access;
};

struct argument_table {
    struct place at, declared;
    int index;
};

#define UNDEFINED(t, ...)                                               \
    host_fault(FFASHIM_UB, (t)->at.file, (t)->at.line, __VA_ARGS__)
#define ACCESS(t, ...)                                                  \
    host_fault(FFASHIM_WILD, (t)->at.file, (t)->at.line, __VA_ARGS__)

typedef char number[48];

/* A value comes as itself, or, if it is too wide, as its address. */
static const char *show(char *buf, const struct type *type, uintptr_t value)
{
    unsigned int bits = 1U << (type->info >> 1);

    if ( type->kind || bits > 64 )
        snprintf(buf, sizeof(number), "a value");
    else if ( type->info & 1 )
        snprintf(buf, sizeof(number), "%lld",
                 (long long)(value << (64 - bits)) >> (64 - bits));
    else
        snprintf(buf, sizeof(number), "%llu",
                 (unsigned long long)(value << (64 - bits)) >> (64 - bits));

    return buf;
}

static bool is_negative(const struct type *type, uintptr_t value)
{
    unsigned int bits = 1U << (type->info >> 1);

    return !type->kind && (type->info & 1) && bits <= 64 &&
           (value >> (bits - 1) & 1);
}

#define HANDLER(name, ...)                                              \
    void __ubsan_handle_ ## name(__VA_ARGS__);                          \
    void __ubsan_handle_ ## name(__VA_ARGS__)

/* ---- Arithmetic ---------------------------------------------------------- */

#define ARITHMETIC(handler, sign)                                       \
    HANDLER(handler, const struct table *t, uintptr_t a, uintptr_t b)   \
    {                                                                   \
        number left, right;                                             \
                                                                        \
        UNDEFINED(t, "%s " sign " %s is no value of type %s",           \
                  show(left, t->type, a), show(right, t->type, b),      \
                  t->type->name);                                       \
    }

ARITHMETIC(add_overflow, "+")
ARITHMETIC(sub_overflow, "-")
ARITHMETIC(mul_overflow, "*")

HANDLER(divrem_overflow, const struct table *t, uintptr_t a, uintptr_t b)
{
    number left, right;

    UNDEFINED(t, "%s divided by %s is no value of type %s",
              show(left, t->type, a), show(right, t->type, b), t->type->name);
}

HANDLER(negate_overflow, const struct table *t, uintptr_t a)
{
    number value;

    UNDEFINED(t, "-(%s) is no value of type %s", show(value, t->type, a),
              t->type->name);
}

HANDLER(shift_out_of_bounds, const struct table *t, uintptr_t a, uintptr_t by)
{
    unsigned int bits = 1U << (t->type->info >> 1);
    number value, count;

    show(value, t->type, a);
    show(count, t->second, by);
    if ( is_negative(t->second, by) || by >= bits )
        UNDEFINED(t, "a shift by %s of %s, which has %u bits", count,
                  t->type->name, bits);
    UNDEFINED(t, "%s shifted by %s is no value of type %s", value, count,
              t->type->name);
}

HANDLER(load_invalid_value, const struct table *t, uintptr_t a)
{
    number value;

    UNDEFINED(t, "%s is no value of type %s", show(value, t->type, a),
              t->type->name);
}

HANDLER(vla_bound_not_positive, const struct table *t, uintptr_t a)
{
    number value;

    UNDEFINED(t, "an array of %s elements", show(value, t->type, a));
}

/* ---- Pointers ------------------------------------------------------------ */

HANDLER(out_of_bounds, const struct table *t, uintptr_t a)
{
    number index;

    UNDEFINED(t, "index %s into %s", show(index, t->second, a), t->type->name);
}

/* What faults here in other builds, if at all, and is told of as that is. */
HANDLER(type_mismatch_v1, const struct pointer_table *t, uintptr_t p)
{
    static const char *const access[] = {
        "a load of", "a store to", "a reference to", "a member of",
        "a call of a member of",
    };
    const char *what = t->access < sizeof(access) / sizeof(access[0])
                       ? access[t->access] : "a use of";
    uintptr_t align = 1UL << t->log_align;

    if ( !p )
        ACCESS(t, "%s %s through NULL", what, t->type->name);
    if ( p & (align - 1) )
        ACCESS(t, "%s %s at %#lx, which is not aligned to %lu bytes", what,
               t->type->name, (unsigned long)p, (unsigned long)align);
    ACCESS(t, "%s %s at %#lx, where there is no room for one", what,
              t->type->name, (unsigned long)p);
}

HANDLER(alignment_assumption, const struct table *t, uintptr_t p,
        uintptr_t align, uintptr_t offset)
{
    UNDEFINED(t, "%#lx is taken for aligned to %lu bytes",
              (unsigned long)(p - offset), (unsigned long)align);
}

HANDLER(pointer_overflow, const struct table *t, uintptr_t base, uintptr_t p)
{
    UNDEFINED(t, "the pointer %#lx becomes %#lx, which lies in nothing that it"
              " points to", (unsigned long)base, (unsigned long)p);
}

/* Of a copy, for one, which is an access as well. */
HANDLER(nonnull_arg, const struct argument_table *t)
{
    ACCESS(t, "NULL for argument %d, which may not be NULL", t->index);
}

HANDLER(nonnull_return_v1, const void *unused, const struct place *at)
{
    const struct table t = { .at = *at };

    (void)unused;
    UNDEFINED(&t, "NULL is returned by what may not return it");
}

/* ---- Control flow -------------------------------------------------------- */

HANDLER(builtin_unreachable, const struct table *t)
{
    UNDEFINED(t, "what cannot be reached is reached");
}

HANDLER(missing_return, const struct table *t)
{
    UNDEFINED(t, "the end of a function that was to return a value");
}

HANDLER(invalid_builtin, const struct table *t)
{
    UNDEFINED(t, "the number of leading or trailing zeros of 0");
}

HANDLER(function_type_mismatch, const struct table *t, uintptr_t function)
{
    UNDEFINED(t, "the function at %#lx is called as %s", (unsigned long)function,
              t->type->name);
}

#endif /* FFASHIM_SANITIZE_UNDEFINED */
