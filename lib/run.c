/* run.c - the engine: one step of five verbs.
 *
 *   fill     read rows, look them up, join equal ones        (fill.c)
 *   receive  take replies, check answers, settle money,
 *            what is asked again                             (receive.c)
 *   plan     form packs, reserve money                       (packs.c)
 *   commit   one transaction: verdicts, outcomes, intents    (commit.c)
 *   act      start what is committed, write what is committed
 *
 * The order is the promise. Commit stands before act: nothing leaves before
 * its intent is durable, and no row shows before its verdict is. Whatever
 * instruction the process dies at, the store knows all that was answered and
 * which requests may have been paid without an answer.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include "base/bounds.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- one step --------------------------------------------------------- */

static void wake_at(int64_t *wake, int64_t at, int64_t began)
{
    if (at > began && at < *wake)
        *wake = at;
}

/* Nothing waits and nothing is under way but what no row of this run is in. */
static bool idle(const struct tr_run *run)
{
    struct tr_run_load load = tr_run_load(run);

    return !load.waiting && !load.aside && !load.planned && !load.ready &&
           load.sent == run->unseated;
}

static void doing(const struct tr_run *run, const char *what)
{
    if (run->env->doing)
        run->env->doing(run->env->ctx, what);
}

/* What fails ends the run, but not at once: answers in flight are paid for. */
static void end_by(struct tr_run *run, int rc, const struct tr_err *err,
                   bool *moved)
{
    if (rc == TR_OK)
        return;
    if (run->stopping)
        tr_run_say(run, 1, err->text);
    else
        tr_run_stop_with(run, tr_exit_code(rc), err->text);
    *moved = true;
}

int tr_run_step(struct tr_run *run, int64_t *wait_ns, struct tr_err *err)
{
    int64_t wake = INT64_MAX, began = tr_run_tick(run), now;
    bool moved = false;
    int rc = TR_OK;

    *wait_ns = 0;
    if (run->ended)
        return TR_RUN_DONE;
    doing(run, "reading rows");
    end_by(run, tr_run_fill(run, &moved, err), err, &moved);
    doing(run, "seeing to the budget");
    end_by(run, tr_run_purse_tick(run, err), err, &moved);
    doing(run, "taking answers");
    end_by(run, tr_run_receive(run, &moved, err), err, &moved);
    doing(run, "planning requests");
    end_by(run, tr_run_plan(run, &moved, err), err, &moved);
    /* Without the store nothing is kept. It fails here when its rescue does,
     * too (commit.c), or memory is out. */
    doing(run, "writing to the store");
    TRY(tr_run_commit(run, false, &moved, err));
    if (run->stopping) {
        doing(run, "stopping");
        TRY(tr_run_wind_down(run, &wake, &moved, err));
    } else {
        doing(run, "meeting other runs");
        tr_run_meet_peers(run, &wake);
        doing(run, "sending");
        end_by(run, tr_run_send_ready(run, &wake, &moved, err), err, &moved);
        doing(run, "writing rows");
        end_by(run, tr_run_write_settled(run, &moved, err), err, &moved);
        tr_run_mind_outage(run, &wake);
        if (run->input_ended && !run->stopping && idle(run)) {
            doing(run, "finishing");
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
    TR_EACH_LANE(run, l) {
        if (l->aside.head)
            wake_at(&wake, l->aside.head->due_at, began);
        if (l->redo.n)
            wake_at(&wake, l->redo.head->since + TR_REDO_AGE, began);
        if (l->health.state != TR_LANE_OPEN && !l->health.probing &&
            l->health.probe_at != TR_NEVER &&
            (l->aside.n || tr_chain_waiting(run, l)))
            wake_at(&wake, l->health.probe_at, began);
        if (!l->fitted)
            wake_at(&wake, l->fit_at, began);
    }
    if (run->flush.oldest_at)
        wake_at(&wake, tr_flush_wake(&run->flush), began);
    *wait_ns = wake == INT64_MAX ? TR_S : wake > now ? wake - now : 0;
    return TR_RUN_MORE;
out:
    return rc;
}

/* ---- open, close, look ------------------------------------------------ */

static int restore_set(void *ctx, struct tr_str names, struct tr_err *err)
{
    return tr_task_set_restore(ctx, names, err);
}

/* A lane that costs money, and how much is known. */
static bool priced(const struct tr_run *run)
{
    for (uint32_t i = 0; i < run->lane_count; i++)
        if (!run->lanes[i].lane->is_local &&
            tr_priced(&run->lanes[i].lane->facts))
            return true;
    return false;
}

static int open_job(struct tr_run *run, struct tr_err *err)
{
    struct tr_job job = {0};
    unsigned again = (run->opts.fresh ? TR_AGAIN_ALL : 0) |
                     (run->opts.retry_failed ? TR_AGAIN_FAILED : 0);
    int rc = run->opts.dry_run /* then the store is only read */
        ? tr_store_job_ahead(run->store, run->opts.job, run->run_at, again,
                             &job, err)
        : tr_store_job(run->store, run->opts.job, run->run_at, again, &job,
                       err);

    if (rc != TR_OK)
        return rc;
    run->run_at = job.run_at;
    run->find.not_before = job.fresh_at;
    run->find.failures_not_before = job.retry_at;
    if (run->opts.dry_run)
        return TR_OK;
    rc = tr_run_purse_open(run, &job, err);
    if (rc != TR_OK)
        return rc;
    run->counts.unknown_attempts += job.unknown_count;
    /* A failure that looks older is only asked again once too often. */
    if (run->opts.fresh)
        run->origins_since = job.fresh_at;
    else if (run->opts.retry_failed && !tr_store_origins_scarce(run->store))
        run->origins_since = job.retry_at;
    if (job.unknown_count && priced(run)) {
        char text[300], money[32];

        snprintf(text, sizeof text,
                 "%" PRId64 " request%s of this job %s an unknown cost "
                 "(the process died, the connection was lost or no usage was "
                 "reported); at most %s may have been charged for %s and "
                 "counts as spent "
                 "(trommel store forgive releases it)",
                 job.unknown_count, job.unknown_count == 1 ? "" : "s",
                 job.unknown_count == 1 ? "has" : "have",
                 tr_money_text(job.unknown_nano, money, sizeof money),
                 job.unknown_count == 1 ? "it" : "them");
        tr_run_say(run, 2, text);
    }
    return TR_OK;
}

int tr_run_open(struct tr_run **out, const struct tr_env *env,
                const struct tr_run_opts *opts, struct tr_task *task,
                struct tr_store *store, struct tr_lane *const *lanes,
                uint32_t lane_count, struct tr_err *err)
{
    struct tr_run *run;
    uint32_t packs = TR_PACKS_ONLINE;
    int rc = TR_OK;

    TR_ASSERT(lane_count >= 1 && lane_count <= TR_LANES_MAX);

    *out = NULL;
    if (opts->min_prompt > TR_PROMPT_VERSION)
        return tr_fail(err, TR_USAGE, "--min-prompt %" PRId32 ": this trommel "
                       "asks with version %d of its prompt, so no answer would "
                       "count and each run would pay for all", opts->min_prompt,
                       TR_PROMPT_VERSION);
    run = tr_alloc(sizeof *run);
    if (!run)
        return tr_fail(err, TR_NOMEM, "out of memory");
    run->env = env;
    run->money.cap = run->tokens.cap = run->asks.cap = -1;
    run->money.budget = run->tokens.budget = run->asks.budget = -1;
    run->opts = *opts;
    run->task = task;
    run->store = store;
    run->run_at = env->wall_s(env->ctx);
    run->opened_at = run->last_served_at = env->now_ns(env->ctx);
    run->rng.state = env->random(env->ctx);
    run->find.min_prompt = opts->min_prompt;
    tr_window_init(&run->window, env,
                   opts->window_bytes ? opts->window_bytes : TR_WINDOW_BYTES,
                   opts->as_completed);
    tr_keymap_init(&run->open_keys);
    tr_buf_init(&run->user, TR_BODIES_BYTES);
    tr_buf_init(&run->preview_body, 0);
    tr_keymap_init(&run->seats);
    for (uint32_t i = 0; i < lane_count; i++)
        if (lanes[i]->in_batches)
            packs = TR_PACKS_MAX;
    TRY(tr_run_grow((void **)&run->packs, &run->pack_cap, packs,
                    sizeof(struct tr_pack *), err));
    memset(run->packs, 0, packs * sizeof(struct tr_pack *));
    run->own_slots = run->slot_count = packs;
    for (uint32_t i = 0; i < packs; i++)
        run->free_slots[run->free_slot_count++] = packs - 1 - i;
    run->label_counts = tr_array(task->label_count, sizeof(int64_t));
    if (!run->label_counts)
        TRY(tr_fail(err, TR_NOMEM, "out of memory"));
    for (uint32_t i = 0; i < lane_count; i++) {
        TRY(tr_run_lane_open(run, lanes[i], err));
        tr_guests_open(run, &run->lanes[i]);
    }
    TRY(tr_run_recall(run, err));
    TRY(tr_store_sets(store, restore_set, task, err));
    TRY(open_job(run, err));
    TRY(tr_run_number_lanes(run, err));
    TRY(tr_run_adopt(run, err));

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
    for (uint32_t i = 0; i < run->slot_count; i++)
        if (run->packs[i])
            tr_pack_free(run, run->packs[i]);
    tr_free(run->packs);
    tr_window_release(&run->window);
    tr_keymap_release(&run->open_keys);
    tr_keymap_release(&run->seats);
    TR_EACH_LANE(run, l)
        tr_run_lane_close(l);
    tr_buf_release(&run->user);
    while (run->spare_count)
        tr_buf_release(&run->spare[--run->spare_count]);
    tr_buf_release(&run->preview_body);
    tr_distinct_release(&run->seen);
    tr_free(run->puts);
    tr_free(run->passed);
    tr_free(run->intents);
    tr_free(run->keys);
    tr_free(run->absent);
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
    for (uint32_t i = 0; i < run->lane_count; i++) {
        const struct tr_run_lane *l = &run->lanes[i];

        if (!l->lane->is_local) /* its packs are no requests */
            counts->requests += l->counts.requests;
        counts->tokens_in += l->counts.tokens_in;
        counts->tokens_out += l->counts.tokens_out;
        counts->tokens_cached += l->counts.tokens_cached;
        counts->tokens_cache_write += l->counts.tokens_cache_write;
        counts->cache_saved_nano += l->counts.cache_saved_nano;
        tr_guard_sum(&counts->guard, &l->guard.counts);
        if (l->lane->in_batches)
            counts->in_batches += l->sent.n;
        else if (!l->lane->is_local)
            counts->in_flight += l->sent.n;
        counts->waiting += l->wait_since ? l->ready.n : 0;
    }
}

void tr_run_lane_counts(const struct tr_run *run, uint32_t lane,
                        struct tr_lane_counts *counts)
{
    *counts = run->lanes[lane].counts;
    counts->state = run->lanes[lane].health.state;
    snprintf(counts->served, sizeof counts->served, "%s",
             run->lanes[lane].origin_served);
}

void tr_run_money(const struct tr_run *run, struct tr_money *money)
{
    *money = run->money;
}

int64_t tr_run_in_flight_nano(const struct tr_run *run)
{
    int64_t sum = 0;

    for (uint32_t i = 0; i < run->lane_count; i++) {
        const struct tr_run_lane *l = &run->lanes[i];

        for (const struct tr_pack *p = l->sent.head; p; p = p->next)
            if (!l->lane->in_batches)
                sum += p->bound;
    }
    return sum;
}

void tr_run_purses(const struct tr_run *run, struct tr_money *out)
{
    out[TR_PURSE_NANO] = run->money;
    out[TR_PURSE_TOKENS] = run->tokens;
    out[TR_PURSE_REQUESTS] = run->asks;
}

const int64_t *tr_run_label_counts(const struct tr_run *run)
{
    return run->label_counts;
}
