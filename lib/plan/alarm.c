/* alarm.c - when an operator is told, and of what.
 *
 *                 tells when                        tells again after
 *   budget        50, 80, 95 % are spent            never (each once a run)
 *   stall         rows wait, none settles           a row settled
 *   error_rate    share of requests, lately         half of that share
 *   failed_rows   share of rows, lately             half of that share
 *   spend_rate    the rows to come do not fit the   they fit again;
 *                 budget, or money goes too fast    four fifths of the rate
 *                 a row costs twice the estimate    1.5 times
 *   quota, down   the engine says so                lane_up
 *   model         the engine says so                never (each once a lane)
 *
 * SPDX-License-Identifier: MIT */
#include "plan/alarm.h"

#include "base/clock.h"
#include "plan/tally.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define SHARE_MEMORY_S 60.0    /* "lately" of a share */
#define SHARE_EVIDENCE 20.0    /* fewer prove nothing */
#define SPEND_MEMORY_S 300.0
#define SPEND_SECONDS_MIN 30.0 /* before that a burst is no rate */
#define PLAN_ROWS_MIN 100      /* rows paid for before costs are projected, */
#define PLAN_ROWS_MAX 1000     /* and where there are so many more, ... */
#define PLAN_ROWS_PART 20      /* ... this part: the first go alone, and dear */
#define PLAN_SLACK_PCT 110     /* of the budget: a projection is a guess */

static const int budget_pct[3] = {50, 80, 95};

static void write_alert(struct tr_alert *alert, enum tr_event_kind kind,
                        const char *lane, int64_t value, int64_t limit)
{
    *alert = (struct tr_alert){
        .kind = kind, .severity = tr_event_severity(kind),
        .value = value, .limit = limit,
    };
    snprintf(alert->lane, sizeof alert->lane, "%s", lane);
}

/* A share of the budget in percent, rounded down; no overflow. */
static int64_t pct_of(int64_t part, int64_t whole)
{
    return whole > 0 ? (int64_t)((double)part * 100 / (double)whole) : 0;
}

/* ---- budget ----------------------------------------------------------- */

static bool passed(const struct tr_alarm_view *v, int i)
{
    return v->budget > 0 &&
           (double)v->used * 100 >= (double)v->budget * budget_pct[i];
}

static bool next_budget(struct tr_alarm *a, const struct tr_alarm_view *v,
                        struct tr_alert *alert)
{
    char used[32], budget[32];

    for (int i = 0; i < 3; i++) {
        if (a->budget_said[i] || !passed(v, i))
            continue;
        a->budget_said[i] = true;
        write_alert(alert, TR_EVENT_BUDGET, "", pct_of(v->used, v->budget),
                    budget_pct[i]);
        snprintf(alert->text, sizeof alert->text,
                 "%d %% of the budget is spent (%s of %s)",
                 budget_pct[i], tr_money_text(v->used, used, sizeof used),
                 tr_money_text(v->budget, budget, sizeof budget));
        return true;
    }
    return false;
}

/* ---- stall ------------------------------------------------------------ */

/* A run that waits for its input does not stall: nothing is left to do. */
static bool next_stall(struct tr_alarm *a, const struct tr_alarm_view *v,
                       struct tr_alert *alert)
{
    if (v->rows_settled != a->settled || !v->rows_wait) {
        a->settled = v->rows_settled;
        a->progress_at = v->now;
        a->stalled = false;
    }
    if (a->stalled || !a->opts.stall_ns || v->ended ||
        v->now - a->progress_at < a->opts.stall_ns)
        return false;
    a->stalled = true;
    write_alert(alert, TR_EVENT_STALL, "", (v->now - a->progress_at) / TR_S,
                a->opts.stall_ns / TR_S);
    snprintf(alert->text, sizeof alert->text,
             "no row was settled for %" PRId64 " s, and rows wait "
             "(%" PRId64 " settled so far)", alert->value, v->rows_settled);
    return true;
}

/* ---- error rates ------------------------------------------------------ */

static double fade(int64_t since, int64_t now, double memory_s)
{
    return 1 / (1 + (double)(now - since) / (double)TR_S / memory_s);
}

/* True when an episode begins. */
static bool share_fires(struct tr_alarm_share *s, int64_t all, int64_t bad,
                        int64_t now, int limit_pct)
{
    double keep = fade(s->at, now, SHARE_MEMORY_S), pct;

    s->all = s->all * keep + (double)(all - s->last_all);
    s->bad = s->bad * keep + (double)(bad - s->last_bad);
    s->last_all = all;
    s->last_bad = bad;
    s->at = now;
    if (s->all < SHARE_EVIDENCE)
        return false;
    pct = s->bad * 100 / s->all;
    if (s->firing) {
        s->firing = pct * 2 >= limit_pct;
        return false;
    }
    s->firing = pct >= limit_pct;
    return s->firing;
}

static bool next_share(struct tr_alarm *a, enum tr_event_kind kind,
                       struct tr_alarm_share *s, int64_t all, int64_t bad,
                       int64_t now, struct tr_alert *alert)
{
    if (!a->opts.error_pct ||
        !share_fires(s, all, bad, now, a->opts.error_pct))
        return false;
    write_alert(alert, kind, "", (int64_t)(s->bad * 100 / s->all),
                a->opts.error_pct);
    snprintf(alert->text, sizeof alert->text,
             "%" PRId64 " %% of the last %s failed (%" PRId64
             " of %" PRId64 " since the run began)", alert->value,
             kind == TR_EVENT_ERRORS ? "requests" : "rows", bad, all);
    return true;
}

/* ---- spend rate ------------------------------------------------------- */

/* Has enough been paid for to tell what a row costs? */
static bool is_telling(const struct tr_alarm_view *v, int64_t paid)
{
    int64_t least = v->rows_expected < 0 ? PLAN_ROWS_MAX
                                         : v->rows_expected / PLAN_ROWS_PART;

    if (least > PLAN_ROWS_MAX)
        least = PLAN_ROWS_MAX;
    return paid >= (least > PLAN_ROWS_MIN ? least : PLAN_ROWS_MIN);
}

/* What the whole run will take of the budget at the price of its rows so
 * far. */
static bool next_plan(struct tr_alarm *a, const struct tr_alarm_view *v,
                      struct tr_alert *alert)
{
    int64_t paid = v->rows_settled - v->rows_stored;
    double per_row, total;
    char text[32], budget[32];

    if (v->budget <= 0 || v->rows_expected < 0 || !is_telling(v, paid) ||
        v->ended)
        return false;
    per_row = (double)(v->spent - a->spent_at_open) / (double)paid;
    total = (double)v->used +
            per_row * (double)(v->rows_expected - v->rows_settled);
    if (a->plan_fires) {
        a->plan_fires = total > (double)v->budget;
        return false;
    }
    if (total * 100 <= (double)v->budget * PLAN_SLACK_PCT)
        return false;
    a->plan_fires = true;
    write_alert(alert, TR_EVENT_SPEND, "",
                total < 9e18 ? (int64_t)total : INT64_MAX, v->budget);
    snprintf(alert->text, sizeof alert->text,
             "at the price of its rows so far the job will need %s, "
             "and its budget is %s: it will stop before its end",
             tr_money_text(alert->value, text, sizeof text),
             tr_money_text(v->budget, budget, sizeof budget));
    return true;
}

/* A price, a prompt or reasoning is not what the estimate took it for. */
static bool next_dear(struct tr_alarm *a, const struct tr_alarm_view *v,
                      struct tr_alert *alert)
{
    int64_t paid = v->rows_settled - v->rows_stored;
    double per_row, times;
    char is[32], was[32];

    if (v->row_estimate <= 0 || !is_telling(v, paid) || v->ended)
        return false;
    per_row = (double)(v->spent - a->spent_at_open) / (double)paid;
    times = per_row / v->row_estimate;
    if (a->dear_fires) {
        a->dear_fires = times > 1.5;
        return false;
    }
    if (times <= 2)
        return false;
    a->dear_fires = true;
    write_alert(alert, TR_EVENT_SPEND, "",
                per_row < 9e15 ? (int64_t)(1000 * per_row) : INT64_MAX,
                (int64_t)(2000 * fmin(v->row_estimate, 1e15)));
    snprintf(alert->text, sizeof alert->text,
             "1,000 rows cost %s, and the estimate at the start was %s: stop "
             "and look, if that is not what you want to pay",
             tr_money_text(alert->value, is, sizeof is),
             tr_money_text(alert->limit / 2, was, sizeof was));
    return true;
}

static bool next_spend(struct tr_alarm *a, const struct tr_alarm_view *v,
                       struct tr_alert *alert)
{
    double keep = fade(a->spend_at, v->now, SPEND_MEMORY_S), hourly;
    double limit = (double)a->opts.spend_per_hour;
    char rate[32], plan[32];

    a->spend = a->spend * keep + (double)(v->spent - a->spend_last);
    a->seconds = a->seconds * keep +
                 (double)(v->now - a->spend_at) / (double)TR_S;
    a->spend_last = v->spent;
    a->spend_at = v->now;
    if (a->opts.spend_per_hour < 0 || a->seconds < SPEND_SECONDS_MIN)
        return false;
    hourly = a->spend / a->seconds * 3600;
    if (a->spend_fires) {
        a->spend_fires = hourly * 5 > limit * 4;
        return false;
    }
    if (hourly <= limit)
        return false;
    a->spend_fires = true;
    write_alert(alert, TR_EVENT_SPEND, "",
                hourly < 9e18 ? (int64_t)hourly : INT64_MAX,
                a->opts.spend_per_hour);
    snprintf(alert->text, sizeof alert->text,
             "money goes at %s an hour, the plan says %s",
             tr_money_text(alert->value, rate, sizeof rate),
             tr_money_text(a->opts.spend_per_hour, plan, sizeof plan));
    return true;
}

/* ---- the end ---------------------------------------------------------- */

static const struct {
    int exit_code;
    const char *severity, *words;
} ends[] = {
    {0, "info", "finished, every row has its label"},
    {1, "warning", "finished, some rows have a reason instead of a label"},
    {65, "critical", "stopped at bad input data"},
    {69, "critical", "stopped, the provider cannot be reached"},
    {74, "critical", "stopped, reading or writing failed"},
    {75, "warning", "stopped for now, the same command goes on"},
    {77, "critical", "stopped, key refused or quota used up"},
    {78, "critical", "stopped, a setting is wrong"},
    {129, "warning", "stopped by SIGHUP"},
    {130, "warning", "stopped by Ctrl-C"},
    {143, "warning", "stopped by SIGTERM"},
};

static bool next_finish(struct tr_alarm *a, const struct tr_alarm_view *v,
                        struct tr_alert *alert)
{
    const char *words = "stopped";
    char spent[32];

    if (!v->ended || a->finish_said)
        return false;
    a->finish_said = true;
    write_alert(alert, TR_EVENT_FINISHED, "", v->exit_code, -1);
    alert->severity = "critical";
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (ends[i].exit_code == v->exit_code) {
            words = ends[i].words;
            alert->severity = ends[i].severity;
        }
    }
    snprintf(alert->text, sizeof alert->text,
             "%s (exit %d): %" PRId64 " row%s settled, %" PRId64
             " of them failed%s%s%s", words, v->exit_code, v->rows_settled,
             v->rows_settled == 1 ? "" : "s", v->rows_failed,
             v->priced ? ", " : "",
             v->priced ? tr_money_text(v->spent, spent, sizeof spent) : "",
             v->priced ? " spent" : "");
    return true;
}

/* ---- all of it -------------------------------------------------------- */

void tr_alarm_init(struct tr_alarm *a, const struct tr_alarm_opts *opts,
                   const struct tr_alarm_view *v)
{
    *a = (struct tr_alarm){
        .opts = *opts,
        .spent_at_open = v->spent,
        .settled = v->rows_settled,
        .progress_at = v->now,
        .spend_last = v->spent,
        .spend_at = v->now,
    };
    a->requests.at = a->rows.at = v->now;
    for (int i = 0; i < 3; i++) /* an earlier run of the job said it */
        a->budget_said[i] = passed(v, i);
}

bool tr_alarm_next(struct tr_alarm *a, const struct tr_alarm_view *v,
                   struct tr_alert *alert)
{
    return next_budget(a, v, alert) || next_stall(a, v, alert) ||
           next_share(a, TR_EVENT_ERRORS, &a->requests, v->attempts,
                      v->attempts_bad, v->now, alert) ||
           next_share(a, TR_EVENT_FAILED_ROWS, &a->rows, v->rows_settled,
                      v->rows_failed, v->now, alert) ||
           next_plan(a, v, alert) || next_dear(a, v, alert) ||
           next_spend(a, v, alert) ||
           next_finish(a, v, alert);
}

/* ---- lanes ------------------------------------------------------------ */

static void say_lane(struct tr_alert *alert, const struct tr_event *e)
{
    const char *what = "";
    bool when = false;
    char in[32] = "";

    switch (e->kind) {
    case TR_EVENT_QUOTA:
        when = e->wait_s >= 0;
        what = when ? ": its limit is used up and comes back in "
                    : ": the quota of its key is used up; add credit";
        break;
    case TR_EVENT_MODEL:
        what = ": another model seems to answer than before under this name; "
               "labels may differ";
        break;
    case TR_EVENT_LANE_UP:
        what = " serves again";
        break;
    default:
        when = e->wait_s >= 60;
        what = when ? " does not serve and asks to be left alone for "
                    : " does not serve: no answer, or key or model refused";
    }
    if (when)
        snprintf(in, sizeof in, "%" PRId64 " min", (e->wait_s + 59) / 60);
    snprintf(alert->text, sizeof alert->text, "%.150s%s%s", e->lane, what, in);
}

bool tr_alarm_raise(struct tr_alarm *a, const struct tr_event *e,
                    struct tr_alert *alert)
{
    bool up = e->kind == TR_EVENT_LANE_UP;
    bool *open;
    int i = 0;

    while (i < a->lane_count && strcmp(a->lanes[i].lane, e->lane) != 0)
        i++;
    if (i == TR_ALARM_LANES)
        return false;
    if (i == a->lane_count) {
        a->lane_count++;
        snprintf(a->lanes[i].lane, sizeof a->lanes[i].lane, "%s", e->lane);
    }
    open = e->kind == TR_EVENT_QUOTA ? &a->lanes[i].quota
         : e->kind == TR_EVENT_MODEL ? &a->lanes[i].renamed
                                     : &a->lanes[i].down;
    if (up ? !a->lanes[i].quota && !a->lanes[i].down : *open)
        return false;
    if (up)
        a->lanes[i].quota = false;
    *open = !up;
    write_alert(alert, e->kind, e->lane,
                e->kind == TR_EVENT_QUOTA ? e->wait_s : -1, -1);
    say_lane(alert, e);
    return true;
}
