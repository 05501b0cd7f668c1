/* ending.h - what the ending of a file's name says about what is in it.
 * SPDX-License-Identifier: MIT */
#ifndef TR_ROWS_ENDING_H
#define TR_ROWS_ENDING_H

#include "base/err.h"
#include "rows/source.h"

/* The format of an input by its name, a compression's ending left out; AUTO
 * where that says nothing. */
enum tr_format tr_ending_format(const char *path);

/* Refuses (TR_USAGE) a name for the output that promises another format, or
 * a compression. What says nothing is fine, and so is NULL. delimiter: of the
 * output, where that is CSV. */
int tr_ending_check(const char *path, enum tr_format format, char delimiter,
                    struct tr_err *err);

#endif
