/* commit.c - commit, then show: one transaction, then requests and rows.
 *
 * Nothing leaves before its intent is durable and no row shows before its
 * verdict is: the order of the functions here is the promise.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include <stdio.h>

enum {
    WRITE_ROWS = 8192 /* rows written in one step */
};
/* Answers are gathered this long before they are saved: a twentieth of a short
 * latency, and at full speed dozens of answers share one save. */
#define SAVE_EVERY_NS TR_MS
#define WARM_NS (10 * TR_S) /* the first request is waited for so long */

/* What the answers so far become in the store. */
static int gather_puts(struct tr_run *run, size_t *n, struct tr_err *err)
{
    int rc = tr_run_grow((void **)&run->puts, &run->put_cap,
                         run->answered.n + run->passed_count +
                             run->absent_count,
                         sizeof *run->puts, err);

    *n = 0;
    if (rc != TR_OK)
        return rc;
    for (size_t i = 0; i < run->passed_count; i++)
        run->puts[(*n)++] = run->passed[i];
    for (struct tr_row *r = run->answered.head; r; r = r->next)
        if (r->verdict.why == TR_WHY_NONE ||
            tr_why_stored((enum tr_why)r->verdict.why))
            run->puts[(*n)++] = (struct tr_store_put){
                tr_chain_key(&run->lanes[r->lane], r), r->verdict};
    for (size_t i = 0; i < run->absent_count; i++)
        run->puts[(*n)++] = run->absent[i];
    return TR_OK;
}

/* The keys of what will go by batch: the rows of its answers may be gone when
 * they come. */
static int gather_keys(struct tr_run *run, struct tr_err *err)
{
    size_t n = 0;
    int rc;

    TR_EACH_LANE(run, l)
        for (const struct tr_pack *p = l->planned.head;
             p && l->lane->in_batches; p = p->next)
            n += tr_pack_items(p);
    rc = tr_run_grow((void **)&run->keys, &run->key_cap, n, sizeof *run->keys,
                     err);
    if (rc != TR_OK)
        return rc;
    n = 0;
    TR_EACH_LANE(run, l)
        for (const struct tr_pack *p = l->planned.head;
             p && l->lane->in_batches; p = p->next)
            for (uint32_t i = 0; i < tr_pack_items(p); i++)
                run->keys[n++] = i < p->n ? tr_chain_key(l, p->rows[i])
                                          : tr_guests_key(p, i - p->n);
    return TR_OK;
}

/* The intents of what was planned since the last commit. */
static int gather_intents(struct tr_run *run, size_t *n, struct tr_err *err)
{
    int rc = tr_run_grow((void **)&run->intents, &run->intent_cap,
                         tr_run_load(run).planned, sizeof *run->intents, err);
    size_t keys = 0;

    *n = 0;
    if (rc == TR_OK)
        rc = gather_keys(run, err);
    if (rc != TR_OK)
        return rc;
    TR_EACH_LANE(run, l)
        for (const struct tr_pack *p = l->planned.head; p; p = p->next) {
            bool batch = l->lane->in_batches;

            run->intents[(*n)++] = (struct tr_store_intent){
                p->attempt, p->seed, p->bound, tr_pack_items(p),
                run->opts.budget_tokens >= 0 ? p->token_bound : 0,
                batch ? run->keys + keys : NULL};
            keys += batch ? tr_pack_items(p) : 0;
        }
    return TR_OK;
}

/* A slot is free and what would fill it only waits for its intent. */
static bool starved(const struct tr_run *run)
{
    for (uint32_t i = 0; i < run->lane_count; i++) {
        const struct tr_run_lane *l = &run->lanes[i];

        if (l->planned.n && !l->ready.n &&
            l->pace.in_flight < (int)l->pace.window)
            return true;
    }
    return false;
}

/* The store takes nothing more, and *err says why. What is under way will be
 * paid for all the same: it is awaited and kept beside the store for the next
 * run, and then this one ends. Rows whose answers came too late do not show. */
static int rescue(struct tr_run *run, size_t n, struct tr_err *err)
{
    struct tr_err why;
    int rc = tr_store_rescue(run->store, run->puts, n, run->outs,
                             run->out_count, &why);

    if (rc != TR_OK)
        return err->code; /* the first trouble is the one to mend */
    if (!run->store_failed) {
        run->store_failed = true;
        tr_run_stop_with(run, tr_exit_code(err->code), err->text);
        run->exit_code = tr_exit_code(err->code); /* of a stopped run, too */
        snprintf(run->sentence, sizeof run->sentence, "%s; what was under way "
                 "is kept beside it for that run", err->text);
    }
    run->out_count = run->passed_count = run->absent_count = 0;
    while (run->answered.n)
        tr_rows_add(&run->saved, tr_rows_take(&run->answered));
    return TR_OK;
}

/* Answers go into the file, where a killed process cannot lose them, long
 * before the next commit syncs them: a request whose answer is not there yet
 * still counts as in flight (tr_run_send_ready()), so that a kill never costs
 * more than the requests allowed at a time. Nothing shows by this. */
static int save(struct tr_run *run, struct tr_err *err)
{
    size_t n;
    int rc = gather_puts(run, &n, err);

    if (rc != TR_OK)
        return rc;
    rc = tr_store_save(run->store, run->puts, n, run->outs, run->out_count,
                       err);
    if (rc != TR_OK)
        return rescue(run, n, err);
    run->saved_at = run->now;
    run->out_count = run->passed_count = 0;
    run->absent_count = 0;
    while (run->answered.n)
        tr_rows_add(&run->saved, tr_rows_take(&run->answered));
    return TR_OK;
}

int tr_run_commit(struct tr_run *run, bool now_please, bool *moved,
                  struct tr_err *err)
{
    uint32_t pending = run->answered.n +
                       (run->store_failed ? 0 : run->saved.n) +
                       (uint32_t)(run->out_count + run->passed_count +
                                  run->absent_count) +
                       tr_run_load(run).planned;
    int64_t began;
    size_t n, intents;
    int rc;

    if (!pending)
        return TR_OK;
    /* An answer to a row that may be read next must be found by then. */
    if (!now_please && !run->absent_count &&
        !tr_flush_due(&run->flush, starved(run), pending, run->now))
        return TR_OK;
    rc = gather_puts(run, &n, err);
    if (rc == TR_OK)
        rc = gather_intents(run, &intents, err);
    if (rc != TR_OK)
        return rc;
    began = tr_run_tick(run); /* what the step did before is not its cost */
    rc = tr_store_commit(run->store, run->puts, n, run->intents, intents,
                         run->outs, run->out_count, err);
    if (rc != TR_OK) {
        *moved = true;
        return rescue(run, n, err);
    }
    tr_flush_done(&run->flush, began, tr_run_tick(run));
    run->flush.oldest_at = 0;
    run->out_count = run->passed_count = 0;
    run->absent_count = 0;
    while (run->saved.n)
        tr_run_settle_all(run, tr_rows_take(&run->saved));
    while (run->answered.n)
        tr_run_settle_all(run, tr_rows_take(&run->answered));
    TR_EACH_LANE(run, l) {
        l->sends_last = l->sends_since_commit;
        l->sends_since_commit = 0;
        while (l->planned.n) {
            struct tr_pack *p = tr_queue_take(&l->planned);

            p->state = TR_PACK_READY;
            tr_queue_add(&l->ready, p);
        }
    }
    *moved = true;
    return TR_OK;
}

static int send_one(struct tr_run *run, struct tr_run_lane *l,
                    struct tr_err *err)
{
    struct tr_pack *p = tr_queue_take(&l->ready);
    struct tr_shot shot = {
        .tag = tr_pack_tag(p),
        .attempt = p->attempt,
        .tokens = p->tokens,
        .deadline_ms = run->opts.request_timeout_ms,
        .body = tr_buf_str(&p->body),
        .texts = p->texts,
        .text_count = p->n,
    };
    int rc;

    tr_chain_sends(run, p);
    p->state = TR_PACK_SENT;
    p->sent_at = run->now;
    tr_queue_add(&l->sent, p);
    l->counts.requests++;
    l->sends_since_commit++;
    if (!l->lane->in_batches)
        tr_pace_sent(&l->pace, p->tokens, run->now);
    rc = l->lane->vt->start(l->lane, &shot, err);
    if (rc != TR_OK) { /* it has not left */
        tr_queue_remove(&l->sent, p);
        p->state = TR_PACK_READY;
        tr_queue_add(&l->ready, p);
        l->counts.requests--;
    } else if (l->lane->in_batches) { /* the lane has it on disk */
        run->body_bytes -= p->body.cap;
        tr_buf_release(&p->body);
    }
    return rc;
}

/* The provider keeps the beginning of a prompt when it begins to answer: the
 * first request goes alone, so that the others find it. Not for ever. */
static bool waits_for_first(struct tr_run_lane *l, int64_t now, int64_t *wake)
{
    int64_t until;

    if (!l->warming || !l->sent.n || l->lane->in_batches)
        return false;
    until = l->sent.head->sent_at + WARM_NS;
    if (now >= until) {
        l->warming = false;
        return false;
    }
    if (until < *wake)
        *wake = until;
    return true;
}

/* Few are under way after an overload, or at a server that answers one at a
 * time. One that hangs until its deadline must not hold up the others. */
static void pass_by_stuck(struct tr_run_lane *l, int64_t now, int64_t *wake)
{
    int64_t patience = tr_pace_patience(&l->pace);
    struct tr_pack *p = l->sent.head;
    int n = 0;

    while (p && n < (int)l->pace.window && now - p->sent_at >= patience) {
        p = p->next;
        n++;
    }
    tr_pace_stuck(&l->pace, n);
    if (p && p->sent_at + patience > now && p->sent_at + patience < *wake)
        *wake = p->sent_at + patience;
}

static int send_of(struct tr_run *run, struct tr_run_lane *l, int64_t *wake,
                   bool *moved, struct tr_err *err)
{
    if (l->ready.n && !l->lane->in_batches)
        pass_by_stuck(l, run->now, wake);
    while (l->ready.n && !run->stopping) {
        int64_t now = run->now;
        int64_t wait = l->lane->in_batches
            ? 0
            : l->ready.head->probe ? tr_pace_probe_wait(&l->pace, now)
                                   : tr_pace_wait(&l->pace, now);
        int rc;

        if (wait == TR_PACE_FULL || waits_for_first(l, now, wake))
            break;
        if (wait > 0) {
            if (!l->wait_since)
                l->wait_since = now;
            tr_fair_kept_back(&l->fair, &l->pace, now);
            if (now + wait < *wake)
                *wake = now + wait;
            return TR_OK;
        }
        if (l->wait_since) {
            run->counts.wait_limits_ns += now - l->wait_since;
            l->wait_since = 0;
        }
        if (run->out_count && !l->lane->in_batches &&
            l->sent.n + run->out_count >= (size_t)l->pace.window) {
            if (now < run->saved_at + SAVE_EVERY_NS) {
                if (run->saved_at + SAVE_EVERY_NS < *wake)
                    *wake = run->saved_at + SAVE_EVERY_NS;
                return TR_OK;
            }
            rc = save(run, err);
            if (rc != TR_OK)
                return rc;
            tr_run_tick(run); /* the disk may be slow: what leaves now is paced
                                 by when it leaves */
            continue;
        }
        rc = send_one(run, l, err);
        if (rc != TR_OK)
            return rc;
        *moved = true;
    }
    l->wait_since = 0;
    return TR_OK;
}

int tr_run_send_ready(struct tr_run *run, int64_t *wake, bool *moved,
                      struct tr_err *err)
{
    int rc = TR_OK;

    TR_EACH_LANE(run, l)
        TRY(send_of(run, l, wake, moved, err));
out:
    return rc;
}

void tr_run_output_failed(struct tr_run *run, int code, const char *sentence)
{
    run->output_broken = true;
    tr_run_stop_with(run, tr_exit_code(code), sentence);
}

int tr_run_write_settled(struct tr_run *run, bool *moved, struct tr_err *err)
{
    for (int i = 0; i < WRITE_ROWS && !run->output_broken; i++) {
        struct tr_row *row;
        int rc = tr_window_next(&run->window, &row, err);

        if (rc == TR_OK && !row)
            return TR_OK;
        if (rc == TR_OK)
            rc = run->env->write(run->env->ctx, row->block, row, err);
        if (rc == 0)
            return TR_OK; /* no room now */
        if (rc < 0) { /* what is in flight is paid for and goes to the store */
            tr_run_output_failed(run, rc, err->text);
            return TR_OK;
        }
        tr_window_wrote(&run->window, row);
        run->counts.rows_written++;
        *moved = true;
    }
    return TR_OK;
}
