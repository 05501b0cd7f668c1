/* run.c - the engine: one step of five verbs.
 *
 *   fill     read rows, look them up, join equal ones        (fill.c)
 *   receive  take replies, check answers, settle money       (receive.c)
 *   plan     form packs, reserve money, decide retries       (packs.c)
 *   commit   one transaction: verdicts, outcomes, intents    (commit.c)
 *   act      start what is committed, write what is committed
 *
 * The order is the promise. Commit stands before act: nothing leaves before
 * its intent is durable, and no row shows before its verdict is. Whatever
 * instruction the process dies at, the store knows all that was answered and
 * which requests may have been paid without an answer.
 *
 * SPDX-License-Identifier: MIT */
#include "engine.h"

#include "base/bounds.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- one step --------------------------------------------------------- */

static void wake_at(int64_t *wake, int64_t at, int64_t began)
{
    if (at > began && at < *wake)
        *wake = at;
}

int tr_run_step(struct tr_run *run, int64_t *wait_ns, struct tr_err *err)
{
    int64_t wake = INT64_MAX, began = tr_run_tick(run), now;
    bool moved = false;
    int rc = TR_OK;

    *wait_ns = 0;
    if (run->ended)
        return TR_RUN_DONE;
    /* Bad input or a broken output ends the run, but not at once: answers in
     * flight are paid for. Only a broken store does. */
    rc = tr_run_fill(run, &moved, err);
    if (rc != TR_OK)
        tr_run_stop_with(run, tr_exit_code(rc), err->text);
    TRY(tr_run_receive(run, &moved, err));
    TRY(tr_run_plan(run, &moved, err));
    TRY(tr_run_commit(run, false, &moved, err));
    if (run->stopping) {
        TRY(tr_run_wind_down(run, &wake, &moved, err));
    } else {
        TRY(tr_run_send_ready(run, &wake, &moved, err));
        TRY(tr_run_write_settled(run, &moved, err));
        tr_run_mind_outage(run, &wake);
        if (run->input_ended && !run->fresh.n && !run->redo.n &&
            !run->aside.n && !run->planned.n && !run->ready.n &&
            !run->sent.n) {
            TRY(tr_run_commit(run, true, &moved, err));
            TRY(tr_run_write_settled(run, &moved, err));
            if (tr_window_empty(&run->window))
                TRY(tr_run_finish(run, err));
        }
    }
    if (run->ended)
        return TR_RUN_DONE;
    if (moved)
        return TR_RUN_MORE;
    /* What was due when the step began and still stands there waits for
     * something else: a slot, money, the pace. */
    now = tr_run_tick(run);
    if (run->aside.head)
        wake_at(&wake, run->aside.head->due_at, began);
    if (run->redo.n)
        wake_at(&wake, run->redo.head->since + TR_REDO_AGE, began);
    if (run->flush.oldest_at)
        wake_at(&wake, tr_flush_wake(&run->flush), began);
    *wait_ns = wake == INT64_MAX ? TR_S : wake > now ? wake - now : 0;
    return TR_RUN_MORE;
out:
    return rc;
}

/* ---- open, close, look ------------------------------------------------ */

static int restore(struct tr_run *run, struct tr_err *err)
{
    struct tr_buf line;
    char name[340];
    bool found;
    int rc = TR_OK;

    tr_buf_init(&line, 0);
    if (run->lane->vt->teach) {
        snprintf(name, sizeof name, "lane:%s@%s", run->lane->model,
                 run->lane->host);
        TRY(tr_store_get(run->store, name, &line, &found, err));
        if (found)
            run->lane->vt->teach(run->lane, tr_buf_str(&line));
    }
    if (run->form.forced < 0) {
        snprintf(name, sizeof name, "form:%s@%s", run->lane->model,
                 run->lane->host);
        tr_buf_clear(&line);
        TRY(tr_store_get(run->store, name, &line, &found, err));
        if (found && tr_str_eq_c(tr_buf_str(&line), "1"))
            run->form.form = TR_FORM_SCHEMA;
    }
    /* Label sets get the numbers they had when the verdicts were stored. */
    for (uint32_t i = 0; i < tr_store_set_count(run->store); i++) {
        uint32_t set;

        TRY(tr_task_set_parse(run->task, tr_store_set_at(run->store, i), &set,
                              err));
        TR_ASSERT(set == run->task->label_count + i);
    }
out:
    tr_buf_release(&line);
    return rc;
}

static int open_job(struct tr_run *run, struct tr_err *err)
{
    struct tr_job job = {0};
    int rc;

    run->money.cap = run->opts.budget_nano;
    if (run->opts.dry_run)
        return TR_OK;
    rc = tr_store_job(run->store, run->opts.job, run->run_at, run->opts.fresh,
                      &job, err);
    if (rc != TR_OK)
        return rc;
    run->run_at = job.run_at;
    run->money.spent = job.spent_nano;
    run->money.unknown = job.unknown_nano;
    if (run->opts.fresh)
        run->find.not_before = job.started_at;
    if (run->opts.retry_failed)
        run->find.failures_not_before = job.started_at;
    if (job.unknown_count && tr_priced(&run->lane->facts) &&
        !run->lane->is_local) {
        char text[300], money[32];

        snprintf(text, sizeof text,
                 "%" PRId64 " requests of this job have an unknown cost "
                 "(the process died, the connection was lost or no usage was "
                 "reported); at most %s may have been charged for them and "
                 "counts as spent "
                 "(trommel store forgive releases it)",
                 job.unknown_count,
                 tr_money_text(job.unknown_nano, money, sizeof money));
        tr_run_say(run, 2, text);
    }
    return TR_OK;
}

/* --truncate cuts at a length that depends on task and model alone, never on
 * what a run learns: the cut text is part of a verdict's key. Two bytes a
 * token is less than most languages have. */
static int choose_cut(struct tr_run *run, struct tr_err *err)
{
    int64_t context = run->lane->facts.context, room;
    char line[300];
    int rc;

    if (!run->opts.truncate || run->lane->is_local)
        return TR_OK;
    if (!context) {
        snprintf(line, sizeof line, "--truncate: the context of %s is not "
                 "known, so nothing is cut; give it (context: N) in "
                 "models.yaml of trommel's configuration folder",
                 run->lane->model);
        tr_run_say(run, 1, line);
        return TR_OK;
    }
    rc = tr_run_stable_parts(run, TR_FORM_SCHEMA, err);
    if (rc != TR_OK)
        return rc;
    room = 2 * (context - tr_prompt_cap(run->task, TR_FORM_SCHEMA, 1)) -
           (int64_t)(run->system.n + run->schema.n) - 400;
    run->text_max = room > 64 ? (size_t)room : 64;
    return TR_OK;
}

int tr_run_open(struct tr_run **out, const struct tr_env *env,
                const struct tr_run_opts *opts, struct tr_task *task,
                struct tr_store *store, struct tr_lane *lane,
                struct tr_err *err)
{
    struct tr_run *run = tr_alloc(sizeof *run);
    struct tr_pace_opts pace = {
        .concurrency = opts->concurrency,
        .concurrency_max = lane->concurrency_max,
        .rpm = opts->rpm > 0 ? opts->rpm : (double)lane->rpm,
        .tpm = opts->tpm > 0 ? opts->tpm : (double)lane->tpm,
    };
    char name[200];
    int rc = TR_OK;

    *out = NULL;
    if (!run)
        return tr_fail(err, TR_NOMEM, "out of memory");
    run->env = env;
    run->opts = *opts;
    run->task = task;
    run->store = store;
    run->lane = lane;
    run->run_at = env->wall_s(env->ctx);
    run->opened_at = run->last_served_at = env->now_ns(env->ctx);
    run->rng.state = env->random(env->ctx);
    run->find.min_prompt = opts->min_prompt;
    snprintf(name, sizeof name, "%s\n%s", lane->model, lane->effort);
    run->salt = tr_digest(NULL, tr_str_c(name));
    tr_window_init(&run->window, env,
                   opts->window_bytes ? opts->window_bytes : TR_WINDOW_BYTES,
                   opts->as_completed);
    tr_keymap_init(&run->open_keys);
    tr_buf_init(&run->system, 0);
    tr_buf_init(&run->schema, 0);
    tr_buf_init(&run->user, TR_BODIES_BYTES);
    tr_buf_init(&run->preview_body, 0);
    tr_form_init(&run->form, opts->answer_form);
    tr_meter_init(&run->meter);
    tr_pace_init(&run->pace, &pace, run->opened_at);
    tr_retry_budget_init(&run->retries);
    for (uint32_t i = 0; i < TR_PACKS_MAX; i++)
        run->free_slots[run->free_slot_count++] = TR_PACKS_MAX - 1 - i;
    run->label_counts = tr_array(task->label_count, sizeof(int64_t));
    if (!run->label_counts)
        TRY(tr_fail(err, TR_NOMEM, "out of memory"));
    if (opts->budget_nano >= 0 && !lane->is_local && !tr_priced(&lane->facts))
        TRY(tr_fail(err, TR_CONFIG,
                    "the price of %s is not known, so --budget cannot be "
                    "kept: add it to models.yaml in trommel's configuration "
                    "folder (input and output, USD per million tokens), or "
                    "leave --budget out", lane->model));
    TRY(choose_cut(run, err));
    TRY(restore(run, err));
    TRY(open_job(run, err));

    *out = run;
    run = NULL;
out:
    tr_run_close(run);
    return rc;
}

void tr_run_close(struct tr_run *run)
{
    if (!run)
        return;
    for (uint32_t i = 0; i < TR_PACKS_MAX; i++)
        if (run->packs[i])
            tr_pack_free(run, run->packs[i]);
    tr_window_release(&run->window);
    tr_keymap_release(&run->open_keys);
    tr_buf_release(&run->system);
    tr_buf_release(&run->schema);
    tr_buf_release(&run->user);
    while (run->spare_count)
        tr_buf_release(&run->spare[--run->spare_count]);
    tr_buf_release(&run->preview_body);
    tr_free(run->puts);
    tr_free(run->intents);
    tr_free(run->outs);
    tr_free(run->label_counts);
    tr_free(run);
}

int tr_run_exit(const struct tr_run *run, const char **sentence)
{
    *sentence = run->sentence;
    return run->exit_code;
}

void tr_run_counts(const struct tr_run *run, struct tr_counts *counts)
{
    *counts = run->counts;
    counts->in_flight = run->sent.n;
    counts->waiting = run->wait_since ? run->ready.n : 0;
}

void tr_run_money(const struct tr_run *run, struct tr_money *money)
{
    *money = run->money;
}

const int64_t *tr_run_label_counts(const struct tr_run *run)
{
    return run->label_counts;
}

void tr_run_preview(const struct tr_run *run, struct tr_preview *preview)
{
    *preview = run->preview;
    preview->first = tr_buf_str(&run->preview_body);
    preview->rows = run->counts.rows_read;
}
