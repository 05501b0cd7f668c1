/* fair.h - what part of a key's limits is this process's. Pure.
 *
 * Processes of one machine that use the same key tell each other by leases
 * what they could use (nouns.h). Each divides the limit by the same rule: who
 * wants less than an equal part gets what it wants, the rest is divided
 * equally. A part is taken only out of what nobody else holds, so that all
 * parts together are never more than the whole, in whatever order processes
 * come, go and die.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_FAIR_H
#define TR_PLAN_FAIR_H

#include "plan/pace.h"

#define TR_FAIR_MAX 128            /* processes that share one key */
#define TR_FAIR_EVERY_NS 100000000 /* time between two leases of a process */
#define TR_FAIR_LIVE_NS 3000000000 /* a lease not renewed ends after that */

struct tr_fair {
    struct tr_lease mine;
    uint32_t others;              /* live leases besides mine */
    int64_t looked_at;
    double used[TR_LIMIT_KINDS];  /* units per second, of late */
    int64_t short_until[TR_LIMIT_KINDS]; /* counts as kept back until */
    int64_t heard_at;             /* refusals up to here are known to pace */
    struct tr_fair_seen {         /* of each other, what pace has heard */
        uint64_t id;
        int64_t beat_at;
        double sent[TR_LIMIT_KINDS];
    } seen[TR_FAIR_MAX];
    uint32_t seen_count;
};

void tr_fair_init(struct tr_fair *f, int64_t now);

/* A lease that has not ended. */
bool tr_lease_is_live(const struct tr_lease *lease, int64_t now);

/* Divides 1 among n by what each wants. */
void tr_fair_divide(const double *want, double *part, uint32_t n);

/* A request had to wait for time: the limits that kept it back are short. */
void tr_fair_kept_back(struct tr_fair *f, const struct tr_pace *p,
                       int64_t now);

/* Three steps, every TR_FAIR_EVERY_NS. What this process says. */
void tr_fair_look(struct tr_fair *f, const struct tr_pace *p, int64_t now);
/* Its part, given all other leases, dead ones too: to be done while nobody
 * else does it. n <= TR_FAIR_MAX. */
void tr_fair_take(struct tr_fair *f, const struct tr_lease *all, uint32_t n,
                  int64_t now);
/* The pace hears its part and what the others have learned. */
void tr_fair_tell(struct tr_fair *f, struct tr_pace *p,
                  const struct tr_lease *all, uint32_t n, int64_t now);

#endif
