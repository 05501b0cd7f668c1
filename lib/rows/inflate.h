/* inflate.h - gzip and Zstandard as a stream of steps; no input, no output.
 *
 * Several members or frames in a row are one text. Bounds: the window of
 * Zstandard is at most 16 MiB, and a text may not grow by more than 10,000
 * times, so that a bomb ends early.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_ROWS_INFLATE_H
#define TR_ROWS_INFLATE_H

#include "base/str.h"

enum tr_packed { TR_PACKED_NOT, TR_PACKED_GZIP, TR_PACKED_ZSTD };

struct tr_inflate;

/* By the first bytes (four are enough). */
enum tr_packed tr_inflate_magic(struct tr_str start);

struct tr_inflate *tr_inflate_new(enum tr_packed kind); /* NULL: no memory */
/* Takes from *in (which it advances) and gives up to cap bytes. Returns how
 * many, or -1: *what is a static clause saying how the data is bad, or NULL
 * when memory is out. When it returns less than cap, all of *in was taken. */
long tr_inflate_step(struct tr_inflate *z, struct tr_str *in, char *out,
                     size_t cap, const char **what);
/* The text may end here: no member or frame is open. */
bool tr_inflate_complete(const struct tr_inflate *z);
void tr_inflate_free(struct tr_inflate *z); /* accepts NULL */

#endif
