/* trommel.h - label texts with language models: the library's whole contract.
 *
 * A run reads rows (from files named in the settings, or pushed by you), asks
 * a model, and gives back one checked label, or a typed reason, per row:
 *
 *     trommel_config *cfg = trommel_config_new();
 *     trommel_config_set(cfg, "labels", "refund,bug,question");
 *     trommel_config_set(cfg, "model", "local");
 *     trommel_run *run;
 *     if (trommel_run_open(&run, cfg) != 0)
 *         complain(trommel_run_error(run));
 *     while (trommel_run_step(run, 100) == TROMMEL_MORE)
 *         ;
 *     trommel_run_close(run);
 *     trommel_config_free(cfg);
 *
 * Rules for everything here: functions that can fail return 0 (or a count or
 * state) or a negative TROMMEL_E... code; the sentence is in
 * trommel_run_error() or trommel_config_error(). Strings returned belong to
 * the handle and live until its next call. A handle belongs to one thread at
 * a time; only trommel_run_wakeup() and trommel_run_doing() may be called from
 * any thread. Several runs may live in one process. A run belongs to the
 * process that opened it: in a child made by fork() a step is TROMMEL_EUSAGE,
 * and closing leaves all as it is. A process that changes its folder while a
 * run is open gives absolute names of files; the store stays where it was
 * opened. The library takes no signals, never exits and writes to no stream: but
 * for rows to standard output, with "input" and without "output", and a broken
 * invariant, which ends the process with a line on standard error.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TROMMEL_H
#define TROMMEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TROMMEL_API __attribute__((visibility("default")))
#else
#define TROMMEL_API
#endif

typedef struct trommel_config trommel_config;
typedef struct trommel_run trommel_run;
typedef struct trommel_result trommel_result;

enum trommel_state {
    TROMMEL_DONE = 0, /* finished: nothing more will happen */
    TROMMEL_MORE = 1, /* call again */
    TROMMEL_FULL = 2  /* push: no room now; step and take results, then again */
};

/* Negative codes. trommel_exit_code() maps them to the program's exit codes. */
enum trommel_code {
    TROMMEL_ENOMEM = -1,
    TROMMEL_EUSAGE = -2,
    TROMMEL_EDATA = -3,
    TROMMEL_ENOINPUT = -4,
    TROMMEL_EUNAVAILABLE = -5,
    TROMMEL_ECANTCREATE = -6,
    TROMMEL_EIO = -7,
    TROMMEL_ESTOPPED = -8,
    TROMMEL_ENOPERM = -9,
    TROMMEL_ECONFIG = -10,
    TROMMEL_EBUG = -11
};

enum trommel_count {
    TROMMEL_ROWS_READ,
    TROMMEL_ROWS_SETTLED,  /* labelled or failed for good, durable */
    TROMMEL_ROWS_WRITTEN,  /* in the output, or taken by next() */
    TROMMEL_ROWS_FAILED,
    TROMMEL_ROWS_STORED,   /* of the settled: known before, cost nothing */
    TROMMEL_REQUESTS,
    TROMMEL_RETRIES,
    TROMMEL_IN_FLIGHT,
    TROMMEL_TOKENS_IN,
    TROMMEL_TOKENS_OUT,
    TROMMEL_TOKENS_CACHED,
    TROMMEL_SPENT_NANOUSD, /* of the job: settled plus unknown outcomes; -1:
                              the model's price is not known */
    TROMMEL_BYTES_READ,    /* of the input files */
    TROMMEL_BYTES_TOTAL,   /* -1: not known (pipe) */
    TROMMEL_ROWS_TOTAL,    /* -1: not known until the input has been read */
    TROMMEL_ROWS_TWIN,     /* of those read: equal to an earlier row */
    TROMMEL_ROWS_NONE,     /* labelled "none of the labels" */
    TROMMEL_THROTTLED,     /* requests a limit or an overloaded server refused */
    TROMMEL_LIMIT_WAIT_MS, /* time in which only limits kept requests back */
    TROMMEL_LIMIT_WAITING, /* 1: limits keep requests back now */
    TROMMEL_IN_FLIGHT_NANOUSD, /* what the answers in flight cost at most */
    TROMMEL_TOKENS_CACHE_WRITE, /* of the tokens in: kept by the provider */
    TROMMEL_CACHE_SAVED_NANOUSD, /* by the provider's prompt cache in this run;
                                   below 0: keeping cost more than it brought */
    TROMMEL_IN_BATCHES,    /* requests in batches: no stop needs to await them */
    /* Against rows that steer others, with the setting "guard": */
    TROMMEL_GUARD_PACKS,   /* requests counted that canaries vouch for */
    TROMMEL_GUARD_BARE,    /* counted with several texts and no canary */
    TROMMEL_GUARD_DOUBTS,  /* not counted, their rows asked again */
    TROMMEL_GUARD_FALSE,   /* of those: in vain */
    TROMMEL_GUARD_CORRECTED, /* rows that got another label by it */
    TROMMEL_ROWS_ISOLATED, /* asked alone because they look like an attack */
    TROMMEL_SHADOW_ROWS,   /* asked again in other company to compare, ... */
    TROMMEL_SHADOW_DIFFER, /* ... and labelled otherwise there */
    TROMMEL_GUARD_TOKENS,  /* about, in and out, for canaries and the shadow */
    TROMMEL_SHADOW_LOW,    /* per thousand that differ, 95 % interval (Wilson): */
    TROMMEL_SHADOW_HIGH,   /* 0 to 1000 where none was compared */
    TROMMEL_UNKNOWN_NANOUSD, /* of SPENT_NANOUSD: bounds of requests whose cost
                              nobody knows */
    TROMMEL_UNKNOWN_REQUESTS, /* how many those are, of the job */
    TROMMEL_ROWS_STORED_FAILED, /* of the rows stored: with a reason instead of
                              a label; the setting "retry-failed" asks again */
    TROMMEL_ROWS_UNLABELLED /* of ROWS_NONE: without any label, since the task
                              names none for it */
};

enum trommel_model_count { /* of one model of the chain, in this run */
    TROMMEL_MODEL_ROWS,    /* settled by it; equal rows included */
    TROMMEL_MODEL_FAILED,  /* of those: with a reason instead of a label */
    TROMMEL_MODEL_STORED,  /* texts whose answer by it was known before */
    TROMMEL_MODEL_REQUESTS,
    TROMMEL_MODEL_SPENT_NANOUSD /* -1: its price is not known */
};

TROMMEL_API const char *trommel_version(void);
TROMMEL_API int trommel_exit_code(int code);

/* ---- settings --------------------------------------------------------- */

/* Names and values are those of the command line ("labels", "model", "rpm";
 * see trommel(1)); "input" may be set several times. NULL when memory is
 * out. */
TROMMEL_API trommel_config *trommel_config_new(void);
/* 0, TROMMEL_EUSAGE with a sentence that names the nearest option, or
 * TROMMEL_ENOMEM. */
TROMMEL_API int trommel_config_set(trommel_config *cfg, const char *name,
                                   const char *value);
/* Forgets whatever set it; its default holds again. 0 or TROMMEL_ENOMEM. */
TROMMEL_API int trommel_config_unset(trommel_config *cfg, const char *name);
/* Value in force, NULL when unset or unknown. */
TROMMEL_API const char *trommel_config_get(const trommel_config *cfg,
                                           const char *name);
/* The same for an option that is a time, in milliseconds; -1: it is none. */
TROMMEL_API int64_t trommel_config_ms(const trommel_config *cfg,
                                      const char *name);
/* The i-th value, from 0, of an option that may be repeated; NULL after the
 * last. */
TROMMEL_API const char *trommel_config_get_at(const trommel_config *cfg,
                                              const char *name, int i);
/* Takes TROMMEL_* environment variables and the user's config file for what
 * set() has not set; called again, anew. Optional. TROMMEL_EUSAGE for a
 * variable, TROMMEL_ECONFIG for the file, TROMMEL_ENOMEM. */
TROMMEL_API int trommel_config_load(trommel_config *cfg);
TROMMEL_API const char *trommel_config_error(const trommel_config *cfg);
TROMMEL_API void trommel_config_free(trommel_config *cfg);

/* ---- a run ------------------------------------------------------------ */

/* Opens task, input, store, model and output. *out is set even on failure, so
 * that it can be asked for the error (NULL only when memory is out: step, error,
 * exit, setting and close take that); close it in any case. cfg may be freed
 * afterwards. Without "input" the rows are pushed and the results taken by
 * next(); "output", "head", "sample" and "apart" are TROMMEL_EUSAGE then, and
 * "order" = "completed" is with one. With "wait-lock" and a store that another
 * run holds, the steps wait for it. */
TROMMEL_API int trommel_run_open(trommel_run **out, const trommel_config *cfg);

/* The i-th value, from 0, that a setting has in this run, the task file's
 * included; NULL after the last. Also of a run that did not open. */
TROMMEL_API const char *trommel_run_setting(const trommel_run *run,
                                            const char *name, int i);

/* Bounded work; waits at most timeout_ms (below 0: as long as it takes) for
 * replies or input when there is nothing to do. TROMMEL_MORE, TROMMEL_DONE or a
 * negative code; that of open(), if that has failed. After either: DONE. When
 * the work is done and alerts are still on their way, up to 10 s of steps look
 * after them; trommel_run_stop() then drops them. */
TROMMEL_API int trommel_run_step(trommel_run *run, int timeout_ms);
TROMMEL_API const char *trommel_run_error(const trommel_run *run);

/* Hands one row in (copied). id NULL: the row number, from 0, as in
 * trommel_result_row(). 0, TROMMEL_FULL, or a negative code; a text that is not
 * valid UTF-8 or longer than 8 MiB is TROMMEL_EDATA, one for a run that reads
 * files or after finish() TROMMEL_EUSAGE. Blanks are not asked: "empty_text". A
 * run that has ended by itself (a budget, a quota, a full disk) takes none: the
 * code of its last step, or TROMMEL_ESTOPPED; trommel_run_error() says why. */
TROMMEL_API int trommel_run_push(trommel_run *run, const char *id,
                                 const char *text, size_t text_len);
TROMMEL_API int trommel_run_finish(trommel_run *run); /* no more rows */

/* The next result of pushed rows, in input order, or as completed with the
 * setting "order" = "completed". NULL: none now. Valid until the next call.
 * With 4096 that nobody takes a run stands still. */
TROMMEL_API const trommel_result *trommel_run_next(trommel_run *run);
TROMMEL_API int64_t trommel_result_row(const trommel_result *r); /* from 0 */
TROMMEL_API const char *trommel_result_id(const trommel_result *r);
/* Labels; count 0 with an empty error means "none of the labels". */
TROMMEL_API size_t trommel_result_label_count(const trommel_result *r);
TROMMEL_API const char *trommel_result_label(const trommel_result *r, size_t i);
TROMMEL_API const char *trommel_result_by(const trommel_result *r);
/* 0..1, or negative when the model gives no probabilities. */
TROMMEL_API double trommel_result_confidence(const trommel_result *r);
/* Reason code, "" when labelled. */
TROMMEL_API const char *trommel_result_error(const trommel_result *r);

/* First call: nothing more leaves, answers in flight are awaited up to the
 * setting "grace"; second call: at once. Go on stepping until DONE. exit_code
 * is what trommel_run_exit() then returns (130 for Ctrl-C), unless the run was
 * about to end for a reason of its own; 0 and 1 belong to a run that has done
 * all, so they and what is below become 75. */
TROMMEL_API void trommel_run_stop(trommel_run *run, int exit_code);
/* Ends the wait of a step for answers, from any thread, but no signal handler.
 * Other waits are short: for a store that another run holds 200 ms at a time,
 * for whoever reads the output 2 s. */
TROMMEL_API void trommel_run_wakeup(trommel_run *run);
/* What a step is about at this moment, in a few words (static); NULL outside of
 * steps, while one waits for whoever reads the output, which may take for ever,
 * and while a run that waited for a store opens. For who watches whether steps
 * return. */
TROMMEL_API const char *trommel_run_doing(const trommel_run *run);

/* After DONE or a negative code: the program's exit code. Above 1 the
 * sentence is in trommel_run_error(), and in no message. */
TROMMEL_API int trommel_run_exit(const trommel_run *run);

/* Next line for people, or NULL. *level: 0 error, 1 warning, 2 note, 3 log
 * (one per request, with the setting "verbose"). */
TROMMEL_API const char *trommel_run_message(trommel_run *run, int *level);

TROMMEL_API int64_t trommel_run_count(const trommel_run *run,
                                      enum trommel_count which);
/* Label i, in the task's order, and its rows so far; NULL after the last. */
TROMMEL_API const char *trommel_run_label(const trommel_run *run, size_t i,
                                          int64_t *rows);
/* Reason i for which rows failed: its code, in *rows how many, in *example
 * the number of the first of them (from 1), in *text the words for people
 * (static). NULL after the last. Reasons without a row are left out. */
TROMMEL_API const char *trommel_run_failure(const trommel_run *run, size_t i,
                                            int64_t *rows, int64_t *example,
                                            const char **text);
/* Model i of the chain (model, then fallback), as in trommel_result_by();
 * NULL after the last. */
TROMMEL_API const char *trommel_run_model(const trommel_run *run, size_t i);
/* Its part of the run; -1 when it is not known, or there is no such model. */
TROMMEL_API int64_t trommel_run_model_count(const trommel_run *run, size_t i,
                                            enum trommel_model_count which);
/* Why rows went on from model i to a later one: reason k as in the setting
 * "fallback-on", in *rows how many. NULL after the last. */
TROMMEL_API const char *trommel_run_moved(const trommel_run *run, size_t i,
                                          size_t k, int64_t *rows);
/* Everything about the run as one JSON object; docs/stats.md lists its
 * members. */
TROMMEL_API const char *trommel_run_stats_json(trommel_run *run);
/* The same numbers and more as Prometheus text (format 0.0.4);
 * docs/monitoring.md lists the metrics. */
TROMMEL_API const char *trommel_run_metrics(trommel_run *run);
/* With the setting "dry-run", after DONE: the first request as text and the
 * bound of what the whole run may cost. "" in other runs, and when memory is
 * out. */
TROMMEL_API const char *trommel_run_preview(trommel_run *run);

/* With the setting "dry-run", after DONE: what the run would ask and cost.
 * Tokens and money are expected values; 95 % lie between _LOW and _HIGH. */
enum trommel_estimate {
    TROMMEL_EST_ROWS,
    TROMMEL_EST_ROWS_KNOWN,    /* answered in the store: they cost nothing */
    TROMMEL_EST_ROWS_UNUSABLE, /* no text, or a bad row */
    TROMMEL_EST_DISTINCT,      /* different texts, the known ones too */
    TROMMEL_EST_TEXTS,         /* different texts to ask */
    TROMMEL_EST_EXACT,         /* 1: both were counted; 0: to about 0.2 % */
    TROMMEL_EST_REQUESTS,
    TROMMEL_EST_TOKENS_IN,
    TROMMEL_EST_TOKENS_IN_LOW,
    TROMMEL_EST_TOKENS_IN_HIGH,
    TROMMEL_EST_TOKENS_OUT,
    TROMMEL_EST_TOKENS_OUT_LOW,
    TROMMEL_EST_TOKENS_OUT_HIGH,
    TROMMEL_EST_NANOUSD,       /* -1: a price is not known */
    TROMMEL_EST_NANOUSD_LOW,
    TROMMEL_EST_NANOUSD_HIGH,
    TROMMEL_EST_BOUND_NANOUSD, /* never more, if nothing is repeated */
    TROMMEL_EST_MS,            /* -1: neither a limit nor a latency is known,
                                  or it is a batch */
    TROMMEL_EST_LIMITED,       /* 1: the time follows from a limit */
    TROMMEL_EST_MEASURED,      /* replies it rests on; 0: guessed from bytes */
    TROMMEL_EST_BATCH_REQUESTS, /* in batches that the run would pick up: their
                                  texts are not to be asked */
    TROMMEL_EST_BATCH_NANOUSD, /* what those may cost; -1: no prices */
    TROMMEL_EST_ROWS_TOO_LONG  /* not to be asked: no request could hold them */
};
TROMMEL_API int64_t trommel_run_estimate(const trommel_run *run,
                                         enum trommel_estimate which);
TROMMEL_API void trommel_run_close(trommel_run *run); /* accepts NULL */

#ifdef __cplusplus
}
#endif
#endif
