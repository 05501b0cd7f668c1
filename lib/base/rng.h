/* rng.h - a small seeded generator for shuffles, ids and jitter.
 *
 * splitmix64 (Steele, Lea, Flood 2014): equal seeds give equal streams on
 * every machine, which resumes and simulations rely on. Not for secrets.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_RNG_H
#define TR_BASE_RNG_H

#include <stdint.h>

struct tr_rng {
    uint64_t state;
};

static inline uint64_t tr_rng_next(struct tr_rng *r)
{
    uint64_t z = (r->state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Uniform in [0, n); n > 0. The bias of the multiply-shift is below n/2^64. */
static inline uint64_t tr_rng_below(struct tr_rng *r, uint64_t n)
{
    __extension__ typedef unsigned __int128 wide;

    return (uint64_t)(((wide)tr_rng_next(r) * n) >> 64);
}

/* Uniform in [0, 1). */
static inline double tr_rng_unit(struct tr_rng *r)
{
    return (double)(tr_rng_next(r) >> 11) * 0x1p-53;
}

#endif
