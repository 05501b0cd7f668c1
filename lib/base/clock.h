/* clock.h - the only place that asks what time it is.
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_CLOCK_H
#define TR_BASE_CLOCK_H

#include <stdint.h>

#define TR_MS INT64_C(1000000) /* nanoseconds in a millisecond */
#define TR_S INT64_C(1000000000)

int64_t tr_clock_mono_ns(void); /* monotonic, nanoseconds, arbitrary origin */
int64_t tr_clock_asleep_ns(void); /* the machine slept so long since it began,
                                     which mono does not count; 0: not told */
int64_t tr_clock_wall_s(void);  /* Unix seconds */
int64_t tr_clock_wall_ns(void); /* the same in nanoseconds */

#endif
