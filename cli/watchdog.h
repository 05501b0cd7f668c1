/* watchdog.h - ends the program when a step of its run does not return.
 * SPDX-License-Identifier: MIT */
#ifndef CLI_WATCHDOG_H
#define CLI_WATCHDOG_H

#include "term.h"

#include <trommel.h>

struct watchdog;

/* Watches the steps of run on a thread of its own. limit_ms 0: nobody watches,
 * and *out is NULL. core: it ends by abort(), for a core dump. 0 or an error of
 * errno.h. */
int watchdog_start(struct watchdog **out, int64_t limit_ms, bool core,
                   const struct term *term, const trommel_run *run);
/* Before a step, and after it. All accept NULL. */
void watchdog_beat(struct watchdog *w);
void watchdog_stop(struct watchdog *w); /* before the run is closed */

#endif
