/* attempt.c - an attempt from its intent to its outcome, inside a commit.
 *
 * It stands in the table `attempt` until its outcome is known; then its money
 * goes into the sums of its job, and the row goes or stays as an unknown one.
 * A bound in tokens stands beside it among the small values ("tokens:" and its
 * number), the keys of what is to go by batch in `in_batch`, the tokens of a
 * batch as a whole among the values again ("enqueued:"). Nothing here ends a
 * transaction; jobs and batches are books.c.
 *
 * SPDX-License-Identifier: MIT */
#include "store/sql.h"

#include "store/verdict.h"

int tr_attempt_load(struct tr_store *st, struct tr_err *err)
{
    bool row;
    int rc = tr_sql_step(st, S_HIGH_WATER, &row, err);

    if (rc == TR_OK)
        st->next_attempt =
            1 + (uint64_t)sqlite3_column_int64(st->stmts[S_HIGH_WATER], 0);
    sqlite3_reset(st->stmts[S_HIGH_WATER]);
    return rc;
}

uint64_t tr_store_next_attempt(struct tr_store *st)
{
    return st->next_attempt++;
}

/* A changed bit must not bring one request's answer to another's rows. */
int64_t tr_attempt_digest(uint64_t attempt, uint64_t seed,
                          const struct tr_key *keys, uint32_t n)
{
    struct tr_key salt;

    for (int i = 0; i < 8; i++) {
        salt.b[i] = (unsigned char)(attempt >> 8 * i);
        salt.b[8 + i] = (unsigned char)(seed >> 8 * i);
    }
    salt = tr_digest(&salt, tr_str((const char *)keys, n * sizeof *keys));
    return (int64_t)tr_little_endian(salt.b);
}

/* It will go by a batch; until then it stands in none. */
static int wait_batch(struct tr_store *st, const struct tr_store_intent *in,
                      struct tr_err *err)
{
    sqlite3_bind_int64(st->stmts[S_WAIT_BATCH], 3,
                       tr_attempt_digest(in->attempt, in->seed, in->keys,
                                         in->items));
    sqlite3_bind_int64(st->stmts[S_WAIT_BATCH], 1, (int64_t)in->attempt);
    sqlite3_bind_blob64(st->stmts[S_WAIT_BATCH], 2, in->keys,
                        in->items * sizeof *in->keys, SQLITE_STATIC);
    return tr_sql_run(st, S_WAIT_BATCH, err);
}

int tr_attempt_intend(struct tr_store *st,
                      const struct tr_store_intent *intents, size_t n,
                      struct tr_err *err)
{
    int rc = TR_OK;

    for (size_t i = 0; i < n; i++)
        TRY(RUN(st, S_INTENT, err, (int64_t)intents[i].attempt, st->job,
                st->round, (int64_t)intents[i].seed, intents[i].bound_nano,
                intents[i].items));
    for (size_t i = 0; i < n; i++) {
        if (intents[i].bound_tokens <= 0)
            continue;
        st->pledges = true;
        TRY(RUN(st, S_PLEDGE, err, (int64_t)intents[i].attempt,
                intents[i].bound_tokens));
    }
    for (size_t i = 0; i < n; i++)
        if (intents[i].keys)
            TRY(wait_batch(st, &intents[i], err));
out:
    return rc;
}

int tr_attempt_end_batches(struct tr_store *st, struct tr_err *err)
{
    int rc = tr_sql_run(st, S_EMPTY_BATCHES, err);

    return rc == TR_OK ? tr_sql_run(st, S_NOT_ENQUEUED, err) : rc;
}

/* The outcome's money goes into the job's sums; the attempt goes, or stays as
 * an unknown one with its bound. */
int tr_attempt_settle(struct tr_store *st, const struct tr_store_outcome *outs,
                      size_t n, struct tr_err *err)
{
    struct tr_store_outcome sum = {0};
    int64_t sent = 0; /* of this job and round */
    bool ours = false, batches = false;
    int rc = TR_OK;

    for (size_t i = 0; i < n; i++) {
        const struct tr_store_outcome *o = &outs[i];
        int64_t spent = o->spent_nano + (o->is_unknown ? 0 : o->unknown_nano);

        if (o->of_other)
            TRY(RUN(st, S_JOB_ADD_OF, err, (int64_t)o->attempt, spent,
                    o->tokens_in, o->tokens_out, o->tokens_cached,
                    (int64_t)!o->unsent));
        if (o->in_batch)
            TRY(RUN(st, S_LEAVE_BATCH, err, (int64_t)o->attempt));
        batches |= o->in_batch;
        if (o->is_unknown)
            TRY(RUN(st, S_UNKNOWN, err, (int64_t)o->attempt, o->unknown_nano));
        else
            TRY(RUN(st, S_SETTLE, err, (int64_t)o->attempt));
        if ((st->pledges || o->of_other) && !o->is_unknown)
            TRY(RUN(st, S_UNPLEDGE, err, (int64_t)o->attempt));
        else if (st->pledges && !o->of_other) /* another job's stays as it is */
            TRY(RUN(st, S_PLEDGE, err, (int64_t)o->attempt, o->unknown_tokens));
        if (o->of_other)
            continue;
        ours = true;
        sent += !o->unsent;
        sum.spent_nano += spent;
        sum.tokens_in += o->tokens_in;
        sum.tokens_out += o->tokens_out;
        sum.tokens_cached += o->tokens_cached;
    }
    if (ours)
        TRY(RUN(st, S_JOB_ADD, err, st->job, sum.spent_nano, sent,
                sum.tokens_in, sum.tokens_out, sum.tokens_cached));
    if (batches)
        TRY(tr_attempt_end_batches(st, err));
out:
    return rc;
}
