/* engine.c - small words that the files of the five verbs share.
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include <stdio.h>

int64_t tr_run_tick(struct tr_run *run)
{
    run->now = run->env->now_ns(run->env->ctx);
    return run->now;
}

void tr_run_say(const struct tr_run *run, int level, const char *line)
{
    if (run->env->say)
        run->env->say(run->env->ctx, level, line);
}

void tr_run_event(const struct tr_run *run, enum tr_event_kind kind,
                  const struct tr_lane *lane, int64_t wait_s)
{
    struct tr_event event = {.kind = kind, .lane = lane->model,
                             .wait_s = wait_s};

    if (run->env->event)
        run->env->event(run->env->ctx, &event);
}

void tr_run_ended(const struct tr_run *run, const struct tr_lane *lane,
                  const struct tr_pack *p, const struct tr_reply *reply)
{
    struct tr_attempt attempt = {
        .lane = lane,
        .reply = reply,
        .number = p->attempt,
        .items = p->n,
        .cap_tokens = p->cap,
        .schema = p->form == TR_FORM_SCHEMA,
        .sent_at = p->sent_at,
        .ended_at = run->now,
    };

    if (run->env->attempt)
        run->env->attempt(run->env->ctx, &attempt);
}

int tr_run_grow(void **array, size_t *cap, size_t need, size_t size,
                struct tr_err *err)
{
    return tr_grow(array, cap, need, size)
               ? TR_OK
               : tr_fail(err, TR_NOMEM, "out of memory");
}

const char *tr_run_status_text(const struct tr_reply *reply,
                               char out[TR_STATUS_TEXT])
{
    out[0] = '\0';
    if (reply->status)
        snprintf(out, TR_STATUS_TEXT, "HTTP %d from ", reply->status);
    return out;
}

const char *tr_run_kept(const struct tr_run *run)
{
    return tr_kept_words(*tr_store_path(run->store) != '\0');
}

/* Nothing more leaves; what is in flight is awaited. The first reason wins. */
void tr_run_stop_with(struct tr_run *run, int exit_code, const char *sentence)
{
    if (!run->stopping) {
        run->stopping = 1;
        run->stop_at = run->now;
        run->exit_code = exit_code;
        snprintf(run->sentence, sizeof run->sentence, "%s", sentence);
    }
}

struct tr_run_load tr_run_load(const struct tr_run *run)
{
    struct tr_run_load sum = {0};

    for (uint32_t i = 0; i < run->lane_count; i++) {
        const struct tr_run_lane *l = &run->lanes[i];

        sum.waiting += l->fresh.n + l->redo.n;
        sum.aside += l->aside.n;
        sum.planned += l->planned.n;
        sum.ready += l->ready.n;
        sum.sent += l->sent.n;
    }
    return sum;
}
