/* quote.c - what a plan would cost and take: numbers with their interval.
 *
 * Tokens are a ratio times something known: tokens a byte, tokens an item. The
 * interval of a ratio estimator has two parts: how well the ratio is known, and
 * how much single requests scatter around it.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/quote.h"

#include "plan/tally.h"

#include <math.h>

/* Without a measurement: what vocabularies and languages are known to do. */
#define GUESS_LOW 0.6
#define GUESS_HIGH 1.7
#define GUESS_OUT_LOW 0.5
#define FEW_SPREAD 0.3 /* one or two replies say nothing about their scatter */

static int64_t whole(double v)
{
    return v >= 9e18 ? INT64_MAX : v > 0 ? (int64_t)(v + 0.5) : 0;
}

/* Student's t, two-sided 95 %, within 2 % of the table from 3 degrees on. */
static double t95(double degrees)
{
    if (degrees < 2.5)
        return degrees < 1.5 ? 12.7 : 4.3;
    return 1.96 + 2.4 / degrees + 3.4 / (degrees * degrees);
}

/* How often an item is asked until it has its label. */
struct tries {
    double mean, low, high;
};

/* Few replies do not tell whether what was asked again was the usual, or all
 * there will be, as when a room for reasoning is found. */
static struct tries tries(const struct tr_meter *m)
{
    struct tries t = {1, 1, 1};
    double half;

    if (m->answered <= 0 || m->answered >= m->out.x)
        return t;
    t.mean = m->out.x / m->answered;
    /* The items of a request fail together: it is one toss of a coin. */
    half = sqrt(t.mean * (t.mean - 1) / m->out.n);
    half *= m->out.n >= 2 ? t95(m->out.n - 1) : 1;
    t.low = t.mean - half > 1 ? t.mean - half : 1;
    t.high = t.mean + half;
    return t;
}

/* y for a total of x spread over n requests, each of them made so often. */
static struct tr_span project(const struct tr_ratio *r, double x, double n,
                              const struct tries *again)
{
    double ratio = r->y / r->x, mean = ratio * x * again->mean;
    double half = FEW_SPREAD * mean, low, high;

    if (r->n >= 3) {
        double scatter = (r->yy - 2 * ratio * r->xy + ratio * ratio * r->xx) /
                         (r->n - 1);
        double times = x * again->mean / r->x; /* as much again as was seen */

        if (scatter < 0)
            scatter = 0; /* rounding */
        half = t95(r->n - 1) *
               sqrt(scatter * (times * times * r->n + n * again->mean));
    }
    low = mean - ratio * x * again->low;
    high = ratio * x * again->high - mean;
    return (struct tr_span){whole(mean),
                            whole(mean - sqrt(half * half + low * low)),
                            whole(mean + sqrt(half * half + high * high))};
}

static struct tr_span times(double mean, double low, double high)
{
    return (struct tr_span){whole(mean), whole(mean * low),
                            whole(mean * high)};
}

/* The long-prompt surcharge is judged on the mean request. */
static int64_t money(const struct tr_forecast *f,
                     const struct tr_model_facts *facts, int64_t in,
                     int64_t out, double cached_share)
{
    double n = f->requests > 0 ? (double)f->requests : 1;
    struct tr_usage u = {
        .in = whole((double)in / n), .out = whole((double)out / n),
        .cached = whole((double)in / n * cached_share),
    };
    int64_t plain = tr_cost(facts, &u);
    struct tr_model_facts flat = *facts;

    if (plain < 0)
        return -1;
    if (facts->long_from > 0 && u.in > facts->long_from)
        return whole((double)plain * n);
    flat.long_from = 0;
    u = (struct tr_usage){.in = in, .out = out,
                          .cached = whole((double)in * cached_share)};
    return tr_cost(&flat, &u);
}

void tr_quote(struct tr_quote *e, const struct tr_forecast *f,
                 const struct tr_meter *m, const struct tr_model_facts *facts)
{
    double items = (double)f->texts + (double)f->guests;
    double share = 0, most, bytes = (double)f->bytes;
    struct tries again;

    *e = (struct tr_quote){.measured = whole(m->in.n)};
    if (m->in.n > 0 && m->in.x > 0 && m->out.x > 0) {
        again = tries(m);
        share = m->in.y > 0 ? m->cached / m->in.y : 0;
        e->in = project(&m->in, bytes, (double)f->requests, &again);
        e->out = project(&m->out, items, (double)f->requests, &again);
    } else {
        e->in = times(bytes * m->tokens_per_byte, GUESS_LOW, GUESS_HIGH);
        e->out = times(items * m->out_per_item, GUESS_OUT_LOW, 1);
        e->out.high = f->cap > e->out.mean ? f->cap : e->out.mean;
    }
    /* What the cache will bring is measured, not assumed; the interval holds
     * that it brings all it can. */
    most = bytes > 0 ? (double)f->cacheable / bytes : 0;
    e->nano = (struct tr_span){
        money(f, facts, e->in.mean, e->out.mean, share),
        money(f, facts, e->in.low, e->out.low, most > share ? most : share),
        money(f, facts, e->in.high, e->out.high, share),
    };
}

int64_t tr_quote_ms(int64_t requests, int64_t tokens,
                       const struct tr_pace_known *known)
{
    double minutes = 0;

    if (requests == 0)
        return 0;
    if (known->rpm > 0)
        minutes = (double)requests / known->rpm;
    if (known->tpm > 0 && (double)tokens / known->tpm > minutes)
        minutes = (double)tokens / known->tpm;
    if (known->latency_ms > 0 && known->concurrency > 0) {
        double least = (double)requests * known->latency_ms /
                       known->concurrency / 60000;

        if (least > minutes)
            minutes = least;
    }
    return minutes > 0 ? whole(minutes * 60000) : -1;
}
