/* retry.c - what each outcome means, how long to back off, when to sync.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/retry.h"

#include "base/clock.h"
#include "base/err.h"

/* What no text can cause (throttling, a refused connection) is charged to
 * nobody, so that an outage never becomes a failed row; and halving a
 * throttled pack would only double the requests. A text that makes its server
 * fail again and again, while others are served, ends as "no answer". */
static const struct tr_rule rules[TR_OUT_COUNT] = {
#define ROW(outcome, action, charge, why, slows)                               \
    [outcome] = {action, charge, why, slows}
    ROW(TR_OUT_OK, TR_DO_CHECK, TR_CHARGE_ROWS, TR_WHY_INVALID, false),
    ROW(TR_OUT_CUT_SHORT, TR_DO_CHECK, TR_CHARGE_ROWS, TR_WHY_TRUNCATED, false),
    ROW(TR_OUT_REFUSED, TR_DO_HALVE, TR_CHARGE_ROWS, TR_WHY_BLOCKED, false),
    ROW(TR_OUT_GARBLED, TR_DO_AGAIN, TR_CHARGE_LANE, TR_WHY_NO_ANSWER, false),
    ROW(TR_OUT_THROTTLED, TR_DO_AGAIN, TR_CHARGE_NOBODY, TR_WHY_NOT_ASKED,
        true),
    ROW(TR_OUT_TOO_BIG, TR_DO_HALVE, TR_CHARGE_ROWS, TR_WHY_TOO_LONG, false),
    ROW(TR_OUT_EXHAUSTED, TR_DO_STOP, TR_CHARGE_NOBODY, TR_WHY_NOT_ASKED,
        false),
    ROW(TR_OUT_FATAL, TR_DO_STOP, TR_CHARGE_NOBODY, TR_WHY_NOT_ASKED, false),
    /* Poison in one row, or the same for every pack: then, as long as nothing
     * ever succeeded, it is the configuration. */
    ROW(TR_OUT_BAD_REQUEST, TR_DO_HALVE, TR_CHARGE_ROWS, TR_WHY_REJECTED,
        false),
    ROW(TR_OUT_ADAPT, TR_DO_NOW, TR_CHARGE_NOBODY, TR_WHY_NOT_ASKED, false),
    ROW(TR_OUT_TRANSIENT, TR_DO_AGAIN, TR_CHARGE_LANE, TR_WHY_NO_ANSWER, false),
    ROW(TR_OUT_UNREACHED, TR_DO_AGAIN, TR_CHARGE_NOBODY, TR_WHY_NOT_ASKED,
        false),
    ROW(TR_OUT_LOST, TR_DO_AGAIN, TR_CHARGE_LANE, TR_WHY_NO_ANSWER, false),
#undef ROW
};

const struct tr_rule *tr_rule(enum tr_outcome outcome)
{
    TR_ASSERT((unsigned)outcome < TR_OUT_COUNT);
    return &rules[outcome];
}

/* ---- back-off ------------------------------- */

#define BACKOFF_BASE_MS 500.0
#define BACKOFF_CAP_MS 30000.0
#define BACKOFF_LONG_MS (15 * 60 * 1000.0)
#define TOLD_MAX_MS (24 * 3600 * INT64_C(1000))
#define SPREAD_MAX_NS (60 * TR_S)

int64_t tr_told_wait_ns(int64_t told_ms, double unit)
{
    int64_t ms = told_ms < 0 ? 0 : told_ms < TOLD_MAX_MS ? told_ms : TOLD_MAX_MS;
    int64_t wait = ms * TR_MS;
    int64_t spread = wait / 10 < SPREAD_MAX_NS ? wait / 10 : SPREAD_MAX_NS;

    return wait + (int64_t)((double)spread * unit);
}

int64_t tr_backoff_ns(uint32_t tries, int64_t floor_ms, double unit)
{
    double span = BACKOFF_BASE_MS;
    uint32_t beyond = tries > TR_TRIES_LONG ? (tries - TR_TRIES_LONG) / 4 : 0;

    while (tries-- && span < BACKOFF_CAP_MS)
        span *= 2;
    if (span > BACKOFF_CAP_MS)
        span = BACKOFF_CAP_MS;
    span *= 1 + (double)beyond;
    if (span > BACKOFF_LONG_MS)
        span = BACKOFF_LONG_MS;
    return tr_told_wait_ns(floor_ms, unit) + (int64_t)(unit * span * TR_MS);
}

/* ---- retry budget ------------------------------- */

#define BUDGET_START 3.0
#define BUDGET_MOST 100.0 /* a long good time does not pay for a storm */
#define BUDGET_EARN 0.1

void tr_retry_budget_init(struct tr_retry_budget *b)
{
    *b = (struct tr_retry_budget){.tokens = BUDGET_START};
}

void tr_retry_budget_earn(struct tr_retry_budget *b)
{
    if (b->tokens < BUDGET_MOST)
        b->tokens += BUDGET_EARN;
}

bool tr_retry_budget_take(struct tr_retry_budget *b)
{
    if (b->tokens < 1)
        return false;
    b->tokens -= 1;
    return true;
}

/* ---- group commit ------------------------------- */

#define SHARE 9                  /* nine parts of work for one of syncing */
#define AGE_MAX_NS (200 * TR_MS) /* nothing paid for lies longer unsynced */

bool tr_flush_due(const struct tr_flush *f, bool starved, uint32_t pending,
                  int64_t now)
{
    if (pending == 0)
        return false;
    if (now < f->last_at)
        return true; /* the clock stepped back: no reason to wait */
    if (starved && now - f->last_at >= f->last_cost)
        return true;
    return now >= tr_flush_wake(f);
}

void tr_flush_done(struct tr_flush *f, int64_t began, int64_t ended)
{
    int64_t cost = ended > began ? ended - began : 0;

    /* One slow sync among fast ones must not set the pace alone. */
    f->last_cost = f->last_cost ? f->last_cost + (cost - f->last_cost) / 4
                                : cost;
    f->last_at = ended;
    f->oldest_at = 0;
}

int64_t tr_flush_wake(const struct tr_flush *f)
{
    int64_t cost = f->last_cost < INT64_MAX / (2 * SHARE)
                       ? f->last_cost
                       : INT64_MAX / (2 * SHARE);
    int64_t by_share = tr_later(f->last_at, SHARE * cost);
    int64_t by_age, rest;

    if (f->oldest_at == 0)
        return by_share;
    /* On a disk so slow that the age would mean syncing all the time, half
     * the time must do. */
    by_age = tr_later(f->oldest_at, AGE_MAX_NS);
    rest = tr_later(f->last_at, cost);
    if (by_age < rest)
        by_age = rest;
    return by_share < by_age ? by_share : by_age;
}
