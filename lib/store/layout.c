/* layout.c - which tables the file holds, and how SQLite has to treat it.
 *
 * The file may have been damaged or made by somebody else: its schema must be
 * ours to the letter, and SQLite gets no more freedom than our own statements
 * need. Both before the first of them is prepared.
 *
 * SPDX-License-Identifier: MIT */
#include "store/sql.h"

#include "base/bounds.h"
#include "store/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define APPLICATION_ID 0x54524f4d /* "TROM" */
#define VALUE_BYTES_MAX (64 << 20) /* one small value: a local fit is 10 MB */

/* what and v are a verdict as two integers, see tr_verdict_pack(). attempt.id
 * never repeats: AUTOINCREMENT keeps its high-water mark in the file. tally
 * counts verdicts per origin, so that looking needs no scan. in_batch.keys are
 * the keys of the attempt's rows one after another, digest is over them, seed
 * and number; of_batch 0: it waits for a batch and has never left. since: the
 * layout that brought the table; an older file gets what it lacks when it is
 * opened. Layout 4 brought none, but label sets that say their labels
 * (TR_SET_COMBINED). */
static const struct {
    int since;
    const char *sql;
} schema[] = {
    {1, "CREATE TABLE answer(key BLOB PRIMARY KEY, what INTEGER NOT NULL,"
    " v INTEGER NOT NULL) WITHOUT ROWID"},
    {1, "CREATE TABLE attempt(id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " of_job INTEGER NOT NULL, of_round INTEGER NOT NULL,"
    " seed INTEGER NOT NULL, bound INTEGER NOT NULL, items INTEGER NOT NULL,"
    " unknown INTEGER NOT NULL)"},
    {1, "CREATE TABLE origin(id INTEGER PRIMARY KEY, by TEXT NOT NULL,"
    " served TEXT NOT NULL, effort TEXT NOT NULL, prompt INTEGER NOT NULL,"
    " run_at INTEGER NOT NULL)"},
    {1, "CREATE TABLE tally(slot INTEGER PRIMARY KEY, answers INTEGER NOT NULL,"
    " failures INTEGER NOT NULL)"},
    {1, "CREATE TABLE label_set(id INTEGER PRIMARY KEY, names TEXT NOT NULL,"
    " digest INTEGER NOT NULL)"},
    {1, "CREATE TABLE job(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
    " round INTEGER NOT NULL, under_way INTEGER NOT NULL,"
    " started_at INTEGER NOT NULL, before INTEGER NOT NULL,"
    " spent INTEGER NOT NULL, requests INTEGER NOT NULL,"
    " tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL,"
    " tokens_cached INTEGER NOT NULL)"},
    {1, "CREATE TABLE value(name TEXT PRIMARY KEY, value BLOB NOT NULL)"
    " WITHOUT ROWID"},
    {2, "CREATE TABLE fresh(id INTEGER PRIMARY KEY, answers BLOB NOT NULL)"},
    {3, "CREATE TABLE batch(id INTEGER PRIMARY KEY AUTOINCREMENT,"
     " state INTEGER NOT NULL, created_at INTEGER NOT NULL,"
     " lane TEXT NOT NULL, mark TEXT NOT NULL, name TEXT NOT NULL,"
     " file TEXT NOT NULL)"},
    {3, "CREATE TABLE in_batch(attempt INTEGER PRIMARY KEY,"
     " of_batch INTEGER NOT NULL, keys BLOB NOT NULL, digest INTEGER NOT NULL)"},
};
enum { TABLES = sizeof schema / sizeof *schema };

/* ---- tables ----------------------------------------------------------- */

/* Tables that the file's layout does not have yet. A reader, who changes
 * nothing, sees empty ones that live in its own memory. */
static int add_tables(struct tr_store *st, int64_t layout, struct tr_err *err)
{
    char sql[200];
    int rc = TR_OK;

    if (!st->read_only) /* no statement is prepared yet */
        TRY(tr_sql_exec(st, "BEGIN IMMEDIATE", err));
    for (int i = 0; i < TABLES; i++) {
        if (schema[i].since <= layout)
            continue;
        snprintf(sql, sizeof sql, "CREATE TEMP%s",
                 schema[i].sql + strlen("CREATE"));
        TRY(tr_sql_exec(st, st->read_only ? sql : schema[i].sql, err));
    }
    if (st->read_only)
        return TR_OK;
    snprintf(sql, sizeof sql, "PRAGMA user_version = %d;"
             "PRAGMA application_id = %d;", TR_STORE_LAYOUT, APPLICATION_ID);
    TRY(tr_sql_exec(st, sql, err));
    TRY(tr_sql_exec(st, "COMMIT", err));
out:
    return rc;
}

/* Tables that are not ours to the letter, views and triggers could make our
 * statements do what we did not write. */
static int check_schema(struct tr_store *st, int64_t layout,
                        struct tr_err *err)
{
    sqlite3_stmt *s = NULL;
    int missing = 0, rc = TR_OK, more;

    for (int i = 0; i < TABLES; i++)
        missing += schema[i].since <= layout;

    if (sqlite3_prepare_v2(st->db, "SELECT sql FROM sqlite_master WHERE sql "
                           "IS NOT NULL AND name <> 'sqlite_sequence'", -1, &s,
                           NULL) != SQLITE_OK)
        TRY(tr_sql_fail(st, err, "opening"));
    while ((more = sqlite3_step(s)) == SQLITE_ROW) {
        bool known = false;

        for (int i = 0; i < TABLES; i++)
            known |= schema[i].since <= layout &&
                     tr_str_eq_c(tr_sql_text(s, 0), schema[i].sql);
        if (!known)
            TRY(tr_sql_damaged(st, "the schema", err));
        missing--;
    }
    if (more != SQLITE_DONE)
        TRY(tr_sql_fail(st, err, "opening"));
    if (missing)
        TRY(tr_sql_damaged(st, "the schema", err));
out:
    sqlite3_finalize(s);
    return rc;
}

int tr_layout_check(struct tr_store *st, struct tr_err *err)
{
    int64_t version, app, objects;
    int rc = TR_OK;

    TRY(tr_sql_number(st, "PRAGMA user_version", &version, err));
    TRY(tr_sql_number(st, "PRAGMA application_id", &app, err));
    TRY(tr_sql_number(st, "SELECT count(*) FROM sqlite_master", &objects, err));
    if (!version && !app && !objects && st->was_made)
        return tr_sql_damaged(st, "its content", err);
    if (!version && !app && !objects && !st->read_only)
        return add_tables(st, 0, err);
    if (app != APPLICATION_ID)
        return tr_fail(err, TR_CONFIG, "%s is not a store of trommel: choose "
                       "another folder with --store", tr_sql_name(st));
    if (version > TR_STORE_LAYOUT)
        return tr_fail(err, TR_CONFIG, "%s was written by a newer trommel "
                       "(layout %" PRId64 ", this program knows %d): upgrade "
                       "trommel", tr_sql_name(st), version, TR_STORE_LAYOUT);
    TRY(check_schema(st, version, err));
    if (version < TR_STORE_LAYOUT)
        TRY(add_tables(st, version, err));
out:
    return rc;
}

/* ---- settings --------------------------------------------------------- */

/* A log of some length is merged into the file. SQLite's own hook does that as
 * well and keeps errors for itself: the sync of a log that nobody synced before
 * (answers are saved so) may fail there, the kernel calls those pages clean,
 * and a commit behind them would be lost with them. The commit that is told so
 * is in the log all the same. What else fails is tried again. */
static int merge_log(void *ctx, sqlite3 *db, const char *name, int pages)
{
    (void)ctx;

    if (pages < TR_LOG_PAGES)
        return SQLITE_OK;
    if (sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, NULL,
                                  NULL) == SQLITE_OK)
        return SQLITE_OK;
    return sqlite3_extended_errcode(db) == SQLITE_IOERR_FSYNC
               ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}

int tr_layout_configure(struct tr_store *st, struct tr_err *err)
{
    /* Enough for our own statements; a file from elsewhere gets no more. */
    static const struct {
        int id, most;
    } limits[] = {
        {SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX},
        {SQLITE_LIMIT_SQL_LENGTH, 20000}, {SQLITE_LIMIT_ATTACHED, 0},
        {SQLITE_LIMIT_COLUMN, 40},        {SQLITE_LIMIT_EXPR_DEPTH, 50},
        {SQLITE_LIMIT_FUNCTION_ARG, 8},   {SQLITE_LIMIT_COMPOUND_SELECT, 8},
        {SQLITE_LIMIT_TRIGGER_DEPTH, 1},  {SQLITE_LIMIT_WORKER_THREADS, 0},
        {SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 100},
    };
    char pragma[200];
    int rc = TR_OK;

    sqlite3_extended_result_codes(st->db, 1);
    sqlite3_busy_timeout(st->db, 2000);
    sqlite3_db_config(st->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(st->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(st->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_db_config(st->db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    sqlite3_db_config(st->db, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    sqlite3_db_config(st->db, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    sqlite3_db_config(st->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        sqlite3_limit(st->db, limits[i].id, limits[i].most);
    /* Before anything that reads the file: a log that was met without it is
     * shared by memory beside the file from then on. */
    if (!st->temporary && !st->read_only)
        TRY(tr_sql_exec(st, "PRAGMA locking_mode = EXCLUSIVE", err));
    snprintf(pragma, sizeof pragma, "PRAGMA cache_size = -%u;"
             "PRAGMA mmap_size = 0; PRAGMA cell_size_check = ON;"
             "PRAGMA secure_delete = OFF; PRAGMA temp_store = MEMORY;",
             TR_STORE_READ_CACHE_BYTES / 1024);
    TRY(tr_sql_exec(st, pragma, err));
    if (st->temporary)
        TRY(tr_sql_exec(st, "PRAGMA journal_mode = MEMORY;"
                            "PRAGMA synchronous = OFF", err));
    if (st->temporary || st->read_only)
        return TR_OK;
    snprintf(pragma, sizeof pragma, "PRAGMA journal_mode = WAL;"
             "PRAGMA synchronous = FULL; PRAGMA journal_size_limit = %d;",
             TR_LOG_BYTES);
    TRY(tr_sql_exec(st, pragma, err));
    sqlite3_wal_hook(st->db, merge_log, NULL);
out:
    return rc;
}

/* ---- what is missing -------------------------------------------------- */

/* A number among the small values, 0 where there is none (yet). */
static int read_value(struct tr_store *st, const char *name, int64_t *n,
                      struct tr_err *err)
{
    char sql[100];
    int rc = TR_OK;

    *n = 0;
    TRY(tr_sql_number(st, "SELECT count(*) FROM sqlite_master"
                          " WHERE type = 'table' AND name = 'value'", n, err));
    if (!*n)
        return TR_OK;
    snprintf(sql, sizeof sql, "SELECT coalesce((SELECT value FROM value"
             " WHERE name = '%s'), 0)", name);
    TRY(tr_sql_number(st, sql, n, err));
out:
    return rc;
}

/* SQLite reads its log as far as it is good, and what is behind that never
 * happened. So it does with one that was cut or lost a bit; and without the
 * log it takes the file as it was when both were merged last. */
int tr_layout_whole(struct tr_store *st, struct tr_err *err)
{
    int64_t in_use, was = tr_lock_commits(st->lock_fd);
    int rc = TR_OK;

    if (!st->path[0])
        return TR_OK;
    TRY(read_value(st, "commits", &st->commits, err));
    TRY(read_value(st, TR_IN_USE, &in_use, err));
    st->in_use = in_use != 0;
    if (st->commits < was)
        return tr_fail(err, TR_CONFIG, "%s: its last %" PRId64 " changes are "
                       "missing: the -wal file beside it was damaged or "
                       "removed, or this is an older copy. Restore both; or, "
                       "to go on with what is left (the rest would be paid "
                       "again, and a budget may not know of all of it: lower "
                       "yours to be sure), remove the .lock file beside it",
                       st->path, was - st->commits);
    if (st->in_use && st->commits != was && !st->had_log)
        return tr_fail(err, TR_CONFIG, "%s was copied while a run was at work, "
                       "or stands without its -wal file, which holds the last "
                       "answers. Copy both when no run is at work; or, to go "
                       "on with what is left (the rest would be paid again, "
                       "and a budget may not know of all of it: lower yours "
                       "to be sure), make an empty -wal file beside it",
                       st->path);
out:
    return rc;
}

/* ---- what an earlier run left in the log ------------------------------ */

/* Each byte as it is, and on the disk. */
static bool write_anew(int fd)
{
    char bytes[16 << 10];
    off_t at = 0;
    ssize_t n;

    while ((n = pread(fd, bytes, sizeof bytes, at)) > 0) {
        errno = ENOSPC; /* a part of it says nothing */
        if (pwrite(fd, bytes, (size_t)n, at) != n)
            return false;
        at += n;
    }
    return n == 0 && (at == 0 || fsync(fd) == 0);
}

static int renew_log(const struct tr_store *st, struct tr_err *err)
{
    char wal[sizeof st->path + 4];
    bool ok;
    int fd;

    snprintf(wal, sizeof wal, "%s-wal", st->path);
    fd = open(wal, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    ok = fd >= 0 && write_anew(fd);
    if (!ok)
        tr_fail(err, TR_IO, "%s: %s; check the disk (full, or failing?) and "
                "run the same command again", wal, strerror(errno));
    if (fd >= 0)
        close(fd);
    return ok ? TR_OK : TR_IO;
}

/* A sync that fails is not repeated by the next one: what is in the log can be
 * read, and may not be on the disk. While it is merged it alone mends a page
 * that is torn when that fails as well. */
int tr_layout_merge(struct tr_store *st, struct tr_err *err)
{
    int rc = TR_OK;

    if (st->temporary || st->read_only)
        return TR_OK;
    if (st->had_log)
        TRY(renew_log(st, err));
    TRY(tr_sql_exec(st, "PRAGMA wal_checkpoint = TRUNCATE", err));
out:
    return rc;
}
