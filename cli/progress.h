/* progress.h - how far the run is, on standard error.
 * SPDX-License-Identifier: MIT */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "term.h"

#include <trommel.h>

#include <stdint.h>

enum progress_mode {
    PROGRESS_NONE,
    PROGRESS_LIVE,  /* one line, redrawn at most ten times a second */
    PROGRESS_PLAIN, /* one line every 15 s */
    PROGRESS_JSON   /* one JSON object every second */
};

struct progress {
    enum progress_mode mode;
    struct term *term;
    int64_t head;           /* --head, 0: all rows */
    int64_t begun_ms, shown_ms, sampled_ms;
    int64_t last_all, last_new; /* counts at the last sample */
    double rows_all, rows_new, seconds; /* decayed sums: smoothed rates */
};

/* What one line says. */
struct progress_view {
    int64_t done, total; /* total -1: unknown */
    bool estimated;      /* total is guessed from bytes */
    int64_t failed, in_flight, in_batches, retries, tokens;
    int64_t nano;        /* money, -1: price unknown */
    bool limits;         /* limits keep requests back now */
    double rate, eta_s;  /* negative: unknown */
};

/* Mode by word (auto, plain, json, none) and terminal. data_on_tty: the rows
 * go to the same terminal, so no line of ours may be redrawn there. */
enum progress_mode progress_choose(const char *word, const struct term *term,
                                   bool data_on_tty);
void progress_init(struct progress *p, enum progress_mode mode,
                   struct term *term, int64_t head);
/* Call often; draws when it is time. last: the run is over. */
void progress_tick(struct progress *p, trommel_run *run, bool last);
int64_t progress_elapsed_ms(const struct progress *p);

/* Sets rate and eta_s from done, total and what was sampled. Pure. */
void progress_foresee(struct progress_view *v, const struct progress *p);
/* The line without its end, at most columns wide; parts that do not fit are
 * left out, the least important first. bar: draw one. Pure. */
void progress_line(char *out, size_t size, const struct progress_view *v,
                   int columns, bool bar, bool utf8);

#endif
