/* watch.h - what a run tells of itself while it goes: alerts, metrics, trace.
 *
 * The driver's only door to all of them. Nothing in it ever waits, and none
 * of its failures ends a run.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_WATCH_H
#define TR_WATCH_H

#include "watch/alert.h"
#include "config.h"
#include "watch/metrics.h"
#include "watch/trace.h"

struct tr_watch {
    const struct tr_run *run;     /* NULL before begin() */
    struct tr_env *env;
    char *job;                    /* owned */
    char *metrics_file, *metrics_temp; /* owned; NULL: none */
    bool priced, silent;          /* silent: --dry-run, --offline */
    void (*say)(void *ctx, int level, const char *line);
    void *ctx;

    struct tr_alarm_opts alarm_opts;
    struct tr_alarm alarm;
    struct tr_alerts alerts;
    struct tr_metrics metrics;
    struct tr_trace trace;
    int64_t raised[TR_EVENT_COUNT];

    int64_t spent_at_open, unknown_at_open;
    int64_t started_s, progress_s, settled;
    int64_t ticked_at, filed_at, delivered_at; /* monotonic ns */
    bool file_said;

    bool ended;
    int exit_code;
    int64_t ended_at;
    bool drain_said;
};

/* Checks all settings; sends nothing. silent: no alert leaves, no trace is
 * written. */
int tr_watch_open(struct tr_watch *w, const struct tr_config *cfg, bool silent,
                  void (*say)(void *ctx, int level, const char *line),
                  void *ctx, struct tr_err *err);
/* The run is open. env: for the rows expected; job is copied. */
int tr_watch_begin(struct tr_watch *w, const struct tr_run *run,
                   struct tr_env *env, const char *job, bool priced,
                   struct tr_err *err);
void tr_watch_event(struct tr_watch *w, const struct tr_event *event);
void tr_watch_attempt(struct tr_watch *w, const struct tr_attempt *attempt);
/* Call in every step. */
void tr_watch_tick(struct tr_watch *w, int64_t now_ns);
/* The run is over: the last alert, the last metrics, the rest of the trace. */
void tr_watch_end(struct tr_watch *w, int exit_code, int64_t now_ns);
/* Are alerts still being delivered that are worth waiting for? At most 10 s
 * after the end. Looks after them. */
bool tr_watch_busy(struct tr_watch *w, int64_t now_ns);
void tr_watch_hurry(struct tr_watch *w); /* nothing is worth waiting for */
/* How soon to look again, in ms: while something is being delivered. */
int tr_watch_wait_ms(const struct tr_watch *w, int wait_ms);
/* Prometheus text of this moment. */
void tr_watch_metrics(const struct tr_watch *w, struct tr_buf *out);
void tr_watch_close(struct tr_watch *w);

#endif
