/* tally.h - money by reservation, tokens, counts. Pure.
 *
 * Integer nano-dollars, saturating. reserved + spent + unknown never exceeds
 * the cap at any instant.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_TALLY_H
#define TR_PLAN_TALLY_H

#include "nouns.h"

#define TR_NANO INT64_C(1000000000) /* nano-dollars in a dollar */

struct tr_money {
    int64_t cap;       /* nano-dollars; -1: none */
    int64_t spent;     /* settled, earlier runs of the job included */
    int64_t unknown;   /* bounds of outcomes nobody knows */
    int64_t reserved;  /* bounds of attempts with an intent */
    int64_t budget;    /* what the user said, -1: nothing; cap is the same in
                          the terms of spent, which may be older; 0 where
                          more than the budget was used before */
    int64_t withheld;  /* of the cap: not ours to reserve (plan/ledger.h) */
};

/* Cost of tokens in nano-dollars, rounded up; prices in pico-dollars per
 * token as in tr_model_facts. -1 when a needed price is unknown. */
int64_t tr_cost(const struct tr_model_facts *facts,
                const struct tr_usage *usage);
/* Upper bound: all input at the dearest input price, all of the cap. */
int64_t tr_cost_bound(const struct tr_model_facts *facts, int64_t in_tokens,
                      int64_t out_tokens);
static inline bool tr_priced(const struct tr_model_facts *f)
{
    return f->price_in >= 0 && f->price_out >= 0;
}

/* Of the budget: used, by this store, in the period it covers. Where cap is 0
 * that is the whole budget and what came since. */
static inline int64_t tr_money_used(const struct tr_money *m)
{
    int64_t earlier = m->cap < 0 ? 0 : m->cap - m->budget;

    return m->spent + m->unknown > earlier ? m->spent + m->unknown - earlier
                                           : 0;
}

bool tr_money_reserve(struct tr_money *m, int64_t bound); /* false: no room */
/* Settles an attempt; returns what counts as spent and what stays unknown
 * by billing and usage. A reported cost above the bound is taken as it is: the
 * provider's bill is the truth. */
struct tr_settled {
    int64_t spent, unknown;
};
struct tr_settled tr_money_settle(struct tr_money *m, int64_t bound,
                                  enum tr_billing billing,
                                  const struct tr_model_facts *facts,
                                  const struct tr_usage *usage);
/* The same for a budget in tokens: what was counted, or the bound. */
struct tr_settled tr_tokens_settle(struct tr_money *m, int64_t bound,
                                   enum tr_billing billing,
                                   const struct tr_usage *usage);
void tr_money_unreserve(struct tr_money *m, int64_t bound); /* never sent */
int64_t tr_money_left(const struct tr_money *m); /* INT64_MAX without cap */

/* What `times` of those cost of which n cost nano together; n > 0. */
int64_t tr_money_times(int64_t nano, int64_t n, int64_t times);

/* "$0.0042", "$12.30": money for people; out has room for 32 bytes. */
const char *tr_money_text(int64_t nano, char *out, size_t size);

#endif
