/* check.c - the promises, judged by what the provider and the output saw.
 *
 * Nothing here asks the engine what it believes, except for money, where its
 * belief is what is to be judged.
 *
 * SPDX-License-Identifier: MIT */
#include "sim.h"

#include "plan/retry.h"

#include <inttypes.h>

/* An answer is durable after so long at most, however rare the commits are:
 * the age of tr_flush_due(), some looks at a sluggish clock, and the commit
 * before its own. */
static int64_t durable_ns(const struct sim *w)
{
    return TR_S + 3 * w->o.disk_ms * TR_MS;
}

/* I4: a text is asked again only if nobody can know what came of it. */
void sim_check_ask(struct sim *w, struct sim_text *t)
{
    int number = (int)(t - w->texts);

    if (t->in_flight)
        sim_fail(w, "I4", "text %d is asked twice at the same time", number);
    if (t->shown)
        sim_fail(w, "I4", "text %d is asked again after its label was shown",
                 number);
    if (!t->answered_at)
        return;
    if (t->answered_run == w->run_number)
        sim_fail(w, "I4", "text %d is asked again after its answer", number);
    else if (!w->died_at[t->answered_run])
        sim_fail(w, "I4", "text %d is asked again; run %d had its answer and "
                 "ended in good order", number, t->answered_run);
    else if (w->died_at[t->answered_run] - t->answered_at > durable_ns(w))
        sim_fail(w, "I4", "text %d is asked again; run %d had its answer for "
                 "%.3f s when it died", number, t->answered_run,
                 (double)(w->died_at[t->answered_run] - t->answered_at) / TR_S);
    else
        w->marks[M_ASKED_AGAIN]++;
}

static const char *const purse_names[] = {"nano-dollars", "tokens",
                                          "requests"};

/* I5, at every instant. */
static void check_purse(struct sim *w, const struct tr_money *m, int i)
{
    int64_t held = m->spent + m->unknown + m->reserved;
    int64_t bill = w->bill[i] - w->billed_before[i];

    if (m->cap >= 0 && held > m->cap)
        sim_fail(w, "I5", "%s: spent %" PRId64 " + unknown %" PRId64
                 " + reserved %" PRId64 " above the cap of %" PRId64,
                 purse_names[i], m->spent, m->unknown, m->reserved, m->cap);
    /* Tokens of lost requests are kept for a budget in tokens only; a request
     * that a crash took counts as sent. */
    if (i == TR_PURSE_TOKENS && w->budget[i] < 0)
        return;
    if (m->spent > bill && !(i == TR_PURSE_REQUESTS &&
                            (w->marks[M_CRASH] || w->marks[M_DISK_ERROR])))
        sim_fail(w, "I5", "%" PRId64 " %s counted as spent, %" PRId64
                 " billed", m->spent, purse_names[i], bill);
    if (bill > held)
        sim_fail(w, "I5", "%" PRId64 " %s billed, but only spent %" PRId64
                 " + unknown %" PRId64 " + reserved %" PRId64 " known of",
                 bill, purse_names[i], m->spent, m->unknown, m->reserved);
}

void sim_check_money(struct sim *w)
{
    struct tr_money m[TR_PURSES];

    if (w->dead)
        return;
    tr_run_purses(w->run, m);
    for (int i = w->o.priced ? 0 : 1; i < TR_PURSES; i++)
        check_purse(w, &m[i], i);
    for (int i = 0; w->held_count >= 0 && i < TR_PURSES &&
                    w->held_count < 4096; i++)
        w->held_seen[w->held_count][i] =
            m[i].spent + m[i].unknown + m[i].reserved;
    w->held_count += w->held_count >= 0 && w->held_count < 4096 &&
        (!w->held_count || memcmp(w->held_seen[w->held_count],
                                  w->held_seen[w->held_count - 1],
                                  sizeof w->held_seen[0]) != 0);
}

/* What left in one period of the budget is billed within it. */
void sim_check_bill(struct sim *w, int period)
{
    for (int i = 0; i < TR_PURSES; i++)
        if (w->budget[i] >= 0 && w->period_bill[period][i] > w->budget[i])
            sim_fail(w, "I5", "the bill of %" PRId64 " %s is above the budget "
                     "of %" PRId64, w->period_bill[period][i], purse_names[i],
                     w->budget[i]);
}

static uint32_t set_mask(const struct sim *w, uint32_t set)
{
    const uint32_t *labels;
    uint32_t n = tr_task_set_labels(&w->task, set, &labels), mask = 0;

    for (uint32_t i = 0; i < n; i++)
        mask |= 1u << labels[i];
    return mask;
}

static bool was_said(const struct sim_text *t, uint32_t mask)
{
    for (int i = 0; i < t->said_count; i++)
        if (t->said[i] == mask)
            return true;
    return false;
}

/* May a text end without a label for this reason? */
static bool may_fail(const struct sim *w, const struct sim_text *t,
                     enum tr_why why)
{
    switch (why) {
    case TR_WHY_BLOCKED:
        return t->kind == K_BLOCKED;
    case TR_WHY_REJECTED:
        return t->kind == K_REJECTED;
    case TR_WHY_TOO_LONG: /* by estimate: a token is at most three bytes */
        return w->o.context && (int64_t)t->text.n > w->o.context;
    case TR_WHY_NO_ANSWER:
        return t->alone_bad >= TR_TRIES_ALONE;
    case TR_WHY_INVALID:
    case TR_WHY_TRUNCATED:
        return t->alone_bad >= TR_TRIES_ALONE;
    default:
        return false;
    }
}

/* I1, I2, I7 as each row is shown. */
void sim_check_row(struct sim *w, const struct tr_row *row, int64_t ordinal)
{
    const struct tr_verdict *v = &row->verdict;
    struct sim_text *t;

    if (ordinal < 0 || ordinal >= w->o.rows) {
        sim_fail(w, "I1", "row %" PRId64 " does not exist", ordinal);
        return;
    }
    if (w->row_written[ordinal]++)
        sim_fail(w, "I1", "row %" PRId64 " is written twice", ordinal);
    if (!w->o.as_completed && ordinal != w->written)
        sim_fail(w, "I1", "row %" PRId64 " is written in place of %" PRId64,
                 ordinal, w->written);
    if (row->line != (uint64_t)ordinal + 1)
        sim_fail(w, "I1", "row %" PRId64 " carries line %" PRIu64, ordinal,
                 row->line);
    w->failed_rows += v->why != TR_WHY_NONE;
    w->marks[M_BLOCKED] += v->why == TR_WHY_BLOCKED;
    w->marks[M_REJECTED] += v->why == TR_WHY_REJECTED;
    w->marks[M_INVALID] += v->why == TR_WHY_INVALID;
    w->marks[M_TOO_LONG] += v->why == TR_WHY_TOO_LONG;
    w->marks[M_NO_ANSWER] += v->why == TR_WHY_NO_ANSWER;
    if (w->row_text[ordinal] < 0) {
        if (v->why != TR_WHY_EMPTY)
            sim_fail(w, "I1", "the empty row %" PRId64 " ends as %s", ordinal,
                     tr_why_code((enum tr_why)v->why));
        return;
    }
    t = &w->texts[w->row_text[ordinal]];
    if (v->why == TR_WHY_NOT_ASKED)
        return; /* judged at the end */
    if (v->why != TR_WHY_NONE) {
        if (!may_fail(w, t, (enum tr_why)v->why))
            sim_fail(w, "I1", "row %" PRId64 " ends as %s; it was refused "
                     "alone %d times", ordinal,
                     tr_why_code((enum tr_why)v->why), t->alone_bad);
        return;
    }
    if (!was_said(t, set_mask(w, v->set)))
        sim_fail(w, "I7", "row %" PRId64 " has labels %x, gold %x, which the "
                 "provider never said for it", ordinal, set_mask(w, v->set),
                 t->gold);
    /* Shown once is durable: no later run shows another label. */
    if (t->shown && t->shown != set_mask(w, v->set) + 1)
        sim_fail(w, "I2", "row %" PRId64 " was shown as %x before and as %x "
                 "now", ordinal, t->shown - 1, set_mask(w, v->set));
    t->shown = set_mask(w, v->set) + 1;
}

static int64_t most_in(const struct sim *w, int64_t window, int *runs)
{
    int64_t most = 0;
    size_t from = 0;

    *runs = 1;
    for (size_t i = 0; i < w->receipt_count; i++) {
        while (w->receipts[i].at - w->receipts[from].at >= window)
            from++;
        if ((int64_t)(i - from) + 1 > most) {
            most = (int64_t)(i - from) + 1;
            *runs = w->receipts[i].run - w->receipts[from].run + 1;
        }
    }
    return most;
}

/* I6 at the provider's door: in any window the user's ceiling, and a burst of
 * a tenth of a second or two requests for each process that began in it. What
 * the wire delays by up to 20 ms moves closer together. */
void sim_check_rates(struct sim *w)
{
    static const int64_t windows_s[] = {1, 10, 60};

    if (w->o.rpm <= 0)
        return;
    for (size_t i = 0; i < sizeof windows_s / sizeof *windows_s; i++) {
        double rate = w->o.rpm / 60;
        int runs;
        int64_t most = most_in(w, windows_s[i] * TR_S, &runs);
        double allowed = rate * ((double)windows_s[i] + 0.02) + 1 +
                         runs * (rate * 0.1 > 1 ? rate * 0.1 + 1 : 2);

        if ((double)most > allowed)
            sim_fail(w, "I6", "%" PRId64 " requests in %" PRId64
                     " s, %.1f allowed at %.0f a minute", most, windows_s[i],
                     allowed, w->o.rpm);
    }
}

/* I1 and I12 when a run says that it is done. */
void sim_check_end(struct sim *w, int exit_code)
{
    if (w->failure[0])
        return;
    for (int i = 0; i < w->o.rows; i++)
        if (!w->row_written[i]) {
            sim_fail(w, "I1", "row %d is missing from the output", i);
            return;
        }
    if (w->written != w->o.rows)
        sim_fail(w, "I1", "%" PRId64 " rows written of %d", w->written,
                 w->o.rows);
    for (int i = 0; i < w->text_count; i++)
        if (w->texts[i].kind == K_PLAIN && !w->texts[i].shown &&
            !w->texts[i].alone_bad)
            sim_fail(w, "I1", "text %d has no label and no reason", i);
    if (exit_code != (w->failed_rows > 0))
        sim_fail(w, "I12", "exit code %d with %" PRId64 " failed rows",
                 exit_code, w->failed_rows);
}

/* I9: once faults have ended, the work takes what it must and not much more:
 * even one request at a time, each as slow as any, paced by the lower limit. */
void sim_check_time(struct sim *w, int64_t born)
{
    double requests = 0, s = (double)(w->now - born) / TR_S, allowed = 180;
    double rpm = w->o.rpm;

    if (w->faults_on || w->o.tpm > 0 || w->failure[0])
        return;
    for (size_t i = 0; i < w->receipt_count; i++)
        requests += w->receipts[i].run == w->run_number;
    if (w->o.hidden_rpm > 0 && (rpm <= 0 || w->o.hidden_rpm < rpm))
        rpm = w->o.hidden_rpm;
    allowed += requests * (0.02 + 0.015 * w->o.latency_ms);
    allowed += rpm > 0 ? 2 * requests * 60 / rpm : 0;
    allowed += (double)w->o.rows * w->o.slow_input_ms / 1000;
    allowed += w->o.full_output_pct ? 0.2 * w->o.rows * 10 : 0;
    allowed += requests * 3 * w->o.disk_ms / 1000;
    if (s > allowed)
        sim_fail(w, "I9", "%.0f requests without faults took %.0f s, %.0f "
                 "allowed", requests, s, allowed);
}
