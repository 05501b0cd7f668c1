/* pacing.h - a pace from inside, for the files that are one together.
 *
 *   pace_rate.c   rates aimed at, what is owed at them, who shares them
 *   pace.c        when the next request may leave
 *   pace_reply.c  what a reply says about rates, debts and the window
 *
 * Each knows those above it. Nobody else includes this file.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_PACING_H
#define TR_PLAN_PACING_H

#include "plan/pace.h"

enum { TR_PACE_START = 4 }; /* requests in flight that nobody has to learn */
#define TR_PACE_TURNS_S 60.0 /* requests may owe so much after a refusal */

/* ---- pace_rate.c ------------------------------------------------------- */

bool tr_pace_knows_limit(const struct tr_pace *p);
/* No header states this limit: its refusals teach it. */
bool tr_pace_is_estimated(const struct tr_pace *p, int unit);
/* Units per second for the whole key as our own replies taught it; 0:
 * unknown. */
double tr_pace_own_rate(const struct tr_pace *p, int unit, int64_t now);
/* Units per second now aimed at; 0: no limit known. */
double tr_pace_rate(const struct tr_pace *p, int unit, int64_t now);

/* Before a change of rates, and after it: a debt was made at the old rate and
 * is paid at the new one. */
void tr_pace_rates(const struct tr_pace *p, double r[TR_PACE_UNITS],
                   int64_t now);
void tr_pace_rescale(struct tr_pace *p, const double before[TR_PACE_UNITS],
                     int64_t now);

/* What a request of so many tokens takes from a bucket. */
double tr_pace_cost(const struct tr_pace *p, int unit, int64_t tokens);
void tr_pace_take(struct tr_pace *p, int unit, double units, int64_t now);
void tr_pace_give(struct tr_pace *p, int unit, double units, int64_t now);
/* Nanoseconds until a unit may leave. probe: what is only estimated holds
 * nothing back. */
int64_t tr_pace_bucket_wait(const struct tr_pace *p, int unit, bool probe,
                            int64_t now);
/* An estimator that holds knows the bucket to be empty: nothing comes at once
 * afterwards. */
void tr_pace_heed_hold(struct tr_pace *p, int unit, int64_t now);
/* A monotonic clock that stepped back: keep all distances, so that no wait
 * becomes longer than it was. */
void tr_pace_follow_clock(struct tr_pace *p, int64_t now);

/* ---- pace.c ------------------------------------------------------------ */

/* So many were sent, times -1: were not, or were refused. */
void tr_pace_count_sent(struct tr_pace *p, int64_t tokens, double times);
/* Are clearly fewer under way than when others were refused, or very few? */
bool tr_pace_is_lowered(const struct tr_pace *p);

#endif
