/* distinct.c - how many different texts there are, in bounded memory.
 *
 * Gibbons' distinct sampling: the low bits of a digest decide whether a key is
 * looked at, the high ones where it lies. When the table is full, one bit more
 * must be zero and half of the keys leave.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/distinct.h"

#include "base/mem.h"

#include <string.h>

#define FIRST_CAP 4096

static uint64_t mark_of(const struct tr_key *key)
{
    uint64_t mark;

    memcpy(&mark, key->b, sizeof mark);
    return mark ? mark : UINT64_C(1) << 63; /* 0 is a free slot */
}

static bool looked_at(const struct tr_distinct *d, uint64_t mark)
{
    return (mark & ((UINT64_C(1) << d->level) - 1)) == 0;
}

/* Where mark is, or the free slot where it belongs. */
static uint64_t *slot_of(const struct tr_distinct *d, uint64_t mark)
{
    size_t at = (size_t)(mark >> 32) & (d->cap - 1);

    while (d->slots[at] && d->slots[at] != mark)
        at = (at + 1) & (d->cap - 1);
    return &d->slots[at];
}

/* The same marks, those still looked at, in a table of cap slots. */
static bool rebuild(struct tr_distinct *d, size_t cap)
{
    struct tr_distinct to = {.cap = cap, .most = d->most, .level = d->level};

    to.slots = tr_array(cap, sizeof *to.slots);
    if (!to.slots)
        return false;
    for (size_t i = 0; i < d->cap; i++)
        if (d->slots[i] && looked_at(&to, d->slots[i])) {
            *slot_of(&to, d->slots[i]) = d->slots[i];
            to.n++;
        }
    tr_free(d->slots);
    *d = to;
    return true;
}

int64_t tr_distinct_add(struct tr_distinct *d, const struct tr_key *key)
{
    uint64_t mark = mark_of(key), *slot;
    size_t most = d->most ? d->most : TR_DISTINCT_EXACT;

    if (!looked_at(d, mark))
        return 0;
    if (d->cap) {
        slot = slot_of(d, mark);
        if (*slot)
            return 0;
    }
    while (d->n >= most) {
        d->level++;
        if (!rebuild(d, d->cap))
            return -1;
        if (!looked_at(d, mark))
            return 0;
    }
    if (2 * (d->n + 1) > d->cap &&
        !rebuild(d, d->cap ? 2 * d->cap : FIRST_CAP))
        return -1;
    *slot_of(d, mark) = mark;
    d->n++;
    return INT64_C(1) << d->level;
}

void tr_distinct_release(struct tr_distinct *d)
{
    tr_free(d->slots);
    *d = (struct tr_distinct){.most = d->most};
}
