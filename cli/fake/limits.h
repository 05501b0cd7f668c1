/* limits.h - a provider's rate limit: a bucket, or a fixed window.
 *
 * Pure: told the time, reads no clock.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_FAKE_LIMITS_H
#define TR_FAKE_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fake_limit {
    double per_minute; /* 0: no limit */
    double cap;        /* what a full bucket or window holds */
    double used;       /* taken out of it and not yet come back */
    int64_t at_ns;     /* bucket: when used was true; window: its start */
    int64_t window_ns; /* 0: bucket */
};

/* What the x-ratelimit-* headers say. */
struct fake_limit_view {
    int64_t limit, remaining, reset_ns;
};

void fake_limit_init(struct fake_limit *l, int64_t per_minute, double bucket_s,
                     double window_s, int64_t now_ns);
/* Never passes, however long one waits. */
bool fake_limit_is_too_large(const struct fake_limit *l, double amount);
/* 0: amount may pass now; else how long until it may. */
int64_t fake_limit_wait_ns(struct fake_limit *l, double amount, int64_t now_ns);
void fake_limit_take(struct fake_limit *l, double amount, int64_t now_ns);
struct fake_limit_view fake_limit_view(struct fake_limit *l, int64_t now_ns);
/* "84ms", "1.5s", "2m0s": Go's way, as the providers write it; rounded up
 * to a millisecond. */
void fake_duration(char *out, size_t size, int64_t ns);

#endif
