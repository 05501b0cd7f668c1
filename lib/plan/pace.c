/* pace.c - when the next request may leave: two pacers and a window.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/pace.h"

#include "base/clock.h"
#include "plan/retry.h"

#include <math.h>

#define WINDOW_START 4
#define HEADROOM 0.997          /* of a learned rate: jitter costs no refusal */
#define BURST_S 0.1             /* or two requests, whichever is more */
#define DEBT_MAX_S (24 * 3600.0)
#define TRUST_CUT 0.85
#define TRUST_LEAST 0.1
#define TRUST_GROWS_PER_S 0.005
#define VOTES_NEEDED 3
#define PROBE_LIMIT 30          /* so small a limit may be one a second: */
#define PROBE_PER_S 2.0         /* not slower than this */
#define PROBES 6                /* for so many replies */
#define HOLD_MAX_MS (24 * 3600 * INT64_C(1000))

/* Windows in which providers count; the day is Groq's for requests. */
static const double windows_s[] = {1, 60, 3600, 86400};
#define WINDOW_COUNT (sizeof windows_s / sizeof *windows_s)
#define WINDOW_USUAL_S 60

void tr_pace_init(struct tr_pace *p, const struct tr_pace_opts *opts,
                  int64_t now)
{
    *p = (struct tr_pace){
        .opts = *opts,
        .requests = {.ceiling = opts->rpm / 60, .correction = 1},
        .tokens = {.ceiling = opts->tpm / 60, .correction = 1},
        .window = opts->concurrency > 0 ? opts->concurrency : WINDOW_START,
        .trust = 1,
        .trust_at = now,
        .cut_at = INT64_MIN,
        .headers_at = INT64_MIN,
        .hold_until = now,
        .seen_at = now,
        .sent_at = now,
    };
    p->requests.due_at = p->tokens.due_at = now;
    p->part[TR_LIMIT_REQUESTS] = p->part[TR_LIMIT_TOKENS] = 1;
    if (opts->concurrency_max > 0 && p->window > opts->concurrency_max)
        p->window = opts->concurrency_max;
}

static double window_max(const struct tr_pace *p)
{
    int most = p->opts.concurrency > 0 ? p->opts.concurrency
                                       : TR_CONCURRENCY_MAX;

    if (p->opts.concurrency_max > 0 && p->opts.concurrency_max < most)
        most = p->opts.concurrency_max;
    return most;
}

/* ---- rates ------------------------------- */

/* Units per second as replies taught them, or others; 0: unknown. */
static double learned_rate(const struct tr_pace *p, const struct tr_bucket *b)
{
    return b->learned > 0 ? HEADROOM * b->learned * b->correction * p->trust
                          : b->told;
}

/* Units per second now aimed at for the whole key; 0: no limit known. */
static double key_rate(const struct tr_pace *p, const struct tr_bucket *b)
{
    double learned = learned_rate(p, b);

    if (learned <= 0)
        return b->ceiling > 0 ? b->ceiling * p->trust : 0;
    return b->ceiling > 0 && b->ceiling < learned ? b->ceiling : learned;
}

/* What of it is ours. */
static double rate(const struct tr_pace *p, const struct tr_bucket *b)
{
    return key_rate(p, b) *
           p->part[b == &p->tokens ? TR_LIMIT_TOKENS : TR_LIMIT_REQUESTS];
}

static int64_t span_ns(double seconds)
{
    if (!(seconds > 0))
        return 0;
    return (int64_t)((seconds < DEBT_MAX_S ? seconds : DEBT_MAX_S) * TR_S);
}

static int64_t later(int64_t t, int64_t by)
{
    return t > INT64_MAX - by ? INT64_MAX : t + by;
}

static int64_t bucket_wait(const struct tr_pace *p, const struct tr_bucket *b,
                           double unit, int64_t now)
{
    double r = rate(p, b), whole = key_rate(p, b);
    /* The bursts of all who share the key together are one. */
    double burst = r > 0 && unit / whole > BURST_S ? unit / whole : BURST_S;
    int64_t from;

    if (r <= 0 || b->due_at <= now)
        return 0;
    from = b->due_at - span_ns(burst);
    return from > now ? from - now : 0;
}

static void bucket_take(const struct tr_pace *p, struct tr_bucket *b,
                        double units, int64_t now)
{
    double r = rate(p, b);

    if (b->due_at < now)
        b->due_at = now;
    if (r > 0)
        b->due_at = later(b->due_at, span_ns(units / r));
}

static void bucket_give(const struct tr_pace *p, struct tr_bucket *b,
                        double units)
{
    double r = rate(p, b);

    if (r > 0)
        b->due_at -= span_ns(units / r);
}

/* A debt was made at the old rate and is paid at the new one. */
static void bucket_rescale(struct tr_bucket *b, double before, double after,
                           int64_t now)
{
    if (before > 0 && after > 0 && b->due_at > now)
        b->due_at = later(now, span_ns((double)(b->due_at - now) / TR_S *
                                       before / after));
}

/* A monotonic clock that stepped back: keep all distances, so that no wait
 * becomes longer than it was. */
static void follow_clock(struct tr_pace *p, int64_t now)
{
    int64_t back = p->seen_at - now;

    if (back > 0) {
        int64_t *const times[] = {&p->requests.due_at, &p->tokens.due_at,
                                  &p->hold_until, &p->sent_at, &p->trust_at};

        for (size_t i = 0; i < sizeof times / sizeof *times; i++)
            *times[i] -= back;
        /* Orders of sends cannot be compared across the step. */
        p->cut_at = p->headers_at = INT64_MIN;
        p->requests.guess.at = p->tokens.guess.at = 0;
    }
    p->seen_at = now;
}

/* ---- sending ------------------------------- */

int64_t tr_pace_wait(const struct tr_pace *p, int64_t tokens, int64_t now)
{
    int64_t wait, more;

    (void)tokens; /* debts are paid after the send, so none is too large */
    if (p->in_flight >= (int)p->window)
        return TR_PACE_FULL;
    /* Only a send or a reply can follow a clock that stepped back. */
    if (now < p->seen_at && p->in_flight == 0)
        return 0;
    wait = p->hold_until > now ? p->hold_until - now : 0;
    more = bucket_wait(p, &p->requests, 1, now);
    if (more > wait)
        wait = more;
    more = bucket_wait(p, &p->tokens, 0, now);
    return more > wait ? more : wait;
}

static void count_sent(struct tr_pace *p, double requests, double tokens)
{
    p->sent[TR_LIMIT_REQUESTS] += requests;
    p->sent[TR_LIMIT_TOKENS] += tokens;
}

void tr_pace_sent(struct tr_pace *p, int64_t tokens, int64_t now)
{
    int64_t wait_from, ready;

    follow_clock(p, now);
    /* The share of the time since the last send that limits forbade. */
    wait_from = p->sent_at;
    ready = p->hold_until;
    if (rate(p, &p->requests) > 0 && p->requests.due_at > ready)
        ready = p->requests.due_at;
    if (rate(p, &p->tokens) > 0 && p->tokens.due_at > ready)
        ready = p->tokens.due_at;
    if (ready > now)
        ready = now;
    if (ready > wait_from)
        p->wait_ns += ready - wait_from;
    p->sent_at = now;

    bucket_take(p, &p->requests, 1, now);
    bucket_take(p, &p->tokens, tokens > 0 ? (double)tokens : 0, now);
    p->in_flight++;
    count_sent(p, 1, tokens > 0 ? (double)tokens : 0);
    if (tokens > 0)
        p->tokens_in_flight += tokens;
}

/* ---- headers ------------------------------- */

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

static void learn_limit(struct tr_pace *p, struct tr_bucket *b,
                        const struct tr_limit *l, int64_t sent_at, int64_t now)
{
    double before = rate(p, b);
    double reset_s = (double)l->reset_ms / 1000;

    if (l->limit <= 0)
        return;
    if ((double)l->limit != b->limit)
        b->guess = (struct tr_window_guess){.window_s = b->guess.window_s,
                                            .fixed = b->guess.fixed};
    b->limit = (double)l->limit;
    if (l->remaining >= 0 && l->reset_ms >= 0)
        guess_window(&b->guess, l, sent_at);
    b->learned = b->limit / (b->guess.window_s > 0 ? b->guess.window_s
                                                   : WINDOW_USUAL_S);
    if (b->guess.window_s <= 0 && l->limit <= PROBE_LIMIT &&
        l->remaining > l->limit / 2 && b->guess.samples++ < PROBES)
        b->learned = PROBE_PER_S;
    /* What is left, spread over the time until reset, is enough in a fixed
     * window that goes to plan and in a bucket at least half full. Below that
     * somebody else is drawing too. */
    b->correction = 1;
    if (l->remaining >= 0 && l->reset_ms > 0) {
        double share = (double)l->remaining / (reset_s * b->learned);

        b->correction = share < 1 ? 0.5 + 0.5 * share : 1;
    }
    bucket_rescale(b, before, rate(p, b), now);
    if (l->remaining == 0 && b->guess.fixed && l->reset_ms > 0) {
        int64_t open = later(sent_at, span_ns(reset_s));

        if (b->due_at < open)
            b->due_at = open;
    }
    p->saw_headers = true;
    p->rate_at = now;
}

/* ---- replies ------------------------------- */

static void scale_trust(struct tr_pace *p, double to, int64_t now)
{
    double requests = rate(p, &p->requests), tokens = rate(p, &p->tokens);

    p->trust = fmin(1, fmax(TRUST_LEAST, to));
    bucket_rescale(&p->requests, requests, rate(p, &p->requests), now);
    bucket_rescale(&p->tokens, tokens, rate(p, &p->tokens), now);
}

static void hold(struct tr_pace *p, int64_t ns, int64_t now)
{
    int64_t until = later(now, ns);

    if (until > p->hold_until)
        p->hold_until = until;
}

/* A refusal that the rate in force does not explain. */
static void doubt(struct tr_pace *p, int64_t now)
{
    if (p->requests.learned > 0 || p->tokens.learned > 0 ||
        p->requests.ceiling > 0 || p->tokens.ceiling > 0)
        scale_trust(p, p->trust * TRUST_CUT, now);
}

static void refused(struct tr_pace *p, const struct tr_pace_news *news,
                    int64_t now)
{
    p->refusals++;
    p->refused_at = now;
    p->refused_sent_at = news->sent_at;
    p->asked_until = news->retry_after_ms >= 0 ? p->hold_until : 0;
    /* Whatever left before the last cut only echoes it. */
    if (news->sent_at < p->cut_at)
        return;
    p->cut_at = now;
    p->refused_in_row++;
    p->window = fmax(1, p->window / 2);
    doubt(p, now);
    if (news->retry_after_ms < 0)
        hold(p, tr_backoff_ns((uint32_t)p->refused_in_row - 1, 0,
                              0.5 + 0.5 * news->unit), now);
}

static void succeeded(struct tr_pace *p, int64_t sent_at, int64_t now)
{
    bool paced = rate(p, &p->requests) > 0 || rate(p, &p->tokens) > 0;

    if (sent_at >= p->cut_at)
        p->refused_in_row = 0;
    /* A window that is not used says nothing about a larger one. in_flight
     * was lowered by this reply. */
    if (p->in_flight + 1 >= (int)p->window)
        p->window = fmin(window_max(p),
                         p->window + (paced ? 1 : 1 / p->window));
    if (p->trust < 1 && now > p->trust_at)
        scale_trust(p, p->trust + TRUST_GROWS_PER_S *
                                      (double)(now - p->trust_at) / TR_S, now);
    p->trust_at = now;
}

void tr_pace_reply(struct tr_pace *p, const struct tr_pace_news *news,
                   int64_t now)
{
    int64_t estimate = news->tokens_estimate > 0 ? news->tokens_estimate : 0;

    follow_clock(p, now);
    if (p->in_flight > 0)
        p->in_flight--;
    p->tokens_in_flight -= estimate < p->tokens_in_flight
                               ? estimate
                               : p->tokens_in_flight;
    if (news->outcome == TR_OUT_UNREACHED || tr_rule(news->outcome)->slows)
        count_sent(p, -1, -(double)estimate);
    else if (news->tokens_true >= 0)
        count_sent(p, 0, (double)news->tokens_true - (double)estimate);
    if (news->outcome == TR_OUT_UNREACHED) {
        bucket_give(p, &p->requests, 1);
        bucket_give(p, &p->tokens, (double)estimate);
    } else if (news->tokens_true >= 0) {
        double more = (double)news->tokens_true - (double)estimate;

        if (more > 0)
            bucket_take(p, &p->tokens, more, now);
        else
            bucket_give(p, &p->tokens, -more);
    }
    /* Replies overtake each other: only newer news counts. */
    if (news->limits && news->sent_at >= p->headers_at) {
        p->headers_at = news->sent_at;
        learn_limit(p, &p->requests, &news->limits->requests, news->sent_at,
                    now);
        learn_limit(p, &p->tokens, &news->limits->tokens, news->sent_at, now);
    }
    if (news->retry_after_ms >= 0 && news->outcome != TR_OUT_OK) {
        int64_t ms = news->retry_after_ms < HOLD_MAX_MS ? news->retry_after_ms
                                                        : HOLD_MAX_MS;

        /* Jitter upwards: many clients were told the same time. */
        hold(p, (int64_t)((double)ms * (1 + 0.1 * news->unit) * TR_MS) +
                    (int64_t)(news->unit * 50 * TR_MS), now);
    }
    switch (news->outcome) {
    case TR_OUT_OK:
    case TR_OUT_CUT_SHORT:
    case TR_OUT_REFUSED:
        succeeded(p, news->sent_at, now);
        break;
    default:
        if (tr_rule(news->outcome)->slows)
            refused(p, news, now);
    }
}

/* ---- one key, several processes ------------------------------- */

/* Never nothing: debts are kept as times, which a part of 0 would lose. */
#define PART_LEAST 0.001

void tr_pace_part(struct tr_pace *p, const double *part, int64_t now)
{
    struct tr_bucket *const buckets[] = {&p->requests, &p->tokens};

    follow_clock(p, now);
    for (int k = 0; k < TR_LIMIT_KINDS; k++) {
        double before = rate(p, buckets[k]);

        p->part[k] = part[k] > PART_LEAST ? fmin(part[k], 1) : PART_LEAST;
        bucket_rescale(buckets[k], before, rate(p, buckets[k]), now);
    }
}

void tr_pace_told(struct tr_pace *p, const double *said, int64_t now)
{
    struct tr_bucket *const buckets[] = {&p->requests, &p->tokens};

    follow_clock(p, now);
    for (int k = 0; k < TR_LIMIT_KINDS; k++) {
        double before = rate(p, buckets[k]);

        buckets[k]->told = isfinite(said[k]) && said[k] > 0 ? said[k] : 0;
        bucket_rescale(buckets[k], before, rate(p, buckets[k]), now);
    }
}

void tr_pace_refused_elsewhere(struct tr_pace *p, int64_t sent_at,
                               int64_t hold_until, int64_t refused_at,
                               int64_t now)
{
    follow_clock(p, now);
    if (hold_until > now)
        hold(p, hold_until - now < HOLD_MAX_MS * TR_MS ? hold_until - now
                                                       : HOLD_MAX_MS * TR_MS,
             now);
    if (sent_at < p->cut_at)
        return; /* an echo of what we know */
    p->cut_at = refused_at;
    doubt(p, now);
}

double tr_pace_key_rate(const struct tr_pace *p, int kind)
{
    return key_rate(p, kind == TR_LIMIT_TOKENS ? &p->tokens : &p->requests);
}

double tr_pace_learned_rate(const struct tr_pace *p, int kind)
{
    return learned_rate(p, kind == TR_LIMIT_TOKENS ? &p->tokens
                                                   : &p->requests);
}

bool tr_pace_is_short(const struct tr_pace *p, int kind, int64_t now)
{
    return kind == TR_LIMIT_TOKENS
               ? bucket_wait(p, &p->tokens, 0, now) > 0
               : bucket_wait(p, &p->requests, 1, now) > 0;
}

double tr_pace_rpm(const struct tr_pace *p)
{
    return rate(p, &p->requests) * 60;
}
