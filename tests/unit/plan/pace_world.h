/* pace_world.h - a simulated provider and a client that sends as fast as its
 * pace lets, in virtual time. Used by test_pace.c and bench/bench_pace.c.
 *
 * SPDX-License-Identifier: MIT */
#ifndef PACE_WORLD_H
#define PACE_WORLD_H

#include "base/clock.h"
#include "base/rng.h"
#include "plan/pace.h"

#include <math.h>
#include <stdlib.h>

#define WORLD_START (5 * TR_S) /* clocks start anywhere */

enum world_style {
    WORLD_PER_MINUTE, /* limit per minute, remaining of a bucket of any size */
    WORLD_PER_BUCKET, /* limit is the size of the bucket, reset until full */
    WORLD_HIDDEN,     /* per minute; a smaller bucket does not show */
    WORLD_REMAINING,  /* only what remains */
    WORLD_SILENT
};

/* What the provider is like; set before, never changed by the run. */
struct world {
    double rate, burst_s;   /* units a second; size of the bucket or window */
    bool fixed;             /* a window that ends as a whole */
    enum world_style style;
    double latency_s;       /* median of a log-normal, sigma 0.4 */
    double refusal_s;       /* round trip of a refusal */
    bool retry_after;       /* told with a refusal */
    double changes_at_s, factor; /* the limit changes; 0: it does not */
    double phase_s;         /* how old the fixed window is at the start */
    int servers;            /* > 0: so many at a time, the others queue */
    int concurrent;         /* > 0: more at a time are refused */
    double noise;           /* share of all requests refused at any rate */
    bool overloaded;        /* both as 503; without it as 429 */
    double asks_s;          /* > 0: they ask to wait so long */
    double lag_s;           /* the client wakes up to so much late */
    double tokens_from, tokens_to; /* > 0: units are tokens, so many each */
    bool mixed;             /* of six in ten tokens are 100 to 160, of the
                               others 2,000 to 8,000, whatever the units are */
};

struct world_flight {
    int64_t sent_at, back_at;
    struct tr_limits limits;
    bool refused, noise, busy;
    int64_t wait_ms, tokens;
};

/* Seconds of the run: what was served and refused, by arrival (a server of
 * one's own: by departure). */
#define WORLD_SECONDS 3700
struct world_result {
    double served[WORLD_SECONDS];   /* units */
    int refused[WORLD_SECONDS], sent[WORLD_SECONDS];
    int seconds;
    int64_t refusals, requests;
    double latency_s;               /* mean of the served */
    int most_in_flight;
};

/* The client: a pace of any make. */
struct world_client {
    void *ctx;
    int64_t (*wait)(void *ctx, int64_t tokens, int64_t now);
    void (*sent)(void *ctx, int64_t tokens, int64_t now);
    void (*reply)(void *ctx, const struct tr_pace_news *news, int64_t now);
};

struct world_state {
    const struct world *w;
    struct tr_rng rng;
    double level;
    int64_t level_at, window_from;
    int64_t *free_at; /* per server */
    int busy;
    struct world_flight *heap; /* soonest back first */
    int n, cap;
};

static inline double world_rate(const struct world *w, int64_t at)
{
    double t = (double)(at - WORLD_START) / TR_S;

    return w->changes_at_s > 0 && t >= w->changes_at_s ? w->rate * w->factor
                                                       : w->rate;
}

static inline void world_push(struct world_state *s, struct world_flight f)
{
    int i = s->n++;

    if (s->n > s->cap) {
        s->cap = s->cap ? 2 * s->cap : 1024;
        s->heap = realloc(s->heap, (size_t)s->cap * sizeof *s->heap);
        if (!s->heap)
            abort();
    }
    for (; i > 0 && s->heap[(i - 1) / 2].back_at > f.back_at; i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = f;
}

static inline struct world_flight world_pop(struct world_state *s)
{
    struct world_flight top = s->heap[0], last = s->heap[--s->n];
    int i = 0;

    for (;;) {
        int k = 2 * i + 1;

        if (k >= s->n)
            break;
        if (k + 1 < s->n && s->heap[k + 1].back_at < s->heap[k].back_at)
            k++;
        if (s->heap[k].back_at >= last.back_at)
            break;
        s->heap[i] = s->heap[k];
        i = k;
    }
    s->heap[i] = last;
    return top;
}

/* Bucket and window up to a time; the bucket keeps its size in seconds. */
static inline void world_refill(struct world_state *s, int64_t at)
{
    const struct world *w = s->w;
    double rate = world_rate(w, at), size = fmax(1, rate * w->burst_s);
    int64_t length = (int64_t)(w->burst_s * TR_S);

    if (w->fixed) {
        while (at - s->window_from >= length) {
            s->window_from += length;
            s->level = world_rate(w, s->window_from) * w->burst_s;
        }
    } else if (at > s->level_at) {
        s->level += rate * (double)(at - s->level_at) / TR_S;
        if (s->level > size)
            s->level = size;
        s->level_at = at;
    }
}

static inline void world_admit(struct world_state *s, struct world_flight *f,
                               int64_t at)
{
    const struct world *w = s->w;
    double rate = world_rate(w, at), size, used, cost;
    struct tr_limit said = {-1, -1, -1, 0};

    cost = w->tokens_to > 0 ? (double)f->tokens : 1;
    world_refill(s, at);
    size = fmax(w->tokens_to > 0 ? w->tokens_to : 1, rate * w->burst_s);
    f->noise = w->noise > 0 && tr_rng_unit(&s->rng) < w->noise;
    f->busy = f->noise || (w->concurrent && s->n >= w->concurrent);
    f->refused = s->level < cost || f->busy;
    if (!f->refused)
        s->level -= cost;
    else if (f->noise && w->asks_s > 0)
        f->wait_ms = (int64_t)(w->asks_s * 1000);
    else if (w->retry_after)
        f->wait_ms = w->fixed
                         ? (s->window_from + (int64_t)(w->burst_s * TR_S) -
                            at) / TR_MS + 1
                         : (int64_t)((cost - s->level) / rate * 1000) + 1;
    used = size - s->level;
    said.limit = (int64_t)(w->style == WORLD_PER_BUCKET ? size : 60 * rate);
    said.remaining = (int64_t)(w->style == WORLD_HIDDEN ? 60 * rate - used
                                                        : s->level);
    said.reset_ms =
        w->fixed ? (s->window_from + (int64_t)(w->burst_s * TR_S) - at) / TR_MS
                 : (int64_t)(used / rate * 1000);
    if (w->style == WORLD_REMAINING)
        said.limit = said.reset_ms = -1;
    if (w->style != WORLD_SILENT && w->tokens_to > 0)
        f->limits.tokens = said;
    else if (w->style != WORLD_SILENT)
        f->limits.requests = said;
}

static inline double world_normal(struct tr_rng *rng)
{
    double u = 1 - tr_rng_unit(rng), v = tr_rng_unit(rng);

    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static inline int64_t world_back_at(struct world_state *s, int64_t now)
{
    const struct world *w = s->w;
    double service = w->latency_s * exp(0.4 * world_normal(&s->rng));
    int64_t from = now, *first;

    if (w->servers) {
        first = &s->free_at[0];
        for (int i = 1; i < w->servers; i++)
            if (s->free_at[i] < *first)
                first = &s->free_at[i];
        if (*first > from)
            from = *first;
        *first = from + (int64_t)(service * TR_S);
        return *first;
    }
    return from + (int64_t)(service * TR_S);
}

/* Of the next request. */
static inline int64_t world_tokens(struct world_state *s)
{
    double from = s->w->tokens_from, to = s->w->tokens_to;

    if (s->w->mixed) {
        bool small = tr_rng_unit(&s->rng) < 0.6;

        from = small ? 100 : 2000;
        to = small ? 160 : 8000;
    }
    return to > 0 ? (int64_t)(from + tr_rng_unit(&s->rng) * (to - from)) : 100;
}

static inline void world_run(struct world_result *out, const struct world *w,
                             const struct world_client *c, uint64_t seed,
                             double length_s)
{
    struct world_state s = {.w = w, .rng = {seed}};
    int64_t now = WORLD_START, end = now + (int64_t)(length_s * TR_S);
    double latency = 0;
    int64_t tokens = 0;

    *out = (struct world_result){.seconds = (int)length_s};
    s.level = fmax(1, w->rate * w->burst_s);
    s.level_at = now;
    s.window_from = now - (int64_t)(w->phase_s * TR_S);
    s.free_at = calloc((size_t)w->servers + 1, sizeof *s.free_at);
    if (!s.free_at)
        abort();
    while (now < end) {
        int64_t wait;

        if (!tokens)
            tokens = world_tokens(&s);
        wait = c->wait(c->ctx, tokens, now);
        if (wait == 0) {
            struct world_flight f = {
                .sent_at = now, .wait_ms = -1, .tokens = tokens,
                .limits = {{-1, -1, -1, 0}, {-1, -1, -1, 0}, {-1, -1, -1, 0},
                           {-1, -1, -1, 0}}};
            /* Half the round trip of a refusal, and some jitter. */
            int64_t at = now + (int64_t)(w->refusal_s * TR_S / 2) +
                         (int64_t)(tr_rng_unit(&s.rng) * 2 * TR_MS);
            int second = (int)((at - WORLD_START) / TR_S);

            world_admit(&s, &f, at);
            f.back_at = f.refused ? now + (int64_t)(w->refusal_s * TR_S)
                                  : world_back_at(&s, now);
            if (second < WORLD_SECONDS) {
                if (!f.refused && !w->servers)
                    out->served[second] += w->tokens_to > 0 ? (double)tokens
                                                            : 1;
                out->refused[second] += f.refused;
                out->sent[second]++;
            }
            out->requests++;
            out->refusals += f.refused;
            world_push(&s, f);
            if (s.n > out->most_in_flight)
                out->most_in_flight = s.n;
            c->sent(c->ctx, tokens, now);
            tokens = 0;
            continue;
        }
        if (wait != TR_PACE_FULL && (!s.n || now + wait < s.heap[0].back_at)) {
            now += wait + (int64_t)(tr_rng_unit(&s.rng) * w->lag_s * TR_S);
            continue;
        }
        if (!s.n)
            break; /* FULL with nothing in flight: stuck; sent[] shows it */
        {
            struct world_flight f = world_pop(&s);
            struct tr_pace_news news = {
                .outcome = f.refused ? TR_OUT_THROTTLED : TR_OUT_OK,
                .status = !f.refused                ? 200
                          : f.busy && w->overloaded ? 503 : 429,
                .sent_at = f.sent_at, .tokens_estimate = f.tokens,
                .tokens_true = f.refused ? -1 : f.tokens,
                .limits = &f.limits, .retry_after_ms = f.wait_ms,
                .unit = tr_rng_unit(&s.rng),
            };

            if (f.back_at > now) /* else it was there when we woke up */
                now = f.back_at;
            if (!f.refused)
                latency += (double)(f.back_at - f.sent_at) / TR_S;
            if (w->servers && !f.refused && now < end) /* what waits is not served yet */
                out->served[(now - WORLD_START) / TR_S]++;
            c->reply(c->ctx, &news, now);
        }
    }
    if (out->requests > out->refusals)
        out->latency_s = latency / (double)(out->requests - out->refusals);
    free(s.heap);
    free(s.free_at);
}

/* Share of what the limit allows between two seconds that was served. */
static inline double world_used(const struct world_result *r,
                                const struct world *w, int from, int to)
{
    double served = 0, allowed = 0;

    for (int i = from; i < to; i++) {
        served += r->served[i];
        allowed += world_rate(w, WORLD_START + i * TR_S);
    }
    return allowed > 0 ? served / allowed : 0;
}

static inline int64_t world_refused(const struct world_result *r, int from,
                                    int to)
{
    int64_t n = 0;

    for (int i = from; i < to; i++)
        n += r->refused[i];
    return n;
}

/* Seconds after the change until 97 % of the new limit are used, and stay so
 * on average over the next twenty seconds or fifty requests. -1: never. */
static inline int world_back(const struct world_result *r,
                             const struct world *w)
{
    int from = (int)w->changes_at_s;
    double rate = w->rate * w->factor;
    int span = (int)fmax(20, 50 / rate);

    for (int t = from; t + span <= r->seconds; t++)
        if (world_used(r, w, t, t + span) >= 0.97 - 0.5 / (rate * span))
            return t - from;
    return -1;
}

static inline int64_t world_pace_wait(void *ctx, int64_t tokens, int64_t now)
{
    (void)tokens;
    return tr_pace_wait(ctx, now);
}
static inline void world_pace_sent(void *ctx, int64_t tokens, int64_t now)
{
    tr_pace_sent(ctx, tokens, now);
}
static inline void world_pace_reply(void *ctx, const struct tr_pace_news *news,
                                    int64_t now)
{
    tr_pace_reply(ctx, news, now);
}
static inline struct world_client world_pace(struct tr_pace *p)
{
    return (struct world_client){p, world_pace_wait, world_pace_sent,
                                 world_pace_reply};
}

#endif
