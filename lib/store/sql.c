/* sql.c - every statement of the store, and what all that run one share:
 * errors in words a person can act on, and the one transaction.
 *
 * The tables are in layout.c.
 *
 * SPDX-License-Identifier: MIT */
#include "store/sql.h"

#include "base/mem.h"

#include <errno.h>
#include <stdio.h>

static const char *const texts[S_COUNT] = {
    [S_BEGIN] = "BEGIN IMMEDIATE",
    [S_COMMIT] = "COMMIT",
    [S_FIND] = "SELECT what, v FROM answer WHERE key = ?1",
    [S_HOLD] = "SELECT slot FROM tally",
    [S_ADD] = "INSERT OR IGNORE INTO answer VALUES(?1, ?2, ?3)",
    [S_REPLACE] = "UPDATE answer SET what = ?2, v = ?3 WHERE key = ?1",
    [S_STAGE] = "INSERT INTO fresh VALUES(NULL, ?1)",
    [S_STAGED] = "SELECT answers FROM fresh ORDER BY id",
    [S_UNSTAGE] = "DELETE FROM fresh",
    [S_TALLY] = "INSERT OR REPLACE INTO tally VALUES(?1, ?2, ?3)",
    [S_TALLIES] = "SELECT slot, answers, failures FROM tally",
    [S_INTENT] = "INSERT INTO attempt VALUES(?1, ?2, ?3, ?4, ?5, ?6, 0)",
    [S_SETTLE] = "DELETE FROM attempt WHERE id = ?1",
    [S_UNKNOWN] = "UPDATE attempt SET unknown = 1, bound = ?2 WHERE id = ?1",
    [S_UNKNOWN_SUM] = "SELECT count(*), coalesce(sum(bound), 0) FROM attempt",
    [S_UNHEARD_SUM] = "SELECT count(*), coalesce(sum(bound), 0) FROM attempt"
        " WHERE id NOT IN (SELECT attempt FROM in_batch)",
    [S_FORGIVE] = "DELETE FROM attempt",
    [S_LOST_COUNT] = "UPDATE job SET requests = requests + (SELECT count(*)"
        " FROM attempt WHERE of_job = job.id AND of_round = job.round"
        " AND unknown = 0 AND id NOT IN (SELECT attempt FROM in_batch))",
    [S_LOST] = "UPDATE attempt SET unknown = 1 WHERE unknown = 0"
        " AND id NOT IN (SELECT attempt FROM in_batch)",
    /* Rounds begin anywhere: a store that was removed or moved away and the
     * one in its place must not share a number, or a budget's ledger would
     * take the sums of one for those of the other. */
    [S_JOB_MAKE] = "INSERT OR IGNORE INTO job"
        " VALUES(NULL, ?1, abs(random() % 1099511627776),"
        " 0, 0, 0, 0, 0, 0, 0, 0)",
    [S_JOB_ROUND] = "UPDATE job SET round = round + 1, under_way = 1,"
        " started_at = ?2, before = before + spent, spent = 0, requests = 0,"
        " tokens_in = 0, tokens_out = 0, tokens_cached = 0"
        " WHERE name = ?1 AND under_way = 0",
    [S_JOB_READ] = "SELECT job.id, round, started_at, spent, requests,"
        " tokens_in, tokens_out, tokens_cached,"
        " coalesce(sum(bound * (unknown <> 0)), 0),"
        " coalesce(sum(unknown <> 0), 0),"
        " coalesce(sum(max(bound, 0) * (unknown = 0)), 0),"
        " coalesce(sum(unknown = 0), 0), under_way"
        " FROM job LEFT JOIN attempt ON of_job = job.id"
        " AND of_round = job.round WHERE name = ?1"
        " GROUP BY job.id",
    [S_JOB_ADD] = "UPDATE job SET spent = spent + ?2, requests = requests + ?3,"
        " tokens_in = tokens_in + ?4, tokens_out = tokens_out + ?5,"
        " tokens_cached = tokens_cached + ?6 WHERE id = ?1",
    [S_PLEDGE] = "INSERT OR REPLACE INTO value VALUES('tokens:' || ?1, ?2)",
    [S_UNPLEDGE] = "DELETE FROM value WHERE name = 'tokens:' || ?1",
    [S_PLEDGED] = "SELECT coalesce(sum(value * (unknown <> 0)), 0),"
        " coalesce(sum(value * (unknown = 0)), 0) FROM value, attempt"
        " WHERE name = 'tokens:' || attempt.id AND of_job = ?1"
        " AND of_round = ?2",
    [S_UNPLEDGE_ALL] = "DELETE FROM value WHERE name >= 'tokens:'"
        " AND name < 'tokens;'",
    [S_JOB_FINISH] = "UPDATE job SET under_way = 0 WHERE id = ?1",
    [S_JOB_SUM] = "SELECT coalesce(sum(before + spent), 0),"
        " coalesce(min(nullif(started_at, 0)), 0) FROM job",
    [S_ORIGIN] = "INSERT INTO origin VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    [S_ORIGINS] = "SELECT id, by, served, effort, prompt, run_at FROM origin"
        " ORDER BY id",
    [S_SET] = "INSERT INTO label_set VALUES(?1, ?2, ?3)",
    [S_SETS] = "SELECT id, names, digest FROM label_set ORDER BY id",
    [S_HIGH_WATER] = "SELECT coalesce(max(seq), 0) FROM main.sqlite_sequence"
        " WHERE name = 'attempt'",
    [S_VALUE_GET] = "SELECT value FROM value WHERE name = ?1",
    [S_VALUE_SET] = "INSERT OR REPLACE INTO value VALUES(?1, ?2)",
    [S_NO_PLEDGE] = "DELETE FROM value WHERE name IN (SELECT"
        " 'tokens:' || attempt FROM in_batch WHERE of_batch = 0)",
    [S_NEVER_LEFT] = "DELETE FROM attempt WHERE id IN"
        " (SELECT attempt FROM in_batch WHERE of_batch = 0)",
    [S_NOT_WAITING] = "DELETE FROM in_batch WHERE of_batch = 0",
    [S_WAIT_BATCH] = "INSERT INTO in_batch VALUES(?1, 0, ?2, ?3)",
    [S_JOIN_BATCH] = "UPDATE in_batch SET of_batch = ?2 WHERE attempt = ?1",
    [S_LEAVE_BATCH] = "DELETE FROM in_batch WHERE attempt = ?1",
    [S_EMPTY_BATCHES] = "DELETE FROM batch WHERE id NOT IN"
        " (SELECT of_batch FROM in_batch)",
    [S_LEAVE_ALL] = "DELETE FROM in_batch",
    [S_ENQUEUED] = "INSERT INTO value VALUES('enqueued:' || ?1, ?2)",
    [S_NOT_ENQUEUED] = "DELETE FROM value WHERE name >= 'enqueued:'"
        " AND name < 'enqueued;'"
        " AND name NOT IN (SELECT 'enqueued:' || id FROM batch)",
    [S_BATCH_ADD] = "INSERT INTO batch VALUES(NULL, ?1, ?2, ?3, ?4, '', '')",
    [S_BATCH_OPENED] = "UPDATE batch SET state = ?1, name = ?2, file = ?3"
        " WHERE id = ?4",
    /* A request always costs something: 0 stands where no price was known. */
    [S_BATCHES] = "SELECT id, state, created_at, lane, mark, name, file,"
        " (SELECT count(*) FROM in_batch WHERE of_batch = batch.id),"
        " (SELECT iif(min(bound) <= 0, -1, coalesce(sum(bound), 0))"
        " FROM in_batch JOIN attempt ON id = attempt"
        " WHERE of_batch = batch.id),"
        " coalesce((SELECT value FROM value WHERE name = 'enqueued:' || id), 0)"
        " FROM batch ORDER BY id",
    [S_ITEMS] = "SELECT id, seed, bound, of_job, of_round, keys, digest,"
        " coalesce((SELECT value FROM value WHERE name = 'tokens:' || id), 0)"
        " FROM in_batch"
        " JOIN attempt ON id = attempt WHERE of_batch = ?1 ORDER BY id",
    [S_JOB_ADD_OF] = "UPDATE job SET"
        " spent = spent + ?2 * (round = a.of_round),"
        " before = before + ?2 * (round <> a.of_round),"
        " requests = requests + ?6 * (round = a.of_round),"
        " tokens_in = tokens_in + ?3 * (round = a.of_round),"
        " tokens_out = tokens_out + ?4 * (round = a.of_round),"
        " tokens_cached = tokens_cached + ?5 * (round = a.of_round)"
        " FROM (SELECT of_job, of_round FROM attempt"
        " WHERE id = ?1 AND unknown = 0) AS a"
        " WHERE job.id = a.of_job",
};

int tr_sql_prepare(struct tr_store *st, struct tr_err *err)
{
    int rc = TR_OK;

    for (int i = 0; i < S_COUNT; i++)
        if (sqlite3_prepare_v3(st->db, texts[i], -1,
                               SQLITE_PREPARE_PERSISTENT, &st->stmts[i],
                               NULL) != SQLITE_OK)
            TRY(tr_sql_fail(st, err, "opening"));
out:
    return rc;
}

/* ---- errors ----------------------------------------------------------- */

/* What SQLite says, and what the person can do about it. */
static const struct {
    int sqlite;
    int code;
    const char *next;
    bool keeps; /* a file's answers */
} advice[] = {
    {SQLITE_FULL, TR_IO, "the disk is full: free space and run the same "
     "command again", true},
    {SQLITE_CORRUPT, TR_CONFIG, "the file is damaged: restore it, or move it "
     "away to begin anew (its answers would be paid again)", false},
    {SQLITE_NOTADB, TR_CONFIG, "the file is damaged or no store of trommel: "
     "restore it, or move it away to begin anew (its answers would be paid "
     "again)", false},
    {SQLITE_TOOBIG, TR_CONFIG, "the file is damaged: restore it, or move it "
     "away to begin anew (its answers would be paid again)", false},
    {SQLITE_READONLY, TR_IO, "make the file and its folder writable, or "
     "choose another with --store", false},
    {SQLITE_CANTOPEN, TR_IO, "make the file and its folder writable, or "
     "choose another with --store", false},
    {SQLITE_PERM, TR_IO, "make the file and its folder writable, or choose "
     "another with --store", false},
    {SQLITE_BUSY, TR_STOPPED, "another program has the file open: close it "
     "and run the same command again", false},
    {SQLITE_NOMEM, TR_NOMEM, "run the same command again with more memory",
     true},
    {SQLITE_CONSTRAINT, TR_BUG, "a fault of trommel, please report it", true},
    {SQLITE_IOERR, TR_IO, "check the disk (full, or failing?) and run the "
     "same command again", true},
    {-1, TR_IO, "run the same command again", true},
};

const char *tr_sql_name(const struct tr_store *st)
{
    return st->path[0] ? st->path : "the temporary store";
}

/* SQLite calls a file damaged, too, when the system could not read it (EIO,
 * ENXIO). That one may be whole: whoever moved it away would pay again. */
static bool unreadable(struct tr_store *st)
{
    static const int ops[] = {SQLITE_FCNTL_FILE_POINTER,
                              SQLITE_FCNTL_JOURNAL_POINTER /* the log */};

    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        sqlite3_file *file = NULL;
        int errnum = 0;

        if (sqlite3_file_control(st->db, "main", ops[i], &file) == SQLITE_OK &&
                file && file->pMethods &&
                file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO,
                                             &errnum) == SQLITE_OK &&
                (errnum == EIO || errnum == ENXIO))
            return true;
    }
    return false;
}

int tr_sql_fail(struct tr_store *st, struct tr_err *err, const char *what)
{
    int rc = sqlite3_errcode(st->db) & 0xff;
    bool unread = rc == SQLITE_CORRUPT && unreadable(st);
    const char *next;
    size_t i = 0;

    if (unread)
        rc = SQLITE_IOERR;
    while (advice[i].sqlite != rc && advice[i].sqlite != -1)
        i++;
    next = advice[i].next;
    if (rc == SQLITE_CANTOPEN) /* it may be for want of descriptors */
        next = tr_errno_remedy(sqlite3_system_errno(st->db), next);
    tr_fail(err, advice[i].code, "%s: %s: %s; %s%s", tr_sql_name(st), what,
            unread ? sqlite3_errstr(rc) : sqlite3_errmsg(st->db), next,
            advice[i].keeps && st->path[0] ? "; what is committed is safe"
                                           : "");
    /* SQLite undoes all that was under way, be it a read that failed; what
     * came then would be a transaction each. */
    if (st->in_transaction && sqlite3_get_autocommit(st->db))
        tr_sql_give_up(st, advice[i].code, err);
    return advice[i].code;
}

int tr_sql_damaged(const struct tr_store *st, const char *what,
                   struct tr_err *err)
{
    return tr_fail(err, TR_CONFIG, "%s: %s was changed or damaged on disk: "
                   "restore the file, or move it away to begin anew (its "
                   "answers would be paid again)", tr_sql_name(st), what);
}

/* ---- statements ------------------------------------------------------- */

int tr_sql_exec(struct tr_store *st, const char *sql, struct tr_err *err)
{
    return sqlite3_exec(st->db, sql, NULL, NULL, NULL) == SQLITE_OK
        ? TR_OK : tr_sql_fail(st, err, "writing");
}

int tr_sql_step(struct tr_store *st, enum stmt which, bool *row,
                struct tr_err *err)
{
    int rc = sqlite3_step(st->stmts[which]);

    *row = rc == SQLITE_ROW;
    return rc == SQLITE_ROW || rc == SQLITE_DONE
        ? TR_OK : tr_sql_fail(st, err, "reading");
}

int tr_sql_run(struct tr_store *st, enum stmt which, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[which];
    int rc = sqlite3_step(s) == SQLITE_DONE ? TR_OK
                                            : tr_sql_fail(st, err, "writing");

    sqlite3_reset(s);
    return rc;
}

int tr_sql_run_with(struct tr_store *st, enum stmt which, struct tr_err *err,
                    const int64_t *values, int n)
{
    for (int i = 0; i < n; i++)
        sqlite3_bind_int64(st->stmts[which], i + 1, values[i]);
    return tr_sql_run(st, which, err);
}

void tr_sql_bind_text(struct tr_store *st, enum stmt which, int at,
                      struct tr_str text)
{
    sqlite3_bind_text64(st->stmts[which], at, text.n ? text.p : "", text.n,
                        SQLITE_STATIC, SQLITE_UTF8);
}

struct tr_str tr_sql_text(sqlite3_stmt *s, int column)
{
    const char *p = (const char *)sqlite3_column_text(s, column);

    return tr_str(p ? p : "", (size_t)sqlite3_column_bytes(s, column));
}

bool tr_sql_copy(char *out, size_t size, struct tr_str text)
{
    if (text.n >= size)
        return false;
    memcpy(out, text.p, text.n);
    out[text.n] = '\0';
    return true;
}

int tr_sql_number(struct tr_store *st, const char *sql, int64_t *n,
                  struct tr_err *err)
{
    sqlite3_stmt *s = NULL;
    int rc = TR_OK;

    *n = 0;
    if (sqlite3_prepare_v2(st->db, sql, -1, &s, NULL) != SQLITE_OK ||
        sqlite3_step(s) != SQLITE_ROW)
        rc = tr_sql_fail(st, err, "opening");
    else
        *n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return rc;
}

/* ---- the transaction -------------------------------------------------- */

/* Whether its end is synced is settled here, because SQLite changes that only
 * between two transactions. In WAL mode one under NORMAL writes the log and
 * does not sync. */
int tr_sql_begin_with(struct tr_store *st, bool sync, struct tr_err *err)
{
    int rc = TR_OK;

    if (st->failed.code)
        return tr_fail(err, st->failed.code, "%s", st->failed.text);
    if (st->in_transaction)
        return TR_OK;
    if (sync == st->no_sync && !st->temporary)
        TRY(tr_sql_exec(st, sync ? "PRAGMA synchronous = FULL"
                                 : "PRAGMA synchronous = NORMAL", err));
    st->no_sync = !sync;
    TRY(tr_sql_run(st, S_BEGIN, err));
    st->in_transaction = true;
out:
    return rc;
}

int tr_sql_begin(struct tr_store *st, struct tr_err *err)
{
    return tr_sql_begin_with(st, true, err);
}

int tr_sql_end(struct tr_store *st, struct tr_err *err)
{
    int rc = tr_sql_run(st, S_COMMIT, err);

    if (rc != TR_OK)
        return rc;
    st->in_transaction = false;
    if (!st->no_sync)
        tr_sql_lists_kept(st);
    return TR_OK;
}

void tr_sql_lists_kept(struct tr_store *st)
{
    st->origins_kept = st->origin_count;
    for (size_t i = st->sets_kept; i < st->set_count; i++)
        tr_free((char *)st->sets[i - st->sets_kept].p);
    st->sets_kept = st->set_count;
}

int tr_sql_give_up(struct tr_store *st, int rc, const struct tr_err *err)
{
    if (st->in_transaction)
        sqlite3_exec(st->db, "ROLLBACK", NULL, NULL, NULL);
    st->in_transaction = false;
    if (!st->failed.code) {
        st->failed.code = rc;
        snprintf(st->failed.text, sizeof st->failed.text, "%s",
                 err ? err->text : "an earlier change of the store failed");
    }
    return rc;
}

/* ---- memory ----------------------------------------------------------- */

int tr_sql_room(void **array, size_t *cap, size_t need, size_t size,
                struct tr_err *err)
{
    return tr_grow(array, cap, need, size)
               ? TR_OK : tr_fail(err, TR_NOMEM, "store: out of memory");
}
