/* str.h - a borrowed piece of text: pointer and length, never an owner.
 *
 * A struct that keeps one says in its field comment whose memory it is.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_STR_H
#define TR_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct tr_str {
    const char *p; /* not terminated; may be NULL when n is 0 */
    size_t n;      /* bytes */
};

#define TR_STR(literal) ((struct tr_str){(literal), sizeof(literal) - 1})

static inline struct tr_str tr_str(const char *p, size_t n)
{
    return (struct tr_str){p, n};
}

static inline struct tr_str tr_str_c(const char *z)
{
    return (struct tr_str){z, z ? strlen(z) : 0};
}

static inline bool tr_str_eq(struct tr_str a, struct tr_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool tr_str_eq_c(struct tr_str a, const char *z)
{
    return tr_str_eq(a, tr_str_c(z));
}

static inline bool tr_str_begins(struct tr_str s, const char *z)
{
    size_t n = strlen(z);

    return s.n >= n && (n == 0 || memcmp(s.p, z, n) == 0);
}

static inline bool tr_str_ends(struct tr_str s, const char *z)
{
    size_t n = strlen(z);

    return s.n >= n && (n == 0 || memcmp(s.p + s.n - n, z, n) == 0);
}

/* Where z, which is not empty, stands in s for the first time; s.n: nowhere. */
static inline size_t tr_str_find(struct tr_str s, const char *z)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == z[0] && tr_str_begins(tr_str(s.p + i, s.n - i), z))
            return i;
    return s.n;
}

/* Without ASCII blanks (space, TAB, CR, LF) at both ends. */
static inline struct tr_str tr_str_trim(struct tr_str s)
{
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t' || s.p[0] == '\r' ||
                   s.p[0] == '\n')) {
        s.p++;
        s.n--;
    }
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t' ||
                   s.p[s.n - 1] == '\r' || s.p[s.n - 1] == '\n'))
        s.n--;
    return s;
}

#endif
