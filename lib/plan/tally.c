/* tally.c - money by reservation: exact integers that never wrap.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/tally.h"

#include <inttypes.h>
#include <stdio.h>

#define PICO_PER_NANO 1000

__extension__ typedef __int128 wide; /* tokens times price */

static int64_t clamp(wide v)
{
    return v > INT64_MAX ? INT64_MAX : v < 0 ? 0 : (int64_t)v;
}

static int64_t add(int64_t a, int64_t b)
{
    return clamp((wide)a + b);
}

static int64_t nano_up(wide pico)
{
    return clamp((pico + PICO_PER_NANO - 1) / PICO_PER_NANO);
}

static int64_t between(int64_t v, int64_t most)
{
    return v < 0 ? 0 : v > most ? most : v;
}

/* Beyond 2^110 it is more than an int64_t of nano-dollars whatever the
 * percentage, and would wrap. */
static wide percent(wide pico, int64_t pct)
{
    return pico >> 110 ? pico : (pico * pct + 99) / 100;
}

/* From in and out in pico-dollars, each below 2^126. A long request costs
 * more as a whole. */
static int64_t cost(const struct tr_model_facts *f, int64_t in_tokens, wide in,
                    wide out)
{
    if (f->long_from > 0 && in_tokens > f->long_from) {
        in = percent(in, f->long_in_pct);
        out = percent(out, f->long_out_pct);
    }
    return nano_up(in + out);
}

int64_t tr_cost(const struct tr_model_facts *f, const struct tr_usage *u)
{
    int64_t cached, written, plain;
    int64_t cached_price = f->price_cached >= 0 ? f->price_cached : f->price_in;
    int64_t write_price =
        f->price_cache_write >= 0 ? f->price_cache_write : f->price_in;

    if (!tr_priced(f) || u->in < 0 || u->out < 0)
        return -1;
    cached = between(u->cached, u->in);
    written = between(u->cache_write, u->in - cached);
    plain = u->in - cached - written;
    return cost(f, u->in,
                (wide)plain * f->price_in + (wide)cached * cached_price +
                    (wide)written * write_price,
                (wide)u->out * f->price_out);
}

int64_t tr_cost_bound(const struct tr_model_facts *f, int64_t in_tokens,
                      int64_t out_tokens)
{
    int64_t in_price = f->price_in;

    if (!tr_priced(f))
        return -1;
    if (f->price_cached > in_price)
        in_price = f->price_cached;
    if (f->price_cache_write > in_price)
        in_price = f->price_cache_write;
    if (in_tokens < 0 || out_tokens < 0)
        return INT64_MAX; /* overflowed before us: nothing is large enough */
    return cost(f, in_tokens, (wide)in_tokens * in_price,
                (wide)out_tokens * f->price_out);
}

int64_t tr_money_left(const struct tr_money *m)
{
    if (m->cap < 0)
        return INT64_MAX;
    return clamp((wide)m->cap - m->withheld - m->spent - m->unknown -
                 m->reserved);
}

int64_t tr_money_times(int64_t nano, int64_t n, int64_t times)
{
    return clamp((wide)nano * times / n);
}

bool tr_money_reserve(struct tr_money *m, int64_t bound)
{
    if (bound < 0) /* no price: fine as long as nobody set a limit */
        return m->cap < 0;
    if (bound > tr_money_left(m))
        return false;
    m->reserved = add(m->reserved, bound);
    return true;
}

void tr_money_unreserve(struct tr_money *m, int64_t bound)
{
    if (bound > 0)
        m->reserved = clamp((wide)m->reserved - bound);
}

struct tr_settled tr_money_settle(struct tr_money *m, int64_t bound,
                                  enum tr_billing billing,
                                  const struct tr_model_facts *facts,
                                  const struct tr_usage *usage)
{
    struct tr_settled s = {0};
    int64_t cost = -1;

    tr_money_unreserve(m, bound);
    if (bound < 0 || billing == TR_BILL_NONE)
        return s;
    /* A request has input: a count of zero is no count. */
    if (billing == TR_BILL_USAGE && usage->in > 0)
        cost = tr_cost(facts, usage);
    if (cost < 0)
        s.unknown = bound;
    else
        s.spent = cost;
    m->spent = add(m->spent, s.spent);
    m->unknown = add(m->unknown, s.unknown);
    return s;
}

struct tr_settled tr_tokens_settle(struct tr_money *m, int64_t bound,
                                   enum tr_billing billing,
                                   const struct tr_usage *usage)
{
    struct tr_settled s = {0};

    tr_money_unreserve(m, bound);
    if (billing == TR_BILL_NONE)
        return s;
    if (billing == TR_BILL_USAGE && usage->in > 0 && usage->out >= 0)
        s.spent = add(usage->in, usage->out);
    else
        s.unknown = bound;
    m->spent = add(m->spent, s.spent);
    m->unknown = add(m->unknown, s.unknown);
    return s;
}

/* ---- for people ------------------------------- */

const char *tr_money_text(int64_t nano, char *out, size_t size)
{
    uint64_t v = nano < 0 ? 0 - (uint64_t)nano : (uint64_t)nano;
    uint64_t unit = TR_NANO / 100; /* value of the last digit shown */
    int decimals = 2;
    char fraction[16];

    /* Two digits that say something: $0.0042, not $0.00. */
    while (v && unit > 1 && v < unit * 10) {
        unit /= 10;
        decimals++;
    }
    v = (v + unit / 2) / unit * unit;
    snprintf(fraction, sizeof fraction, "%09u", (unsigned)(v % TR_NANO));
    snprintf(out, size, "%s$%" PRIu64 ".%.*s", nano < 0 ? "-" : "",
             v / (uint64_t)TR_NANO, decimals, fraction);
    return out;
}
