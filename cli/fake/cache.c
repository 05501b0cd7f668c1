/* cache.c - the fake's prompt cache: beginnings of prompts, kept in steps.
 * SPDX-License-Identifier: MIT */
#include "fake/cache.h"

#include "base/mem.h"

#define STEP_BYTES (FAKE_STEP_TOKENS * 4u) /* a token is four bytes here */

static uint64_t mix(uint64_t hash, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)p[i]) * UINT64_C(0x100000001b3);
    return hash;
}

void fake_prefix_begin(struct fake_prefix *p, struct tr_str key)
{
    p->hash = mix(UINT64_C(0xcbf29ce484222325), key.p, key.n);
    p->bytes = p->step_count = 0;
}

void fake_prefix_add(struct fake_prefix *p, struct tr_str bytes)
{
    while (bytes.n) {
        size_t room = STEP_BYTES - p->bytes % STEP_BYTES;
        size_t n = bytes.n < room ? bytes.n : room;

        p->hash = mix(p->hash, bytes.p, n);
        p->bytes += n;
        if (n == room && p->step_count < FAKE_STEPS_MAX)
            p->steps[p->step_count++] = p->hash;
        bytes = tr_str(bytes.p + n, bytes.n - n);
    }
}

void fake_cache_release(struct fake_cache *c)
{
    tr_free(c->slots);
    c->slots = NULL;
}

bool fake_cache_has(const struct fake_cache *c, uint64_t hash, int64_t now_ns)
{
    const struct fake_kept *at;

    if (!c->slots)
        return false;
    at = &c->slots[hash % FAKE_CACHE_SLOTS];
    return at->hash == hash && at->ready_ns <= now_ns;
}

void fake_cache_keep(struct fake_cache *c, uint64_t hash, int64_t ready_ns)
{
    struct fake_kept *at;

    if (!c->slots)
        c->slots = tr_array(FAKE_CACHE_SLOTS, sizeof *c->slots);
    if (!c->slots)
        return; /* it keeps nothing then */
    at = &c->slots[hash % FAKE_CACHE_SLOTS];
    if (at->hash != hash || at->ready_ns > ready_ns)
        *at = (struct fake_kept){hash, ready_ns};
}
