/* clock.c - the only place that asks what time it is.
 * SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include <time.h>

int64_t tr_clock_mono_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * TR_S + t.tv_nsec;
}

int64_t tr_clock_wall_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * TR_S + t.tv_nsec;
}

int64_t tr_clock_wall_s(void)
{
    return (int64_t)time(NULL);
}
