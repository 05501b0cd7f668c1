/* fuzz.h - what every fuzz target shares: the entry, checks that hold in any
 * build, and small choices that depend on the input alone.
 *
 * docs/internals/fuzzing.md says what each target promises.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FUZZ_H
#define FUZZ_H

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
/* Where a target needs a folder or a file before its first input. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* A promise that does not hold ends the process, as a crash would. */
#define CHECK(cond)                                                            \
    ((cond) ? (void)0 : fuzz_failed(#cond, __FILE__, __LINE__))

_Noreturn static inline void fuzz_failed(const char *cond, const char *file,
                                         int line)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, cond);
    abort();
}

/* ---- the input -------------------------------------------------------- */

struct fuzz_in {
    const uint8_t *p;
    size_t n;
    uint64_t state; /* of fuzz_draw(): the same for the same input */
};

static inline struct fuzz_in fuzz_begin(const uint8_t *data, size_t n)
{
    struct fuzz_in in = {data, n, 0xcbf29ce484222325u};

    for (size_t i = 0; i < n; i++)
        in.state = (in.state ^ data[i]) * 0x100000001b3u;
    return in;
}

/* The next byte, 0 when there is none. */
static inline unsigned fuzz_byte(struct fuzz_in *in)
{
    if (!in->n)
        return 0;
    in->n--;
    return *in->p++;
}

static inline struct tr_str fuzz_rest(const struct fuzz_in *in)
{
    return tr_str((const char *)in->p, in->n);
}

/* 0..below-1, not read from the input but settled by it. */
static inline size_t fuzz_draw(struct fuzz_in *in, size_t below)
{
    in->state ^= in->state << 13;
    in->state ^= in->state >> 7;
    in->state ^= in->state << 17;
    return below ? (size_t)(in->state >> 11) % below : 0;
}

/* ---- text ------------------------------------------------------------- */

/* UTF-8 by another way than the library's: each character is decoded without
 * care, encoded again, and must come out as it was. Bytes of the valid part. */
static inline size_t fuzz_utf8_valid(struct tr_str s)
{
    size_t i = 0;

    while (i < s.n) {
        const unsigned char *u = (const unsigned char *)s.p + i;
        size_t n = u[0] < 0x80 ? 1 : u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
        uint32_t point = n == 1 ? u[0] : u[0] & (0xffu >> (n + 1));
        unsigned char again[4] = {0};

        if (n > s.n - i)
            break;
        for (size_t k = 1; k < n; k++)
            point = point << 6 | (u[k] & 0x3f);
        if (point < 0x80) {
            again[0] = (unsigned char)point;
        } else if (point < 0x800) {
            again[0] = (unsigned char)(0xc0 | point >> 6);
        } else if (point < 0x10000) {
            again[0] = (unsigned char)(0xe0 | point >> 12);
        } else {
            again[0] = (unsigned char)(0xf0 | point >> 18);
        }
        for (size_t k = 1, left = n - 1; k < n; k++, left--)
            again[k] = (unsigned char)(
                0x80 | (point >> (6 * (left - 1)) & 0x3f));
        if (memcmp(again, u, n) != 0 || point > 0x10ffff ||
            (point >= 0xd800 && point < 0xe000) ||
            n != (point < 0x80      ? 1u
                  : point < 0x800   ? 2u
                  : point < 0x10000 ? 3u
                                    : 4u))
            break;
        i += n;
    }
    return i;
}

/* What a person may be shown: valid UTF-8 without control characters. */
static inline bool fuzz_is_plain(const char *z)
{
    struct tr_str s = tr_str_c(z);

    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c < 0x20 || c == 0x7f ||
            (c == 0xc2 && (unsigned char)s.p[i + 1] < 0xa0))
            return false;
    }
    return fuzz_utf8_valid(s) == s.n;
}

/* Where text that a person wrote has its line ends: LF, CR, CR LF, and those
 * of YAML (NEL, LS, PS). */
static inline size_t fuzz_lines(struct tr_str s)
{
    size_t lines = 1;

    for (size_t i = 0; i < s.n; i++) {
        const unsigned char *u = (const unsigned char *)s.p + i;
        size_t left = s.n - i;

        lines += u[0] == '\n' ||
                 (u[0] == '\r' && !(left > 1 && u[1] == '\n')) ||
                 (u[0] == 0xc2 && left > 1 && u[1] == 0x85) ||
                 (u[0] == 0xe2 && left > 2 && u[1] == 0x80 &&
                  (u[2] & 0xfe) == 0xa8);
    }
    return lines;
}

/* An error sentence: plain text with its code; if it says "FILE:LINE:COLUMN:"
 * the place is one of text. Returns whether it said so. */
static inline bool fuzz_check_error(const struct tr_err *err, int rc,
                                    const char *file, struct tr_str text)
{
    const char *at = err->text;
    size_t n = strlen(file);
    long line, column;
    char *end;

    CHECK(rc < 0 && err->code == rc);
    CHECK(err->text[0] && fuzz_is_plain(err->text));
    if (strncmp(at, file, n) != 0 || at[n] != ':' || at[n + 1] < '0' ||
        at[n + 1] > '9')
        return false;
    line = strtol(at + n + 1, &end, 10);
    if (*end != ':')
        return false;
    column = strtol(end + 1, &end, 10);
    CHECK(*end == ':');
    CHECK(line >= 1 && (size_t)line <= fuzz_lines(text) + 1);
    CHECK(column >= 1 && (size_t)column <= text.n + 2);
    return true;
}

#endif
