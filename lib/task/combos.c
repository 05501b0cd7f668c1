/* combos.c - combinations of labels as numbers, and back.
 *
 * First come all pairs, then all that have three labels, and so on for as long
 * as they fit. Among those of k labels a combination a < b < c ... has the
 * number C(a, 1) + C(b, 2) + C(c, 3) ...: the combinatorial number system, in
 * which the highest label that fits is the last one, and the rest says the
 * others.
 *
 * SPDX-License-Identifier: MIT */
#include "task/combos.h"

/* Ways to choose k of 0 to n labels, from those to choose k - 1 (Pascal).
 * Whatever is too many is one too many. */
static void fill_ways(uint64_t *ways, const uint64_t *fewer, uint32_t n)
{
    for (uint32_t m = 1; m <= n; m++) {
        ways[m] = ways[m - 1] + fewer[m - 1];
        if (ways[m] > TR_COMBOS_MAX)
            ways[m] = TR_COMBOS_MAX + 1;
    }
}

int tr_combos_init(struct tr_combos *c, struct tr_arena *arena, uint32_t n,
                   uint32_t most, struct tr_err *err)
{
    *c = (struct tr_combos){.n = n};
    most = most < n ? most : n;
    most = most < TR_COMBO_LABELS_MAX ? most : TR_COMBO_LABELS_MAX;
    for (uint32_t k = 0; k <= most; k++) {
        uint64_t *ways = tr_arena_alloc(arena, (n + 1) * sizeof *ways);

        if (!ways)
            return tr_fail(err, TR_NOMEM, "out of memory for label sets");
        c->ways[k] = ways;
        for (uint32_t m = 0; k == 0 && m <= n; m++)
            ways[m] = 1;
        if (k > 0)
            fill_ways(ways, c->ways[k - 1], n);
        if (k < 2)
            continue;
        if (ways[n] > TR_COMBOS_MAX - c->count)
            break;
        c->count += ways[n];
        c->most = k;
    }
    return TR_OK;
}

uint64_t tr_combos_number(const struct tr_combos *c, const uint32_t *labels,
                          uint32_t k)
{
    uint64_t number = 0;

    TR_ASSERT(k >= 2 && k <= c->most);
    for (uint32_t fewer = 2; fewer < k; fewer++)
        number += c->ways[fewer][c->n];
    for (uint32_t i = 0; i < k; i++)
        number += c->ways[i + 1][labels[i]];
    return number;
}

/* The highest label whose ways to stand k-th are no more than number. */
static uint32_t highest(const struct tr_combos *c, uint32_t k, uint64_t number)
{
    uint32_t low = 0, high = c->n; /* low does, high does not */

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (c->ways[k][middle] <= number)
            low = middle;
        else
            high = middle;
    }
    return low;
}

uint32_t tr_combos_labels(const struct tr_combos *c, uint64_t number,
                          uint32_t *labels)
{
    uint32_t k = 2;

    TR_ASSERT(number < c->count);
    for (; number >= c->ways[k][c->n]; k++)
        number -= c->ways[k][c->n];
    for (uint32_t i = k; i-- > 0; ) {
        labels[i] = highest(c, i + 1, number);
        number -= c->ways[i + 1][labels[i]];
    }
    return k;
}
