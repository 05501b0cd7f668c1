/* intake.h - the bytes of one input: file, pipe or standard input, unpacked.
 * SPDX-License-Identifier: MIT */
#ifndef TR_ROWS_INTAKE_H
#define TR_ROWS_INTAKE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tr_intake;

/* path "-" is standard input. chunk_bytes bounds one read() (0: a good size).
 * gzip and Zstandard are told by their first bytes. */
int tr_intake_open(struct tr_intake **out, const char *path,
                   size_t chunk_bytes, struct tr_err *err);

enum { TR_INTAKE_END = 0, TR_INTAKE_SOME = 1, TR_INTAKE_WAIT = 2 };
/* Up to n bytes into to. WAIT only when block is false and the input is not
 * a regular file. < 0: tr_code. */
int tr_intake_read(struct tr_intake *in, char *to, size_t n, bool block,
                   size_t *got, struct tr_err *err);
int tr_intake_fd(const struct tr_intake *in); /* to poll; -1: regular file */
bool tr_intake_packed(const struct tr_intake *in);
int64_t tr_intake_taken(const struct tr_intake *in); /* bytes of the file */
void tr_intake_close(struct tr_intake *in); /* accepts NULL */

#endif
