/* metrics.h - the run in numbers, as Prometheus text (format 0.0.4).
 *
 * Labels are provider, model, outcome, reason, type and kind: words of ours
 * and the names of the lanes, so their number is bounded. No id, no text, no
 * message of a provider is ever among them.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_METRICS_H
#define TR_METRICS_H

#include "run.h"

#define TR_METRICS_BUCKETS 14 /* of durations; 10 ms, doubled, to 81.92 s */

struct tr_metrics_lane {
    const struct tr_lane *lane;
    int64_t count[TR_OUT_COUNT];      /* attempts that ended */
    int64_t ms[TR_OUT_COUNT];         /* how long they took together */
    int64_t buckets[TR_OUT_COUNT][TR_METRICS_BUCKETS]; /* not cumulative */
    int64_t input, cached, cache_write, output, reasoning; /* disjoint */
};

struct tr_metrics {
    struct tr_metrics_lane lanes[TR_LANES_MAX];
    int lane_count;
    int64_t attempts, attempts_bad;
    int64_t outcomes[TR_OUT_COUNT];   /* of all lanes */
};

/* What the text tells besides. */
struct tr_metrics_view {
    const char *version;
    struct tr_counts counts;
    struct tr_money money;
    int64_t spent_at_open, unknown_at_open; /* by earlier runs of the job */
    bool priced;
    int64_t rows_expected;            /* -1: no idea */
    int64_t started_s, progress_s;    /* Unix seconds; 0: it has not begun */
    const int64_t *alerts;            /* TR_EVENT_COUNT of them */
    int64_t undelivered;
    bool done;
    int exit_code;
};

/* An attempt that failed: not its answer and not the pace. */
bool tr_metrics_bad(enum tr_outcome outcome);
/* One attempt of a model that is asked by requests. */
void tr_metrics_attempt(struct tr_metrics *m, const struct tr_attempt *a);
void tr_metrics_text(const struct tr_metrics *m,
                     const struct tr_metrics_view *v, struct tr_buf *out);

#endif
