/* utf8.c - is it UTF-8, and if not, what does it look like.
 * SPDX-License-Identifier: MIT */
#include "base/utf8.h"

#include <stdint.h>

#define HIGH_BITS 0x8080808080808080u

/* Bytes of the sequence that begins at p, 0 when it is not valid. */
static size_t sequence(const unsigned char *p, size_t n)
{
    unsigned char c = p[0], low = 0x80, high = 0xbf;
    size_t len;

    if (c < 0x80)
        return 1;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (n < len)
        return 0;
    /* The second byte decides about overlong forms and surrogates. */
    if (c == 0xe0)
        low = 0xa0;
    else if (c == 0xed)
        high = 0x9f;
    else if (c == 0xf0)
        low = 0x90;
    else if (c == 0xf4)
        high = 0x8f;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    return len;
}

size_t tr_utf8_first(struct tr_str s)
{
    return s.n ? sequence((const unsigned char *)s.p, s.n) : 0;
}

size_t tr_utf8_valid(struct tr_str s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    size_t i = 0;

    while (i < s.n) {
        size_t len;

        if (p[i] < 0x80) {
            uint64_t word;

            while (i + sizeof word <= s.n) {
                memcpy(&word, p + i, sizeof word);
                if (word & HIGH_BITS)
                    break;
                i += sizeof word;
            }
            while (i < s.n && p[i] < 0x80)
                i++;
            continue;
        }
        len = sequence(p + i, s.n - i);
        if (!len)
            return i;
        i += len;
    }
    return s.n;
}

size_t tr_utf8_count(struct tr_str s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    size_t count = 0;

    for (size_t i = 0; i < s.n; count++) {
        size_t len = sequence(p + i, s.n - i);

        i += len ? len : 1;
    }
    return count;
}

bool tr_utf8_looks_1252(struct tr_str s)
{
    bool some = false;

    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c < 0x80)
            continue;
        some = true;
        if (c == 0x81 || c == 0x8d || c == 0x8f || c == 0x90 || c == 0x9d)
            return false;
        if (sequence((const unsigned char *)s.p + i, s.n - i) > 1)
            return false;
    }
    return some;
}

size_t tr_utf8_cut(struct tr_str s, size_t n)
{
    size_t cut = n;

    if (n >= s.n)
        return s.n;
    for (int back = 0; back < 4; back++, cut--) {
        if (((unsigned char)s.p[cut] & 0xc0) != 0x80)
            return cut;
        if (!cut)
            break;
    }
    return n;
}

/* C0, DEL, C1. */
static bool is_control(const unsigned char *p, size_t len)
{
    return len == 1 ? p[0] < 0x20 || p[0] == 0x7f
                    : len == 2 && p[0] == 0xc2 && p[1] < 0xa0;
}

void tr_utf8_tame(char *text)
{
    unsigned char *p = (unsigned char *)text;
    size_t left = strlen(text);

    while (left) {
        size_t len = sequence(p, left);

        if (!len && left < 4 && p[0] >= 0xc2) {
            *p = '\0';
            return;
        }
        if (!len || is_control(p, len)) {
            memset(p, '?', len ? len : 1);
            len = len ? len : 1;
        }
        p += len;
        left -= len;
    }
}

static bool ascii(char c)
{
    return (unsigned char)c < 0x80;
}

static const struct {
    const char *bytes;
    bool wide;
} blanks[] = {
    {"\xc2\xa0", true},      /* no-break space */
    {"\xe2\x80\xaf", true},  /* narrow no-break space */
    {"\xe2\x80\x8b", false}, /* zero width space */
    {"\xe3\x80\x80", true},  /* ideographic space */
    {"\xef\xbb\xbf", false}, /* BOM */
};

size_t tr_utf8_blank(struct tr_str s, bool *wide)
{
    *wide = true;
    if (!s.n || ascii(s.p[0]))
        return s.n && tr_str_trim(tr_str(s.p, 1)).n == 0;
    for (size_t i = 0; i < sizeof blanks / sizeof *blanks; i++) {
        *wide = blanks[i].wide;
        if (tr_str_begins(s, blanks[i].bytes))
            return strlen(blanks[i].bytes);
    }
    return 0;
}

struct tr_str tr_utf8_trim(struct tr_str s)
{
    size_t before;

    do {
        before = s.n;
        s = tr_str_trim(s);
        if (!s.n || (ascii(s.p[0]) && ascii(s.p[s.n - 1])))
            break; /* nearly always */
        for (size_t i = 0; i < sizeof blanks / sizeof *blanks; i++) {
            size_t n = strlen(blanks[i].bytes);

            if (tr_str_begins(s, blanks[i].bytes))
                s = tr_str(s.p + n, s.n - n);
            if (tr_str_ends(s, blanks[i].bytes))
                s.n -= n;
        }
    } while (s.n < before);
    return s;
}
