/* clock.h - the only place in lib/ that asks what time it is.
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_CLOCK_H
#define TR_BASE_CLOCK_H

#include <stdint.h>

#define TR_MS INT64_C(1000000) /* nanoseconds in a millisecond */
#define TR_S INT64_C(1000000000)

/* t + by, or the end of time. */
static inline int64_t tr_later(int64_t t, int64_t by)
{
    return by > 0 && t > INT64_MAX - by ? INT64_MAX : t + by;
}

/* In nanoseconds; nothing less than 0, and no wait longer than a day. */
static inline int64_t tr_nanos(double seconds)
{
    const double day = 24 * 3600;

    if (!(seconds > 0))
        return 0;
    return (int64_t)((seconds < day ? seconds : day) * TR_S);
}

int64_t tr_clock_mono_ns(void); /* monotonic, nanoseconds, arbitrary origin */
int64_t tr_clock_asleep_ns(void); /* the machine slept so long since it began,
                                     which mono does not count; 0: not told */
int64_t tr_clock_wall_s(void);  /* Unix seconds */
int64_t tr_clock_wall_ns(void); /* the same in nanoseconds */

#endif
