/* pace.c - when the next request may leave: pacers and a window.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/pace.h"

#include "base/clock.h"
#include "plan/retry.h"

#include <math.h>

#define WINDOW_START 4
#define HEADROOM 0.997          /* of a learned rate: jitter costs no refusal */
#define BURST_S 0.1             /* or two requests, whichever is more */
#define BURST_BLIND_S 0.03      /* where the limit is only estimated */
#define BURST_TIGHT_S 0.01      /* where a bucket holds a few requests */
#define HELD_S 0.01             /* a sender that lags so little still waits */
#define DEBT_MAX_S (24 * 3600.0)
#define TRUST_CUT 0.85
#define TRUST_LEAST 0.1
#define TRUST_GROWS_PER_S 0.005 /* a cut is made good in TRUST_QUIET; without */
#define TRUST_QUIET (30 * TR_S) /* another by then, as many times faster: */
#define TRUST_FASTER 5          /* what cut it has gone, not only been avoided */
#define HOLD_MAX_MS (24 * 3600 * INT64_C(1000))
#define FAR_MS INT64_C(60000)   /* the usual window: its end is awaited */
#define DOUBTS 1.5              /* surprises; a cut of the limit makes one */
#define DOUBT_FADES 0.4         /* with each that was looked for */
#define LOWERED 0.75            /* of what was under way when last refused */
#define PERSISTS 2              /* refusals though fewer are under way */
#define TOLD_MOST 2             /* refusals in a row that headers explain */
#define LITTLE 3.0              /* times rate and latency: they vary */
#define PRESSED (10 * TR_S)     /* an overload counts more for so long */
#define LATENCY_GAIN 0.1
#define PATIENCE 8.0            /* times the latency, ... */
#define PATIENCE_LEAST (5 * TR_S)
#define EASE_HOLD (15 * 60 * TR_S)
#define EASE_OVER (75 * 60 * TR_S)
#define EASE_STEP 1.1           /* a minute, after the hold */

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
                     opts->concurrency > 0 ? opts->concurrency : WINDOW_START,
                     window_max(opts), now);
    p->flight.plain = opts->concurrency > 0;
    p->window = p->flight.limit;
}

/* ---- rates ------------------------------- */

static bool knows_a_limit(const struct tr_pace *p)
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
    return p->opts.concurrency <= 0 && !knows_a_limit(p) &&
           p->flight.most > WINDOW_START;
}

static bool is_estimated(const struct tr_pace *p, int unit)
{
    return unit <= TR_PACE_TOKENS && p->buckets[unit].learned <= 0;
}

/* After "Slow Down". No ramp begins below what a run starts with, so that much
 * is always allowed. */
static double eased(const struct tr_pace *p, int64_t now)
{
    double minutes = (double)(now - p->eased_at - EASE_HOLD) / (60.0 * TR_S);
    double start = p->latency_ns > 0 ? WINDOW_START * TR_S / p->latency_ns : 1;

    return fmax(p->eased, start * p->part[TR_LIMIT_REQUESTS]) *
           (minutes > 0 ? pow(EASE_STEP, minutes) : 1);
}

/* The parts of tokens are tokens. */
static int kind_of(int unit)
{
    return unit == TR_PACE_REQUESTS ? TR_LIMIT_REQUESTS : TR_LIMIT_TOKENS;
}

static double lower(double a, double b) /* 0: no limit */
{
    return a <= 0 || (b > 0 && b < a) ? b : a;
}

/* Units per second for the whole key as our own replies taught it; 0:
 * unknown. */
static double own_rate(const struct tr_pace *p, int unit, int64_t now)
{
    const struct tr_bucket *b = &p->buckets[unit];

    if (b->learned > 0)
        return HEADROOM * b->learned * b->correction * p->trust;
    if (!is_estimated(p, unit))
        return 0;
    return tr_estimate_rate(&b->estimate,
                            unit == TR_PACE_REQUESTS && is_careful(p), now);
}

/* Several estimates of one limit drift apart: where the refusals of all teach
 * all, one of those who share the key leads (fair.c). */
static double key_rate(const struct tr_pace *p, int unit, int64_t now)
{
    const struct tr_bucket *b = &p->buckets[unit];
    bool told = b->told > 0 && is_estimated(p, unit) &&
                (b->follows || b->estimate.phase == TR_EST_START);

    return lower(told ? b->told : own_rate(p, unit, now), b->ceiling);
}

/* Units per second now aimed at; 0: no limit known. */
static double rate(const struct tr_pace *p, int unit, int64_t now)
{
    double r = key_rate(p, unit, now) * p->part[kind_of(unit)];

    return unit == TR_PACE_REQUESTS && p->eased > 0 ? lower(r, eased(p, now))
                                                    : r;
}

static int64_t span_ns(double seconds)
{
    if (!(seconds > 0))
        return 0;
    return (int64_t)((seconds < DEBT_MAX_S ? seconds : DEBT_MAX_S) * TR_S);
}

static int64_t later(int64_t t, int64_t by)
{
    return by > 0 && t > INT64_MAX - by ? INT64_MAX : t + by;
}

/* How much may come at once. */
static double burst_s(const struct tr_pace *p, int unit, double r)
{
    const struct tr_bucket *b = &p->buckets[unit];

    if (is_estimated(p, unit))
        return tr_estimate_is_tight(&b->estimate) ? BURST_TIGHT_S
                                                  : BURST_BLIND_S;
    if (unit == TR_PACE_REQUESTS && r < 1 / BURST_S)
        return BURST_S * BURST_S * r * BURST_S * r; /* may count by the second */
    return BURST_S;
}

/* The rate may grow with time: what was sent is paid at the rate of then. */
static int64_t bucket_wait(const struct tr_pace *p, int unit, bool probe,
                           int64_t now)
{
    const struct tr_bucket *b = &p->buckets[unit];
    double r = rate(p, unit, now);
    int64_t from;

    if (!probe && is_estimated(p, unit) && b->estimate.hold_until > now)
        return b->estimate.hold_until - now;
    if (r <= 0 || b->due_at <= now)
        return 0;
    from = b->due_at - span_ns(burst_s(p, unit, r));
    return from > now ? from - now : 0;
}

/* An estimator that holds knows the bucket to be empty: nothing comes at once
 * afterwards. */
static void heed_hold(struct tr_pace *p, int unit, int64_t now)
{
    struct tr_bucket *b = &p->buckets[unit];
    double r = rate(p, unit, now);
    int64_t due = later(b->estimate.hold_until, span_ns(burst_s(p, unit, r)));

    if (is_estimated(p, unit) && b->estimate.phase != TR_EST_DARK &&
        b->estimate.hold_until > now && r > 0 && b->due_at < due)
        b->due_at = due;
}

static void bucket_take(struct tr_pace *p, int unit, double units, int64_t now)
{
    struct tr_bucket *b = &p->buckets[unit];
    double r = rate(p, unit, now);

    if (b->due_at < now)
        b->due_at = now;
    if (r > 0)
        b->due_at = later(b->due_at, span_ns(units / r));
}

static void bucket_give(struct tr_pace *p, int unit, double units, int64_t now)
{
    double r = rate(p, unit, now);

    if (r > 0)
        p->buckets[unit].due_at -= span_ns(units / r);
}

/* A debt was made at the old rate and is paid at the new one. */
static void bucket_rescale(struct tr_bucket *b, double before, double after,
                           int64_t now)
{
    if (before > 0 && after > 0 && b->due_at > now)
        b->due_at = later(now, span_ns((double)(b->due_at - now) / TR_S *
                                       before / after));
}

static void rates(const struct tr_pace *p, double r[TR_PACE_UNITS], int64_t now)
{
    for (int u = 0; u < TR_PACE_UNITS; u++)
        r[u] = rate(p, u, now);
}

static void rescale(struct tr_pace *p, const double before[TR_PACE_UNITS],
                    int64_t now)
{
    for (int u = 0; u < TR_PACE_UNITS; u++)
        bucket_rescale(&p->buckets[u], before[u], rate(p, u, now), now);
}

/* A monotonic clock that stepped back: keep all distances, so that no wait
 * becomes longer than it was. */
static void follow_clock(struct tr_pace *p, int64_t now)
{
    int64_t back = p->seen_at - now;

    if (back > 0) {
        int64_t *const times[] = {&p->hold_until, &p->wished_until,
                                  &p->used_up_until, &p->pressed_until,
                                  &p->trust_at, &p->eased_at, &p->minute_at,
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

/* ---- sending ------------------------------- */

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
        int64_t more = bucket_wait(p, u, probe, now);

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
                                              DEBT_MAX_S * TR_S));
}

void tr_pace_stuck(struct tr_pace *p, int n)
{
    p->stuck = n < (int)p->window ? n : (int)p->window;
}

/* What a request of so many tokens takes from a bucket. */
static double cost(const struct tr_pace *p, int unit, int64_t tokens)
{
    if (unit == TR_PACE_REQUESTS)
        return 1;
    return tokens > 0 ? p->share[unit] * (double)tokens : 0;
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

static void count_sent(struct tr_pace *p, int64_t tokens, double times)
{
    p->sent[TR_LIMIT_REQUESTS] += times;
    p->sent[TR_LIMIT_TOKENS] += times * cost(p, TR_PACE_TOKENS, tokens);
}

/* Are clearly fewer under way than when others were refused, or very few? */
static bool is_lowered(const struct tr_pace *p)
{
    return p->in_flight < fmax(LOWERED * p->cut_flight, WINDOW_START);
}

void tr_pace_sent(struct tr_pace *p, int64_t tokens, int64_t now)
{
    double r[TR_PACE_UNITS];

    follow_clock(p, now);
    rates(p, r, now);
    for (int u = 0; u < TR_PACE_UNITS; u++) {
        double units = cost(p, u, tokens);

        tr_estimate_sent(&p->buckets[u].estimate, units,
                         r[u] > 0 && now - p->buckets[u].due_at <=
                                         span_ns(HELD_S + 1 / r[u]), now);
        bucket_take(p, u, units, now);
        heed_hold(p, u, now);
    }
    tr_usual_sent(&p->usual, !p->usual.known || is_lowered(p));
    p->in_flight++;
    count_minute(p, now);
    count_sent(p, tokens, 1);
}

/* ---- headers ------------------------------- */

static void hold(struct tr_pace *p, int64_t ns, int64_t now)
{
    int64_t until = later(now, ns);

    if (until > p->hold_until)
        p->hold_until = until;
}

/* The same by the server's own word. */
static void wish(struct tr_pace *p, int64_t ns, int64_t now)
{
    hold(p, ns, now);
    if (later(now, ns) > p->wished_until)
        p->wished_until = later(now, ns);
}

/* A limit that is used up for longer than a usual window: that is the server's
 * word for when to come again, as much as Retry-After is, and who waits for it
 * is to be told. At the reset all is back; before it something may be, where
 * the bucket fills all the time. */
static void heed_used_up(struct tr_pace *p, int unit, const struct tr_limit *l,
                         int64_t sent_at, int64_t now)
{
    struct tr_bucket *b = &p->buckets[unit];
    int64_t ms = l->reset_ms < HOLD_MAX_MS ? l->reset_ms : HOLD_MAX_MS;
    int64_t reset_at = later(sent_at, ms * TR_MS), wait;

    if (l->limit <= 0 || l->remaining != 0 || l->reset_ms <= FAR_MS)
        return;
    if (b->due_at > reset_at)
        b->due_at = reset_at;
    wait = bucket_wait(p, unit, false, now);
    if (wait <= FAR_MS * TR_MS)
        return;
    wish(p, wait, now);
    if (later(now, wait) > p->used_up_until)
        p->used_up_until = later(now, wait);
}

static void learn_limits(struct tr_pace *p, const struct tr_pace_news *news,
                         int64_t now)
{
    const struct tr_limits *limits = news->limits;
    bool served = !tr_rule(news->outcome)->slows;
    int64_t sent_at = news->sent_at;
    const struct tr_limit *const stated[TR_PACE_UNITS] = {
        &limits->requests, &limits->tokens, &limits->input, &limits->output};
    double before[TR_PACE_UNITS];

    /* Replies overtake each other: only newer news counts. */
    if (sent_at < p->headers_at)
        return;
    p->headers_at = sent_at;
    rates(p, before, now);
    for (int u = 0; u < TR_PACE_UNITS; u++) {
        struct tr_bucket *b = &p->buckets[u];
        double learned = b->learned;

        tr_bucket_learn(b, stated[u], served, p->in_flight, sent_at);
        if (b->learned > 0 && b->learned < 0.99 * learned)
            p->lowered_at = now;
        p->saw_headers |= b->learned > 0;
    }
    if (p->saw_headers)
        p->rate_at = now;
    rescale(p, before, now);
    for (int u = 0; u < TR_PACE_UNITS; u++)
        heed_used_up(p, u, stated[u], sent_at, now);
}

/* ---- replies ------------------------------- */

static void scale_trust(struct tr_pace *p, double to, int64_t now)
{
    double before[TR_PACE_UNITS];

    rates(p, before, now);
    p->trust = fmin(1, fmax(TRUST_LEAST, to));
    rescale(p, before, now);
}

/* Retry-After beside anything else (a text that is refused for good, an answer
 * that was cut) has nothing to wait for. */
static bool asks_to_come_again(enum tr_outcome outcome)
{
    enum tr_action action = tr_rule(outcome)->action;

    return action == TR_DO_AGAIN || action == TR_DO_STOP;
}

/* Does a refusal say something about a rate that is not known? */
static bool is_blind(const struct tr_pace *p)
{
    for (int u = 0; u < TR_PACE_UNITS; u++)
        if (p->buckets[u].learned > 0)
            return p->buckets[TR_PACE_REQUESTS].guess.window_s >=
                       TR_LONG_WINDOW_S &&
                   p->buckets[TR_PACE_REQUESTS].learned <= 0;
    return true;
}

/* No more is owed than is under way: what was sent at another rate, or held
 * back for a moment at a high one, is no debt of hours at a low one. What a
 * limit of the user's asks for is none of these. */
static void forgive_debt(struct tr_pace *p, int unit, int64_t now)
{
    struct tr_bucket *b = &p->buckets[unit];
    double r = rate(p, unit, now);
    int64_t most = later(now, span_ns((p->in_flight + 2) * b->estimate.most /
                                      r));

    if (is_estimated(p, unit) && b->ceiling <= 0 && r > 0 && b->due_at > most)
        b->due_at = most;
}

/* From now on only more refusals than usual mean anything. */
static void tolerate(struct tr_pace *p, int64_t now)
{
    for (int u = 0; u <= TR_PACE_TOKENS; u++)
        if (is_estimated(p, u))
            tr_estimate_tolerate(&p->buckets[u].estimate, p->buckets[u].calm,
                                 now);
    p->doubts = 0;
    p->flight.doubling = true;
}

/* A limit explains its refusals: while it has room there are none. One that
 * comes then may tell of a limit that was cut; two in a row would come at any
 * rate. Of requests and tokens one that explains it is enough. */
static void doubt(struct tr_pace *p, int64_t tokens, int64_t sent_at,
                  int64_t now)
{
    double surprise = 0;

    for (int u = 0; u <= TR_PACE_TOKENS; u++) {
        double units = cost(p, u, tokens), s;

        if (units <= 0 || !is_estimated(p, u))
            continue;
        s = tr_estimate_surprise(&p->buckets[u].estimate, units, sent_at);
        if (s != 0 && (surprise == 0 || s < surprise))
            surprise = s;
    }
    if (p->doubts <= 0)
        for (int u = 0; u <= TR_PACE_TOKENS; u++)
            p->buckets[u].calm = own_rate(p, u, now);
    p->doubts = fmax(0, p->doubts + (surprise < 0 ? -DOUBT_FADES : surprise));
    if (p->doubts >= DOUBTS)
        tolerate(p, now);
}

/* A refusal of so many (1; 0: of somebody else's, which never counted) for the
 * rate, where no header states one, teaches the estimators.
 * Of requests and tokens the one that was near its limit is to blame; when
 * neither is known to have been, both learn. False: nobody to teach. */
static bool teach(struct tr_pace *p, double times, int64_t tokens,
                  double wait_s, int64_t sent_at, int64_t now)
{
    double before[TR_PACE_UNITS];
    bool taught = false, blamed = false, blind = is_blind(p);
    bool first = p->buckets[TR_PACE_REQUESTS].estimate.phase == TR_EST_START;

    rates(p, before, now);
    if (blind && times > 0)
        doubt(p, tokens, sent_at, now);
    for (int u = 0; u <= TR_PACE_TOKENS; u++)
        if (is_estimated(p, u) &&
            tr_estimate_explains(&p->buckets[u].estimate, sent_at))
            blamed = true;
    for (int u = 0; u <= TR_PACE_TOKENS; u++) {
        struct tr_estimate *e = &p->buckets[u].estimate;
        double units = cost(p, u, tokens);

        if (units <= 0)
            continue;
        if (!blind || !is_estimated(p, u) ||
            (blamed && !tr_estimate_explains(e, sent_at) &&
             !(e->phase == TR_EST_FIND && tr_estimate_is_tight(e)))) {
            tr_estimate_uncount(e, times * units, sent_at);
            continue;
        }
        tr_estimate_refused(e, times * units, wait_s, sent_at, now);
        taught = true;
    }
    rescale(p, before, now);
    if (first && taught)
        forgive_debt(p, TR_PACE_REQUESTS, now);
    if (taught)
        forgive_debt(p, TR_PACE_TOKENS, now);
    for (int u = 0; u <= TR_PACE_TOKENS; u++)
        heed_hold(p, u, now);
    return taught;
}

/* Requests per second of the last two seconds. */
static double rate_lately(const struct tr_pace *p, int64_t now)
{
    const struct tr_estimate *e = &p->buckets[TR_PACE_REQUESTS].estimate;
    double span = fmin(2, fmax(0.1, (double)(now - e->began_at) / TR_S));

    return (tr_estimate_taken(e, now) -
            tr_estimate_taken(e, now - span_ns(span))) / span;
}

static double rate_so_far(const struct tr_pace *p, int64_t now)
{
    const struct tr_estimate *e = &p->buckets[TR_PACE_REQUESTS].estimate;

    return tr_estimate_taken(e, now) /
           fmax(1, (double)(now - e->began_at) / TR_S);
}

/* Told to go back to an older rate, keep it for a quarter of an hour, and only
 * then to come up again in steps. The older rate is the lowest of the last
 * minutes; in the first, the mean so far: half of the present one may be next to
 * nothing when other refusals have just slowed us down. */
static void ease(struct tr_pace *p, int64_t now)
{
    double rate = 0;

    if (p->eased > 0 && now - p->eased_at < 60 * TR_S)
        return; /* an echo */
    for (int i = 0; i < 3; i++)
        rate = lower(rate, p->minute_rate[i]);
    if (rate <= 0)
        rate = fmax(rate_lately(p, now) / 2, rate_so_far(p, now)) *
               p->part[TR_LIMIT_REQUESTS];
    p->eased = fmax(rate, 1.0 / 60);
    p->eased_at = now;
}

/* Do the headers of the refusal itself say why? */
static bool is_told(const struct tr_limits *l)
{
    return l && ((l->requests.limit > 0 && l->requests.remaining == 0) ||
                 (l->tokens.limit > 0 && l->tokens.remaining == 0) ||
                 (l->input.limit > 0 && l->input.remaining == 0) ||
                 (l->output.limit > 0 && l->output.remaining == 0));
}

static void tell_refusal(struct tr_pace *p, const struct tr_pace_news *news,
                         int64_t now)
{
    p->refused_at = now;
    p->refused_sent_at = news->sent_at;
    p->asked_until = news->retry_after_ms >= 0 ? p->hold_until : 0;
}

/* Fewer at a time end an overload. Refusals that go on while fewer are under
 * way, with others accepted between, come anyway: then the number comes back,
 * and only more of them than usual are an overload. */
static bool is_usual(struct tr_pace *p, int64_t now)
{
    double sure = fmax(TR_USUAL_SURE, log(100 * rate_lately(p, now)));
    bool lowered = p->cut_flight > 0 && is_lowered(p);
    bool learn = lowered && p->refused_in_row == 0;

    if (p->refused_in_row > 0) /* nobody is served since the last cut */
        sure /= 3;
    if (p->usual.known && !tr_usual_refused(&p->usual, learn, sure))
        return true;
    if (p->usual.known || !lowered) {
        p->usual.refused += !p->usual.known;
        p->cut_flight = p->in_flight + 1;
        p->persists = 0;
        return false;
    }
    p->usual.refused++;
    p->cut_flight = fmax(p->in_flight + 1, 0.8 * p->cut_flight);
    if (p->refused_in_row > 0 || ++p->persists < PERSISTS)
        return false;
    p->usual.known = p->flight.doubling = true;
    p->pressed_until = now;
    p->flight.limit = fmax(p->flight.limit, p->cut_flight);
    scale_trust(p, 1, now);
    return true;
}

static void refused(struct tr_pace *p, const struct tr_pace_news *news,
                    int64_t now)
{
    bool overload = news->status == 503 || news->status == 529;
    bool fresh = news->sent_at >= p->cut_at;
    bool told = !overload && is_told(news->limits);

    if (news->slow_down)
        ease(p, now);
    if (!overload && teach(p, 1, news->tokens_estimate,
                           (double)news->retry_after_ms / 1000, news->sent_at,
                           now)) {
        tell_refusal(p, news, now);
        return;
    }
    /* Whatever left before the last cut, or before the headers told of a lower
     * limit, only echoes it. */
    if (!fresh || news->sent_at <= p->lowered_at)
        return;
    if (!told && is_usual(p, now))
        return;
    p->cut_at = now;
    p->refused_in_row++;
    if (told && p->refused_in_row <= TOLD_MOST) {
        double r = rate(p, TR_PACE_REQUESTS, now);

        if (news->retry_after_ms < 0 && r > 0)
            hold(p, span_ns(fmin(1 / r, 1)), now);
        return;
    }
    tell_refusal(p, news, now);
    p->pressed_until = later(now, PRESSED);
    tr_inflight_halve(&p->flight);
    if (knows_a_limit(p))
        scale_trust(p, p->trust * TRUST_CUT, now);
    if (news->retry_after_ms < 0) /* of all that was in flight: no long time */
        hold(p, tr_backoff_ns(p->refused_in_row > TR_TRIES_LONG
                                  ? TR_TRIES_LONG
                                  : (uint32_t)p->refused_in_row - 1, 0,
                              0.5 + 0.5 * news->unit), now);
}

/* An estimate worth telling others. */
static bool is_settled(const struct tr_estimate *e)
{
    return e->phase == TR_EST_CRUISE || e->phase == TR_EST_WINDOW;
}

static void succeeded(struct tr_pace *p, const struct tr_pace_news *news,
                      int64_t now)
{
    double latency = (double)(now - news->sent_at);

    if (news->sent_at >= p->cut_at)
        p->refused_in_row = 0;
    p->latency_ns += (latency - p->latency_ns) *
                     (p->latency_ns > 0 ? LATENCY_GAIN : 1);
    for (int u = 0; u <= TR_PACE_TOKENS; u++)
        if (is_estimated(p, u)) {
            tr_estimate_accepted(&p->buckets[u].estimate, news->sent_at, now);
            if (is_settled(&p->buckets[u].estimate))
                p->rate_at = now;
        }
    /* A window that is not used says nothing about a larger one. in_flight
     * was lowered by this reply. */
    tr_inflight_answer(&p->flight, p->in_flight + 1 >= (int)p->window,
                       news->sent_at, now);
    if (p->trust < 1 && now > p->trust_at) {
        double grows = now - TRUST_QUIET > p->cut_at
                           ? TRUST_FASTER * TRUST_GROWS_PER_S
                           : TRUST_GROWS_PER_S;

        scale_trust(p, p->trust + grows * (double)(now - p->trust_at) / TR_S,
                    now);
    }
    p->trust_at = now;
    if (p->eased > 0 && now - p->eased_at > EASE_OVER)
        p->eased = 0;
}

/* What it really took, where that is known; a refusal took nothing. */
static void settle(struct tr_pace *p, const struct tr_pace_news *news,
                   int64_t now)
{
    int64_t took[TR_PACE_UNITS] = {-1, news->tokens_true, news->in_true,
                                   news->out_true};
    int64_t estimate = news->tokens_estimate > 0 ? news->tokens_estimate : 0;

    for (int u = 0; u < TR_PACE_UNITS; u++) {
        double guess = cost(p, u, estimate), more;

        if (news->outcome == TR_OUT_UNREACHED) {
            bucket_give(p, u, guess, now);
            if (is_estimated(p, u))
                tr_estimate_uncount(&p->buckets[u].estimate, guess,
                                    news->sent_at);
            continue;
        }
        if (took[u] < 0 || (u > TR_PACE_TOKENS && took[u] == 0))
            continue;
        more = (double)took[u] - guess;
        if (more > 0)
            bucket_take(p, u, more, now);
        else
            bucket_give(p, u, -more, now);
        if (u > TR_PACE_TOKENS && estimate > 0)
            p->share[u] += 0.1 * ((double)took[u] / (double)estimate -
                                  p->share[u]);
    }
}

/* Little's law: a rate that is known needs so many under way, whatever the
 * latencies of the moment seem to say. */
static double enough(const struct tr_pace *p, int64_t now)
{
    const struct tr_bucket *b = &p->buckets[TR_PACE_REQUESTS];
    bool known = b->learned > 0 || b->follows || is_settled(&b->estimate);
    double need = WINDOW_START + LITTLE * rate(p, TR_PACE_REQUESTS, now) *
                                     p->flight.base_ns / TR_S;

    if (!known || p->flight.base_ns <= 0 || now < p->pressed_until)
        return p->flight.limit;
    return fmin(p->flight.most, fmax(p->flight.limit, need));
}

void tr_pace_reply(struct tr_pace *p, const struct tr_pace_news *news,
                   int64_t now)
{
    int64_t estimate = news->tokens_estimate > 0 ? news->tokens_estimate : 0;

    follow_clock(p, now);
    if (p->in_flight > 0)
        p->in_flight--;
    if (news->outcome == TR_OUT_UNREACHED || tr_rule(news->outcome)->slows)
        count_sent(p, estimate, -1);
    settle(p, news, now);
    if (news->limits)
        learn_limits(p, news, now);
    if (news->retry_after_ms >= 0 && asks_to_come_again(news->outcome)) {
        int64_t ms = news->retry_after_ms < HOLD_MAX_MS ? news->retry_after_ms
                                                        : HOLD_MAX_MS;

        /* Jitter upwards: many clients were told the same time. */
        wish(p, (int64_t)((double)ms * (1 + 0.1 * news->unit) * TR_MS) +
                    (int64_t)(news->unit * 50 * TR_MS), now);
    }
    switch (news->outcome) {
    case TR_OUT_OK:
    case TR_OUT_CUT_SHORT:
    case TR_OUT_REFUSED:
        succeeded(p, news, now);
        break;
    default:
        if (tr_rule(news->outcome)->slows)
            refused(p, news, now);
    }
    p->window = enough(p, now);
}

/* ---- one key, several processes ------------------------------- */

/* Never nothing: debts are kept as times, which a part of 0 would lose. */
#define PART_LEAST 0.001

static int unit_of(int kind)
{
    return kind == TR_LIMIT_TOKENS ? TR_PACE_TOKENS : TR_PACE_REQUESTS;
}

void tr_pace_part(struct tr_pace *p, const double *part, int64_t now)
{
    double before[TR_PACE_UNITS];

    follow_clock(p, now);
    rates(p, before, now);
    for (int k = 0; k < TR_LIMIT_KINDS; k++)
        p->part[k] = part[k] > PART_LEAST ? fmin(part[k], 1) : PART_LEAST;
    for (int u = 0; u < TR_PACE_UNITS; u++)
        p->buckets[u].estimate.others = 1 - p->part[kind_of(u)];
    rescale(p, before, now);
}

void tr_pace_told(struct tr_pace *p, const double *said, const bool *follows,
                  int64_t now)
{
    double before[TR_PACE_UNITS];

    follow_clock(p, now);
    rates(p, before, now);
    for (int k = 0; k < TR_LIMIT_KINDS; k++) {
        struct tr_bucket *b = &p->buckets[unit_of(k)];

        b->told = isfinite(said[k]) && said[k] > 0 ? said[k] : 0;
        b->follows = follows[k] && b->told > 0;
    }
    rescale(p, before, now);
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

void tr_pace_refused_elsewhere(struct tr_pace *p, int64_t sent_at,
                               int64_t hold_until, int64_t refused_at,
                               int64_t now)
{
    follow_clock(p, now);
    if (hold_until > now)
        wish(p, hold_until - now < HOLD_MAX_MS * TR_MS ? hold_until - now
                                                       : HOLD_MAX_MS * TR_MS,
             now);
    if (teach(p, 0, 1,
              hold_until > refused_at
                  ? (double)(hold_until - refused_at) / TR_S : -1,
              sent_at, now))
        return;
    if (sent_at < p->cut_at || sent_at <= p->lowered_at)
        return; /* an echo of what we know */
    p->cut_at = refused_at;
    if (knows_a_limit(p))
        scale_trust(p, p->trust * TRUST_CUT, now);
}

double tr_pace_key_rate(const struct tr_pace *p, int kind, int64_t now)
{
    return key_rate(p, unit_of(kind), now);
}

double tr_pace_learned_rate(const struct tr_pace *p, int kind, int64_t now)
{
    const struct tr_bucket *b = &p->buckets[unit_of(kind)];

    return b->learned > 0 || b->estimate.phase != TR_EST_START
               ? own_rate(p, unit_of(kind), now) : 0;
}

bool tr_pace_is_short(const struct tr_pace *p, int kind, int64_t now)
{
    for (int u = 0; u < TR_PACE_UNITS; u++)
        if (kind_of(u) == kind && bucket_wait(p, u, false, now) > 0)
            return true;
    return false;
}

double tr_pace_rpm(const struct tr_pace *p)
{
    return rate(p, TR_PACE_REQUESTS, p->seen_at) * 60;
}
