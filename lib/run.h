/* run.h - the engine: one step of five verbs. Sans-IO.
 *
 * The engine opens nothing, reads no clock, draws no randomness: all of that
 * comes through struct tr_env, so that the real driver (lib/drive) and the
 * simulator (tests/sim) share these object files.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_RUN_H
#define TR_RUN_H

#include "lane.h"
#include "plan/fair.h"
#include "plan/guard.h"
#include "plan/health.h"
#include "plan/ledger.h"
#include "plan/pace.h"
#include "plan/quote.h"
#include "plan/tally.h"
#include "store/store.h"
#include "task/task.h"

#define TR_LANES_MAX 8 /* models of one run: --model and its fallbacks */

enum { TR_FILL_END = 0, TR_FILL_ROW = 1, TR_FILL_WAIT = 2, TR_FILL_FULL = 3 };

/* One attempt that has ended, for traces and metrics; valid during the call.
 * reply->text is the model's and never leaves the process. */
struct tr_attempt {
    const struct tr_lane *lane;
    const struct tr_reply *reply;
    uint64_t number;
    uint32_t items;
    int64_t cap_tokens;     /* output cap sent */
    bool schema;            /* the form of the answer asked for */
    int64_t sent_at, ended_at; /* monotonic ns */
};

/* How long it took, as its lane says, or as we saw it: replies out of a batch
 * and requests that we dropped ourselves say nothing. */
static inline int64_t tr_attempt_took_ns(const struct tr_attempt *a)
{
    return a->reply->latency_ms > 0 ? a->reply->latency_ms * 1000000
                                    : a->ended_at - a->sent_at;
}

/* The only door to the world. */
struct tr_env {
    void *ctx;
    int64_t (*now_ns)(void *ctx);   /* monotonic */
    int64_t (*wall_s)(void *ctx);   /* Unix seconds: logs, job start */
    uint64_t (*random)(void *ctx);  /* seeds of packs and jitter */
    /* Appends one row to block: the contract of tr_source_next(). */
    int (*read)(void *ctx, struct tr_block *block, struct tr_err *err);
    /* A settled row, in input order (or as completed). 1: taken; 0: no room
     * now, ask again in a later step; < 0: tr_code. */
    int (*write)(void *ctx, const struct tr_block *block,
                 const struct tr_row *row, struct tr_err *err);
    /* Settled blocks behind a stuck row leave memory: spill() keeps rows and
     * bytes elsewhere and sets block->spilled_at, unspill() fills the same
     * arrays again. NULL: never spill. */
    int (*spill)(void *ctx, struct tr_block *block, struct tr_err *err);
    int (*unspill)(void *ctx, struct tr_block *block, struct tr_err *err);
    /* Texts spread over the whole input for lanes that fit themselves; false:
     * take the first rows instead. NULL: the same. */
    bool (*sample)(void *ctx, const struct tr_str **texts, size_t *n);
    /* Rows of the whole input as far as can be told now; -1: no idea. NULL:
     * the same. */
    int64_t (*rows_expected)(void *ctx);
    /* Once the input has ended: there may be more rows that were not wanted.
     * NULL: there are none. */
    bool (*is_cut)(void *ctx);
    /* The budget that other runs of the job draw on, too: durable when it
     * returns TR_OK. NULL: nobody else does. */
    int (*ledger)(void *ctx, struct tr_ledger_ask *ask, struct tr_err *err);
    /* Meets the other processes that use lane's key: they hear fair->mine, it
     * and pace hear of them. When to come again, in ns from now; -1: never.
     * NULL: no others. */
    int64_t (*meet)(void *ctx, const struct tr_lane *lane,
                    struct tr_fair *fair, struct tr_pace *pace, int64_t now);
    /* One line for people or logs; level 0 error, 1 warning, 2 note, 3 log. */
    void (*say)(void *ctx, int level, const char *line);
    /* A lane changed its state. May be raised again while nothing changed:
     * who listens counts episodes. NULL: not wanted. */
    void (*event)(void *ctx, const struct tr_event *event);
    /* An attempt has ended, each exactly once. NULL: not wanted. */
    void (*attempt)(void *ctx, const struct tr_attempt *attempt);
    /* What the step comes to now: static words. NULL: not wanted. */
    void (*doing)(void *ctx, const char *what);
};

/* What a budget covers: a job (its runs until one finishes), a day, a run. */
enum tr_budget_per { TR_PER_JOB, TR_PER_DAY, TR_PER_RUN };

struct tr_run_opts {
    uint32_t pack;          /* 0: auto */
    int answer_form;        /* -1 learn, 0 lines, 1 schema */
    int concurrency;        /* 0: learn */
    double rpm, tpm;        /* 0: learn */
    int64_t budget_nano;    /* -1: none */
    int64_t budget_tokens, budget_requests; /* -1: none */
    enum tr_budget_per budget_per;
    int64_t max_wait_ms, grace_ms, request_timeout_ms;
    bool offline, truncate, fresh, retry_failed, as_completed, verbose;
    bool dry_run;           /* plan everything, send and keep nothing */
    bool is_sample;         /* a part of the input: the job is not finished */
    unsigned fallback_on;   /* mask of enum tr_trigger (plan/health.h) */
    bool wait_for_quota;    /* with no lane left, wait for a used-up quota */
    int64_t quota_probe_ms; /* first wait then; it grows */
    int32_t min_prompt;
    const char *job;
    size_t window_bytes;    /* memory for rows; 0: default of bounds.h */
    bool isolate;           /* one text a request */
    bool apart;             /* rows have parties (tr_row.party) */
    enum tr_guard_mode guard; /* against rows that steer their neighbours */
    uint32_t guard_from;    /* rows from which a pack gets canaries; 0: as
                               plan/guard.h has it */
};

/* Counters for progress and summary; plain numbers, copied out. */
struct tr_counts {
    int64_t rows_read, rows_settled, rows_written, rows_failed;
    int64_t rows_stored;     /* answered by the store */
    int64_t rows_stored_failed; /* of these: with a reason, no label */
    int64_t rows_twin;       /* equal to another row of this run */
    int64_t requests, retries, in_flight, items_reasked, voided;
    int64_t tokens_in, tokens_out, tokens_cached, tokens_cache_write;
    int64_t cache_saved_nano; /* by the provider's prompt cache, this run */
    int64_t in_batches;      /* requests without an answer that need not be
                                awaited: they go on without us */
    int64_t throttled, wait_limits_ns, waiting;
    int64_t unknown_attempts; /* of the job: nobody knows their cost */
    int64_t retried[TR_OUT_COUNT]; /* of the retries: after which outcome */
    int64_t fails[TR_WHY_COUNT];
    int64_t fail_example[TR_WHY_COUNT]; /* first row, from 1; 0: none */
    int64_t none_answers, cut_texts, forgiven;
    double row_estimate;     /* nano-dollars a row that is asked, as thought
                                before the first request; 0: no idea */
    struct tr_guard_counts guard;
    bool input_ended;
};

/* The part of one lane in them. */
struct tr_lane_counts {
    int64_t rows, failed;    /* settled by it in this run, twins included */
    int64_t requests;
    int64_t tokens_in, tokens_out, tokens_cached, tokens_cache_write;
    int64_t spent_nano, unknown_nano, cache_saved_nano; /* of this run */
    int64_t stored;          /* rows whose answer by it was known before */
    int64_t moved[TR_TRIGGER_COUNT]; /* rows that went on to another, by why */
    enum tr_health_state state;
    char served[96];         /* the model that answered last, or "" */
};

bool tr_run_has_budget(const struct tr_run_opts *o);

struct tr_run;

/* Borrows everything; the caller keeps task, store and lanes alive. The task is
 * of this run alone: it takes over what the store knows of it. lanes: 1 to
 * TR_LANES_MAX, in the order in which they are asked. */
int tr_run_open(struct tr_run **out, const struct tr_env *env,
                const struct tr_run_opts *opts, struct tr_task *task,
                struct tr_store *store, struct tr_lane *const *lanes,
                uint32_t lane_count, struct tr_err *err);

enum { TR_RUN_DONE = 0, TR_RUN_MORE = 1 };
/* One bounded step: fill, receive, plan, commit, act. MORE: call again, at
 * once when *wait_ns is 0, else after a reply, new input or wait_ns. */
int tr_run_step(struct tr_run *run, int64_t *wait_ns, struct tr_err *err);
/* First call: nothing more leaves, answers in flight are awaited up to the
 * grace; second: at once. code is the exit code to end with (130, 143, 75),
 * unless the run stops already for a reason of its own. */
void tr_run_stop(struct tr_run *run, int exit_code);
/* What write() took cannot be written: nothing more is, and the run stops as
 * it does when write() fails. */
void tr_run_output_failed(struct tr_run *run, int code, const char *sentence);
/* After DONE: exit code of the program (0, 1, 69, 75, 77, 130, ...), and the
 * sentence that belongs to it (empty for 0 and 1). */
int tr_run_exit(const struct tr_run *run, const char **sentence);
void tr_run_counts(const struct tr_run *run, struct tr_counts *counts);
void tr_run_lane_counts(const struct tr_run *run, uint32_t lane,
                        struct tr_lane_counts *counts);
void tr_run_money(const struct tr_run *run, struct tr_money *money);
/* Bounds of the answers in flight: less than what is reserved, which is for
 * requests that have not left and for batches, too. */
int64_t tr_run_in_flight_nano(const struct tr_run *run);
/* Money, tokens and requests, by enum tr_purse. */
void tr_run_purses(const struct tr_run *run, struct tr_money *out);
/* Rows with label i so far; label_count numbers. */
const int64_t *tr_run_label_counts(const struct tr_run *run);
/* With dry_run, after DONE: what would be sent. first points into the run. */
struct tr_preview {
    struct tr_str first;      /* body of the first request, "" for local */
    int64_t rows, known, unusable; /* read; in the store; cannot be asked */
    int64_t too_long;         /* rows no request could hold, of those planned */
    int64_t distinct;         /* different texts, the known ones too */
    bool exact;               /* counted, not sketched */
    struct tr_forecast forecast;   /* what would be asked */
    struct tr_quote estimate;
    int64_t bound_nano;       /* the whole run costs at most; -1: no prices */
    int64_t batch_requests;   /* in batches of an earlier run, whose rows are */
    int64_t batch_nano;       /* not asked: how many; at most; -1: no prices */
    int64_t ms;               /* time it takes; -1: no idea */
    bool limited;             /* the time follows from a limit */
};
void tr_run_preview(const struct tr_run *run, struct tr_preview *preview);
void tr_run_close(struct tr_run *run); /* accepts NULL */

#endif
