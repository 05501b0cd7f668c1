/* receive.c - receive: take replies, check answers, settle money, learn.
 *
 * What an outcome means is decided by one table (plan/retry.c); this file
 * carries it out on rows and packs.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    BAD_REQUESTS = 5, /* rows alone, nothing taken: it may be no row's fault */
    LEARNS_MAX = 8    /* times that a pack goes again at once */
};

/* The pack goes again later, as it is; its rows to whoever takes them, when the
 * lane is closed. */
static void put_aside(struct tr_run *run, struct tr_pack *p,
                      enum tr_outcome after, int64_t wait)
{
    run->counts.retries++;
    run->counts.retried[after]++;
    if (p->lane->health.state != TR_LANE_OPEN) {
        tr_run_give_back(run, p);
        return;
    }
    p->probe = false; /* it has opened the lane */
    p->state = TR_PACK_ASIDE;
    p->due_at = run->now + wait;
    tr_queue_add_due(&p->lane->aside, p);
}

static void again(struct tr_run *run, struct tr_pack *p,
                  const struct tr_reply *reply)
{
    uint32_t tries = p->tries++;
    int64_t wait;

    /* A pack that was refused for the pace waits for its turn, not longer the
     * more often it was others' turn: only refusals in a row are a reason. */
    if (tr_rule(reply->outcome)->slows && p->lane->refused_in_row < tries)
        tries = p->lane->refused_in_row;
    wait = tr_backoff_ns(tries, reply->retry_after_ms, tr_rng_unit(&run->rng));

    if (p->lane->lane->in_batches && reply->retry_after_ms == 0 &&
        p->tries <= TR_TRIES_ALONE) {
        /* It had no luck in its batch: the next one is wait enough, for some
         * times. */
        put_aside(run, p, reply->outcome, 0);
        return;
    }
    /* An empty retry budget delays, it never fails a row. Refusals for pace
     * cost nothing of it: the pace slows down by itself. */
    if (!tr_rule(reply->outcome)->slows &&
        !tr_retry_budget_take(&p->lane->retries))
        wait += tr_backoff_ns(p->tries + 2, -1, tr_rng_unit(&run->rng));
    put_aside(run, p, reply->outcome, wait);
}

/* The pack is at fault, or one row of it: halves find out which. A row alone
 * is charged with one of its tries and in the end fails with why: at once when
 * it is refused a second time, which is certain to come again. */
static void halve(struct tr_run *run, struct tr_pack *p, enum tr_why why,
                  uint32_t tries_max)
{
    if (p->n > 1) {
        uint16_t company = (uint16_t)((p->n + 1) / 2);

        for (uint32_t i = 0; i < p->n; i++) {
            p->rows[i]->watched = true;
            tr_run_wait_again(run, p->lane, p->rows[i], company);
        }
    } else {
        struct tr_row *row = p->rows[0];
        bool twice = row->refused && why == TR_WHY_BLOCKED;

        row->refused = row->refused || why == TR_WHY_BLOCKED;
        if (++row->alone_tries >= tries_max || twice)
            tr_run_fail_row(run, p->lane, row, why);
        else
            tr_run_wait_again(run, p->lane, row, 1);
    }
    run->counts.items_reasked += p->n;
    tr_pack_free(run, p);
}

/* How often a row may end alone in such an outcome before it fails. What is
 * certain to come again is not asked five times. */
static uint32_t tries_for(enum tr_outcome outcome)
{
    switch (outcome) {
    case TR_OUT_TOO_BIG:
    case TR_OUT_BAD_REQUEST:
        return 1;
    default:
        return TR_TRIES_ALONE;
    }
}

static void score_rows(struct tr_run *run, struct tr_pack *p,
                       const struct tr_reply *reply, uint16_t origin)
{
    for (uint32_t i = 0; i < p->n; i++) {
        const struct tr_score *s = &reply->scores[i];

        run->counts.cut_texts += s->cut;
        tr_run_answer(run, p->rows[p->order[i]], (struct tr_verdict){
            .set = s->label,
            .origin = origin,
            .confidence = s->confidence,
            .pack_size = 1,
        });
    }
    tr_pack_free(run, p);
}

/* How sure the lane is of an item, where it says so. */
uint16_t tr_run_confidence(const struct tr_reply *reply, uint32_t id)
{
    for (size_t i = 0; i < reply->sure_count; i++) {
        if (reply->sure[i].id == id)
            return reply->sure[i].confidence;
    }
    return TR_NO_CONFIDENCE;
}

int tr_run_read_answer(struct tr_run *run, const struct tr_pack *p,
                       const struct tr_reply *reply, struct tr_answer *a,
                       struct tr_item_answer *got, struct tr_err *err)
{
    uint32_t sets = run->task->set_count;
    int rc = tr_answer_read(a, got, run->task, p->items, tr_pack_items(p),
                            reply->text,
                            reply->outcome == TR_OUT_CUT_SHORT, err);

    if (rc != TR_OK)
        return rc;
    for (uint32_t i = sets; i < run->task->set_count; i++) {
        struct tr_buf names;

        tr_buf_init(&names, 0);
        tr_task_set_text(run->task, run->task->sets[i].set, &names);
        rc = tr_store_set_add(run->store, tr_buf_str(&names), err);
        tr_buf_release(&names);
        if (rc != TR_OK)
            return rc;
    }
    run->counts.forgiven += a->forgiven;
    tr_meter_answered(&p->lane->meter, a->is_void ? 0 : a->ok);
    return TR_OK;
}

/* Reads an answer: what is right settles, what is not is asked again in
 * smaller company, never the whole pack. */
static int check(struct tr_run *run, struct tr_pack *p,
                 const struct tr_reply *reply, uint16_t origin,
                 struct tr_err *err)
{
    struct tr_item_answer got[TR_PACK_MAX];
    struct tr_run_lane *l = p->lane;
    struct tr_answer a;
    bool cut = reply->outcome == TR_OUT_CUT_SHORT;
    uint32_t bad;
    int rc = tr_run_read_answer(run, p, reply, &a, got, err);

    if (rc != TR_OK)
        return rc;
    bad = a.is_void ? tr_pack_items(p) : a.missing + a.invalid;
    if (!cut && !l->lane->decides) {
        int before = l->form.form;

        tr_form_learn(&l->form, tr_pack_items(p), bad);
        if (l->form.form != before)
            tr_run_say(run, 2, "more than 2 % of the answers were invalid: asking "
                "for strict JSON from now on");
    }
    if (a.is_void) {
        run->counts.voided++;
        halve(run, p, TR_WHY_INVALID, TR_TRIES_ALONE);
        return TR_OK;
    }
    if (cut && a.ok == 0 &&
        tr_meter_more_reasoning(&l->meter, &reply->usage, p->reasoning,
                                l->lane->facts.context,
                                l->lane->facts.max_output)) {
        /* the cap was too small, not the pack too big */
        put_aside(run, p, reply->outcome, 0);
        return TR_OK;
    }
    if (!tr_guests_vouch(run, p, got))
        return TR_OK;
    for (uint32_t i = 0; i < tr_pack_items(p); i++) {
        struct tr_row *row = tr_pack_row(p, i);

        if (!row)
            continue;
        if (got[i].result == TR_ITEM_OK) {
            tr_guests_answered(l, row, got[i].set);
            tr_run_answer(run, row, (struct tr_verdict){
                .set = got[i].set,
                .origin = origin,
                .confidence = tr_run_confidence(reply, p->items[i].id),
                .pack_size = (uint16_t)tr_pack_items(p),
                .position = (uint16_t)i,
            });
            continue;
        }
        run->counts.items_reasked++;
        row->watched = true;
        if (p->n == 1 && ++row->alone_tries >= TR_TRIES_ALONE)
            tr_run_fail_row(run, l, row,
                            cut ? TR_WHY_TRUNCATED : TR_WHY_INVALID);
        else
            tr_run_wait_again(run, l, row, (uint16_t)((p->n + 3) / 4));
    }
    tr_pack_free(run, p);
    return TR_OK;
}

/* Tries charged to the lane: the pack waits and goes again. One that fails
 * three times while the lane serves others is suspect itself. */
static void lane_trouble(struct tr_run *run, struct tr_pack *p,
                         const struct tr_reply *reply, enum tr_why why)
{
    if (!p->lane_tries++)
        p->lane_tries_since = p->lane->successes;
    if (p->lane_tries >= TR_LANE_TRIES_TOGETHER &&
        p->lane->successes > p->lane_tries_since) {
        if (p->n > 1) {
            halve(run, p, why, TR_TRIES_ALONE);
            return;
        }
        p->lane_tries = 0;
        if (++p->rows[0]->alone_tries >= TR_TRIES_ALONE) {
            tr_run_fail_row(run, p->lane, p->rows[0], why);
            tr_pack_free(run, p);
            return;
        }
    }
    again(run, p, reply);
}

/* It never served anybody, in this run or before. */
static bool never_served(const struct tr_run_lane *l)
{
    return !l->taken && !l->counts.stored;
}

/* Of all that is left, nothing but rows that were refused alone. */
static bool only_bad_ones(const struct tr_run *run)
{
    struct tr_run_load load = tr_run_load(run);

    if (!run->input_ended || load.waiting || load.planned || load.ready ||
        load.sent)
        return false;
    for (uint32_t i = 0; i < run->lane_count; i++)
        for (const struct tr_pack *p = run->lanes[i].aside.head; p; p = p->next)
            if (p->n > 1 || !p->rows[0]->alone_tries)
                return false;
    return true;
}

/* It is not the rows: the lane is given up. */
static int refused_for_good(struct tr_run *run, struct tr_pack *p,
                            const struct tr_reply *reply, struct tr_err *err)
{
    struct tr_reply fatal = *reply;
    struct tr_run_lane *l = p->lane;

    fatal.outcome = TR_OUT_FATAL;
    tr_run_give_back(run, p);
    return tr_chain_reply(run, l, &fatal, run->now, false, err);
}

/* A bad request for a row alone before anybody was served: the row may be
 * poison, or every request is bad. BAD_REQUESTS rows, or the last ones, tell. */
static int blame_nobody(struct tr_run *run, struct tr_pack *p,
                        const struct tr_reply *reply, struct tr_err *err)
{
    struct tr_run_lane *l = p->lane;

    if (p->rows[0]->alone_tries++ == 0)
        l->bad_requests++;
    if (l->bad_requests < BAD_REQUESTS &&
        !(p->rows[0]->alone_tries >= BAD_REQUESTS && only_bad_ones(run))) {
        again(run, p, reply);
        return TR_OK;
    }
    return refused_for_good(run, p, reply, err);
}

/* The same after others were served: there may really be so many bad rows in
 * a row, or requests are refused for what they do not say. Only a person can
 * tell, so one is told, once. */
static void warn_of_refusals(struct tr_run *run, struct tr_run_lane *l,
                             const struct tr_reply *reply)
{
    char line[900];

    if (++l->bad_requests != BAD_REQUESTS)
        return;
    snprintf(line, sizeof line, "%s: %d texts, each alone, were refused in a "
             "row (HTTP %d from %s: %s). If the texts are not to blame: stop, "
             "mend it, and run the same command with --retry-failed",
             l->lane->model, BAD_REQUESTS, reply->status, l->lane->host,
             reply->message);
    tr_run_say(run, 1, line);
}

/* What the same tokens would have cost without the provider's cache, less what
 * they did: negative when keeping cost more than it brought. */
static int64_t cache_saved(const struct tr_run_lane *l,
                           const struct tr_usage *u)
{
    struct tr_usage plain = *u;
    int64_t with = tr_cost(&l->lane->facts, u);

    plain.cached = plain.cache_write = 0;
    return with < 0 || u->in <= 0 ? 0
                                  : tr_cost(&l->lane->facts, &plain) - with;
}

/* Money, tokens and pace of one attempt; its outcome joins the next commit. */
int tr_run_book(struct tr_run *run, struct tr_pack *p,
                const struct tr_reply *reply, int64_t now, struct tr_err *err)
{
    const struct tr_usage *u = &reply->usage;
    struct tr_run_lane *l = p->lane;
    struct tr_store_outcome out = {.attempt = p->attempt};
    struct tr_pace_news news = {
        .outcome = reply->outcome,
        .sent_at = p->sent_at,
        .tokens_estimate = p->tokens,
        .tokens_true = u->in >= 0 && u->out >= 0 ? u->in + u->out : -1,
        .in_true = u->in > 0 && u->cached > 0 ? u->in - u->cached : u->in,
        .out_true = u->out,
        .status = reply->status,
        .slow_down = reply->slow_down,
        .limits = &reply->limits,
        .retry_after_ms = reply->retry_after_ms,
        .unit = tr_rng_unit(&run->rng),
    };
    int rc;

    tr_run_ended(run, l->lane, p, reply);
    if (!l->lane->in_batches)
        tr_pace_reply(&l->pace, &news, now);
    if (l->lane->is_local)
        return TR_OK;
    tr_run_settle(run, p, reply, &out);
    l->counts.spent_nano += out.spent_nano;
    l->counts.unknown_nano += out.unknown_nano;
    if (reply->billing == TR_BILL_USAGE) {
        tr_meter_learn(&l->meter, p->content_bytes, tr_pack_items(p), u);
        tr_guests_book(p, u);
        tr_meter_took(&l->meter, reply->latency_ms);
        l->counts.tokens_in += u->in > 0 ? u->in : 0;
        l->counts.tokens_out += u->out > 0 ? u->out : 0;
        l->counts.tokens_cached += u->cached > 0 ? u->cached : 0;
        l->counts.tokens_cache_write += u->cache_write > 0 ? u->cache_write : 0;
        l->counts.cache_saved_nano += cache_saved(l, u);
    }
    run->counts.unknown_attempts += out.is_unknown && !p->of_other;
    rc = tr_run_grow((void **)&run->outs, &run->out_cap, run->out_count + 1,
              sizeof *run->outs, err);
    if (rc != TR_OK)
        return rc;
    run->outs[run->out_count++] = out;
    if (!run->flush.oldest_at)
        run->flush.oldest_at = now;
    return TR_OK;
}

static void log_reply(const struct tr_run *run, const struct tr_pack *p,
                      const struct tr_reply *r)
{
    char line[640], used[80] = ""; /* where the provider says so */

    if (!run->opts.verbose)
        return;
    if (r->usage.in >= 0 && r->usage.out >= 0)
        snprintf(used, sizeof used,
                 ", %" PRId64 " tokens in, %" PRId64 " out", r->usage.in,
                 r->usage.out);
    snprintf(line, sizeof line,
             "attempt %" PRIu64 " %s: %u texts, HTTP %d %s, %" PRId64 " ms"
             "%s%s%s%s%s",
             p->attempt, p->lane->lane->model, (unsigned)p->n, r->status,
             tr_outcome_word(r->outcome), r->latency_ms, used,
             r->request_id[0] ? ", request " : "", r->request_id,
             r->message[0] ? ": " : "", r->message);
    tr_run_say(run, 3, line);
}

/* Nobody tells about batches that are under way: whatever else could be asked,
 * their answers are paid for, so the run ends. */
static int batches_refused(struct tr_run *run, struct tr_run_lane *l,
                           const struct tr_reply *reply, struct tr_err *err)
{
    char text[900], status[TR_STATUS_TEXT];
    int rc;

    if (reply->outcome == TR_OUT_UNREACHED) { /* for want of our own disk */
        tr_run_stop_with(run, tr_exit_code(TR_IO), reply->message);
        return TR_OK;
    }
    rc = tr_chain_reply(run, l, reply, run->now, false, err);
    snprintf(text, sizeof text, "%s: nothing can be learned about its batches, "
             "which stay at the provider (%s%s: %s). Mend that, then run the "
             "same command again", l->lane->model,
             tr_run_status_text(reply, status), l->lane->host, reply->message);
    tr_run_stop_with(run, tr_exit_code(reply->outcome == TR_OUT_LOST
                                           ? TR_UNAVAILABLE : TR_NOPERM), text);
    return rc;
}

/* ---- of a batch that an earlier run has made -------------------------- */

/* For a row that is not here: the store keeps it by its key. */
static int keep(struct tr_run *run, const struct tr_key *key,
                struct tr_verdict verdict, struct tr_err *err)
{
    int rc = tr_run_grow((void **)&run->absent, &run->absent_cap,
                         run->absent_count + 1, sizeof *run->absent, err);

    if (rc == TR_OK)
        run->absent[run->absent_count++] = (struct tr_store_put){*key, verdict};
    return rc;
}

/* The canaries of its pack, which only their keys remember. */
static bool guests_right(const struct tr_run *run, const struct tr_pack *p,
                         const struct tr_item_answer *got)
{
    for (uint32_t i = 0; i < p->n; i++) {
        bool canary;
        uint64_t set;

        if (!tr_guests_is_key(&p->seats[p->order[i]].key, &canary, &set) ||
            !canary)
            continue;
        if (got[i].result != TR_ITEM_OK ||
            tr_task_set_stored(run->task, &set, NULL) != TR_OK ||
            got[i].set != set)
            return false;
    }
    return true;
}

/* A refusal, which nobody gets round: the row is asked once more, and alone. One
 * that is yet to be read would be asked by whoever is open then, so where that
 * may be a lane to which refusals do not lead it is refused for good. */
static int refused_alone(struct tr_run *run, struct tr_pack *p,
                         struct tr_err *err)
{
    struct tr_run_lane *l = p->lane;
    bool canary;
    uint64_t set;

    if (p->rows[0]) {
        p->rows[0]->refused = true;
        p->rows[0]->company = 1; /* others would be refused with it */
        return TR_OK;
    }
    if (l->place + 1 == run->lane_count ||
        tr_chain_goes_past(run, l, TR_WHY_BLOCKED) ||
        tr_guests_is_key(&p->seats[0].key, &canary, &set))
        return TR_OK;
    return keep(run, &p->seats[0].key,
                tr_chain_failure(run, l, TR_WHY_BLOCKED), err);
}

/* Whatever does not settle is asked anew, as if it never had been. */
static int on_adopted(struct tr_run *run, struct tr_pack *p,
                      const struct tr_reply *reply, struct tr_err *err)
{
    struct tr_item_answer got[TR_PACK_MAX];
    struct tr_answer a = {.is_void = true};
    uint16_t origin = TR_NO_ORIGIN;
    int rc = TR_OK;

    if (tr_rule(reply->outcome)->action == TR_DO_CHECK) {
        TRY(tr_run_origin(run, p->lane, reply->served, &origin, err));
        TRY(tr_run_read_answer(run, p, reply, &a, got, err));
        a.is_void = a.is_void || !guests_right(run, p, got);
    }
    for (uint32_t i = 0; i < p->n; i++) {
        struct tr_row *row = p->rows[p->order[i]];
        bool canary;
        uint64_t set;
        struct tr_verdict verdict = {
            .origin = origin,
            .confidence = tr_run_confidence(reply, p->items[i].id),
            .pack_size = (uint16_t)p->n,
            .position = (uint16_t)i,
        };

        if (a.is_void || got[i].result != TR_ITEM_OK ||
            tr_guests_is_key(&p->seats[p->order[i]].key, &canary, &set))
            continue;
        verdict.set = got[i].set;
        if (row) {
            row->lane = (uint8_t)p->lane->place; /* it may have gone on */
            tr_run_answer(run, row, verdict);
        } else {
            TRY(keep(run, &p->seats[p->order[i]].key, verdict, err));
        }
        p->rows[p->order[i]] = NULL;
    }
    if (p->n == 1 && tr_rule(reply->outcome)->why == TR_WHY_BLOCKED)
        TRY(refused_alone(run, p, err));
    for (uint32_t i = 0; i < p->n; i++)
        run->counts.items_reasked += p->rows[i] != NULL;
    tr_run_give_back(run, p);
out:
    return rc;
}

/* ---- any reply -------------------------------------------------------- */

/* The lane's form follows what the server takes. */
static void note_form(struct tr_run *run, struct tr_run_lane *l)
{
    if (!l->lane->no_schema || l->form.schema_refused)
        return;
    tr_form_refused(&l->form);
    if (l->form.form == TR_FORM_LINES)
        tr_run_say(run, 2, "the server takes no JSON schema: asking for "
                   "lines");
}

/* A lane that closes mends nothing for one in trouble. Whose trouble was noted
 * last, and closes, leaves that to another who has it. False: nobody has. */
static bool pass_trouble_on(struct tr_run *run, const struct tr_run_lane *closed)
{
    if (!run->trouble_since)
        return false;
    if (run->trouble_lane != closed)
        return true;
    TR_EACH_LANE(run, l) {
        if (l == closed || !l->health.failing_since ||
            (l->health.state != TR_LANE_OPEN &&
             l->health.state != TR_LANE_DOWN) || !tr_chain_has_work(run, l))
            continue;
        run->trouble_lane = l;
        if (run->trouble_since < l->health.failing_since)
            run->trouble_since = l->health.failing_since;
        return true;
    }
    return false;
}

/* Since when nobody is served, and what was said last. */
static void note_trouble(struct tr_run *run, const struct tr_pack *p,
                         const struct tr_reply *reply)
{
    const struct tr_rule *rule = tr_rule(reply->outcome);
    struct tr_run_lane *l = p->lane;
    int64_t since = l->lane->in_batches ? run->now : p->sent_at;

    if (rule->action == TR_DO_STOP && pass_trouble_on(run, l))
        return;
    if (rule->action != TR_DO_AGAIN && rule->action != TR_DO_NOW &&
        !(reply->outcome == TR_OUT_BAD_REQUEST && never_served(l) &&
          !l->lane->in_batches)) { /* there, their number tells: on_refused() */
        run->last_served_at = run->now;
        run->trouble_since = 0;
        run->trouble_again = false;
        return;
    }
    run->trouble_again |= run->trouble_since && p->sent_at > run->trouble_since;
    /* While one lane is left alone as it wished, another's trouble begins. */
    if (!run->trouble_since ||
        (run->trouble_since > run->now && run->trouble_lane != l))
        run->trouble_since = since > run->last_served_at ? since
                                                         : run->last_served_at;
    if (l->lane->in_batches &&
        run->now - p->sent_at > run->opts.max_wait_ms * TR_MS)
        run->batch_failed_at = run->now;
    run->trouble_lane = l;
    run->trouble_ours = reply->ours;
    snprintf(run->last_trouble, sizeof run->last_trouble, "%s%s%s",
             tr_outcome_word(reply->outcome), reply->message[0] ? ": " : "",
             reply->message);
}

static int on_answer(struct tr_run *run, struct tr_pack *p,
                     const struct tr_reply *reply, struct tr_err *err)
{
    uint16_t origin;
    int rc = tr_run_origin(run, p->lane, reply->served, &origin, err);

    if (rc != TR_OK)
        return rc;
    if (!p->lane->lane->is_local)
        return check(run, p, reply, origin, err);
    score_rows(run, p, reply, origin);
    return TR_OK;
}

/* A limit of this key's, or what was asked for the answer, may be what a text
 * does not fit: another day it does. */
static enum tr_why why_refused(const struct tr_reply *reply)
{
    return reply->outcome == TR_OUT_TOO_BIG && reply->status == 429
               ? TR_WHY_OVER_LIMIT : tr_rule(reply->outcome)->why;
}

/* Something in the pack is not taken, or the lane takes nothing. */
static int on_refused(struct tr_run *run, struct tr_pack *p,
                      const struct tr_reply *reply, struct tr_err *err)
{
    struct tr_run_lane *l = p->lane;
    bool unproved = reply->outcome == TR_OUT_BAD_REQUEST && never_served(l);

    /* Halving down to single rows would take a day each time in batches. */
    if (unproved && l->lane->in_batches && ++l->bad_requests >= BAD_REQUESTS)
        return refused_for_good(run, p, reply, err);
    if (unproved && p->n == 1 && !p->rows[0]->went_on) {
        if (!l->lane->in_batches)
            return blame_nobody(run, p, reply, err);
        again(run, p, reply); /* until one is served, or so many are not */
        return TR_OK;
    }
    if (reply->outcome == TR_OUT_BAD_REQUEST && !unproved && p->n == 1)
        warn_of_refusals(run, l, reply);
    halve(run, p, why_refused(reply), tries_for(reply->outcome));
    return TR_OK;
}

/* The lane has learned how it wants to be asked. What was built before that
 * would be refused as well. */
static int on_learned(struct tr_run *run, struct tr_pack *p,
                      const struct tr_reply *reply, struct tr_err *err)
{
    struct tr_run_lane *l = p->lane;
    int rc = tr_run_unplan(run, &l->planned, false, err);

    if (rc == TR_OK)
        rc = tr_run_unplan(run, &l->ready, true, err);
    if (rc != TR_OK)
        return rc;
    p->tries++;
    if (p->learns++ >= LEARNS_MAX) { /* it is learned: a text is at fault */
        struct tr_reply refusal = *reply;

        refusal.outcome = TR_OUT_BAD_REQUEST;
        return on_refused(run, p, &refusal, err);
    }
    put_aside(run, p, reply->outcome, 0);
    return TR_OK;
}

/* What the table of outcomes says. */
static int carry_out(struct tr_run *run, struct tr_pack *p,
                     const struct tr_reply *reply, struct tr_err *err)
{
    const struct tr_rule *rule = tr_rule(reply->outcome);

    switch (rule->action) {
    case TR_DO_CHECK:
        return on_answer(run, p, reply, err);
    case TR_DO_NOW:
        return on_learned(run, p, reply, err);
    case TR_DO_HALVE:
        return on_refused(run, p, reply, err);
    case TR_DO_STOP:
        tr_run_give_back(run, p);
        return TR_OK;
    case TR_DO_AGAIN:
        if (rule->charge == TR_CHARGE_LANE)
            lane_trouble(run, p, reply, rule->why);
        else
            again(run, p, reply);
        return TR_OK;
    }
    return TR_OK;
}

static int on_reply(struct tr_run *run, struct tr_run_lane *from,
                    const struct tr_reply *reply, struct tr_err *err)
{
    uint32_t slot = (uint32_t)(reply->tag % TR_SLOTS_MAX);
    struct tr_pack *p = slot < run->slot_count ? run->packs[slot] : NULL;
    enum tr_action action = tr_rule(reply->outcome)->action;
    bool taken = action == TR_DO_CHECK ||
                 (reply->outcome == TR_OUT_REFUSED && reply->status == 200);
    struct tr_run_lane *l;
    int rc = TR_OK;

    if (!reply->tag) /* the lane itself is refused */
        return batches_refused(run, from, reply, err);
    /* A reply for a pack that is gone has nobody to be told to. */
    if (!p || p->state != TR_PACK_SENT || reply->tag != tr_pack_tag(p))
        return TR_OK;
    l = p->lane;
    tr_queue_remove(&l->sent, p);
    l->warming = false; /* what came of it, the others may go */
    note_form(run, l);
    log_reply(run, p, reply);
    TRY(tr_run_book(run, p, reply, run->now, err));
    note_trouble(run, p, reply);
    l->refused_in_row += tr_rule(reply->outcome)->slows;
    if (action == TR_DO_CHECK) {
        l->successes++;
        l->refused_in_row = 0;
        tr_retry_budget_earn(&l->retries);
    }
    l->taken = l->taken || taken;
    if (taken && l->bad_requests < BAD_REQUESTS)
        l->bad_requests = 0;
    run->counts.throttled += reply->outcome == TR_OUT_THROTTLED;
    TRY(tr_chain_reply(run, l, reply, p->sent_at, p->probe, err));
    rc = p->seats && action != TR_DO_STOP ? on_adopted(run, p, reply, err)
                                          : carry_out(run, p, reply, err);
out:
    return rc;
}

int tr_run_receive(struct tr_run *run, bool *moved, struct tr_err *err)
{
    int rc = TR_OK;

    TR_EACH_LANE(run, l)
        while (rc == TR_OK) {
            struct tr_reply reply = {0}; /* a lane fills in what it knows */

            if (!l->lane->vt->next(l->lane, &reply))
                break;
            *moved = true;
            rc = on_reply(run, l, &reply, err);
        }
    return rc == TR_OK ? tr_chain_mind(run, err) : rc;
}
