/* buf.h - growing bytes, bounded, failure remembered.
 *
 * Text building is long and dull; so tr_buf_add() and its kin return nothing.
 * After the first failure (out of memory, or more than max bytes) later adds
 * do nothing, and the caller asks tr_buf_ok() once at the end.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_BUF_H
#define TR_BASE_BUF_H

#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

struct tr_buf {
    char *p;     /* owned; NUL-terminated whenever it is not NULL */
    size_t n;    /* bytes used, without the NUL */
    size_t cap;  /* bytes allocated */
    size_t max;  /* n never passes this; 0 means 1 GiB */
    bool failed; /* some add did not fit */
    bool full;   /* failed, and because of max: not for want of memory */
};

void tr_buf_init(struct tr_buf *b, size_t max);
void tr_buf_release(struct tr_buf *b); /* frees; b is usable again */
void tr_buf_clear(struct tr_buf *b);   /* n = 0, failure forgotten */
static inline bool tr_buf_ok(const struct tr_buf *b) { return !b->failed; }

void tr_buf_add(struct tr_buf *b, const void *p, size_t n);
void tr_buf_adds(struct tr_buf *b, struct tr_str s);
void tr_buf_addz(struct tr_buf *b, const char *z);
void tr_buf_addc(struct tr_buf *b, char c);
void tr_buf_addf(struct tr_buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* A JSON string with its quotes: escapes " \ and control bytes, leaves valid
 * UTF-8 as it is. U+2028 and U+2029 are escaped too. */
void tr_buf_add_json(struct tr_buf *b, struct tr_str s);
/* Makes room for n more bytes and returns where they go (NULL on failure);
 * the caller then adds what it wrote to b->n. */
char *tr_buf_room(struct tr_buf *b, size_t n);

static inline struct tr_str tr_buf_str(const struct tr_buf *b)
{
    return tr_str(b->p, b->n);
}

#endif
