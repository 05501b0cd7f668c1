/* secret.h - a key in memory: kept apart, wiped, and found in texts however
 * it is spelt.
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_SECRET_H
#define TR_BASE_SECRET_H

#include "base/str.h"

struct tr_secret;

/* Copies value into pages of its own: between two that cannot be touched,
 * locked where the limit allows it, left out of core dumps. NULL when out of
 * memory. value may not be empty and has 2000 bytes at most. */
struct tr_secret *tr_secret_new(struct tr_str value);

/* The value and a NUL, until tr_secret_free(). "" for NULL. */
const char *tr_secret_text(const struct tr_secret *s);

/* Puts "[key]" in place of the value in text, which has room for size bytes
 * and a NUL at its end: as it is, URL-encoded, in hex, and in base64 at any
 * offset. So is the beginning of one at the end of a text that was cut. Values
 * of fewer than 4 bytes are words, not keys: they stay. NULL: nothing. */
void tr_secret_hide(const struct tr_secret *s, char *text, size_t size);

/* Wipes it first. NULL is fine. */
void tr_secret_free(struct tr_secret *s);

/* Zeroes that no optimiser takes away. */
void tr_wipe(void *p, size_t n);

#endif
