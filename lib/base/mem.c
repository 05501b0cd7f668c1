/* mem.c - malloc with a switch that makes it fail on purpose.
 * SPDX-License-Identifier: MIT */
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Plain longs: the switch is for single-threaded tests. */
static long made, fail_at;
static int fail_sticky;

static int refuse(void)
{
    if (!fail_at)
        return 0;
    made++;
    return fail_sticky ? made >= fail_at : made == fail_at;
}

void *tr_alloc(size_t size)
{
    return refuse() ? NULL : calloc(1, size ? size : 1);
}

void *tr_resize(void *p, size_t size)
{
    return refuse() ? NULL : realloc(p, size ? size : 1);
}

void *tr_array(size_t count, size_t size)
{
    if (size && count > SIZE_MAX / size)
        return NULL;
    return tr_alloc(count * size);
}

char *tr_dup(const char *p, size_t n)
{
    char *copy = tr_alloc(n + 1);

    if (copy && n)
        memcpy(copy, p, n);
    return copy;
}

void tr_free(void *p)
{
    free(p);
}

bool tr_grow(void **array, size_t *cap, size_t need, size_t size)
{
    size_t next = *cap ? *cap : 16;
    void *p;

    if (need <= *cap)
        return true;
    while (next < need)
        next *= 2;
    p = tr_resize(*array, next * size);
    if (!p)
        return false;
    *array = p;
    *cap = next;
    return true;
}

long tr_mem_fail_at(long nth, int sticky)
{
    long before = made;

    made = 0;
    fail_at = nth;
    fail_sticky = sticky;
    return before;
}
