/* store.h - what has been paid for: verdicts, attempts in flight, money.
 *
 * One SQLite file per task digest in a folder, opened by one process at a
 * time (an advisory lock beside it says who). One connection, WAL,
 * synchronous=FULL, mode 0600. No row text. sql.h says which file does what,
 * and is the only one that includes sqlite3.h; lock.c holds the lock, rescue.c
 * what comes after a failure, folder.c what concerns many stores.
 *
 * An attempt stands in the table from its intent until its outcome is known;
 * then its money is folded into the job's sums and the row goes. What is left
 * after a crash is exactly what is unknown, but for what is in a batch: that
 * goes on without us, and the next run picks it up.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_STORE_STORE_H
#define TR_STORE_STORE_H

#include "base/buf.h"
#include "base/err.h"
#include "nouns.h"

#define TR_STORE_LAYOUT 4

struct tr_store;

struct tr_store_opts {
    const char *folder;    /* created with mode 0700 if missing; NULL: a
                              private temporary store that dies with us */
    struct tr_key task;    /* file name: its hex + ".db" */
    const char *task_name; /* for people: labels or task file name */
    bool waits;            /* TR_STORE_HELD instead of TR_STOPPED */
    bool read_only;        /* for ls, show and forecasts: nothing changes; no
                              run can begin until it is closed */
};

/* Errors: TR_STOPPED when another process holds it (text names its pid and
 * since when) or reads it for longer than two seconds, TR_CONFIG for a newer
 * layout, a foreign or damaged file, TR_CANTCREATE, TR_IO, TR_NOINPUT
 * (read_only and not there). For who waits
 * TR_STORE_HELD, with the words for it: open it again in a moment. */
enum { TR_STORE_HELD = 1 };
int tr_store_open(struct tr_store **out, const struct tr_store_opts *o,
                  struct tr_err *err);
/* The store behind a path that tr_store_list() gave. */
int tr_store_open_path(struct tr_store **out, const char *path, bool read_only,
                       struct tr_err *err);
/* In memory, for simulations; survives tr_store_crash(). */
int tr_store_open_memory(struct tr_store **out, struct tr_err *err);
/* Simulations: forgets what was not committed, as a killed process would, and
 * counts still-open attempts as a fresh open does. */
int tr_store_crash(struct tr_store *st, struct tr_err *err);
void tr_store_close(struct tr_store *st); /* accepts NULL; rolls back */
const char *tr_store_path(const struct tr_store *st); /* "": temporary */

/* ---- origins: who said a verdict, interned ---------------------------- */

struct tr_origin {
    char by[160];         /* "openai/gpt-6-luna" as shown in NAME_by */
    char served[96];      /* model that really answered, or "" */
    char effort[16];
    int32_t prompt_version;
    int64_t run_at;       /* Unix s: start of the run that asked */
};
/* Finds or adds (added with the next commit). A number has 16 bits, and each
 * run could bring one: so from TR_ORIGINS_OWN of them on this finds the last
 * one that differs in nothing but run_at, unless that is before since. What is
 * said then looks as old as that. TR_CONFIG: no number is left. */
int tr_store_origin(struct tr_store *st, const struct tr_origin *o,
                    int64_t since, uint16_t *index, struct tr_err *err);
/* Few numbers are left (TR_ORIGINS_LEAST): it does not mind `served` either.
 * Who will need one asks for it before anything is paid for. */
bool tr_store_origins_scarce(const struct tr_store *st);
const struct tr_origin *tr_store_origin_at(const struct tr_store *st,
                                           uint16_t index); /* NULL: none */

/* ---- label sets (task/task.h), as '|'-joined names -------------------- */

/* Those that are listed (task/task.h), in their order; each() != TR_OK ends. */
int tr_store_sets(struct tr_store *st,
                  int (*each)(void *ctx, struct tr_str names,
                              struct tr_err *err),
                  void *ctx, struct tr_err *err);
/* One more, durable with the next commit. */
int tr_store_set_add(struct tr_store *st, struct tr_str names,
                     struct tr_err *err);

/* ---- verdicts --------------------------------------------------------- */

/* Looks n keys up. found[i] says whether out[i] holds a verdict; where it is
 * false out[i] means nothing. Keys may come in any order; they are looked up
 * in key order inside. Verdicts whose
 * origin.run_at < not_before (--fresh) are passed over, and so are failures
 * older than failures_not_before (--retry-failed), each unless that is 0;
 * prompt versions below min_prompt too. A verdict is seen from its commit on.
 * One that was changed on disk is an error (TR_CONFIG), but for 1 in 8,192. */
struct tr_store_find {
    int64_t not_before, failures_not_before;
    int32_t min_prompt;
};
int tr_store_find(struct tr_store *st, const struct tr_store_find *how,
                  const struct tr_key *keys, size_t n,
                  struct tr_verdict *out, bool *found, struct tr_err *err);
int64_t tr_store_count(const struct tr_store *st); /* verdicts on file */

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
    int64_t bound_tokens; /* reserved of a budget in tokens; 0: there is none */
    const struct tr_key *keys; /* to go by batch: of its rows, before they are
                                  drawn; items of them. Else NULL */
};
struct tr_store_outcome {
    uint64_t attempt;
    int64_t spent_nano;   /* settled money; BILL_NONE: 0 */
    int64_t unknown_nano; /* outcome unknown: the bound, stays charged */
    int64_t tokens_in, tokens_out, tokens_cached;
    int64_t unknown_tokens; /* of bound_tokens: stays charged */
    bool is_unknown;      /* keep as an unknown attempt */
    bool unsent;          /* never left: it does not count as a request */
    bool in_batch;        /* takes it out of its batch */
    bool of_other;        /* in_batch: of another job or round, see
                             tr_store_item.ours: the money goes there */
};
/* All of it in one durable transaction (puts in key order inside; an existing
 * key is replaced), with what tr_store_origin(), _set_add() and _set() left
 * pending. When it returns TR_OK, everything is on disk. When it fails nothing
 * of it is, and every later change fails with the same sentence: what a disk
 * that once failed holds is known only after opening it again. */
int tr_store_commit(struct tr_store *st, const struct tr_store_put *puts,
                    size_t put_count, const struct tr_store_intent *intents,
                    size_t intent_count, const struct tr_store_outcome *outs,
                    size_t out_count, struct tr_err *err);
/* The same without a sync and without intents: safe when the process is
 * killed, not when the power goes; the next tr_store_commit() makes it
 * durable, even with nothing new of its own. Until then tr_store_find() does
 * not see the puts and tr_store_count() does not count them; after a kill they
 * are as good as committed from the next open on. */
int tr_store_save(struct tr_store *st, const struct tr_store_put *puts,
                  size_t put_count, const struct tr_store_outcome *outs,
                  size_t out_count, struct tr_err *err);
/* After one of the two has failed: keeps what was saved since the last commit,
 * what came since, and what that one was given, in a file beside the store
 * (rescue.h), durably, for the next open. Fails when no intents were committed
 * before, or more came than room was taken for. Origins and sets can be added
 * as before. */
int tr_store_rescue(struct tr_store *st, const struct tr_store_put *puts,
                    size_t put_count, const struct tr_store_outcome *outs,
                    size_t out_count, struct tr_err *err);
uint64_t tr_store_next_attempt(struct tr_store *st);
/* Commits in the life of the file that are durable: a copy has as many as were
 * made before it. */
int64_t tr_store_commits(const struct tr_store *st);

/* ---- jobs and money --------------------------------------------------- */

/* A job is the unit a budget covers: its runs from the first until one
 * finishes. All nano-dollars. */
struct tr_job {
    int64_t started_at;     /* Unix s, first run of the current round */
    int64_t fresh_at, retry_at; /* what is older does not count, or no failure
                               that is: 0 where nobody asked */
    int64_t run_at;         /* Unix s of this run; later than any before, so
                               that two runs within a second stay apart, and
                               no earlier than the three above */
    int64_t spent_nano;     /* settled, this round */
    int64_t unknown_nano;   /* bounds of unknown outcomes, this round */
    int64_t unknown_count;
    int64_t unknown_tokens; /* of those that had a bound in tokens */
    int64_t round;          /* one more with each; the first is any number */
    int64_t open_nano;      /* bounds of attempts in batches, this round */
    int64_t open_tokens, open_requests; /* the same in other units */
    int64_t requests, tokens_in, tokens_out, tokens_cached;
};
/* All three are durable when they return TR_OK.
 *
 * Goes on with the round of job name that is under way, or begins one, with
 * nothing spent; attempts left open by a crash are turned into unknown ones of
 * this job and counted, those in a batch stay open, and those that waited for
 * one never left and are forgotten. again: TR_AGAIN_...
 * the first run of a round that asks for it says since when, and later ones go
 * on with that: what it has stored counts. */
enum { TR_AGAIN_ALL = 1, TR_AGAIN_FAILED = 2 };
int tr_store_job(struct tr_store *st, const char *name, int64_t now_s,
                 unsigned again, struct tr_job *job, struct tr_err *err);
/* For who only reads: run_at, fresh_at and retry_at as they would be. */
int tr_store_job_ahead(struct tr_store *st, const char *name, int64_t now_s,
                       unsigned again, struct tr_job *job, struct tr_err *err);
/* The next tr_store_job() of this name starts a new round, nothing spent. */
int tr_store_job_finish(struct tr_store *st, struct tr_err *err);
/* Releases the unknown money of all jobs of this file, open batches included:
 * nobody will ask about them any more. Returns how much. */
int tr_store_forgive(struct tr_store *st, int64_t *count, int64_t *nano,
                     struct tr_err *err);

/* ---- batches ---------------------------------------------------------- */

/* An attempt whose intent named keys waits for a batch. An outcome takes it
 * out of its batch, and the last one takes the batch away; the money goes to
 * the job that asked, whoever hears the answer. */

/* Durable when they return TR_OK. Creating: batch->id is set; attempts that
 * stood in another batch leave it. Opened: batch's name, file and state. */
int tr_store_batch_creating(struct tr_store *st, struct tr_batch *batch,
                            const uint64_t *attempts, size_t n,
                            struct tr_err *err);
int tr_store_batch_opened(struct tr_store *st, const struct tr_batch *batch,
                          struct tr_err *err);
/* Every batch of the file, oldest first; *list is tr_free()d by the caller. */
int tr_store_batches(struct tr_store *st, struct tr_batch **list, size_t *n,
                     struct tr_err *err);
struct tr_store_item {
    uint64_t attempt, seed;
    int64_t bound_nano, bound_tokens; /* tokens: 0 without such a budget */
    bool ours;              /* of the job and round that tr_store_job() began */
    const struct tr_key *keys; /* during the call */
    uint32_t items;
};
/* The attempts of a batch in order of their number; each() != TR_OK ends. */
int tr_store_batch_items(struct tr_store *st, int64_t batch,
                         int (*each)(void *ctx,
                                     const struct tr_store_item *item,
                                     struct tr_err *err),
                         void *ctx, struct tr_err *err);

/* ---- small values kept by name: what a lane learned, local fits -------- */

int tr_store_get(struct tr_store *st, const char *name, struct tr_buf *out,
                 bool *found, struct tr_err *err);
int tr_store_set(struct tr_store *st, const char *name, struct tr_str value,
                 struct tr_err *err); /* durable with the next commit */

/* ---- looking from outside (trommel store) ----------------------------- */

struct tr_store_info {
    char path[4096];
    char task_name[200];
    int64_t bytes, verdicts, failures, unknown_count, unknown_nano;
    int64_t spent_nano;         /* all jobs, all rounds, since the beginning */
    int64_t batches, batch_requests; /* that go on at a provider, ... */
    int64_t batch_nano;         /* ... and cost at most; -1: no prices */
    int64_t first_at, last_at;  /* Unix s; 0: never */
    bool in_use;                /* by a run: only path, task_name, bytes, */
    long pid;                   /* last_at and pid are known */
    char trouble[300];          /* why it cannot be read, or "" */
};
/* Sums of an open store: all but path, bytes, last_at, in_use, pid. */
int tr_store_look(struct tr_store *st, struct tr_store_info *info,
                  struct tr_err *err);
/* Every store of a folder, last used first; *list is tr_free()d by the caller.
 * A folder that is not there holds none. */
int tr_store_list(const char *folder, struct tr_store_info **list, size_t *n,
                  struct tr_err *err);
/* The store behind a path that it gave, as it is now. */
void tr_store_describe(const char *path, struct tr_store_info *info);
/* Per origin: verdicts. Calls back for each that has any; o is NULL for
 * failures found before any model was asked. */
void tr_store_origins(const struct tr_store *st,
                      void (*each)(void *ctx, const struct tr_origin *o,
                                   int64_t verdicts),
                      void *ctx);
/* Removes a store's files; TR_STOPPED while it is in use. */
int tr_store_remove(const char *path, struct tr_err *err);
/* Default folder: $XDG_STATE_HOME/trommel or ~/.local/state/trommel. */
int tr_store_default_folder(struct tr_buf *out, struct tr_err *err);

#endif
