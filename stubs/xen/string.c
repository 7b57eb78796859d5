/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The string functions that Xen calls, and that the compiler calls for it.
 * Xen declares all of its symbols hidden, so it cannot bind to libc's; these
 * stand between. Copies are on the path of every call: libc's are reached
 * through pointers that the host half fills in.
 */
#include <xen/types.h>

#include <ffashim/host.h>

extern void *(*host_memcpy)(void *d, const void *s, size_t n) FFASHIM_HIDDEN;
extern void *(*host_memmove)(void *d, const void *s, size_t n) FFASHIM_HIDDEN;
extern void *(*host_memset)(void *d, int c, size_t n) FFASHIM_HIDDEN;
extern int (*host_memcmp)(const void *a, const void *b, size_t n)
    FFASHIM_HIDDEN;

#pragma GCC visibility push(hidden)

void *memcpy(void *d, const void *s, size_t n);
void *memmove(void *d, const void *s, size_t n);
void *memset(void *d, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memchr(const void *s, int c, size_t n);
size_t strlen(const char *s);
size_t strnlen(const char *s, size_t n);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
int strcasecmp(const char *a, const char *b);
char *strchr(const char *s, int c);
char *strrchr(const char *s, int c);
size_t strlcpy(char *d, const char *s, size_t size);
void clear_page(void *page);

void *memcpy(void *d, const void *s, size_t n)
{
    host_check_access(s, n, false);
    host_check_access(d, n, true);

    return host_memcpy(d, s, n);
}

void *memmove(void *d, const void *s, size_t n)
{
    host_check_access(s, n, false);
    host_check_access(d, n, true);

    return host_memmove(d, s, n);
}

void *memset(void *d, int c, size_t n)
{
    host_check_access(d, n, true);

    return host_memset(d, c, n);
}

int memcmp(const void *a, const void *b, size_t n)
{
    host_check_access(a, n, false);
    host_check_access(b, n, false);

    return host_memcmp(a, b, n);
}

void *memchr(const void *s, int c, size_t n)
{
    const unsigned char *p = s;

    for ( ; n--; p++ )
        if ( *p == (unsigned char)c )
            return (void *)p;

    return NULL;
}

size_t strnlen(const char *s, size_t n)
{
    size_t len = 0;

    while ( len < n && s[len] )
        len++;

    return len;
}

size_t strlen(const char *s)
{
    return strnlen(s, ~(size_t)0);
}

int strncmp(const char *a, const char *b, size_t n)
{
    for ( ; n; a++, b++, n-- )
        if ( *a != *b || !*a )
            return (unsigned char)*a - (unsigned char)*b;

    return 0;
}

int strcmp(const char *a, const char *b)
{
    return strncmp(a, b, ~(size_t)0);
}

static int lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
}

int strcasecmp(const char *a, const char *b)
{
    while ( *a && lower(*a) == lower(*b) )
        a++, b++;

    return lower(*a) - lower(*b);
}

char *strchr(const char *s, int c)
{
    for ( ; ; s++ )
    {
        if ( *s == (char)c )
            return (char *)s;
        if ( !*s )
            return NULL;
    }
}

char *strrchr(const char *s, int c)
{
    const char *last = NULL;

    for ( ; (s = strchr(s, c)) != NULL; s++ )
    {
        last = s;
        if ( !c )
            break;
    }

    return (char *)last;
}

size_t strlcpy(char *d, const char *s, size_t size)
{
    size_t len = strlen(s);

    if ( size )
    {
        size_t n = len < size ? len : size - 1;

        memcpy(d, s, n);
        d[n] = '\0';
    }

    return len;
}

void clear_page(void *page)
{
    memset(page, 0, HOST_PAGE_SIZE);
}

#pragma GCC visibility pop
