/* json.h - yyjson inside this folder: its memory is ours, and bounded.
 *
 * Included after <yyjson.h>, by .c files only. A body of 8 MiB of "[[[[" must
 * not become 128 MiB of tree.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_WIRE_JSON_H
#define TR_WIRE_JSON_H

#include "base/mem.h"

#define TR_JSON_TREE_BYTES ((size_t)24 << 20)

static inline void *tr_json_get(void *ctx, size_t n)
{
    (void)ctx;
    return n > TR_JSON_TREE_BYTES ? NULL : tr_resize(NULL, n);
}

static inline void *tr_json_grow(void *ctx, void *p, size_t old, size_t n)
{
    (void)ctx;
    (void)old;
    return n > TR_JSON_TREE_BYTES ? NULL : tr_resize(p, n);
}

static inline void tr_json_put(void *ctx, void *p)
{
    (void)ctx;
    tr_free(p);
}

static inline yyjson_doc *tr_json_read(struct tr_str s)
{
    const yyjson_alc alc = {tr_json_get, tr_json_grow, tr_json_put, NULL};

    /* Without YYJSON_READ_INSITU the text is not changed. */
    return yyjson_read_opts((char *)(size_t)(const void *)s.p, s.n, 0, &alc,
                            NULL);
}

/* tr_wire_error_read() of a value that is already parsed (reply.c). */
struct tr_wire_error;
void tr_wire_error_value(struct tr_wire_error *e, yyjson_val *v);

#endif
