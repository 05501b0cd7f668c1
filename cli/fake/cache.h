/* cache.h - the fake's prompt cache: beginnings of prompts, kept in steps.
 *
 * As providers have it: a prompt's beginning is known by its bytes, in steps of
 * 128 tokens, or as one piece up to a mark; it can be read from the moment the
 * first answer with it begins, not before.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_FAKE_CACHE_H
#define TR_FAKE_CACHE_H

#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

enum { FAKE_STEP_TOKENS = 128, FAKE_STEPS_MAX = 256 };

/* A prompt as it is read, part by part. */
struct fake_prefix {
    uint64_t hash;      /* of all bytes so far */
    size_t bytes;
    uint64_t steps[FAKE_STEPS_MAX]; /* hash at the end of each step */
    size_t step_count;
};
void fake_prefix_begin(struct fake_prefix *p, struct tr_str key);
void fake_prefix_add(struct fake_prefix *p, struct tr_str bytes);

#define FAKE_CACHE_SLOTS 65536u /* a new one takes the place of an old one */

struct fake_cache {
    struct fake_kept {
        uint64_t hash;     /* 0: free */
        int64_t ready_ns;
    } *slots;              /* owned; NULL until something is kept */
};
void fake_cache_release(struct fake_cache *c);
bool fake_cache_has(const struct fake_cache *c, uint64_t hash, int64_t now_ns);
/* One that is there keeps its time. */
void fake_cache_keep(struct fake_cache *c, uint64_t hash, int64_t ready_ns);

#endif
