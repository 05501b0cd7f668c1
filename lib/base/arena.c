/* arena.c - memory that dies together.
 * SPDX-License-Identifier: MIT */
#include "base/arena.h"

#include "base/mem.h"

#include <stdalign.h>
#include <stdint.h>

#define CHUNK_BYTES 4096

struct tr_arena_chunk {
    struct tr_arena_chunk *older;
    size_t used, cap;
    alignas(max_align_t) char bytes[];
};

void tr_arena_init(struct tr_arena *a)
{
    *a = (struct tr_arena){0};
}

void *tr_arena_alloc(struct tr_arena *a, size_t size)
{
    struct tr_arena_chunk *c = a->chunks;
    size_t align = alignof(max_align_t);
    void *p;

    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + align - 1) & ~(align - 1);
    if (!c || c->cap - c->used < size) {
        size_t cap = size > CHUNK_BYTES ? size : CHUNK_BYTES;

        c = tr_alloc(sizeof *c + cap);
        if (!c)
            return NULL;
        c->cap = cap;
        c->older = a->chunks;
        a->chunks = c;
        a->bytes += sizeof *c + cap;
    }
    p = c->bytes + c->used;
    c->used += size;
    return p;
}

struct tr_str tr_arena_dup(struct tr_arena *a, struct tr_str s)
{
    char *p = tr_arena_alloc(a, s.n + 1);

    if (!p)
        return tr_str(NULL, 0);
    if (s.n)
        memcpy(p, s.p, s.n);
    return tr_str(p, s.n);
}

void tr_arena_release(struct tr_arena *a)
{
    while (a->chunks) {
        struct tr_arena_chunk *c = a->chunks;

        a->chunks = c->older;
        tr_free(c);
    }
    a->bytes = 0;
}
