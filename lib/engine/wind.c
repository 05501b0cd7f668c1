/* wind.c - every way a run ends: done, stopped, out of money, an outage.
 *
 * Whatever the reason, nothing more leaves, answers in flight are awaited
 * within the grace, and all that is known is made durable and written.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include <inttypes.h>
#include <stdio.h>

#define DAY_NS (24 * 3600 * TR_S)
#define BATCH_MOST_NS (3 * DAY_NS) /* a day, and what to cancel it may take */
#define TELL_AFTER_NS (10 * TR_S)  /* trouble; most is over by then */
#define TELL_AGAIN_NS (600 * TR_S)

/* A run that stops for a reason of its own has not been told yet. */
void tr_run_stop(struct tr_run *run, int exit_code)
{
    if (run->told)
        run->stopping = 2;
    else
        tr_run_stop_with(run, exit_code, "");
    run->told = true;
}

/* What is in a batch goes on without us, and the next run takes its answers;
 * what waited for one has never left. */
static int leave(struct tr_run *run, struct tr_run_lane *l, struct tr_err *err)
{
    struct tr_pack *p;
    int64_t left = 0;
    char text[300];
    int rc = TR_OK;

    while ((p = tr_queue_take(&l->sent))) {
        if (l->lane->vt->waits(l->lane, tr_pack_tag(p))) {
            TRY(tr_run_grow((void **)&run->outs, &run->out_cap,
                            run->out_count + 1, sizeof *run->outs, err));
            run->outs[run->out_count++] = (struct tr_store_outcome){
                .attempt = p->attempt, .unsent = true, .in_batch = true};
            tr_run_unreserve(run, p);
        } else {
            left++;
        }
        tr_run_give_back(run, p);
    }
    l->lane->vt->cancel(l->lane);
    if (left) {
        snprintf(text, sizeof text, "%" PRId64 " request%s in a batch at "
                 "%s, which goes on; the same command picks it up", left,
                 left == 1 ? " is" : "s are", l->lane->host);
        tr_run_say(run, 2, text);
    }
out:
    return rc;
}

/* Requests whose answers nobody awaits any more: their outcome is unknown. */
static int abandon(struct tr_run *run, struct tr_run_lane *l,
                   struct tr_err *err)
{
    static const struct tr_usage unheard = {-1, -1, -1, -1, -1};
    struct tr_pack *p;

    l->lane->vt->cancel(l->lane);
    while ((p = l->sent.head)) {
        struct tr_reply lost = {
            .outcome = TR_OUT_LOST, .billing = TR_BILL_UNKNOWN,
            .usage = unheard, .retry_after_ms = -1,
            .limits = TR_LIMITS_UNSAID,
        };
        int rc = tr_run_book(run, p, &lost, run->now, err);

        if (rc != TR_OK)
            return rc;
        tr_queue_take(&l->sent);
        tr_run_give_back(run, p);
    }
    return TR_OK;
}

int tr_run_finish(struct tr_run *run, struct tr_err *err)
{
    bool moved = false, finished;
    int rc;

    if (run->store_failed) { /* it takes nothing, and all of it is kept */
        run->ended = true;
        return TR_OK;
    }
    rc = tr_run_remember(run, err);
    if (rc == TR_OK)
        rc = tr_run_commit(run, true, &moved, err);
    if (rc == TR_OK) /* what was only set, even if nothing else waits */
        rc = tr_store_commit(run->store, NULL, 0, NULL, 0, NULL, 0, err);
    /* Who has tried the first rows has not done the job. */
    finished = !run->stopping && !run->opts.offline && !run->opts.dry_run &&
               !run->opts.is_sample &&
               !(run->env->is_cut && run->env->is_cut(run->env->ctx));
    /* The ledger last: what it calls finished has a new budget next time. */
    if (rc == TR_OK && finished)
        rc = tr_store_job_finish(run->store, err);
    if (rc != TR_OK)
        return rc;
    /* Without it our share stays what we claimed: never less than we used. */
    if (!run->opts.dry_run && tr_run_purse_close(run, finished, err) != TR_OK)
        tr_run_say(run, 1, err->text);
    if (!run->stopping)
        run->exit_code = run->counts.rows_failed && !run->opts.dry_run ? 1 : 0;
    run->ended = true;
    return TR_OK;
}

/* The way out: nothing leaves, replies are awaited up to the grace, then all
 * that is known is made durable and written. */
int tr_run_wind_down(struct tr_run *run, int64_t *wake, bool *moved,
                     struct tr_err *err)
{
    int64_t give_up = run->stop_at + run->opts.grace_ms * TR_MS;
    int64_t now = run->now;
    int rc = TR_OK;

    TR_EACH_LANE(run, l) {
        /* Intents of a commit that failed may be in the file all the same. */
        TRY(tr_run_unplan(run, &l->planned, run->store_failed, err));
        TRY(tr_run_unplan(run, &l->ready, true, err));
        if (l->sent.n && l->lane->in_batches)
            TRY(leave(run, l, err));
    }
    if (tr_run_load(run).sent && run->stopping == 1 && now < give_up) {
        if (give_up < *wake)
            *wake = give_up;
        return TR_OK;
    }
    TR_EACH_LANE(run, l)
        if (l->sent.n)
            TRY(abandon(run, l, err));
    rc = tr_run_commit(run, true, moved, err);
    if (rc == TR_OK)
        rc = tr_run_write_settled(run, moved, err);
    if (rc == TR_OK && !*moved)
        rc = tr_run_finish(run, err);
out:
    return rc;
}

/* An answer may take a day, and a batch is no outage. Where what was sent since
 * the trouble began brings nothing either, it is one after a day; the time in a
 * batch that has failed does not count until then. And what has not come after
 * three, whose batch is looked for among thousands, is awaited no more where
 * that is all. The oldest request is the first to be in a batch. */
static int64_t batches_take(const struct tr_run *run)
{
    int64_t spared = run->batch_failed_at - run->trouble_since;
    int64_t most = spared < 0 ? 0 : spared < DAY_NS ? spared : DAY_NS;

    for (uint32_t i = 0; i < run->lane_count; i++) {
        struct tr_lane *lane = run->lanes[i].lane;
        const struct tr_pack *oldest = run->lanes[i].sent.head;

        if (!lane->in_batches || !oldest ||
            lane->vt->waits(lane, tr_pack_tag(oldest)))
            continue;
        if (run->now < oldest->sent_at + BATCH_MOST_NS &&
            (!run->trouble_again || oldest->sent_at <= run->trouble_since))
            return TR_NEVER;
        most = DAY_NS;
    }
    return most;
}

static bool served(const struct tr_run *run)
{
    for (uint32_t i = 0; i < run->lane_count; i++)
        if (run->lanes[i].successes)
            return true;
    return false;
}

/* The local model, which cannot be out, has rows to do or may take some. */
static bool local_is_at_work(const struct tr_run *run)
{
    for (uint32_t i = 0; i < run->lane_count; i++) {
        const struct tr_run_lane *l = &run->lanes[i];

        if (l->lane->is_local && tr_chain_has_work(run, l))
            return true;
    }
    return false;
}

/* Nothing waits for an answer: the input is slow. */
static bool is_idle(const struct tr_run *run)
{
    struct tr_run_load load = tr_run_load(run);

    return !load.waiting && !load.aside && !load.planned && !load.ready &&
           !load.sent;
}

/* What failed before a pause is no part of the trouble after it: nobody was
 * asked meanwhile. */
static void rest(struct tr_run *run)
{
    run->trouble_since = 0;
    run->trouble_again = false;
    TR_EACH_LANE(run, l)
        tr_health_rest(&l->health);
}

/* Whoever waits for a quota looks rarely: one probe that fails is no outage. */
static bool awaits_second_probe(const struct tr_run *run)
{
    return run->opts.wait_for_quota && !run->trouble_again &&
           run->trouble_lane->health.state == TR_LANE_EXHAUSTED;
}

/* Long before it ends the run: a server that was not started is mended by then.
 * Not of batches, whose questions may be minutes apart. */
static void tell_trouble(struct tr_run *run, int64_t *wake)
{
    int64_t at = run->trouble_since + TELL_AFTER_NS;
    int64_t s = (run->now - run->trouble_since) / TR_S;
    char text[900];

    if (!run->trouble_since || run->trouble_lane->lane->in_batches)
        return;
    if (run->trouble_told_at && at < run->trouble_told_at + TELL_AGAIN_NS)
        at = run->trouble_told_at + TELL_AGAIN_NS;
    if (run->now < at) {
        if (at < *wake)
            *wake = at;
        return;
    }
    run->trouble_told_at = run->now;
    snprintf(text, sizeof text, "%s: no answer for %" PRId64 " s (%s); it is "
             "asked again until --max-wait (%" PRId64 " s) is over",
             run->trouble_lane->lane->host, s, run->last_trouble,
             run->opts.max_wait_ms / 1000);
    tr_run_say(run, 1, text);
}

/* Too long in trouble without any answer: an outage ends the run, never the
 * rows. Waiting for the pace alone is no trouble. */
void tr_run_mind_outage(struct tr_run *run, int64_t *wake)
{
    int64_t now = run->now;
    int64_t limit = run->trouble_since + run->opts.max_wait_ms * TR_MS;
    int64_t more = run->trouble_since ? batches_take(run) : TR_NEVER;
    char text[900];

    if (is_idle(run)) {
        rest(run);
        return;
    }
    if (more == TR_NEVER || local_is_at_work(run) || awaits_second_probe(run))
        return;
    limit += more;
    if (now < limit) {
        if (limit < *wake)
            *wake = limit;
        tell_trouble(run, wake);
        return;
    }
    if (run->trouble_ours) {
        snprintf(text, sizeof text,
                 "nothing could be asked for %" PRId64 " s, and not for want "
                 "of the provider (%s). Mend that, then run the same command "
                 "again (--max-wait sets how long to go on); %s",
                 run->opts.max_wait_ms / 1000, run->last_trouble,
                 tr_run_kept(run));
        tr_run_stop_with(run, tr_exit_code(TR_IO), text);
        return;
    }
    snprintf(text, sizeof text,
             "%s: no answer for %" PRId64 " s (%s). Run the same command again "
             "when the provider is back (--max-wait sets how long to go on); "
             "%s",
             run->trouble_lane->lane->host, run->opts.max_wait_ms / 1000,
             run->last_trouble[0] ? run->last_trouble : "no reply",
             tr_run_kept(run));
    tr_run_event(run, TR_EVENT_LANE_DOWN, run->trouble_lane->lane, -1);
    tr_run_stop_with(run, tr_exit_code(served(run) ? TR_STOPPED : TR_UNAVAILABLE),
              text);
}
