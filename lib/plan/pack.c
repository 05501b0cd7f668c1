/* pack.c - which rows share a request, and how many tokens that may be.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/pack.h"

#include "base/err.h"
#include "base/rng.h"

#include <inttypes.h>

/* Ids are three digits: one token in most vocabularies. */
#define FIRST_ID 100
#define ID_COUNT 900

#define PACK_AUTO 16         /* beyond it a pack saves little and risks more */
#define PACK_TOKENS_AUTO 3000
#define FORM_PACKS 20        /* packs of one verdict about the form */
#define FORM_BAD_PERCENT 2

#define TOKENS_PER_BYTE 0.30 /* English in a vocabulary of 100,000, with room */
#define OVERHEAD_TOKENS 64   /* chat template around two messages, with room */
#define OUT_PER_ITEM 5.0     /* `417 refund` and its line end */
#define MEAN_OVER 64         /* replies a running mean remembers */
#define REASONING_FIRST 256
#define REASONING_MOST (1 << 15) /* of a model whose output has no known end */

static void swap(uint16_t *a, uint16_t *b)
{
    uint16_t t = *a;

    *a = *b;
    *b = t;
}

void tr_pack_draw(uint64_t seed, uint32_t n, uint16_t *order, uint16_t *ids)
{
    struct tr_rng rng = {seed};
    uint16_t all[ID_COUNT];

    TR_ASSERT(n <= TR_PACK_MAX);
    for (uint32_t i = 0; i < ID_COUNT; i++)
        all[i] = (uint16_t)(FIRST_ID + i);
    for (uint32_t i = 0; i < n; i++) {
        swap(&all[i], &all[i + tr_rng_below(&rng, ID_COUNT - i)]);
        ids[i] = all[i];
        order[i] = (uint16_t)i;
    }
    for (uint32_t i = 0; i + 1 < n; i++)
        swap(&order[i], &order[i + tr_rng_below(&rng, n - i)]);
}

/* ---- tokens ------------------------------- */

void tr_meter_init(struct tr_meter *m)
{
    *m = (struct tr_meter){
        .tokens_per_byte = TOKENS_PER_BYTE,
        .overhead = OVERHEAD_TOKENS,
        .out_per_item = OUT_PER_ITEM,
    };
}

static int64_t tokens_of_bytes(size_t bytes)
{
    /* Half the range stays free, so that sums of two bounds do not wrap. */
    return bytes > (size_t)(INT64_MAX / 4) ? INT64_MAX / 4 : (int64_t)bytes;
}

int64_t tr_meter_bound(const struct tr_meter *m, size_t bytes)
{
    return tokens_of_bytes(bytes) + m->overhead;
}

int64_t tr_meter_estimate(const struct tr_meter *m, size_t bytes)
{
    double t = m->tokens_per_byte * (double)tokens_of_bytes(bytes);
    int64_t most = tr_meter_bound(m, bytes);

    /* What a server adds to each request makes more tokens of few bytes, but
     * no more of many. */
    return t < (double)most ? (int64_t)t + 1 : most;
}

/* Half of the weight goes when this many replies are in the sums. */
#define RATIO_REPLIES 4096
#define OVERHEAD_KEPT (1 << 20) /* more is nothing to hand to a later run */

static void ratio_add(struct tr_ratio *r, double x, double y)
{
    r->n += 1;
    r->x += x;
    r->y += y;
    r->xx += x * x;
    r->xy += x * y;
    r->yy += y * y;
}

static void ratio_halve(struct tr_ratio *r)
{
    r->n /= 2;
    r->x /= 2;
    r->y /= 2;
    r->xx /= 2;
    r->xy /= 2;
    r->yy /= 2;
}

/* For forecasts: sums over replies that said both numbers. */
static void sum_up(struct tr_meter *m, size_t bytes, uint32_t items,
                   const struct tr_usage *usage)
{
    if (!items || usage->out < 0 || usage->out > INT64_MAX / 4)
        return;
    if (m->in.n >= RATIO_REPLIES) {
        ratio_halve(&m->in);
        ratio_halve(&m->out);
        m->cached /= 2;
        m->answered /= 2;
    }
    ratio_add(&m->in, (double)bytes, (double)usage->in);
    ratio_add(&m->out, (double)items, (double)usage->out);
    if (usage->cached > 0 && usage->cached <= usage->in)
        m->cached += (double)usage->cached;
}

void tr_meter_answered(struct tr_meter *m, uint32_t items)
{
    m->answered += items;
}

void tr_meter_took(struct tr_meter *m, int64_t latency_ms)
{
    if (latency_ms > 0)
        m->latency_ms += m->latency_ms > 0
            ? ((double)latency_ms - m->latency_ms) / 16 : (double)latency_ms;
}

void tr_meter_learn(struct tr_meter *m, size_t bytes, uint32_t items,
                    const struct tr_usage *usage)
{
    double weight;

    if (usage->in <= 0 || usage->in > INT64_MAX / 4 || bytes == 0)
        return; /* no number, or a nonsense one */
    if (usage->in > tr_meter_bound(m, bytes))
        m->overhead = usage->in - tokens_of_bytes(bytes);
    m->seen++;
    sum_up(m, bytes, items, usage);
    weight = 1.0 / (double)(m->seen < MEAN_OVER ? m->seen : MEAN_OVER);
    m->tokens_per_byte +=
        weight * ((double)usage->in / (double)bytes - m->tokens_per_byte);
    if (items && usage->out >= 0 && usage->out <= INT64_MAX / 4)
        m->out_per_item +=
            weight * ((double)usage->out / (double)items - m->out_per_item);
    /* Half as much again as the most seen: reasoning varies by the text. */
    if (usage->reasoning > 0 && usage->reasoning <= usage->out) {
        int64_t wish = usage->reasoning + usage->reasoning / 2;

        if (wish > m->reasoning_max)
            m->reasoning_max = wish;
    }
}

/* ---- from run to run ------------------------------- */

enum { METER_NUMBERS = 23 };

static int64_t whole(double v)
{
    return v < 9e18 ? (int64_t)(v + 0.5) : INT64_MAX;
}

static double *ratio_at(struct tr_ratio *r, int i)
{
    double *const members[] = {&r->n, &r->x, &r->y, &r->xx, &r->xy, &r->yy};

    return members[i];
}

/* Whole numbers only: a decimal point depends on who embeds us. */
void tr_meter_write(const struct tr_meter *m, struct tr_buf *out)
{
    struct tr_meter copy = *m;

    tr_buf_addf(out, "1 %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %"
                PRId64, whole(m->tokens_per_byte * 1e9),
                m->overhead <= OVERHEAD_KEPT ? m->overhead : OVERHEAD_TOKENS,
                m->seen, whole(m->out_per_item * 1e6), m->reasoning_max);
    for (int i = 0; i < 12; i++)
        tr_buf_addf(out, " %" PRId64,
                    whole(*ratio_at(i < 6 ? &copy.in : &copy.out, i % 6)));
    tr_buf_addf(out, " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64
                " %" PRId64, whole(m->cached), whole(m->answered),
                whole(m->latency_ms), whole(m->rpm), whole(m->tpm));
}

void tr_meter_read(struct tr_meter *m, struct tr_str line)
{
    int64_t v[METER_NUMBERS] = {0};
    int n = 0;

    for (size_t i = 0; i < line.n && n < METER_NUMBERS; n++) {
        size_t from = i;

        for (; i < line.n && line.p[i] >= '0' && line.p[i] <= '9'; i++) {
            if (v[n] > (INT64_MAX - 9) / 10)
                return;
            v[n] = v[n] * 10 + (line.p[i] - '0');
        }
        if (i == from || (i < line.n && line.p[i++] != ' '))
            return;
    }
    if (n != METER_NUMBERS || v[0] != 1 || v[1] <= 0 ||
        v[1] > INT64_C(1000000000) * OVERHEAD_KEPT || v[2] > OVERHEAD_KEPT)
        return;
    m->tokens_per_byte = (double)v[1] / 1e9;
    m->overhead = v[2] > m->overhead ? v[2] : m->overhead;
    m->seen = v[3];
    m->out_per_item = (double)v[4] / 1e6;
    m->reasoning_max = v[5];
    for (int i = 0; i < 12; i++)
        *ratio_at(i < 6 ? &m->in : &m->out, i % 6) = (double)v[6 + i];
    m->cached = (double)v[18];
    m->answered = (double)v[19];
    m->latency_ms = (double)v[20];
    m->rpm = (double)v[21];
    m->tpm = (double)v[22];
}

bool tr_meter_more_reasoning(struct tr_meter *m, const struct tr_usage *usage,
                             int64_t had, int64_t context, int64_t max_output)
{
    int64_t limit = max_output > 0 ? max_output : REASONING_MOST;
    int64_t wish;

    if (context > 0 && context < limit)
        limit = context;
    /* Without reasoning, or with most of the output in words, the pack was
     * too long and halving is the cure. */
    if (usage->reasoning <= 0 || usage->reasoning < usage->out / 2)
        return false;
    /* From what it had itself: others that left with it may have come back
     * before and raised it. */
    wish = usage->reasoning > had ? usage->reasoning : had;
    wish = wish > limit / 2 ? limit : 2 * wish;
    if (wish < REASONING_FIRST)
        wish = REASONING_FIRST < limit ? REASONING_FIRST : limit;
    if (wish > m->reasoning_max)
        m->reasoning_max = wish;
    return had < limit && had < m->reasoning_max;
}

/* ---- how many go together ------------------------------- */

/* What is kept free for reasoning when texts are put together: half of the
 * context at most, since one long thought must not leave packs of one. */
static int64_t reasoning_room(const struct tr_pack_policy *p,
                              const struct tr_meter *m)
{
    return p->context > 0 && m->reasoning_max > p->context / 2
               ? p->context / 2 : m->reasoning_max;
}

uint32_t tr_pack_take(const struct tr_pack_policy *p, const struct tr_meter *m,
                      const uint32_t *text_bytes, const uint16_t *company,
                      uint32_t n, int64_t cap_per_item)
{
    uint32_t limit = p->pack ? p->pack : PACK_AUTO;
    int64_t aim = p->pack ? INT64_MAX
                  : p->pack_tokens > 0 ? p->pack_tokens
                                       : PACK_TOKENS_AUTO;
    int64_t reasoning = reasoning_room(p, m);
    int64_t data = 0; /* bytes of the items so far */
    uint32_t taken = 0;

    if (limit > TR_PACK_MAX)
        limit = TR_PACK_MAX;
    while (taken < n && taken < limit) {
        int64_t bytes = data + text_bytes[taken] + p->item_overhead_bytes;
        size_t whole = (size_t)(p->fixed_bytes + bytes);
        int64_t out = (taken + 1) * cap_per_item + reasoning;
        int64_t estimate = tr_meter_estimate(m, whole);

        if (p->max_output > 0 && out > p->max_output)
            out = p->max_output;
        if (taken == 0) {
            /* Alone: what probably fits is tried, without any reasoning that
             * another text has needed. */
            if (p->context > 0 && estimate + cap_per_item > p->context)
                return 0;
        } else {
            if (company[taken] && company[taken] <= taken)
                break;
            if (p->context > 0 &&
                tr_meter_bound(m, whole) + p->guest_bytes + out > p->context)
                break;
            if (p->tpm > 0 && estimate + out + p->guest_bytes > p->tpm)
                break;
            if (tr_meter_estimate(m, (size_t)bytes) > aim)
                break;
        }
        if (company[taken] && company[taken] < limit)
            limit = company[taken];
        data = bytes;
        taken++;
    }
    return taken;
}

int64_t tr_pack_cap(const struct tr_meter *m, int64_t words, size_t bytes,
                    int64_t context, int64_t max_output)
{
    int64_t cap = words + m->reasoning_max;
    int64_t bound = tr_meter_bound(m, bytes), in = tr_meter_estimate(m, bytes);

    /* What comes in is not known to the token: a quarter more is room enough,
     * since a request that asks for too much is refused as a whole. */
    in += in / 4;
    if (context > 0 && cap > context - (in < bound ? in : bound))
        cap = context - (in < bound ? in : bound);
    if (cap < words)
        cap = words;
    return max_output > 0 && cap > max_output ? max_output : cap;
}

/* ---- form of the answer ------------------------------- */

void tr_form_init(struct tr_form_choice *f, int forced)
{
    *f = (struct tr_form_choice){.form = forced > 0, .forced = forced};
}

void tr_form_learn(struct tr_form_choice *f, uint32_t items, uint32_t bad)
{
    f->packs++;
    f->items += items;
    f->bad += bad;
    if (f->packs < FORM_PACKS)
        return;
    if (f->forced < 0 && !f->schema_refused &&
        f->bad * 100 > f->items * FORM_BAD_PERCENT)
        f->form = 1;
    f->packs = 0;
    f->items = f->bad = 0;
}

void tr_form_refused(struct tr_form_choice *f)
{
    f->schema_refused = true;
    if (f->forced < 0)
        f->form = 0;
    f->packs = 0;
    f->items = f->bad = 0;
}
