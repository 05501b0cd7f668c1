/* env.c - the world of a real run: clock, randomness, rows in and out, words.
 *
 * What struct tr_env asks for, answered from the parts that opening.c opened.
 * The simulator has a world of its own.
 *
 * SPDX-License-Identifier: MIT */
#include "drive/drive.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void tr_drive_on_say(void *ctx, int level, const char *line)
{
    tr_drive_say(ctx, level, line);
}

static int64_t on_now(void *ctx)
{
    (void)ctx;
    return tr_clock_mono_ns();
}

static int64_t on_wall(void *ctx)
{
    (void)ctx;
    return tr_clock_wall_s();
}

/* The system is asked for many at a time: one call a request would cost as
 * much as sending it. */
static uint64_t on_random(void *ctx)
{
    struct tr_drive *d = ctx;

    if (!d->random_left) {
        d->random_left = sizeof d->random / sizeof *d->random;
        tr_random_fill(d->random, sizeof d->random);
    }
    return d->random[--d->random_left];
}

static int read_source(void *ctx, struct tr_block *block, struct tr_err *err)
{
    struct tr_drive *d = ctx;
    int rc = tr_source_next(d->source, block, err);

    d->source_waits = rc == TR_SOURCE_WAIT;
    return rc; /* TR_SOURCE_* and TR_FILL_* are the same numbers */
}

/* A pushed row, out of the queue into the block. */
static int read_pushed(void *ctx, struct tr_block *block, struct tr_err *err)
{
    struct tr_drive *d = ctx;
    uint32_t n[2], id_at, text_at;
    bool grow = block->row_count == 0;
    const char *p = d->pushed.p + d->pushed_at;
    struct tr_row *row;

    (void)err;
    if (d->pushed_at == d->pushed.n) {
        tr_buf_clear(&d->pushed);
        d->pushed_at = 0;
        return d->push_ended ? TR_FILL_END : TR_FILL_WAIT;
    }
    memcpy(n, p, sizeof n);
    if (block->row_count == block->row_cap)
        return TR_FILL_FULL;
    id_at = tr_block_add(block, tr_str(p + sizeof n, n[0]), grow);
    text_at = id_at == UINT32_MAX ? id_at
        : tr_block_add(block, tr_str(p + sizeof n + n[0], n[1]), grow);
    if (text_at == UINT32_MAX) {
        if (grow)
            return tr_fail(err, TR_NOMEM, "out of memory for a pushed row");
        return TR_FILL_FULL;
    }
    row = &block->rows[block->row_count++];
    *row = (struct tr_row){
        .raw_at = text_at, .raw_n = n[1], .text_at = text_at, .text_n = n[1],
        .id_at = id_at, .id_n = n[0],
    };
    if (!tr_str_trim(tr_str(p + sizeof n + n[0], n[1])).n) {
        row->state = TR_ROW_SETTLED;
        row->verdict = (struct tr_verdict){
            .why = TR_WHY_EMPTY, .origin = TR_NO_ORIGIN,
            .confidence = TR_NO_CONFIDENCE};
    }
    d->pushed_at += sizeof n + n[0] + n[1];
    return TR_FILL_ROW;
}

/* The next text of the sample, in place of the whole input. */
static int read_asked(void *ctx, struct tr_block *block, struct tr_err *err)
{
    struct tr_drive *d = ctx;
    bool grow = block->row_count == 0;
    struct tr_row *row;

    if (d->asked_at == d->asked.n)
        return TR_FILL_END;
    row = tr_block_add_row(block, d->asked.texts[d->asked_at], grow);
    if (!row && grow)
        return tr_fail(err, TR_NOMEM, "out of memory for the sample");
    if (!row)
        return TR_FILL_FULL;
    row->party = d->asked.parties[d->asked_at];
    row->line = ++d->asked_at;
    return TR_FILL_ROW;
}

static int write_sink(void *ctx, const struct tr_block *block,
                      const struct tr_row *row, struct tr_err *err)
{
    struct tr_drive *d = ctx;
    const struct tr_verdict *v = &row->verdict;
    const struct tr_origin *origin = tr_store_origin_at(d->store, v->origin);
    const uint32_t *labels;
    struct tr_companions c = {
        .labels = d->names,
        .multiple = d->task.multiple,
        .confidence = v->confidence,
        .why = (enum tr_why)v->why,
    };
    const char *doing;
    int rc;

    if (origin && (v->why == TR_WHY_NONE || tr_why_stored(c.why)))
        c.by = tr_str_c(origin->by);
    if (v->why == TR_WHY_NONE) {
        c.label_count = tr_task_set_labels(&d->task, v->set, &labels);
        for (size_t i = 0; i < c.label_count; i++)
            d->names[i] = d->task.labels[labels[i]].name;
    }
    tr_buf_clear(&d->line);
    tr_source_render(d->source, block, row, &c, &d->line);
    if (!tr_buf_ok(&d->line))
        return tr_fail(err, TR_NOMEM, "out of memory for an output record");
    /* Who reads may be slow, or stuck: that must not keep replies, and a stop,
     * waiting. Only a record larger than the buffer is awaited. */
    if (tr_sink_is_stream(d->sink) &&
        !tr_sink_has_room(d->sink, d->line.n)) {
        rc = tr_sink_drain(d->sink, err);
        d->sink_full = rc == 0 && !tr_sink_has_room(d->sink, d->line.n);
        if (rc < 0 || d->sink_full)
            return rc;
    }
    doing = d->doing;
    if (tr_sink_is_stream(d->sink) && !tr_sink_has_room(d->sink, d->line.n))
        tr_drive_doing(d, NULL); /* until its reader has it */
    rc = tr_sink_write(d->sink, tr_buf_str(&d->line), err);
    tr_drive_doing(d, doing);
    return rc == TR_OK ? 1 : rc;
}

static int write_result(void *ctx, const struct tr_block *block,
                        const struct tr_row *row, struct tr_err *err)
{
    struct tr_drive *d = ctx;
    struct tr_outcome_row *r;

    if (d->result_count == TR_RESULTS)
        return 0;
    r = &d->results[(d->result_first + d->result_count) % TR_RESULTS];
    r->row = (int64_t)(block->first + (uint64_t)(row - block->rows));
    r->verdict = row->verdict;
    r->id = tr_dup(block->bytes + row->id_at, row->id_n);
    if (!r->id)
        return tr_fail(err, TR_NOMEM, "out of memory for a result");
    d->result_count++;
    d->results_moved = true;
    return 1;
}

static int write_nothing(void *ctx, const struct tr_block *block,
                         const struct tr_row *row, struct tr_err *err)
{
    (void)ctx;
    (void)block;
    (void)row;
    (void)err;
    return 1;
}

static int on_spill(void *ctx, struct tr_block *block, struct tr_err *err)
{
    return tr_spill_put(&((struct tr_drive *)ctx)->spill, block, err);
}

static int on_unspill(void *ctx, struct tr_block *block, struct tr_err *err)
{
    return tr_spill_get(&((struct tr_drive *)ctx)->spill, block, err);
}

static void on_event(void *ctx, const struct tr_event *event)
{
    tr_watch_event(&((struct tr_drive *)ctx)->watch, event);
}

static void on_doing(void *ctx, const char *what)
{
    tr_drive_doing(ctx, what);
}

static void on_attempt(void *ctx, const struct tr_attempt *attempt)
{
    tr_watch_attempt(&((struct tr_drive *)ctx)->watch, attempt);
}

#define MEET_AGAIN_NS (3 * TR_MS) /* somebody else was there */

static int64_t on_meet(void *ctx, const struct tr_lane *lane,
                       struct tr_fair *fair, struct tr_pace *pace, int64_t now)
{
    struct tr_drive *d = ctx;
    char line[1400];
    int rc = tr_peers_meet(&d->peers, lane, fair, pace, now, line,
                           sizeof line);
    int64_t every = rc == TR_PEERS_BUSY ? MEET_AGAIN_NS : TR_FAIR_EVERY_NS;

    if (*line && rc == TR_PEERS_MET)
        tr_drive_say(d, 2, line);
    else if (*line && (d->peers_asked || tr_config_flag(d->cfg, "verbose")))
        tr_drive_say(d, d->peers_asked ? 1 : 3, line);
    if (rc == TR_PEERS_NONE)
        return -1;
    /* Those who started together do not meet at the lock for ever. */
    return every + (int64_t)(on_random(d) % (uint64_t)(every / 4));
}

/* ---- money ------------------------------------------------------------ */

static int on_ledger(void *ctx, struct tr_ledger_ask *ask, struct tr_err *err)
{
    return tr_till_ask(&((struct tr_drive *)ctx)->till, ask, err);
}

/* ---- a sample spread over the input ----------------------------------- */

static void warn_language(struct tr_drive *d)
{
    int foreign = tr_sample_foreign_pct(&d->sample);
    char line[300];

    if (foreign < 50)
        return;
    snprintf(line, sizeof line, "about %d %% of the texts do not look "
             "English; the local model knows English only. For other "
             "languages use a language model (--model)", foreign);
    tr_drive_say(d, 1, line);
}

static bool on_sample(void *ctx, const struct tr_str **texts, size_t *n)
{
    struct tr_drive *d = ctx;
    struct tr_source_opts input = d->source_opts;
    struct tr_err err; /* of the input: the engine meets it itself */

    input.apart = NULL; /* what fits itself learns from each text once */
    if (!d->source || !tr_source_rereadable(d->source))
        return false;
    if (!d->sampled) {
        d->sampled = true;
        if (tr_sample_draw(&d->sample, TR_SAMPLE_TEXTS, TR_SAMPLE_BYTES, &input,
                           &err) == TR_OK)
            warn_language(d);
    }
    *texts = d->sample.texts;
    *n = d->sample.n;
    return d->sample.n > 0;
}

/* From the share of the bytes that has been read; no more than are wanted. */
static int64_t on_rows_expected(void *ctx)
{
    struct tr_drive *d = ctx;
    int64_t read, total, head = d->source_opts.head;
    double rows;
    struct tr_counts c;

    if (!d->source || !d->run)
        return -1;
    if (d->is_sample)
        return (int64_t)d->asked.n;
    tr_run_counts(d->run, &c);
    read = tr_source_bytes_read(d->source);
    total = tr_source_bytes_total(d->source);
    if (c.input_ended || total < 0 || read <= 0)
        return c.input_ended ? c.rows_read : -1;
    rows = (double)c.rows_read * ((double)total / (double)read);
    return head > 0 && rows > (double)head ? head : (int64_t)rows;
}

static bool on_is_cut(void *ctx)
{
    struct tr_drive *d = ctx;

    return d->source && tr_source_is_cut(d->source);
}

/* ---- all of it -------------------------------------------------------- */

void tr_drive_env(struct tr_drive *d)
{
    d->env = (struct tr_env){
        .ctx = d,
        .now_ns = on_now,
        .wall_s = on_wall,
        .random = on_random,
        .read = d->is_sample ? read_asked
              : d->source ? read_source : read_pushed,
        .write = d->dry_run || d->is_sample ? write_nothing
               : d->sink ? write_sink : write_result,
        .spill = on_spill,
        .unspill = on_unspill,
        .sample = on_sample,
        .rows_expected = on_rows_expected,
        .is_cut = on_is_cut,
        .ledger = d->till.folder ? on_ledger : NULL,
        .meet = d->peers.wanted ? on_meet : NULL,
        .say = tr_drive_on_say,
        .event = on_event,
        .attempt = on_attempt,
        .doing = on_doing,
    };
}
