/* arena.h - memory that dies together.
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_ARENA_H
#define TR_BASE_ARENA_H

#include "base/str.h"

struct tr_arena {
    struct tr_arena_chunk *chunks; /* newest first */
    size_t bytes;                  /* allocated in all, for bounds */
};

void tr_arena_init(struct tr_arena *a);
/* Zeroed and aligned for any type; NULL when memory is out. Lives until
 * tr_arena_release(). */
void *tr_arena_alloc(struct tr_arena *a, size_t size);
/* A copy with a final NUL; p is NULL when memory is out. */
struct tr_str tr_arena_dup(struct tr_arena *a, struct tr_str s);
void tr_arena_release(struct tr_arena *a); /* frees all; a is usable again */

#endif
