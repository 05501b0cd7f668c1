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

int64_t tr_clock_asleep_ns(void)
{
#ifdef CLOCK_BOOTTIME
    struct timespec all;
    int64_t awake = tr_clock_mono_ns();

    if (clock_gettime(CLOCK_BOOTTIME, &all) == 0)
        return all.tv_sec * TR_S + all.tv_nsec - awake;
#endif
    return 0;
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
