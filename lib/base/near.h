/* near.h - "did you mean": how far two names are apart, and the nearest.
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_NEAR_H
#define TR_BASE_NEAR_H

#include "base/str.h"

/* Edits from a to b, ASCII case ignored; swapped neighbours are one. SIZE_MAX
 * when one has more than 64 bytes. */
size_t tr_edits(struct tr_str a, struct tr_str b);
/* Nearest of names, or NULL when nothing is near. */
const char *tr_nearest(struct tr_str word, const char *const *names, size_t n);

#endif
