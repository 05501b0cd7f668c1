/* check.c - the promises, judged by what the provider and the output saw.
 *
 * Nothing here asks the engine what it believes, except for money, where its
 * belief is what is to be judged.
 *
 * SPDX-License-Identifier: MIT */
#include "sim.h"

#include "plan/retry.h"

#include <inttypes.h>
#include <stdio.h>

enum { LOOKS_OFTEN = 16 }; /* of one world, before they become rarer */

/* An answer is durable after so long at most, however rare the commits are:
 * the age of tr_flush_due(), some looks at a sluggish clock, its commit and
 * the one before, each with up to four syncs. */
static int64_t durable_ns(const struct sim *w)
{
    return TR_S + 12 * w->o.disk_ms * TR_MS;
}

/* Nothing leaves for a provider that has said its quota is used up, but one
 * text at a time to find out whether that is over, and rarely. */
void sim_check_send(struct sim *w, struct sim_provider *p, int items)
{
    int64_t since = w->now - p->told_at;

    if (p->told_gone)
        sim_fail(w, "P4", "provider %d is asked after it said that key or "
                 "model are not good", p->place);
    if (p->doubted && (items != 1 || p->after_doubt ||
                       w->now - p->doubted_at < 7 * TR_S))
        sim_fail(w, "P4", "provider %d refused the key %.1f s ago and is asked "
                 "about %d texts, %d requests since in flight", p->place,
                 (double)(w->now - p->doubted_at) / TR_S, items,
                 p->after_doubt);
    if (w->now + TR_S < p->wait_until) /* its clock may be coarse */
        sim_fail(w, "P1", "provider %d is asked %.0f s before the time that it "
                 "named", p->place, (double)(p->wait_until - w->now) / TR_S);
    if (p->recovered)
        w->marks[M_RECOVERED]++;
    if (!p->told_exhausted)
        return;
    /* A day whose end was not stated is looked at again after an hour. */
    if (p->told_until ? w->now < p->told_until
        : !w->o.wait_for_quota && !(p->o->quota_is_day && since > 3600 * TR_S))
        sim_fail(w, "P4", "provider %d is asked %.1f s after it said that its "
                 "quota is used up", p->place, (double)since / TR_S);
    else if (!p->told_until && since < SIM_QUOTA_PROBE_S * TR_S * 3 / 4)
        sim_fail(w, "P4", "provider %d is probed after %.1f s only", p->place,
                 (double)since / TR_S);
    if (items != 1 || p->after_told)
        sim_fail(w, "P4", "provider %d is probed with %d texts, %d probes in "
                 "flight", p->place, items, p->after_told);
}

/* Is a text asked although it has its answer, only to compare? Then in company
 * and under the guard. What may have been doubted is asked as a row, unless it
 * cannot be one. */
bool sim_check_guest(const struct sim *w, const struct sim_text *t, int items)
{
    if (w->o.guard == TR_GUARD_OFF || items < 2)
        return false;
    if (t->answered_at && t->answered_run == w->run_number)
        return true;
    return t->maybe_run == w->run_number && (t->shown || t->in_flight);
}

/* I8: what comes again for certain is asked once more or not at all. Where a
 * row ended badly, a later equal one begins anew. What came of a batch that was
 * given up as lost is read beside its successor's, and is no try of the row. */
static void check_tries(struct sim *w, const struct sim_provider *p,
                        const struct sim_text *t)
{
    const struct sim_seen *seen = &t->at[p->place];
    int lost = w->o.batch ? 3 : 0; /* results that were read for another */

    if (seen->tries_run != w->run_number || t->rows > 1)
        return;
    if (t->maybe_run == w->run_number)
        return; /* it may have its answer, and be asked to compare */
    if (seen->tries >= TR_TRIES_ALONE + lost || seen->refused >= 2 + lost ||
        seen->rejected >= 1 + lost)
        sim_fail(w, "I8", "text %d is asked again at provider %d; alone it had "
                 "%d answers, %d of them refusals, and %d bad requests",
                 (int)(t - w->texts), p->place, seen->tries, seen->refused,
                 seen->rejected);
}

/* I4: a text is asked again only if nobody can know what came of it. I8: it
 * goes along the chain and never back; a refusal is not got round unasked. */
void sim_check_ask(struct sim *w, const struct sim_provider *p,
                   struct sim_text *t)
{
    int number = (int)(t - w->texts);

    /* Where a row ended badly, a later equal one begins anew. */
    if (t->asked_run == w->run_number && p->place < t->asked_at && t->rows == 1)
        sim_fail(w, "I8", "text %d goes back from provider %d to %d", number,
                 t->asked_at, p->place);
    t->asked_run = w->run_number;
    t->asked_at = p->place;
    check_tries(w, p, t);
    for (int i = 0; i < p->place; i++)
        if (t->at[i].blocked_run == w->run_number && t->rows == 1 &&
            !(w->o.fallback_on & 1 << TR_ON_BLOCKED))
            sim_fail(w, "K", "text %d, which provider %d refused, is asked at "
                     "%d", number, i, p->place);
    if (t->in_flight)
        sim_fail(w, "I4", "text %d is asked twice at the same time%s%s", number,
                 sim_batches_with(w, number)[0] ? ", the other time in " : "",
                 sim_batches_with(w, number));
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
    int64_t bill = w->account_bill[w->account][i];
    int64_t most = bill; /* that may be counted as spent */

    if (m->cap >= 0 && held > m->cap)
        sim_fail(w, "I5", "%s: spent %" PRId64 " + unknown %" PRId64
                 " + reserved %" PRId64 " above the cap of %" PRId64,
                 purse_names[i], m->spent, m->unknown, m->reserved, m->cap);
    /* Tokens of lost requests are kept for a budget in tokens only; a request
     * that a crash or a second stop took on its way counts as sent. */
    if (i == TR_PURSE_TOKENS && w->life_budget[i] < 0)
        return;
    if (i == TR_PURSE_REQUESTS)
        most += w->handed_in[w->account];
    if (i == TR_PURSE_REQUESTS && m->spent > most)
        most += sim_provider_forgotten(w);
    if (m->spent > most && !(i == TR_PURSE_REQUESTS && w->ended_badly))
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
    for (int i = 0; i < TR_PURSES && period != SIM_NO_PERIOD; i++)
        if (w->budget[i] >= 0 && w->period_bill[period][i] > w->budget[i])
            sim_fail(w, "I5", "the bill of %" PRId64 " %s is above the budget "
                     "of %" PRId64, w->period_bill[period][i], purse_names[i],
                     w->budget[i]);
}

static uint32_t set_mask(const struct sim *w, uint64_t set)
{
    const uint32_t *labels;
    uint32_t n = tr_task_set_labels(&w->task, set, &labels), mask = 0;

    for (uint32_t i = 0; i < n; i++)
        mask |= 1u << labels[i];
    return mask;
}

/* The provider that NAME_by names; -1: none of ours. */
static int said_by(const struct sim *w, const struct tr_verdict *v)
{
    const struct tr_origin *o = tr_store_origin_at(w->store, v->origin);

    for (int i = 0; o && i < w->o.lanes; i++)
        if (strcmp(o->by, sim_model(i)) == 0)
            return i;
    return -1;
}

static bool was_said(const struct sim_seen *seen, uint32_t mask)
{
    for (int i = 0; i < seen->said_count; i++)
        if (seen->said[i] == mask)
            return true;
    return false;
}

/* May a text end without a label for this reason, at this provider? */
static bool may_fail_at(const struct sim *w, const struct sim_text *t,
                        int place, enum tr_why why)
{
    const struct sim_seen *seen = &t->at[place];
    int64_t context = w->o.lane[place].context;

    switch (why) {
    case TR_WHY_BLOCKED:
        return seen->kind == K_BLOCKED;
    case TR_WHY_REJECTED:
        return seen->kind == K_REJECTED || seen->mended;
    case TR_WHY_TOO_LONG: /* by estimate: a token is at most three bytes */
        return context && (int64_t)t->text.n > context;
    case TR_WHY_NO_ANSWER:
    case TR_WHY_INVALID:
    case TR_WHY_TRUNCATED:
        return seen->alone_bad >= TR_TRIES_ALONE;
    default:
        return false;
    }
}

/* Who never answered anybody has no name yet. */
static bool may_fail(const struct sim *w, const struct sim_text *t,
                     const struct tr_verdict *v)
{
    int by = said_by(w, v);

    for (int i = 0; i < w->o.lanes; i++)
        if ((by < 0 || by == i) && may_fail_at(w, t, i, (enum tr_why)v->why))
            return true;
    return false;
}

/* I1, I2, I7 as each row is shown. */
void sim_check_row(struct sim *w, const struct tr_row *row, int64_t ordinal)
{
    const struct tr_verdict *v = &row->verdict;
    struct sim_text *t;
    int by;

    if (ordinal < 0 || ordinal >= w->rows_n) {
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
    ordinal += w->rows_from;
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
        if (!may_fail(w, t, v))
            sim_fail(w, "I1", "row %" PRId64 " ends as %s, by provider %d; it "
                     "was refused alone %d times by the first", ordinal,
                     tr_why_code((enum tr_why)v->why), said_by(w, v),
                     t->at[0].alone_bad);
        return;
    }
    by = said_by(w, v);
    if (by < 0 || !was_said(&t->at[by], set_mask(w, v->set)))
        sim_fail(w, "I7", "row %" PRId64 " has labels %x, gold %x, which "
                 "provider %d never said for it", ordinal, set_mask(w, v->set),
                 t->gold, by);
    /* Shown once is durable: no later run shows another label. */
    if (t->shown && t->shown != set_mask(w, v->set) + 1)
        sim_fail(w, "I2", "row %" PRId64 " was shown as %x before and as %x "
                 "now", ordinal, t->shown - 1, set_mask(w, v->set));
    t->shown = set_mask(w, v->set) + 1;
    sim_audit_row(w, t);
    if (t->hostile || t->moody)
        return;
    w->innocent++;
    w->wrong += set_mask(w, v->set) != t->gold;
    if (w->o.isolate && set_mask(w, v->set) != t->gold &&
        !w->o.rate[F_MISLABEL])
        sim_fail(w, "H1", "row %" PRId64 " was asked alone and has another's "
                 "label", ordinal);
}

/* A label stands in the store under the model that said it. */
void sim_check_stored(struct sim *w)
{
    const struct tr_store_find any = {0};
    struct tr_verdict v;
    struct tr_err err;
    bool faults = w->faults_on;
    int crash_in = w->disk_crash_in;

    w->faults_on = false; /* it is we who look, not the process */
    w->disk_crash_in = 0;
    for (int i = 0; i < w->text_count && !w->failure[0]; i++) {
        struct sim_text *t = &w->texts[i];
        bool known = false;

        for (int p = 0; t->shown && p < w->o.lanes; p++) {
            struct tr_key key = sim_text_key(w, p, i);
            bool found;

            if (tr_store_find(w->store, &any, &key, 1, &v, &found, &err) !=
                TR_OK)
                sim_fail(w, "store", "%s", err.text);
            if (!found || v.why != TR_WHY_NONE)
                continue;
            known = true;
            if (said_by(w, &v) != p)
                sim_fail(w, "I7", "text %d: what provider %d said is stored "
                         "under %d", i, said_by(w, &v), p);
        }
        if (t->shown && !known)
            sim_fail(w, "I13", "text %d was shown and is not in the store", i);
    }
    w->faults_on = faults;
    w->disk_crash_in = crash_in;
}

static bool is_kept(const struct sim *w, const struct sim_text *t)
{
    if (t - w->texts >= SIM_TEXTS_MAX)
        return true; /* only --hostile has so many, and no disk that fails */
    for (int p = 0; p < w->o.lanes; p++)
        if (w->stored.said[t - w->texts][p] == t->shown)
            return true;
    return false;
}

/* I13, by the second reader: what any run has shown is on the disk. */
void sim_check_disk(struct sim *w)
{
    if (!sim_read_store(w, false))
        return;
    for (int i = 0; i < w->text_count; i++)
        if (w->texts[i].shown && !is_kept(w, &w->texts[i]))
            sim_fail(w, "I13", "text %d was shown as %x and is not on the disk",
                     i, w->texts[i].shown - 1);
}

/* Reads what the disk would hold if the power went now, unless it was read
 * since the last sync: true when it is worth a look. A look reads the whole
 * store: in a long job they become rare, else one world in some hundred would
 * take as long as all the others. */
static bool audit(struct sim *w)
{
    unsigned of = w->o.audit_pct < 100
                      ? 100 * (1 + (unsigned)w->looks / LOOKS_OFTEN) : 100;

    if ((int)tr_rng_below(&w->disk_rng, of) >= w->o.audit_pct || w->dead ||
        w->failure[0])
        return false;
    if (w->stored.read && w->stored_syncs == w->disk.syncs)
        return true;
    w->looks++;
    return sim_read_store(w, true);
}

/* I2: what is shown now is there after a power cut now. */
void sim_audit_row(struct sim *w, const struct sim_text *t)
{
    if (!audit(w))
        return;
    w->marks[M_AUDIT]++;
    if (!is_kept(w, t))
        sim_fail(w, "I2", "text %d is shown as %x, and a power cut would take "
                 "it from the disk", (int)(t - w->texts), t->shown - 1);
}

/* I4, I5: what leaves now is known of after a power cut now. */
void sim_audit_send(struct sim *w, uint64_t attempt)
{
    if (!audit(w))
        return;
    w->marks[M_AUDIT_SENT]++;
    for (int i = 0; i < w->stored.attempt_count; i++)
        if (w->stored.attempts[i] == attempt)
            return;
    sim_fail(w, "I5", "request %" PRIu64 " leaves, and a power cut would take "
             "its intent from the disk", attempt);
}

/* What makes a batch is told which one it is, and of whom. */
void sim_audit_making(struct sim *w, const char *mark, uint64_t attempt)
{
    bool known = false;

    if (!audit(w))
        return;
    w->marks[M_B_AUDIT]++;
    for (int i = 0; i < w->stored.batch_count; i++)
        known = known || strcmp(w->stored.batches[i][0], mark) == 0;
    for (int i = 0; known && i < w->stored.in_batch_count; i++)
        if (w->stored.in_batch[i] == attempt)
            return;
    sim_fail(w, "I5", "request %" PRIu64 " leaves in a batch, and a power cut "
             "would take that from the disk", attempt);
}

/* Who asks about a batch could do so after a power cut, too. */
void sim_audit_poll(struct sim *w, const char *name)
{
    if (!audit(w))
        return;
    for (int i = 0; i < w->stored.batch_count; i++)
        if (strcmp(w->stored.batches[i][1], name) == 0)
            return;
    sim_fail(w, "I5", "batch %s is asked about, and a power cut would take its "
             "name from the disk", name);
}

static bool was_refused(const struct sim *w, const struct sim_text *t)
{
    for (int i = 0; i < w->o.lanes; i++)
        if (t->at[i].alone_bad || t->at[i].kind == K_REJECTED ||
            t->at[i].kind == K_BLOCKED)
            return true;
    return false;
}

/* I1 and I12 when a run says that it is done. */
void sim_check_end(struct sim *w, int exit_code)
{
    if (w->failure[0])
        return;
    for (int i = 0; i < w->rows_n; i++)
        if (!w->row_written[i]) {
            sim_fail(w, "I1", "row %d is missing from the output", i);
            return;
        }
    if (w->written != w->rows_n)
        sim_fail(w, "I1", "%" PRId64 " rows written of %d", w->written,
                 w->rows_n);
    for (int i = 0; i < w->text_count && w->rows_n == w->o.rows; i++)
        if (w->texts[i].at[0].kind == K_PLAIN && !w->texts[i].shown &&
            !was_refused(w, &w->texts[i]))
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

    if (w->faults_on || w->failure[0])
        return;
    for (int k = 0; k < w->o.lanes; k++) {
        const struct sim_provider *p = &w->providers[k];
        double n = 0, rpm = w->o.rpm;

        for (size_t i = 0; i < p->receipt_count; i++)
            n += p->receipts[i].run == w->run_number &&
                 p->receipts[i].arrived;
        if (p->o->hidden_rpm > 0 && (rpm <= 0 || p->o->hidden_rpm < rpm))
            rpm = p->o->hidden_rpm;
        allowed += n * (0.02 + 0.015 * p->o->latency_ms);
        /* What holds not even one request is found more slowly. */
        allowed += rpm <= 0 ? 0
                   : p->o->hidden_rpm * p->o->hidden_burst_s >= 60
                       ? 2 * n * 60 / rpm : 4 * n * 60 / rpm;
        allowed += 2 * sim_door_tokens_s(w, p);
        if (p->told_exhausted || p->recovered || /* it was waited for */
            (p->o->quota_is_day && p->o->quota_after))
            allowed += 2 * p->o->quota_for_s + 15 * SIM_QUOTA_PROBE_S;
        requests += n;
    }
    allowed += sim_batches_patience_s(w);
    allowed += (double)w->o.rows * w->o.slow_input_ms / 1000;
    allowed += w->o.full_output_pct ? 0.2 * w->o.rows * 10 : 0;
    allowed += requests * 12 * w->o.disk_ms / 1000 + 0.1 * w->o.disk_ms;
    if (w->settles) /* its work is done, but for what may never be stored */
        return;
    if (s > allowed)
        sim_fail(w, "I9", "%.0f requests without faults took %.0f s, %.0f "
                 "allowed", requests, s, allowed);
}
