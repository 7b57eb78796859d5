/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The console, taint and panic(). Formatting is the tree's own
 * common/vsprintf.c, so that %pd, %pv and their like read as on hardware.
 */
#include <xen/lib.h>
#include <xen/sched.h>

#include <ffashim/xen.h>

static void vprintk_level(const char *prefix, const char *fmt, va_list args)
{
    char text[1024];
    int level = -1; /* as XENLOG_DEFAULT: the message names none */
    size_t used = 0;

    /* "<G>" marks what a guest caused, "<0>" to "<3>" the severity. */
    while ( fmt[0] == '<' && fmt[1] && fmt[2] == '>' )
    {
        if ( fmt[1] >= '0' && fmt[1] <= '3' )
            level = fmt[1] - '0';
        fmt += 3;
    }

    if ( prefix )
        used = strlcpy(text, prefix, sizeof(text));
    vscnprintf(text + used, sizeof(text) - used, fmt, args);
    host_console(level, text);
}

void printk(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vprintk_level(NULL, fmt, args);
    va_end(args);
}

void vprintk(const char *fmt, va_list args)
{
    vprintk_level(NULL, fmt, args);
}

void guest_printk(const struct domain *d, const char *fmt, ...)
{
    char prefix[16] = "(d-) ";
    va_list args;

    if ( d )
        snprintf(prefix, sizeof(prefix), "(d%d) ", d->domain_id);

    va_start(args, fmt);
    vprintk_level(prefix, fmt, args);
    va_end(args);
}

void panic(const char *fmt, ...)
{
    char text[512];
    va_list args;

    va_start(args, fmt);
    vscnprintf(text, sizeof(text), fmt, args);
    va_end(args);

    host_console(0, text);
    host_fault(FFASHIM_PANIC, NULL, 0, "%s", text);
}

void add_taint(unsigned int taint)
{
    host_event(FFASHIM_EVENT_TAINT, taint, 0, 0);
}

/* For %pS and %ps: a module has no symbol table that Xen could read. */
const char *symbols_lookup(unsigned long addr, unsigned long *size,
                           unsigned long *offset, char *namebuf)
{
    *size = *offset = 0;

    return NULL;
}
