/* books.c - money above the single attempt: jobs and their rounds, what is
 * unknown, batches; and what `trommel store` shows of it.
 *
 * Each of these is a transaction of its own. What an attempt costs is added up
 * in attempt.c, as part of a commit.
 *
 * SPDX-License-Identifier: MIT */
#include "store/sql.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- jobs ------------------------------------------------------------- */

/* Bounds in tokens of this round's attempts, unknown or in batches. */
static int pledged(struct tr_store *st, struct tr_job *job, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_PLEDGED];
    bool row;
    int rc;

    sqlite3_bind_int64(s, 1, st->job);
    sqlite3_bind_int64(s, 2, st->round);
    rc = tr_sql_step(st, S_PLEDGED, &row, err);
    job->unknown_tokens = sqlite3_column_int64(s, 0);
    job->open_tokens = sqlite3_column_int64(s, 1);
    st->pledges = st->pledges || job->unknown_tokens > 0 ||
                  job->open_tokens > 0;
    sqlite3_reset(s);
    return rc;
}

static int64_t latest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t after_all(const struct tr_store *st, int64_t now_s)
{
    for (size_t i = 0; i < st->origin_count; i++)
        if (now_s <= st->origins[i].run_at)
            now_s = st->origins[i].run_at + 1;
    return now_s;
}

/* Since when the round under way asks again, or now; kept among the values as
 * fresh:JOB and retry:JOB. One of an earlier round is older than this one. */
static int asks_since(struct tr_store *st, const char *what, int64_t id,
                      const struct tr_job *job, int64_t *at,
                      struct tr_err *err)
{
    sqlite3_stmt *get = st->stmts[S_VALUE_GET];
    char name[40];
    bool found;
    int rc = TR_OK;

    snprintf(name, sizeof name, "%s:%" PRId64, what, id);
    tr_sql_bind_text(st, S_VALUE_GET, 1, tr_str_c(name));
    TRY(tr_sql_step(st, S_VALUE_GET, &found, err));
    *at = found ? sqlite3_column_int64(get, 0) : 0;
    sqlite3_reset(get);
    if (*at && *at >= job->started_at)
        goto out;
    *at = latest(job->run_at, job->started_at);
    if (st->read_only)
        goto out;
    tr_sql_bind_text(st, S_VALUE_SET, 1, tr_str_c(name));
    sqlite3_bind_int64(st->stmts[S_VALUE_SET], 2, *at);
    TRY(tr_sql_run(st, S_VALUE_SET, err));
out:
    sqlite3_reset(get);
    return rc;
}

static int ask_again(struct tr_store *st, int64_t id, unsigned again,
                     struct tr_job *job, struct tr_err *err)
{
    int rc = TR_OK;

    if (again & TR_AGAIN_ALL)
        TRY(asks_since(st, "fresh", id, job, &job->fresh_at, err));
    if (again & TR_AGAIN_FAILED)
        TRY(asks_since(st, "retry", id, job, &job->retry_at, err));
    /* The clock was ahead when the round began, or began to ask again: what
     * this run is told must count for it. */
    job->run_at = latest(latest(job->run_at, job->started_at),
                        latest(job->fresh_at, job->retry_at));
out:
    return rc;
}

int tr_store_job_ahead(struct tr_store *st, const char *name, int64_t now_s,
                       unsigned again, struct tr_job *job, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_JOB_READ];
    int64_t id = 0;
    bool row;
    int rc = TR_OK;

    TR_ASSERT(st->read_only || st->temporary);
    *job = (struct tr_job){.run_at = after_all(st, now_s)};
    job->started_at = job->run_at; /* unless a round is under way */
    tr_sql_bind_text(st, S_JOB_READ, 1, tr_str_c(name));
    TRY(tr_sql_step(st, S_JOB_READ, &row, err));
    if (row && sqlite3_column_int64(s, 12)) {
        id = sqlite3_column_int64(s, 0);
        job->started_at = sqlite3_column_int64(s, 2);
    }
    sqlite3_reset(s);
    TRY(ask_again(st, id, again, job, err));
out:
    sqlite3_reset(s);
    return rc;
}

int tr_store_job(struct tr_store *st, const char *name, int64_t now_s,
                 unsigned again, struct tr_job *job, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_JOB_READ];
    bool row;
    int rc = TR_OK;

    now_s = after_all(st, now_s);
    *job = (struct tr_job){0};
    TRY(tr_sql_begin(st, err));
    TRY(tr_sql_run(st, S_NO_PLEDGE, err));
    TRY(tr_sql_run(st, S_NEVER_LEFT, err));
    TRY(tr_sql_run(st, S_NOT_WAITING, err));
    /* What a dead process left open: nobody will ever know its outcome. */
    TRY(tr_sql_run(st, S_LOST_COUNT, err));
    TRY(tr_sql_run(st, S_LOST, err));
    tr_sql_bind_text(st, S_JOB_MAKE, 1, tr_str_c(name));
    TRY(tr_sql_run(st, S_JOB_MAKE, err));
    tr_sql_bind_text(st, S_JOB_ROUND, 1, tr_str_c(name));
    sqlite3_bind_int64(st->stmts[S_JOB_ROUND], 2, now_s);
    TRY(tr_sql_run(st, S_JOB_ROUND, err));
    tr_sql_bind_text(st, S_JOB_READ, 1, tr_str_c(name));
    TRY(tr_sql_step(st, S_JOB_READ, &row, err));
    TR_ASSERT(row);
    st->job = sqlite3_column_int64(s, 0);
    st->round = sqlite3_column_int64(s, 1);
    *job = (struct tr_job){
        .run_at = now_s,
        .round = st->round,
        .started_at = sqlite3_column_int64(s, 2),
        .spent_nano = sqlite3_column_int64(s, 3),
        .requests = sqlite3_column_int64(s, 4),
        .tokens_in = sqlite3_column_int64(s, 5),
        .tokens_out = sqlite3_column_int64(s, 6),
        .tokens_cached = sqlite3_column_int64(s, 7),
        .unknown_nano = sqlite3_column_int64(s, 8),
        .unknown_count = sqlite3_column_int64(s, 9),
        .open_nano = sqlite3_column_int64(s, 10),
        .open_requests = sqlite3_column_int64(s, 11),
    };
    sqlite3_reset(s); /* a statement under way would hold the commit back */
    TRY(pledged(st, job, err));
    TRY(ask_again(st, st->job, again, job, err));
    TRY(tr_store_commit_pending(st, err));
out:
    sqlite3_reset(s);
    return rc == TR_OK ? rc : tr_sql_give_up(st, rc, err);
}

int tr_store_job_finish(struct tr_store *st, struct tr_err *err)
{
    int rc = TR_OK;

    TRY(tr_sql_begin(st, err));
    TRY(RUN(st, S_JOB_FINISH, err, st->job));
    TRY(tr_store_commit_pending(st, err));
out:
    return rc == TR_OK ? rc : tr_sql_give_up(st, rc, err);
}

/* ---- what is unknown -------------------------------------------------- */

static int sum_of(struct tr_store *st, enum stmt which, int64_t *count,
                  int64_t *nano, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[which];
    bool row;
    int rc = tr_sql_step(st, which, &row, err);

    *count = sqlite3_column_int64(s, 0);
    *nano = sqlite3_column_int64(s, 1);
    sqlite3_reset(s);
    return rc;
}

int tr_store_forgive(struct tr_store *st, int64_t *count, int64_t *nano,
                     struct tr_err *err)
{
    int rc = TR_OK;

    TRY(tr_sql_begin(st, err));
    TRY(sum_of(st, S_UNKNOWN_SUM, count, nano, err));
    TRY(tr_sql_run(st, S_FORGIVE, err));
    TRY(tr_sql_run(st, S_UNPLEDGE_ALL, err));
    TRY(tr_sql_run(st, S_LEAVE_ALL, err));
    TRY(tr_attempt_end_batches(st, err));
    TRY(tr_store_commit_pending(st, err));
out:
    return rc == TR_OK ? rc : tr_sql_give_up(st, rc, err);
}

static int look_at_batches(struct tr_store *st, struct tr_store_info *info,
                           struct tr_err *err)
{
    struct tr_batch *list;
    size_t n;
    int rc = tr_store_batches(st, &list, &n, err);

    info->batches = (int64_t)n;
    info->batch_requests = info->batch_nano = 0;
    for (size_t i = 0; i < n; i++)
        tr_batch_add(&info->batch_requests, &info->batch_nano, &list[i]);
    tr_free(list);
    return rc;
}

int tr_store_look(struct tr_store *st, struct tr_store_info *info,
                  struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_JOB_SUM];
    struct tr_buf task;
    bool found, row;
    int rc = TR_OK;

    tr_buf_init(&task, 0);
    info->verdicts = tr_store_count(st);
    info->failures = 0;
    for (size_t i = 0; i <= st->origin_count; i++)
        info->failures += st->tallies[i].failures;
    TRY(sum_of(st, S_UNHEARD_SUM, &info->unknown_count, &info->unknown_nano,
               err));
    TRY(look_at_batches(st, info, err));
    TRY(tr_sql_step(st, S_JOB_SUM, &row, err));
    info->spent_nano = sqlite3_column_int64(s, 0);
    info->first_at = sqlite3_column_int64(s, 1);
    for (size_t i = 0; i < st->origin_count; i++)
        if (!info->first_at || st->origins[i].run_at < info->first_at)
            info->first_at = st->origins[i].run_at;
    TRY(tr_store_get(st, "task", &task, &found, err));
    snprintf(info->task_name, sizeof info->task_name, "%s",
             found && task.p ? task.p : "");
out:
    sqlite3_reset(s);
    tr_buf_release(&task);
    return rc;
}

/* ---- batches ---------------------------------------------------------- */

int tr_store_batch_creating(struct tr_store *st, struct tr_batch *batch,
                            const uint64_t *attempts, size_t n,
                            struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_BATCH_ADD];
    int rc = TR_OK;

    TRY(tr_sql_begin(st, err));
    sqlite3_bind_int64(s, 1, TR_BATCH_CREATING);
    sqlite3_bind_int64(s, 2, batch->created_at);
    tr_sql_bind_text(st, S_BATCH_ADD, 3, tr_str_c(batch->lane));
    tr_sql_bind_text(st, S_BATCH_ADD, 4, tr_str_c(batch->mark));
    TRY(tr_sql_run(st, S_BATCH_ADD, err));
    batch->id = sqlite3_last_insert_rowid(st->db);
    batch->state = TR_BATCH_CREATING;
    for (size_t i = 0; i < n; i++)
        TRY(RUN(st, S_JOIN_BATCH, err, (int64_t)attempts[i], batch->id));
    if (batch->tokens > 0)
        TRY(RUN(st, S_ENQUEUED, err, batch->id, batch->tokens));
    TRY(tr_attempt_end_batches(st, err));
    TRY(tr_store_commit_pending(st, err));
out:
    return rc == TR_OK ? rc : tr_sql_give_up(st, rc, err);
}

int tr_store_batch_opened(struct tr_store *st, const struct tr_batch *batch,
                          struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_BATCH_OPENED];
    int rc = TR_OK;

    TRY(tr_sql_begin(st, err));
    sqlite3_bind_int64(s, 1, batch->name[0] ? TR_BATCH_OPEN
                                            : TR_BATCH_CREATING);
    tr_sql_bind_text(st, S_BATCH_OPENED, 2, tr_str_c(batch->name));
    tr_sql_bind_text(st, S_BATCH_OPENED, 3, tr_str_c(batch->file));
    sqlite3_bind_int64(s, 4, batch->id);
    TRY(tr_sql_run(st, S_BATCH_OPENED, err));
    TRY(tr_store_commit_pending(st, err));
out:
    return rc == TR_OK ? rc : tr_sql_give_up(st, rc, err);
}

/* 0, not known, when it was changed on disk. */
static int64_t tokens_of(int64_t value)
{
    return value > 0 && value < INT64_C(1) << 50 ? value : 0;
}

int tr_store_batches(struct tr_store *st, struct tr_batch **list, size_t *n,
                     struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_BATCHES];
    size_t cap = 0;
    bool row;
    int rc = TR_OK;

    *list = NULL;
    *n = 0;
    for (;;) {
        struct tr_batch *b;

        TRY(tr_sql_step(st, S_BATCHES, &row, err));
        if (!row)
            break;
        TRY(tr_sql_room((void **)list, &cap, *n + 1, sizeof **list, err));
        b = &(*list)[(*n)++];
        *b = (struct tr_batch){
            .id = sqlite3_column_int64(s, 0),
            .state = sqlite3_column_int(s, 1) == TR_BATCH_OPEN
                         ? TR_BATCH_OPEN : TR_BATCH_CREATING,
            .created_at = sqlite3_column_int64(s, 2),
            .requests = sqlite3_column_int64(s, 7),
            .bound_nano = sqlite3_column_int64(s, 8),
            .tokens = tokens_of(sqlite3_column_int64(s, 9)),
        };
        if (!tr_sql_copy(b->lane, sizeof b->lane, tr_sql_text(s, 3)) ||
            !tr_sql_copy(b->mark, sizeof b->mark, tr_sql_text(s, 4)) ||
            !tr_sql_copy(b->name, sizeof b->name, tr_sql_text(s, 5)) ||
            !tr_sql_copy(b->file, sizeof b->file, tr_sql_text(s, 6)))
            TRY(tr_sql_damaged(st, "the list of batches", err));
    }
out:
    sqlite3_reset(s);
    if (rc != TR_OK) {
        tr_free(*list);
        *list = NULL;
        *n = 0;
    }
    return rc;
}

int tr_store_batch_items(struct tr_store *st, int64_t batch,
                         int (*each)(void *ctx,
                                     const struct tr_store_item *item,
                                     struct tr_err *err),
                         void *ctx, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_ITEMS];
    bool row;
    int rc = TR_OK;

    sqlite3_bind_int64(s, 1, batch);
    for (;;) {
        struct tr_store_item item;
        int bytes;

        TRY(tr_sql_step(st, S_ITEMS, &row, err));
        if (!row)
            break;
        bytes = sqlite3_column_bytes(s, 5);
        item = (struct tr_store_item){
            .attempt = (uint64_t)sqlite3_column_int64(s, 0),
            .seed = (uint64_t)sqlite3_column_int64(s, 1),
            .bound_nano = sqlite3_column_int64(s, 2),
            .ours = sqlite3_column_int64(s, 3) == st->job &&
                    sqlite3_column_int64(s, 4) == st->round,
            .keys = sqlite3_column_blob(s, 5),
            .items = (uint32_t)bytes / sizeof(struct tr_key),
            .bound_tokens = sqlite3_column_int64(s, 7),
        };
        if (!item.items || bytes % (int)sizeof(struct tr_key) ||
            sqlite3_column_int64(s, 6) !=
                tr_attempt_digest(item.attempt, item.seed, item.keys,
                                  item.items))
            TRY(tr_sql_damaged(st, "a batch", err));
        TRY(each(ctx, &item, err));
    }
out:
    sqlite3_reset(s);
    return rc;
}
