/* commands.c - the commands of the program: a table.
 * SPDX-License-Identifier: MIT */
#include "commands.h"

#include <string.h>

const struct command commands[] = {
    {"classify", "label every row of a file", cmd_classify},
    {"estimate", "what classify would ask and cost; sends nothing",
     cmd_estimate},
    {"store", "what has been answered and paid for: ls, show, rm, forgive",
     cmd_store},
    {"models", "providers and models: keys, prices, limits", cmd_models},
    {"fake", "a provider on loopback that misbehaves on request", cmd_fake},
    {NULL, NULL, NULL},
};

const struct command *command_find(const char *name)
{
    for (const struct command *c = commands; c->name; c++) {
        if (strcmp(c->name, name) == 0)
            return c;
    }
    return NULL;
}

/* Edit distance of two short words. */
static size_t distance(const char *a, const char *b)
{
    size_t row[32], n = strlen(b);

    for (size_t k = 0; k <= n; k++)
        row[k] = k;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t k = 1; k <= n; k++) {
            size_t best = diagonal + (a[i - 1] != b[k - 1]);

            if (row[k] + 1 < best)
                best = row[k] + 1;
            if (row[k - 1] + 1 < best)
                best = row[k - 1] + 1;
            diagonal = row[k];
            row[k] = best;
        }
    }
    return row[n];
}

const char *command_nearest(const char *name)
{
    const char *near = NULL;
    size_t least = 3; /* farther than two edits is another word */

    if (strlen(name) > 30)
        return NULL;
    for (const struct command *c = commands; c->name; c++) {
        size_t d = distance(name, c->name);

        if (strncmp(name, c->name, strlen(name)) == 0)
            d = 1; /* the beginning of the name */
        if (d < least) {
            least = d;
            near = c->name;
        }
    }
    return near;
}

void commands_help(FILE *out)
{
    fputs("trommel labels texts with language models, at any scale.\n\n"
          "  trommel classify tickets.csv --labels refund,bug,question "
          "-o out.csv\n"
          "  trommel classify tickets.csv --task tickets.yaml \\\n"
          "      --model openai/gpt-6-luna --budget 2.00 -o out.csv\n\n"
          "commands:\n",
          out);
    for (const struct command *c = commands; c->name; c++)
        fprintf(out, "  %-10s %s\n", c->name, c->help);
    fputs("  help       this, or help of one command: trommel help classify\n\n"
          "Rows already answered are never paid for again: run the same command "
          "to go on.\nManual: man trommel\n",
          out);
}
