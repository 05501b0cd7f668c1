/* sql.h - what the files of the store share: the open store, its statements,
 * and the one transaction. From the ground up:
 *
 *   sql.c      the statements, errors, begin and end
 *   layout.c   the tables, and how SQLite has to treat the file
 *   known.c    verdicts, who said them, label sets: looked up and put
 *   attempt.c  intents and outcomes, their money
 *   store.c    opening, one commit, what a crash left
 *   books.c    jobs, what is unknown, batches
 *
 * Nobody outside this folder includes this file: there only store.h is known.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_STORE_SQL_H
#define TR_STORE_SQL_H

#include "base/digest.h"
#include "base/err.h"
#include "base/str.h"
#include "store/rescue.h"
#include "store/store.h"

#include <sqlite3.h>
#include <string.h>
#include <sys/types.h>

/* Their texts are in sql.c. */
enum stmt {
    S_BEGIN, S_COMMIT, S_FIND, S_HOLD, S_ADD, S_REPLACE, S_STAGE, S_STAGED,
    S_UNSTAGE, S_TALLY, S_TALLIES, S_INTENT, S_SETTLE, S_UNKNOWN,
    S_UNKNOWN_SUM, S_UNHEARD_SUM, S_FORGIVE, S_LOST_COUNT, S_LOST, S_JOB_MAKE,
    S_JOB_ROUND, S_JOB_READ, S_JOB_ADD, S_PLEDGE, S_UNPLEDGE, S_PLEDGED,
    S_UNPLEDGE_ALL, S_JOB_FINISH, S_JOB_SUM, S_ORIGIN, S_ORIGINS, S_SET,
    S_SETS, S_HIGH_WATER, S_VALUE_GET, S_VALUE_SET, S_NO_PLEDGE, S_NEVER_LEFT,
    S_NOT_WAITING, S_WAIT_BATCH, S_JOIN_BATCH, S_LEAVE_BATCH, S_EMPTY_BATCHES,
    S_LEAVE_ALL, S_ENQUEUED, S_NOT_ENQUEUED, S_BATCH_ADD, S_BATCH_OPENED,
    S_BATCHES, S_ITEMS, S_JOB_ADD_OF, S_COUNT
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
    bool was_made;        /* there was a store: what is empty is not new */
    bool opened;          /* and found whole: its log may be merged */
    bool had_log;         /* beside the file, before SQLite made one */
    bool in_use;          /* so says the file: TR_IN_USE */
    int64_t commits;      /* made durable, in this file's life */
    bool in_transaction;
    bool no_sync;         /* as SQLite was told last */
    bool unsynced;        /* saved, and no commit since */
    struct tr_err failed; /* code != 0: a change failed, none succeeds again */
    struct tr_rescue rescue; /* for what comes after that */
    size_t origins_kept, sets_kept; /* of origins and sets: in the file, or in
                             the rescue file */
    struct tr_origin *origins;
    size_t origin_count, origin_cap;
    struct tally {
        int64_t answers, failures;
        bool changed;     /* since the last commit */
    } *tallies;           /* origin_count + 1, see slot_of() */
    size_t tally_cap;
    size_t set_count;     /* label sets listed */
    struct tr_str *sets;  /* those after the first sets_kept; owned texts */
    size_t set_cap;
    uint64_t next_attempt;
    int64_t job, round;   /* 0: none begun */
    bool pledges;         /* attempts may have a bound in tokens among values */
    /* What the next merge puts into `answer`: `fresh`, and what a commit
     * brings with it. */
    struct tr_store_put *puts;
    size_t put_count, put_cap;
    size_t saved_count;   /* the first of them: saved, and no commit since */
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

/* ---- errors (sql.c) --------------------------------------------------- */

/* The path, or words for a store without one. */
const char *tr_sql_name(const struct tr_store *st);
/* TR_... and the sentence for what SQLite says; what: we were doing. */
int tr_sql_fail(struct tr_store *st, struct tr_err *err, const char *what);
int tr_sql_damaged(const struct tr_store *st, const char *what,
                   struct tr_err *err);

/* ---- statements (sql.c) ----------------------------------------------- */

int tr_sql_prepare(struct tr_store *st, struct tr_err *err);
int tr_sql_exec(struct tr_store *st, const char *sql, struct tr_err *err);
/* Steps once; *row says whether there is one. The caller resets. */
int tr_sql_step(struct tr_store *st, enum stmt which, bool *row,
                struct tr_err *err);
/* Runs a statement that gives no rows. */
int tr_sql_run(struct tr_store *st, enum stmt which, struct tr_err *err);
/* Runs it with the integers given for ?1, ?2, ... */
int tr_sql_run_with(struct tr_store *st, enum stmt which, struct tr_err *err,
                    const int64_t *values, int n);
#define RUN(st, which, err, ...)                                               \
    tr_sql_run_with(st, which, err, (const int64_t[]){__VA_ARGS__},            \
                    (int)(sizeof((const int64_t[]){__VA_ARGS__}) /             \
                          sizeof(int64_t)))
void tr_sql_bind_text(struct tr_store *st, enum stmt which, int at,
                      struct tr_str text);
struct tr_str tr_sql_text(sqlite3_stmt *s, int column);
/* Takes column text over; false when it does not fit: not ours. */
bool tr_sql_copy(char *out, size_t size, struct tr_str text);
/* One number of a query that is asked once, while opening. */
int tr_sql_number(struct tr_store *st, const char *sql, int64_t *n,
                  struct tr_err *err);

/* ---- the transaction (sql.c) ------------------------------------------ */

/* Every change goes through tr_sql_begin() first and, when it fails, through
 * tr_sql_give_up(), which returns rc: a disk that failed once is not asked
 * again. sync: its end is durable. */
int tr_sql_begin(struct tr_store *st, struct tr_err *err);
int tr_sql_begin_with(struct tr_store *st, bool sync, struct tr_err *err);
int tr_sql_end(struct tr_store *st, struct tr_err *err);
int tr_sql_give_up(struct tr_store *st, int rc, const struct tr_err *err);
/* All origins and sets are where a failing disk does not lose them. */
void tr_sql_lists_kept(struct tr_store *st);

/* An array with room for need elements of that size. */
int tr_sql_room(void **array, size_t *cap, size_t need, size_t size,
                struct tr_err *err);

/* ---- the file (layout.c) ---------------------------------------------- */

/* How SQLite has to treat it: before anything that reads the file. */
int tr_layout_configure(struct tr_store *st, struct tr_err *err);
/* After that and before anything is changed: whether commits are missing that
 * were durable once. Then TR_CONFIG, and the files stay as they are. */
int tr_layout_whole(struct tr_store *st, struct tr_err *err);
/* Then what an earlier run left in the log goes into the file, before this one
 * adds to it. */
int tr_layout_merge(struct tr_store *st, struct tr_err *err);
/* Among the small values: 1 in the file itself, not only in its log, while
 * requests may be out. */
#define TR_IN_USE "in_use"
/* New, ours, older, newer or foreign: ours when it returns TR_OK. */
int tr_layout_check(struct tr_store *st, struct tr_err *err);

/* ---- verdicts, origins, label sets (known.c) -------------------------- */

/* Memory as the committed file has it. */
int tr_known_load(struct tr_store *st, struct tr_err *err);
void tr_known_forget(struct tr_store *st);
/* One more in memory; with write in the file too, with the next commit. */
int tr_known_add_origin(struct tr_store *st, const struct tr_origin *o,
                        bool write, struct tr_err *err);
int tr_known_add_set(struct tr_store *st, struct tr_str names, bool write,
                     struct tr_err *err);
bool tr_known_origin(const struct tr_store *st, uint16_t origin);
/* Puts that the next merge brings into `answer`. */
int tr_known_take(struct tr_store *st, const struct tr_store_put *puts,
                  size_t n, struct tr_err *err);
int tr_known_merge(struct tr_store *st, struct tr_err *err);
/* They become a row of `fresh` meanwhile. */
int tr_known_stage(struct tr_store *st, const struct tr_store_put *puts,
                   size_t n, struct tr_err *err);
/* What an earlier process staged: taken, or by a reader only counted. */
int tr_known_load_staged(struct tr_store *st, struct tr_err *err);
int tr_known_count_staged(struct tr_store *st, struct tr_err *err);

/* ---- attempts, within a transaction (attempt.c) ----------------------- */

int tr_attempt_load(struct tr_store *st, struct tr_err *err);
int tr_attempt_intend(struct tr_store *st,
                      const struct tr_store_intent *intents, size_t n,
                      struct tr_err *err);
int tr_attempt_settle(struct tr_store *st, const struct tr_store_outcome *outs,
                      size_t n, struct tr_err *err);
/* Batches that hold no attempt any more go. */
int tr_attempt_end_batches(struct tr_store *st, struct tr_err *err);
/* Over the keys of what goes by batch, with its number and seed. */
int64_t tr_attempt_digest(uint64_t attempt, uint64_t seed,
                          const struct tr_key *keys, uint32_t n);

/* ---- the commit (store.c) --------------------------------------------- */

/* All that is pending becomes durable. */
int tr_store_commit_pending(struct tr_store *st, struct tr_err *err);

#endif
