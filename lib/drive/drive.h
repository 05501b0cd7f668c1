/* drive.h - the real driver: opens what a run needs (opening.c, and by parts
 * models.c, stores.c, files.c), is its world (env.c), and takes its steps
 * (drive.c).
 *
 * Gives the engine (run.h) clock, randomness, files and lanes. api.c hands it
 * out as trommel_run.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_DRIVE_H
#define TR_DRIVE_H

#include "config.h"
#include "drive/peers.h"
#include "rows/sink.h"
#include "rows/source.h"
#include "rows/spill.h"
#include "run.h"
#include "drive/sample.h"
#include "drive/till.h"
#include "watch/watch.h"

#include <stdatomic.h>
#include <sys/types.h>

#define TR_PUSH_BYTES (1u << 20) /* pushed rows that wait to be read */
#define TR_RESULTS 4096u         /* results that wait to be taken */
#define TR_MESSAGES 256u         /* lines that wait to be taken */

/* A result of a pushed row; id is owned. */
struct tr_outcome_row {
    int64_t row;
    char *id;
    struct tr_verdict verdict;
};

struct tr_message {
    int level;
    char *text; /* owned */
};

struct tr_drive {
    struct tr_config *cfg;
    struct tr_err err;
    struct tr_env env;
    struct tr_task task;
    struct tr_store *store;
    struct tr_lane *lanes[TR_LANES_MAX]; /* --model and its fallbacks */
    uint32_t lane_count;
    struct tr_run *run;
    struct tr_source *source; /* NULL: rows are pushed */
    struct tr_source_opts source_opts; /* it was opened with; borrow cfg */
    const char **reads;       /* names of all files that are read: none of
                                 them may be written; they borrow cfg, task */
    size_t read_count;
    struct tr_sink *sink;     /* NULL: results are taken */
    struct tr_till till;      /* the job's budget, shared with other stores */
    struct tr_spill spill;
    char *spill_folder;

    pid_t owner;              /* the process that opened it */
    bool has_task, source_waits, done, dry_run;
    bool awaits_store;        /* --wait-lock: another run holds or reads it,
                                 and what needs it is not open yet */
    int exit_code;

    struct tr_buf pushed;     /* id_len, text_len, id, text; repeated */
    size_t pushed_at;
    int64_t pushed_rows;      /* taken so far: the number of the next one */
    bool push_ended;
    struct tr_outcome_row *results; /* ring of TR_RESULTS */
    uint32_t result_first, result_count;
    bool results_moved;       /* one came, or was taken, since the last step */
    bool results_said;        /* that nobody takes them */

    struct tr_message messages[TR_MESSAGES]; /* ring */
    uint32_t message_first, message_count;

    _Atomic(const char *) doing; /* words of the step; NULL: nothing that ends
                                    by itself. Any thread may read it */
    struct tr_watch watch;
    bool over;                /* the engine has nothing more to do, or never
                                 began: the opening failed */
    int over_code;            /* what the last step returns then */
    struct tr_peers peers;
    bool peers_asked;         /* by --share-limits yes: failing is news */

    struct tr_sample sample;
    bool sampled;
    struct tr_sample asked;   /* "sample": all the rows of this run */
    size_t asked_at;
    bool is_sample;

    uint64_t random[64];
    size_t random_left;
    struct tr_buf line;       /* one output record */
    struct tr_str *names;     /* labels of one record; label_count of them */
    bool sink_full;           /* its reader is slow: a record waits */
    bool sink_failed;         /* and the engine was told */
    int64_t flushed_at, opened_at;
    int64_t drain_until;      /* a stopped run waits for its reader; 0: not */
};

int tr_drive_open(struct tr_drive *d, const struct tr_config *cfg);
/* False in a child made by fork() since: its buffers, sockets and locks are
 * copies of those in use, and its worker threads are not there. */
bool tr_drive_is_ours(const struct tr_drive *d);
/* Parts of it: models.c ... */
int tr_drive_open_models(struct tr_drive *d, struct tr_err *err);
/* ... stores.c; TR_STORE_HELD as tr_store_open() ... */
int tr_drive_open_store(struct tr_drive *d, struct tr_err *err);
int tr_drive_open_till(struct tr_drive *d, const struct tr_run_opts *o,
                       struct tr_err *err);
void tr_drive_choose_peers(struct tr_drive *d);
/* ... files.c: trace, metrics and alerts; then the output, behind the store. */
int tr_drive_open_watch(struct tr_drive *d, struct tr_err *err);
int tr_drive_open_output(struct tr_drive *d, struct tr_err *err);
/* While awaits_store: asks again, within 200 ms. As tr_drive_step(). */
int tr_drive_await_store(struct tr_drive *d, int timeout_ms);
/* TR_RUN_MORE, TR_RUN_DONE or a negative code (d->err). */
int tr_drive_step(struct tr_drive *d, int timeout_ms);
void tr_drive_say(struct tr_drive *d, int level, const char *line);
void tr_drive_doing(struct tr_drive *d, const char *what);
void tr_drive_stop(struct tr_drive *d, int exit_code);
void tr_drive_close(struct tr_drive *d);
/* The same for those who know it as ctx. */
void tr_drive_on_say(void *ctx, int level, const char *line);
/* Fills d->env, once the parts are open. */
void tr_drive_env(struct tr_drive *d);

#endif
