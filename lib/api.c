/* api.c - the functions of trommel.h; nothing else is exported.
 *
 * Each is a thin door: settings go to config.c, runs to drive.c.
 *
 * SPDX-License-Identifier: MIT */
#include "trommel.h"

#include "base/bounds.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "drive/drive.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#ifndef TROMMEL_VERSION
#define TROMMEL_VERSION "0.0.0"
#endif

_Static_assert((int)TROMMEL_EBUG == (int)TR_BUG, "codes of both headers");
_Static_assert((int)TROMMEL_MORE == (int)TR_RUN_MORE, "states of both");

struct trommel_config {
    struct tr_config *cfg;
    struct tr_err err;
};

struct trommel_result {
    int64_t row;
    char *id; /* owned */
    struct tr_verdict verdict;
    const struct tr_drive *drive;
};

struct trommel_run {
    struct tr_drive drive;
    struct tr_buf text;           /* last string handed out */
    struct trommel_result result; /* last result handed out */
    char *message;                /* last message handed out */
};

const char *trommel_version(void)
{
    return TROMMEL_VERSION;
}

int trommel_exit_code(int code)
{
    return tr_exit_code(code);
}

/* ---- settings --------------------------------------------------------- */

trommel_config *trommel_config_new(void)
{
    trommel_config *cfg = tr_alloc(sizeof *cfg);

    if (!cfg)
        return NULL;
    cfg->cfg = tr_config_new();
    if (!cfg->cfg) {
        tr_free(cfg);
        return NULL;
    }
    return cfg;
}

int trommel_config_set(trommel_config *cfg, const char *name,
                       const char *value)
{
    char where[80];

    snprintf(where, sizeof where, "--%s", name);
    return tr_config_put(cfg->cfg, TR_FROM_SET, name, tr_str_c(value), where,
                         &cfg->err);
}

const char *trommel_config_get(const trommel_config *cfg, const char *name)
{
    return tr_option_find(tr_str_c(name)) ? tr_config_text(cfg->cfg, name)
                                          : NULL;
}

int64_t trommel_config_ms(const trommel_config *cfg, const char *name)
{
    const struct tr_option *o = tr_option_find(tr_str_c(name));

    return o && o->type == TR_OPT_TIME ? tr_config_ms(cfg->cfg, name) : -1;
}

static const char *value_at(const struct tr_config *cfg, const char *name,
                            int i)
{
    const char *const *values;

    if (i < 0 || !tr_option_find(tr_str_c(name)) ||
        (size_t)i >= tr_config_list(cfg, name, &values))
        return NULL;
    return values[i];
}

const char *trommel_config_get_at(const trommel_config *cfg, const char *name,
                                  int i)
{
    return value_at(cfg->cfg, name, i);
}

int trommel_config_unset(trommel_config *cfg, const char *name)
{
    return tr_config_unset(cfg->cfg, name);
}

int trommel_config_load(trommel_config *cfg)
{
    return tr_config_load(cfg->cfg, NULL, &cfg->err);
}

const char *trommel_config_error(const trommel_config *cfg)
{
    return cfg->err.text;
}

void trommel_config_free(trommel_config *cfg)
{
    if (!cfg)
        return;
    tr_config_free(cfg->cfg);
    tr_free(cfg);
}

/* ---- a run ------------------------------------------------------------ */

int trommel_run_open(trommel_run **out, const trommel_config *cfg)
{
    trommel_run *run = tr_alloc(sizeof *run);

    *out = run;
    if (!run)
        return TROMMEL_ENOMEM;
    tr_buf_init(&run->text, 0);
    return tr_drive_open(&run->drive, cfg->cfg);
}

const char *trommel_run_setting(const trommel_run *run, const char *name,
                                int i)
{
    return run && run->drive.cfg ? value_at(run->drive.cfg, name, i) : NULL;
}

int trommel_run_step(trommel_run *run, int timeout_ms)
{
    return run ? tr_drive_step(&run->drive, timeout_ms) : TROMMEL_ENOMEM;
}

const char *trommel_run_error(const trommel_run *run)
{
    return run ? run->drive.err.text : "out of memory";
}

int trommel_run_push(trommel_run *run, const char *id, const char *text,
                     size_t text_len)
{
    struct tr_drive *d = &run->drive;
    char number[24];
    uint32_t n[2];
    size_t valid;

    if (!id) {
        snprintf(number, sizeof number, "%" PRId64, d->pushed_rows);
        id = number;
    }
    n[0] = (uint32_t)strlen(id);
    n[1] = (uint32_t)text_len;
    if (d->source || d->push_ended)
        return tr_fail(&d->err, TR_USAGE, d->source
                       ? "rows cannot be pushed: this run reads files"
                       : "rows cannot be pushed after finish()");
    if (d->over) /* no step would make room */
        return d->over_code < 0 ? d->over_code : TR_STOPPED;
    if (text_len > TR_RECORD_BYTES_MAX)
        return tr_fail(&d->err, TR_DATA, "a pushed text of %zu bytes is longer "
                       "than the limit of %u", text_len, TR_RECORD_BYTES_MAX);
    valid = tr_utf8_valid(tr_str(text, text_len));
    if (valid < text_len)
        return tr_fail(&d->err, TR_DATA, "a pushed text is not valid UTF-8 at "
                       "byte %zu", valid);
    if (d->pushed.n - d->pushed_at > 0 &&
        d->pushed.n - d->pushed_at + text_len > TR_PUSH_BYTES)
        return TROMMEL_FULL;
    if (d->pushed_at > TR_PUSH_BYTES / 2) { /* close the gap of what was read */
        memmove(d->pushed.p, d->pushed.p + d->pushed_at,
                d->pushed.n - d->pushed_at);
        d->pushed.n -= d->pushed_at;
        d->pushed_at = 0;
    }
    if (!tr_buf_room(&d->pushed, sizeof n + n[0] + n[1]))
        return tr_fail(&d->err, TR_NOMEM, "out of memory for a pushed row");
    tr_buf_add(&d->pushed, n, sizeof n);
    tr_buf_add(&d->pushed, id, n[0]);
    tr_buf_add(&d->pushed, text, text_len);
    d->pushed_rows++;
    return TR_OK;
}

int trommel_run_finish(trommel_run *run)
{
    run->drive.push_ended = true;
    return TR_OK;
}

const trommel_result *trommel_run_next(trommel_run *run)
{
    struct tr_drive *d = &run->drive;
    struct tr_outcome_row *r;

    tr_free(run->result.id);
    run->result.id = NULL;
    if (!d->result_count)
        return NULL;
    r = &d->results[d->result_first];
    run->result = (struct trommel_result){r->row, r->id, r->verdict, d};
    r->id = NULL;
    d->result_first = (d->result_first + 1) % TR_RESULTS;
    d->result_count--;
    d->results_moved = true;
    return &run->result;
}

int64_t trommel_result_row(const trommel_result *r)
{
    return r->row;
}

const char *trommel_result_id(const trommel_result *r)
{
    return r->id;
}

size_t trommel_result_label_count(const trommel_result *r)
{
    const uint32_t *labels;

    if (r->verdict.why != TR_WHY_NONE)
        return 0;
    return tr_task_set_labels(&r->drive->task, r->verdict.set, &labels);
}

const char *trommel_result_label(const trommel_result *r, size_t i)
{
    const uint32_t *labels;

    if (i >= trommel_result_label_count(r))
        return NULL;
    tr_task_set_labels(&r->drive->task, r->verdict.set, &labels);
    return r->drive->task.labels[labels[i]].name.p; /* kept with a NUL */
}

const char *trommel_result_by(const trommel_result *r)
{
    const struct tr_origin *o =
        tr_store_origin_at(r->drive->store, r->verdict.origin);

    return o ? o->by : "";
}

double trommel_result_confidence(const trommel_result *r)
{
    return r->verdict.confidence == TR_NO_CONFIDENCE
        ? -1 : r->verdict.confidence / 10000.0;
}

const char *trommel_result_error(const trommel_result *r)
{
    return tr_why_code((enum tr_why)r->verdict.why);
}

void trommel_run_stop(trommel_run *run, int exit_code)
{
    tr_drive_stop(&run->drive, exit_code);
}

const char *trommel_run_doing(const trommel_run *run)
{
    return atomic_load_explicit(&run->drive.doing, memory_order_relaxed);
}

void trommel_run_wakeup(trommel_run *run)
{
    struct tr_lane *lane = run->drive.lanes[0];

    if (run->drive.lane_count)
        lane->vt->wakeup(lane);
}

int trommel_run_exit(const trommel_run *run)
{
    return run ? run->drive.exit_code : tr_exit_code(TR_NOMEM);
}

const char *trommel_run_message(trommel_run *run, int *level)
{
    struct tr_drive *d = &run->drive;
    struct tr_message *m = &d->messages[d->message_first];

    tr_free(run->message);
    run->message = NULL;
    if (!d->message_count)
        return NULL;
    run->message = m->text;
    *level = m->level;
    d->message_first = (d->message_first + 1) % TR_MESSAGES;
    d->message_count--;
    return run->message;
}

/* ---- numbers ---------------------------------------------------------- */

static struct tr_lane_counts lane_counts(const struct tr_drive *d, uint32_t i)
{
    struct tr_lane_counts c = {0};

    if (d->run && i < d->lane_count)
        tr_run_lane_counts(d->run, i, &c);
    return c;
}

/* Of all models that were or will be asked: the first always is. */
static bool prices_known(const struct tr_drive *d)
{
    for (uint32_t i = 0; i < d->lane_count; i++)
        if (!d->lanes[i]->is_local && !tr_priced(&d->lanes[i]->facts) &&
            (i == 0 || lane_counts(d, i).requests))
            return false;
    return true;
}

int64_t trommel_run_count(const trommel_run *run, enum trommel_count which)
{
    const struct tr_drive *d = &run->drive;
    struct tr_counts c = {0};
    struct tr_money m = {0};
    double low, high;

    if (d->run) {
        tr_run_counts(d->run, &c);
        tr_run_money(d->run, &m);
    }
    switch (which) {
    case TROMMEL_ROWS_READ:     return c.rows_read;
    case TROMMEL_ROWS_SETTLED:  return c.rows_settled;
    case TROMMEL_ROWS_WRITTEN:
        return c.rows_written - (d->sink ? 0 : d->result_count);
    case TROMMEL_ROWS_FAILED:   return c.rows_failed;
    case TROMMEL_ROWS_STORED:   return c.rows_stored;
    case TROMMEL_ROWS_STORED_FAILED: return c.rows_stored_failed;
    case TROMMEL_REQUESTS:      return c.requests;
    case TROMMEL_RETRIES:       return c.retries;
    case TROMMEL_IN_FLIGHT:     return c.in_flight;
    case TROMMEL_IN_BATCHES:    return c.in_batches;
    case TROMMEL_TOKENS_IN:     return c.tokens_in;
    case TROMMEL_TOKENS_OUT:    return c.tokens_out;
    case TROMMEL_TOKENS_CACHED: return c.tokens_cached;
    case TROMMEL_SPENT_NANOUSD:
        return prices_known(d) ? m.spent + m.unknown : -1;
    case TROMMEL_BYTES_READ:
        return d->source ? tr_source_bytes_read(d->source) : 0;
    case TROMMEL_BYTES_TOTAL:
        return d->source ? tr_source_bytes_total(d->source) : -1;
    case TROMMEL_ROWS_TOTAL:    return c.input_ended ? c.rows_read : -1;
    case TROMMEL_ROWS_TWIN:     return c.rows_twin;
    case TROMMEL_ROWS_NONE:     return c.none_answers;
    case TROMMEL_ROWS_UNLABELLED: return d->task.none < 0 ? c.none_answers : 0;
    case TROMMEL_THROTTLED:     return c.throttled;
    case TROMMEL_LIMIT_WAIT_MS: return c.wait_limits_ns / 1000000;
    case TROMMEL_LIMIT_WAITING: return c.waiting > 0;
    case TROMMEL_TOKENS_CACHE_WRITE: return c.tokens_cache_write;
    case TROMMEL_CACHE_SAVED_NANOUSD: return c.cache_saved_nano;
    case TROMMEL_IN_FLIGHT_NANOUSD:
        return d->run ? tr_run_in_flight_nano(d->run) : 0;
    case TROMMEL_GUARD_PACKS:   return c.guard.packs;
    case TROMMEL_GUARD_BARE:    return c.guard.bare;
    case TROMMEL_GUARD_DOUBTS:  return c.guard.doubts;
    case TROMMEL_GUARD_FALSE:   return c.guard.false_doubts;
    case TROMMEL_GUARD_CORRECTED: return c.guard.corrected;
    case TROMMEL_ROWS_ISOLATED: return c.guard.isolated;
    case TROMMEL_SHADOW_ROWS:   return c.guard.audits;
    case TROMMEL_SHADOW_DIFFER: return c.guard.differ;
    case TROMMEL_GUARD_TOKENS:  return c.guard.tokens;
    case TROMMEL_SHADOW_LOW:
    case TROMMEL_SHADOW_HIGH:
        tr_guard_interval(c.guard.audits, c.guard.differ, &low, &high);
        return (int64_t)(1000 * (which == TROMMEL_SHADOW_LOW ? low : high) +
                         0.5);
    case TROMMEL_UNKNOWN_NANOUSD: return m.unknown;
    case TROMMEL_UNKNOWN_REQUESTS: return c.unknown_attempts;
    }
    return -1;
}

const char *trommel_run_label(const trommel_run *run, size_t i, int64_t *rows)
{
    const struct tr_drive *d = &run->drive;

    if (!d->run || i >= d->task.label_count)
        return NULL;
    *rows = tr_run_label_counts(d->run)[i];
    return d->task.labels[i].name.p;
}

const char *trommel_run_model(const trommel_run *run, size_t i)
{
    const struct tr_drive *d = &run->drive;

    return i < d->lane_count ? d->lanes[i]->model : NULL;
}

int64_t trommel_run_model_count(const trommel_run *run, size_t i,
                                enum trommel_model_count which)
{
    const struct tr_drive *d = &run->drive;
    struct tr_lane_counts c;

    if (i >= d->lane_count)
        return -1;
    c = lane_counts(d, (uint32_t)i);
    switch (which) {
    case TROMMEL_MODEL_ROWS:     return c.rows;
    case TROMMEL_MODEL_FAILED:   return c.failed;
    case TROMMEL_MODEL_STORED:   return c.stored;
    case TROMMEL_MODEL_REQUESTS: return d->lanes[i]->is_local ? 0 : c.requests;
    case TROMMEL_MODEL_SPENT_NANOUSD:
        return d->lanes[i]->is_local          ? 0
               : tr_priced(&d->lanes[i]->facts) ? c.spent_nano + c.unknown_nano
                                                : -1;
    }
    return -1;
}

const char *trommel_run_moved(const trommel_run *run, size_t i, size_t k,
                              int64_t *rows)
{
    const struct tr_drive *d = &run->drive;
    struct tr_lane_counts c;

    if (i >= d->lane_count)
        return NULL;
    c = lane_counts(d, (uint32_t)i);
    for (int t = 0; t < TR_TRIGGER_COUNT; t++) {
        if (!c.moved[t] || k-- > 0)
            continue;
        *rows = c.moved[t];
        return tr_trigger_word((enum tr_trigger)t);
    }
    return NULL;
}

const char *trommel_run_failure(const trommel_run *run, size_t i,
                                int64_t *rows, int64_t *example,
                                const char **text)
{
    struct tr_counts c;

    if (!run->drive.run)
        return NULL;
    tr_run_counts(run->drive.run, &c);
    for (int why = TR_WHY_NONE + 1; why < TR_WHY_COUNT; why++) {
        if (!c.fails[why] || i-- > 0)
            continue;
        *rows = c.fails[why];
        *example = c.fail_example[why];
        *text = tr_why_text((enum tr_why)why);
        return tr_why_code((enum tr_why)why);
    }
    return NULL;
}

static void add_count(struct tr_buf *b, const char *name, int64_t value)
{
    tr_buf_addf(b, "\"%s\":%" PRId64 ",", name, value);
}

static void add_estimate(struct tr_buf *b, const trommel_run *run)
{
    static const struct {
        const char *name;
        enum trommel_estimate which;
    } members[] = {
        {"rows", TROMMEL_EST_ROWS},
        {"rows_known", TROMMEL_EST_ROWS_KNOWN},
        {"rows_unusable", TROMMEL_EST_ROWS_UNUSABLE},
        {"distinct", TROMMEL_EST_DISTINCT},
        {"texts", TROMMEL_EST_TEXTS},
        {"exact", TROMMEL_EST_EXACT},
        {"requests", TROMMEL_EST_REQUESTS},
        {"tokens_in", TROMMEL_EST_TOKENS_IN},
        {"tokens_in_low", TROMMEL_EST_TOKENS_IN_LOW},
        {"tokens_in_high", TROMMEL_EST_TOKENS_IN_HIGH},
        {"tokens_out", TROMMEL_EST_TOKENS_OUT},
        {"tokens_out_low", TROMMEL_EST_TOKENS_OUT_LOW},
        {"tokens_out_high", TROMMEL_EST_TOKENS_OUT_HIGH},
        {"nanousd", TROMMEL_EST_NANOUSD},
        {"nanousd_low", TROMMEL_EST_NANOUSD_LOW},
        {"nanousd_high", TROMMEL_EST_NANOUSD_HIGH},
        {"bound_nanousd", TROMMEL_EST_BOUND_NANOUSD},
        {"ms", TROMMEL_EST_MS},
        {"limited", TROMMEL_EST_LIMITED},
        {"measured", TROMMEL_EST_MEASURED},
        {"batch_requests", TROMMEL_EST_BATCH_REQUESTS},
        {"batch_nanousd", TROMMEL_EST_BATCH_NANOUSD},
        {"rows_too_long", TROMMEL_EST_ROWS_TOO_LONG},
    };

    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        tr_buf_addf(b, "%s\"%s\":%" PRId64, i ? "," : "\"estimate\":{",
                    members[i].name,
                    trommel_run_estimate(run, members[i].which));
    tr_buf_addz(b, "},");
}

/* One object for each model of the chain. */
static void add_models(struct tr_buf *b, const trommel_run *run)
{
    const struct tr_drive *d = &run->drive;

    tr_buf_addz(b, "\"models\":[");
    for (uint32_t i = 0; i < d->lane_count; i++) {
        struct tr_lane_counts c = lane_counts(d, i);
        const char *why;
        int64_t rows;

        tr_buf_addz(b, i ? ",{\"model\":" : "{\"model\":");
        tr_buf_add_json(b, tr_str_c(d->lanes[i]->model));
        tr_buf_addf(b, ",\"state\":\"%s\",\"served\":",
                    tr_health_word(c.state));
        tr_buf_add_json(b, tr_str_c(c.served));
        tr_buf_addz(b, ",");
        add_count(b, "rows", c.rows);
        add_count(b, "failed", c.failed);
        add_count(b, "stored", c.stored);
        add_count(b, "requests", d->lanes[i]->is_local ? 0 : c.requests);
        add_count(b, "tokens_in", c.tokens_in);
        add_count(b, "tokens_out", c.tokens_out);
        add_count(b, "spent_nanousd",
                  trommel_run_model_count(run, i, TROMMEL_MODEL_SPENT_NANOUSD));
        tr_buf_addz(b, "\"moved\":{");
        for (size_t k = 0; (why = trommel_run_moved(run, i, k, &rows)); k++)
            tr_buf_addf(b, "%s\"%s\":%" PRId64, k ? "," : "", why, rows);
        tr_buf_addz(b, "}}");
    }
    tr_buf_addz(b, "],");
}

/* What the run counts, and what its budget knows. */
static void add_counts(struct tr_buf *b, const trommel_run *run)
{
    static const struct {
        const char *name;
        enum trommel_count which;
    } members[] = {
        {"rows_read", TROMMEL_ROWS_READ},
        {"rows_total", TROMMEL_ROWS_TOTAL},
        {"rows_settled", TROMMEL_ROWS_SETTLED},
        {"rows_written", TROMMEL_ROWS_WRITTEN},
        {"rows_failed", TROMMEL_ROWS_FAILED},
        {"rows_stored", TROMMEL_ROWS_STORED},
        {"rows_stored_failed", TROMMEL_ROWS_STORED_FAILED},
        {"rows_twin", TROMMEL_ROWS_TWIN},
        {"rows_none", TROMMEL_ROWS_NONE},
        {"requests", TROMMEL_REQUESTS},
        {"retries", TROMMEL_RETRIES},
        {"throttled", TROMMEL_THROTTLED},
        {"in_flight", TROMMEL_IN_FLIGHT},
        {"in_batches", TROMMEL_IN_BATCHES},
        {"tokens_in", TROMMEL_TOKENS_IN},
        {"tokens_out", TROMMEL_TOKENS_OUT},
        {"tokens_cached", TROMMEL_TOKENS_CACHED},
        {"tokens_cache_write", TROMMEL_TOKENS_CACHE_WRITE},
        {"cache_saved_nanousd", TROMMEL_CACHE_SAVED_NANOUSD},
        {"spent_nanousd", TROMMEL_SPENT_NANOUSD},
        {"in_flight_nanousd", TROMMEL_IN_FLIGHT_NANOUSD},
        {"limit_wait_ms", TROMMEL_LIMIT_WAIT_MS},
        {"guard_packs", TROMMEL_GUARD_PACKS},
        {"guard_bare", TROMMEL_GUARD_BARE},
        {"guard_doubts", TROMMEL_GUARD_DOUBTS},
        {"guard_false", TROMMEL_GUARD_FALSE},
        {"guard_corrected", TROMMEL_GUARD_CORRECTED},
        {"rows_isolated", TROMMEL_ROWS_ISOLATED},
        {"shadow_rows", TROMMEL_SHADOW_ROWS},
        {"shadow_differ", TROMMEL_SHADOW_DIFFER},
        {"guard_tokens", TROMMEL_GUARD_TOKENS},
        {"bytes_read", TROMMEL_BYTES_READ},
        {"bytes_total", TROMMEL_BYTES_TOTAL},
    };
    struct tr_counts c = {0};
    struct tr_money m = {0};

    if (run->drive.run) {
        tr_run_counts(run->drive.run, &c);
        tr_run_money(run->drive.run, &m);
    }
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        add_count(b, members[i].name, trommel_run_count(run, members[i].which));
    add_count(b, "unknown_nanousd", m.unknown);
    add_count(b, "unknown_requests", c.unknown_attempts);
    add_count(b, "budget_nanousd", run->drive.run ? m.budget : -1);
    add_count(b, "budget_used_nanousd", tr_money_used(&m));
    add_count(b, "items_reasked", c.items_reasked);
    add_count(b, "answers_voided", c.voided);
}

static void add_labels(struct tr_buf *b, const trommel_run *run)
{
    const char *name;
    int64_t rows;

    tr_buf_addz(b, "\"labels\":{");
    for (size_t i = 0; (name = trommel_run_label(run, i, &rows)); i++) {
        if (i)
            tr_buf_addc(b, ',');
        tr_buf_add_json(b, tr_str_c(name));
        tr_buf_addf(b, ":%" PRId64, rows);
    }
    tr_buf_addz(b, "},");
}

static void add_failures(struct tr_buf *b, const trommel_run *run)
{
    const char *name, *text;
    int64_t rows, example;

    tr_buf_addz(b, "\"failures\":{");
    for (size_t i = 0;
         (name = trommel_run_failure(run, i, &rows, &example, &text)); i++)
        tr_buf_addf(b, "%s\"%s\":{\"rows\":%" PRId64 ",\"example_row\":%" PRId64
                    "}", i ? "," : "", name, rows, example);
    tr_buf_addz(b, "},");
}

/* "NAME":{"word":count,...}, of those that happened. */
static void add_happened(struct tr_buf *b, const char *name,
                         const int64_t *counts, int n,
                         const char *(*word)(int i))
{
    bool any = false;

    tr_buf_addf(b, "\"%s\":{", name);
    for (int i = 0; i < n; i++) {
        if (!counts[i])
            continue;
        tr_buf_addf(b, "%s\"%s\":%" PRId64, any ? "," : "", word(i),
                    counts[i]);
        any = true;
    }
    tr_buf_addz(b, "},");
}

static const char *outcome_word(int i)
{
    return tr_outcome_word((enum tr_outcome)i);
}

static const char *event_word(int i)
{
    return tr_event_word((enum tr_event_kind)i);
}

const char *trommel_run_stats_json(trommel_run *run)
{
    const struct tr_watch *watch = &run->drive.watch;
    const char *model = trommel_run_model(run, 0);
    struct tr_buf *b = &run->text;

    tr_buf_clear(b);
    tr_buf_addz(b, "{\"model\":");
    tr_buf_add_json(b, tr_str_c(model ? model : ""));
    tr_buf_addc(b, ',');
    add_counts(b, run);
    if (run->drive.dry_run)
        add_estimate(b, run);
    add_models(b, run);
    add_labels(b, run);
    add_failures(b, run);
    add_happened(b, "outcomes", watch->metrics.outcomes, TR_OUT_COUNT,
                 outcome_word);
    add_happened(b, "alerts", watch->raised, TR_EVENT_COUNT, event_word);
    tr_buf_addf(b, "\"alerts_undelivered\":%" PRId64 ",\"done\":%s,\"exit\":%d}",
                watch->alerts.undelivered, run->drive.done ? "true" : "false",
                run->drive.exit_code);
    return tr_buf_ok(b) ? b->p : "{}";
}

const char *trommel_run_metrics(trommel_run *run)
{
    struct tr_buf *b = &run->text;

    tr_buf_clear(b);
    tr_watch_metrics(&run->drive.watch, b);
    return tr_buf_ok(b) && b->p ? b->p : "";
}

const char *trommel_run_preview(trommel_run *run)
{
    struct tr_buf *b = &run->text;
    struct tr_preview v;
    char money[32];

    if (!run->drive.run || !run->drive.dry_run)
        return "";
    tr_run_preview(run->drive.run, &v);
    tr_buf_clear(b);
    if (!v.forecast.requests) {
        tr_buf_addz(b, "nothing to ask\n");
    } else if (!v.first.n) {
        tr_buf_addf(b, "%s runs in this program: no request is sent, nothing "
                    "is paid\n", run->drive.lanes[0]->model);
    } else {
        tr_buf_addf(b, "first request, to %s:\n", run->drive.lanes[0]->host);
        tr_buf_adds(b, v.first);
        tr_buf_addc(b, '\n');
    }
    tr_buf_addf(b, "%" PRId64 " row%s, %" PRId64 " distinct text%s to ask in %"
                PRId64 " request%s", v.rows, v.rows == 1 ? "" : "s",
                v.forecast.texts, v.forecast.texts == 1 ? "" : "s",
                v.forecast.requests, v.forecast.requests == 1 ? "" : "s");
    if (v.first.n)
        tr_buf_addf(b, ", about %" PRId64 " tokens in and %" PRId64 " out",
                    v.estimate.in.mean, v.estimate.out.mean);
    tr_buf_addc(b, '\n');
    if (v.first.n && v.bound_nano >= 0)
        tr_buf_addf(b, "the whole run costs at most %s if nothing has "
                    "to be asked again\n",
                    tr_money_text(v.bound_nano, money, sizeof money));
    else if (v.first.n)
        tr_buf_addz(b, "the price of this model is not known\n");
    if (v.batch_requests)
        tr_buf_addf(b, "%" PRId64 " request%s more (%s%s) %s in a batch "
                    "already; the same command%s picks %s up\n",
                    v.batch_requests, v.batch_requests == 1 ? "" : "s",
                    v.batch_nano < 0 ? "price not known" : "at most ",
                    v.batch_nano < 0 ? "" : tr_money_text(v.batch_nano, money,
                                                          sizeof money),
                    v.batch_requests == 1 ? "is" : "are",
                    run->drive.lanes[0]->in_batches ? "" : " with --batch",
                    v.batch_requests == 1 ? "it" : "them");
    return tr_buf_ok(b) ? b->p : "";
}

int64_t trommel_run_estimate(const trommel_run *run,
                             enum trommel_estimate which)
{
    struct tr_preview v;

    if (!run->drive.run || !run->drive.dry_run)
        return -1;
    tr_run_preview(run->drive.run, &v);
    switch (which) {
    case TROMMEL_EST_ROWS:            return v.rows;
    case TROMMEL_EST_ROWS_KNOWN:      return v.known;
    case TROMMEL_EST_ROWS_UNUSABLE:   return v.unusable;
    case TROMMEL_EST_DISTINCT:        return v.distinct;
    case TROMMEL_EST_TEXTS:           return v.forecast.texts;
    case TROMMEL_EST_EXACT:           return v.exact;
    case TROMMEL_EST_REQUESTS:        return v.first.n ? v.forecast.requests
                                                       : 0;
    case TROMMEL_EST_TOKENS_IN:       return v.estimate.in.mean;
    case TROMMEL_EST_TOKENS_IN_LOW:   return v.estimate.in.low;
    case TROMMEL_EST_TOKENS_IN_HIGH:  return v.estimate.in.high;
    case TROMMEL_EST_TOKENS_OUT:      return v.estimate.out.mean;
    case TROMMEL_EST_TOKENS_OUT_LOW:  return v.estimate.out.low;
    case TROMMEL_EST_TOKENS_OUT_HIGH: return v.estimate.out.high;
    case TROMMEL_EST_NANOUSD:         return v.estimate.nano.mean;
    case TROMMEL_EST_NANOUSD_LOW:     return v.estimate.nano.low;
    case TROMMEL_EST_NANOUSD_HIGH:    return v.estimate.nano.high;
    case TROMMEL_EST_BOUND_NANOUSD:   return v.bound_nano;
    case TROMMEL_EST_MS:              return v.ms;
    case TROMMEL_EST_LIMITED:         return v.limited;
    case TROMMEL_EST_MEASURED:        return v.estimate.measured;
    case TROMMEL_EST_BATCH_REQUESTS:  return v.batch_requests;
    case TROMMEL_EST_BATCH_NANOUSD:   return v.batch_nano;
    case TROMMEL_EST_ROWS_TOO_LONG:   return v.too_long;
    }
    return -1;
}

void trommel_run_close(trommel_run *run)
{
    if (!run || !tr_drive_is_ours(&run->drive))
        return; /* nothing of a copy is given back */
    tr_drive_close(&run->drive);
    tr_buf_release(&run->text);
    tr_free(run->result.id);
    tr_free(run->message);
    tr_free(run);
}
