/* main.c - sim --seeds N --from S: many small worlds, every promise checked.
 *
 * SPDX-License-Identifier: MIT */
#include "sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Every mark must be met in a thousand worlds: a fault that never strikes
 * proves nothing. */
static bool marks_met(const int64_t *marks, uint64_t seeds)
{
    static const char *const names[] = {
#define X(id, name, most) #name,
        SIM_FAULTS(X)
#undef X
#define X(id, name) #name,
        SIM_MARKS(X)
#undef X
    };
    bool all = true;

    for (int i = 0; i < M_COUNT; i++) {
        printf("%s%s %lld", i ? ", " : "marks: ", names[i],
               (long long)marks[i]);
        all = all && marks[i];
    }
    printf("\n");
    if (!all && seeds >= 1000)
        printf("sim: a mark was never met\n");
    return all || seeds < 1000;
}

static int usage(void)
{
    fputs("usage: sim [--seeds N] [--from S] [-v] [--set NAME=VALUE]...\n"
          "  --seeds N   worlds to run (1000)\n"
          "  --from S    first seed (1)\n"
          "  --first     stop at the first failure\n"
          "  -v          trace of every event\n"
          "  --set       overrides an option of every seed; faults=0 ends\n"
          "              all faults; see the options a failing seed prints\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t seeds = 1000, from = 1, failed = 0, events = 0, rows = 0;
    const char *sets[64];
    int set_count = 0;
    bool verbose = false, first_only = false;
    static struct sim w;
    static int64_t marks[M_COUNT];

    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];

        if (strcmp(a, "-v") == 0)
            verbose = true;
        else if (strcmp(a, "--first") == 0)
            first_only = true;
        else if (strcmp(a, "--seeds") == 0 && i + 1 < argc)
            seeds = strtoull(argv[++i], NULL, 10);
        else if (strcmp(a, "--from") == 0 && i + 1 < argc)
            from = strtoull(argv[++i], NULL, 10);
        else if (strcmp(a, "--set") == 0 && i + 1 < argc && set_count < 64)
            sets[set_count++] = argv[++i];
        else
            return usage();
    }
    for (uint64_t seed = from; seed < from + seeds; seed++) {
        struct sim_options o;
        bool ok;

        sim_options_draw(&o, seed);
        for (int i = 0; i < set_count; i++)
            if (!sim_options_set(&o, sets[i]))
                return usage();
        if (verbose)
            sim_options_print(&o);
        ok = sim_run(&w, &o, verbose);
        events += w.events;
        rows += (uint64_t)o.rows;
        for (int i = 0; i < M_COUNT; i++)
            marks[i] += w.marks[i];
        /* Equal seeds are equal worlds: else no failure could be repeated. */
        if (ok && seed % 100 == 0) {
            uint64_t hash = w.hash;

            ok = sim_run(&w, &o, false);
            if (w.hash != hash)
                sim_fail(&w, "determinism", "another history on a repeat");
            ok = ok && w.hash == hash;
        }
        if (!ok) {
            failed++;
            sim_options_print(&o);
            printf("seed %" PRIu64 ": %s\n", seed, w.failure);
            fflush(stdout);
            if (failed >= 20 || first_only)
                break;
        }
    }
    printf("sim: %" PRIu64 " seeds from %" PRIu64 ", %" PRIu64 " rows, %" PRIu64
           " events, %" PRIu64 " failed\n", seeds, from, rows, events, failed);
    return !failed && (set_count || marks_met(marks, seeds)) ? 0 : 1;
}
