/* quote.h - what a plan would cost and take: numbers with their interval.
 *
 * Pure. The plan says how many bytes, items and requests there are, exactly;
 * the meter says how many tokens a provider made of such bytes and items.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_QUOTE_H
#define TR_PLAN_QUOTE_H

#include "plan/pack.h"

struct tr_forecast {        /* of a plan; saturating sums */
    int64_t texts, requests;
    int64_t guests;         /* items that are no rows (guard.h) */
    int64_t bytes;          /* of all prompts: system, schema, data */
    int64_t cacheable;      /* of those: the provider's cache may have them */
    int64_t cap;            /* output tokens allowed, over all requests */
};

struct tr_span {            /* expected, and 95 % lie between low and high */
    int64_t mean, low, high;
};

struct tr_quote {
    struct tr_span in, out; /* tokens */
    struct tr_span nano;    /* nano-dollars; all -1: a price is not known */
    int64_t measured;       /* replies it rests on; 0: a guess from bytes */
};

void tr_quote(struct tr_quote *e, const struct tr_forecast *f,
                 const struct tr_meter *m, const struct tr_model_facts *facts);

/* Milliseconds that so many requests and tokens take: under limits a minute
 * where one is known, else at `concurrency` requests of latency_ms each. -1:
 * nothing is known. */
struct tr_pace_known {
    double rpm, tpm;        /* 0: unknown */
    double latency_ms;      /* 0: unknown */
    int concurrency;
};
int64_t tr_quote_ms(int64_t requests, int64_t tokens,
                       const struct tr_pace_known *known);

#endif
