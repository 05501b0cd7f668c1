/* bucket.h - one limit: what the headers of replies say about it. Pure.
 *
 * Providers count in seconds, minutes or days, in buckets that fill all the
 * time or in windows that end as a whole, and say limit, rest and reset, or
 * only some of them. What successive replies say tells which it is.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_BUCKET_H
#define TR_PLAN_BUCKET_H

#include "nouns.h"
#include "plan/estimate.h"

#define TR_LONG_WINDOW_S 3600.0 /* a stock rather than a pace */

/* What successive replies say about the window a limit belongs to. */
struct tr_window_guess {
    double used, reset_s;  /* the sample last compared with */
    int64_t at;            /* when it was taken; 0: none */
    double window_s;       /* the window in force; 0: none proven, a minute */
    bool fixed;            /* all comes back at once, when the window ends */
    double says_s;         /* candidate of the last votes, and how many */
    bool says_fixed;
    int votes;
    int samples;           /* replies looked at while none is proven */
};

/* One controller: rates in units per second, GCRA in nanoseconds. */
struct tr_bucket {
    double ceiling;      /* units/s by the user or provider row; 0: none */
    double learned;      /* units/s from headers; 0: unknown */
    double told;         /* units/s as others with this key say; 0: unknown */
    bool follows;        /* it stands above our own estimate */
    double limit;        /* size stated by the headers; 0 unknown */
    double correction;   /* 0.5..1, from the level the headers stated */
    int64_t due_at;      /* GCRA: theoretical arrival time of the next unit */
    struct tr_window_guess guess;
    double boost;        /* of a limit whose window is not proven */
    int64_t boosted_at;
    double level, taken; /* a sample: remaining, and what we had taken */
    int64_t level_at;    /* when it was sent; 0: none */
    double base;         /* learned from levels alone, before its gain */
    double top;          /* most that remained since top_at */
    int64_t top_at, moved_at;
    double inflow;       /* units/s between the last two samples */
    double calm;         /* rate before the doubts (pace.c) */
    struct tr_estimate estimate; /* in force while nothing is learned */
};

/* What the headers of one reply say of this limit. served: the request was not
 * refused; it left at sent_at. Only newer news than the last. */
void tr_bucket_learn(struct tr_bucket *b, const struct tr_limit *l, bool served,
                     int in_flight, int64_t sent_at);

#endif
