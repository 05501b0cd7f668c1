/* script.c - what strikes when: drawn from the seed, or as a script says.
 *
 * SPDX-License-Identifier: MIT */
#include "sim.h"

#include "base/err.h"

#include <inttypes.h>
#include <stdlib.h>

static const char *const names[SIM_SITES] = {
#define X(id, name, most) #name,
    SIM_FAULTS(X)
    SIM_MACHINE_FAULTS(X)
#undef X
#define X(id, name) #name,
    SIM_TIMED(X)
#undef X
#define X(id, name, most) #name,
    SIM_BATCH_FAULTS(X)
#undef X
    "other_job_or_rows",
    "told_to_wait_long",
    "key_refused_once",
    "stale_reply",
};

const char *sim_site_name(enum sim_site site)
{
    return names[site];
}

static void note(struct sim *w, enum sim_site site, int64_t value)
{
    w->marks[site]++;
    sim_event(w, '!', site, value);
    if (w->struck_n == w->struck_cap) {
        w->struck_cap = w->struck_cap ? w->struck_cap * 2 : 64;
        w->struck = tr_resize(w->struck, w->struck_cap * sizeof *w->struck);
        TR_ASSERT(w->struck);
    }
    w->struck[w->struck_n++] =
        (struct sim_strike){site, w->calls[site], value};
}

/* As the script says for the n-th time; the times come in order. */
static int64_t scripted(struct sim *w, enum sim_site site, int64_t n)
{
    const struct sim_script *s = w->script;
    int *next = &w->script_next[site];

    while (*next < (int)s->n &&
           (s->strikes[*next].site < site ||
            (s->strikes[*next].site == site && s->strikes[*next].n < n)))
        ++*next;
    return *next < (int)s->n && s->strikes[*next].site == site &&
           s->strikes[*next].n == n ? s->strikes[*next].value : 0;
}

int64_t sim_strike(struct sim *w, enum sim_site site, int64_t ppm,
                   int64_t most)
{
    int64_t n = ++w->calls[site], value = 0;

    if (!w->faults_on)
        return 0;
    if (w->script) {
        value = scripted(w, site, n);
    } else if (ppm > 0) {
        struct tr_rng r = {sim_stream(w->o.seed, 100 + (uint64_t)site) +
                           (uint64_t)n * UINT64_C(0xd1342543de82ef95)};

        if ((int64_t)tr_rng_below(&r, 1000000) < ppm)
            value = 1 + (int64_t)tr_rng_below(&r, (uint64_t)most);
    }
    if (value)
        note(w, site, value);
    return value;
}

/* ---- scripts ------------------------------- */

static int in_order(const void *a, const void *b)
{
    const struct sim_strike *x = a, *y = b;

    if (x->site != y->site)
        return x->site < y->site ? -1 : 1;
    return x->n < y->n ? -1 : x->n > y->n;
}

void sim_script_sort(struct sim_script *s)
{
    if (s->n)
        qsort(s->strikes, s->n, sizeof *s->strikes, in_order);
}

void sim_script_release(struct sim_script *s)
{
    tr_free(s->strikes);
    *s = (struct sim_script){.n = 0};
}

void sim_script_write(const struct sim_script *s, FILE *f)
{
    fprintf(f, "seed %" PRIu64 "\n", s->o.seed);
    for (int i = 0; i < sim_options_count(); i++)
        if (sim_option(&s->o, i) != sim_option_least(i))
            fprintf(f, "%s=%.10g\n", sim_option_name(i), sim_option(&s->o, i));
    for (size_t i = 0; i < s->n; i++)
        fprintf(f, "%s %" PRId64 " %" PRId64 "\n", names[s->strikes[i].site],
                s->strikes[i].n, s->strikes[i].value);
}

static bool read_line(struct sim_script *s, char *line)
{
    char name[40];
    long long n, value;

    line[strcspn(line, "#\n")] = '\0';
    if (!line[strspn(line, " ")])
        return true;
    if (sscanf(line, "seed %" SCNu64, &s->o.seed) == 1)
        return true;
    if (strchr(line, '='))
        return sim_options_set(&s->o, line);
    if (sscanf(line, "%39s %lld %lld", name, &n, &value) != 3 || value < 1)
        return false;
    for (int i = 0; i < SIM_SITES; i++) {
        if (strcmp(names[i], name) != 0)
            continue;
        s->strikes = tr_resize(s->strikes, (s->n + 1) * sizeof *s->strikes);
        TR_ASSERT(s->strikes);
        s->strikes[s->n++] = (struct sim_strike){(enum sim_site)i, n, value};
        return true;
    }
    return false;
}

bool sim_script_read(struct sim_script *s, const char *path)
{
    FILE *f = fopen(path, "r");
    char line[200], copy[200];
    bool ok = f != NULL;

    *s = (struct sim_script){.n = 0};
    sim_options_none(&s->o);
    while (ok && fgets(line, sizeof line, f)) {
        snprintf(copy, sizeof copy, "%s", line);
        ok = read_line(s, line);
        if (!ok)
            fprintf(stderr, "sim: %s: what is this? %s", path, copy);
    }
    if (f)
        fclose(f);
    else
        fprintf(stderr, "sim: %s cannot be read\n", path);
    sim_script_sort(s);
    if (!ok)
        sim_script_release(s);
    return ok;
}
