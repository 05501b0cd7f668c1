/* verdict.h - a verdict as the two integers of a row in the store.
 * SPDX-License-Identifier: MIT */
#ifndef TR_STORE_VERDICT_H
#define TR_STORE_VERDICT_H

#include "nouns.h"

/* what: 0 none of the labels, n > 0 label set n - 1, n < 0 reason -n.
 * v, from the low end: position 9 bits, pack size 9, check 13, origin 16,
 * confidence + 1 (0: none) 14. SQLite stores small integers in few bytes, so
 * what is mostly zero stands on top: 4 bytes for the first origin, 6 for
 * others, 8 with a confidence. */
enum { TR_PLACE_MAX = 511, TR_CHECK_AT = 18, TR_CHECK_MAX = (1 << 13) - 1 };

/* position and pack_size: 511 at most; confidence: 10,000 at most, or none. */
void tr_verdict_pack(const struct tr_key *key, const struct tr_verdict *in,
                     int64_t *what, int64_t *v);
/* False: this is not what tr_verdict_pack() made for that key. */
bool tr_verdict_unpack(const struct tr_key *key, int64_t what, int64_t v,
                       struct tr_verdict *out);
/* The check that belongs into v, whose own place for it is zero. */
int64_t tr_verdict_check(const struct tr_key *key, int64_t what, int64_t v);
/* Eight bytes as a number. */
uint64_t tr_little_endian(const unsigned char *b);

#endif
