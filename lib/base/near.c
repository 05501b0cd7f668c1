/* near.c - "did you mean": the nearest known name.
 * SPDX-License-Identifier: MIT */
#include "base/near.h"

#include <stdbool.h>
#include <stdint.h>

#define WORD_MAX 64

static unsigned char lower(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

static size_t min3(size_t a, size_t b, size_t c)
{
    a = a < b ? a : b;
    return a < c ? a : c;
}

/* Optimal string alignment. */
size_t tr_edits(struct tr_str a, struct tr_str b)
{
    size_t rows[3][WORD_MAX + 1];
    size_t *before = rows[0], *above = rows[1], *row = rows[2];

    if (a.n > WORD_MAX || b.n > WORD_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= b.n; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.n; i++) {
        size_t *spare = before;

        before = above;
        above = row;
        row = spare;
        row[0] = i;
        for (size_t j = 1; j <= b.n; j++) {
            bool same = lower(a.p[i - 1]) == lower(b.p[j - 1]);

            row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + !same);
            if (i > 1 && j > 1 && lower(a.p[i - 1]) == lower(b.p[j - 2]) &&
                lower(a.p[i - 2]) == lower(b.p[j - 1]) &&
                before[j - 2] + 1 < row[j])
                row[j] = before[j - 2] + 1;
        }
    }
    return row[b.n];
}

const char *tr_nearest(struct tr_str word, const char *const *names, size_t n)
{
    const char *best = NULL;
    size_t least = SIZE_MAX;

    if (!word.n)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        struct tr_str name = tr_str_c(names[i]);
        size_t longer = name.n > word.n ? name.n : word.n;
        size_t d = tr_edits(word, name);

        /* a third of the letters may differ, and one always may */
        if (d < least && d <= (longer < 3 ? 1 : longer / 3)) {
            least = d;
            best = names[i];
        }
    }
    return best;
}
