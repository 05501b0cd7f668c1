/* preview.c - a run that only plans: what it would ask, and what that costs.
 *
 * Everything is planned by the code that plans a real run; packs are counted
 * and forgotten. Which texts are distinct is known for the whole input (exactly
 * up to TR_DISTINCT_EXACT of them): beyond, only a share of the texts is
 * planned, and each stands for several.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"


enum { AT_ONCE = 64 }; /* requests in flight when nobody said how many */

static int64_t plus(int64_t a, int64_t b)
{
    return a > INT64_MAX - b ? INT64_MAX : a + b;
}

static int64_t times(int64_t a, int64_t n)
{
    return n > 0 && a > INT64_MAX / n ? INT64_MAX : a * n;
}

int tr_run_preview_row(struct tr_run *run, const struct tr_row *row,
                       bool known, bool *wanted, struct tr_err *err)
{
    struct tr_key equal = tr_run_equal_key(run, row);
    int64_t n = tr_distinct_add(&run->seen, &equal);

    if (n < 0)
        return tr_fail(err, TR_NOMEM, "out of memory for the texts seen");
    run->preview.distinct = plus(run->preview.distinct, n);
    *wanted = !known && n > 0 && !tr_keymap_find(&run->seats, &row->key);
    return TR_OK;
}

bool tr_run_preview_waits(const struct tr_run *run,
                          const struct tr_run_lane *l)
{
    return !run->input_ended && l->fresh.n < TR_PACK_MAX &&
           run->window.bytes < run->window.bytes_max / 2;
}

/* Whose bytes and cap nobody knows yet: as long as the rows at most. */
static void foresee_guests(struct tr_run *run, const struct tr_pack *p,
                           int64_t n)
{
    struct tr_foreseen *v = &p->lane->foreseen;
    const struct tr_lane *lane = p->lane->lane;
    int64_t bytes, guests = tr_guests_foreseen(p, &bytes);

    v->forecast.guests = plus(v->forecast.guests, times(guests, n));
    v->guest_bytes = plus(v->guest_bytes, times(bytes, n));
    if (tr_priced(&lane->facts) && bytes)
        v->guest_bound_nano = plus(v->guest_bound_nano, times(
            tr_cost_bound(&lane->facts, bytes, tr_run_cap(
                run, p->lane, p->form, (uint32_t)guests + 1)), n));
}

/* What is asked alone before the first pack, so that packs may be trusted. */
static void add_guests(const struct tr_run *run, const struct tr_run_lane *l,
                       struct tr_foreseen *v)
{
    struct tr_forecast *f = &v->forecast;
    int64_t n = tr_guard_scouts(&l->guard, f->texts);
    int64_t bytes = (int64_t)(l->system.n + l->schema.n) + 200;

    if (!v->guest_bytes ||
        (!n && (f->guests || tr_guard_free(&l->guard) < 2))) {
        f->guests = v->guest_bytes = 0; /* too few rows: there will be none */
        return;
    }
    f->requests = plus(f->requests, n);
    f->bytes = plus(f->bytes, plus(v->guest_bytes * 5 / 8, times(bytes, n)));
    if (v->bound_nano < 0 || !tr_priced(&l->lane->facts))
        return;
    v->bound_nano = plus(v->bound_nano, v->guest_bound_nano);
    v->bound_nano = plus(v->bound_nano, times(tr_cost_bound(
        &l->lane->facts, tr_meter_bound(&l->meter, (size_t)bytes),
        tr_run_cap(run, l, (enum tr_form)l->form.form, 1)), n));
}

/* They are the shorter ones, five eighths of the mean if lengths are even: any
 * length from a quarter up is within the interval. */
static void doubt_guests(const struct tr_run_lane *l,
                         const struct tr_foreseen *v, struct tr_quote *e)
{
    struct tr_usage u = {
        .in = tr_meter_estimate(&l->meter, (size_t)(v->guest_bytes * 3 / 8))};
    int64_t nano = tr_cost(&l->lane->facts, &u);

    if (!v->guest_bytes)
        return;
    e->in.low = e->in.low > u.in ? e->in.low - u.in : 0;
    e->in.high = plus(e->in.high, u.in);
    if (nano < 0 || e->nano.mean < 0)
        return;
    e->nano.low = e->nano.low > nano ? e->nano.low - nano : 0;
    e->nano.high = plus(e->nano.high, nano);
}

int tr_run_preview_pack(struct tr_run *run, struct tr_pack *p,
                        struct tr_err *err)
{
    struct tr_foreseen *v = &p->lane->foreseen;
    struct tr_forecast *f = &v->forecast;
    int64_t n = INT64_C(1) << run->seen.level; /* it stands for so many */

    if (!run->preview_body.n)
        tr_buf_adds(&run->preview_body, tr_buf_str(&p->body));
    f->requests = plus(f->requests, n);
    f->texts = plus(f->texts, times(p->n, n));
    f->bytes = plus(f->bytes, times((int64_t)p->content_bytes, n));
    f->cap = plus(f->cap, times(p->cap, n));
    if (!tr_priced(&p->lane->lane->facts) || v->bound_nano < 0)
        v->bound_nano = -1;
    else
        v->bound_nano = plus(v->bound_nano, times(p->bound, n));
    foresee_guests(run, p, n);
    for (uint32_t i = 0; i < p->n; i++) {
        p->rows[i]->verdict = (struct tr_verdict){
            .why = TR_WHY_NOT_ASKED, .confidence = TR_NO_CONFIDENCE};
        tr_run_settle_all(run, p->rows[i]);
    }
    tr_pack_free(run, p);
    return tr_buf_ok(&run->preview_body)
               ? TR_OK : tr_fail(err, TR_NOMEM, "out of memory for the preview");
}

/* Rows that cannot be asked, whatever the store says. */
static int64_t unusable(const struct tr_counts *c)
{
    static const enum tr_why whys[] = {
        TR_WHY_EMPTY, TR_WHY_BAD_FIELDS, TR_WHY_BAD_QUOTE,
        TR_WHY_BAD_UTF8, TR_WHY_BAD_NUL, TR_WHY_BAD_JSON, TR_WHY_BAD_MEMBER,
        TR_WHY_OVER_LONG};
    int64_t rows = 0;

    for (size_t i = 0; i < sizeof whys / sizeof *whys; i++)
        rows += c->fails[whys[i]];
    return rows;
}

/* Each lane has prices, limits and answers of its own. */
static struct tr_quote quote_lane(const struct tr_run *run,
                                  const struct tr_run_lane *l,
                                  struct tr_foreseen *v, int64_t *ms,
                                  bool *limited)
{
    const struct tr_pace_opts *o = &l->pace.opts;
    struct tr_pace_known known = {
        /* A ceiling of the user's own lifts none of the provider's. */
        .rpm = tr_pace_lower(o->rpm, l->meter.rpm),
        .tpm = tr_pace_lower(o->tpm, l->meter.tpm),
        .latency_ms = l->meter.latency_ms,
        .concurrency = o->concurrency ? o->concurrency : AT_ONCE,
    };
    struct tr_quote q;

    add_guests(run, l, v);
    if (l->cache.pays && v->forecast.requests > l->cache.keys)
        v->forecast.cacheable =
            times((int64_t)(l->system.n + l->schema.n),
                  v->forecast.requests - l->cache.keys);
    tr_quote(&q, &v->forecast, &l->meter, &l->lane->facts);
    doubt_guests(l, v, &q);
    if (l->lane->decides && !q.measured) /* nothing is written, or paid */
        q.out = (struct tr_span){0};
    if (o->concurrency_max && known.concurrency > o->concurrency_max)
        known.concurrency = o->concurrency_max;
    if (l->lane->in_batches) /* no limit a minute holds there */
        known = (struct tr_pace_known){0};
    *limited = known.rpm > 0 || known.tpm > 0;
    *ms = tr_quote_ms(v->forecast.requests, plus(q.in.mean, q.out.mean),
                      &known);
    return q;
}

static struct tr_span sum(struct tr_span a, struct tr_span b)
{
    if (a.mean < 0 || b.mean < 0)
        return (struct tr_span){-1, -1, -1};
    return (struct tr_span){plus(a.mean, b.mean), plus(a.low, b.low),
                            plus(a.high, b.high)};
}

/* One lane more, beside whose requests the others go on. */
static void add_lane(const struct tr_run *run, const struct tr_run_lane *l,
                     bool first, struct tr_preview *preview)
{
    struct tr_foreseen v = l->foreseen;
    struct tr_quote *e = &preview->estimate, q;
    int64_t ms;
    bool limited;

    q = quote_lane(run, l, &v, &ms, &limited);
    preview->forecast.requests = plus(preview->forecast.requests,
                                      v.forecast.requests);
    preview->bound_nano = preview->bound_nano < 0 || v.bound_nano < 0
                              ? -1 : plus(preview->bound_nano, v.bound_nano);
    e->in = sum(e->in, q.in);
    e->out = sum(e->out, q.out);
    e->nano = sum(e->nano, q.nano);
    if (first || q.measured < e->measured)
        e->measured = q.measured;
    preview->limited = limited && (first || preview->limited);
    if (first || ms < 0 || (preview->ms >= 0 && ms > preview->ms))
        preview->ms = ms;
}

void tr_run_preview(const struct tr_run *run, struct tr_preview *preview)
{
    bool first = true;

    *preview = run->preview;
    preview->first = tr_buf_str(&run->preview_body);
    preview->rows = run->counts.rows_read;
    preview->unusable = unusable(&run->counts);
    preview->too_long = run->counts.fails[TR_WHY_TOO_LONG];
    preview->exact = run->seen.level == 0;
    preview->ms = -1;
    for (uint32_t i = 0; i < run->lane_count; i++) {
        const struct tr_run_lane *l = &run->lanes[i];
        const struct tr_forecast *f = &l->foreseen.forecast;

        preview->forecast.texts = plus(preview->forecast.texts, f->texts);
        if (l->lane->is_local && !preview->first.n)
            preview->forecast.requests += f->requests;
        if (l->lane->is_local || !f->requests)
            continue;
        add_lane(run, l, first, preview);
        first = false;
    }
    if (!preview->forecast.requests) /* all is known: that takes no time */
        preview->ms = 0;
}
