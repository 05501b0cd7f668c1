/* estimate.c - what refusals say about a limit that nobody states.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/estimate.h"

#include "base/clock.h"

#include <math.h>
#include <string.h>

/* START. A refusal takes a moment to come back; what left meanwhile is refused
 * too. So the rate may grow fast while it is small, and later only in step
 * with what was accepted: a bucket of a minute then costs a permille. */
#define START_RATE 2.0
#define START_FLIGHT 3.0   /* under way at a time: never slower than that */
#define START_FOLD_S 0.5   /* e-fold while below START_EASY */
#define START_EASY 50.0
#define GROW_FOLD_S 3.0    /* later, and in RAMP */
#define FIND_FOLD_S 3.0
#define FIND_MOST 1e6      /* requests per second: nobody serves more, and what
                              nothing holds back must not grow without end */
#define OTHERS_S 0.06      /* so uncertain is when others sent */
#define JITTER_S 0.003     /* requests may arrive that much earlier */
#define SPAN_LEAST_S 0.01  /* refusals nearer than that are one */
#define SURE 1.6           /* high/low that ends FIND */
#define AIM 0.25           /* between low and high */
#define HOLD_MAX_S 66.0
#define HOLD_MIN_S 4.0
#define REFUSALS 0.0003    /* share of refusals that looking upwards may cost */
#define LOOK_FOLD_S 5.8    /* doubles every 4 s */
#define TIGHT 3            /* requests that such a bucket holds, at most */
#define SUSPECT 1.25       /* accepted that far above the bound: tight */
#define SUSPECT_CUT 0.25
#define SUSPECT_SENDS 30   /* a larger one would refuse again within so many */
#define TIGHT_CUT 0.004
#define TIGHT_CUT_MOST 0.6
#define TIGHT_FOLD_S 20.0
#define TIGHT_HOLD_S 50.0
#define DARK_S 2.0
#define DARK_LATE_S 60.0
#define DARK_MOST_S 120.0
#define WINDOW_QUICK_S 5.0 /* one window's quota is spent in so long, once */
#define WINDOW_USE 0.997
#define WINDOW_PROBE_S 0.25
#define WINDOW_LOOK 0.1    /* above the base at most: the answer comes late */
#define IDLE_S 66.0        /* a bucket of a minute is full again */
#define TURN_MOST_S 60.0   /* a round trip; longer, and it was we who slept */
#define EXCESS_EVERY_S 100.0 /* and found in vain about so often */
#define EXCESS_LOOK 0.02   /* first look upwards then */
#define EXCESS_SENDS 20    /* requests: an e-fold of it; enough for a rate */
#define SURPRISE_SENDS 2.0 /* accepted since the last refusal: no deep cut */

static double seconds(int64_t ns)
{
    return (double)ns / TR_S;
}

void tr_estimate_init(struct tr_estimate *e, int64_t now)
{
    memset(e, 0, sizeof *e);
    e->since = e->hold_until = e->last_at = e->began_at = e->woke_at = now;
    e->reacted_at = INT64_MIN;
    e->most = 1;
}

/* While a rate is felt out more may be refused than usual. */
static bool learns(const struct tr_estimate *e, int64_t now)
{
    return !e->usual.known || (e->phase == TR_EST_CRUISE && e->low > 0 &&
                               now - e->since <= e->hold_s_ns);
}

/* ---- what was accepted ------------------------------- */

static double sum_at(const struct tr_estimate *e, int64_t at)
{
    return tr_taken_at(&e->taken, at);
}

void tr_estimate_uncount(struct tr_estimate *e, double units, int64_t sent_at)
{
    tr_taken_drop(&e->taken, units, sent_at);
    for (int i = 0; i < e->anchor_count; i++)
        if (e->anchors[i].at > sent_at)
            e->anchors[i].sum -= units;
}

void tr_estimate_forget(struct tr_estimate *e, int64_t now)
{
    struct tr_estimate old = *e;

    tr_estimate_init(e, now);
    e->last_at = old.last_at;
    e->began_at = old.began_at;
    e->latency_s = old.latency_s;
    e->most = old.most;
    e->others = old.others;
    e->usual = old.usual;
    e->taken = old.taken;
}

void tr_estimate_others(struct tr_estimate *e, double units, int64_t from,
                        int64_t to)
{
    if (to <= from || units == 0)
        return;
    tr_taken_spread(&e->taken, units, from, to);
    tr_marks_spread(e->anchors, e->anchor_count, units, from, to);
}

/* ---- bounds ------------------------------- */

static double slack(const struct tr_estimate *e, double rate)
{
    return 1.05 * e->most + rate * (JITTER_S + OTHERS_S * e->others);
}

static void add_anchor(struct tr_estimate *e, int64_t at)
{
    struct tr_mark new = {at, sum_at(e, at)};
    int n = e->anchor_count, i;

    if (n == TR_EST_ANCHORS) {
        int worst = 1;
        double least = INFINITY;

        /* The one whose neighbours are nearest, as seen from now. */
        for (i = 1; i + 1 < n; i++) {
            double gap = (double)(e->anchors[i + 1].at - e->anchors[i - 1].at) /
                         (double)(at - e->anchors[i - 1].at + 1);

            if (gap < least) {
                least = gap;
                worst = i;
            }
        }
        memmove(e->anchors + worst, e->anchors + worst + 1,
                (size_t)(n - worst - 1) * sizeof *e->anchors);
        n--;
    }
    for (i = n; i > 0 && e->anchors[i - 1].at > at; i--)
        e->anchors[i] = e->anchors[i - 1];
    e->anchors[i] = new;
    e->anchor_count = n + 1;
    e->idle_ns = 0;
}

static void forget(struct tr_estimate *e, int count)
{
    memmove(e->anchors, e->anchors + count,
            (size_t)(e->anchor_count - count) * sizeof *e->anchors);
    e->anchor_count -= count;
}

/* From the newest refusal back as far as they agree. */
static void bound(struct tr_estimate *e)
{
    int last = e->anchor_count - 1;
    struct tr_mark new = e->anchors[last];

    e->low = 0;
    e->high = 0;
    for (int i = last - 1; i >= 0; i--) {
        double span = seconds(new.at - e->anchors[i].at);
        double n = fmax(0, new.sum - e->anchors[i].sum), m, low, high;

        if (span < SPAN_LEAST_S)
            continue;
        m = slack(e, n / span);
        low = (n - m) / span;
        high = (n + m) / span;
        if ((e->high > 0 && low > e->high) || high < e->low) {
            forget(e, i + 1);
            e->cleared = false; /* the limit is another one */
            return;
        }
        if (low > e->low)
            e->low = low;
        if (e->high <= 0 || high < e->high)
            e->high = high;
    }
}

/* ---- rates ------------------------------- */

static double start_rate(const struct tr_estimate *e)
{
    double n = e->taken.sum / e->most;
    double rate = fmax(fmin(n / START_FOLD_S, START_EASY), n / GROW_FOLD_S);

    if (e->latency_s > 0)
        rate = fmax(rate, START_FLIGHT / e->latency_s);
    return e->most * fmax(rate, START_RATE);
}

/* A bucket of one or two requests is full nearly always: what was accepted
 * between two refusals says nothing, only how fast the refused one came. */
bool tr_estimate_is_tight(const struct tr_estimate *e)
{
    return e->size > 0 && e->size < TIGHT * e->most;
}

/* So much above the base that one request more than flows in is sent within
 * some ten seconds, or that the middle between the bounds is soon reached. */
static double first_look(const struct tr_estimate *e)
{
    double look = fmax(0.1 * e->most, 0.25 * (e->high - e->low)) / e->base;

    if (e->usual.known)
        return EXCESS_LOOK;
    if (tr_estimate_is_tight(e) && e->tuned)
        return TIGHT_CUT;
    if (tr_estimate_is_tight(e))
        return 0.3;
    return fmin(0.1, fmax(0.0002, look));
}

static double look_fold(const struct tr_estimate *e)
{
    if (tr_estimate_is_tight(e) && e->tuned)
        return TIGHT_FOLD_S;
    return LOOK_FOLD_S *
           fmax(1, (e->usual.known ? EXCESS_SENDS : 1) * e->most / e->base);
}

double tr_estimate_rate(const struct tr_estimate *e, bool slow_start,
                        int64_t now)
{
    double t = seconds(now - e->since), held;

    switch (e->phase) {
    case TR_EST_START:
        return slow_start ? start_rate(e) : 0;
    case TR_EST_FIND:
        return fmin(e->base * exp(fmin(fmax(t, 0), 60) / FIND_FOLD_S),
                    FIND_MOST * e->most);
    case TR_EST_RAMP:
        return e->base + fmax(0, e->taken.sum - e->ramp_from) / GROW_FOLD_S;
    case TR_EST_CRUISE:
    case TR_EST_WINDOW:
        held = seconds(e->hold_s_ns);
        if (t <= held)
            return e->base;
        return e->base *
               (1 + fmin(e->phase == TR_EST_WINDOW ? WINDOW_LOOK : 4,
                         first_look(e) * exp((t - held) / look_fold(e))));
    case TR_EST_DARK:
        return e->trusted;
    }
    return 0;
}

static void enter(struct tr_estimate *e, enum tr_estimate_phase phase,
                  double base, int64_t now)
{
    e->phase = phase;
    e->base = base;
    e->since = now > e->hold_until ? now : e->hold_until;
}

static void cruise(struct tr_estimate *e, int64_t now)
{
    double span = seconds(e->anchors[e->anchor_count - 1].at -
                          e->anchors[0].at);
    double hold, base = e->low + AIM * (e->high - e->low);

    /* As long as the aim may be two requests too low, and not so short that
     * looking upwards costs many refusals. */
    hold = fmax(tr_estimate_is_tight(e) ? 0 : 1.5 * span, HOLD_MIN_S);
    hold = fmin(hold, fmax(HOLD_MIN_S, e->most / (REFUSALS * base)));
    e->hold_s_ns = tr_nanos(fmin(hold, HOLD_MAX_S));
    enter(e, TR_EST_CRUISE, base, now);
}

/* Refused at `rate`: a little less, and twice as much less when that is refused
 * at once. False: the bucket is not tight after all. */
static bool cruise_tight(struct tr_estimate *e, double rate, int64_t now)
{
    /* As coarse as the steps that led here. */
    double step = (rate / e->base - 1) / look_fold(e) * e->most / rate;
    double sends = seconds(now - e->since) * e->base / e->most;

    if (e->suspected && e->tuned && sends < SUSPECT_SENDS)
        return false;
    if (e->suspected && !e->tuned)
        e->cut = fmin(SUSPECT_CUT, 1 - sqrt(e->bar / rate));
    else if (e->tuned && now - e->since < e->hold_s_ns)
        e->cut *= 2;
    else
        e->cut = fmin(0.1, fmax(TIGHT_CUT, 1.2 * step));
    if (e->cut > TIGHT_CUT_MOST)
        return false;
    if (e->tuned || !e->suspected) {
        e->suspected = false;
        forget(e, e->anchor_count - 1);
    }
    e->high = rate;
    e->low = (1 - 2 * e->cut) * rate;
    e->hold_s_ns = tr_nanos(e->cut > 2 * TIGHT_CUT ? HOLD_MIN_S : TIGHT_HOLD_S);
    e->tuned = true;
    enter(e, TR_EST_CRUISE, (1 - e->cut) * rate, now);
    return true;
}

/* ---- windows ------------------------------- */

/* Lengths that providers use. */
static const double lengths_s[] = {5, 10, 15, 20, 30, 60, 120, 300, 600, 3600};
#define LENGTHS (sizeof lengths_s / sizeof *lengths_s)

static int64_t window_start(const struct tr_estimate *e, int64_t at)
{
    int64_t length = tr_nanos(e->window_s);

    return e->boundary + (at - e->boundary) / length * length;
}

static void window(struct tr_estimate *e, double quota, int64_t now)
{
    e->quota = fmax(quota, e->most);
    e->hold_s_ns = tr_nanos(HOLD_MAX_S);
    enter(e, TR_EST_WINDOW, WINDOW_USE * e->quota / e->window_s, now);
}

/* Accepted between the start of the window of `from` and a refusal. The start
 * is known to `slack`: rather count too much, the next refusal corrects it. */
static double count_window(const struct tr_estimate *e, int64_t from,
                           int64_t refused_at)
{
    return sum_at(e, refused_at) - sum_at(e, from - e->slack);
}

/* The second dark: the window is as long as one of those known, so that there
 * is only so often something to try. */
static void wait_for_length(struct tr_estimate *e, int64_t now)
{
    e->hold_until = tr_later(now, tr_nanos(600));
    for (size_t i = 0; i < LENGTHS; i++) {
        int64_t end = tr_later(e->boundary, tr_nanos(lengths_s[i]) + 50 * TR_MS);

        if (end > now) {
            e->hold_until = end;
            return;
        }
    }
}

/* Nothing is accepted any more. Each probe that is refused costs one; the
 * window's end is found to a third of the time gone by, or better where the
 * quota is large. Once it is known, a quarter of the doubt is enough. */
static void await_dawn(struct tr_estimate *e, double wait_s, int64_t now)
{
    double gap = fmin(0.5 * seconds(now - e->dark_from),
                      4000 * e->most / fmax(e->taken.sum, 1));

    if (e->measuring) {
        wait_for_length(e, now);
        return;
    }
    if (e->window_s > 0) {
        int64_t end = tr_later(window_start(e, e->dark_from),
                            tr_nanos(e->window_s));

        if (now < end - e->slack) {
            e->hold_until = end - e->slack;
            return;
        }
        if (now - e->slack < end)
            gap = seconds(e->slack) / 4;
    }
    gap = fmax(fmax(gap, WINDOW_PROBE_S), wait_s);
    e->hold_until = tr_later(now, tr_nanos(fmin(gap, 30)));
}

/* However sure that is: a request every two minutes costs little, and shows
 * when it was no window. */
static void dark_wait(struct tr_estimate *e, double wait_s, int64_t now)
{
    int64_t most = tr_later(now, tr_nanos(DARK_MOST_S));

    await_dawn(e, wait_s, now);
    if (e->hold_until > most)
        e->hold_until = most;
}

static void dark(struct tr_estimate *e, int64_t from, double wait_s,
                 int64_t now)
{
    e->phase = TR_EST_DARK;
    e->dark_from = from;
    e->dark_last = now - e->turn;
    dark_wait(e, wait_s, now);
}

/* The first boundary: how long is a window? Its quota is spent quickly, which
 * costs nothing, and the next boundary tells. */
static void measure(struct tr_estimate *e, int64_t sent_at, int64_t now)
{
    e->measuring = true;
    e->window_s = 3600;
    e->boundary = sent_at;
    e->slack = sent_at - e->dark_last;
    e->quota = fmax(e->most, sum_at(e, e->dark_from) -
                                 sum_at(e, e->dark_last - tr_nanos(60)));
    e->hold_s_ns = tr_nanos(HOLD_MAX_S);
    enter(e, TR_EST_WINDOW, fmin(e->trusted, e->quota / WINDOW_QUICK_S), now);
}

static void measured(struct tr_estimate *e, int64_t sent_at)
{
    double length = seconds(sent_at - e->boundary);
    size_t best = 0;

    for (size_t i = 1; i < LENGTHS; i++)
        if (fabs(log(lengths_s[i] / length)) <
            fabs(log(lengths_s[best] / length)))
            best = i;
    e->measuring = false;
    e->window_s = lengths_s[best];
    e->quota = count_window(e, e->boundary, e->dark_from);
}

/* The first request since the dark was accepted: a window began. */
static void dawn(struct tr_estimate *e, int64_t sent_at, int64_t now)
{
    double off;

    e->misses = 0;
    e->hold_until = now;
    if (e->window_s <= 0) {
        measure(e, sent_at, now);
        return;
    }
    if (e->measuring)
        measured(e, sent_at);
    off = fmod(seconds(sent_at - e->boundary), e->window_s);
    off = fmin(off, e->window_s - off);
    if (off > seconds(sent_at - e->dark_last + e->slack) + 1) {
        measure(e, sent_at, now); /* windows of another length */
        return;
    }
    if (e->slack > sent_at - e->dark_last)
        e->slack = sent_at - e->dark_last;
    e->boundary = sent_at;
    window(e, e->quota, now);
}

/* A refusal while windows are known. False: it does not fit them. */
static bool end_of_quota(struct tr_estimate *e, double wait_s, int64_t sent_at,
                         int64_t now)
{
    double quota = count_window(e, window_start(e, sent_at), sent_at);

    if (quota < 0.2 * e->quota || quota < 3 * e->most) {
        e->window_s = 0;
        e->measuring = false;
        return false;
    }
    e->anchor_count = 0;
    e->quota = quota;
    if (!e->measuring)
        e->trusted = WINDOW_USE * quota / e->window_s;
    dark(e, sent_at, wait_s, now);
    return true;
}

/* ---- refusals ------------------------------- */

/* Consecutive refusals: gaps that double until something is accepted, unless
 * the server said when to come back. */
static void gap(struct tr_estimate *e, double rate, double wait_s, int64_t now)
{
    double factor = pow(e->low > 0 ? 2 : 4, fmin(e->misses, 20));
    double span = wait_s >= 0 ? wait_s : factor * e->most / rate;

    e->hold_until = tr_later(now, tr_nanos(fmin(span, 5)));
}

/* The rate to look around with: what the bounds allow at most, or below what
 * was refused. */
static void find(struct tr_estimate *e, double rate, int64_t now)
{
    double base = e->high > 0 && e->high < rate ? e->high : rate;

    enter(e, TR_EST_FIND, e->low > 0 ? base : 0.7 * base, now);
}

/* First refusal after a climb: wait for those of all that left meanwhile, their
 * spacing is the first idea of the limit. */
static void top_of_climb(struct tr_estimate *e, double rate, double taken,
                         int64_t sent_at, int64_t now)
{
    double span = fmin(2, seconds(now - e->began_at));
    double lately = (e->taken.sum - sum_at(e, now - tr_nanos(span))) /
                    fmax(span, 1e-3);

    /* Something else may have held us below what the climb allowed. */
    rate = fmin(rate, 2 * fmax(lately, e->most));
    if (e->phase == TR_EST_START || !tr_estimate_is_tight(e))
        e->size = fmax(taken, e->most); /* a limit that is raised stays tight */
    e->tuned = e->suspected = e->cleared = false;
    e->trusted = e->passed = rate;
    e->dark_from = sent_at;
    e->misses = 0;
    if (seconds(e->turn) * rate > 0.5 * e->most)
        e->hold_until = tr_later(now, e->turn + e->turn / 10);
    find(e, rate, now);
}

/* The limit is known, and yet a request far above it was accepted before this
 * one was refused: perhaps the bucket is small and was full all the time. */
static void suspect(struct tr_estimate *e, double rate, double low, double high)
{
    if (high > 0 && high < 1.1 * low && rate > SUSPECT * high &&
        !tr_estimate_is_tight(e) && !e->cleared && e->others <= 0) {
        e->size = e->most;
        e->tuned = false;
        e->suspected = true;
        e->bar = high;
    }
}

static bool refused_tight(struct tr_estimate *e, double rate, double taken,
                          int64_t now)
{
    bool none = taken < 0.5 * e->most;

    if (e->phase != TR_EST_CRUISE || !tr_estimate_is_tight(e) ||
        (none && e->misses))
        return false;
    e->misses = none;
    if (none)
        e->run = 0;
    else if (e->anchor_count > 1)
        e->run = fmax(e->run, (taken - e->size) /
                                  seconds(e->anchors[e->anchor_count - 1].at -
                                          e->anchors[e->anchor_count - 2].at));
    e->hold_until = tr_later(now - e->turn, tr_nanos(e->most / rate));
    if (cruise_tight(e, rate, now))
        return true;
    e->cleared = e->suspected;
    e->size = 0;
    e->suspected = false;
    return false;
}

/* Longer than a bucket of the trusted rate takes to fill? What the climb
 * reached need not be borne: not more than was accepted so far. */
static bool is_long(const struct tr_estimate *e, int64_t at)
{
    double mean = e->taken.sum / fmax(seconds(at - e->began_at), 1e-3);
    double rate = fmin(e->trusted, fmax(mean, 8 * e->most / DARK_LATE_S));

    return seconds(at - e->dark_from) > fmax(DARK_S, 8 * e->most / rate);
}

/* Refused, and nothing was accepted since the last refusal. True: for too long
 * to be a bucket that fills. */
static bool missed(struct tr_estimate *e, double rate, double wait_s,
                   int64_t sent_at, int64_t now)
{
    e->misses++;
    e->blank = e->misses > 1;
    e->dark_last = sent_at;
    gap(e, rate, wait_s, now);
    /* Who asks for a short wait has no window that ends long after it. */
    if (!is_long(e, sent_at) || (wait_s >= 0 && wait_s <= DARK_S))
        return false;
    dark(e, e->dark_from, wait_s, now);
    return true;
}

/* A refusal that is no echo; low and high are the bounds of before. */
static void react(struct tr_estimate *e, double taken, double wait_s,
                  double low, double high, int64_t sent_at, int64_t now)
{
    double rate = tr_estimate_rate(e, true, now);
    bool none = taken < 0.5 * e->most;

    e->reacted_at = now;
    e->passed = rate;
    e->turn = now <= sent_at ? 0
              : now - sent_at < tr_nanos(TURN_MOST_S) ? now - sent_at
                                                   : tr_nanos(TURN_MOST_S);
    e->probe_at = 0;
    if ((e->phase == TR_EST_WINDOW || e->phase == TR_EST_RAMP) &&
        e->window_s > 0) {
        if (end_of_quota(e, wait_s, sent_at, now))
            return;
        e->phase = TR_EST_FIND;
        rate = e->trusted;
    }
    /* Among the very first one may be refused by chance: once more. */
    if (e->phase == TR_EST_START && e->anchor_count < 2 && e->others <= 0 &&
        taken < TIGHT * e->most)
        return;
    if (e->phase == TR_EST_START || e->phase == TR_EST_RAMP) {
        top_of_climb(e, rate, taken, sent_at, now);
        return;
    }
    if (e->phase == TR_EST_CRUISE && !none)
        suspect(e, rate, low, high);
    if (none && e->misses == 0) {
        e->dark_from = e->anchor_count > 1
                           ? e->anchors[e->anchor_count - 2].at : sent_at;
        if (e->phase == TR_EST_CRUISE)
            e->trusted = e->base;
    }
    if (refused_tight(e, rate, taken, now))
        return;
    if (none && missed(e, rate, wait_s, sent_at, now))
        return;
    if (!none) {
        e->misses = 0;
        e->blank = false;
        e->hold_until = tr_later(sent_at, tr_nanos(e->most / rate));
    }
    if (e->low > 0 && e->high < SURE * e->low)
        cruise(e, now);
    else
        find(e, rate, now);
}

/* Since the last refusal at least low flowed in, on top of what was left then.
 * Whoever is refused with less than that accepted was not refused by the limit
 * as it is known. Few accepted since: rather a limit that was cut deeply. */
double tr_estimate_surprise(const struct tr_estimate *e, double units,
                            int64_t sent_at)
{
    struct tr_mark last;
    double taken, inflow, weight, rate;

    if (e->usual.known || e->others > 0 || !e->anchor_count || e->low <= 0 ||
        sent_at < e->reacted_at ||
        (e->phase != TR_EST_CRUISE && e->phase != TR_EST_FIND))
        return 0;
    last = e->anchors[e->anchor_count - 1];
    taken = sum_at(e, sent_at) - last.sum - units;
    inflow = e->low * (seconds(sent_at - last.at) - JITTER_S);
    rate = tr_estimate_rate(e, true, sent_at);
    weight = fmin(1, taken / (SURPRISE_SENDS * e->most));
    if (tr_estimate_is_tight(e))
        return rate > 1.01 * e->base ? -1 : rate < 0.99 * e->run ? weight : 0;
    if (taken + units < inflow + e->left)
        return weight;
    return e->phase == TR_EST_CRUISE && rate > e->base ? -1 : 0;
}

void tr_estimate_tolerate(struct tr_estimate *e, double rate, int64_t now)
{
    rate = fmax(rate, tr_estimate_rate(e, true, now));
    e->usual.known = true;
    e->usual.score = 0;
    e->low = e->high = e->size = e->run = e->window_s = 0;
    e->suspected = e->measuring = e->blank = false;
    e->misses = 0;
    e->probe_at = 0;
    e->hold_until = now;
    e->hold_s_ns = 0;
    e->anchors[0] = (struct tr_mark){now, e->taken.sum};
    e->anchor_count = 1;
    e->ramp_from = e->taken.sum;
    enter(e, TR_EST_RAMP, fmax(rate, START_RATE * e->most), now);
}

/* More is refused than usual: a limit. What was accepted since the first of
 * these is what flows in; of few, not less than half the rate. A limit that is
 * met again and again is looked at less and less often. */
static void exceeded(struct tr_estimate *e, int64_t sent_at, int64_t now)
{
    double rate = tr_estimate_rate(e, true, now);
    double n = sum_at(e, sent_at) - e->anchors[0].sum;
    double flow = n / fmax(seconds(sent_at - e->anchors[0].at), 1e-3);
    double span = fmin(60, fmax(1, seconds(now - e->began_at)));
    double mean = (e->taken.sum - sum_at(e, now - tr_nanos(span))) / span;
    double hold = e->phase != TR_EST_CRUISE
                      ? HOLD_MIN_S
                      : seconds(e->hold_s_ns) *
                        (now - e->since > e->hold_s_ns ? 2 : 1);

    e->low = n < EXCESS_SENDS * e->most ? 0 : flow;
    if (e->low <= 0)
        flow = fmax(flow, rate / 2);
    e->reacted_at = now;
    e->hold_s_ns = tr_nanos(fmin(hold, HOLD_MAX_S));
    e->anchors[0] = (struct tr_mark){now, e->taken.sum};
    enter(e, TR_EST_CRUISE, fmin(rate, fmax(flow, mean / 2)), now);
}

/* The usual ones teach nothing. */
static void tolerated(struct tr_estimate *e, int64_t sent_at, int64_t now)
{
    double rate = tr_estimate_rate(e, true, now) / e->most;
    double sure = fmax(TR_USUAL_SURE, log(EXCESS_EVERY_S * rate));

    if (e->usual.score <= 0)
        e->anchors[0] = (struct tr_mark){sent_at, sum_at(e, sent_at)};
    if (tr_usual_refused(&e->usual, learns(e, sent_at), sure))
        exceeded(e, sent_at, now);
}

/* Nothing was sent for longer than the rate or a wait, if they held us back: we
 * slept, or had nothing to ask. */
static bool was_idle(const struct tr_estimate *e, bool held, int64_t now)
{
    int64_t from = e->hold_until > e->last_at ? e->hold_until : e->last_at;
    double gap = seconds(now - from);

    return gap > IDLE_S &&
           (!held || gap > 3 * e->most / tr_estimate_rate(e, true, now));
}

void tr_estimate_refused(struct tr_estimate *e, double units, double wait_s,
                         int64_t sent_at, int64_t now)
{
    double taken, low = e->low, high = e->high;
    double surprise = tr_estimate_surprise(e, units, sent_at);
    bool echo = sent_at < e->reacted_at;

    if (was_idle(e, true, now))
        e->woke_at = now;
    tr_estimate_uncount(e, units, sent_at);
    if (e->usual.known) {
        if (!echo && units > 0)
            tolerated(e, sent_at, now);
        return;
    }
    e->usual.refused++; /* usual or not will show */
    taken = sum_at(e, sent_at) -
            (e->anchor_count ? e->anchors[e->anchor_count - 1].sum : 0);
    if (e->phase == TR_EST_DARK) {
        e->reacted_at = now;
        e->dark_last = sent_at;
        dark_wait(e, wait_s, now);
        return;
    }
    e->left = echo || e->phase == TR_EST_START || e->phase == TR_EST_RAMP ||
                      taken < 0.5 * e->most
                  ? 0 : 0.5 * units;
    add_anchor(e, sent_at);
    /* The limit was cut since the last one: what was before says nothing. */
    if (surprise > 0) {
        e->run = 0;
        if (!tr_estimate_is_tight(e))
            forget(e, e->anchor_count - 1);
    }
    bound(e);
    if (!echo)
        react(e, taken, wait_s, low, high, sent_at, now);
    else if (e->phase == TR_EST_FIND && e->last_at <= e->reacted_at)
        find(e, e->passed, now); /* nothing left since: look again */
    /* It left before we slept: no time passed that tells of a limit. */
    if (sent_at < e->woke_at)
        e->anchor_count = 0;
}

/* ---- sends and answers ------------------------------- */

/* After refusals in a row one request tries, the others wait whether it is
 * refused as well. */
static void probe(struct tr_estimate *e, int64_t now)
{
    if (e->probe_at > 0) { /* the last one was not: there is room again */
        e->misses = 0;
        e->probe_at = 0;
        return;
    }
    e->probe_at = now;
    e->hold_until = tr_later(now, e->turn + e->turn / 4);
}

void tr_estimate_sent(struct tr_estimate *e, double units, bool held,
                      int64_t now)
{
    if (was_idle(e, held, now)) { /* few requests between two refusals that are
                                     hours apart are no slow limit, */
        e->anchor_count = 0;
        if (e->measuring && e->phase == TR_EST_DARK) {
            e->window_s = 0; /* and whoever sleeps measures no window */
            e->measuring = false;
        }
    }
    /* Time in which nothing held us back says nothing about the limit. Of a
     * limit with one refusal so far it would make a slow one: the bucket may
     * have run over. */
    if (!held && e->last_at > e->since)
        e->since += now - e->last_at;
    if (!held && now > e->last_at)
        e->idle_ns += now - e->last_at;
    if (e->idle_ns > tr_nanos(IDLE_S) && e->low <= 0 && !e->usual.known)
        e->anchor_count = 0;
    if (e->phase == TR_EST_DARK)
        dark_wait(e, -1, now);
    else if (e->misses > 0)
        probe(e, now);
    e->most = fmax(e->most, units);
    e->last_at = now;
    tr_taken_add(&e->taken, units, now);
    tr_usual_sent(&e->usual, learns(e, now));
}

/* More was accepted than the limit allows: it was raised. */
static bool is_raised(const struct tr_estimate *e, int64_t sent_at)
{
    struct tr_mark last;

    if (e->measuring)
        return false;
    if (e->usual.known)
        return e->phase == TR_EST_CRUISE &&
               tr_estimate_rate(e, true, e->last_at) > 2 * e->base;
    if (e->phase == TR_EST_WINDOW)
        return sum_at(e, sent_at) - sum_at(e, window_start(e, sent_at)) >
               1.02 * e->quota + 2 * e->most;
    if (e->phase != TR_EST_CRUISE || !e->anchor_count)
        return false;
    last = e->anchors[e->anchor_count - 1];
    return sent_at > last.at &&
           sum_at(e, sent_at) - last.sum >
               e->high * seconds(sent_at - last.at) + slack(e, e->high);
}

void tr_estimate_accepted(struct tr_estimate *e, int64_t sent_at, int64_t now)
{
    if (e->latency_s <= 0)
        e->latency_s = fmax(1e-6, seconds(now - sent_at));
    if (e->phase == TR_EST_DARK) {
        if (sent_at > e->dark_from && sent_at >= e->reacted_at)
            dawn(e, sent_at, now);
        return;
    }
    if (e->phase == TR_EST_FIND && e->blank && sent_at > e->dark_last) {
        e->blank = false; /* the dark may have ended between two probes */
        if (sent_at >= e->reacted_at && is_long(e, sent_at)) {
            dawn(e, sent_at, now);
            return;
        }
    }
    if (now - e->since > e->hold_s_ns && is_raised(e, sent_at)) {
        double rate = tr_estimate_rate(e, true, now);

        if (e->phase == TR_EST_CRUISE && !e->usual.known)
            e->anchor_count = 0;
        e->ramp_from = e->taken.sum;
        enter(e, TR_EST_RAMP, rate, now);
    }
}

double tr_estimate_taken(const struct tr_estimate *e, int64_t at)
{
    return sum_at(e, at);
}

bool tr_estimate_explains(const struct tr_estimate *e, int64_t sent_at)
{
    struct tr_mark last;

    if (e->phase != TR_EST_CRUISE || !e->anchor_count || e->usual.known)
        return false;
    last = e->anchors[e->anchor_count - 1];
    return e->low * seconds(sent_at - last.at) <
           sum_at(e, sent_at) - last.sum + 2 * slack(e, e->high);
}

void tr_estimate_shift(struct tr_estimate *e, int64_t back)
{
    int64_t *const times[] = {&e->since, &e->hold_until, &e->reacted_at,
                              &e->last_at, &e->began_at, &e->dark_from,
                              &e->dark_last, &e->boundary, &e->woke_at};

    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        if (*times[i] > INT64_MIN + back)
            *times[i] -= back;
    for (int i = 0; i < e->anchor_count; i++)
        e->anchors[i].at -= back;
    tr_taken_shift(&e->taken, back);
}
