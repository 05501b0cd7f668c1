/* distinct.h - how many different texts there are, in bounded memory.
 *
 * Exact up to TR_DISTINCT_EXACT of them. Beyond, a fixed share of all keys
 * stands for the rest: 1 in 2, in 4, ... (level), chosen by the key itself, so
 * that a text is either always looked at or never. A new text then counts for
 * as many as it stands for; the error is about 0.2 %.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_DISTINCT_H
#define TR_PLAN_DISTINCT_H

#include "nouns.h"

/* Texts kept: 8 MiB, and as much again while they move. */
#define TR_DISTINCT_EXACT (1u << 19)

struct tr_distinct {
    uint64_t *slots; /* open addressing, 0: free; at most half full */
    size_t cap, n;
    size_t most;     /* kept at most; 0: TR_DISTINCT_EXACT */
    unsigned level;  /* 1 key in 2^level is looked at; 0: exact */
};

/* How many texts this one stands for: 0 when it was there before or is not
 * looked at, 1 while exact; -1: out of memory. */
int64_t tr_distinct_add(struct tr_distinct *d, const struct tr_key *key);
void tr_distinct_release(struct tr_distinct *d);

#endif
