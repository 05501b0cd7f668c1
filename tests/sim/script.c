/* script.c - what strikes when: drawn from the seed, or as a script says.
 *
 * SPDX-License-Identifier: MIT */
#include "sim.h"

#include "base/err.h"

static const char *const names[SIM_SITES] = {
#define X(id, name, most) #name,
    SIM_FAULTS(X)
    SIM_DISK_FAULTS(X)
#undef X
#define X(id, name) #name,
    SIM_TIMED(X)
#undef X
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
