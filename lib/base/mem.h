/* mem.h - every allocation of ours, so that tests can fail the n-th one.
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_MEM_H
#define TR_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

void *tr_alloc(size_t size);                  /* zeroed; NULL when out */
void *tr_resize(void *p, size_t size);        /* not zeroed; NULL when out */
void *tr_array(size_t count, size_t size);    /* zeroed, overflow-checked */
char *tr_dup(const char *p, size_t n);        /* n bytes and a final NUL */
void tr_free(void *p);                        /* accepts NULL */
/* Makes room for need elements of size bytes in *array, which doubles. False:
 * out of memory, and nothing has changed. */
bool tr_grow(void **array, size_t *cap, size_t need, size_t size);

/* Tests only: let the n-th allocation from now fail (0: never), once or from
 * then on. Returns how many allocations were made since the last call. */
long tr_mem_fail_at(long nth, int sticky);

#endif
