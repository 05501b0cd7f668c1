/* preview.c - a run that only plans: what it would ask, and what that costs.
 *
 * Everything is planned by the code that plans a real run; packs are counted
 * and forgotten. Which texts are distinct is known for the whole input (exactly
 * up to TR_DISTINCT_EXACT of them): beyond, only a share of the texts is
 * planned, and each stands for several.
 *
 * SPDX-License-Identifier: MIT */
#include "engine.h"


enum { AT_ONCE = 64 }; /* requests in flight when nobody said how many */

static int64_t plus(int64_t a, int64_t b)
{
    return a > INT64_MAX - b ? INT64_MAX : a + b;
}

static int64_t times(int64_t a, int64_t n)
{
    return a > INT64_MAX / n ? INT64_MAX : a * n;
}

int tr_run_preview_row(struct tr_run *run, const struct tr_row *row,
                       bool known, bool *wanted, struct tr_err *err)
{
    int64_t n = tr_distinct_add(&run->seen, &row->key);

    if (n < 0)
        return tr_fail(err, TR_NOMEM, "out of memory for the texts seen");
    run->preview.distinct = plus(run->preview.distinct, n);
    *wanted = !known && n > 0;
    return TR_OK;
}

bool tr_run_preview_waits(const struct tr_run *run,
                          const struct tr_run_lane *l)
{
    return !run->input_ended && l->fresh.n < TR_PACK_MAX &&
           run->window.bytes < run->window.bytes_max / 2;
}

void tr_run_preview_pack(struct tr_run *run, struct tr_pack *p)
{
    struct tr_preview *v = &run->preview;
    struct tr_forecast *f = &v->forecast;
    int64_t n = INT64_C(1) << run->seen.level; /* it stands for so many */

    if (!f->requests)
        tr_buf_adds(&run->preview_body, tr_buf_str(&p->body));
    f->requests = plus(f->requests, n);
    f->texts = plus(f->texts, times(p->n, n));
    f->bytes = plus(f->bytes, times((int64_t)p->content_bytes, n));
    f->cap = plus(f->cap, times(p->cap, n));
    if (!tr_priced(&p->lane->lane->facts) || v->bound_nano < 0)
        v->bound_nano = -1;
    else
        v->bound_nano = plus(v->bound_nano, times(p->bound, n));
    for (uint32_t i = 0; i < p->n; i++) {
        p->rows[i]->verdict = (struct tr_verdict){
            .why = TR_WHY_NOT_ASKED, .confidence = TR_NO_CONFIDENCE};
        tr_run_settle_all(run, p->rows[i]);
    }
    tr_pack_free(run, p);
}

static double first_of(double a, double b)
{
    return a > 0 ? a : b;
}

void tr_run_preview(const struct tr_run *run, struct tr_preview *preview)
{
    const struct tr_run_lane *l = &run->lanes[0];
    const struct tr_pace_opts *o = &l->pace.opts;
    struct tr_pace_known known = {
        .rpm = first_of(o->rpm, l->meter.rpm),
        .tpm = first_of(o->tpm, l->meter.tpm),
        .latency_ms = l->meter.latency_ms,
        .concurrency = o->concurrency ? o->concurrency : AT_ONCE,
    };
    struct tr_quote *e = &preview->estimate;

    *preview = run->preview;
    preview->first = tr_buf_str(&run->preview_body);
    preview->rows = run->counts.rows_read;
    preview->known = run->counts.rows_stored;
    preview->unusable =
        run->counts.rows_failed - run->counts.fails[TR_WHY_NOT_ASKED];
    preview->exact = run->seen.level == 0;
    if (l->lane->is_local) {
        *e = (struct tr_quote){0};
        preview->ms = -1;
        preview->bound_nano = 0;
        return;
    }
    tr_quote(e, &preview->forecast, &l->meter, &l->lane->facts);
    if (l->lane->decides && !e->measured) /* nothing is written, or paid */
        e->out = (struct tr_span){0};
    if (o->concurrency_max && known.concurrency > o->concurrency_max)
        known.concurrency = o->concurrency_max;
    preview->limited = known.rpm > 0 || known.tpm > 0;
    preview->ms = tr_quote_ms(preview->forecast.requests,
                                 plus(e->in.mean, e->out.mean), &known);
}
