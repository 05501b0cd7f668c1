/* guard.h - what the program gives up before it does anything.
 * SPDX-License-Identifier: MIT */
#ifndef GUARD_H
#define GUARD_H

#include <stdbool.h>

/* No core dumps, no file of TLS keys, and no other process of the same user
 * may read this one's memory or environment: both hold keys. False when the
 * program was started with rights its user does not have (setuid, setgid): it
 * must not run. */
bool guard_raise(void);

/* --core-dumps: as any other program. */
void guard_lower(void);

#endif
