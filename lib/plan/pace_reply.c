/* pace_reply.c - what a reply says about the pace: limits that its headers
 * state, refusals, answers.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/pacing.h"

#include "base/clock.h"
#include "plan/retry.h"

#include <math.h>

#define TRUST_CUT 0.85
#define TRUST_LEAST 0.1
#define TRUST_GROWS_PER_S 0.005 /* a cut is made good in TRUST_QUIET; without */
#define TRUST_QUIET (30 * TR_S) /* another by then, as many times faster: */
#define TRUST_FASTER 5          /* what cut it has gone, not only been avoided */
#define HOLD_MAX_MS (24 * 3600 * INT64_C(1000))
#define FAR_MS INT64_C(60000)   /* the usual window: its end is awaited */
#define DOUBTS 1.5              /* surprises; a cut of the limit makes one */
#define DOUBT_FADES 0.4         /* with each that was looked for */
#define WHOSE_MOST 4            /* one more of the other kind turns it */
#define PERSISTS 2              /* refusals though fewer are under way */
#define TOLD_MOST 2             /* refusals in a row that headers explain */
#define LITTLE 3.0              /* times rate and latency: they vary */
#define PRESSED (10 * TR_S)     /* an overload counts more for so long */
#define LATENCY_GAIN 0.1
#define EASE_OVER (75 * 60 * TR_S)

/* ---- headers ----------------------------------------------------------- */

static void hold(struct tr_pace *p, int64_t ns, int64_t now)
{
    int64_t until = tr_later(now, ns);

    if (until > p->hold_until)
        p->hold_until = until;
}

/* The same by the server's own word. */
static void wish(struct tr_pace *p, int64_t ns, int64_t now)
{
    hold(p, ns, now);
    if (tr_later(now, ns) > p->wished_until)
        p->wished_until = tr_later(now, ns);
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
    int64_t reset_at = tr_later(sent_at, ms * TR_MS), wait;

    if (l->limit <= 0 || l->remaining != 0 || l->reset_ms <= FAR_MS)
        return;
    if (b->due_at > reset_at)
        b->due_at = reset_at;
    wait = tr_pace_bucket_wait(p, unit, false, now);
    if (wait <= FAR_MS * TR_MS)
        return;
    wish(p, wait, now);
    if (tr_later(now, wait) > p->used_up_until)
        p->used_up_until = tr_later(now, wait);
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
    tr_pace_rates(p, before, now);
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
    tr_pace_rescale(p, before, now);
    for (int u = 0; u < TR_PACE_UNITS; u++)
        heed_used_up(p, u, stated[u], sent_at, now);
}

/* ---- replies ------------------------------- */

static void scale_trust(struct tr_pace *p, double to, int64_t now)
{
    double before[TR_PACE_UNITS];

    tr_pace_rates(p, before, now);
    p->trust = fmin(1, fmax(TRUST_LEAST, to));
    tr_pace_rescale(p, before, now);
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

/* No more is owed than is under way, but for requests that take turns for a
 * while: what was sent at another rate, or held back for a moment at a high
 * one, is no debt of hours at a low one. What a limit of the user's asks for is
 * none of these. */
static void forgive_debt(struct tr_pace *p, int unit, bool first, int64_t now)
{
    struct tr_bucket *b = &p->buckets[unit];
    double r = tr_pace_rate(p, unit, now);
    double owed = (p->in_flight + 2) * b->estimate.most / r;
    bool turns = unit == TR_PACE_REQUESTS && !first;
    int64_t most = tr_later(
        now, tr_nanos(turns ? fmax(owed, TR_PACE_TURNS_S) : owed));

    if (tr_pace_is_estimated(p, unit) && b->ceiling <= 0 && r > 0 &&
        b->due_at > most)
        b->due_at = most;
}

/* From now on only more refusals than usual mean anything. */
static void tolerate(struct tr_pace *p, int64_t now)
{
    for (int u = 0; u <= TR_PACE_TOKENS; u++)
        if (tr_pace_is_estimated(p, u))
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
        double units = tr_pace_cost(p, u, tokens), s;

        if (units <= 0 || !tr_pace_is_estimated(p, u))
            continue;
        s = tr_estimate_surprise(&p->buckets[u].estimate, units, sent_at);
        if (s != 0 && (surprise == 0 || s < surprise))
            surprise = s;
    }
    if (p->doubts <= 0)
        for (int u = 0; u <= TR_PACE_TOKENS; u++)
            p->buckets[u].calm = tr_pace_own_rate(p, u, now);
    p->doubts = fmax(0, p->doubts + (surprise < 0 ? -DOUBT_FADES : surprise));
    if (p->doubts >= DOUBTS)
        tolerate(p, now);
}

/* Requests or tokens? A limit of one does not explain a refusal when as much of
 * it was taken before, in each span of time (tr_taken_bore()). While refusals
 * that only requests explain outnumber those that only tokens do, tokens learn
 * nothing. Where all requests are of one size there are none such, and it does
 * not matter. Requests always learn: a fixed window is no bucket, and may refuse
 * what it took across its end. */
static void ask_whose(struct tr_pace *p, int64_t tokens_sent, int64_t sent_at,
                      int64_t now)
{
    struct tr_estimate *requests = &p->buckets[TR_PACE_REQUESTS].estimate;
    struct tr_estimate *tokens = &p->buckets[TR_PACE_TOKENS].estimate;
    bool by_requests, by_tokens;

    if (tokens_sent <= 0 || !tr_pace_is_estimated(p, TR_PACE_REQUESTS) ||
        !tr_pace_is_estimated(p, TR_PACE_TOKENS) ||
        requests->usual.known || sent_at < requests->reacted_at)
        return;
    by_requests = !tr_taken_bore(&requests->taken, sent_at, p->served_at);
    by_tokens = !tr_taken_bore(&tokens->taken, sent_at, p->served_at);
    p->whose += by_requests - by_tokens;
    p->whose = p->whose > WHOSE_MOST ? WHOSE_MOST
               : p->whose < 0        ? 0 : p->whose;
    /* What refusals of requests taught about tokens was wrong. */
    if (p->whose > 0 && tokens->phase != TR_EST_START)
        tr_estimate_forget(tokens, now);
}

static bool is_spared(const struct tr_pace *p, int unit)
{
    return unit == TR_PACE_TOKENS && p->whose > 0;
}

/* A refusal of so many (1; 0: of somebody else's, which never counted) for the
 * rate, where no header states one, teaches the estimators.
 * Of requests and tokens the one that was near its limit is to blame; when
 * neither is known to have been, both learn, but for tokens that are spared.
 * False: nobody to teach. */
static bool teach(struct tr_pace *p, double times, int64_t tokens,
                  double wait_s, int64_t sent_at, int64_t now)
{
    double before[TR_PACE_UNITS];
    bool taught = false, blamed = false, blind = is_blind(p);
    bool first = p->buckets[TR_PACE_REQUESTS].estimate.phase == TR_EST_START;

    tr_pace_rates(p, before, now);
    if (blind && times > 0) {
        doubt(p, tokens, sent_at, now);
        ask_whose(p, tokens, sent_at, now);
    }
    for (int u = 0; u <= TR_PACE_TOKENS; u++)
        if (tr_pace_is_estimated(p, u) && !is_spared(p, u) &&
            tr_estimate_explains(&p->buckets[u].estimate, sent_at))
            blamed = true;
    for (int u = 0; u <= TR_PACE_TOKENS; u++) {
        struct tr_estimate *e = &p->buckets[u].estimate;
        double units = tr_pace_cost(p, u, tokens);

        if (units <= 0)
            continue;
        if (!blind || !tr_pace_is_estimated(p, u) ||
            is_spared(p, u) ||
            (blamed && !tr_estimate_explains(e, sent_at) &&
             !(e->phase == TR_EST_FIND && tr_estimate_is_tight(e)))) {
            tr_estimate_uncount(e, times * units, sent_at);
            continue;
        }
        tr_estimate_refused(e, times * units, wait_s, sent_at, now);
        taught = true;
    }
    tr_pace_rescale(p, before, now);
    for (int u = 0; u <= TR_PACE_TOKENS; u++) {
        if (taught)
            forgive_debt(p, u, first, now);
        tr_pace_heed_hold(p, u, now);
    }
    return taught;
}

/* Requests per second of the last two seconds. */
static double rate_lately(const struct tr_pace *p, int64_t now)
{
    const struct tr_estimate *e = &p->buckets[TR_PACE_REQUESTS].estimate;
    double span = fmin(2, fmax(0.1, (double)(now - e->began_at) / TR_S));

    return (tr_estimate_taken(e, now) -
            tr_estimate_taken(e, now - tr_nanos(span))) / span;
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
        rate = tr_pace_lower(rate, p->minute_rate[i]);
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
    bool lowered = p->cut_flight > 0 && tr_pace_is_lowered(p);
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
        double r = tr_pace_rate(p, TR_PACE_REQUESTS, now);

        if (news->retry_after_ms < 0 && r > 0)
            hold(p, tr_nanos(fmin(1 / r, 1)), now);
        return;
    }
    tell_refusal(p, news, now);
    p->pressed_until = tr_later(now, PRESSED);
    tr_inflight_halve(&p->flight);
    if (tr_pace_knows_limit(p))
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
    if (news->sent_at > p->served_at)
        p->served_at = news->sent_at;
    p->latency_ns += (latency - p->latency_ns) *
                     (p->latency_ns > 0 ? LATENCY_GAIN : 1);
    for (int u = 0; u <= TR_PACE_TOKENS; u++)
        if (tr_pace_is_estimated(p, u)) {
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
        double guess = tr_pace_cost(p, u, estimate), more;

        if (news->outcome == TR_OUT_UNREACHED) {
            tr_pace_give(p, u, guess, now);
            if (tr_pace_is_estimated(p, u))
                tr_estimate_uncount(&p->buckets[u].estimate, guess,
                                    news->sent_at);
            continue;
        }
        if (took[u] < 0 || (u > TR_PACE_TOKENS && took[u] == 0))
            continue;
        more = (double)took[u] - guess;
        if (more > 0)
            tr_pace_take(p, u, more, now);
        else
            tr_pace_give(p, u, -more, now);
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
    double rate = tr_pace_rate(p, TR_PACE_REQUESTS, now);
    double need = TR_PACE_START + LITTLE * rate * p->flight.base_ns / TR_S;

    if (!known || p->flight.base_ns <= 0 || now < p->pressed_until)
        return p->flight.limit;
    return fmin(p->flight.most, fmax(p->flight.limit, need));
}

void tr_pace_reply(struct tr_pace *p, const struct tr_pace_news *news,
                   int64_t now)
{
    int64_t estimate = news->tokens_estimate > 0 ? news->tokens_estimate : 0;

    tr_pace_follow_clock(p, now);
    if (p->in_flight > 0)
        p->in_flight--;
    if (news->outcome == TR_OUT_UNREACHED || tr_rule(news->outcome)->slows)
        tr_pace_count_sent(p, estimate, -1);
    settle(p, news, now);
    if (news->limits)
        learn_limits(p, news, now);
    if (news->retry_after_ms >= 0 && asks_to_come_again(news->outcome))
        wish(p, tr_told_wait_ns(news->retry_after_ms, news->unit) +
                    (int64_t)(news->unit * 50 * TR_MS), now);
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

void tr_pace_refused_elsewhere(struct tr_pace *p, int64_t sent_at,
                               int64_t hold_until, int64_t refused_at,
                               int64_t now)
{
    tr_pace_follow_clock(p, now);
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
    if (tr_pace_knows_limit(p))
        scale_trust(p, p->trust * TRUST_CUT, now);
}
