/* progress.c - how far the run is, on standard error.
 * SPDX-License-Identifier: MIT */
#include "progress.h"

#include "format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LIVE_MS 100
#define PLAIN_MS 15000
#define JSON_MS 1000
#define SAMPLE_MS 100
#define MEMORY_S 10.0 /* time constant of the smoothed rate */
#define RATE_NONE 0.005 /* rows/s: it waits, and its rate only fades */
#define ETA_MOST_S (365 * 86400.0) /* beyond it is a guess of nothing */
#define BAR_CELLS 10

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

enum progress_mode progress_choose(const char *word, const struct term *term,
                                   bool data_on_tty)
{
    if (term->quiet || strcmp(word, "none") == 0)
        return PROGRESS_NONE;
    if (strcmp(word, "json") == 0)
        return PROGRESS_JSON;
    if (strcmp(word, "plain") == 0 || !term->tty || data_on_tty)
        return PROGRESS_PLAIN;
    return PROGRESS_LIVE;
}

void progress_init(struct progress *p, enum progress_mode mode,
                   struct term *term, int64_t head)
{
    int64_t now = now_ms();

    *p = (struct progress){.mode = mode, .term = term, .head = head,
                           .begun_ms = now, .sampled_ms = now};
    p->shown_ms = mode == PROGRESS_LIVE ? 0 : now;
}

int64_t progress_elapsed_ms(const struct progress *p)
{
    return now_ms() - p->begun_ms;
}

/* ---- one line --------------------------------------------------------- */

/* Parts in the order in which they stand, and which goes first when the line
 * is narrow (1 goes first). */
enum part {
    PART_ROWS, PART_SHARE, PART_BAR, PART_RATE, PART_ETA, PART_FLIGHT,
    PART_LIMITS, PART_RETRIES, PART_FAILED, PART_TOKENS, PART_MONEY, PART_COUNT
};
static const int leaves[PART_COUNT] = {
    [PART_TOKENS] = 1, [PART_RETRIES] = 2, [PART_FLIGHT] = 3, [PART_BAR] = 4,
    [PART_LIMITS] = 5, [PART_RATE] = 6,    [PART_ETA] = 7, [PART_FAILED] = 8,
    [PART_MONEY] = 9,  [PART_SHARE] = 10,  [PART_ROWS] = 11,
};

struct parts {
    char text[PART_COUNT][100];
    int width[PART_COUNT]; /* 0: not there */
};

static void put_part(struct parts *p, enum part which, const char *a,
                     const char *b)
{
    int n = snprintf(p->text[which], sizeof p->text[which], "%s%s", a, b);

    p->width[which] = n < 0 ? 0 : n;
}

static void put_bar(struct parts *p, double share, bool utf8)
{
    const char *on = utf8 ? "\xe2\x96\x88" : "#";
    const char *off = utf8 ? "\xe2\x96\x91" : ".";
    int full = (int)(share * BAR_CELLS + 0.5);
    char *out = p->text[PART_BAR];
    size_t n = strlen(on), at = 0;

    for (int i = 0; i < BAR_CELLS; i++, at += n)
        memcpy(out + at, i < full ? on : off, n);
    out[at] = 0;
    p->width[PART_BAR] = BAR_CELLS;
}

static void put_rows(struct parts *p, const struct progress_view *v, bool bar,
                     bool utf8)
{
    char done[FORMAT_BYTES], total[FORMAT_BYTES], text[100];
    double share;

    format_count(done, v->done);
    if (v->total < 0) {
        put_part(p, PART_ROWS, done, v->done == 1 ? " row" : " rows");
        return;
    }
    snprintf(text, sizeof text, "%s / %s%s row%s", done,
             v->estimated ? "~" : "", format_count(total, v->total),
             v->total == 1 ? "" : "s");
    put_part(p, PART_ROWS, text, "");
    share = v->total ? (double)v->done / (double)v->total : 1;
    share = share > 1 ? 1 : share;
    if (share < 1 || v->estimated) {
        /* Rounded down: 100 % is said when it is true. */
        snprintf(text, sizeof text, "%d%%", (int)(share * 100));
        put_part(p, PART_SHARE, text, "");
    }
    if (bar)
        put_bar(p, share, utf8);
}

void progress_line(char *out, size_t size, const struct progress_view *v,
                   int columns, bool bar, bool utf8)
{
    struct parts p = {0};
    char n[FORMAT_BYTES];
    int width = 0;
    size_t used = 0;

    put_rows(&p, v, bar, utf8);
    if (v->rate >= 0)
        put_part(&p, PART_RATE, format_rate(n, v->rate), " rows/s");
    if (v->eta_s >= 0 && v->done < v->total)
        put_part(&p, PART_ETA, "ETA ", format_span(n, v->eta_s));
    if (v->in_flight > 0)
        put_part(&p, PART_FLIGHT, format_count(n, v->in_flight), " in flight");
    else if (v->in_batches > 0)
        put_part(&p, PART_FLIGHT, format_count(n, v->in_batches),
                 " in batches");
    if (v->limits)
        put_part(&p, PART_LIMITS, "waiting for limits", "");
    if (v->retries > 0)
        put_part(&p, PART_RETRIES, format_count(n, v->retries),
                 v->retries == 1 ? " retry" : " retries");
    put_part(&p, PART_FAILED, format_count(n, v->failed), " failed");
    if (v->tokens > 0)
        put_part(&p, PART_TOKENS, format_short(n, v->tokens), " tokens");
    if (v->nano >= 0)
        put_part(&p, PART_MONEY, format_money(n, v->nano), "");

    for (int i = 0; i < PART_COUNT; i++)
        width += p.width[i] ? p.width[i] + 2 : 0;
    for (int go = 1; width > columns && go < PART_COUNT; go++) {
        for (int i = 0; i < PART_COUNT; i++) {
            if (leaves[i] == go && p.width[i]) {
                width -= p.width[i] + 2;
                p.width[i] = 0;
            }
        }
    }
    out[0] = 0;
    for (int i = 0; i < PART_COUNT && used < size; i++) {
        if (p.width[i])
            used += (size_t)snprintf(out + used, size - used, "  %s",
                                     p.text[i]);
    }
    if (width > columns && columns >= 0 && (size_t)columns < size)
        out[columns] = 0; /* the rows stand alone, and do not fit */
}

/* ---- a run ------------------------------------------------------------ */

/* Decayed sums of rows and seconds; their quotient is right from the first
 * sample on. Answered rows and known ones apart: after a resume the known
 * ones pass in a moment and say nothing about the rest. */
static void sample(struct progress *p, int64_t all, int64_t fresh, int64_t now)
{
    double dt = (double)(now - p->sampled_ms) / 1000;
    double keep = 1 / (1 + dt / MEMORY_S);

    if (p->last_new == 0 && fresh > 0) /* the first answers: begin anew */
        p->rows_all = p->rows_new = p->seconds = 0;
    p->rows_all = p->rows_all * keep + (double)(all - p->last_all);
    p->rows_new = p->rows_new * keep + (double)(fresh - p->last_new);
    p->seconds = p->seconds * keep + dt;
    p->last_all = all;
    p->last_new = fresh;
    p->sampled_ms = now;
}

static void total_of(const struct progress *p, const trommel_run *run,
                     struct progress_view *v)
{
    int64_t bytes = trommel_run_count(run, TROMMEL_BYTES_TOTAL);
    int64_t bytes_read = trommel_run_count(run, TROMMEL_BYTES_READ);
    int64_t read = trommel_run_count(run, TROMMEL_ROWS_READ);

    v->total = trommel_run_count(run, TROMMEL_ROWS_TOTAL);
    if (v->total >= 0)
        return;
    if (bytes > 0 && bytes_read > 0 && read > 0) {
        v->estimated = true;
        v->total = (int64_t)((double)read * (double)bytes /
                             (double)bytes_read);
        if (v->total < read)
            v->total = read;
    }
    if (p->head > 0 && (v->total < 0 || v->total > p->head))
        v->total = p->head;
}

void progress_foresee(struct progress_view *v, const struct progress *p)
{
    v->rate = v->eta_s = -1;
    if (p->seconds > 0)
        v->rate = (p->rows_new > 0.5 ? p->rows_new : p->rows_all) / p->seconds;
    if (v->rate > RATE_NONE && v->total >= 0)
        v->eta_s = (double)(v->total - v->done) / v->rate;
    if (v->eta_s > ETA_MOST_S)
        v->eta_s = -1;
}

static void view_of(const struct progress *p, const trommel_run *run,
                    struct progress_view *v)
{
    *v = (struct progress_view){
        .done = trommel_run_count(run, TROMMEL_ROWS_SETTLED),
        .failed = trommel_run_count(run, TROMMEL_ROWS_FAILED),
        .in_flight = trommel_run_count(run, TROMMEL_IN_FLIGHT),
        .in_batches = trommel_run_count(run, TROMMEL_IN_BATCHES),
        .retries = trommel_run_count(run, TROMMEL_RETRIES),
        .tokens = trommel_run_count(run, TROMMEL_TOKENS_IN) +
                  trommel_run_count(run, TROMMEL_TOKENS_OUT),
        .nano = trommel_run_count(run, TROMMEL_SPENT_NANOUSD),
        .limits = trommel_run_count(run, TROMMEL_LIMIT_WAITING) > 0,
    };
    total_of(p, run, v);
    progress_foresee(v, p);
}

static void draw(const struct progress *p, trommel_run *run)
{
    struct progress_view v;
    char line[600];
    bool live = p->mode == PROGRESS_LIVE;

    if (p->mode == PROGRESS_JSON) {
        fprintf(stderr, "%s\n", trommel_run_stats_json(run));
        return;
    }
    view_of(p, run, &v);
    progress_line(line, sizeof line, &v, live ? term_columns() - 1 : 1000,
                  live, p->term->utf8);
    if (live)
        fprintf(stderr, "\r%s\033[K", line);
    else
        fprintf(stderr, "%s\n", line);
    p->term->drawn = live;
}

void progress_tick(struct progress *p, trommel_run *run, bool last)
{
    static const int64_t every_ms[] = {[PROGRESS_LIVE] = LIVE_MS,
                                       [PROGRESS_PLAIN] = PLAIN_MS,
                                       [PROGRESS_JSON] = JSON_MS};
    int64_t now = now_ms(), settled;

    if (p->mode == PROGRESS_NONE)
        return;
    if (now - p->sampled_ms >= SAMPLE_MS) {
        settled = trommel_run_count(run, TROMMEL_ROWS_SETTLED);
        sample(p, settled,
               settled - trommel_run_count(run, TROMMEL_ROWS_STORED), now);
    }
    /* The end of a plain run is said by the summary. */
    if (last ? p->mode != PROGRESS_PLAIN
             : now - p->shown_ms >= every_ms[p->mode]) {
        p->shown_ms = now;
        draw(p, run);
        if (last && p->mode == PROGRESS_LIVE)
            putc('\n', stderr); /* the last state stays to be read */
        if (last)
            p->term->drawn = false;
    }
}
