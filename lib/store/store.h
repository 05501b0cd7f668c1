/* store.h - what has been paid for: verdicts, attempts in flight, money.
 *
 * One SQLite file per task digest in a folder, opened by one process at a
 * time (an advisory lock beside it says who). One connection, WAL,
 * synchronous=FULL, mode 0600. No row text. The only file that includes
 * sqlite3.h is store.c.
 *
 * An attempt stands in the table from its intent until its outcome is known;
 * then its money is folded into the job's sums and the row goes. What is left
 * after a crash is exactly what is unknown.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_STORE_STORE_H
#define TR_STORE_STORE_H

#include "base/buf.h"
#include "base/err.h"
#include "nouns.h"

#define TR_STORE_LAYOUT 1

struct tr_store;

struct tr_store_opts {
    const char *folder;    /* created with mode 0700 if missing; NULL: a
                              private temporary store that dies with us */
    struct tr_key task;    /* file name: its hex + ".db" */
    const char *task_name; /* for people: labels or task file name */
    bool wait_lock;        /* wait for another run instead of failing */
    bool read_only;        /* for ls and show: no lock, no change */
};

/* Errors: TR_STOPPED when another process holds it (text names its pid and
 * since when), TR_CONFIG for a newer layout or a foreign file, TR_IO.
 * wait_lock polls every 200 ms and returns TR_STOPPED only when interrupted
 * through *tr_store_interrupt (may be NULL). */
int tr_store_open(struct tr_store **out, const struct tr_store_opts *o,
                  struct tr_err *err);
/* In memory, for simulations; survives tr_store_crash(). */
int tr_store_open_memory(struct tr_store **out, struct tr_err *err);
/* Simulations: forgets what was not committed, as a killed process would, and
 * counts still-open attempts as a fresh open does. */
int tr_store_crash(struct tr_store *st, struct tr_err *err);
void tr_store_close(struct tr_store *st); /* accepts NULL; rolls back */
const char *tr_store_path(const struct tr_store *st);

/* ---- origins: who said a verdict, interned ---------------------------- */

struct tr_origin {
    char by[160];         /* "openai/gpt-6-luna" as shown in NAME_by */
    char served[96];      /* model that really answered, or "" */
    char effort[16];
    int32_t prompt_version;
    int64_t run_at;       /* Unix s: start of the run that asked */
};
/* Finds or adds (added with the next commit). */
int tr_store_origin(struct tr_store *st, const struct tr_origin *o,
                    uint16_t *index, struct tr_err *err);
const struct tr_origin *tr_store_origin_at(const struct tr_store *st,
                                           uint16_t index); /* NULL: none */

/* ---- label sets (task/task.h), as '|'-joined names -------------------- */

/* Sets known to the file in order of their number; add appends one (durable
 * with the next commit). */
uint32_t tr_store_set_count(const struct tr_store *st);
struct tr_str tr_store_set_at(const struct tr_store *st, uint32_t i);
int tr_store_set_add(struct tr_store *st, struct tr_str names,
                     struct tr_err *err);

/* ---- verdicts --------------------------------------------------------- */

/* Looks n keys up. found[i] says whether out[i] was filled. Keys may come in
 * any order; large batches are looked up in key order inside. Verdicts whose
 * origin.run_at < not_before (--fresh: the job's start) are passed over, and
 * so are failures older than failures_not_before (--retry-failed); prompt
 * versions below min_prompt too. Committed and pending verdicts are seen. */
struct tr_store_find {
    int64_t not_before, failures_not_before;
    int32_t min_prompt;
};
int tr_store_find(struct tr_store *st, const struct tr_store_find *how,
                  const struct tr_key *keys, size_t n,
                  struct tr_verdict *out, bool *found, struct tr_err *err);
int64_t tr_store_count(struct tr_store *st); /* verdicts on file, about */

/* ---- one commit ------------------------------------------------------- */

struct tr_store_put {
    struct tr_key key;
    struct tr_verdict verdict;
};
struct tr_store_intent {
    uint64_t attempt;     /* from tr_store_next_attempt() */
    uint64_t seed;        /* ids and order of the pack */
    int64_t bound_nano;   /* money reserved, nano-dollars */
    uint32_t items;
};
struct tr_store_outcome {
    uint64_t attempt;
    int64_t spent_nano;   /* settled money; BILL_NONE: 0 */
    int64_t unknown_nano; /* outcome unknown: the bound, stays charged */
    int64_t tokens_in, tokens_out, tokens_cached;
    bool is_unknown;      /* keep as an unknown attempt */
};
/* All of it in one durable transaction (puts in key order inside; an existing
 * key is replaced). When it returns TR_OK, everything is on disk. */
int tr_store_commit(struct tr_store *st, const struct tr_store_put *puts,
                    size_t put_count, const struct tr_store_intent *intents,
                    size_t intent_count, const struct tr_store_outcome *outs,
                    size_t out_count, struct tr_err *err);
uint64_t tr_store_next_attempt(struct tr_store *st);

/* ---- jobs and money --------------------------------------------------- */

/* A job is the unit a budget covers: its runs from the first until one
 * finishes. All nano-dollars. */
struct tr_job {
    int64_t started_at;     /* Unix s, first run of the current round */
    int64_t run_at;         /* Unix s of this run; later than any before, so
                               that two runs within a second stay apart */
    int64_t spent_nano;     /* settled, this round */
    int64_t unknown_nano;   /* bounds of unknown outcomes, this round */
    int64_t unknown_count;
    int64_t requests, tokens_in, tokens_out, tokens_cached;
};
/* Begins (or goes on with) job name; attempts left open by a crash are turned
 * into unknown ones of this job and counted. fresh starts a new round for
 * verdicts (started_at = now) unless one is under way. */
int tr_store_job(struct tr_store *st, const char *name, int64_t now_s,
                 bool fresh, struct tr_job *job, struct tr_err *err);
int tr_store_job_finish(struct tr_store *st, struct tr_err *err); /* durable
                                                    with the next commit */
/* Releases the unknown money of all jobs of this file; returns how much. */
int tr_store_forgive(struct tr_store *st, int64_t *count, int64_t *nano,
                     struct tr_err *err);

/* ---- small values kept by name: what a lane learned, local fits -------- */

int tr_store_get(struct tr_store *st, const char *name, struct tr_buf *out,
                 bool *found, struct tr_err *err);
int tr_store_set(struct tr_store *st, const char *name, struct tr_str value,
                 struct tr_err *err); /* durable with the next commit */

/* ---- looking from outside (trommel store) ----------------------------- */

struct tr_store_info {
    char path[4096];
    char task_name[200];
    int64_t bytes, verdicts, failures, unknown_count, unknown_nano, spent_nano;
    int64_t first_at, last_at;  /* Unix s */
    bool in_use;
    long pid;
};
/* Every store of a folder, newest first; *list is tr_free()d by the caller. */
int tr_store_list(const char *folder, struct tr_store_info **list, size_t *n,
                  struct tr_err *err);
/* Per origin: verdicts. Calls back for each. */
int tr_store_origins(struct tr_store *st,
                     void (*each)(void *ctx, const struct tr_origin *o,
                                  int64_t verdicts),
                     void *ctx, struct tr_err *err);
/* Removes a store's files; refuses while it is in use. */
int tr_store_remove(const char *path, struct tr_err *err);
/* Default folder: $XDG_STATE_HOME/trommel or ~/.local/state/trommel. */
int tr_store_default_folder(struct tr_buf *out, struct tr_err *err);

#endif
