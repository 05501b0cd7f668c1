/* cache.h - whether the provider's prompt cache pays, and how to use it. Pure.
 *
 * A provider may keep the beginning of a prompt and take a tenth of the price
 * for it when it comes again. Some want extra for keeping, some want a mark,
 * and only what is long enough is kept. All packs of a lane begin with the same
 * words (task, labels, form), so the question is whether that beginning is long
 * enough and comes often enough.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_CACHE_H
#define TR_PLAN_CACHE_H

#include "nouns.h"

struct tr_cache_case {
    int64_t stable_tokens;  /* of the beginning, estimate */
    int64_t requests;       /* to come; -1: unknown */
    double rpm;             /* aimed at; 0: unknown */
    int at_once;            /* requests that leave together at the start */
    bool has_keys;          /* the provider routes by a key of ours */
};

struct tr_cache_plan {
    bool pays;              /* mark the beginning where a mark is needed */
    bool warms;             /* one request first; the others when it is back */
    uint32_t keys;          /* as many keys, to spread the requests over */
};

/* Prices that are not known, or no cheaper for what was kept: never pays. */
void tr_cache_choose(struct tr_cache_plan *plan, const struct tr_cache_case *c,
                     const struct tr_model_facts *facts);

#endif
