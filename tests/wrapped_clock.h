/* wrapped_clock.h - a clock that stands still until the test moves it.
 *
 * For one program, linked with --wrap=tr_clock_mono_ns and
 * --wrap=tr_clock_wall_s.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WRAPPED_CLOCK_H
#define WRAPPED_CLOCK_H

#include "base/clock.h"

static int64_t now_ns;   /* since the start of both clocks, awake */
static int64_t asleep_s; /* and so long asleep */

int64_t __wrap_tr_clock_mono_ns(void);
int64_t __wrap_tr_clock_wall_s(void);

int64_t __wrap_tr_clock_mono_ns(void)
{
    return now_ns;
}

int64_t __wrap_tr_clock_wall_s(void)
{
    return 1764500000 + now_ns / TR_S + asleep_s;
}

#endif
