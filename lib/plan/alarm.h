/* alarm.h - when an operator is told, and of what. Pure.
 *
 * Told the time and the counts, it says which alerts are due: each once per
 * episode. An episode ends when what was wrong is clearly over (hysteresis),
 * and only then may the same alert come again.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_ALARM_H
#define TR_PLAN_ALARM_H

#include "nouns.h"

#define TR_ALARM_LANES 8 /* lanes whose episodes are remembered */

struct tr_alarm_opts {
    int64_t stall_ns;       /* no row settles for so long; 0: never told */
    int error_pct;          /* failing requests, or rows; 0: never told */
    int64_t spend_per_hour; /* nano-dollars; -1: no such plan */
};

/* The run as it stands. */
struct tr_alarm_view {
    int64_t now;            /* monotonic ns */
    int64_t rows_settled, rows_failed;
    int64_t rows_stored;    /* of the settled: known before */
    int64_t rows_expected;  /* of the whole input; -1: no idea */
    bool rows_wait;         /* some row was read and is not settled */
    int64_t attempts, attempts_bad;
    bool priced;            /* what is spent is known */
    int64_t spent;          /* of the job, unknown outcomes at their bound:
                               rates and prices are told by it */
    int64_t budget;         /* as the user said it; -1: none */
    int64_t used;           /* of the budget; falls when a new day begins one */
    double row_estimate;    /* nano-dollars a row, as thought at the start; 0:
                               no idea */
    bool ended;
    int exit_code;          /* when ended */
};

struct tr_alert {
    enum tr_event_kind kind;
    const char *severity;   /* static */
    char lane[160];         /* "" for the run as a whole */
    int64_t value, limit;   /* BUDGET, ERRORS, FAILED_ROWS: percent; SPEND:
                               nano-dollars; STALL: seconds; QUOTA: seconds
                               until it is back; FINISHED: exit code; -1 */
    char text[400];         /* a sentence for people: no row text, no words
                               of others */
};

/* A share that fades: of what happened lately, how much was bad. */
struct tr_alarm_share {
    double all, bad;
    int64_t last_all, last_bad, at;
    bool firing;
};

struct tr_alarm {
    struct tr_alarm_opts opts;
    int64_t spent_at_open;
    bool budget_said[3];
    int64_t settled, progress_at;
    bool stalled;
    struct tr_alarm_share requests, rows;
    double spend, seconds;  /* both fading: their quotient is the rate */
    int64_t spend_last, spend_at;
    bool spend_fires, plan_fires, dear_fires, finish_said;
    struct {
        char lane[160];
        bool quota, down, renamed;
    } lanes[TR_ALARM_LANES];
    int lane_count;
};

/* What stands already when the run opens is no news: view is that state. */
void tr_alarm_init(struct tr_alarm *a, const struct tr_alarm_opts *opts,
                   const struct tr_alarm_view *view);
/* The next alert that is due: true when alert was filled. Call until false. */
bool tr_alarm_next(struct tr_alarm *a, const struct tr_alarm_view *view,
                   struct tr_alert *alert);
/* An event of a lane: true when it begins or ends an episode. */
bool tr_alarm_raise(struct tr_alarm *a, const struct tr_event *event,
                    struct tr_alert *alert);

#endif
