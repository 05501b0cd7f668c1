/* commit.c - commit, then show: one transaction, then requests and rows.
 *
 * Nothing leaves before its intent is durable and no row shows before its
 * verdict is: the order of the functions here is the promise.
 *
 * SPDX-License-Identifier: MIT */
#include "engine.h"

enum {
    WRITE_ROWS = 8192 /* rows written in one step */
};
/* Answers are gathered this long before they are saved: a twentieth of a short
 * latency, and at full speed dozens of answers share one save. */
#define SAVE_EVERY_NS TR_MS

/* What the answers so far become in the store. */
static int gather_puts(struct tr_run *run, size_t *n, struct tr_err *err)
{
    int rc = tr_run_grow((void **)&run->puts, &run->put_cap, run->answered.n,
                         sizeof *run->puts, err);

    *n = 0;
    if (rc != TR_OK)
        return rc;
    for (struct tr_row *r = run->answered.head; r; r = r->next)
        if (r->verdict.why == TR_WHY_NONE ||
            tr_why_stored((enum tr_why)r->verdict.why))
            run->puts[(*n)++] = (struct tr_store_put){r->key, r->verdict};
    return TR_OK;
}

/* Answers go into the file, where a killed process cannot lose them, long
 * before the next commit syncs them: a request whose answer is not there yet
 * still counts as in flight (send_ready), so that a kill never costs more than
 * the requests allowed at a time. Nothing shows by this. */
static int save(struct tr_run *run, struct tr_err *err)
{
    size_t n;
    int rc = gather_puts(run, &n, err);

    if (rc == TR_OK)
        rc = tr_store_save(run->store, run->puts, n, run->outs, run->out_count,
                           err);
    if (rc != TR_OK)
        return rc;
    run->saved_at = run->now;
    run->out_count = 0;
    while (run->answered.n)
        tr_rows_add(&run->saved, tr_rows_take(&run->answered));
    return TR_OK;
}

int tr_run_commit(struct tr_run *run, bool now_please, bool *moved,
                  struct tr_err *err)
{
    uint32_t pending = run->answered.n + run->saved.n +
                       (uint32_t)run->out_count + run->planned.n;
    int64_t began = run->now;
    bool starved = run->planned.n && !run->ready.n &&
                   run->pace.in_flight < (int)run->pace.window;
    size_t n;
    int rc;

    if (!pending)
        return TR_OK;
    if (!now_please && !tr_flush_due(&run->flush, starved, pending, began))
        return TR_OK;
    rc = gather_puts(run, &n, err);
    if (rc == TR_OK)
        rc = tr_store_commit(run->store, run->puts, n, run->intents,
                             run->planned.n, run->outs, run->out_count, err);
    if (rc != TR_OK)
        return rc;
    tr_flush_done(&run->flush, began, tr_run_tick(run));
    run->flush.oldest_at = 0;
    run->out_count = 0;
    run->sends_last = run->sends_since_commit;
    run->sends_since_commit = 0;
    while (run->saved.n)
        tr_run_settle_all(run, tr_rows_take(&run->saved));
    while (run->answered.n)
        tr_run_settle_all(run, tr_rows_take(&run->answered));
    while (run->planned.n) {
        struct tr_pack *p = tr_queue_take(&run->planned);

        p->state = TR_PACK_READY;
        tr_queue_add(&run->ready, p);
    }
    *moved = true;
    return TR_OK;
}

int tr_run_send_ready(struct tr_run *run, int64_t *wake, bool *moved,
                      struct tr_err *err)
{
    while (run->ready.n && !run->stopping) {
        struct tr_pack *p = run->ready.head;
        int64_t now = run->now;
        int64_t wait = tr_pace_wait(&run->pace, p->tokens, now);
        struct tr_shot shot;
        int rc;

        if (wait == TR_PACE_FULL)
            break;
        if (wait > 0) {
            if (!run->wait_since)
                run->wait_since = now;
            if (now + wait < *wake)
                *wake = now + wait;
            return TR_OK;
        }
        if (run->wait_since) {
            run->counts.wait_limits_ns += now - run->wait_since;
            run->wait_since = 0;
        }
        if (run->out_count &&
            run->sent.n + run->out_count >= (size_t)run->pace.window) {
            if (now < run->saved_at + SAVE_EVERY_NS) {
                if (run->saved_at + SAVE_EVERY_NS < *wake)
                    *wake = run->saved_at + SAVE_EVERY_NS;
                return TR_OK;
            }
            rc = save(run, err);
            if (rc != TR_OK)
                return rc;
        }
        tr_queue_take(&run->ready);
        shot = (struct tr_shot){
            .tag = p->attempt * TR_PACKS_MAX + p->slot,
            .deadline_ms = run->opts.request_timeout_ms,
            .body = tr_buf_str(&p->body),
            .texts = p->texts,
            .text_count = p->n,
        };
        p->state = TR_PACK_SENT;
        p->sent_at = now;
        tr_queue_add(&run->sent, p);
        tr_pace_sent(&run->pace, p->tokens, now);
        rc = run->lane->vt->start(run->lane, &shot, err);
        if (rc != TR_OK)
            return rc;
        run->counts.requests++;
        run->sends_since_commit++;
        *moved = true;
    }
    run->wait_since = 0;
    return TR_OK;
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
            run->output_broken = true;
            tr_run_stop_with(run, tr_exit_code(rc), err->text);
            return TR_OK;
        }
        tr_window_wrote(&run->window, row);
        run->counts.rows_written++;
        *moved = true;
    }
    return TR_OK;
}
