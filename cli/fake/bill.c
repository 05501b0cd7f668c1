/* bill.c - counters of the provider's side; tests hold trommel's against them.
 * SPDX-License-Identifier: MIT */
#include "fake/bill.h"

#include "base/clock.h"
#include "base/mem.h"

static const struct {
    const char *name;
    bool charged;
} ends[] = {
#define X(id, name, charged) {name, charged},
    FAKE_ENDS(X)
#undef X
};

bool fake_end_is_charged(enum fake_end end)
{
    return ends[end].charged;
}

static void peak_add(struct fake_peak *p, int64_t now_ns)
{
    while (p->n && p->at_ns[p->first] <= now_ns - p->span_ns) {
        p->first = (p->first + 1) & (p->cap - 1);
        p->n--;
    }
    if (p->n == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 1024;
        int64_t *at_ns = tr_array(cap, sizeof *at_ns);

        if (!at_ns)
            return; /* the peak is then a lower bound */
        for (size_t i = 0; i < p->n; i++)
            at_ns[i] = p->at_ns[(p->first + i) & (p->cap - 1)];
        tr_free(p->at_ns);
        p->at_ns = at_ns;
        p->cap = cap;
        p->first = 0;
    }
    p->at_ns[(p->first + p->n++) & (p->cap - 1)] = now_ns;
    if (p->n > p->max)
        p->max = p->n;
}

static void peak_release(struct fake_peak *p)
{
    tr_free(p->at_ns);
    *p = (struct fake_peak){.span_ns = p->span_ns};
}

void fake_bill_init(struct fake_bill *b)
{
    *b = (struct fake_bill){0};
    b->second.span_ns = b->passed_second.span_ns = TR_S;
    b->minute.span_ns = b->passed_minute.span_ns = 60 * TR_S;
}

void fake_bill_release(struct fake_bill *b)
{
    peak_release(&b->second);
    peak_release(&b->minute);
    peak_release(&b->passed_second);
    peak_release(&b->passed_minute);
}

void fake_bill_clear(struct fake_bill *b)
{
    uint64_t in_flight = b->in_flight;

    fake_bill_release(b);
    fake_bill_init(b);
    b->in_flight = b->in_flight_max = in_flight;
}

void fake_bill_come(struct fake_bill *b, int64_t now_ns, int64_t wall_ms)
{
    b->requests++;
    b->last_ms = wall_ms;
    if (!b->first_ms)
        b->first_ms = wall_ms;
    peak_add(&b->second, now_ns);
    peak_add(&b->minute, now_ns);
}

void fake_bill_pass(struct fake_bill *b, int64_t now_ns)
{
    peak_add(&b->passed_second, now_ns);
    peak_add(&b->passed_minute, now_ns);
}

void fake_bill_text(struct fake_bill *b, struct fake_text *text)
{
    b->items_answered++;
    text->paid++;
    b->texts += text->paid == 1;
    b->paid_twice += text->paid == 2;
    b->paid_again += text->paid > 1;
}

void fake_bill_write(struct tr_buf *out, const struct fake_bill *b)
{
    uint64_t ok = b->ends[FAKE_END_ANSWERED] + b->ends[FAKE_END_TRUNCATED] +
                  b->ends[FAKE_END_REFUSED] + b->ends[FAKE_END_FILTERED];
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"prompt_tokens", b->prompt_tokens},
        {"completion_tokens", b->completion_tokens},
        {"reasoning_tokens", b->reasoning_tokens},
        {"nanousd", (b->pico_usd + 999) / 1000},
        {"texts", b->texts},
        {"paid_twice", b->paid_twice},
        {"paid_again", b->paid_again},
        {"answered_items", b->items_answered},
        {"asked_items", b->items_asked},
        {"refused_by_limit", b->ends[FAKE_END_LIMITED]},
        {"refused_after_quota", b->ends[FAKE_END_QUOTA]},
        {"batches", b->batches},
        {"batch_requests", b->batch_requests},
        {"in_flight", b->in_flight},
        {"in_flight_max", b->in_flight_max},
        {"requests_max_1s", b->second.max},
        {"requests_max_60s", b->minute.max},
        {"passed_max_1s", b->passed_second.max},
        {"passed_max_60s", b->passed_minute.max},
        {"first_request_ms", (uint64_t)b->first_ms},
        {"last_request_ms", (uint64_t)b->last_ms},
    };

    tr_buf_addf(out, "{\n  \"requests\": {\"total\": %llu, \"ok\": %llu",
                (unsigned long long)b->requests, (unsigned long long)ok);
    for (int i = 0; i < FAKE_END_COUNT; i++)
        tr_buf_addf(out, ", \"%s\": %llu", ends[i].name,
                    (unsigned long long)b->ends[i]);
    tr_buf_addc(out, '}');
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        tr_buf_addf(out, ",\n  \"%s\": %llu", rows[i].name,
                    (unsigned long long)rows[i].value);
    tr_buf_addz(out, "\n}\n");
}
