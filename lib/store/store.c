/* store.c - verdicts, attempts in flight and money in one SQLite file.
 *
 * The only file that includes sqlite3.h. Keys are digests, so rows of a
 * commit fall anywhere in the tree: they are sorted first, and so are the
 * keys of a look-up. Everything between two commits is one open transaction.
 *
 * SPDX-License-Identifier: MIT */
#include "store/store.h"

#include "base/bounds.h"
#include "base/clock.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define APPLICATION_ID 0x54524f4d /* "TROM" */

/* v packs a verdict's small numbers into one integer, so that a row costs
 * few bytes: see pack_verdict(). */
static const char schema_sql[] =
    "CREATE TABLE answer(key BLOB PRIMARY KEY, what INTEGER NOT NULL,"
    " v INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE attempt(id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " job INTEGER NOT NULL, round INTEGER NOT NULL,"
    " seed INTEGER NOT NULL, bound INTEGER NOT NULL, items INTEGER NOT NULL,"
    " unknown INTEGER NOT NULL);"
    "CREATE TABLE origin(id INTEGER PRIMARY KEY, by TEXT NOT NULL,"
    " served TEXT NOT NULL, effort TEXT NOT NULL, prompt INTEGER NOT NULL,"
    " run_at INTEGER NOT NULL);"
    "CREATE TABLE label_set(id INTEGER PRIMARY KEY, names TEXT NOT NULL);"
    "CREATE TABLE job(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
    " round INTEGER NOT NULL, under_way INTEGER NOT NULL,"
    " started_at INTEGER NOT NULL, spent INTEGER NOT NULL,"
    " requests INTEGER NOT NULL, tokens_in INTEGER NOT NULL,"
    " tokens_out INTEGER NOT NULL, tokens_cached INTEGER NOT NULL);"
    "CREATE TABLE value(name TEXT PRIMARY KEY, value BLOB NOT NULL)"
    " WITHOUT ROWID;";

enum stmt {
    S_FIND, S_PUT, S_INTENT, S_SETTLE, S_UNKNOWN, S_JOB_ADD, S_ORIGIN, S_SET,
    S_VALUE_GET, S_VALUE_SET, S_COUNT
};
static const char *const stmt_sql[S_COUNT] = {
    [S_FIND] = "SELECT what, v FROM answer WHERE key = ?",
    [S_PUT] = "INSERT OR REPLACE INTO answer VALUES(?, ?, ?)",
    [S_INTENT] = "INSERT INTO attempt VALUES(?, ?, ?, ?, ?, ?, 0)",
    [S_SETTLE] = "DELETE FROM attempt WHERE id = ?",
    [S_UNKNOWN] = "UPDATE attempt SET unknown = 1, bound = ? WHERE id = ?",
    [S_JOB_ADD] = "UPDATE job SET spent = spent + ?, requests = requests + ?,"
        " tokens_in = tokens_in + ?, tokens_out = tokens_out + ?,"
        " tokens_cached = tokens_cached + ? WHERE id = ?",
    [S_ORIGIN] = "INSERT INTO origin VALUES(?, ?, ?, ?, ?, ?)",
    [S_SET] = "INSERT INTO label_set VALUES(?, ?)",
    [S_VALUE_GET] = "SELECT value FROM value WHERE name = ?",
    [S_VALUE_SET] = "INSERT OR REPLACE INTO value VALUES(?, ?)",
};

struct tr_store {
    sqlite3 *db;
    sqlite3_stmt *stmts[S_COUNT];
    char path[4096];
    int lock_fd;
    bool in_transaction;
    struct tr_origin *origins;
    size_t origin_count, origin_cap;
    struct tr_str *sets; /* owned texts */
    size_t set_count, set_cap;
    uint64_t next_attempt;
    int64_t job, round;
    const struct tr_store_put **sorted;
    size_t sorted_cap;
    struct lookup { /* one key of a batch, sorted by key */
        struct tr_key key;
        uint32_t at; /* where it stands in the caller's array */
    } *lookups;
    size_t lookup_cap;
    unsigned char *filter; /* NULL: the table held rows when it was opened */
};

/* ---- errors and statements -------------------------------------------- */

static int sql_fail(struct tr_store *st, struct tr_err *err, const char *what)
{
    int rc = sqlite3_extended_errcode(st->db);
    const char *next = "run the same command again; what is committed is safe";

    switch (rc & 0xff) {
    case SQLITE_FULL:
        next = "the disk is full: free space and run the same command again; "
               "what is committed is safe";
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return tr_fail(err, TR_CONFIG, "%s: %s (%s): the file is damaged or no "
                       "store of trommel. Move it away to begin anew (paid "
                       "answers in it would be paid again), or restore it",
                       st->path, what, sqlite3_errmsg(st->db));
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
        next = "make the folder writable, or choose another with --store";
        break;
    }
    return tr_fail(err, TR_IO, "%s: %s: %s; %s", st->path, what,
                   sqlite3_errmsg(st->db), next);
}

static int exec(struct tr_store *st, const char *sql, struct tr_err *err)
{
    return sqlite3_exec(st->db, sql, NULL, NULL, NULL) == SQLITE_OK
        ? TR_OK : sql_fail(st, err, "writing");
}

static int run_stmt(struct tr_store *st, enum stmt which, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[which];
    int rc = sqlite3_step(s);
    int fail = TR_OK;

    if (rc != SQLITE_DONE && rc != SQLITE_ROW)
        fail = sql_fail(st, err, "writing");
    sqlite3_reset(s);
    return fail;
}

static int begin(struct tr_store *st, struct tr_err *err)
{
    int rc;

    if (st->in_transaction)
        return TR_OK;
    rc = exec(st, "BEGIN IMMEDIATE", err);
    st->in_transaction = rc == TR_OK;
    return rc;
}

static int64_t number(struct tr_store *st, const char *sql)
{
    sqlite3_stmt *s;
    int64_t n = 0;

    if (sqlite3_prepare_v2(st->db, sql, -1, &s, NULL) != SQLITE_OK)
        return 0;
    if (sqlite3_step(s) == SQLITE_ROW)
        n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return n;
}

/* ---- verdicts as two integers ----------------------------------------- */

/* what: 0 none of the labels, n > 0 label set n - 1, n < 0 reason -n.
 * v, from the low end: position 9 bits, pack size 9, origin 16, confidence
 * + 1 (0: none) 14. Without confidence v takes four bytes. */
static int64_t what_of(const struct tr_verdict *v)
{
    if (v->why != TR_WHY_NONE)
        return -(int64_t)v->why;
    return v->set == TR_SET_NOTHING ? 0 : (int64_t)v->set + 1;
}

static int64_t pack_verdict(const struct tr_verdict *v)
{
    int64_t confidence =
        v->confidence == TR_NO_CONFIDENCE ? 0 : v->confidence + 1;

    return (v->position & 511) | (int64_t)(v->pack_size & 511) << 9 |
           (int64_t)v->origin << 18 | confidence << 34;
}

static struct tr_verdict unpack_verdict(int64_t what, int64_t v)
{
    struct tr_verdict out = {
        .position = (uint16_t)(v & 511),
        .pack_size = (uint16_t)(v >> 9 & 511),
        .origin = (uint16_t)(v >> 18),
        .confidence = (uint16_t)(v >> 34 ? (v >> 34) - 1 : TR_NO_CONFIDENCE),
    };

    if (what < 0)
        out.why = (uint16_t)-what;
    else
        out.set = what ? (uint32_t)(what - 1) : TR_SET_NOTHING;
    return out;
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

/* ---- opening ---------------------------------------------------------- */

static void forget(struct tr_store *st)
{
    for (size_t i = 0; i < st->set_count; i++)
        tr_free((char *)st->sets[i].p);
    st->set_count = st->origin_count = 0;
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

static int remember_set(struct tr_store *st, struct tr_str names,
                        struct tr_err *err)
{
    char *copy;
    int rc = room((void **)&st->sets, &st->set_cap, st->set_count + 1,
                  sizeof *st->sets, err);

    if (rc != TR_OK)
        return rc;
    copy = tr_dup(names.p, names.n);
    if (!copy)
        return tr_fail(err, TR_NOMEM, "store: out of memory");
    st->sets[st->set_count++] = tr_str(copy, names.n);
    return TR_OK;
}

static const char *text_at(sqlite3_stmt *s, int column)
{
    const unsigned char *p = sqlite3_column_text(s, column);

    return p ? (const char *)p : "";
}

static int load(struct tr_store *st, struct tr_err *err)
{
    sqlite3_stmt *s = NULL;
    int rc = TR_OK, step;

    forget(st);
    if (sqlite3_prepare_v2(st->db, "SELECT by, served, effort, prompt, run_at "
                           "FROM origin ORDER BY id", -1, &s, NULL))
        TRY(sql_fail(st, err, "reading"));
    while ((step = sqlite3_step(s)) == SQLITE_ROW) {
        struct tr_origin *o;

        TRY(room((void **)&st->origins, &st->origin_cap, st->origin_count + 1,
                 sizeof *st->origins, err));
        o = &st->origins[st->origin_count++];
        *o = (struct tr_origin){
            .prompt_version = sqlite3_column_int(s, 3),
            .run_at = sqlite3_column_int64(s, 4),
        };
        snprintf(o->by, sizeof o->by, "%s", text_at(s, 0));
        snprintf(o->served, sizeof o->served, "%s", text_at(s, 1));
        snprintf(o->effort, sizeof o->effort, "%s", text_at(s, 2));
    }
    sqlite3_finalize(s);
    s = NULL;
    if (step != SQLITE_DONE ||
        sqlite3_prepare_v2(st->db, "SELECT names FROM label_set ORDER BY id",
                           -1, &s, NULL))
        TRY(sql_fail(st, err, "reading"));
    while ((step = sqlite3_step(s)) == SQLITE_ROW)
        TRY(remember_set(st, tr_str(text_at(s, 0),
                                    (size_t)sqlite3_column_bytes(s, 0)), err));
    if (step != SQLITE_DONE)
        TRY(sql_fail(st, err, "reading"));
    st->next_attempt = 1 + (uint64_t)number(
        st, "SELECT max(seq) FROM sqlite_sequence WHERE name = 'attempt'");
out:
    sqlite3_finalize(s);
    return rc;
}

static int settle_file(struct tr_store *st, bool temporary, bool read_only,
                       struct tr_err *err)
{
    char pragma[200];
    int64_t version, app;
    int rc = TR_OK;

    sqlite3_db_config(st->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(st->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    snprintf(pragma, sizeof pragma, "PRAGMA cache_size = -%u;"
             "PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;",
             TR_STORE_CACHE_BYTES / 1024);
    TRY(exec(st, pragma, err));
    if (!read_only)
        TRY(exec(st, temporary
                 ? "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
                 : "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
                   "PRAGMA synchronous = FULL;"
                   "PRAGMA journal_size_limit = 16777216;"
                   "PRAGMA wal_autocheckpoint = 4000;", err));
    version = number(st, "PRAGMA user_version");
    app = number(st, "PRAGMA application_id");
    if (sqlite3_errcode(st->db) == SQLITE_NOTADB ||
        sqlite3_errcode(st->db) == SQLITE_CORRUPT)
        TRY(sql_fail(st, err, "opening"));
    if (version == 0 && number(st, "SELECT count(*) FROM sqlite_master") == 0 &&
        !read_only) {
        TRY(begin(st, err));
        TRY(exec(st, schema_sql, err));
        snprintf(pragma, sizeof pragma, "PRAGMA user_version = %d;"
                 "PRAGMA application_id = %d;", TR_STORE_LAYOUT,
                 APPLICATION_ID);
        TRY(exec(st, pragma, err));
        TRY(exec(st, "COMMIT", err));
        st->in_transaction = false;
    } else if (app != APPLICATION_ID) {
        TRY(tr_fail(err, TR_CONFIG, "%s is not a store of trommel; choose "
                    "another folder with --store", st->path));
    } else if (version > TR_STORE_LAYOUT) {
        TRY(tr_fail(err, TR_CONFIG, "%s was written by a newer trommel (layout "
                    "%" PRId64 ", this program knows %d): upgrade trommel",
                    st->path, version, TR_STORE_LAYOUT));
    }
    if (!read_only && !number(st, "SELECT count(*) FROM (SELECT 1 FROM answer "
                              "LIMIT 1)"))
        st->filter = tr_alloc(TR_FILTER_BYTES); /* without it: only slower */
    for (int i = 0; i < S_COUNT; i++)
        if (sqlite3_prepare_v3(st->db, stmt_sql[i], -1,
                               SQLITE_PREPARE_PERSISTENT, &st->stmts[i], NULL))
            TRY(sql_fail(st, err, "preparing"));
    TRY(load(st, err));
out:
    return rc;
}

static int make_folder(const char *folder, struct tr_err *err)
{
    char path[4096];

    if (strlen(folder) >= sizeof path)
        return tr_fail(err, TR_CANTCREATE, "--store: the path is too long");
    snprintf(path, sizeof path, "%s", folder);
    for (char *p = path + 1; ; p++) {
        char c = *p;

        if (c && c != '/')
            continue;
        *p = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            return tr_fail(err, TR_CANTCREATE, "%s: the folder for the store "
                           "cannot be made (%s); choose another with --store",
                           path, strerror(errno));
        *p = c;
        if (!c)
            return TR_OK;
    }
}

/* The lock file says who holds the store; it stays when the store closes. */
static int take_lock(struct tr_store *st, bool wait, struct tr_err *err)
{
    char name[4200], text[128] = "";
    ssize_t n;

    snprintf(name, sizeof name, "%.*slock", (int)strlen(st->path) - 2,
             st->path);
    st->lock_fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (st->lock_fd < 0)
        return tr_fail(err, TR_CANTCREATE, "%s: %s; make the folder writable, "
                       "or choose another with --store", name,
                       strerror(errno));
    while (flock(st->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        struct timespec pause = {0, 200 * TR_MS};

        if (errno == EINTR)
            continue;
        if (errno != EWOULDBLOCK)
            return tr_fail(err, TR_IO, "%s: cannot be locked: %s", name,
                           strerror(errno));
        if (!wait) {
            n = pread(st->lock_fd, text, sizeof text - 1, 0);
            if (n > 0 && text[n - 1] == '\n')
                text[n - 1] = '\0';
            return tr_fail(err, TR_STOPPED, "another run of this task holds "
                           "its store%s%s: wait for it, or give --wait-lock",
                           n > 0 ? " " : "", n > 0 ? text : "");
        }
        nanosleep(&pause, NULL);
    }
    {
        time_t now = time(NULL);
        struct tm tm;
        char when[32] = "";

        if (localtime_r(&now, &tm))
            strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
        n = snprintf(text, sizeof text, "(process %ld, since %s)\n",
                     (long)getpid(), when);
        if (ftruncate(st->lock_fd, 0) != 0 ||
            pwrite(st->lock_fd, text, (size_t)n, 0) != n)
            return tr_fail(err, TR_IO, "%s: %s", name, strerror(errno));
    }
    return TR_OK;
}

int tr_store_open(struct tr_store **out, const struct tr_store_opts *o,
                  struct tr_err *err)
{
    struct tr_store *st = tr_alloc(sizeof *st);
    int flags = o->read_only ? SQLITE_OPEN_READONLY
                             : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    char hex[33];
    int rc = TR_OK;

    *out = NULL;
    if (!st)
        return tr_fail(err, TR_NOMEM, "store: out of memory");
    st->lock_fd = -1;
    if (o->folder) {
        int fd;

        if (!o->read_only)
            TRY(make_folder(o->folder, err));
        tr_key_hex(&o->task, 16, hex);
        if ((size_t)snprintf(st->path, sizeof st->path - 8, "%s/%s.db",
                             o->folder, hex) >= sizeof st->path - 8)
            TRY(tr_fail(err, TR_CANTCREATE, "--store: the path is too long"));
        if (!o->read_only)
            TRY(take_lock(st, o->wait_lock, err));
        /* Made with its mode before SQLite sees it: never readable by others,
         * not even for a moment. WAL and journal take the mode over. */
        fd = open(st->path, (o->read_only ? O_RDONLY : O_RDWR | O_CREAT) |
                  O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            TRY(tr_fail(err, o->read_only ? TR_NOINPUT : TR_CANTCREATE,
                        "%s: %s; choose another folder with --store",
                        st->path, strerror(errno)));
        close(fd);
    }
    if (sqlite3_open_v2(st->path, &st->db, flags | SQLITE_OPEN_NOMUTEX, NULL))
        TRY(sql_fail(st, err, "opening"));
    sqlite3_busy_timeout(st->db, 2000);
    TRY(settle_file(st, !o->folder, o->read_only, err));
    if (o->task_name && !o->read_only)
        TRY(tr_store_set(st, "task", tr_str_c(o->task_name), err));
    *out = st;
    st = NULL;
out:
    tr_store_close(st);
    return rc;
}

int tr_store_open_memory(struct tr_store **out, struct tr_err *err)
{
    struct tr_store *st = tr_alloc(sizeof *st);
    int rc = TR_OK;

    *out = NULL;
    if (!st)
        return tr_fail(err, TR_NOMEM, "store: out of memory");
    st->lock_fd = -1;
    snprintf(st->path, sizeof st->path, ":memory:");
    if (sqlite3_open_v2(":memory:", &st->db, SQLITE_OPEN_READWRITE |
                        SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL))
        TRY(sql_fail(st, err, "opening"));
    TRY(exec(st, "PRAGMA journal_mode = MEMORY", err));
    TRY(settle_file(st, false, false, err));
    *out = st;
    st = NULL;
out:
    tr_store_close(st);
    return rc;
}

int tr_store_crash(struct tr_store *st, struct tr_err *err)
{
    if (st->in_transaction)
        exec(st, "ROLLBACK", err);
    st->in_transaction = false;
    st->job = 0;
    return load(st, err);
}

void tr_store_close(struct tr_store *st)
{
    if (!st)
        return;
    for (int i = 0; i < S_COUNT; i++)
        sqlite3_finalize(st->stmts[i]);
    sqlite3_close(st->db); /* rolls an open transaction back */
    if (st->lock_fd >= 0)
        close(st->lock_fd);
    forget(st);
    tr_free(st->origins);
    tr_free(st->sets);
    tr_free(st->sorted);
    tr_free(st->lookups);
    tr_free(st->filter);
    tr_free(st);
}

const char *tr_store_path(const struct tr_store *st)
{
    return st->path;
}

/* ---- origins and label sets ------------------------------------------- */

int tr_store_origin(struct tr_store *st, const struct tr_origin *o,
                    uint16_t *index, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_ORIGIN];
    int rc;

    for (size_t i = st->origin_count; i-- > 0; )
        if (st->origins[i].run_at == o->run_at &&
            st->origins[i].prompt_version == o->prompt_version &&
            strcmp(st->origins[i].by, o->by) == 0 &&
            strcmp(st->origins[i].served, o->served) == 0 &&
            strcmp(st->origins[i].effort, o->effort) == 0) {
            *index = (uint16_t)i;
            return TR_OK;
        }
    if (st->origin_count >= TR_NO_ORIGIN)
        return tr_fail(err, TR_CONFIG, "%s: too many runs and models in one "
                       "store; begin a new one with --store", st->path);
    rc = room((void **)&st->origins, &st->origin_cap, st->origin_count + 1,
              sizeof *o, err);
    if (rc == TR_OK)
        rc = begin(st, err);
    if (rc != TR_OK)
        return rc;
    *index = (uint16_t)st->origin_count;
    st->origins[st->origin_count++] = *o;
    sqlite3_bind_int64(s, 1, *index);
    sqlite3_bind_text(s, 2, o->by, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 3, o->served, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 4, o->effort, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 5, o->prompt_version);
    sqlite3_bind_int64(s, 6, o->run_at);
    return run_stmt(st, S_ORIGIN, err);
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

int tr_store_set_add(struct tr_store *st, struct tr_str names,
                     struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_SET];
    int rc = begin(st, err);

    if (rc == TR_OK)
        rc = remember_set(st, names, err);
    if (rc != TR_OK)
        return rc;
    sqlite3_bind_int64(s, 1, (int64_t)st->set_count - 1);
    sqlite3_bind_text(s, 2, names.p, (int)names.n, SQLITE_STATIC);
    return run_stmt(st, S_SET, err);
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

int tr_store_find(struct tr_store *st, const struct tr_store_find *how,
                  const struct tr_key *keys, size_t n,
                  struct tr_verdict *out, bool *found, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_FIND];
    uint32_t asked = 0;
    int rc = room((void **)&st->lookups, &st->lookup_cap, n,
                  sizeof *st->lookups, err);

    if (rc != TR_OK)
        return rc;
    for (uint32_t i = 0; i < n; i++) {
        found[i] = false;
        if (filter_has(st, &keys[i]))
            st->lookups[asked++] = (struct lookup){keys[i], i};
    }
    qsort(st->lookups, asked, sizeof *st->lookups, by_key);
    for (uint32_t j = 0; j < asked && rc == TR_OK; j++) {
        uint32_t i = st->lookups[j].at;
        int step;

        sqlite3_bind_blob(s, 1, keys[i].b, sizeof keys[i].b, SQLITE_STATIC);
        step = sqlite3_step(s);
        if (step == SQLITE_ROW) {
            out[i] = unpack_verdict(sqlite3_column_int64(s, 0),
                                    sqlite3_column_int64(s, 1));
            found[i] = counts(st, how, &out[i]);
        } else if (step != SQLITE_DONE) {
            rc = sql_fail(st, err, "looking up answers");
        }
        sqlite3_reset(s);
    }
    return rc;
}

int64_t tr_store_count(struct tr_store *st)
{
    return number(st, "SELECT count(*) FROM answer");
}

/* ---- one commit ------------------------------------------------------- */

static int put_order(const void *a, const void *b)
{
    return tr_key_cmp(&(*(const struct tr_store_put *const *)a)->key,
                      &(*(const struct tr_store_put *const *)b)->key);
}

static int put_all(struct tr_store *st, const struct tr_store_put *puts,
                   size_t n, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_PUT];
    int rc = room((void **)&st->sorted, &st->sorted_cap, n, sizeof *st->sorted,
                  err);

    if (rc != TR_OK)
        return rc;
    for (size_t i = 0; i < n; i++)
        st->sorted[i] = &puts[i];
    if (n) /* st->sorted may be NULL when there is nothing to sort */
        qsort(st->sorted, n, sizeof *st->sorted, put_order);
    for (size_t i = 0; i < n && rc == TR_OK; i++) {
        const struct tr_store_put *put = st->sorted[i];

        sqlite3_bind_blob(s, 1, put->key.b, sizeof put->key.b, SQLITE_STATIC);
        sqlite3_bind_int64(s, 2, what_of(&put->verdict));
        sqlite3_bind_int64(s, 3, pack_verdict(&put->verdict));
        rc = run_stmt(st, S_PUT, err);
        filter_add(st, &put->key);
    }
    return rc;
}

/* The outcome's money goes into the job's sums; the attempt goes, or stays as
 * an unknown one with its bound. */
static int fold(struct tr_store *st, const struct tr_store_outcome *outs,
                size_t n, struct tr_err *err)
{
    struct tr_store_outcome sum = {0};
    sqlite3_stmt *s = st->stmts[S_JOB_ADD];
    int rc = TR_OK;

    for (size_t i = 0; i < n && rc == TR_OK; i++) {
        enum stmt which = outs[i].is_unknown ? S_UNKNOWN : S_SETTLE;
        sqlite3_stmt *one = st->stmts[which];

        if (outs[i].is_unknown)
            sqlite3_bind_int64(one, 1, outs[i].unknown_nano);
        sqlite3_bind_int64(one, outs[i].is_unknown ? 2 : 1,
                           (int64_t)outs[i].attempt);
        rc = run_stmt(st, which, err);
        sum.spent_nano += outs[i].spent_nano;
        if (!outs[i].is_unknown)
            sum.spent_nano += outs[i].unknown_nano;
        sum.tokens_in += outs[i].tokens_in;
        sum.tokens_out += outs[i].tokens_out;
        sum.tokens_cached += outs[i].tokens_cached;
    }
    if (rc != TR_OK || !n)
        return rc;
    sqlite3_bind_int64(s, 1, sum.spent_nano);
    sqlite3_bind_int64(s, 2, (int64_t)n);
    sqlite3_bind_int64(s, 3, sum.tokens_in);
    sqlite3_bind_int64(s, 4, sum.tokens_out);
    sqlite3_bind_int64(s, 5, sum.tokens_cached);
    sqlite3_bind_int64(s, 6, st->job);
    return run_stmt(st, S_JOB_ADD, err);
}

int tr_store_commit(struct tr_store *st, const struct tr_store_put *puts,
                    size_t put_count, const struct tr_store_intent *intents,
                    size_t intent_count, const struct tr_store_outcome *outs,
                    size_t out_count, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_INTENT];
    int rc = TR_OK;

    if (!put_count && !intent_count && !out_count && !st->in_transaction)
        return TR_OK;
    TRY(begin(st, err));
    TRY(put_all(st, puts, put_count, err));
    for (size_t i = 0; i < intent_count; i++) {
        sqlite3_bind_int64(s, 1, (int64_t)intents[i].attempt);
        sqlite3_bind_int64(s, 2, st->job);
        sqlite3_bind_int64(s, 3, st->round);
        sqlite3_bind_int64(s, 4, (int64_t)intents[i].seed);
        sqlite3_bind_int64(s, 5, intents[i].bound_nano);
        sqlite3_bind_int64(s, 6, intents[i].items);
        TRY(run_stmt(st, S_INTENT, err));
    }
    TRY(fold(st, outs, out_count, err));
    TRY(exec(st, "COMMIT", err));
    st->in_transaction = false;
out:
    return rc;
}

uint64_t tr_store_next_attempt(struct tr_store *st)
{
    return st->next_attempt++;
}

/* ---- jobs and money --------------------------------------------------- */

static int step_once(struct tr_store *st, sqlite3_stmt *s, bool *row,
                     struct tr_err *err)
{
    int step = sqlite3_step(s);

    *row = step == SQLITE_ROW;
    return step == SQLITE_ROW || step == SQLITE_DONE
        ? TR_OK : sql_fail(st, err, "the job's money");
}

int tr_store_job(struct tr_store *st, const char *name, int64_t now_s,
                 bool fresh, struct tr_job *job, struct tr_err *err)
{
    sqlite3_stmt *s = NULL;
    bool row;
    int rc = TR_OK;

    (void)fresh; /* a round begins whenever none is under way */
    for (size_t i = 0; i < st->origin_count; i++)
        if (now_s <= st->origins[i].run_at)
            now_s = st->origins[i].run_at + 1;
    *job = (struct tr_job){0};
    TRY(begin(st, err));
    /* What a dead process left open: nobody will ever know its outcome. */
    TRY(exec(st, "UPDATE attempt SET unknown = 1 WHERE unknown = 0", err));
    sqlite3_prepare_v2(st->db, "INSERT OR IGNORE INTO job VALUES"
                       "(NULL, ?, 0, 0, 0, 0, 0, 0, 0, 0)", -1, &s, NULL);
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    TRY(step_once(st, s, &row, err));
    sqlite3_finalize(s);
    sqlite3_prepare_v2(st->db, "UPDATE job SET round = round + 1, under_way = 1,"
                       " started_at = ?, spent = 0, requests = 0, tokens_in = 0,"
                       " tokens_out = 0, tokens_cached = 0"
                       " WHERE name = ? AND under_way = 0", -1, &s, NULL);
    sqlite3_bind_int64(s, 1, now_s);
    sqlite3_bind_text(s, 2, name, -1, SQLITE_STATIC);
    TRY(step_once(st, s, &row, err));
    sqlite3_finalize(s);
    sqlite3_prepare_v2(st->db, "SELECT id, round, started_at, spent, requests,"
                       " tokens_in, tokens_out, tokens_cached,"
                       " (SELECT total(bound) FROM attempt WHERE job = job.id"
                       "  AND attempt.round = job.round AND unknown),"
                       " (SELECT count(*) FROM attempt WHERE job = job.id"
                       "  AND attempt.round = job.round AND unknown)"
                       " FROM job WHERE name = ?", -1, &s, NULL);
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    TRY(step_once(st, s, &row, err));
    if (!row)
        TRY(tr_fail(err, TR_BUG, "%s: the job is not there", st->path));
    st->job = sqlite3_column_int64(s, 0);
    st->round = sqlite3_column_int64(s, 1);
    *job = (struct tr_job){
        .run_at = now_s,
        .started_at = sqlite3_column_int64(s, 2),
        .spent_nano = sqlite3_column_int64(s, 3),
        .requests = sqlite3_column_int64(s, 4),
        .tokens_in = sqlite3_column_int64(s, 5),
        .tokens_out = sqlite3_column_int64(s, 6),
        .tokens_cached = sqlite3_column_int64(s, 7),
        .unknown_nano = sqlite3_column_int64(s, 8),
        .unknown_count = sqlite3_column_int64(s, 9),
    };
out:
    sqlite3_finalize(s);
    if (rc == TR_OK)
        rc = tr_store_commit(st, NULL, 0, NULL, 0, NULL, 0, err);
    return rc;
}

int tr_store_job_finish(struct tr_store *st, struct tr_err *err)
{
    char sql[100];
    int rc = begin(st, err);

    snprintf(sql, sizeof sql, "UPDATE job SET under_way = 0 WHERE id = %"
             PRId64, st->job);
    return rc == TR_OK ? exec(st, sql, err) : rc;
}

int tr_store_forgive(struct tr_store *st, int64_t *count, int64_t *nano,
                     struct tr_err *err)
{
    int rc = TR_OK;

    *count = number(st, "SELECT count(*) FROM attempt");
    *nano = number(st, "SELECT CAST(total(bound) AS INTEGER) FROM attempt");
    TRY(begin(st, err));
    TRY(exec(st, "DELETE FROM attempt", err));
    TRY(tr_store_commit(st, NULL, 0, NULL, 0, NULL, 0, err));
out:
    return rc;
}

/* ---- small values ----------------------------------------------------- */

int tr_store_get(struct tr_store *st, const char *name, struct tr_buf *out,
                 bool *found, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_VALUE_GET];
    int step, rc = TR_OK;

    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    step = sqlite3_step(s);
    *found = step == SQLITE_ROW;
    if (step == SQLITE_ROW) {
        tr_buf_add(out, sqlite3_column_blob(s, 0),
                   (size_t)sqlite3_column_bytes(s, 0));
        if (!tr_buf_ok(out))
            rc = tr_fail(err, TR_NOMEM, "store: out of memory");
    } else if (step != SQLITE_DONE) {
        rc = sql_fail(st, err, "reading");
    }
    sqlite3_reset(s);
    return rc;
}

int tr_store_set(struct tr_store *st, const char *name, struct tr_str value,
                 struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_VALUE_SET];
    int rc = begin(st, err);

    if (rc != TR_OK)
        return rc;
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_blob(s, 2, value.n ? value.p : "", (int)value.n,
                      SQLITE_STATIC);
    return run_stmt(st, S_VALUE_SET, err);
}

/* ---- looking from outside --------------------------------------------- */

static bool held(const char *db_path, long *pid)
{
    char name[4200], text[128] = "";
    int fd;
    bool busy;

    snprintf(name, sizeof name, "%.*slock", (int)strlen(db_path) - 2, db_path);
    fd = open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    *pid = 0;
    if (fd < 0)
        return false;
    busy = flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (busy && pread(fd, text, sizeof text - 1, 0) > 0 &&
        strncmp(text, "(process ", 9) == 0)
        *pid = strtol(text + 9, NULL, 10);
    close(fd);
    return busy;
}

static int64_t file_bytes(const char *path)
{
    struct stat sb;

    return stat(path, &sb) == 0 ? (int64_t)sb.st_size : 0;
}

static void describe(struct tr_store_info *info)
{
    struct tr_store st = {.lock_fd = -1};
    sqlite3_stmt *s = NULL;
    struct stat sb;

    info->bytes = file_bytes(info->path);
    if (stat(info->path, &sb) == 0)
        info->last_at = (int64_t)sb.st_mtime;
    info->in_use = held(info->path, &info->pid);
    if (info->in_use ||
        sqlite3_open_v2(info->path, &st.db, SQLITE_OPEN_READONLY |
                        SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        goto out;
    info->verdicts = number(&st, "SELECT count(*) FROM answer");
    info->failures = number(&st, "SELECT count(*) FROM answer WHERE what < 0");
    info->unknown_count = number(&st, "SELECT count(*) FROM attempt");
    info->unknown_nano = number(&st, "SELECT CAST(total(bound) AS INTEGER) "
                                "FROM attempt");
    info->spent_nano = number(&st, "SELECT CAST(total(spent) AS INTEGER) "
                              "FROM job");
    info->first_at = number(&st, "SELECT min(run_at) FROM origin");
    if (sqlite3_prepare_v2(st.db, "SELECT value FROM value WHERE name = 'task'",
                           -1, &s, NULL) == SQLITE_OK &&
        sqlite3_step(s) == SQLITE_ROW)
        snprintf(info->task_name, sizeof info->task_name, "%s",
                 text_at(s, 0));
    sqlite3_finalize(s);
out:
    sqlite3_close(st.db);
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = ((const struct tr_store_info *)a)->last_at;
    int64_t y = ((const struct tr_store_info *)b)->last_at;

    return (x < y) - (x > y);
}

int tr_store_list(const char *folder, struct tr_store_info **list, size_t *n,
                  struct tr_err *err)
{
    DIR *dir = opendir(folder);
    struct dirent *e;
    size_t cap = 0;
    int rc = TR_OK;

    *list = NULL;
    *n = 0;
    if (!dir)
        return errno == ENOENT ? TR_OK
            : tr_fail(err, TR_NOINPUT, "%s: %s", folder, strerror(errno));
    while (rc == TR_OK && (e = readdir(dir))) {
        if (strlen(e->d_name) != 35 || strcmp(e->d_name + 32, ".db") != 0)
            continue;
        rc = room((void **)list, &cap, *n + 1, sizeof **list, err);
        if (rc != TR_OK)
            break;
        memset(&(*list)[*n], 0, sizeof **list);
        snprintf((*list)[*n].path, sizeof (*list)[*n].path, "%.3900s/%.40s",
                 folder, e->d_name);
        describe(&(*list)[(*n)++]);
    }
    closedir(dir);
    if (rc == TR_OK && *n)
        qsort(*list, *n, sizeof **list, newest_first);
    return rc;
}

int tr_store_origins(struct tr_store *st,
                     void (*each)(void *ctx, const struct tr_origin *o,
                                  int64_t verdicts),
                     void *ctx, struct tr_err *err)
{
    sqlite3_stmt *s;
    int step;

    if (sqlite3_prepare_v2(st->db, "SELECT v >> 18 & 65535 AS o, count(*) FROM "
                           "answer GROUP BY o ORDER BY o", -1, &s, NULL))
        return sql_fail(st, err, "reading");
    while ((step = sqlite3_step(s)) == SQLITE_ROW) {
        const struct tr_origin *o =
            tr_store_origin_at(st, (uint16_t)sqlite3_column_int(s, 0));

        if (o)
            each(ctx, o, sqlite3_column_int64(s, 1));
    }
    sqlite3_finalize(s);
    return step == SQLITE_DONE ? TR_OK : sql_fail(st, err, "reading");
}

int tr_store_remove(const char *path, struct tr_err *err)
{
    static const char *const tails[] = {"db-wal", "db-shm", "db", "lock"};
    char name[4200];
    long pid;

    if (held(path, &pid))
        return tr_fail(err, TR_STOPPED, "%s is in use by process %ld: end that "
                       "run first", path, pid);
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        snprintf(name, sizeof name, "%.*s%s", (int)strlen(path) - 2, path,
                 tails[i]);
        if (unlink(name) != 0 && errno != ENOENT)
            return tr_fail(err, TR_IO, "%s: cannot be removed: %s", name,
                           strerror(errno));
    }
    return TR_OK;
}

int tr_store_default_folder(struct tr_buf *out, struct tr_err *err)
{
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");

    if (state && *state == '/')
        tr_buf_addf(out, "%s/trommel", state);
    else if (home && *home == '/')
        tr_buf_addf(out, "%s/.local/state/trommel", home);
    else
        return tr_fail(err, TR_CANTCREATE, "no folder for the store: HOME is "
                       "not set; give --store DIR, or --store none");
    return tr_buf_ok(out) ? TR_OK : tr_fail(err, TR_NOMEM, "out of memory");
}
