/* summary.h - what came of the run, at its end.
 * SPDX-License-Identifier: MIT */
#ifndef CLI_SUMMARY_H
#define CLI_SUMMARY_H

#include "term.h"

#include <trommel.h>

#include <stdint.h>

/* output: the name of the result, or NULL for standard output. */
void summary_print(struct term *term, const trommel_run *run,
                   const char *output, int64_t elapsed_ms);

/* For a run that says nothing but errors: one line about the rows without a
 * label. output as above. */
void summary_failed(struct term *term, const trommel_run *run,
                    const char *output);

#endif
