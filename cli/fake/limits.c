/* limits.c - token bucket and fixed window behind one set of functions.
 *
 * A bucket shorter than a minute is not visible in the headers, as with real
 * providers ("60 a minute may act as 1 a second"): they state the limit a
 * minute and what is used of it.
 *
 * SPDX-License-Identifier: MIT */
#include "fake/limits.h"

#include "base/clock.h"

#include <math.h>
#include <stdio.h>

#define MINUTE_NS 60e9
/* Rounding of the refill must not refuse what arithmetic allows. */
#define SLACK 1e-6

void fake_limit_init(struct fake_limit *l, int64_t per_minute, double bucket_s,
                     double window_s, int64_t now_ns)
{
    *l = (struct fake_limit){.per_minute = (double)per_minute,
                             .at_ns = now_ns,
                             .window_ns = (int64_t)(window_s * 1e9)};
    l->cap = l->per_minute * (window_s > 0 ? window_s : bucket_s) / 60;
    if (l->cap < 1)
        l->cap = 1;
}

bool fake_limit_is_too_large(const struct fake_limit *l, double amount)
{
    return l->per_minute > 0 && amount > l->cap + SLACK;
}

static void refill(struct fake_limit *l, int64_t now_ns)
{
    if (l->window_ns) {
        int64_t passed = (now_ns - l->at_ns) / l->window_ns;

        if (passed > 0) {
            l->at_ns += passed * l->window_ns;
            l->used = 0;
        }
    } else {
        l->used -= (double)(now_ns - l->at_ns) * l->per_minute / MINUTE_NS;
        if (l->used < 0)
            l->used = 0;
        l->at_ns = now_ns;
    }
}

int64_t fake_limit_wait_ns(struct fake_limit *l, double amount, int64_t now_ns)
{
    double lacking;

    if (l->per_minute <= 0)
        return 0;
    refill(l, now_ns);
    lacking = l->used + amount - l->cap;
    if (lacking <= SLACK)
        return 0;
    if (l->window_ns)
        return l->at_ns + l->window_ns - now_ns;
    return (int64_t)ceil(lacking * MINUTE_NS / l->per_minute);
}

void fake_limit_take(struct fake_limit *l, double amount, int64_t now_ns)
{
    if (l->per_minute <= 0)
        return;
    refill(l, now_ns);
    l->used = fmin(l->used + amount, l->cap);
}

struct fake_limit_view fake_limit_view(struct fake_limit *l, int64_t now_ns)
{
    struct fake_limit_view v = {0, 0, 0};
    double limit;

    refill(l, now_ns);
    limit = l->window_ns ? l->cap : fmax(l->per_minute, l->cap);
    v.limit = (int64_t)limit;
    v.remaining = (int64_t)(limit - l->used + SLACK);
    if (v.remaining < 0)
        v.remaining = 0;
    v.reset_ns = l->window_ns
                     ? l->at_ns + l->window_ns - now_ns
                     : (int64_t)(l->used * MINUTE_NS / l->per_minute);
    return v;
}

void fake_duration(char *out, size_t size, int64_t ns)
{
    int64_t ms = (ns + TR_MS - 1) / TR_MS;

    if (ms < 1000)
        snprintf(out, size, "%lldms", (long long)ms);
    else if (ms < 60000)
        snprintf(out, size, "%.10gs", (double)ms / 1000);
    else
        snprintf(out, size, "%lldm%.10gs", (long long)(ms / 60000),
                 (double)(ms % 60000) / 1000);
}
