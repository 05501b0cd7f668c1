/* sim.h - the simulated world around the real engine.
 *
 *   options.c   a seed becomes options: sizes, limits, which faults at what rate
 *   provider.c  one to three simulated providers, each behind a struct
 *               tr_transport: reads the request, answers or fails, and keeps
 *               its own bill
 *   batch.c     its batches: files, objects, results within a day, or not
 *   hostile.c   texts that steer their neighbours, and a model that obeys
 *   disk.c      files in memory, and what a power cut leaves of them
 *   vfs.c       the doors through which store and SQLite come to them
 *   reader.c    reads a store on its own, knowing the format only
 *   world.c     clock, input, output, crashes: drives the engine to its end
 *   check.c     the promises, checked from what provider and output saw
 *   door.c      the pace: what arrives at a provider in any window
 *   script.c    what strikes when: drawn from the seed, or as a script says
 *   shrink.c    a red seed becomes a short script
 *   play.c      the provider plays a script of tests/hostile instead
 *   main.c      command line, seeds, determinism
 *
 * Real: engine, packs, pace, money, prompt, answer, dialect, lane in batches,
 * store, SQLite.
 * Simulated: time, network, provider, disk, the death of processes.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_SIM_H
#define TR_SIM_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "disk.h"
#include "run.h"
#include "task/task.h"
#include "wire/batch.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* ---- options ------------------------------- */

/* Faults with a rate in a thousand requests. */
#define SIM_FAULTS(X)                                                          \
    X(F_UNREACHED, unreached, 200)   /* connection refused, nothing sent */    \
    X(F_THROTTLE, throttle, 300)     /* 429 without a reason */                \
    X(F_ERROR_500, error_500, 200)   /* billed or not, nobody knows */         \
    X(F_ERROR_503, error_503, 200)                                             \
    X(F_CUT, cut, 150)               /* processed and billed, reply lost */    \
    X(F_HANG, hang, 80)              /* silence up to the deadline */          \
    X(F_HTML, html, 100)             /* 200 with a page */                     \
    X(F_TRUNCATE, truncate, 150)                                               \
    X(F_MISSING, missing, 200)                                                 \
    X(F_DOUBLE, double_id, 150)      /* one id with two labels */              \
    X(F_FOREIGN, foreign_id, 150)                                              \
    X(F_BAD_LABEL, bad_label, 200)                                             \
    X(F_REORDER, reorder, 500)                                                 \
    X(F_PROSE, prose, 200)                                                     \
    X(F_CASE, other_case, 200)       /* right label, wrong case */             \
    X(F_MISLABEL, mislabel, 100)     /* a valid label, not the gold one */     \
    X(F_NO_USAGE, no_usage, 200)

/* Faults of the machine, with a rate in a hundred thousand calls or steps. The
 * first nine are the kinds of calls to the disk. */
#define SIM_MACHINE_FAULTS(X)                                                     \
    X(D_OPEN, open_fails, 3000)                                                \
    X(D_READ, read_fails, 500)                                                 \
    X(D_WRITE, write_fails, 1000)                                              \
    X(D_SYNC, sync_fails, 5000)      /* and the next one will not repeat it */ \
    X(D_TRUNCATE, truncate_fails, 10000)                                       \
    X(D_DELETE, delete_fails, 20000)                                           \
    X(D_ACCESS, access_fails, 2000)                                            \
    X(D_SIZE, size_fails, 500)                                                 \
    X(D_LOCK, lock_fails, 10000)                                               \
    X(D_FULL, disk_full, 1000)       /* for one write */                       \
    X(D_STAYS_FULL, disk_stays_full, 300) /* until the process ends */         \
    X(D_INTERRUPT, interrupted, 20000) /* a signal, while it locks */          \
    X(D_SHORT, short_write, 20000)   /* of the lock's file */                  \
    X(D_MOVED, file_moved, 2000)     /* by a person, who puts it back */       \
    X(D_LEDGER, ledger_fails, 20000)                                           \
    X(T_OUTPUT, output_breaks, 1000)                                           \
    X(T_INPUT, input_breaks, 500)                                              \
    X(T_CLOCK, clock_steps, 1000)    /* up to ten years, there or back */      \
    X(T_PAUSE, paused, 500)          /* up to an hour: stopped, swapped out */

/* Faults of a provider's batches: of a thousand questions about them, of
 * batches, and of results, each at most. */
#define SIM_BATCH_FAULTS(X)                                                    \
    X(B_UNREACHED, ask_unreached, 150)                                         \
    X(B_THROTTLE, ask_throttled, 150)                                          \
    X(B_ERROR, ask_error, 150)       /* done or not, nobody knows */           \
    X(B_CUT, ask_cut, 150)           /* done, reply lost */                    \
    X(B_HANG, ask_hangs, 60)         /* the same, after its deadline */        \
    X(B_NONSENSE, ask_nonsense, 60)  /* 200 with a page; done or not */        \
    X(B_REPEATED, ask_answered_twice, 100)                                     \
    X(B_KEY, key_refused, 10)        /* until a person mends it */             \
    X(B_LAG, list_lags, 500)         /* behind what was made */                \
    X(B_NO_LIST, no_list, 60)                                                  \
    X(B_STATUS, status_unknown, 300)                                           \
    X(B_TOO_BIG, batch_too_big, 100)                                           \
    X(B_INVALID, batch_fails, 200)   /* before it is worked on */              \
    X(B_LONG, batch_takes_long, 400) /* hours, up to a day */                  \
    X(B_EXPIRES, batch_expires, 250) /* with part of its requests done */      \
    X(B_STUCK, batch_stuck, 30)      /* never ends, whatever it is told */     \
    X(B_LATE, results_late, 200)     /* it has ended, they come later */       \
    X(B_GONE, results_gone, 20)                                                \
    X(B_SHORT, results_cut, 60)      /* and nobody says so */                  \
    X(L_ERROR, line_error, 150)      /* 5xx, not billed */                     \
    X(L_EMPTY, line_garbled, 100)    /* 200 and not the protocol */            \
    X(L_MISSING, line_missing, 100)  /* not worked on, and not named */        \
    X(L_TWICE, line_twice, 200)                                                \
    X(L_FOREIGN, line_foreign, 200)  /* of another batch */                    \
    X(L_RENAMED, line_renamed, 60)   /* done, under an id nobody knows */      \
    X(L_UNREADABLE, line_unreadable, 60)

/* Of these: with them, whose results they are may never be known. */
#define SIM_UNCLEAR                                                            \
    {B_NONSENSE, B_LATE, B_GONE, B_SHORT, L_MISSING, L_RENAMED, L_UNREADABLE}

/* What comes at a time of its own; the value says when, or how much. */
#define SIM_TIMED(X)                                                           \
    X(S_CRASH, crash_at)             /* by run: call of the engine */          \
    X(S_DISK_CRASH, disk_crash_at)   /* by run: call to the disk */            \
    X(S_POWER, power_cut)            /* by crash: the machine dies as well */  \
    X(S_EVICT, evicted)              /* by run after a failed sync */          \
    X(S_STOP, stop_at)               /* by run: step and signal */             \
    X(S_AGAIN, stop_again)           /* by stop: steps until the next one */   \
    X(S_CLOCK, clock_set)            /* by run: the wall clock, + 2 days */

/* Whatever may strike. Draws are by place: what is new comes last. */
enum sim_site {
#define X(id, name, most) id,
    SIM_FAULTS(X)
    SIM_MACHINE_FAULTS(X)
#undef X
#define X(id, name) id,
    SIM_TIMED(X)
#undef X
#define X(id, name, most) id,
    SIM_BATCH_FAULTS(X)
#undef X
    S_OTHER, /* by run: another job, or other rows */
    S_TOLD_OFF, /* 429 with a wait of minutes to days; the value, in s */
    S_STRAY,    /* one 401 or 403 among answers */
    S_STALE, /* by reply: the transport hands it in again, later */
    SIM_SITES
};
enum { F_COUNT = D_OPEN, RATES = S_CRASH, BATCH_RATES = S_OTHER - B_UNREACHED };

/* What else must have happened somewhere. */
#define SIM_MARKS(X)                                                           \
    X(M_DIED_IN, crash_in_open)      /* in the order of the disk's calls */    \
    X(M_DIED_READ, crash_in_read)                                              \
    X(M_DIED_WRITE, crash_in_write)                                            \
    X(M_DIED_SYNC, crash_in_sync)                                              \
    X(M_DIED_TRUNCATE, crash_in_truncate)                                      \
    X(M_DIED_DELETE, crash_in_delete)                                          \
    X(M_DIED_ACCESS, crash_in_access)                                          \
    X(M_DIED_SIZE, crash_in_size)                                              \
    X(M_DIED_LOCK, crash_in_lock)                                              \
    X(M_DISK_ERROR, commit_failed)                                             \
    X(M_RESCUED, ended_by_its_store_and_lost_nothing)                          \
    X(M_OPEN_FAILED, store_did_not_open)                                       \
    X(M_WRITE_LOST, unsynced_write_lost)                                       \
    X(M_WRITE_TORN, unsynced_write_torn)                                       \
    X(M_NAME_LOST, unsynced_file_lost)                                         \
    X(M_NAME_BACK, deleted_file_back)                                          \
    X(M_STOP_EARLY, stopped_before_its_first_step)                             \
    X(M_STOP_TWICE, stopped_twice)                                             \
    X(M_OUTPUT_BROKEN, ended_by_its_output)                                    \
    X(M_INPUT_BROKEN, ended_by_its_input)                                      \
    X(M_LEDGER_BROKEN, ended_by_its_ledger_with_requests_out)                  \
    X(M_AGAIN, nothing_to_do_again)                                            \
    X(M_AUDIT, image_read)                                                     \
    X(M_AUDIT_SENT, intent_read)                                               \
    X(M_CRASH, crash)                                                          \
    X(M_CRASH_SENT, crash_with_requests_out)                                   \
    X(M_STOP, stopped_by_signal)                                               \
    X(M_BUDGET, stopped_by_budget)                                             \
    X(M_BUDGET_TOKENS, stopped_by_token_budget)                                \
    X(M_BUDGET_REQUESTS, stopped_by_request_budget)                            \
    X(M_NEW_DAY, budget_of_a_new_day)                                          \
    X(M_WARMED, first_request_alone)                                           \
    X(M_CLOCK_BACK, clock_moved_back)                                          \
    X(M_QUOTA, stopped_by_quota)                                               \
    X(M_OUTAGE, stopped_by_outage)                                             \
    X(M_REFUSED_FOR_PACE, refused_for_pace)                                    \
    X(M_TOKENS_REFUSED, refused_for_tokens)                                    \
    X(M_TOO_BIG, too_big)                                                      \
    X(M_ADAPTED, adapted)                                                      \
    X(M_ASKED_AGAIN, asked_again_after_crash)                                  \
    X(M_BLOCKED, row_blocked)                                                  \
    X(M_REJECTED, row_rejected)                                                \
    X(M_INVALID, row_invalid)                                                  \
    X(M_TOO_LONG, row_too_long)                                                \
    X(M_NO_ANSWER, row_without_answer)                                         \
    X(M_NEXT_EXHAUSTED, went_on_exhausted)                                     \
    X(M_NEXT_GONE, went_on_gone)                                               \
    X(M_NEXT_DOWN, went_on_down)                                               \
    X(M_NEXT_BLOCKED, went_on_blocked)                                         \
    X(M_NEXT_TOO_LONG, went_on_too_long)                                       \
    X(M_NEXT_INVALID, went_on_invalid)                                         \
    X(M_RECOVERED, asked_after_recovery)                                       \
    X(M_QUOTA_WAITED, waited_for_quota)                                        \
    X(M_DAY, stopped_by_day)                                                   \
    X(M_NOBODY_LEFT, no_model_left)                                            \
    X(M_OBEYED, hostile_row_obeyed)                                            \
    X(M_REFUTED, refuted_by_a_canary)                                          \
    X(M_VOUCHED, vouched_for_by_canaries)                                      \
    X(M_AUDITED, audited)                                                      \
    X(M_CORRECTED, label_corrected)                                            \
    X(M_B_MADE, batch_made)                                                    \
    X(M_B_PICKED, batch_picked_up)                                             \
    X(M_B_ANTHROPIC, batch_of_anthropic)                                       \
    X(M_B_FOUND, lost_batch_found)                                             \
    X(M_B_IN_VAIN, batch_looked_for_in_vain)                                   \
    X(M_B_HALF, batch_partly_done)                                             \
    X(M_B_CANCELLED, batch_cancelled)                                          \
    X(M_B_FULL, tokens_enqueued_at_their_limit)                                \
    X(M_B_AGAIN, results_fetched_again)                                        \
    X(M_B_AUDIT, batch_read)                                                   \
    X(M_B_OTHER, batch_paid_by_another_job)                                    \
    X(M_TOLD_OFF, stopped_by_a_long_wait)                                      \
    X(M_KEY_GONE, key_refused_in_mid_run)                                      \
    X(M_KEY_BACK, key_good_again)                                              \
    X(M_UNPAID, payment_required)                                              \
    X(M_NO_SLOT, no_slot_for_a_request)

enum sim_mark {
    M_BEFORE = SIM_SITES - 1,
#define X(id, name) id,
    SIM_MARKS(X)
#undef X
    M_COUNT
};

#define SIM_LANES 3

/* One provider. name, type, what it is when nothing is wanted of it */
#define SIM_LANE_OPTIONS(X)                                                    \
    X(hidden_rpm, DOUBLE, 0)  /* its own limit; 0: none */                     \
    X(hidden_burst_s, DOUBLE, 0)                                               \
    X(frame_s, INT, 0)        /* its limit holds for windows of this, whole */ \
    X(lowered_at_s, INT, 0)   /* then it is so much of it */                   \
    X(lowered_pct, INT, 0)                                                     \
    X(headers, BOOL, 0)                                                        \
    X(retry_after, BOOL, 0)                                                    \
    X(quota_after, INT, 0)    /* requests until the quota is gone; 0: never */ \
    X(quota_for_s, INT, 0)    /* until it comes back; 0: when a person pays */ \
    X(quota_is_day, BOOL, 0)  /* a limit of the day, and when it ends */       \
    X(gone_after, INT, 0)     /* requests until the model is retired */        \
    X(latency_ms, INT, 1)                                                      \
    X(context, INT64, 0)      /* of the model, tokens; 0: unknown */           \
    X(old_cap, BOOL, 0)                                                        \
    X(outage_at_s, INT, 0)                                                     \
    X(outage_s, INT, 0)                                                        \
    X(steady, BOOL, 0)        /* every reply takes latency_ms */               \
    X(brown_at_s, INT, 0)     /* then, for so long, ... */                     \
    X(brown_s, INT, 0)                                                         \
    X(brown_pct, INT, 0)      /* ... so many requests are answered with ... */ \
    X(brown_status, INT, 0)   /* ... this: 500, 503, 529 */                    \
    X(price_pct, INT, 100)    /* of the first one's */                         \
    X(key_refused_after, INT, 0) /* requests until the key is revoked */       \
    X(says_402, BOOL, 0)      /* when its credit is used up */                 \
    X(hidden_tpm, DOUBLE, 0)  /* like hidden_rpm, of tokens */

struct sim_lane_options {
#define INT int
#define BOOL bool
#define DOUBLE double
#define INT64 int64_t
#define X(name, type, least) type name;
    SIM_LANE_OPTIONS(X)
#undef X
#undef INT
#undef BOOL
#undef DOUBLE
#undef INT64
};

enum { SIM_OPENAI = 1, SIM_ANTHROPIC = 2 };

struct sim_options {
    uint64_t seed;
    /* the task and its rows */
    int rows, labels, duplicates_pct, nasty_pct, poison_pct, long_pct;
    bool multiple;
    bool listed;           /* no number says the labels of a combination */
    int slow_input_ms;     /* most between two rows; 0: a file */
    /* what the user said */
    int pack, concurrency, form;
    double rpm, tpm;
    int budget_pct;        /* of the expected cost; 0: none */
    int budget_tokens_pct, budget_requests_pct; /* the same */
    int budget_per;        /* enum tr_budget_per */
    int64_t budget_exact[TR_PURSES]; /* instead; 0: as above */
    int clock_jumps_pct;   /* of the births: the wall clock was set */
    bool as_completed;
    int window_kib;
    int fallback_on;       /* mask of enum tr_trigger */
    bool wait_for_quota;
    /* the providers */
    int rate[RATES];       /* per thousand, of the disk's faults 100,000 */
    int lanes;             /* providers in the chain, 1 to SIM_LANES */
    struct sim_lane_options lane[SIM_LANES];
    bool priced;
    bool cache;            /* they keep beginnings of prompts, even short ones */
    /* the machine */
    int crashes;           /* at most, at random points */
    int crash_every;       /* mean points between them */
    int power_pct;         /* of the crashes: the power goes */
    int disk_crash_pct;    /* of the crashes: in a call to the disk */
    int stops;             /* SIGINTs by the operator */
    int coarse_ms;         /* the clock moves so often */
    int sluggish_us;       /* time passes between two looks at the clock */
    int disk_ms;           /* what a sync takes, at most */
    int wal_pages;         /* the log is merged so often; 0: never */
    int cache_pages;       /* SQLite's; 0: as the store has it */
    int audit_pct;         /* of rows shown and requests sent; see audit() */
    bool again;            /* the job is done: one more run, nothing to do */
    bool disk_lies;        /* syncs do nothing: never drawn, must be found */
    int full_output_pct;   /* a slow consumer */
    int faulty_runs;       /* after so many runs all faults end */
    /* rows that steer others */
    int guard, guard_from; /* enum tr_guard_mode; packs with canaries */
    bool isolate;
    int parties;           /* texts of different ones never meet; 0: no --apart */
    int hostile;           /* of a thousand texts */
    bool sly;              /* they do not look so */
    int attack;            /* enum gullible_attack, +1; 0: all kinds */
    int moody;             /* of a thousand texts: another answer at times */
    int swap_after;        /* texts answered, then another model does: 0: no */
    int swap_pct;          /* of the texts have another answer there */
    int words;             /* of a text, fewer than; 0: 12 */
    int slots;             /* requests planned or under way, at most; 0: 2048 */
    int stale;             /* of a thousand replies: handed in again, later */
    /* the first model's requests go in batches */
    int batch;             /* whose; 0: one by one */
    int batch_pct;         /* of the price, as the user knows it; 0: unknown */
    int batch_requests, batch_kib; /* of one batch, at most; 0: no matter */
    int batch_tokens;      /* --batch-tokens */
    int batch_room;        /* the provider's own limit; 0: none */
    int batch_poll_ms;
    int batch_other_pct;   /* of the births: another job, or other rows */
    int batch_rate[BATCH_RATES];
    int long_retry_after;  /* of a thousand requests: told to wait for long */
    int stray_refusal;     /* of a thousand: the key is refused, once */
};

/* Neighbouring seeds and streams must have nothing in common. */
static inline uint64_t sim_stream(uint64_t seed, uint64_t stream)
{
    struct tr_rng a = {seed}, b = {tr_rng_next(&a) ^ stream << 32};

    return tr_rng_next(&b);
}

void sim_options_draw(struct sim_options *o, uint64_t seed);
void sim_options_print(const struct sim_options *o);
/* "name=value": for narrowing a failing seed down. */
bool sim_options_set(struct sim_options *o, const char *assignment);
/* All options by number, rates included, and what each is in a world that
 * wants nothing of it. */
int sim_options_count(void);
const char *sim_option_name(int i);
double sim_option_least(int i);
double sim_option(const struct sim_options *o, int i);
void sim_option_put(struct sim_options *o, int i, double v);
void sim_options_none(struct sim_options *o); /* each at its least */

/* ---- texts and their truth ------------------------------- */

#define SIM_LABELS_MAX 20
#define SIM_SAID_MAX 6
#define SIM_RUNS_MAX 40
#define SIM_PERIODS_MAX 400
#define SIM_NO_PERIOD (SIM_PERIODS_MAX - 1) /* of a job without a budget */
#define SIM_TEXTS_MAX 320
#define SIM_ATTEMPTS_MAX 4096
#define SIM_BATCHES_MAX 512 /* open at a time */
#define SIM_START (100 * TR_S)
#define SIM_MINUTES 60
#define SIM_FOLDER "/sim.disk"

enum sim_kind {
    K_PLAIN,
    K_LONG,
    K_CONFUSING, /* the model never gives it a label of the task */
    K_BLOCKED,   /* the filter stops every answer about it */
    K_REJECTED,  /* every request with it is a bad request */
    K_CRASHER    /* the server fails on it, until it is mended */
};

/* A text as one provider sees it. */
struct sim_seen {
    enum sim_kind kind;
    /* what the provider has said, faithfully, for this text */
    uint32_t said[SIM_SAID_MAX];
    int said_count;
    int alone_bad;          /* attempts alone that ended without a label */
    bool mended;            /* it was K_REJECTED before */
    int tries_run;          /* last run that tried it alone, and in that run: */
    int tries, refused, rejected; /* answered whole; so; as a bad request */
    int blocked_run;        /* last run that heard it refused alone */
    int alone_run;          /* answered alone in this run, ... */
    uint32_t alone_mask;    /* ... so */
};

struct sim_text {
    struct tr_str text;     /* owned by the world */
    uint32_t gold;          /* bit set of labels */
    struct sim_seen at[SIM_LANES];
    int rows;               /* that have this text */
    int asked_run, asked_at; /* last run that asked it, its last provider */
    int in_flight;          /* requests of the living process that ask it */
    int64_t failed_at;      /* a 500 about it was heard; 0: not since it left */
    int failed_n;           /* among so many */
    int64_t answered_at;    /* a usable answer was handed over; 0: never */
    int answered_run;
    uint32_t shown;         /* written to an output: this set, +1 */
    bool hostile, moody;
    int maybe_run;          /* answered in this run, perhaps in vain */
};

/* ---- the world ------------------------------- */

struct sim_item {
    int text;
    uint32_t id;
    uint32_t mask;   /* labels stated for it */
    bool states;     /* the statement may be believed */
    bool usable;     /* the engine must take it, not ask again */
    bool silent;     /* nothing was said about it */
    bool guest;      /* it has its answer: asked only to compare */
    bool canary;     /* it had it alone, when it went into a batch: */
    uint32_t canary_mask;
    bool maybe;      /* its sender may have known its label */
};

enum sim_stage { FREE, ON_WIRE, ON_WAY_BACK };

/* A request, alone or as a part of a batch. */
struct sim_flight {
    enum sim_stage stage;
    struct sim_provider *p;
    uint64_t tag;
    int run;
    int period, account;      /* of the budget; who pays: when it left */
    int pct;                  /* of the price */
    bool forgotten;           /* nobody waits for the result any more */
    int64_t sent_at, arrive_at, back_at, deadline_at;
    struct sim_item *items;
    int n;
    int64_t content_bytes, cap;
    int64_t usage;            /* tokens, as the reply states; -1: it does not */
    size_t receipt;           /* of its provider's */
    bool blocked, quota;      /* it says so */
    bool judged;              /* it says something of each text, to the end */
    bool told;                /* sent after its lane was told to stop */
    int64_t wait_s;           /* it says when to come again; 0: it does not */
    bool doubt;               /* sent to find out whether the key is good */
    bool json, sends_new_cap, excused; /* excused: says nothing of its rows */
    bool landed;              /* its rows are not in flight any more */
    bool heard;               /* by some process */
    bool stale;               /* it was handed in before */
    enum tr_net net;
    bool sent;
    int status;
    char *headers, *body;
    size_t body_n;
};

struct sim_receipt { /* a request as the provider received it */
    int64_t at;
    int run;
    bool arrived;                /* false: its sender heard that it did not */
    int64_t sent_at, heard_at;   /* heard_at: TR_NEVER until it is */
    int64_t in, cap;             /* tokens: in it, allowed for its answer */
    int64_t stated;              /* both, as its sender heard; -1: no word */
};

struct sim_provider {
    struct tr_transport transport; /* first: the two are cast to each other */
    struct sim *w;
    int place;                   /* in the chain */
    const struct sim_lane_options *o;
    double hidden_level, tokens_level;
    int64_t hidden_at, tokens_at, frame;    /* frame: number of the last one */
    int64_t requests;            /* processed or refused */
    bool quota_gone, model_gone;
    int64_t quota_back_at;       /* TR_NEVER: when a person pays */
    struct sim_receipt *receipts;
    size_t receipt_count, receipt_cap;
    struct tr_model_facts facts;
    /* what the living process was told */
    bool told_exhausted, told_gone;
    bool served;                 /* it heard an answer */
    bool doubted;                /* and then, once, that key or model is not
                                    good: one text at a time finds out */
    int64_t doubted_at;          /* or when that was not found out */
    int after_doubt;             /* requests sent since, in flight now */
    int64_t told_at, told_until; /* the day's end, 0: not stated */
    int64_t wait_until;          /* told to send nothing before */
    bool recovered;              /* it was closed, and answered since */
    int after_told;              /* requests sent since, in flight now */
    bool key_refused;            /* until a person mends it */
    int served_run;              /* last run that heard a usable answer */
    int taken_run;               /* last run that heard a 200 of any kind */
    int bad_run, bad_first;      /* last run that heard a bad request, and how
                                    many before any was taken */
    bool refused;                /* a batch failed for good, for this run */
};

/* Jobs and their rounds: each pays for what it asked. */
enum { SIM_JOBS = 2, SIM_ACCOUNTS_MAX = 100 };

/* What strikes: the n-th time that it could. */
struct sim_strike {
    enum sim_site site;
    int64_t n, value;            /* value >= 1 */
};

struct sim_script {
    struct sim_options o;
    struct sim_strike *strikes;  /* by site, then n */
    size_t n;
};

/* A store as somebody else reads it. */
struct sim_stored {
    bool read;
    uint32_t said[SIM_TEXTS_MAX][SIM_LANES]; /* set of labels, +1; 0: none */
    bool under_way[SIM_JOBS], job[SIM_JOBS]; /* jobs; whether there are any */
    uint64_t attempts[SIM_ATTEMPTS_MAX];
    int attempt_count;
    uint64_t in_batch[SIM_ATTEMPTS_MAX]; /* attempts that a batch is made of */
    int in_batch_count;
    char batches[SIM_BATCHES_MAX][2][48]; /* mark and name */
    int batch_count;
    int64_t answers;
};

struct sim {
    struct sim_options o;
    struct tr_rng rng;           /* of the world */
    struct tr_rng env_rng;       /* what the engine draws */
    int64_t now;
    uint64_t hash;               /* of all events */
    uint64_t events;
    bool verbose;

    struct sim_text *texts;      /* distinct ones */
    int text_count;
    int *row_text;               /* row -> text, -1: empty */
    struct tr_str labels_list;
    char label_text[160];
    const char *label_names[SIM_LABELS_MAX];

    /* the providers */
    struct sim_provider providers[SIM_LANES];
    struct sim_flight *flights;  /* of all of them */
    int flight_end;              /* behind the last one in use */
    struct tr_buf reply_body, reply_headers;
    int64_t unheard;             /* not reached, and the process was gone */
    bool faults_on;
    int64_t bill[TR_PURSES];     /* nano-dollars, tokens, requests: the truth */
    int64_t account_bill[SIM_ACCOUNTS_MAX][TR_PURSES]; /* the same by payer */
    int64_t handed_in[SIM_ACCOUNTS_MAX]; /* requests in batches that were made */
    int account;                 /* of the living process */
    int account_of[SIM_JOBS], accounts;
    /* The same by the period in which the request left. */
    int64_t period_bill[SIM_PERIODS_MAX][TR_PURSES];
    int period;
    int64_t day;                 /* latest the wall clock has shown */
    int64_t wall_shift;          /* of the wall clock, s */
    struct tr_ledger own_ledger, *ledger; /* of the job; may be shared */
    struct tr_ledger other_ledger;       /* of the other job */
    bool round_over[SIM_JOBS];
    struct sim_batches *batches;
    struct sim_playbook *playbook;   /* instead of all else; NULL: none */

    /* the disk */
    struct sim_disk disk;
    struct tr_rng disk_rng;
    int64_t disk_calls, points, most_steps; /* of all lives: --calls */
    int disk_crash_in;           /* calls to the disk until it dies; 0: none */
    bool ended_badly;            /* some life did, with intents and no sends */
    bool disk_struck;            /* it failed in this life: errors may follow */
    bool disk_full;
    bool io_struck;              /* its input, output or ledger did */
    int64_t paused;              /* it did not run for so long, all told */
    bool settles;                /* a run after the job is done */
    struct sim_stored stored;    /* as read last, when the disk had */
    uint64_t stored_syncs;       /* been synced so often */
    int looks;                   /* at what a power cut would leave */
    struct sim_key *keys;        /* of texts and models, sorted */
    int key_count;

    /* what strikes */
    int told_off;                /* requests that were to wait for long */
    const struct sim_script *script; /* NULL: drawn */
    int64_t calls[SIM_SITES];
    int script_next[SIM_SITES];
    struct sim_strike *struck;   /* all that did; stays until sim_begin() */
    size_t struck_n, struck_cap;

    /* the living process */
    struct tr_store *store;
    struct tr_task task;
    struct tr_lane *lanes[SIM_LANES];
    struct tr_lane_vt batch_vt;  /* of the first, when it is in batches */
    int (*batch_start)(struct tr_lane *lane, const struct tr_shot *shot,
                       struct tr_err *err);
    struct tr_batch_keep keep;
    int job;                     /* the other one: 1 */
    int rows_from, rows_n;       /* of the input, in this run */
    int64_t life_budget[TR_PURSES];
    struct tr_run *run;
    struct tr_env env;
    int run_number;
    int64_t told;        /* attempts of this run that were told to have ended */
    int64_t died_at[SIM_RUNS_MAX + 2]; /* by run; 0: it ended in good order */
    bool disk_failed;            /* a commit failed: the run must say so */
    bool dead;                   /* crashed: nothing it does counts */
    int crash_in;                /* points until the next crash; 0: none */
    int crashes_left, stops_left;
    int stop_in, stop_code;
    int64_t read_next;           /* row the input gives next */
    int64_t written;
    int64_t input_at;            /* slow input: when the next row is there */
    int64_t first_at;            /* its first request left; 0: none yet */
    bool first_back;             /* and a reply was taken */
    int64_t room_at;             /* full output: when it takes rows again */
    int64_t budget[TR_PURSES];   /* of this process, -1: none */
    bool hopeful;                /* raises a budget that is reached */
    int64_t held_seen[4096][TR_PURSES]; /* --caps: what was ever held */
    int held_count;
    /* its life */
    bool born;
    int64_t born_at, calls_at_once, quiet_since, steps;
    uint64_t quiet_events, idle_events;
    int stops_asked;
    int64_t failed_rows;
    uint8_t *row_written;        /* this run: bit set per row */

    int64_t marks[M_COUNT];      /* faults that struck, then SIM_MARKS */
    char failure[600];           /* the first broken promise; "" none */
    int split;                   /* next part of an attack in two texts */
    int64_t innocent, wrong;     /* rows written; with another's label */
    int64_t judged;              /* texts answered, by items of requests */
    int64_t swapped_at, told_at; /* rows settled when another model answered,
                                    and when the run said so; 0: never */
    /* by minute: requests that arrived, that were answered; texts served */
    int64_t asked[SIM_MINUTES], answers[SIM_MINUTES], served[SIM_MINUTES];
    int64_t retries, quick_retries; /* after a 500; within half a second */
    struct tr_guard_counts guard; /* of the last run */
};

/* Records the first broken promise. */
void sim_fail(struct sim *w, const char *promise, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void sim_trace(struct sim *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Rows of this life that have their label, or their reason. */
int64_t sim_settled(const struct sim *w);
/* Every event goes into the hash: kind and two numbers. */
void sim_event(struct sim *w, int kind, int64_t a, int64_t b);

/* Whose a text is, for --apart; 0: nobody's. */
static inline uint64_t sim_party(const struct sim *w, int text)
{
    return w->o.parties && text >= 0 ? 1 + (uint64_t)(text % w->o.parties) : 0;
}

/* The key under which the provider at that place answers the text. */
struct tr_key sim_text_key(const struct sim *w, int place, int text);

/* The time in which its process could have done something. */
static inline int64_t sim_awake(const struct sim *w)
{
    return w->now - w->paused;
}

static inline bool sim_chance(struct sim *w, int per_thousand)
{
    return (int)tr_rng_below(&w->rng, 1000) < per_thousand;
}

struct sim_key;

/* Runs one seed to its end; true when every promise held. What strikes is
 * drawn, or comes from a script. */
bool sim_run(struct sim *w, const struct sim_options *o,
             const struct sim_script *script, bool verbose);
/* The same in pieces: several worlds may take turns. Their job has one budget
 * when they share a ledger (NULL: own). step: false when the job is over. */
void sim_begin(struct sim *w, const struct sim_options *o,
               const struct sim_script *script, bool verbose,
               struct tr_ledger *ledger);
bool sim_step(struct sim *w);
void sim_end(struct sim *w);
struct tr_key sim_store_key(const struct sim *w); /* in the ledger */
/* Roughly what its rows take of a purse when all goes well. */
int64_t sim_expected(const struct sim *w, int purse);

/* hostile.c */
void sim_hostile_write(struct sim *w, struct sim_text *t, struct tr_buf *b);
/* What the model does with what the texts say: masks and dropped change, and
 * it states more (ids and masks, room for GULLIBLE_ORDERS). Returns how many
 * more. */
int sim_obey(struct sim *w, const int *texts, const uint32_t *ids, int n,
             uint32_t *masks, bool *dropped, uint32_t *more_ids,
             uint32_t *more_masks);
int sim_hostile_figures(uint64_t from, uint64_t seeds);

/* Goodput, of so many worlds each (rates.c). The exit code. */
int sim_brownouts(uint64_t from, uint64_t seeds, bool first_only, bool verbose);
int sim_limits(uint64_t from, uint64_t seeds, bool first_only, bool verbose);

/* world.c */
#define SIM_QUOTA_PROBE_S 20
const char *sim_model(int place); /* "sim/sim-1": as in NAME_by */
struct sim_text *sim_text_find(struct sim *w, struct tr_str text);
/* True: the process dies at this very point. */
bool sim_point(struct sim *w);
struct sim *sim_living(void); /* whose engine runs */
int64_t sim_wall_s(const struct sim *w); /* with nobody's clock wrong */

/* script.c: 0, or what strikes at this place: 1 to most, with a chance of so
 * many in a million. Each place has counts and chances of its own, so that one
 * may be switched off and the others stay. */
int64_t sim_strike(struct sim *w, enum sim_site site, int64_t ppm,
                   int64_t most);
const char *sim_site_name(enum sim_site site);
/* A script as a file: options that are not at their least, then what strikes,
 * one a line. read: false with a sentence on stderr. */
bool sim_script_read(struct sim_script *s, const char *path);
void sim_script_write(const struct sim_script *s, FILE *f);
void sim_script_sort(struct sim_script *s);
void sim_script_release(struct sim_script *s);

/* shrink.c: the options of a world that fails become a script that still
 * breaks the same promise, with as little else as possible. False: it does not
 * fail. sim_script_release() it. */
bool sim_shrink(struct sim_script *out, const struct sim_options *o);

/* vfs.c */
/* A ledger and an output, killed and failed at each call to the disk, with so
 * many power cuts each (files.c). The exit code. */
int sim_files(uint64_t seed, uint64_t cuts);

void sim_vfs_init(void);
void sim_vfs_enter(struct sim_disk *disk, struct sim *w);
void sim_vfs_forget(struct sim_disk *disk);

/* reader.c: the store as it is on the disk, or as a power cut now may leave
 * it; false: it cannot be read, and the world has failed. */
bool sim_read_store(struct sim *w, bool power);
void sim_reader_release(struct sim *w);

/* What is in a file without a name; writes it from the beginning, false: that
 * failed. */
struct tr_str sim_temp_read(int fd);
bool sim_temp_write(int fd, struct tr_str text);

/* provider.c */
void sim_provider_init(struct sim *w);
void sim_provider_release(struct sim *w);
int64_t sim_provider_next(const struct sim *w); /* next event, INT64_MAX */
/* Requests that nobody waits for and that are not billed: not yet, or never,
 * because they did not get there. */
int64_t sim_provider_forgotten(const struct sim *w);
void sim_provider_advance(struct sim *w);       /* everything due by now */
void sim_provider_forget(struct sim *w);        /* the process is gone */

/* Its pieces, which batches share: what a body asks; what the model makes of
 * it, billed; that its sender hears of it, and that it never will. */
void sim_read_request(struct sim *w, struct sim_flight *f, struct tr_str body);
void sim_work(struct sim *w, struct sim_flight *f);
void sim_bill_some(struct sim *w, struct sim_flight *f);
void sim_hear(struct sim *w, struct sim_flight *f);
void sim_land(struct sim *w, struct sim_flight *f);
void sim_leave(struct sim *w, struct sim_flight *f); /* texts are in flight */
void sim_charge(struct sim *w, const struct sim_flight *f, int purse,
                int64_t n);
bool sim_quota_is_gone(struct sim_provider *p);
void sim_flight_free(struct sim_flight *f);

/* As this provider counts them. */
static inline int64_t sim_tokens_in(const struct sim_flight *f)
{
    return f->content_bytes / 4 + 8;
}

/* batch.c */
void sim_batches_init(struct sim *w);
void sim_batches_release(struct sim *w);
/* The lane of the first provider, over *lane. */
int sim_batches_lane(struct sim *w, struct tr_lane **lane, struct tr_err *err);
void sim_batches_opened(struct sim *w, const struct tr_batch *batch);
int64_t sim_batches_next(const struct sim *w);
void sim_batches_advance(struct sim *w);
void sim_batches_forget(struct sim *w);
/* The name of one that a text is under way in, or "". */
const char *sim_batches_with(const struct sim *w, int text);
/* How long a run may wait for batches, all told, once faults have ended. */
double sim_batches_patience_s(const struct sim *w);

/* play.c: what comes of one request, and how long it takes. Strings live
 * until the next call. */
struct sim_played {
    enum tr_net net;   /* TR_NET_CONNECT: nothing was sent */
    int status;
    int64_t ms;
    struct tr_str headers, body;
};
void sim_playbook_play(struct sim_playbook *s, int64_t deadline_ms,
                     struct sim_played *out);
/* Prints the outcomes of every script in the table at path. */
int sim_playbook_table(const char *path);

/* check.c */
void sim_check_send(struct sim *w, struct sim_provider *p, int items);
bool sim_check_guest(const struct sim *w, const struct sim_text *t, int items);
void sim_check_ask(struct sim *w, const struct sim_provider *p,
                   struct sim_text *t);
void sim_check_stored(struct sim *w);
void sim_check_disk(struct sim *w); /* what was shown is on it */
void sim_audit_row(struct sim *w, const struct sim_text *t);
void sim_audit_send(struct sim *w, uint64_t attempt);
void sim_audit_making(struct sim *w, const char *mark, uint64_t attempt);
void sim_audit_poll(struct sim *w, const char *name);
void sim_check_money(struct sim *w);
void sim_check_bill(struct sim *w, int period);
void sim_tick(struct sim *w); /* the wall clock is looked at */
void sim_check_row(struct sim *w, const struct tr_row *row, int64_t ordinal);
void sim_check_end(struct sim *w, int exit_code);
void sim_check_time(struct sim *w, int64_t born);

/* door.c */
/* The request is there, or will never be. */
void sim_door_note(struct sim_provider *p, struct sim_flight *f);
void sim_door_heard(struct sim *w, const struct sim_flight *f);
void sim_check_rates(struct sim *w);
/* What the run's requests took of --tpm, at most: s. */
double sim_door_tokens_s(const struct sim *w, const struct sim_provider *p);

#endif
