/* fair.c - what part of a key's limits is this process's.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/fair.h"

#include "base/clock.h"

#include <math.h>
#include <string.h>

#define USED_OVER_S 1.0      /* time over which use is averaged */
#define ROOM 1.25            /* above what was used: room to grow */
#define LEAST 0.01           /* of an equal part: enough to begin with */
#define SHORT_FOR_NS TR_S    /* one moment without work is no lack of it */
#define RATE_OLD_NS (600 * TR_S) /* what was learned before that is not news */

void tr_fair_init(struct tr_fair *f, int64_t now)
{
    *f = (struct tr_fair){.looked_at = now, .heard_at = now};
}

/* The future is as dead as the past: it comes from another clock. */
bool tr_lease_is_live(const struct tr_lease *lease, int64_t now)
{
    return lease->beat_at > 0 && lease->beat_at <= now + TR_FAIR_EVERY_NS &&
           now - lease->beat_at <= TR_FAIR_LIVE_NS;
}

void tr_fair_divide(const double *want, double *part, uint32_t n)
{
    uint32_t open = n;
    double left = 1;

    for (uint32_t i = 0; i < n; i++)
        part[i] = -1;
    /* Serve those who want no more than an equal part of what is left. */
    for (bool moved = true; moved && open;) {
        double equal = left / open;

        moved = false;
        for (uint32_t i = 0; i < n; i++)
            if (part[i] < 0 && want[i] < equal) {
                part[i] = want[i];
                left -= want[i];
                open--;
                moved = true;
            }
    }
    for (uint32_t i = 0; i < n; i++)
        if (part[i] < 0)
            part[i] = left / open;
        else if (!open)
            part[i] += left / n; /* nobody wants the rest: room for all */
}

static double bounded(double part)
{
    return part > 0 ? fmin(part, 1) : 0; /* NaN: 0 */
}

void tr_fair_kept_back(struct tr_fair *f, const struct tr_pace *p, int64_t now)
{
    for (int k = 0; k < TR_LIMIT_KINDS; k++)
        if (tr_pace_is_short(p, k, now))
            f->short_until[k] = now + SHORT_FOR_NS;
}

void tr_fair_look(struct tr_fair *f, const struct tr_pace *p, int64_t now)
{
    struct tr_lease *mine = &f->mine;
    double s = (double)(now - f->looked_at) / TR_S;

    for (int k = 0; k < TR_LIMIT_KINDS; k++) {
        double rate = tr_pace_key_rate(p, k, now), sent = p->sent[k];

        if (s > 0)
            f->used[k] += (1 - exp(-s / USED_OVER_S)) *
                          (fmax(0, sent - mine->sent[k]) / s - f->used[k]);
        mine->want[k] = now < f->short_until[k] || rate <= 0
                            ? 1 : bounded(ROOM * f->used[k] / rate);
        mine->sent[k] = sent;
        mine->rate[k] = fmin(tr_pace_learned_rate(p, k, now),
                             TR_LEASE_UNITS_MAX);
    }
    mine->rate_at = p->rate_at;
    mine->refused_at = p->refused_at;
    mine->refused_sent_at = p->refused_sent_at;
    mine->hold_until = p->asked_until;
    mine->beat_at = f->looked_at = now;
}

void tr_fair_take(struct tr_fair *f, const struct tr_lease *all, uint32_t n,
                  int64_t now)
{
    double want[TR_FAIR_MAX + 1], part[TR_FAIR_MAX + 1];

    for (int k = 0; k < TR_LIMIT_KINDS; k++) {
        double held = 0;
        uint32_t live = 0;

        for (uint32_t i = 0; i < n; i++)
            if (tr_lease_is_live(&all[i], now)) {
                want[live++] = bounded(all[i].want[k]);
                held += bounded(all[i].part[k]);
            }
        f->others = live;
        want[live] = fmax(f->mine.want[k], LEAST / (live + 1));
        tr_fair_divide(want, part, live + 1);
        f->mine.part[k] = bounded(fmin(part[live], 1 - held));
    }
}

/* What the others sent since we last looked flows out of the same bucket. */
static void hear_sends(struct tr_fair *f, struct tr_pace *p,
                       const struct tr_lease *all, uint32_t n, int64_t now)
{
    struct tr_fair_seen seen[TR_FAIR_MAX];

    for (uint32_t i = 0; i < n; i++) {
        const struct tr_lease *l = &all[i];
        uint32_t k = 0;

        seen[i] = (struct tr_fair_seen){l->id, l->beat_at, {0}};
        memcpy(seen[i].sent, l->sent, sizeof seen[i].sent);
        while (k < f->seen_count && f->seen[k].id != l->id)
            k++;
        if (k < f->seen_count && l->beat_at > f->seen[k].beat_at &&
            l->beat_at <= now) {
            double units[TR_LIMIT_KINDS];

            for (int u = 0; u < TR_LIMIT_KINDS; u++) {
                units[u] = l->sent[u] - f->seen[k].sent[u];
                if (!isfinite(units[u]))
                    units[u] = 0;
            }
            tr_pace_sent_elsewhere(p, units, f->seen[k].beat_at, l->beat_at);
        }
    }
    memcpy(f->seen, seen, n * sizeof *seen);
    f->seen_count = n;
}

/* Of those who are kept back by a limit one leads, and the others aim at the
 * rate it finds: the same for all who look, for as long as it is there. */
static const struct tr_lease *leader(const struct tr_fair *f,
                                     const struct tr_lease *all, uint32_t n,
                                     int kind, int64_t now)
{
    const struct tr_lease *first = f->mine.want[kind] >= 1 ? &f->mine : NULL;

    for (uint32_t i = 0; i < n; i++)
        if (tr_lease_is_live(&all[i], now) && all[i].want[kind] >= 1 &&
            all[i].rate[kind] > 0 && (!first || all[i].id < first->id))
            first = &all[i];
    return first;
}

void tr_fair_tell(struct tr_fair *f, struct tr_pace *p,
                  const struct tr_lease *all, uint32_t n, int64_t now)
{
    const struct tr_lease *learned = NULL;
    int64_t heard = f->heard_at;
    double told[TR_LIMIT_KINDS];
    bool follows[TR_LIMIT_KINDS];

    hear_sends(f, p, all, n, now);
    for (uint32_t i = 0; i < n; i++) {
        const struct tr_lease *l = &all[i];

        if (l->rate_at > 0 && l->rate_at <= now &&
            now - l->rate_at < RATE_OLD_NS &&
            (!learned || l->rate_at > learned->rate_at))
            learned = l;
        if (l->refused_at > f->heard_at && l->refused_at <= now &&
            l->refused_sent_at <= l->refused_at) {
            tr_pace_refused_elsewhere(p, l->refused_sent_at, l->hold_until,
                                      l->refused_at, now);
            if (l->refused_at > heard)
                heard = l->refused_at;
        }
    }
    f->heard_at = heard;
    for (int k = 0; k < TR_LIMIT_KINDS; k++) {
        const struct tr_lease *first = leader(f, all, n, k, now);

        follows[k] = first && first != &f->mine;
        told[k] = follows[k] ? first->rate[k] : learned ? learned->rate[k] : 0;
    }
    tr_pace_told(p, told, follows, now);
    tr_pace_part(p, f->mine.part, now);
}
