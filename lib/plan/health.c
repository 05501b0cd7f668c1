/* health.c - when a lane is asked, when it is left alone, when it is probed.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/health.h"

#include "base/clock.h"
#include "plan/retry.h"

/* Down: so many failures without a success, over such a time. A flood of them,
 * some that the back-off has spread, or a few that took long to fail. What a
 * server refuses for pace is no failure, but a lane that does nothing else for
 * half of the user's patience is down as well: the other half is for those who
 * take over. In batches only that counts, from the first failure on: one batch
 * that is not run is thousands of them at once, after hours. */
static const struct {
    uint32_t failures;
    int64_t over_ns;
} trips[] = {{40, 300 * TR_MS}, {5, 2 * TR_S}, {2, 60 * TR_S}};

#define DOWN_PROBE_NS (2 * TR_S)
#define DOWN_PROBE_MAX 20   /* times that: back within a minute */
#define DOUBT_PROBE_NS (10 * TR_S) /* a hiccup of who checks keys is over */
#define DOUBT_PROBE_MAX 4
#define QUOTA_PROBE_MAX 15  /* times the first wait */

const char *tr_health_word(enum tr_health_state state)
{
    static const char *const words[] = {
        [TR_LANE_OPEN] = "open", [TR_LANE_EXHAUSTED] = "exhausted",
        [TR_LANE_DOWN] = "down", [TR_LANE_GONE] = "gone",
    };

    return words[state];
}

/* first doubled for each probe that failed, between three and five quarters of
 * it, and never before the server wants it. */
static int64_t next_probe(const struct tr_health *h, int64_t first,
                          int64_t most, const struct tr_health_news *news,
                          int64_t now)
{
    int64_t floor = tr_told_wait_ns(news->retry_after_ms, news->unit);
    int64_t wait = first;

    for (uint32_t i = 0; i < h->probes && wait < first * most; i++)
        wait *= 2;
    if (wait > first * most)
        wait = first * most;
    wait = (int64_t)((double)wait * (0.75 + news->unit / 2));
    wait = wait > floor ? wait : floor;
    return now + wait > h->wish_until ? now + wait : h->wish_until;
}

static int64_t when_to_probe(const struct tr_health *h,
                             const struct tr_health_news *news, int64_t now)
{
    switch (h->state) {
    case TR_LANE_DOWN:
        return next_probe(h, DOWN_PROBE_NS, DOWN_PROBE_MAX, news, now);
    case TR_LANE_EXHAUSTED: {
        int64_t first = news->quota_probe_ns;

        /* An end that the server stated is worth a probe in any case, and
         * another one where that was lost or failed for another reason. */
        if (first <= 0 && news->retry_after_ms <= 0 &&
            !(h->comes_back && h->probes))
            return TR_NEVER;
        return next_probe(h, first > 0 ? first : 60 * TR_S, QUOTA_PROBE_MAX,
                          news, now);
    }
    case TR_LANE_GONE:
        if (h->doubted)
            return next_probe(h, DOUBT_PROBE_NS, DOUBT_PROBE_MAX, news, now);
        return TR_NEVER;
    case TR_LANE_OPEN:
        break;
    }
    return TR_NEVER;
}

/* When it is probed, others say. */
static void shut(struct tr_health *h, enum tr_health_state state, int64_t now)
{
    h->state = state;
    h->probes = 0;
    h->closed_at = now;
    h->refused = false;
}

static void close_as(struct tr_health *h, enum tr_health_state state,
                     const struct tr_health_news *news, int64_t now)
{
    shut(h, state, now);
    h->doubted = state == TR_LANE_GONE && news->served;
    h->probe_at = when_to_probe(h, news, now);
}

static bool is_gone(const struct tr_health *h)
{
    return h->state == TR_LANE_GONE && !h->doubted;
}

static bool trips_now(const struct tr_health *h,
                      const struct tr_health_news *news, int64_t now)
{
    int64_t span = now - h->failing_since;

    for (size_t i = 0; i < sizeof trips / sizeof *trips; i++)
        if (h->failures >= trips[i].failures && span >= trips[i].over_ns)
            return true;
    return span >= news->patience_ns / 2;
}

/* No answer: it may be down. */
static void failed(struct tr_health *h, const struct tr_health_news *news,
                   int64_t now)
{
    bool for_pace = news->outcome == TR_OUT_THROTTLED && news->status < 500;
    int64_t since = news->in_batch ? now : news->sent_at;

    h->failures += !for_pace && !news->in_batch;
    if (!h->failing_since)
        h->failing_since = since > h->answered_at ? since : h->answered_at;
    if (h->state == TR_LANE_OPEN && news->replaced && trips_now(h, news, now))
        close_as(h, TR_LANE_DOWN, news, now);
}

void tr_health_rest(struct tr_health *h)
{
    h->failures = 0;
    h->failing_since = 0;
}

static void answered(struct tr_health *h, bool probe, int64_t now)
{
    tr_health_rest(h);
    h->answered_at = now;
    /* What was in flight when the quota ended, or when the server asked to be
     * left alone, says nothing of that. */
    if ((h->state == TR_LANE_DOWN && (probe || now >= h->wish_until)) ||
        (h->state == TR_LANE_EXHAUSTED && probe) || (h->doubted && probe)) {
        h->state = TR_LANE_OPEN;
        h->doubted = h->refused = false;
        h->probe_at = TR_NEVER;
    }
}

bool tr_health_reply(struct tr_health *h, const struct tr_health_news *news,
                     int64_t now)
{
    const struct tr_rule *rule = tr_rule(news->outcome);
    enum tr_health_state before = h->state;
    bool probe = news->probe && news->sent_at >= h->closed_at;

    if (news->probe)
        h->probing = false;
    if (is_gone(h))
        return false;
    if (news->outcome == TR_OUT_FATAL) {
        /* A doubt is looked into soon, and a used-up quota is not: then what
         * was in flight is left to the quota's own probe. */
        bool later = h->state == TR_LANE_EXHAUSTED && news->served && !probe;
        bool second = probe && (h->doubted || h->refused);

        if (later)
            h->refused = true;
        else if (h->state != TR_LANE_GONE)
            close_as(h, TR_LANE_GONE, news, now);
        if (second) { /* it is so */
            h->doubted = false;
            h->probe_at = TR_NEVER;
        }
    } else if (news->outcome == TR_OUT_EXHAUSTED) {
        h->comes_back = news->retry_after_ms >= 0;
        h->refused = false; /* a key that has a quota is known */
        if (h->state != TR_LANE_EXHAUSTED)
            close_as(h, TR_LANE_EXHAUSTED, news, now);
    } else if (rule->action == TR_DO_AGAIN) {
        failed(h, news, now);
    } else {
        answered(h, probe, now);
    }
    if (probe && h->state == before && h->state != TR_LANE_OPEN) {
        h->probes++;
        h->probe_at = when_to_probe(h, news, now);
    }
    return h->state != before;
}

bool tr_health_wish(struct tr_health *h, int64_t until, int64_t patience_ns,
                    int64_t now)
{
    if (until <= h->wish_until || is_gone(h))
        return false;
    h->wish_until = until;
    if (h->state != TR_LANE_OPEN) {
        if (h->probe_at < until) /* it would only lie there, with its row */
            h->probe_at = until;
        return false;
    }
    if (until - now <= patience_ns)
        return false;
    shut(h, TR_LANE_DOWN, now);
    h->probe_at = until;
    return true;
}

/* ---- triggers ------------------------------- */

static const char *const words[TR_TRIGGER_COUNT] = {
#define X(name, word) word,
    TR_TRIGGERS(X)
#undef X
};

const char *tr_trigger_word(enum tr_trigger t)
{
    return words[t];
}

bool tr_triggers_parse(struct tr_str list, unsigned *mask, struct tr_str *bad)
{
    *mask = 0;
    while (list.n) {
        const char *comma = memchr(list.p, ',', list.n);
        size_t n = comma ? (size_t)(comma - list.p) : list.n;
        struct tr_str word = tr_str_trim(tr_str(list.p, n));
        int i = 0;

        while (i < TR_TRIGGER_COUNT && !tr_str_eq_c(word, words[i]))
            i++;
        if (i == TR_TRIGGER_COUNT) {
            *bad = word;
            return false;
        }
        *mask |= 1u << i;
        n += comma != NULL;
        list = tr_str(list.p + n, list.n - n);
    }
    return true;
}

int tr_trigger_of_state(enum tr_health_state state)
{
    switch (state) {
    case TR_LANE_EXHAUSTED: return TR_ON_EXHAUSTED;
    case TR_LANE_GONE: return TR_ON_GONE;
    case TR_LANE_DOWN: return TR_ON_DOWN;
    case TR_LANE_OPEN: break;
    }
    return -1;
}

/* A bad request for one text alone may be a refusal in other words, so it
 * never goes on where refusals do not. */
int tr_trigger_of_why(enum tr_why why)
{
    switch (why) {
    case TR_WHY_BLOCKED:
    case TR_WHY_REJECTED: return TR_ON_BLOCKED;
    case TR_WHY_TOO_LONG:
    case TR_WHY_OVER_LIMIT: return TR_ON_TOO_LONG;
    case TR_WHY_INVALID:
    case TR_WHY_TRUNCATED:
    case TR_WHY_NO_ANSWER: return TR_ON_INVALID;
    default: return -1;
    }
}
