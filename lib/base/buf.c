/* buf.c - growing bytes, bounded, failure remembered.
 * SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

#define DEFAULT_MAX ((size_t)1 << 30)

void tr_buf_init(struct tr_buf *b, size_t max)
{
    *b = (struct tr_buf){.max = max};
}

void tr_buf_release(struct tr_buf *b)
{
    size_t max = b->max;

    tr_free(b->p);
    tr_buf_init(b, max);
}

void tr_buf_clear(struct tr_buf *b)
{
    b->n = 0;
    b->failed = b->full = false;
    if (b->p)
        b->p[0] = '\0';
}

char *tr_buf_room(struct tr_buf *b, size_t n)
{
    size_t max = b->max ? b->max : DEFAULT_MAX;
    size_t cap = b->cap ? b->cap : 64;
    char *p;

    if (b->failed)
        return NULL;
    if (n > max || b->n > max - n) {
        b->failed = b->full = true;
        return NULL;
    }
    if (b->cap > b->n + n)
        return b->p + b->n;
    while (cap <= b->n + n)
        cap *= 2;
    p = tr_resize(b->p, cap);
    if (!p) {
        b->failed = true;
        return NULL;
    }
    b->p = p;
    b->cap = cap;
    return b->p + b->n;
}

void tr_buf_add(struct tr_buf *b, const void *p, size_t n)
{
    char *to = tr_buf_room(b, n);

    if (!to)
        return;
    if (n)
        memcpy(to, p, n);
    b->n += n;
    b->p[b->n] = '\0';
}

void tr_buf_adds(struct tr_buf *b, struct tr_str s)
{
    tr_buf_add(b, s.p, s.n);
}

void tr_buf_addz(struct tr_buf *b, const char *z)
{
    tr_buf_add(b, z, strlen(z));
}

void tr_buf_addc(struct tr_buf *b, char c)
{
    tr_buf_add(b, &c, 1);
}

void tr_buf_addf(struct tr_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    char small[256];
    int n;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->failed = true;
    } else if ((size_t)n < sizeof small) {
        tr_buf_add(b, small, (size_t)n);
    } else {
        char *to = tr_buf_room(b, (size_t)n + 1);

        if (to) {
            vsnprintf(to, (size_t)n + 1, fmt, again);
            b->n += (size_t)n;
        }
    }
    va_end(again);
}

/* Bytes that may need an escape; 0xe2 begins U+2028 and U+2029. */
static const bool special[256] = {
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, ['"'] = 1, ['\\'] = 1, [0x7f] = 1,
    [0xe2] = 1,
};

enum { STRETCH = 16 };

/* Whether the next STRETCH bytes may stay as they are: one comparison for all
 * of them where the processor has one. */
static bool plain(const char *p)
{
    unsigned char any = 0;

    for (int i = 0; i < STRETCH; i++) {
        unsigned char c = (unsigned char)p[i];

        any |= (unsigned char)((c < 0x20) | (c == '"') | (c == '\\') |
                               (c == 0x7f) | (c == 0xe2));
    }
    return !any;
}

void tr_buf_add_json(struct tr_buf *b, struct tr_str s)
{
    static const char hex[] = "0123456789abcdef";
    size_t from = 0;

    tr_buf_addc(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        char esc[7] = "\\u00";
        size_t n = 2, skip = 1;
        unsigned char c;

        while (i + STRETCH <= s.n && plain(s.p + i))
            i += STRETCH;
        while (i < s.n && !special[(unsigned char)s.p[i]])
            i++;
        if (i == s.n)
            break;
        c = (unsigned char)s.p[i];
        if (c == '"' || c == '\\') {
            esc[1] = (char)c;
        } else if (c == '\n') {
            esc[1] = 'n';
        } else if (c == '\t') {
            esc[1] = 't';
        } else if (c == '\r') {
            esc[1] = 'r';
        } else if (c < 0x20 || c == 0x7f) {
            esc[4] = hex[c >> 4];
            esc[5] = hex[c & 15];
            n = 6;
        } else if (c == 0xe2 && i + 2 < s.n && (unsigned char)s.p[i + 1] == 0x80
                   && ((unsigned char)s.p[i + 2] & 0xfe) == 0xa8) {
            memcpy(esc, (unsigned char)s.p[i + 2] == 0xa8 ? "\\u2028"
                                                          : "\\u2029", 6);
            n = 6;
            skip = 3;
        } else {
            continue;
        }
        tr_buf_add(b, s.p + from, i - from);
        tr_buf_add(b, esc, n);
        i += skip - 1;
        from = i + 1;
    }
    tr_buf_add(b, s.p + from, s.n - from);
    tr_buf_addc(b, '"');
}
