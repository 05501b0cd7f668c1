/* purse.c - the budgets of a run: money, tokens, requests, reserved together.
 *
 * Each is a tr_money: spent + unknown + reserved <= cap, at every instant. The
 * cap is in the terms of this store's own sums. What other stores and processes
 * of the job may spend is withheld (plan/ledger.h) and claimed bit by bit.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define DAY_S 86400
#define PROBE_AGAIN (60 * TR_S) /* one that the budget had no room for */

static struct tr_money *purse(struct tr_run *run, int i)
{
    struct tr_money *const purses[] = {&run->money, &run->tokens, &run->asks};

    return purses[i];
}

static int64_t budget(const struct tr_run *run, int i)
{
    const int64_t budgets[] = {run->opts.budget_nano, run->opts.budget_tokens,
                               run->opts.budget_requests};

    return budgets[i];
}

static const int64_t *bounds_of(const struct tr_pack *p, int64_t *out)
{
    out[TR_PURSE_NANO] = p->bound;
    out[TR_PURSE_TOKENS] = p->token_bound;
    out[TR_PURSE_REQUESTS] = 1;
    return out;
}

bool tr_run_has_budget(const struct tr_run_opts *o)
{
    return o->budget_nano >= 0 || o->budget_tokens >= 0 ||
           o->budget_requests >= 0;
}

/* ---- the job's ledger ------------------------------- */

static int ask_ledger(struct tr_run *run, struct tr_ledger_ask *a,
                      struct tr_err *err)
{
    int rc;

    a->round = run->round;
    a->commits = tr_store_commits(run->store);
    a->per_day = run->opts.budget_per == TR_PER_DAY;
    a->day = run->env->wall_s(run->env->ctx) / DAY_S;
    for (int i = 0; i < TR_PURSES; i++) {
        const struct tr_money *m = purse(run, i);

        a->spent[i] = m->spent;
        a->unknown[i] = m->unknown - run->unasked[i];
        a->open[i] = m->reserved + run->unasked[i];
        a->cap[i] = budget(run, i);
    }
    rc = run->env->ledger(run->env->ctx, a, err);
    if (rc == TR_OK && a->per_day)
        run->day_seen = a->period;
    return rc;
}

/* Begins a period: the job's as the ledger knows it, this run's, or today's. */
static int join(struct tr_run *run, struct tr_err *err)
{
    struct tr_ledger_ask a = {.op = TR_LEDGER_JOIN, .opened = !run->day};
    bool alone = !run->env->ledger || run->opts.budget_per == TR_PER_RUN;
    int64_t today = run->env->wall_s(run->env->ctx) / DAY_S;
    int rc = TR_OK;

    if (run->env->ledger) /* what a run uses for itself is used of the job's */
        rc = ask_ledger(run, &a, err);
    for (int i = 0; rc == TR_OK && i < TR_PURSES; i++) {
        struct tr_money *m = purse(run, i);

        m->budget = m->cap = budget(run, i);
        m->withheld = 0;
        if (m->cap < 0)
            continue;
        if (run->opts.budget_per == TR_PER_RUN)
            m->cap += m->spent + m->unknown;
        else if (alone && run->day) /* a new day, and no other store */
            m->cap += m->spent + m->unknown - run->unasked[i];
        else if (!alone)
            m->cap += a.earlier[i];
        if (m->cap < 0) /* more was used than the budget is now; -1: none */
            m->cap = 0;
        if (!alone && tr_money_left(m) > 0)
            m->withheld = tr_money_left(m);
    }
    if (today > run->day) /* a clock that is moved back begins no day */
        run->day = today;
    return rc;
}

int tr_run_purse_open(struct tr_run *run, const struct tr_job *job,
                      struct tr_err *err)
{
    run->round = job->round;
    run->money.spent = job->spent_nano;
    run->money.unknown = job->unknown_nano;
    run->tokens.spent = job->tokens_in + job->tokens_out;
    run->tokens.unknown = job->unknown_tokens;
    run->asks.spent = job->requests;
    run->money.reserved = run->unheard[TR_PURSE_NANO] = job->open_nano;
    run->tokens.reserved = run->unheard[TR_PURSE_TOKENS] = job->open_tokens;
    run->asks.reserved = run->unheard[TR_PURSE_REQUESTS] = job->open_requests;
    return join(run, err);
}

void tr_run_purse_adopt(struct tr_run *run, const struct tr_pack *p)
{
    int64_t bounds[TR_PURSES];

    bounds_of(p, bounds);
    for (int i = 0; i < TR_PURSES; i++)
        run->unheard[i] -= bounds[i] > 0 ? bounds[i] : 0;
}

/* Nothing gives it back in this run, and it is none of what the run uses. */
void tr_run_purse_unheard(struct tr_run *run)
{
    run->counts.unknown_attempts += run->unheard[TR_PURSE_REQUESTS];
    for (int i = 0; i < TR_PURSES; i++) {
        struct tr_money *m = purse(run, i);

        tr_money_unreserve(m, run->unheard[i]);
        m->unknown += run->unheard[i];
        if (m->cap >= 0 && run->opts.budget_per == TR_PER_RUN)
            m->cap += run->unheard[i];
        run->unasked[i] = run->unheard[i];
        run->unheard[i] = 0;
    }
}

int tr_run_purse_tick(struct tr_run *run, struct tr_err *err)
{
    if (run->stopping || run->opts.budget_per != TR_PER_DAY ||
        !tr_run_has_budget(&run->opts) ||
        run->env->wall_s(run->env->ctx) / DAY_S <= run->day)
        return TR_OK;
    run->money_waits = false;
    return join(run, err);
}

int tr_run_purse_close(struct tr_run *run, bool finished, struct tr_err *err)
{
    struct tr_ledger_ask a = {.op = TR_LEDGER_LEAVE, .finished = finished};

    if (!run->env->ledger)
        return TR_OK;
    return ask_ledger(run, &a, err);
}

/* More of what is withheld, for a pack that does not fit into *lacking. -1
 * there: granted; else the one of which the job has no more. */
static int claim(struct tr_run *run, const struct tr_pack *p, int *lacking,
                 struct tr_err *err)
{
    struct tr_ledger_ask a = {.op = TR_LEDGER_CLAIM};
    int64_t bounds[TR_PURSES];
    bool any = false;
    int rc;

    bounds_of(p, bounds);
    for (int i = 0; i < TR_PURSES; i++) {
        const struct tr_money *m = purse(run, i);
        int64_t left = tr_money_left(m);

        a.want[i] = m->cap >= 0 && bounds[i] > left ? bounds[i] - left : 0;
        if (a.want[i] > m->withheld) {
            *lacking = i; /* more than the whole budget has */
            return TR_OK;
        }
        any = any || a.want[i] > 0;
    }
    if (!any)
        return TR_OK;
    rc = ask_ledger(run, &a, err);
    if (rc == TR_OK)
        *lacking = a.granted ? -1 : a.lacking;
    for (int i = 0; i < TR_PURSES; i++) {
        struct tr_money *m = purse(run, i);

        run->elsewhere[i] = a.elsewhere[i];
        if (rc == TR_OK && a.granted)
            m->withheld = a.more[i] < m->withheld ? m->withheld - a.more[i] : 0;
    }
    return rc;
}

/* ---- reserve, give back, settle ------------------------------- */

/* Reserves in all purses and returns -1, or in none and returns which one has
 * too little. */
static int short_purse(struct tr_run *run, const struct tr_pack *p)
{
    int64_t bounds[TR_PURSES];
    int i;

    bounds_of(p, bounds);
    for (i = 0; i < TR_PURSES; i++)
        if (!tr_money_reserve(purse(run, i), bounds[i]))
            break;
    if (i == TR_PURSES)
        return -1;
    for (int k = 0; k < i; k++)
        tr_money_unreserve(purse(run, k), bounds[k]);
    return i;
}

/* Rows that are not settled, and what they will cost as things went so far. */
static void tell_rest(struct tr_run *run, const struct tr_pack *p,
                      char *out, size_t size)
{
    int64_t rows = run->counts.input_ended ? run->counts.rows_read
                   : run->env->rows_expected
                       ? run->env->rows_expected(run->env->ctx) : -1;
    int64_t done = run->counts.rows_settled - run->counts.rows_stored;
    int64_t spent = 0, most, mean = 0;
    const char *are = " is", *they = "it";
    char about[32], bound[32];

    /* Those that are answered and not yet committed are not left either. */
    rows -= run->counts.rows_settled + run->answered.n + run->saved.n;
    out[0] = '\0';
    if (rows <= 0)
        return;
    if (rows > 1) {
        are = "s are";
        they = "they";
    }
    TR_EACH_LANE(run, l)
        spent += l->counts.spent_nano;
    if (!spent) { /* nothing in this run: then what the job has known */
        spent = run->money.spent;
        done = run->counts.rows_stored;
    }
    most = tr_money_times(p->bound, p->n, rows);
    if (done > 0)
        mean = tr_money_times(spent, done, rows);
    tr_money_text(most, bound, sizeof bound);
    if (p->bound <= 0)
        snprintf(out, size, "; about %" PRId64 " row%s left", rows, are);
    else if (mean > 0 && mean < most) /* few rows tell little */
        snprintf(out, size, "; about %" PRId64 " row%s left, %s would "
                 "cost about %s (at most %s)", rows, are, they,
                 tr_money_text(mean, about, sizeof about), bound);
    else
        snprintf(out, size, "; about %" PRId64 " row%s left, %s would "
                 "cost at most %s", rows, are, they, bound);
}

/* When a budget of a day is there again. */
static const char *tell_day(const struct tr_run *run, char *out, size_t size)
{
    time_t next = (time_t)(run->day_seen + 1) * DAY_S;
    char date[40];
    struct tm tm;

    out[0] = '\0';
    if (run->opts.budget_per != TR_PER_DAY)
        return out;
    if (run->day_seen <= run->env->wall_s(run->env->ctx) / DAY_S)
        snprintf(out, size, ", or wait for the next day (UTC),");
    else if (gmtime_r(&next, &tm) &&
             strftime(date, sizeof date, "%Y-%m-%d", &tm))
        snprintf(out, size, ", or wait for %s (UTC; a clock was ahead once, "
                 "and until then there is one budget; --job NAME has another),",
                 date);
    return out;
}

static void stop_short(struct tr_run *run, const struct tr_pack *p, int i)
{
    static const char *const options[] = {"--budget", "--budget-tokens",
                                          "--budget-requests"};
    static const char *const units[] = {"", " tokens", " request"}; /* one */
    int64_t bounds[TR_PURSES], left;
    char text[900], need[40], has[40], held[40], other[120] = "", rest[200];
    char day[160];

    bounds_of(p, bounds);
    left = tr_money_left(purse(run, i)) + purse(run, i)->withheld;
    if (run->elsewhere[i] > 0)
        left = left > run->elsewhere[i] ? left - run->elsewhere[i] : 0;
    if (i == TR_PURSE_NANO) {
        tr_money_text(bounds[i], need, sizeof need);
        tr_money_text(left, has, sizeof has);
        tr_money_text(run->elsewhere[i], held, sizeof held);
    } else {
        snprintf(need, sizeof need, "%" PRId64, bounds[i]);
        snprintf(has, sizeof has, "%" PRId64, left);
        snprintf(held, sizeof held, "%" PRId64, run->elsewhere[i]);
    }
    if (run->elsewhere[i] > 0)
        snprintf(other, sizeof other, " (other tasks of this job have used or "
                 "hold %s)", held);
    tell_rest(run, p, rest, sizeof rest);
    snprintf(text, sizeof text,
             "the budget%s is reached: the next request could %s %s%s and %s "
             "is left%s%s. Raise %s%s and run the same command again; %s",
             run->opts.budget_per == TR_PER_DAY ? " of the day" : "",
             i == TR_PURSE_NANO ? "cost" : "use", need, units[i], has, other,
             rest, options[i], tell_day(run, day, sizeof day),
             tr_run_kept(run));
    tr_run_stop_with(run, tr_exit_code(TR_STOPPED), text);
}

int tr_run_reserve(struct tr_run *run, struct tr_pack *p, bool waits,
                   bool *reserved, struct tr_err *err)
{
    int i, rc = TR_OK;

    p->token_bound =
        tr_meter_bound(&p->lane->meter, p->content_bytes) + p->cap;
    i = short_purse(run, p);
    if (i >= 0) {
        rc = claim(run, p, &i, err);
        if (i < 0)
            i = short_purse(run, p);
    }
    *reserved = i < 0;
    if (*reserved || rc != TR_OK)
        return rc;
    if (!waits) {
        p->lane->health.probing = false;
        p->lane->health.probe_at = run->now + PROBE_AGAIN;
        tr_run_give_back(run, p);
        return TR_OK;
    }
    run->money_waits = true;
    if (!run->asks.reserved) /* else a reply gives something back */
        stop_short(run, p, i);
    if (p->probe) {
        p->lane->health.probing = false;
        tr_run_give_back(run, p);
        return TR_OK;
    }
    p->state = TR_PACK_ASIDE;
    p->due_at = 0;
    tr_queue_add_due(&p->lane->aside, p);
    return TR_OK;
}

void tr_run_unreserve(struct tr_run *run, const struct tr_pack *p)
{
    int64_t bounds[TR_PURSES];

    bounds_of(p, bounds);
    for (int i = 0; i < TR_PURSES; i++)
        tr_money_unreserve(purse(run, i), bounds[i]);
    run->money_waits = false;
}

int tr_run_unplan(struct tr_run *run, struct tr_queue *q, bool had_intent,
                  struct tr_err *err)
{
    struct tr_pack *p;

    tr_queue_reverse(q); /* the oldest comes to stand in front again */
    while ((p = tr_queue_take(q))) {
        if (!p->lane->lane->is_local) {
            tr_run_unreserve(run, p);
            if (had_intent) {
                int rc = tr_run_grow((void **)&run->outs, &run->out_cap,
                              run->out_count + 1, sizeof *run->outs, err);

                if (rc != TR_OK)
                    return rc;
                run->outs[run->out_count++] =
                    (struct tr_store_outcome){
                        .attempt = p->attempt, .unsent = true,
                        .in_batch = p->lane->lane->in_batches};
            }
        }
        if (p->probe)
            p->lane->health.probing = false;
        tr_run_give_back(run, p);
    }
    return TR_OK;
}

void tr_run_settle(struct tr_run *run, const struct tr_pack *p,
                   const struct tr_reply *reply, struct tr_store_outcome *out)
{
    const struct tr_usage *u = &reply->usage;
    struct tr_money other = {.cap = -1}; /* another job's or round's */
    struct tr_settled s = tr_money_settle(p->of_other ? &other : &run->money,
                                          p->bound, reply->billing,
                                          &p->lane->lane->facts, u);
    struct tr_settled t = tr_tokens_settle(p->of_other ? &other : &run->tokens,
                                           p->token_bound, reply->billing, u);

    out->in_batch = p->lane->lane->in_batches;
    out->of_other = p->of_other;
    out->unsent = reply->unsent || reply->outcome == TR_OUT_UNREACHED;
    if (!p->of_other) {
        tr_money_unreserve(&run->asks, 1);
        run->asks.spent += !out->unsent;
    }
    out->spent_nano = s.spent;
    out->unknown_nano = s.unknown;
    /* Else nobody counts them; another job may. */
    if (run->opts.budget_tokens >= 0 || p->of_other)
        out->unknown_tokens = t.unknown;
    out->is_unknown = reply->billing == TR_BILL_UNKNOWN || s.unknown > 0 ||
                      out->unknown_tokens > 0;
    if (t.spent > 0) { /* so that the store's sums are what was settled */
        out->tokens_in = u->in;
        out->tokens_out = u->out;
        out->tokens_cached = u->cached > 0 ? u->cached : 0;
    }
    run->money_waits = false;
}
