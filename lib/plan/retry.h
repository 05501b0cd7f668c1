/* retry.h - what an outcome means: the one table, and back-off. Pure.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_RETRY_H
#define TR_PLAN_RETRY_H

#include "nouns.h"

enum tr_action {
    TR_DO_CHECK,   /* read the answer, settle what is right */
    TR_DO_HALVE,   /* split; a single row fails with the outcome's reason */
    TR_DO_AGAIN,   /* same rows later, new ids */
    TR_DO_NOW,     /* same rows at once (lane adapted) */
    TR_DO_STOP     /* the lane takes nothing more */
};

/* Who an attempt without success is charged to. */
enum tr_charge {
    TR_CHARGE_NOBODY,
    TR_CHARGE_ROWS, /* alone: the row's five tries; in company: halve */
    TR_CHARGE_LANE  /* lane health; three in a row while others succeed: halve,
                       and alone that counts as one of the row's tries */
};

struct tr_rule {
    enum tr_action action;
    enum tr_charge charge;
    enum tr_why why;       /* reason of a row that ends by it, alone;
                              NOT_ASKED: no row ever does */
    bool slows;            /* tells the pace to slow down */
};

/* The row of the table for an outcome; static. */
const struct tr_rule *tr_rule(enum tr_outcome outcome);

#define TR_TRIES_LONG 40       /* from so many on it backs off for longer */
#define TR_TRIES_ALONE 5       /* failed attempts alone before a row fails */
#define TR_LANE_TRIES_TOGETHER 3

/* How long to leave a server alone that said told_ms (below 0: nothing): never
 * less, so that whoever heard the same does not return together up to a tenth
 * more, a minute at most, and a day in all. unit in [0,1). Nanoseconds. */
int64_t tr_told_wait_ns(int64_t told_ms, double unit);

/* Back-off with full jitter: uniform in [0, min(cap, base 2^tries)) plus
 * tr_told_wait_ns(floor_ms, unit). Nanoseconds. The cap is 30 s
 * for the first ten minutes or so, which is when --max-wait usually ends a run;
 * who goes on (a batch is under way, or --max-wait says so) comes less and less
 * often from TR_TRIES_LONG tries on, after up to 15 minutes at last: each
 * try may be billed. */
int64_t tr_backoff_ns(uint32_t tries, int64_t floor_ms, double unit);

/* One retry budget per lane: earned a tenth per success, spent one per retry,
 * starting with 3. An empty budget delays (returns false), it never fails a
 * row and never stops the last retry: the caller waits longer instead. */
struct tr_retry_budget {
    double tokens;
};
void tr_retry_budget_init(struct tr_retry_budget *b);
void tr_retry_budget_earn(struct tr_retry_budget *b);
bool tr_retry_budget_take(struct tr_retry_budget *b);

/* Group commit: is it time to sync? So that syncing takes a small share of
 * the time, and yet nothing waits when there is nothing else to do. */
struct tr_flush {
    int64_t last_at;     /* end of the last commit */
    int64_t last_cost;   /* how long it took, smoothed, ns */
    int64_t oldest_at;   /* when the oldest pending thing arrived; 0: none */
};
/* starved: slots are free and the next packs only wait for their intents.
 * pending: rows and intents waiting. */
bool tr_flush_due(const struct tr_flush *f, bool starved, uint32_t pending,
                  int64_t now);
void tr_flush_done(struct tr_flush *f, int64_t began, int64_t ended);
/* When due at the latest, unless starved makes it sooner. */
int64_t tr_flush_wake(const struct tr_flush *f);

#endif
