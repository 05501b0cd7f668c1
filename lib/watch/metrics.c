/* metrics.c - the run in numbers, as Prometheus text (format 0.0.4).
 * SPDX-License-Identifier: MIT */
#include "watch/metrics.h"

#include "plan/tally.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- counting --------------------------------------------------------- */

bool tr_metrics_bad(enum tr_outcome outcome)
{
    switch (outcome) {
    case TR_OUT_GARBLED:
    case TR_OUT_EXHAUSTED:
    case TR_OUT_FATAL:
    case TR_OUT_BAD_REQUEST:
    case TR_OUT_TRANSIENT:
    case TR_OUT_UNREACHED:
    case TR_OUT_LOST:
        return true;
    default:
        return false;
    }
}

static struct tr_metrics_lane *lane_of(struct tr_metrics *m,
                                       const struct tr_lane *lane)
{
    for (int i = 0; i < m->lane_count; i++) {
        if (m->lanes[i].lane == lane)
            return &m->lanes[i];
    }
    if (m->lane_count == TR_LANES_MAX)
        return NULL;
    m->lanes[m->lane_count].lane = lane;
    return &m->lanes[m->lane_count++];
}

static int64_t at_least_0(int64_t n)
{
    return n > 0 ? n : 0;
}

static void count_tokens(struct tr_metrics_lane *l, const struct tr_usage *u)
{
    int64_t cached = at_least_0(u->cached), write = at_least_0(u->cache_write);
    int64_t reasoning = at_least_0(u->reasoning);

    l->cached += cached;
    l->cache_write += write;
    l->input += at_least_0(u->in - cached - write);
    l->reasoning += reasoning;
    l->output += at_least_0(u->out - reasoning);
}

void tr_metrics_attempt(struct tr_metrics *m, const struct tr_attempt *a)
{
    const struct tr_reply *r = a->reply;
    struct tr_metrics_lane *l = lane_of(m, a->lane);
    /* A request that we dropped ourselves, at the end of the grace: lost to
     * us, but no failure of its server. */
    bool dropped = r->outcome == TR_OUT_LOST && !r->message[0];
    int64_t ms = tr_attempt_took_ns(a) / 1000000;
    int bucket = 0;

    m->attempts++;
    m->attempts_bad += !dropped && tr_metrics_bad(r->outcome);
    m->outcomes[r->outcome]++;
    if (!l)
        return;
    l->count[r->outcome]++;
    l->ms[r->outcome] += ms;
    while (bucket < TR_METRICS_BUCKETS && ms > (INT64_C(10) << bucket))
        bucket++;
    if (bucket < TR_METRICS_BUCKETS)
        l->buckets[r->outcome][bucket]++;
    if (r->billing == TR_BILL_USAGE)
        count_tokens(l, &r->usage);
}

/* ---- text ------------------------------------------------------------- */

static void head(struct tr_buf *b, const char *name, const char *type,
                 const char *help)
{
    tr_buf_addf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void whole(struct tr_buf *b, const char *name, const char *type,
                  const char *help, int64_t value)
{
    head(b, name, type, help);
    tr_buf_addf(b, "%s %" PRId64 "\n", name, value);
}

static void nano(struct tr_buf *b, const char *name, const char *type,
                 const char *help, int64_t value)
{
    head(b, name, type, help);
    value = at_least_0(value);
    tr_buf_addf(b, "%s %" PRId64 ".%09" PRId64 "\n", name, value / TR_NANO,
                value % TR_NANO);
}

/* Of milliseconds. Not by %f: the program around us may have a locale with a
 * decimal comma. */
static void add_seconds(struct tr_buf *b, int64_t ms)
{
    tr_buf_addf(b, "%" PRId64 ".%03" PRId64, ms / 1000, ms % 1000);
}

/* \ " and line ends are escaped, other control bytes left out. */
static void add_value(struct tr_buf *b, const char *name, struct tr_str text)
{
    tr_buf_addf(b, "%s=\"", name);
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if (c == '\\' || c == '"')
            tr_buf_addc(b, '\\');
        if (c == '\n')
            tr_buf_addz(b, "\\n");
        else if (c >= 0x20 && c != 0x7f)
            tr_buf_addc(b, (char)c);
    }
    tr_buf_addc(b, '"');
}

/* provider="openai",model="gpt-6-luna" */
static void add_lane(struct tr_buf *b, const struct tr_lane *lane)
{
    const char *slash = strchr(lane->model, '/');
    size_t n = slash ? (size_t)(slash - lane->model) : strlen(lane->model);

    add_value(b, "provider", tr_str(lane->model, n));
    tr_buf_addc(b, ',');
    add_value(b, "model", tr_str_c(slash ? slash + 1 : lane->model));
}

static void add_requests(struct tr_buf *b, const struct tr_metrics *m)
{
    head(b, "trommel_requests_total", "counter",
         "Requests that have ended, by what came of them.");
    for (int i = 0; i < m->lane_count; i++) {
        const struct tr_metrics_lane *l = &m->lanes[i];

        for (int o = 0; o < TR_OUT_COUNT; o++) {
            if (!l->count[o])
                continue;
            tr_buf_addz(b, "trommel_requests_total{");
            add_lane(b, l->lane);
            tr_buf_addf(b, ",outcome=\"%s\"} %" PRId64 "\n",
                        tr_outcome_word((enum tr_outcome)o), l->count[o]);
        }
    }
}

static void add_duration(struct tr_buf *b, const struct tr_metrics_lane *l,
                         enum tr_outcome o, const char *suffix)
{
    tr_buf_addf(b, "trommel_request_duration_seconds_%s{", suffix);
    add_lane(b, l->lane);
    tr_buf_addf(b, ",outcome=\"%s\"", tr_outcome_word(o));
}

static void add_durations(struct tr_buf *b, const struct tr_metrics *m)
{
    head(b, "trommel_request_duration_seconds", "histogram",
         "Time from sending a request to the end of its reply.");
    for (int i = 0; i < m->lane_count; i++) {
        const struct tr_metrics_lane *l = &m->lanes[i];

        for (int o = 0; o < TR_OUT_COUNT; o++) {
            int64_t below = 0;

            if (!l->count[o])
                continue;
            for (int k = 0; k < TR_METRICS_BUCKETS; k++) {
                below += l->buckets[o][k];
                add_duration(b, l, (enum tr_outcome)o, "bucket");
                tr_buf_addf(b, ",le=\"%d.%02d\"} %" PRId64 "\n",
                            (1 << k) / 100, (1 << k) % 100, below);
            }
            add_duration(b, l, (enum tr_outcome)o, "bucket");
            tr_buf_addf(b, ",le=\"+Inf\"} %" PRId64 "\n", l->count[o]);
            add_duration(b, l, (enum tr_outcome)o, "sum");
            tr_buf_addz(b, "} ");
            add_seconds(b, l->ms[o]);
            tr_buf_addc(b, '\n');
            add_duration(b, l, (enum tr_outcome)o, "count");
            tr_buf_addf(b, "} %" PRId64 "\n", l->count[o]);
        }
    }
}

static void add_tokens(struct tr_buf *b, const struct tr_metrics *m)
{
    head(b, "trommel_tokens_total", "counter",
         "Tokens as the providers counted them; each token has one type, so "
         "that a sum over types is true.");
    for (int i = 0; i < m->lane_count; i++) {
        const struct tr_metrics_lane *l = &m->lanes[i];
        const struct {
            const char *type;
            int64_t n;
        } types[] = {{"input", l->input},   {"cached", l->cached},
                     {"cache_write", l->cache_write},
                     {"output", l->output}, {"reasoning", l->reasoning}};

        for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
            tr_buf_addz(b, "trommel_tokens_total{");
            add_lane(b, l->lane);
            tr_buf_addf(b, ",type=\"%s\"} %" PRId64 "\n", types[k].type,
                        types[k].n);
        }
    }
}

static void add_items(struct tr_buf *b, const struct tr_counts *c)
{
    head(b, "trommel_items_total", "counter",
         "Rows that have come to rest: labelled, none of the labels, or the "
         "reason why not.");
    tr_buf_addf(b, "trommel_items_total{outcome=\"labelled\"} %" PRId64 "\n"
                "trommel_items_total{outcome=\"none\"} %" PRId64 "\n",
                at_least_0(c->rows_settled - c->rows_failed - c->none_answers),
                c->none_answers);
    for (int why = TR_WHY_NONE + 1; why < TR_WHY_COUNT; why++) {
        if (c->fails[why])
            tr_buf_addf(b, "trommel_items_total{outcome=\"%s\"} %" PRId64 "\n",
                        tr_why_code((enum tr_why)why), c->fails[why]);
    }
    whole(b, "trommel_items_read_total", "counter", "Rows read.",
          c->rows_read);
    whole(b, "trommel_items_stored_total", "counter",
          "Of the rows at rest: known from the store, cost nothing.",
          c->rows_stored);
    whole(b, "trommel_items_written_total", "counter",
          "Rows in the output.", c->rows_written);
}

static void add_retries(struct tr_buf *b, const struct tr_counts *c)
{
    head(b, "trommel_retries_total", "counter",
         "Packs asked again as they were, by the outcome before.");
    for (int o = 0; o < TR_OUT_COUNT; o++) {
        if (c->retried[o])
            tr_buf_addf(b, "trommel_retries_total{reason=\"%s\"} %" PRId64
                        "\n", tr_outcome_word((enum tr_outcome)o),
                        c->retried[o]);
    }
}

static void add_money(struct tr_buf *b, const struct tr_metrics_view *v)
{
    const struct tr_money *m = &v->money;

    if (!v->priced)
        return;
    nano(b, "trommel_cost_usd_total", "counter",
         "Money this run has spent, by the usage the providers reported.",
         m->spent - v->spent_at_open);
    nano(b, "trommel_cost_unknown_usd_total", "counter",
         "Bound of what requests of this run may have cost whose outcome "
         "nobody knows.", m->unknown - v->unknown_at_open);
    nano(b, "trommel_job_cost_usd", "gauge",
         "Money of the job, all its runs, unknown outcomes at their bound.",
         m->spent + m->unknown);
    nano(b, "trommel_reserved_usd", "gauge",
         "Bound of what the requests in flight may cost.", m->reserved);
    if (m->budget < 0)
        return;
    nano(b, "trommel_budget_usd", "gauge",
         "The ceiling of the job, the day or the run.", m->budget);
    nano(b, "trommel_budget_used_usd", "gauge",
         "Of it, by this task in the time it covers.", tr_money_used(m));
}

static void add_alerts(struct tr_buf *b, const struct tr_metrics_view *v)
{
    head(b, "trommel_alerts_total", "counter", "Alerts raised, by kind.");
    for (int k = 0; k < TR_EVENT_COUNT; k++) {
        if (v->alerts[k])
            tr_buf_addf(b, "trommel_alerts_total{kind=\"%s\"} %" PRId64 "\n",
                        tr_event_word((enum tr_event_kind)k), v->alerts[k]);
    }
    whole(b, "trommel_alerts_undelivered_total", "counter",
          "Deliveries of alerts that failed.", v->undelivered);
}

void tr_metrics_text(const struct tr_metrics *m,
                     const struct tr_metrics_view *v, struct tr_buf *b)
{
    const struct tr_counts *c = &v->counts;

    head(b, "trommel_build_info", "gauge", "The program.");
    tr_buf_addf(b, "trommel_build_info{version=\"%s\"} 1\n", v->version);
    add_requests(b, m);
    add_durations(b, m);
    whole(b, "trommel_inflight_requests", "gauge",
          "Requests without a reply yet.", c->in_flight);
    add_retries(b, c);
    head(b, "trommel_ratelimit_wait_seconds_total", "counter",
         "Time in which only rate limits kept requests back.");
    tr_buf_addz(b, "trommel_ratelimit_wait_seconds_total ");
    add_seconds(b, c->wait_limits_ns / 1000000);
    tr_buf_addc(b, '\n');
    add_tokens(b, m);
    add_items(b, c);
    if (v->rows_expected >= 0)
        whole(b, "trommel_items_expected", "gauge",
              "Rows of the whole input, as far as can be told.",
              v->rows_expected);
    add_money(b, v);
    add_alerts(b, v);
    if (v->started_s) {
        whole(b, "trommel_start_timestamp_seconds", "gauge",
              "When the run began.", v->started_s);
        whole(b, "trommel_last_progress_timestamp_seconds", "gauge",
              "When a row last came to rest.", v->progress_s);
    }
    whole(b, "trommel_finished", "gauge", "1: the run is over.", v->done);
    if (v->done)
        whole(b, "trommel_exit_code", "gauge", "Exit code of the run.",
              v->exit_code);
}
