/* args.h - the command line into settings, and the table into help.
 * SPDX-License-Identifier: MIT */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include "term.h"

#include <trommel.h>

#include <stdio.h>

/* Sets every option and input of argv[1..] in cfg; *help: --help was among
 * them, and nothing after it was read. 0, or the exit code after having said
 * what is wrong. */
int args_read(int argc, char **argv, trommel_config *cfg, struct term *term,
              bool *help);
/* Whether a setting stands at this word; a flag that is set stands at "yes". */
bool args_is(const trommel_config *cfg, const char *name, const char *word);
/* What they say about how to speak is known now. */
void args_tell(const trommel_config *cfg, struct term *term);
/* All options in groups, aligned and wrapped at 79 columns. */
void args_help(FILE *out);

#endif
