/* commands.h - the commands of the program, one function each.
 *
 * A command gets its own arguments, argv[0] being its name, and returns the
 * program's exit code. "--help" among them prints its help.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include <stdio.h>

struct command {
    const char *name;
    const char *help; /* one line */
    int (*run)(int argc, char **argv);
};
extern const struct command commands[]; /* name NULL ends it */

const struct command *command_find(const char *name); /* or NULL */
/* The nearest name for "did you mean", or NULL. */
const char *command_nearest(const char *name);
void commands_help(FILE *out);

int cmd_classify(int argc, char **argv);
int cmd_estimate(int argc, char **argv);
int cmd_store(int argc, char **argv);
int cmd_models(int argc, char **argv);
int cmd_fake(int argc, char **argv);

#endif
