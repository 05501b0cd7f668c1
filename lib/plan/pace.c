/* pace.c - when the next request may leave: pacers and a window.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/pacing.h"

#include "base/clock.h"

#include <math.h>

#define HELD_S 0.01             /* a sender that lags so little still waits */
#define LOWERED 0.75            /* of what was under way when last refused */
#define PATIENCE 8.0            /* times the latency, ... */
#define PATIENCE_LEAST (5 * TR_S)
#define PATIENCE_MOST (24 * 3600 * TR_S)

static double window_max(const struct tr_pace_opts *opts)
{
    int most = opts->room > 0 ? opts->room : TR_CONCURRENCY_MAX;

    if (opts->concurrency > 0)
        most = opts->concurrency;
    if (opts->concurrency_max > 0 && opts->concurrency_max < most)
        most = opts->concurrency_max;
    return most;
}

void tr_pace_init(struct tr_pace *p, const struct tr_pace_opts *opts,
                  int64_t now)
{
    *p = (struct tr_pace){
        .opts = *opts,
        .trust = 1,
        .trust_at = now,
        .cut_at = INT64_MIN,
        .headers_at = INT64_MIN,
        .lowered_at = INT64_MIN,
        .hold_until = now,
        .seen_at = now,
        .minute_at = now,
        .share = {0, 1, 0.9, 0.1},
        .part = {1, 1},
    };
    p->buckets[TR_PACE_REQUESTS].ceiling = opts->rpm / 60;
    p->buckets[TR_PACE_TOKENS].ceiling = opts->tpm / 60;
    for (int u = 0; u < TR_PACE_UNITS; u++) {
        p->buckets[u].correction = p->buckets[u].boost = 1;
        p->buckets[u].due_at = now;
        tr_estimate_init(&p->buckets[u].estimate, now);
    }
    tr_inflight_init(&p->flight,
                     opts->concurrency > 0 ? opts->concurrency : TR_PACE_START,
                     window_max(opts), now);
    p->flight.plain = opts->concurrency > 0;
    p->window = p->flight.limit;
}

/* ---- sending ----------------------------------------------------------- */

static int64_t wait_as(const struct tr_pace *p, bool probe, int64_t now)
{
    int64_t wait;

    if (p->in_flight - p->stuck >= (int)p->window ||
        p->in_flight >= (int)p->flight.most)
        return TR_PACE_FULL;
    /* Only a send or a reply can follow a clock that stepped back. */
    if (now < p->seen_at && p->in_flight == 0)
        return 0;
    wait = p->hold_until > now ? p->hold_until - now : 0;
    for (int u = 0; u < TR_PACE_UNITS; u++) {
        int64_t more = tr_pace_bucket_wait(p, u, probe, now);

        if (more > wait)
            wait = more;
    }
    return wait;
}

int64_t tr_pace_wait(const struct tr_pace *p, int64_t now)
{
    return wait_as(p, false, now);
}

int64_t tr_pace_probe_wait(const struct tr_pace *p, int64_t now)
{
    return wait_as(p, true, now);
}

int64_t tr_pace_patience(const struct tr_pace *p)
{
    return (int64_t)fmax(PATIENCE_LEAST, fmin(PATIENCE * p->latency_ns,
                                              PATIENCE_MOST));
}

void tr_pace_stuck(struct tr_pace *p, int n)
{
    p->stuck = n < (int)p->window ? n : (int)p->window;
}

static void count_minute(struct tr_pace *p, int64_t now)
{
    double minute = 60.0 * TR_S, passed = (double)(now - p->minute_at);

    if (passed >= minute) {
        p->minute_rate[2] = p->minute_rate[1];
        p->minute_rate[1] = p->minute_rate[0];
        p->minute_rate[0] = p->minute_sent / passed * TR_S;
        p->minute_sent = 0;
        p->minute_at = now;
    }
    p->minute_sent++;
}

void tr_pace_count_sent(struct tr_pace *p, int64_t tokens, double times)
{
    p->sent[TR_LIMIT_REQUESTS] += times;
    p->sent[TR_LIMIT_TOKENS] += times * tr_pace_cost(p, TR_PACE_TOKENS, tokens);
}

/* Are clearly fewer under way than when others were refused, or very few? */
bool tr_pace_is_lowered(const struct tr_pace *p)
{
    return p->in_flight < fmax(LOWERED * p->cut_flight, TR_PACE_START);
}

void tr_pace_sent(struct tr_pace *p, int64_t tokens, int64_t now)
{
    double r[TR_PACE_UNITS];

    tr_pace_follow_clock(p, now);
    tr_pace_rates(p, r, now);
    for (int u = 0; u < TR_PACE_UNITS; u++) {
        double units = tr_pace_cost(p, u, tokens);

        tr_estimate_sent(&p->buckets[u].estimate, units,
                         r[u] > 0 && now - p->buckets[u].due_at <=
                                         tr_nanos(HELD_S + 1 / r[u]), now);
        tr_pace_take(p, u, units, now);
        tr_pace_heed_hold(p, u, now);
    }
    tr_usual_sent(&p->usual, !p->usual.known || tr_pace_is_lowered(p));
    p->in_flight++;
    count_minute(p, now);
    tr_pace_count_sent(p, tokens, 1);
}
