/* bucket.c - one limit as the headers of replies state it.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/bucket.h"

#include "base/clock.h"

#include <math.h>

#define VOTES_NEEDED 3
#define PROBE_LIMIT 30          /* so small a limit may be one a second: */
#define PROBE_PER_S 2.0         /* not slower than this */
#define PROBES 6                /* for so many replies */
#define FEW 3                   /* a limit of so few */
#define STEPS 8                 /* a level of fewer steps steers badly */
#define INFLOW 0.97             /* of what the limit says: nobody else draws */
#define BOOST 1.15              /* of a rate that may be far too low */
#define BOOST_EVERY (50 * TR_MS)
#define LEVEL_FULL 0.02         /* that little below the top is full: */
#define LEVEL_GROWS 0.3         /* the rate grows, e-folds a second */
#define LEVEL_LEARN 0.3         /* share of a new figure for the inflow */
#define LEVEL_INTEGRAL 0.02     /* e-folds a second at a distance of 1 */
#define LEVEL_GAIN 1.0          /* share of the rate at a distance of 1 */
#define TOP_EVERY (20 * TR_S)
#define DAY_MS INT64_C(86400000)

/* Windows in which providers count; the day is Groq's for requests, ten
 * seconds are Azure's. */
static const double windows_s[] = {1, 10, 60, 3600, 86400};
#define WINDOW_COUNT (sizeof windows_s / sizeof *windows_s)
#define WINDOW_USUAL_S 60

/* A limit of a few requests: what one of them leaves behind says it all. */
static double window_of_few(const struct tr_limit *l)
{
    double used = (double)(l->limit - l->remaining);
    double implied = used < 1 ? 0 : (double)l->limit * (double)l->reset_ms /
                                        (1000 * used);

    for (size_t i = 0; i < WINDOW_COUNT; i++)
        if (fabs(implied - windows_s[i]) < 0.02 * windows_s[i])
            return windows_s[i];
    return 0;
}

/* Two samples, two hypotheses. A bucket refills all the time, so the time
 * until it is full grows with what is used; a fixed window ends when it ends,
 * so its reset comes nearer as time passes. Where they differ clearly, the
 * better one gets a vote. */
static void guess_window(struct tr_window_guess *g, const struct tr_limit *l,
                         int64_t at)
{
    double used = (double)(l->limit - l->remaining);
    double reset_s = (double)l->reset_ms / 1000;
    double as_bucket, as_fixed, bucket_off, fixed_off, size_s = 0;
    bool fixed;

    /* Half used or more may be a bucket smaller than the limit it states. */
    if (used < 1 || used > (double)l->limit / 2 || reset_s <= 0)
        return;
    if (g->at == 0 || at < g->at)
        goto sample;
    as_bucket = g->reset_s * used / g->used;
    as_fixed = g->reset_s - (double)(at - g->at) / TR_S;
    if (fabs(as_bucket - as_fixed) < 0.25 * fmax(as_bucket, reset_s))
        return; /* too close to tell */
    bucket_off = fabs(reset_s - as_bucket);
    fixed_off = fabs(reset_s - as_fixed);
    fixed = fixed_off < bucket_off;
    if (fmin(bucket_off, fixed_off) > 0.15 * reset_s ||
        fmax(bucket_off, fixed_off) < 2 * fmin(bucket_off, fixed_off))
        goto sample;
    for (size_t i = 0; i < WINDOW_COUNT && size_s == 0; i++) {
        double w = windows_s[i];
        double implied = (double)l->limit * reset_s / used;

        if (fixed ? reset_s <= 1.02 * w : fabs(implied - w) < 0.25 * w)
            size_s = w;
    }
    if (size_s == 0)
        goto sample;
    if (fixed && g->says_fixed && size_s < g->says_s)
        size_s = g->says_s; /* late in the same window */
    if (g->says_s != size_s || g->says_fixed != fixed)
        g->votes = 0;
    g->says_s = size_s;
    g->says_fixed = fixed;
    if (++g->votes >= VOTES_NEEDED) {
        g->window_s = size_s;
        g->fixed = fixed;
    }
sample:
    g->used = used;
    g->reset_s = reset_s;
    g->at = at;
}

/* What flows in, as levels and what we took tell: a new figure every second.
 * False: none. */
static bool see_inflow(struct tr_bucket *b, double left, int64_t sent_at)
{
    double span = (double)(sent_at - b->level_at) / TR_S;
    bool seen = b->level_at != 0 && span > 1;
    double taken;

    if (b->level_at != 0 && span <= 1 && span >= 0)
        return false;
    taken = tr_estimate_taken(&b->estimate, sent_at);
    b->inflow = seen ? (left - b->level + taken - b->taken) / span : 0;
    b->level = left;
    b->taken = taken;
    b->level_at = sent_at;
    return seen;
}

/* Are others drawing on the same limit? Below half of what it holds, and when
 * less flows in than the limit says. What is left, spread over the time until
 * reset, is then all there is. */
static double correction(struct tr_bucket *b, const struct tr_limit *l,
                         int64_t sent_at)
{
    double missing = (double)l->reset_ms / 1000 * b->learned;
    double left = (double)l->remaining;

    see_inflow(b, left, sent_at);
    if (left >= missing || missing <= 2 || b->inflow > INFLOW * b->learned)
        return 1;
    return 0.5 + 0.5 * left / missing;
}

/* A full bucket that tells no time to fill it may be a second's. */
static void try_faster(struct tr_bucket *b, const struct tr_limit *l,
                       int64_t sent_at)
{
    if (b->guess.window_s > 0 || l->reset_ms > 1 ||
        l->remaining >= l->limit ||
        l->remaining < l->limit - l->limit / 100 - 1) {
        b->boost = 1;
    } else if (sent_at - b->boosted_at > BOOST_EVERY && b->boost < 60) {
        b->boost *= BOOST;
        b->boosted_at = sent_at;
    }
}

/* A day's limit is a stock, no pace: while there is plenty, something else
 * limits. The last of it is spread where it fills all the time; where all comes
 * back at once, nothing is gained by that. */
static bool is_plenty(const struct tr_limit *l, bool fixed, int in_flight)
{
    return l->remaining > (fixed ? 0 : l->limit / 50) + 2 * in_flight;
}

/* The most that ever remained. Far below the half that is aimed at for a while:
 * the limit was lowered. */
static void see_top(struct tr_bucket *b, double left, int64_t sent_at)
{
    if (sent_at - b->top_at > TOP_EVERY) {
        if (b->top < 0.4 * b->limit)
            b->limit = fmax(b->top, b->limit / 2);
        b->top = left;
        b->top_at = sent_at;
    }
    b->top = fmax(b->top, left);
    b->limit = fmax(b->limit, b->top);
}

/* Only what remains is told (Azure). Aim at what flows in, a little more or
 * less as the level is above or below the half of the most ever seen. A full
 * bucket hides how fast it fills, so the rate grows; a fixed window seems to
 * fill not at all, so there the level alone decides. */
static void learn_level(struct tr_bucket *b, const struct tr_limit *l,
                        int64_t sent_at)
{
    double left = (double)l->remaining, level;
    bool first = b->learned <= 0;

    if (first) {
        b->top_at = b->moved_at = sent_at;
        b->base = fmax(left, 1) / WINDOW_USUAL_S;
    }
    see_top(b, left, sent_at);
    if (b->limit < STEPS) { /* too coarse to steer by */
        b->learned = 0;
        return;
    }
    level = b->limit > 0 ? left / b->limit - 0.5 : -0.5;
    if (see_inflow(b, left, sent_at)) {
        double span = fmin(2, (double)(sent_at - b->moved_at) / TR_S);

        b->moved_at = sent_at;
        if (level > 0.5 - LEVEL_FULL)
            b->base *= exp(LEVEL_GROWS * span);
        else if (b->inflow > 0.2 * b->base)
            b->base += LEVEL_LEARN * (fmin(b->inflow, 3 * b->base) - b->base);
        else
            b->base *= exp(LEVEL_INTEGRAL * level * span);
    }
    b->base = fmax(b->base, fmax(b->limit, 1) / 86400);
    b->learned = b->base * (1 + LEVEL_GAIN * level);
    b->correction = 1;
}

static void learn_limit(struct tr_bucket *b, const struct tr_limit *l,
                        bool served, int in_flight, int64_t sent_at)
{
    /* What a refusal says of so few is too coarse. */
    if (l->limit <= 0 ||
        (l->limit <= FEW && !served && b->guess.window_s <= 0))
        return;
    if ((double)l->limit != b->limit)
        b->guess = (struct tr_window_guess){.window_s = b->guess.window_s,
                                            .fixed = b->guess.fixed};
    b->limit = (double)l->limit;
    if (l->window_ms > 0) { /* the header says it */
        b->guess.window_s = (double)l->window_ms / 1000;
    } else if (l->remaining >= 0 && l->reset_ms >= 0) {
        if (l->limit <= FEW && b->guess.window_s <= 0 && served)
            b->guess.window_s = window_of_few(l);
        guess_window(&b->guess, l, sent_at);
        try_faster(b, l, sent_at);
    }
    b->learned = b->limit / (b->guess.window_s > 0 ? b->guess.window_s
                                                   : WINDOW_USUAL_S / b->boost);
    if (b->guess.window_s <= 0 && l->limit <= PROBE_LIMIT &&
        l->remaining > l->limit / 2 && b->guess.samples++ < PROBES)
        b->learned = PROBE_PER_S;
    b->correction = l->remaining >= 0 && l->reset_ms > 0
                        ? correction(b, l, sent_at) : 1;
    if (b->guess.window_s >= TR_LONG_WINDOW_S &&
        is_plenty(l, b->guess.fixed, in_flight)) {
        b->learned = 0;
        return;
    }
    if (l->remaining == 0 && b->guess.fixed && l->reset_ms > 0) {
        int64_t wait = l->reset_ms < DAY_MS ? l->reset_ms * TR_MS
                                            : DAY_MS * TR_MS;

        if (sent_at < INT64_MAX - wait && b->due_at < sent_at + wait)
            b->due_at = sent_at + wait;
    }
}

void tr_bucket_learn(struct tr_bucket *b, const struct tr_limit *l, bool served,
                     int in_flight, int64_t sent_at)
{
    bool stated = b->limit > 0 && b->base <= 0; /* by a reply before */

    if (l->limit > 0)
        learn_limit(b, l, served, in_flight, sent_at);
    else if (l->limit < 0 && l->remaining >= 0 && !stated)
        learn_level(b, l, sent_at);
    else
        b->correction = 1; /* nothing new is said: nobody else is seen */
}
