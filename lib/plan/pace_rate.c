/* pace_rate.c - the rates that a pace aims at, what is owed at them, and how
 * processes with one key divide them.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/pacing.h"

#include "base/clock.h"

#include <math.h>

#define HEADROOM 0.997          /* of a learned rate: jitter costs no refusal */
#define BURST_S 0.1             /* what may come at once */
#define BURST_BLIND_S 0.03      /* where the limit is only estimated */
#define BURST_TIGHT_S 0.01      /* where a bucket holds a few requests */
#define EASE_HOLD (15 * 60 * TR_S)
#define EASE_STEP 1.1           /* a minute, after the hold */

/* ---- rates ------------------------------------------------------------- */

bool tr_pace_knows_limit(const struct tr_pace *p)
{
    for (int u = 0; u < TR_PACE_UNITS; u++)
        if (p->buckets[u].learned > 0 || p->buckets[u].ceiling > 0)
            return true;
    return false;
}

/* Nobody knows a limit, so feel for one carefully. The user's own number of
 * requests in flight, or very few, is careful enough. */
static bool is_careful(const struct tr_pace *p)
{
    return p->opts.concurrency <= 0 && !tr_pace_knows_limit(p) &&
           p->flight.most > TR_PACE_START;
}

bool tr_pace_is_estimated(const struct tr_pace *p, int unit)
{
    return unit <= TR_PACE_TOKENS && p->buckets[unit].learned <= 0;
}

/* After "Slow Down". No ramp begins below what a run starts with, so that much
 * is always allowed. */
static double eased(const struct tr_pace *p, int64_t now)
{
    double minutes = (double)(now - p->eased_at - EASE_HOLD) / (60.0 * TR_S);
    double start = p->latency_ns > 0 ? TR_PACE_START * TR_S / p->latency_ns : 1;

    return fmax(p->eased, start * p->part[TR_LIMIT_REQUESTS]) *
           (minutes > 0 ? pow(EASE_STEP, minutes) : 1);
}

/* The parts of tokens are tokens. */
static int kind_of(int unit)
{
    return unit == TR_PACE_REQUESTS ? TR_LIMIT_REQUESTS : TR_LIMIT_TOKENS;
}

double tr_pace_own_rate(const struct tr_pace *p, int unit, int64_t now)
{
    const struct tr_bucket *b = &p->buckets[unit];

    if (b->learned > 0)
        return HEADROOM * b->learned * b->correction * p->trust;
    if (!tr_pace_is_estimated(p, unit))
        return 0;
    return tr_estimate_rate(&b->estimate,
                            unit == TR_PACE_REQUESTS && is_careful(p), now);
}

/* Several estimates of one limit drift apart: where the refusals of all teach
 * all, one of those who share the key leads (fair.c). */
static double key_rate(const struct tr_pace *p, int unit, int64_t now)
{
    const struct tr_bucket *b = &p->buckets[unit];
    bool told = b->told > 0 && tr_pace_is_estimated(p, unit) &&
                (b->follows || b->estimate.phase == TR_EST_START);

    return tr_pace_lower(told ? b->told : tr_pace_own_rate(p, unit, now),
                         b->ceiling);
}

double tr_pace_rate(const struct tr_pace *p, int unit, int64_t now)
{
    double r = key_rate(p, unit, now) * p->part[kind_of(unit)];

    return unit == TR_PACE_REQUESTS && p->eased > 0
               ? tr_pace_lower(r, eased(p, now)) : r;
}

/* ---- debts ------------------------------------------------------------- */

double tr_pace_cost(const struct tr_pace *p, int unit, int64_t tokens)
{
    if (unit == TR_PACE_REQUESTS)
        return 1;
    return tokens > 0 ? p->share[unit] * (double)tokens : 0;
}

/* How much may come at once. */
static double burst_s(const struct tr_pace *p, int unit, double r)
{
    const struct tr_bucket *b = &p->buckets[unit];

    if (tr_pace_is_estimated(p, unit))
        return tr_estimate_is_tight(&b->estimate) ? BURST_TIGHT_S
                                                  : BURST_BLIND_S;
    if (unit == TR_PACE_REQUESTS && r < 1 / BURST_S)
        return BURST_S * BURST_S * r * BURST_S * r; /* by the second, maybe */
    return BURST_S;
}

/* The rate may grow with time: what was sent is paid at the rate of then. */
int64_t tr_pace_bucket_wait(const struct tr_pace *p, int unit, bool probe,
                            int64_t now)
{
    const struct tr_bucket *b = &p->buckets[unit];
    double r = tr_pace_rate(p, unit, now);
    int64_t from;

    if (!probe && tr_pace_is_estimated(p, unit) && b->estimate.hold_until > now)
        return b->estimate.hold_until - now;
    if (r <= 0 || b->due_at <= now)
        return 0;
    from = b->due_at - tr_nanos(burst_s(p, unit, r));
    return from > now ? from - now : 0;
}

void tr_pace_heed_hold(struct tr_pace *p, int unit, int64_t now)
{
    struct tr_bucket *b = &p->buckets[unit];
    double r = tr_pace_rate(p, unit, now);
    int64_t due = tr_later(b->estimate.hold_until,
                           tr_nanos(burst_s(p, unit, r)));

    if (tr_pace_is_estimated(p, unit) && b->estimate.phase != TR_EST_DARK &&
        b->estimate.hold_until > now && r > 0 && b->due_at < due)
        b->due_at = due;
}

void tr_pace_take(struct tr_pace *p, int unit, double units, int64_t now)
{
    struct tr_bucket *b = &p->buckets[unit];
    double r = tr_pace_rate(p, unit, now);

    if (b->due_at < now)
        b->due_at = now;
    if (r > 0)
        b->due_at = tr_later(b->due_at, tr_nanos(units / r));
}

void tr_pace_give(struct tr_pace *p, int unit, double units, int64_t now)
{
    double r = tr_pace_rate(p, unit, now);

    if (r > 0)
        p->buckets[unit].due_at -= tr_nanos(units / r);
}

/* A rate that is only felt for grows while something else holds requests back:
 * a moment at it is no debt of hours at the next one. No wait becomes longer
 * than what is under way takes, but for requests that take turns. What the
 * user's limit asks for is kept. */
static void bucket_rescale(struct tr_pace *p, int unit, double before,
                           int64_t now)
{
    struct tr_bucket *b = &p->buckets[unit];
    double after = tr_pace_rate(p, unit, now), was, owed, most;

    if (before <= 0 || after <= 0 || b->due_at <= now)
        return;
    was = (double)(b->due_at - now) / TR_S;
    owed = was * before / after;
    most = (p->in_flight + 2) * b->estimate.most / after;
    if (tr_pace_is_estimated(p, unit))
        most = fmax(most, TR_PACE_TURNS_S);
    if (b->ceiling <= 0)
        owed = fmin(owed, fmax(was, most));
    b->due_at = tr_later(now, tr_nanos(owed));
}

void tr_pace_rates(const struct tr_pace *p, double r[TR_PACE_UNITS],
                   int64_t now)
{
    for (int u = 0; u < TR_PACE_UNITS; u++)
        r[u] = tr_pace_rate(p, u, now);
}

void tr_pace_rescale(struct tr_pace *p, const double before[TR_PACE_UNITS],
                     int64_t now)
{
    for (int u = 0; u < TR_PACE_UNITS; u++)
        bucket_rescale(p, u, before[u], now);
}

void tr_pace_follow_clock(struct tr_pace *p, int64_t now)
{
    int64_t back = p->seen_at - now;

    if (back > 0) {
        int64_t *const times[] = {&p->hold_until, &p->wished_until,
                                  &p->used_up_until, &p->pressed_until,
                                  &p->trust_at, &p->eased_at, &p->minute_at,
                                  &p->served_at,
                                  &p->flight.looked_at};

        for (size_t i = 0; i < sizeof times / sizeof *times; i++)
            *times[i] -= back;
        for (int u = 0; u < TR_PACE_UNITS; u++) {
            p->buckets[u].due_at -= back;
            p->buckets[u].guess.at = p->buckets[u].level_at = 0;
            p->buckets[u].boosted_at -= back;
            tr_estimate_shift(&p->buckets[u].estimate, back);
        }
        /* Orders of sends cannot be compared across the step. */
        p->cut_at = p->headers_at = p->lowered_at = INT64_MIN;
    }
    p->seen_at = now;
}

/* ---- one key, several processes --------------------------------------- */

/* Never nothing: debts are kept as times, which a part of 0 would lose. */
#define PART_LEAST 0.001

static int unit_of(int kind)
{
    return kind == TR_LIMIT_TOKENS ? TR_PACE_TOKENS : TR_PACE_REQUESTS;
}

void tr_pace_part(struct tr_pace *p, const double *part, int64_t now)
{
    double before[TR_PACE_UNITS];

    tr_pace_follow_clock(p, now);
    tr_pace_rates(p, before, now);
    for (int k = 0; k < TR_LIMIT_KINDS; k++)
        p->part[k] = part[k] > PART_LEAST ? fmin(part[k], 1) : PART_LEAST;
    for (int u = 0; u < TR_PACE_UNITS; u++)
        p->buckets[u].estimate.others = 1 - p->part[kind_of(u)];
    tr_pace_rescale(p, before, now);
}

void tr_pace_told(struct tr_pace *p, const double *said, const bool *follows,
                  int64_t now)
{
    double before[TR_PACE_UNITS];

    tr_pace_follow_clock(p, now);
    tr_pace_rates(p, before, now);
    for (int k = 0; k < TR_LIMIT_KINDS; k++) {
        struct tr_bucket *b = &p->buckets[unit_of(k)];

        b->told = isfinite(said[k]) && said[k] > 0 ? said[k] : 0;
        b->follows = follows[k] && b->told > 0;
    }
    tr_pace_rescale(p, before, now);
}

void tr_pace_sent_elsewhere(struct tr_pace *p, const double *units,
                            int64_t from, int64_t to)
{
    for (int u = 0; u < TR_PACE_UNITS; u++)
        tr_estimate_others(&p->buckets[u].estimate,
                           units[kind_of(u)] *
                               (u > TR_PACE_TOKENS ? p->share[u] : 1),
                           from, to);
}

double tr_pace_key_rate(const struct tr_pace *p, int kind, int64_t now)
{
    return key_rate(p, unit_of(kind), now);
}

double tr_pace_learned_rate(const struct tr_pace *p, int kind, int64_t now)
{
    const struct tr_bucket *b = &p->buckets[unit_of(kind)];

    return b->learned > 0 || b->estimate.phase != TR_EST_START
               ? tr_pace_own_rate(p, unit_of(kind), now) : 0;
}

bool tr_pace_is_short(const struct tr_pace *p, int kind, int64_t now)
{
    for (int u = 0; u < TR_PACE_UNITS; u++)
        if (kind_of(u) == kind && tr_pace_bucket_wait(p, u, false, now) > 0)
            return true;
    return false;
}

double tr_pace_rpm(const struct tr_pace *p)
{
    return tr_pace_rate(p, TR_PACE_REQUESTS, p->seen_at) * 60;
}
