/* store.c - verdicts, attempts in flight and money in one SQLite file.
 *
 * Keys are digests, so the rows of a commit fall anywhere in the tree: they
 * are sorted first, and so are the keys of a look-up. Whatever is added
 * between two commits stands in one open transaction. Answers that are only
 * saved wait in the table `fresh`, one row for each save, and the next commit
 * puts them where they belong: a save writes a page or two instead of one for
 * each answer.
 *
 * The file may have been damaged or made by somebody else. So its schema must
 * be ours to the letter, and every verdict and label set carries a check of
 * its own bits: a changed bit is an error, never a wrong label.
 *
 * SPDX-License-Identifier: MIT */
#include "store/store.h"

#include "base/bounds.h"
#include "base/dirs.h"
#include "base/mem.h"
#include "store/lock.h"
#include "store/rescue.h"
#include "store/verdict.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define APPLICATION_ID 0x54524f4d /* "TROM" */
#define VALUE_BYTES_MAX (64 << 20) /* one small value: a local fit is 10 MB */

/* what and v are a verdict as two integers, see tr_verdict_pack(). attempt.id
 * never repeats: AUTOINCREMENT keeps its high-water mark in the file. tally
 * counts verdicts per origin, so that looking needs no scan. in_batch.keys are
 * the keys of the attempt's rows one after another, digest is over them, seed
 * and number; of_batch 0: it waits for a batch and has never left. since: the
 * layout that brought the table; an older file gets what it lacks when it is
 * opened. */
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

#define STATEMENTS(X)                                                          \
    X(BEGIN, "BEGIN IMMEDIATE")                                                \
    X(COMMIT, "COMMIT")                                                        \
    X(FIND, "SELECT what, v FROM answer WHERE key = ?1")                       \
    X(HOLD, "SELECT slot FROM tally")                                          \
    X(ADD, "INSERT OR IGNORE INTO answer VALUES(?1, ?2, ?3)")                  \
    X(REPLACE, "UPDATE answer SET what = ?2, v = ?3 WHERE key = ?1")           \
    X(STAGE, "INSERT INTO fresh VALUES(NULL, ?1)")                             \
    X(STAGED, "SELECT answers FROM fresh ORDER BY id")                         \
    X(UNSTAGE, "DELETE FROM fresh")                                            \
    X(TALLY, "INSERT OR REPLACE INTO tally VALUES(?1, ?2, ?3)")                \
    X(TALLIES, "SELECT slot, answers, failures FROM tally")                    \
    X(INTENT, "INSERT INTO attempt VALUES(?1, ?2, ?3, ?4, ?5, ?6, 0)")         \
    X(SETTLE, "DELETE FROM attempt WHERE id = ?1")                             \
    X(UNKNOWN, "UPDATE attempt SET unknown = 1, bound = ?2 WHERE id = ?1")     \
    X(UNKNOWN_SUM, "SELECT count(*), coalesce(sum(bound), 0) FROM attempt")    \
    X(UNHEARD_SUM, "SELECT count(*), coalesce(sum(bound), 0) FROM attempt"     \
        " WHERE id NOT IN (SELECT attempt FROM in_batch)")                     \
    X(FORGIVE, "DELETE FROM attempt")                                          \
    X(LOST_COUNT, "UPDATE job SET requests = requests + (SELECT count(*)"      \
        " FROM attempt WHERE of_job = job.id AND of_round = job.round"         \
        " AND unknown = 0 AND id NOT IN (SELECT attempt FROM in_batch))")      \
    X(LOST, "UPDATE attempt SET unknown = 1 WHERE unknown = 0"                 \
        " AND id NOT IN (SELECT attempt FROM in_batch)")                       \
    X(JOB_MAKE, "INSERT OR IGNORE INTO job"                                    \
        " VALUES(NULL, ?1, 0, 0, 0, 0, 0, 0, 0, 0, 0)")                        \
    X(JOB_ROUND, "UPDATE job SET round = round + 1, under_way = 1,"            \
        " started_at = ?2, before = before + spent, spent = 0, requests = 0,"  \
        " tokens_in = 0, tokens_out = 0, tokens_cached = 0"                    \
        " WHERE name = ?1 AND under_way = 0")                                  \
    X(JOB_READ, "SELECT job.id, round, started_at, spent, requests,"           \
        " tokens_in, tokens_out, tokens_cached,"                               \
        " coalesce(sum(bound * (unknown <> 0)), 0),"                           \
        " coalesce(sum(unknown <> 0), 0),"                                     \
        " coalesce(sum(max(bound, 0) * (unknown = 0)), 0),"                    \
        " coalesce(sum(unknown = 0), 0)"                                       \
        " FROM job LEFT JOIN attempt ON of_job = job.id"                       \
        " AND of_round = job.round WHERE name = ?1"                            \
        " GROUP BY job.id")                                                    \
    X(JOB_ADD, "UPDATE job SET spent = spent + ?2, requests = requests + ?3,"  \
        " tokens_in = tokens_in + ?4, tokens_out = tokens_out + ?5,"           \
        " tokens_cached = tokens_cached + ?6 WHERE id = ?1")                   \
    X(PLEDGE, "INSERT OR REPLACE INTO value VALUES('tokens:' || ?1, ?2)")      \
    X(UNPLEDGE, "DELETE FROM value WHERE name = 'tokens:' || ?1")              \
    X(PLEDGED, "SELECT coalesce(sum(value * (unknown <> 0)), 0),"              \
        " coalesce(sum(value * (unknown = 0)), 0) FROM value, attempt"         \
        " WHERE name = 'tokens:' || attempt.id AND of_job = ?1"                \
        " AND of_round = ?2")                                                  \
    X(UNPLEDGE_ALL, "DELETE FROM value WHERE name >= 'tokens:'"                \
        " AND name < 'tokens;'")                                               \
    X(JOB_FINISH, "UPDATE job SET under_way = 0 WHERE id = ?1")                \
    X(JOB_SUM, "SELECT coalesce(sum(before + spent), 0),"                      \
        " coalesce(min(nullif(started_at, 0)), 0) FROM job")                   \
    X(ORIGIN, "INSERT INTO origin VALUES(?1, ?2, ?3, ?4, ?5, ?6)")             \
    X(ORIGINS, "SELECT id, by, served, effort, prompt, run_at FROM origin"     \
        " ORDER BY id")                                                        \
    X(SET, "INSERT INTO label_set VALUES(?1, ?2, ?3)")                         \
    X(SETS, "SELECT id, names, digest FROM label_set ORDER BY id")             \
    X(HIGH_WATER, "SELECT coalesce(max(seq), 0) FROM main.sqlite_sequence"     \
        " WHERE name = 'attempt'")                                             \
    X(VALUE_GET, "SELECT value FROM value WHERE name = ?1")                    \
    X(VALUE_SET, "INSERT OR REPLACE INTO value VALUES(?1, ?2)")                \
    X(NO_PLEDGE, "DELETE FROM value WHERE name IN (SELECT"                     \
        " 'tokens:' || attempt FROM in_batch WHERE of_batch = 0)")             \
    X(NEVER_LEFT, "DELETE FROM attempt WHERE id IN"                            \
        " (SELECT attempt FROM in_batch WHERE of_batch = 0)")                  \
    X(NOT_WAITING, "DELETE FROM in_batch WHERE of_batch = 0")                  \
    X(WAIT_BATCH, "INSERT INTO in_batch VALUES(?1, 0, ?2, ?3)")                \
    X(JOIN_BATCH, "UPDATE in_batch SET of_batch = ?2 WHERE attempt = ?1")      \
    X(LEAVE_BATCH, "DELETE FROM in_batch WHERE attempt = ?1")                  \
    X(EMPTY_BATCHES, "DELETE FROM batch WHERE id NOT IN"                       \
        " (SELECT of_batch FROM in_batch)")                                    \
    X(LEAVE_ALL, "DELETE FROM in_batch")                                       \
    X(BATCH_ADD, "INSERT INTO batch VALUES(NULL, ?1, ?2, ?3, ?4, '', '')")     \
    X(BATCH_OPENED, "UPDATE batch SET state = ?1, name = ?2, file = ?3"        \
        " WHERE id = ?4")                                                      \
    X(BATCHES, "SELECT id, state, created_at, lane, mark, name, file,"         \
        " (SELECT count(*) FROM in_batch WHERE of_batch = batch.id)"           \
        " FROM batch ORDER BY id")                                             \
    X(ITEMS, "SELECT id, seed, bound, of_job, of_round, keys, digest,"         \
        " coalesce((SELECT value FROM value WHERE name = 'tokens:' || id), 0)" \
        " FROM in_batch"                                                       \
        " JOIN attempt ON id = attempt WHERE of_batch = ?1 ORDER BY id")       \
    X(JOB_ADD_OF, "UPDATE job SET"                                             \
        " spent = spent + ?2 * (round = a.of_round),"                          \
        " before = before + ?2 * (round <> a.of_round),"                       \
        " requests = requests + ?6 * (round = a.of_round),"                    \
        " tokens_in = tokens_in + ?3 * (round = a.of_round),"                  \
        " tokens_out = tokens_out + ?4 * (round = a.of_round),"                \
        " tokens_cached = tokens_cached + ?5 * (round = a.of_round)"           \
        " FROM (SELECT of_job, of_round FROM attempt"                          \
        " WHERE id = ?1 AND unknown = 0) AS a"                                 \
        " WHERE job.id = a.of_job")

enum stmt {
#define X(name, sql) S_##name,
    STATEMENTS(X)
#undef X
    S_COUNT
};
static const char *const stmt_sql[S_COUNT] = {
#define X(name, sql) [S_##name] = sql,
    STATEMENTS(X)
#undef X
};

struct tr_store {
    sqlite3 *db;
    sqlite3_stmt *stmts[S_COUNT];
    char path[4096];      /* "": temporary or in memory */
    bool temporary;       /* nobody reads it after us */
    bool simulated;       /* in memory, yet read after a crash */
    bool read_only;
    bool cache_small;     /* answers are written: shrink_cache() */
    dev_t device;         /* the file behind path: it must stay there */
    ino_t inode;
    int lock_fd;
    bool in_transaction;
    bool no_sync;         /* as SQLite was told last */
    bool unsynced;        /* saved, and no commit since */
    struct tr_err failed; /* code != 0: a change failed, none succeeds again */
    struct tr_rescue rescue; /* for what comes after that */
    size_t origins_kept, sets_kept; /* of the lists below: in the file, or in
                             the rescue file */
    struct tr_origin *origins;
    size_t origin_count, origin_cap;
    struct tally {
        int64_t answers, failures;
        bool changed;     /* since the last commit */
    } *tallies;           /* origin_count + 1, see slot_of() */
    size_t tally_cap;
    struct tr_str *sets;  /* owned texts */
    size_t set_count, set_cap;
    uint64_t next_attempt;
    int64_t job, round;   /* 0: none begun */
    bool pledges;         /* attempts may have a bound in tokens among values */
    /* What the next merge puts into `answer`: `fresh`, and what a commit
     * brings with it. */
    struct tr_store_put *puts;
    size_t put_count, put_cap;
    const struct tr_store_put **sorted;
    size_t sorted_cap;
    bool staged;          /* `fresh` holds rows */
    unsigned char *blob;  /* a row of `fresh` in the making */
    size_t blob_cap;
    struct lookup {       /* one key of a batch */
        struct tr_key key;
        uint32_t at;      /* its place in the caller's array */
    } *lookups;
    size_t lookup_cap;
    unsigned char *filter; /* NULL: the table held rows when it was opened */
};

/* ---- errors and statements -------------------------------------------- */

/* What SQLite says, and what the person can do about it. */
static const struct {
    int sqlite;
    int code;
    const char *next;
} advice[] = {
    {SQLITE_FULL, TR_IO, "the disk is full: free space and run the same "
     "command again; what is committed is safe"},
    {SQLITE_CORRUPT, TR_CONFIG, "the file is damaged: restore it, or move it "
     "away to begin anew (its answers would be paid again)"},
    {SQLITE_NOTADB, TR_CONFIG, "the file is damaged or no store of trommel: "
     "restore it, or move it away to begin anew (its answers would be paid "
     "again)"},
    {SQLITE_READONLY, TR_IO, "make the file and its folder writable, or "
     "choose another with --store"},
    {SQLITE_CANTOPEN, TR_IO, "make the file and its folder writable, or "
     "choose another with --store"},
    {SQLITE_PERM, TR_IO, "make the file and its folder writable, or choose "
     "another with --store"},
    {SQLITE_BUSY, TR_STOPPED, "another program has the file open: close it "
     "and run the same command again"},
    {SQLITE_NOMEM, TR_NOMEM, "run the same command again with more memory; "
     "what is committed is safe"},
    {SQLITE_CONSTRAINT, TR_BUG, "a fault of trommel, please report it; what "
     "is committed is safe"},
    {SQLITE_IOERR, TR_IO, "check the disk (full, or failing?) and run the "
     "same command again; what is committed is safe"},
    {-1, TR_IO, "run the same command again; what is committed is safe"},
};

static const char *name_of(const struct tr_store *st)
{
    return st->path[0] ? st->path : "the temporary store";
}

static int sql_fail(struct tr_store *st, struct tr_err *err, const char *what)
{
    int rc = sqlite3_errcode(st->db) & 0xff;
    const char *next;
    size_t i = 0;

    while (advice[i].sqlite != rc && advice[i].sqlite != -1)
        i++;
    next = advice[i].next;
    if (rc == SQLITE_CANTOPEN) /* it may be for want of descriptors */
        next = tr_errno_remedy(sqlite3_system_errno(st->db), next);
    return tr_fail(err, advice[i].code, "%s: %s: %s; %s", name_of(st), what,
                   sqlite3_errmsg(st->db), next);
}

static int damaged(const struct tr_store *st, const char *what,
                   struct tr_err *err)
{
    return tr_fail(err, TR_CONFIG, "%s: %s was changed or damaged on disk: "
                   "restore the file, or move it away to begin anew (its "
                   "answers would be paid again)", name_of(st), what);
}

static int exec(struct tr_store *st, const char *sql, struct tr_err *err)
{
    return sqlite3_exec(st->db, sql, NULL, NULL, NULL) == SQLITE_OK
        ? TR_OK : sql_fail(st, err, "writing");
}

/* Steps once; *row says whether there is one. The caller resets. */
static int step(struct tr_store *st, enum stmt which, bool *row,
                struct tr_err *err)
{
    int rc = sqlite3_step(st->stmts[which]);

    *row = rc == SQLITE_ROW;
    return rc == SQLITE_ROW || rc == SQLITE_DONE
        ? TR_OK : sql_fail(st, err, "reading");
}

/* Runs a statement that gives no rows. */
static int run(struct tr_store *st, enum stmt which, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[which];
    int rc = sqlite3_step(s) == SQLITE_DONE ? TR_OK
                                            : sql_fail(st, err, "writing");

    sqlite3_reset(s);
    return rc;
}

/* Runs it with the integers given for ?1, ?2, ... */
static int run_with(struct tr_store *st, enum stmt which, struct tr_err *err,
                    const int64_t *values, int n)
{
    for (int i = 0; i < n; i++)
        sqlite3_bind_int64(st->stmts[which], i + 1, values[i]);
    return run(st, which, err);
}

#define RUN(st, which, err, ...)                                               \
    run_with(st, which, err, (const int64_t[]){__VA_ARGS__},                   \
             (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))

static void bind_text(struct tr_store *st, enum stmt which, int at,
                      struct tr_str text)
{
    sqlite3_bind_text64(st->stmts[which], at, text.n ? text.p : "", text.n,
                        SQLITE_STATIC, SQLITE_UTF8);
}

static void bind_key(struct tr_store *st, enum stmt which,
                     const struct tr_key *key)
{
    sqlite3_bind_blob(st->stmts[which], 1, key->b, sizeof key->b,
                      SQLITE_STATIC);
}

static struct tr_str text_at(sqlite3_stmt *s, int column)
{
    const char *p = (const char *)sqlite3_column_text(s, column);

    return tr_str(p ? p : "", (size_t)sqlite3_column_bytes(s, column));
}

/* One number of a query that is asked once, while opening. */
static int number(struct tr_store *st, const char *sql, int64_t *n,
                  struct tr_err *err)
{
    sqlite3_stmt *s = NULL;
    int rc = TR_OK;

    *n = 0;
    if (sqlite3_prepare_v2(st->db, sql, -1, &s, NULL) != SQLITE_OK ||
        sqlite3_step(s) != SQLITE_ROW)
        rc = sql_fail(st, err, "opening");
    else
        *n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return rc;
}

/* Every change goes through begin() first and, when it fails, through
 * give_up(): a disk that failed once is not asked again. Whether its end is
 * synced is settled here, because SQLite changes that only between two
 * transactions. In WAL mode one under NORMAL writes the log and does not
 * sync. */
static int begin_with(struct tr_store *st, bool sync, struct tr_err *err)
{
    int rc = TR_OK;

    if (st->failed.code)
        return tr_fail(err, st->failed.code, "%s", st->failed.text);
    if (st->in_transaction)
        return TR_OK;
    if (sync == st->no_sync && !st->temporary)
        TRY(exec(st, sync ? "PRAGMA synchronous = FULL"
                          : "PRAGMA synchronous = NORMAL", err));
    st->no_sync = !sync;
    TRY(run(st, S_BEGIN, err));
    st->in_transaction = true;
out:
    return rc;
}

static int begin(struct tr_store *st, struct tr_err *err)
{
    return begin_with(st, true, err);
}

static int end(struct tr_store *st, struct tr_err *err)
{
    int rc = run(st, S_COMMIT, err);

    if (rc != TR_OK)
        return rc;
    st->in_transaction = false;
    st->origins_kept = st->origin_count;
    st->sets_kept = st->set_count;
    return TR_OK;
}

static int give_up(struct tr_store *st, int rc, const struct tr_err *err)
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

static int room(void **array, size_t *cap, size_t need, size_t size,
                struct tr_err *err)
{
    size_t next = *cap ? *cap : 16;
    void *p;

    if (need <= *cap)
        return TR_OK;
    while (next < need)
        next *= 2;
    p = tr_resize(*array, next * size);
    if (!p)
        return tr_fail(err, TR_NOMEM, "store: out of memory");
    *array = p;
    *cap = next;
    return TR_OK;
}

/* ---- keys certainly not there ----------------------------------------- */

/* A Bloom filter, four bits in one 64-byte line: a store that was empty when
 * it was opened answers "unknown" without touching the tree. */
static unsigned char *line_of(const struct tr_store *st,
                              const struct tr_key *key)
{
    uint32_t h;

    memcpy(&h, key->b, sizeof h);
    return st->filter + (size_t)(h % (TR_FILTER_BYTES / 64)) * 64;
}

static bool filter_has(const struct tr_store *st, const struct tr_key *key)
{
    const unsigned char *line;

    if (!st->filter)
        return true;
    line = line_of(st, key);
    for (int i = 4; i < 12; i += 2) {
        unsigned bit = (key->b[i] | (unsigned)key->b[i + 1] << 8) & 511;

        if (!(line[bit / 8] >> (bit & 7) & 1))
            return false;
    }
    return true;
}

static void filter_add(struct tr_store *st, const struct tr_key *key)
{
    unsigned char *line;

    if (!st->filter)
        return;
    line = line_of(st, key);
    for (int i = 4; i < 12; i += 2) {
        unsigned bit = (key->b[i] | (unsigned)key->b[i + 1] << 8) & 511;

        line[bit / 8] |= (unsigned char)(1u << (bit & 7));
    }
}

/* ---- opening: what the file says -------------------------------------- */

/* Slot 0 is for verdicts without origin. */
static size_t slot_of(uint16_t origin)
{
    return origin == TR_NO_ORIGIN ? 0 : (size_t)origin + 1;
}

/* Room for one more origin and its tally. */
static int origin_room(struct tr_store *st, struct tr_err *err)
{
    int rc = room((void **)&st->origins, &st->origin_cap, st->origin_count + 1,
                  sizeof *st->origins, err);

    if (rc == TR_OK)
        rc = room((void **)&st->tallies, &st->tally_cap, st->origin_count + 2,
                  sizeof *st->tallies, err);
    if (rc == TR_OK)
        st->tallies[st->origin_count + 1] = (struct tally){0};
    return rc;
}

static void forget(struct tr_store *st)
{
    for (size_t i = 0; i < st->set_count; i++)
        tr_free((char *)st->sets[i].p);
    st->set_count = st->origin_count = 0;
}

static int remember_set(struct tr_store *st, struct tr_str names,
                        struct tr_err *err)
{
    char *copy;
    int rc = room((void **)&st->sets, &st->set_cap, st->set_count + 1,
                  sizeof *st->sets, err);

    if (rc != TR_OK)
        return rc;
    copy = tr_dup(names.n ? names.p : "", names.n);
    if (!copy)
        return tr_fail(err, TR_NOMEM, "store: out of memory");
    st->sets[st->set_count++] = tr_str(copy, names.n);
    return TR_OK;
}

/* Takes column text over; false when it does not fit: not ours. */
static bool copy_text(char *out, size_t size, struct tr_str text)
{
    if (text.n >= size)
        return false;
    memcpy(out, text.p, text.n);
    out[text.n] = '\0';
    return true;
}

static int load_origins(struct tr_store *st, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_ORIGINS];
    bool row;
    int rc = TR_OK;

    for (;;) {
        struct tr_origin *o;

        TRY(step(st, S_ORIGINS, &row, err));
        if (!row)
            break;
        TRY(origin_room(st, err));
        o = &st->origins[st->origin_count];
        *o = (struct tr_origin){
            .prompt_version = sqlite3_column_int(s, 4),
            .run_at = sqlite3_column_int64(s, 5),
        };
        if (sqlite3_column_int64(s, 0) != (int64_t)st->origin_count ||
            st->origin_count >= TR_NO_ORIGIN ||
            !copy_text(o->by, sizeof o->by, text_at(s, 1)) ||
            !copy_text(o->served, sizeof o->served, text_at(s, 2)) ||
            !copy_text(o->effort, sizeof o->effort, text_at(s, 3)))
            TRY(damaged(st, "the list of models", err));
        st->origin_count++;
    }
out:
    sqlite3_reset(s);
    return rc;
}

/* A set's names and its number, in one checkable integer. */
static int64_t set_digest(struct tr_str names, size_t number)
{
    struct tr_key key = tr_digest(NULL, names);

    return (int64_t)(tr_little_endian(key.b) + number);
}

static int load_sets(struct tr_store *st, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_SETS];
    bool row;
    int rc = TR_OK;

    for (;;) {
        TRY(step(st, S_SETS, &row, err));
        if (!row)
            break;
        if (sqlite3_column_int64(s, 0) != (int64_t)st->set_count ||
            sqlite3_column_int64(s, 2) != set_digest(text_at(s, 1),
                                                     st->set_count))
            TRY(damaged(st, "the list of label sets", err));
        TRY(remember_set(st, text_at(s, 1), err));
    }
out:
    sqlite3_reset(s);
    return rc;
}

static int load_tallies(struct tr_store *st, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_TALLIES];
    bool row;
    int rc = TR_OK;

    for (;;) {
        int64_t slot;

        TRY(step(st, S_TALLIES, &row, err));
        if (!row)
            break;
        slot = sqlite3_column_int64(s, 0);
        if (slot < 0 || slot > (int64_t)st->origin_count)
            TRY(damaged(st, "the count of answers", err));
        st->tallies[slot] = (struct tally){sqlite3_column_int64(s, 1),
                                           sqlite3_column_int64(s, 2), false};
    }
out:
    sqlite3_reset(s);
    return rc;
}

/* Memory as the committed file has it. */
static int load(struct tr_store *st, struct tr_err *err)
{
    bool row;
    int rc = TR_OK;

    forget(st);
    TRY(room((void **)&st->tallies, &st->tally_cap, 1, sizeof *st->tallies,
             err));
    st->tallies[0] = (struct tally){0};
    TRY(load_origins(st, err));
    TRY(load_sets(st, err));
    st->origins_kept = st->origin_count;
    st->sets_kept = st->set_count;
    TRY(load_tallies(st, err));
    TRY(step(st, S_HIGH_WATER, &row, err));
    st->next_attempt =
        1 + (uint64_t)sqlite3_column_int64(st->stmts[S_HIGH_WATER], 0);
out:
    sqlite3_reset(st->stmts[S_HIGH_WATER]);
    return rc;
}

/* Tables that the file's layout does not have yet. A reader, who changes
 * nothing, sees empty ones that live in its own memory. */
static int add_tables(struct tr_store *st, int64_t layout, struct tr_err *err)
{
    char sql[200];
    int rc = TR_OK;

    if (!st->read_only) /* no statement is prepared yet */
        TRY(exec(st, "BEGIN IMMEDIATE", err));
    for (int i = 0; i < TABLES; i++) {
        if (schema[i].since <= layout)
            continue;
        snprintf(sql, sizeof sql, "CREATE TEMP%s",
                 schema[i].sql + strlen("CREATE"));
        TRY(exec(st, st->read_only ? sql : schema[i].sql, err));
    }
    if (st->read_only)
        return TR_OK;
    snprintf(sql, sizeof sql, "PRAGMA user_version = %d;"
             "PRAGMA application_id = %d;", TR_STORE_LAYOUT, APPLICATION_ID);
    TRY(exec(st, sql, err));
    TRY(exec(st, "COMMIT", err));
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
        TRY(sql_fail(st, err, "opening"));
    while ((more = sqlite3_step(s)) == SQLITE_ROW) {
        bool known = false;

        for (int i = 0; i < TABLES; i++)
            known |= schema[i].since <= layout &&
                     tr_str_eq_c(text_at(s, 0), schema[i].sql);
        if (!known)
            TRY(damaged(st, "the schema", err));
        missing--;
    }
    if (more != SQLITE_DONE)
        TRY(sql_fail(st, err, "opening"));
    if (missing)
        TRY(damaged(st, "the schema", err));
out:
    sqlite3_finalize(s);
    return rc;
}

/* New, ours, older, newer or foreign. */
static int check_layout(struct tr_store *st, struct tr_err *err)
{
    int64_t version, app, objects;
    int rc = TR_OK;

    TRY(number(st, "PRAGMA user_version", &version, err));
    TRY(number(st, "PRAGMA application_id", &app, err));
    TRY(number(st, "SELECT count(*) FROM sqlite_master", &objects, err));
    if (!version && !app && !objects && !st->read_only)
        return add_tables(st, 0, err);
    if (app != APPLICATION_ID)
        return tr_fail(err, TR_CONFIG, "%s is not a store of trommel: choose "
                       "another folder with --store", name_of(st));
    if (version > TR_STORE_LAYOUT)
        return tr_fail(err, TR_CONFIG, "%s was written by a newer trommel "
                       "(layout %" PRId64 ", this program knows %d): upgrade "
                       "trommel", name_of(st), version, TR_STORE_LAYOUT);
    TRY(check_schema(st, version, err));
    if (version < TR_STORE_LAYOUT)
        TRY(add_tables(st, version, err));
out:
    return rc;
}

static int configure(struct tr_store *st, struct tr_err *err)
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
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        sqlite3_limit(st->db, limits[i].id, limits[i].most);
    /* Before anything that reads the file: a log that was met without it is
     * shared by memory beside the file from then on. */
    if (!st->temporary && !st->read_only)
        TRY(exec(st, "PRAGMA locking_mode = EXCLUSIVE", err));
    snprintf(pragma, sizeof pragma, "PRAGMA cache_size = -%u;"
             "PRAGMA mmap_size = 0; PRAGMA cell_size_check = ON;"
             "PRAGMA secure_delete = OFF; PRAGMA temp_store = MEMORY;",
             TR_STORE_READ_CACHE_BYTES / 1024);
    TRY(exec(st, pragma, err));
    if (st->temporary)
        TRY(exec(st, "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF",
                 err));
    else if (!st->read_only)
        TRY(exec(st, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                 "PRAGMA journal_size_limit = 67108864;"
                 "PRAGMA wal_autocheckpoint = 12000;"
                 /* What an earlier run left in the log may not be on the disk
                  * although it can be read: a sync that fails is not repeated
                  * by the next one. So nothing is added to it: it is merged,
                  * by writing anew, before this run trusts it. */
                 "PRAGMA wal_checkpoint = TRUNCATE", err));
out:
    return rc;
}

static int recover(struct tr_store *st, struct tr_err *err);

/* Everything about a connection that was just opened. */
static int set_up(struct tr_store *st, struct tr_err *err)
{
    int64_t any;
    int rc = TR_OK;

    TRY(configure(st, err));
    TRY(check_layout(st, err));
    for (int i = 0; i < S_COUNT; i++)
        if (sqlite3_prepare_v3(st->db, stmt_sql[i], -1,
                               SQLITE_PREPARE_PERSISTENT, &st->stmts[i],
                               NULL) != SQLITE_OK)
            TRY(sql_fail(st, err, "opening"));
    TRY(load(st, err));
    TRY(recover(st, err));
    TRY(number(st, "SELECT EXISTS(SELECT 1 FROM answer)", &any, err));
    if (!any && !st->read_only)
        st->filter = tr_alloc(TR_FILTER_BYTES); /* without it: only slower */
out:
    return rc;
}

/* ---- opening: files and folders --------------------------------------- */

static int make_folder(const char *folder, struct tr_err *err)
{
    struct stat sb;
    int bad;

    if (strlen(folder) >= 4096 - 40)
        return tr_fail(err, TR_CANTCREATE, "--store: the path is too long");
    bad = tr_dirs_make(folder);
    if (bad)
        return tr_fail(err, TR_CANTCREATE, "%s: the folder for the store "
                       "cannot be made (%s): make it, or choose another with "
                       "--store", folder, strerror(bad));
    /* SQLite opens by name what we looked at by descriptor. */
    if (stat(folder, &sb) == 0 && (sb.st_mode & S_IWOTH) &&
        !(sb.st_mode & S_ISVTX))
        return tr_fail(err, TR_CANTCREATE, "%s: everybody may put other files "
                       "in the place of ours there; run chmod o-w on it, or "
                       "choose another with --store", folder);
    return TR_OK;
}

/* Made with its mode before SQLite sees it: never readable by others, not
 * even for a moment. SQLite gives its other files the same mode. */
static int make_file(struct tr_store *st, struct tr_err *err)
{
    int flags = st->read_only ? O_RDONLY : O_RDWR | O_CREAT;
    int fd = open(st->path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    char wal[4200], journal[4200];
    struct stat sb, other, made;
    int rc = TR_OK;

    if (fd < 0)
        return tr_fail(err, !st->read_only ? TR_CANTCREATE
                       : errno == ENOENT ? TR_NOINPUT : TR_IO,
                       "%s: %s; %s", st->path, strerror(errno),
                       tr_errno_remedy(errno, "choose another folder with "
                                              "--store"));
    if (fstat(fd, &sb) != 0)
        rc = tr_fail(err, TR_IO, "%s: %s", st->path, strerror(errno));
    else if (sb.st_uid != geteuid())
        rc = tr_fail(err, TR_CONFIG, "%s belongs to another user, who may "
                     "have made up its answers: choose another folder with "
                     "--store", st->path);
    st->device = sb.st_dev;
    st->inode = sb.st_ino;
    snprintf(wal, sizeof wal, "%s-wal", st->path);
    snprintf(journal, sizeof journal, "%s-journal", st->path);
    /* SQLite would take an empty file for a new one and throw away what the
     * file beside it still holds. A rollback journal is there only until the
     * file is made: nothing was ever kept in it. */
    if (rc == TR_OK && !sb.st_size && stat(wal, &other) == 0 &&
        other.st_size && !(stat(journal, &made) == 0 && made.st_size))
        rc = damaged(st, "its content", err);
    if (rc == TR_OK && !sb.st_size && !st->read_only) {
        fchmod(fd, 0600); /* whatever the umask */
        tr_dirs_sync(st->path); /* SQLite syncs what matters */
    }
    close(fd); /* before SQLite locks it: closing would drop its locks */
    return rc;
}

static int open_files(struct tr_store *st, const struct tr_store_opts *o,
                      struct tr_err *err)
{
    char hex[33];
    int rc = TR_OK;

    if (!o->read_only)
        TRY(make_folder(o->folder, err));
    tr_key_hex(&o->task, 16, hex);
    if ((size_t)snprintf(st->path, sizeof st->path - 8, "%s/%s.db", o->folder,
                         hex) >= sizeof st->path - 8)
        TRY(tr_fail(err, TR_CANTCREATE, "--store: the path is too long"));
    if (o->read_only) {
        struct tr_holder who;

        if (!tr_lock_share(st->path, &st->lock_fd, &who))
            TRY(tr_lock_held(st->path, &who, err));
    } else {
        TRY(tr_lock_take(st->path, o->task_name, o->wait_lock, &st->lock_fd,
                         err));
    }
    TRY(make_file(st, err));
out:
    return rc;
}

static int open_db(struct tr_store *st, const char *name, struct tr_err *err)
{
    int flags = st->read_only ? SQLITE_OPEN_READONLY
                              : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    int rc = sqlite3_open_v2(name, &st->db, flags | SQLITE_OPEN_NOMUTEX, NULL);

    if (!st->db)
        return tr_fail(err, TR_NOMEM, "store: out of memory");
    return rc == SQLITE_OK ? set_up(st, err) : sql_fail(st, err, "opening");
}

static struct tr_store *fresh_store(void)
{
    struct tr_store *st = tr_alloc(sizeof *st);

    if (st) {
        st->lock_fd = -1;
        tr_rescue_init(&st->rescue);
    }
    return st;
}

int tr_store_open(struct tr_store **out, const struct tr_store_opts *o,
                  struct tr_err *err)
{
    struct tr_store *st = fresh_store();
    int rc = TR_OK;

    *out = NULL;
    if (!st)
        return tr_fail(err, TR_NOMEM, "store: out of memory");
    st->read_only = o->read_only;
    st->temporary = !o->folder;
    if (o->folder)
        TRY(open_files(st, o, err));
    TRY(open_db(st, st->path, err)); /* "": SQLite's own unlinked file */
    if (o->task_name && !o->read_only)
        TRY(tr_store_set(st, "task", tr_str_c(o->task_name), err));
    *out = st; /* handed over */
    st = NULL;
out:
    tr_store_close(st);
    return rc;
}

static bool read_hex(const char *hex, struct tr_key *key)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < 2 * sizeof key->b; i++) {
        const char *at = hex[i] ? strchr(digits, hex[i]) : NULL;

        if (!at)
            return false;
        key->b[i / 2] = (unsigned char)(key->b[i / 2] << 4 | (at - digits));
    }
    return true;
}

int tr_store_open_path(struct tr_store **out, const char *path, bool read_only,
                       struct tr_err *err)
{
    struct tr_store_opts o = {.read_only = read_only};
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    char folder[4096] = ".";

    *out = NULL;
    if (slash)
        snprintf(folder, sizeof folder, "%.*s",
                 slash == path ? 1 : (int)(slash - path), path);
    if (!read_hex(name, &o.task) || access(path, F_OK) != 0)
        return tr_fail(err, TR_NOINPUT, "%s: no such store", path);
    o.folder = folder;
    return tr_store_open(out, &o, err);
}

int tr_store_open_memory(struct tr_store **out, struct tr_err *err)
{
    struct tr_store *st = fresh_store();
    int rc = TR_OK;

    *out = NULL;
    if (!st)
        return tr_fail(err, TR_NOMEM, "store: out of memory");
    st->temporary = st->simulated = true;
    TRY(open_db(st, ":memory:", err));
    *out = st;
    st = NULL;
out:
    tr_store_close(st);
    return rc;
}

int tr_store_crash(struct tr_store *st, struct tr_err *err)
{
    int rc = TR_OK;

    if (st->in_transaction)
        rc = exec(st, "ROLLBACK", err);
    st->in_transaction = false;
    st->failed.code = 0;
    st->job = st->round = 0;
    if (rc == TR_OK)
        rc = load(st, err);
    return rc == TR_OK ? recover(st, err) : rc;
}

void tr_store_close(struct tr_store *st)
{
    if (!st)
        return;
    for (int i = 0; i < S_COUNT; i++)
        sqlite3_finalize(st->stmts[i]);
    sqlite3_close(st->db); /* rolls an open transaction back */
    tr_rescue_close(&st->rescue, st->path);
    if (st->lock_fd >= 0)
        close(st->lock_fd);
    forget(st);
    tr_free(st->origins);
    tr_free(st->tallies);
    tr_free(st->sets);
    tr_free(st->puts);
    tr_free(st->sorted);
    tr_free(st->blob);
    tr_free(st->lookups);
    tr_free(st->filter);
    tr_free(st);
}

const char *tr_store_path(const struct tr_store *st)
{
    return st->path;
}

/* ---- origins and label sets ------------------------------------------- */

static bool same_origin(const struct tr_origin *a, const struct tr_origin *b)
{
    return a->run_at == b->run_at && a->prompt_version == b->prompt_version &&
           strcmp(a->by, b->by) == 0 && strcmp(a->served, b->served) == 0 &&
           strcmp(a->effort, b->effort) == 0;
}

/* The store has failed, but what comes now has a place to go. */
static bool rescues(const struct tr_store *st)
{
    return st->failed.code && st->rescue.fd >= 0;
}

static int write_origin(struct tr_store *st, const struct tr_origin *o,
                        struct tr_err *err)
{
    int rc = begin(st, err);

    if (rc != TR_OK)
        return rc;
    bind_text(st, S_ORIGIN, 2, tr_str_c(o->by));
    bind_text(st, S_ORIGIN, 3, tr_str_c(o->served));
    bind_text(st, S_ORIGIN, 4, tr_str_c(o->effort));
    sqlite3_bind_int(st->stmts[S_ORIGIN], 5, o->prompt_version);
    sqlite3_bind_int64(st->stmts[S_ORIGIN], 6, o->run_at);
    return RUN(st, S_ORIGIN, err, (int64_t)st->origin_count);
}

int tr_store_origin(struct tr_store *st, const struct tr_origin *o,
                    uint16_t *index, struct tr_err *err)
{
    int rc = TR_OK;

    for (size_t i = st->origin_count; i-- > 0; )
        if (same_origin(&st->origins[i], o)) {
            *index = (uint16_t)i;
            return TR_OK;
        }
    if (st->origin_count >= TR_NO_ORIGIN)
        return tr_fail(err, TR_CONFIG, "%s: too many runs and models in one "
                       "store: begin a new one with --store", name_of(st));
    TRY(origin_room(st, err));
    if (!rescues(st))
        TRY(write_origin(st, o, err));
    *index = (uint16_t)st->origin_count;
    st->origins[st->origin_count++] = *o;
out:
    return rc == TR_OK ? rc : give_up(st, rc, err);
}

const struct tr_origin *tr_store_origin_at(const struct tr_store *st,
                                           uint16_t index)
{
    return index < st->origin_count ? &st->origins[index] : NULL;
}

uint32_t tr_store_set_count(const struct tr_store *st)
{
    return (uint32_t)st->set_count;
}

struct tr_str tr_store_set_at(const struct tr_store *st, uint32_t i)
{
    return st->sets[i];
}

static int write_set(struct tr_store *st, struct tr_str names,
                     struct tr_err *err)
{
    int rc = begin(st, err);

    if (rc != TR_OK)
        return rc;
    bind_text(st, S_SET, 2, names);
    sqlite3_bind_int64(st->stmts[S_SET], 3, set_digest(names, st->set_count));
    return RUN(st, S_SET, err, (int64_t)st->set_count);
}

int tr_store_set_add(struct tr_store *st, struct tr_str names,
                     struct tr_err *err)
{
    int rc = TR_OK;

    if (!rescues(st))
        TRY(write_set(st, names, err));
    TRY(remember_set(st, names, err));
out:
    return rc == TR_OK ? rc : give_up(st, rc, err);
}

/* ---- verdicts --------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
    return tr_key_cmp(&((const struct lookup *)a)->key,
                      &((const struct lookup *)b)->key);
}

static bool counts(const struct tr_store *st, const struct tr_store_find *how,
                   const struct tr_verdict *v)
{
    const struct tr_origin *o = tr_store_origin_at(st, v->origin);
    int64_t at = o ? o->run_at : 0;

    return at >= how->not_before &&
           (v->why == TR_WHY_NONE || at >= how->failures_not_before) &&
           (!o || o->prompt_version >= how->min_prompt);
}

static bool origin_known(const struct tr_store *st, uint16_t origin)
{
    return origin == TR_NO_ORIGIN || origin < st->origin_count;
}

static int find_one(struct tr_store *st, const struct tr_key *key,
                    struct tr_verdict *out, bool *found, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_FIND];
    int rc;

    bind_key(st, S_FIND, key);
    rc = step(st, S_FIND, found, err);
    if (*found &&
        (!tr_verdict_unpack(key, sqlite3_column_int64(s, 0),
                         sqlite3_column_int64(s, 1), out) ||
         !origin_known(st, out->origin)))
        rc = damaged(st, "an answer", err);
    sqlite3_reset(s);
    return rc;
}

int tr_store_find(struct tr_store *st, const struct tr_store_find *how,
                  const struct tr_key *keys, size_t n,
                  struct tr_verdict *out, bool *found, struct tr_err *err)
{
    uint32_t asked = 0;
    bool held;
    int rc = room((void **)&st->lookups, &st->lookup_cap, n,
                  sizeof *st->lookups, err);

    if (rc != TR_OK)
        return rc;
    for (uint32_t i = 0; i < n; i++) {
        found[i] = false;
        if (filter_has(st, &keys[i]))
            st->lookups[asked++] = (struct lookup){keys[i], i};
    }
    if (!asked)
        return TR_OK;
    qsort(st->lookups, asked, sizeof *st->lookups, by_key);
    /* One read transaction for all of them, not one each: a row of it that
     * is not reset holds it open. */
    rc = step(st, S_HOLD, &held, err);
    for (uint32_t j = 0; j < asked && rc == TR_OK; j++) {
        uint32_t i = st->lookups[j].at;

        rc = find_one(st, &keys[i], &out[i], &found[i], err);
        found[i] = rc == TR_OK && found[i] && counts(st, how, &out[i]);
    }
    sqlite3_reset(st->stmts[S_HOLD]);
    return rc;
}

int64_t tr_store_count(const struct tr_store *st)
{
    int64_t n = 0;

    for (size_t i = 0; i <= st->origin_count; i++)
        n += st->tallies[i].answers;
    return n;
}

/* ---- one commit ------------------------------------------------------- */

/* By key; of equal ones the later put stands later, and stays. */
static int put_order(const void *a, const void *b)
{
    const struct tr_store_put *x = *(const struct tr_store_put *const *)a;
    const struct tr_store_put *y = *(const struct tr_store_put *const *)b;
    int order = tr_key_cmp(&x->key, &y->key);

    return order ? order : x < y ? -1 : 1;
}

static void tally(struct tr_store *st, const struct tr_verdict *v, int sign)
{
    struct tally *t = &st->tallies[slot_of(v->origin)];

    t->answers += sign;
    t->failures += v->why == TR_WHY_NONE ? 0 : sign;
    t->changed = true;
}

/* Most keys are new; one that is there is replaced. */
static int put_one(struct tr_store *st, const struct tr_store_put *put,
                   struct tr_err *err)
{
    struct tr_verdict old;
    enum stmt which = S_ADD;
    int64_t what, v;
    bool found;
    int rc = TR_OK;

    TR_ASSERT(origin_known(st, put->verdict.origin));
    tr_verdict_pack(&put->key, &put->verdict, &what, &v);
    for (;;) {
        bind_key(st, which, &put->key);
        sqlite3_bind_int64(st->stmts[which], 2, what);
        sqlite3_bind_int64(st->stmts[which], 3, v);
        TRY(run(st, which, err));
        if (which == S_REPLACE || sqlite3_changes(st->db))
            break;
        TRY(find_one(st, &put->key, &old, &found, err));
        tally(st, &old, -1);
        which = S_REPLACE;
    }
    tally(st, &put->verdict, 1);
    filter_add(st, &put->key);
out:
    return rc;
}

/* A run that repeats an earlier one only reads, and has memory to spare; one
 * that asks needs it for its requests. */
static int shrink_cache(struct tr_store *st, struct tr_err *err)
{
    char pragma[60];
    int rc;

    if (st->cache_small)
        return TR_OK;
    snprintf(pragma, sizeof pragma, "PRAGMA cache_size = -%u",
             TR_STORE_CACHE_BYTES / 1024);
    rc = exec(st, pragma, err);
    sqlite3_db_release_memory(st->db);
    st->cache_small = rc == TR_OK;
    return rc;
}

static int take(struct tr_store *st, const struct tr_store_put *puts, size_t n,
                struct tr_err *err)
{
    int rc = room((void **)&st->puts, &st->put_cap, st->put_count + n,
                  sizeof *st->puts, err);

    if (rc == TR_OK && n)
        memcpy(st->puts + st->put_count, puts, n * sizeof *puts);
    if (rc == TR_OK)
        st->put_count += n;
    return rc;
}

static int sort_puts(struct tr_store *st, struct tr_err *err)
{
    int rc = room((void **)&st->sorted, &st->sorted_cap, st->put_count,
                  sizeof *st->sorted, err);

    if (rc != TR_OK)
        return rc;
    for (size_t i = 0; i < st->put_count; i++)
        st->sorted[i] = &st->puts[i];
    qsort(st->sorted, st->put_count, sizeof *st->sorted, put_order);
    return TR_OK;
}

/* All puts go into `answer`. */
static int merge(struct tr_store *st, struct tr_err *err)
{
    int rc = TR_OK;

    if (!st->put_count)
        return TR_OK;
    TRY(shrink_cache(st, err));
    TRY(sort_puts(st, err));
    for (size_t i = 0; i < st->put_count; i++)
        TRY(put_one(st, st->sorted[i], err));
    for (size_t i = 0; i <= st->origin_count; i++) {
        struct tally *t = &st->tallies[i];

        if (t->changed)
            TRY(RUN(st, S_TALLY, err, (int64_t)i, t->answers, t->failures));
        t->changed = false;
    }
    if (st->staged)
        TRY(run(st, S_UNSTAGE, err));
    st->staged = false;
    st->put_count = 0;
out:
    return rc;
}

/* ---- answers saved and not yet put ------------------------------------ */

/* A row of `fresh`: digest of what follows, then key, what and v (little-
 * endian) of each answer. */
enum { DIGEST_BYTES = sizeof(struct tr_key), STAGED_BYTES = 32 };

static struct tr_key digest_of(const unsigned char *answers, size_t n)
{
    return tr_digest(NULL, tr_str((const char *)answers, n));
}

static void write_integer(unsigned char *b, int64_t n)
{
    for (int i = 0; i < 8; i++)
        b[i] = (unsigned char)((uint64_t)n >> 8 * i);
}

/* The puts become one row of `fresh`, and wait in memory. */
static int stage(struct tr_store *st, const struct tr_store_put *puts, size_t n,
                 struct tr_err *err)
{
    size_t size = n * STAGED_BYTES;
    struct tr_key digest;
    unsigned char *b;
    int rc = TR_OK;

    if (!n)
        return TR_OK;
    TRY(shrink_cache(st, err));
    TRY(take(st, puts, n, err));
    TRY(room((void **)&st->blob, &st->blob_cap, DIGEST_BYTES + size, 1, err));
    b = st->blob + DIGEST_BYTES;
    for (size_t i = 0; i < n; i++, b += STAGED_BYTES) {
        int64_t what, v;

        tr_verdict_pack(&puts[i].key, &puts[i].verdict, &what, &v);
        memcpy(b, puts[i].key.b, 16);
        write_integer(b + 16, what);
        write_integer(b + 24, v);
    }
    digest = digest_of(st->blob + DIGEST_BYTES, size);
    memcpy(st->blob, digest.b, DIGEST_BYTES);
    sqlite3_bind_blob64(st->stmts[S_STAGE], 1, st->blob, DIGEST_BYTES + size,
                        SQLITE_STATIC);
    TRY(run(st, S_STAGE, err));
    st->staged = true;
out:
    return rc;
}

/* One row of `fresh`, back into memory. */
static int unstage(struct tr_store *st, const unsigned char *blob, size_t n,
                   struct tr_err *err)
{
    static const char what_it_is[] = "the answers saved last";
    size_t count = (n - DIGEST_BYTES) / STAGED_BYTES;
    struct tr_key digest;
    int rc = TR_OK;

    if (n < DIGEST_BYTES || (n - DIGEST_BYTES) % STAGED_BYTES ||
        count > TR_STAGED_MAX - st->put_count)
        TRY(damaged(st, what_it_is, err));
    digest = digest_of(blob + DIGEST_BYTES, n - DIGEST_BYTES);
    if (memcmp(digest.b, blob, DIGEST_BYTES) != 0)
        TRY(damaged(st, what_it_is, err));
    for (size_t i = 0; i < count; i++) {
        const unsigned char *b = blob + DIGEST_BYTES + i * STAGED_BYTES;
        struct tr_store_put put;

        memcpy(put.key.b, b, sizeof put.key.b);
        if (!tr_verdict_unpack(&put.key, (int64_t)tr_little_endian(b + 16),
                            (int64_t)tr_little_endian(b + 24), &put.verdict) ||
            !origin_known(st, put.verdict.origin))
            TRY(damaged(st, what_it_is, err));
        TRY(take(st, &put, 1, err));
    }
out:
    return rc;
}

static int load_staged(struct tr_store *st, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_STAGED];
    bool row;
    int rc = TR_OK;

    st->put_count = 0;
    st->staged = false;
    for (;;) {
        TRY(step(st, S_STAGED, &row, err));
        if (!row)
            break;
        st->staged = true;
        TRY(unstage(st, sqlite3_column_blob(s, 0),
                    (size_t)sqlite3_column_bytes(s, 0), err));
    }
out:
    sqlite3_reset(s);
    return rc;
}

/* For a reader, who merges nothing. */
static int count_staged(struct tr_store *st, struct tr_err *err)
{
    int rc = st->put_count ? sort_puts(st, err) : TR_OK;

    for (size_t i = 0; i < st->put_count && rc == TR_OK; i++) {
        const struct tr_store_put *put = st->sorted[i];
        struct tr_verdict old;
        bool found;

        if (i + 1 < st->put_count &&
            tr_key_cmp(&put->key, &st->sorted[i + 1]->key) == 0)
            continue; /* replaced */
        rc = find_one(st, &put->key, &old, &found, err);
        if (rc == TR_OK && found)
            tally(st, &old, -1);
        tally(st, &put->verdict, 1);
    }
    return rc;
}

/* The outcome's money goes into the job's sums; the attempt goes, or stays as
 * an unknown one with its bound. */
static int fold(struct tr_store *st, const struct tr_store_outcome *outs,
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
        TRY(run(st, S_EMPTY_BATCHES, err));
out:
    return rc;
}

/* An item of the rescue file, where it belongs. A reader only counts. */
static int take_rescued(void *ctx, const struct tr_rescued *item,
                        struct tr_err *err)
{
    struct tr_store *st = ctx;
    struct tr_store_outcome outcome = item->outcome;
    int rc = TR_OK;

    if (!st->read_only)
        TRY(begin(st, err));
    switch (item->kind) {
    case TR_RESCUED_ORIGIN:
        if (item->index != st->origin_count) /* it was in the file after all */
            break;
        TRY(origin_room(st, err));
        if (!st->read_only)
            TRY(write_origin(st, &item->origin, err));
        st->origins[st->origin_count++] = item->origin;
        break;
    case TR_RESCUED_SET:
        if (item->index != st->set_count)
            break;
        if (!st->read_only)
            TRY(write_set(st, item->names, err));
        TRY(remember_set(st, item->names, err));
        break;
    case TR_RESCUED_PUT:
        if (origin_known(st, item->put.verdict.origin) &&
            st->put_count < 2 * TR_STAGED_MAX)
            TRY(take(st, &item->put, 1, err));
        break;
    case TR_RESCUED_OUTCOME:
        /* No job has begun yet. What was written before the sync failed may
         * be in the file as well: an attempt is counted once. */
        outcome.of_other = true;
        if (!st->read_only)
            TRY(fold(st, &outcome, 1, err));
        break;
    }
out:
    return rc;
}

/* A process died between a save and the next commit, or its store failed. */
static int recover(struct tr_store *st, struct tr_err *err)
{
    bool rescued = false;
    int rc = TR_OK;

    TRY(load_staged(st, err));
    if (st->path[0])
        TRY(tr_rescue_read(st->path, take_rescued, st, &rescued, err));
    if (st->read_only)
        return count_staged(st, err);
    if (st->staged || rescued) {
        TRY(begin(st, err));
        TRY(merge(st, err));
        TRY(end(st, err));
    }
    if (st->path[0])
        TRY(tr_rescue_clear(st->path, err));
out:
    return rc == TR_OK ? rc : give_up(st, rc, err);
}

/* Somebody moved or removed the file: what we commit there, no later run
 * would find. */
static int check_file(struct tr_store *st, struct tr_err *err)
{
    struct stat sb;

    if (!st->path[0] || (stat(st->path, &sb) == 0 && sb.st_ino == st->inode &&
                         sb.st_dev == st->device))
        return TR_OK;
    return tr_fail(err, TR_IO, "%s was moved or removed while in use: put it "
                   "back and run the same command again", st->path);
}

/* A changed bit must not bring one request's answer to another's rows. */
static int64_t keys_digest(uint64_t attempt, uint64_t seed,
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
                       keys_digest(in->attempt, in->seed, in->keys, in->items));
    sqlite3_bind_int64(st->stmts[S_WAIT_BATCH], 1, (int64_t)in->attempt);
    sqlite3_bind_blob64(st->stmts[S_WAIT_BATCH], 2, in->keys,
                        in->items * sizeof *in->keys, SQLITE_STATIC);
    return run(st, S_WAIT_BATCH, err);
}

int tr_store_commit(struct tr_store *st, const struct tr_store_put *puts,
                    size_t put_count, const struct tr_store_intent *intents,
                    size_t intent_count, const struct tr_store_outcome *outs,
                    size_t out_count, struct tr_err *err)
{
    int rc = TR_OK;

    if (!put_count && !intent_count && !out_count && !st->in_transaction &&
        !st->unsynced && !st->failed.code)
        return TR_OK;
    if (intent_count && st->path[0] && !st->failed.code)
        TRY(tr_rescue_reserve(&st->rescue, st->path, err));
    TRY(begin(st, err));
    TRY(check_file(st, err));
    if (st->unsynced) /* a commit that changes nothing would not sync */
        TRY(tr_store_set(st, "synced", TR_STR("1"), err));
    TRY(take(st, puts, put_count, err));
    TRY(merge(st, err));
    for (size_t i = 0; i < intent_count; i++)
        TRY(RUN(st, S_INTENT, err, (int64_t)intents[i].attempt, st->job,
                st->round, (int64_t)intents[i].seed, intents[i].bound_nano,
                intents[i].items));
    for (size_t i = 0; i < intent_count; i++) {
        if (intents[i].bound_tokens <= 0)
            continue;
        st->pledges = true;
        TRY(RUN(st, S_PLEDGE, err, (int64_t)intents[i].attempt,
                intents[i].bound_tokens));
    }
    for (size_t i = 0; i < intent_count; i++)
        if (intents[i].keys)
            TRY(wait_batch(st, &intents[i], err));
    TRY(fold(st, outs, out_count, err));
    TRY(end(st, err));
    st->unsynced = false;
out:
    return rc == TR_OK ? rc : give_up(st, rc, err);
}

int tr_store_save(struct tr_store *st, const struct tr_store_put *puts,
                  size_t put_count, const struct tr_store_outcome *outs,
                  size_t out_count, struct tr_err *err)
{
    int rc = TR_OK;

    /* What other calls left pending is meant for a sync; a temporary store
     * never syncs. */
    if (st->in_transaction || (st->temporary && !st->simulated) ||
        st->put_count + put_count > TR_STAGED_MAX)
        return tr_store_commit(st, puts, put_count, NULL, 0, outs, out_count,
                               err);
    TRY(begin_with(st, false, err));
    TRY(check_file(st, err));
    TRY(stage(st, puts, put_count, err));
    TRY(fold(st, outs, out_count, err));
    TRY(end(st, err));
    st->unsynced = true;
out:
    return rc == TR_OK ? rc : give_up(st, rc, err);
}

int tr_store_rescue(struct tr_store *st, const struct tr_store_put *puts,
                    size_t put_count, const struct tr_store_outcome *outs,
                    size_t out_count, struct tr_err *err)
{
    int rc;

    for (size_t i = st->origins_kept; i < st->origin_count; i++)
        tr_rescue_origin(&st->rescue, (uint32_t)i, &st->origins[i]);
    for (size_t i = st->sets_kept; i < st->set_count; i++)
        tr_rescue_set(&st->rescue, (uint32_t)i, st->sets[i]);
    for (size_t i = 0; i < put_count; i++)
        tr_rescue_put(&st->rescue, &puts[i]);
    for (size_t i = 0; i < out_count; i++)
        tr_rescue_outcome(&st->rescue, &outs[i]);
    rc = tr_rescue_write(&st->rescue, err);
    if (rc == TR_OK) {
        st->origins_kept = st->origin_count;
        st->sets_kept = st->set_count;
    }
    return rc;
}

uint64_t tr_store_next_attempt(struct tr_store *st)
{
    return st->next_attempt++;
}

/* ---- jobs and money --------------------------------------------------- */

static int commit_pending(struct tr_store *st, struct tr_err *err)
{
    return tr_store_commit(st, NULL, 0, NULL, 0, NULL, 0, err);
}

/* Bounds in tokens of this round's attempts, unknown or in batches. */
static int pledged(struct tr_store *st, struct tr_job *job, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_PLEDGED];
    bool row;
    int rc;

    sqlite3_bind_int64(s, 1, st->job);
    sqlite3_bind_int64(s, 2, st->round);
    rc = step(st, S_PLEDGED, &row, err);
    job->unknown_tokens = sqlite3_column_int64(s, 0);
    job->open_tokens = sqlite3_column_int64(s, 1);
    st->pledges = st->pledges || job->unknown_tokens > 0 ||
                  job->open_tokens > 0;
    sqlite3_reset(s);
    return rc;
}

int tr_store_job(struct tr_store *st, const char *name, int64_t now_s,
                 bool fresh, struct tr_job *job, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_JOB_READ];
    bool row;
    int rc = TR_OK;

    (void)fresh; /* a round begins whenever none is under way */
    for (size_t i = 0; i < st->origin_count; i++)
        if (now_s <= st->origins[i].run_at)
            now_s = st->origins[i].run_at + 1;
    *job = (struct tr_job){0};
    TRY(begin(st, err));
    TRY(run(st, S_NO_PLEDGE, err));
    TRY(run(st, S_NEVER_LEFT, err));
    TRY(run(st, S_NOT_WAITING, err));
    /* What a dead process left open: nobody will ever know its outcome. */
    TRY(run(st, S_LOST_COUNT, err));
    TRY(run(st, S_LOST, err));
    bind_text(st, S_JOB_MAKE, 1, tr_str_c(name));
    TRY(run(st, S_JOB_MAKE, err));
    bind_text(st, S_JOB_ROUND, 1, tr_str_c(name));
    sqlite3_bind_int64(st->stmts[S_JOB_ROUND], 2, now_s);
    TRY(run(st, S_JOB_ROUND, err));
    bind_text(st, S_JOB_READ, 1, tr_str_c(name));
    TRY(step(st, S_JOB_READ, &row, err));
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
    TRY(commit_pending(st, err));
out:
    sqlite3_reset(s);
    return rc == TR_OK ? rc : give_up(st, rc, err);
}

int tr_store_job_finish(struct tr_store *st, struct tr_err *err)
{
    int rc = TR_OK;

    TRY(begin(st, err));
    TRY(RUN(st, S_JOB_FINISH, err, st->job));
    TRY(commit_pending(st, err));
out:
    return rc == TR_OK ? rc : give_up(st, rc, err);
}

static int sum_of(struct tr_store *st, enum stmt which, int64_t *count,
                  int64_t *nano, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[which];
    bool row;
    int rc = step(st, which, &row, err);

    *count = sqlite3_column_int64(s, 0);
    *nano = sqlite3_column_int64(s, 1);
    sqlite3_reset(s);
    return rc;
}

int tr_store_forgive(struct tr_store *st, int64_t *count, int64_t *nano,
                     struct tr_err *err)
{
    int rc = TR_OK;

    TRY(begin(st, err));
    TRY(sum_of(st, S_UNKNOWN_SUM, count, nano, err));
    TRY(run(st, S_FORGIVE, err));
    TRY(run(st, S_UNPLEDGE_ALL, err));
    TRY(run(st, S_LEAVE_ALL, err));
    TRY(run(st, S_EMPTY_BATCHES, err));
    TRY(commit_pending(st, err));
out:
    return rc == TR_OK ? rc : give_up(st, rc, err);
}

/* ---- batches ---------------------------------------------------------- */

int tr_store_batch_creating(struct tr_store *st, struct tr_batch *batch,
                            const uint64_t *attempts, size_t n,
                            struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_BATCH_ADD];
    int rc = TR_OK;

    TRY(begin(st, err));
    sqlite3_bind_int64(s, 1, TR_BATCH_CREATING);
    sqlite3_bind_int64(s, 2, batch->created_at);
    bind_text(st, S_BATCH_ADD, 3, tr_str_c(batch->lane));
    bind_text(st, S_BATCH_ADD, 4, tr_str_c(batch->mark));
    TRY(run(st, S_BATCH_ADD, err));
    batch->id = sqlite3_last_insert_rowid(st->db);
    batch->state = TR_BATCH_CREATING;
    for (size_t i = 0; i < n; i++)
        TRY(RUN(st, S_JOIN_BATCH, err, (int64_t)attempts[i], batch->id));
    TRY(run(st, S_EMPTY_BATCHES, err));
    TRY(commit_pending(st, err));
out:
    return rc == TR_OK ? rc : give_up(st, rc, err);
}

int tr_store_batch_opened(struct tr_store *st, const struct tr_batch *batch,
                          struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_BATCH_OPENED];
    int rc = TR_OK;

    TRY(begin(st, err));
    sqlite3_bind_int64(s, 1, TR_BATCH_OPEN);
    bind_text(st, S_BATCH_OPENED, 2, tr_str_c(batch->name));
    bind_text(st, S_BATCH_OPENED, 3, tr_str_c(batch->file));
    sqlite3_bind_int64(s, 4, batch->id);
    TRY(run(st, S_BATCH_OPENED, err));
    TRY(commit_pending(st, err));
out:
    return rc == TR_OK ? rc : give_up(st, rc, err);
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

        TRY(step(st, S_BATCHES, &row, err));
        if (!row)
            break;
        TRY(room((void **)list, &cap, *n + 1, sizeof **list, err));
        b = &(*list)[(*n)++];
        *b = (struct tr_batch){
            .id = sqlite3_column_int64(s, 0),
            .state = sqlite3_column_int(s, 1) == TR_BATCH_OPEN
                         ? TR_BATCH_OPEN : TR_BATCH_CREATING,
            .created_at = sqlite3_column_int64(s, 2),
            .requests = sqlite3_column_int64(s, 7),
        };
        if (!copy_text(b->lane, sizeof b->lane, text_at(s, 3)) ||
            !copy_text(b->mark, sizeof b->mark, text_at(s, 4)) ||
            !copy_text(b->name, sizeof b->name, text_at(s, 5)) ||
            !copy_text(b->file, sizeof b->file, text_at(s, 6)))
            TRY(damaged(st, "the list of batches", err));
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

        TRY(step(st, S_ITEMS, &row, err));
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
                keys_digest(item.attempt, item.seed, item.keys, item.items))
            TRY(damaged(st, "a batch", err));
        TRY(each(ctx, &item, err));
    }
out:
    sqlite3_reset(s);
    return rc;
}

/* ---- small values ----------------------------------------------------- */

int tr_store_get(struct tr_store *st, const char *name, struct tr_buf *out,
                 bool *found, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_VALUE_GET];
    int rc;

    bind_text(st, S_VALUE_GET, 1, tr_str_c(name));
    rc = step(st, S_VALUE_GET, found, err);
    if (*found) {
        tr_buf_add(out, sqlite3_column_blob(s, 0),
                   (size_t)sqlite3_column_bytes(s, 0));
        if (!tr_buf_ok(out))
            rc = tr_fail(err, TR_NOMEM, "store: out of memory");
    }
    sqlite3_reset(s);
    return rc;
}

int tr_store_set(struct tr_store *st, const char *name, struct tr_str value,
                 struct tr_err *err)
{
    int rc = TR_OK;

    TRY(begin(st, err));
    bind_text(st, S_VALUE_SET, 1, tr_str_c(name));
    sqlite3_bind_blob64(st->stmts[S_VALUE_SET], 2, value.n ? value.p : "",
                        value.n, SQLITE_STATIC);
    TRY(run(st, S_VALUE_SET, err));
out:
    return rc == TR_OK ? rc : give_up(st, rc, err);
}

/* ---- looking from outside --------------------------------------------- */

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
    TRY(step(st, S_JOB_SUM, &row, err));
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

int tr_store_origins(struct tr_store *st,
                     void (*each)(void *ctx, const struct tr_origin *o,
                                  int64_t verdicts),
                     void *ctx, struct tr_err *err)
{
    (void)err; /* a scan could fail; the tallies are in memory */
    for (size_t i = 0; i <= st->origin_count; i++)
        if (st->tallies[i].answers)
            each(ctx, i ? &st->origins[i - 1] : NULL, st->tallies[i].answers);
    return TR_OK;
}
