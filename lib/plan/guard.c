/* guard.c - canaries, audits, doubt: is what a pack says the texts' own doing?
 *
 * The pool's answers come from texts that were asked alone, so no other row
 * could plant them. Whether the model gives them reliably shows on the way: a
 * canary starts in few packs, and one that raised a doubt in vain is retired.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/guard.h"

#include "base/err.h"
#include "base/mem.h"

#include <math.h>

enum {
    CANARIES_WANTED = 12,
    SETS_WANTED = 4,       /* different answers; else up to TR_CANARIES_MAX */
    OF_ONE_SET = 8,        /* more add nothing; */
    LATER_OF_ONE_SET = 2,  /* from a dozen on it is other answers that count */
    SCOUT_PACKS = 12,      /* fewer rows than so many packs of the smallest
                              kind are not worth the search */
    SCOUT_SHARE = 12,      /* one row in so many packs is asked alone for it */
    TRUST_EXAMPLE = 8,
    TRUST_SCOUT = 2,
    GROWN = 16,            /* packs after which one doubt is not its own */
    TRUST_PASSED = 1,      /* a pack that came back right allows so many more */
    ROWS_PER_CANARY = 16,  /* of packs of 48 and more; smaller ones have two */
    FIRST_ROWS = 1024,     /* nothing is known yet: canaries of all answers, */
    FIRST_SHARE = 4,       /* but for so many rows one at most */
    TRIALS = 2,            /* packs in which a new canary is tried */
    DOUBTED_NEW = 2,       /* packs doubted in a row that make a canary bad */
    DOUBTED_OLD = 4,       /* company, before and after it passed in one */
    MOVED_ROW = 3,         /* packs with the same other answer and none with the
                              right one: not the doing of rows, they change */
    MOVED_PASSED = 2,      /* of a canary that had been right so often */
    MOVED_PACKS = 200,     /* and of TR_MOVED of them within so many packs */
    AUDITS_MAX = 32,
    AUDITS_A_PACK = 2,
    CANARIES_A_PACK = TR_GUESTS_MAX - AUDITS_A_PACK,
    HISTOGRAM_ROWS = 8,    /* smaller packs can look like anything */
    HISTOGRAM_BASE = 200,  /* rows before there is a usual */
    HISTOGRAM_FALSE = 3,
    PACK_LEAST = 4
};
#define AUDIT_SHARE 0.01
#define AUDIT_SHARE_STRICT 0.04
#define ALL_ALIKE 1e-3 /* the chance that a pack in order looks like an order */
#define UNLIKELY 1e-6 /* for all packs of a run together */

/* Page's test: disagreement of 2 % is the model's mood, 10 % is not. */
#define DRIFT_DIFFER 1.609 /* ln(0.10 / 0.02) */
#define DRIFT_AGREE 0.0852 /* -ln(0.90 / 0.98) */
#define DRIFT_ALARM 6.9    /* ln(1000) */

void tr_guard_init(struct tr_guard *g, enum tr_guard_mode mode, uint32_t from)
{
    *g = (struct tr_guard){.mode = mode, .from = from ? from : TR_GUARD_PACK,
                           .unlimited = mode == TR_GUARD_STRICT,
                           .quiet = TR_GUARD_QUIET};
}

static void vacate(struct tr_guest *t)
{
    tr_free(t->text);
    *t = (struct tr_guest){0};
}

void tr_guard_release(struct tr_guard *g)
{
    for (int i = 0; i < TR_GUEST_SLOTS; i++)
        vacate(&g->guests[i]);
}

/* ---- the pool ------------------------------- */

/* After each change of the pool; it is looked at for every pack. */
static void count_pool(struct tr_guard *g)
{
    g->pool = g->kinds = 0;
    for (int i = 0; i < TR_GUEST_SLOTS; i++) {
        struct tr_guest *t = &g->guests[i];
        bool first = true;

        t->alike = 0;
        if (t->kind != TR_GUEST_CANARY)
            continue;
        for (int k = 0; k < TR_GUEST_SLOTS; k++)
            if (g->guests[k].kind == TR_GUEST_CANARY &&
                g->guests[k].set == t->set) {
                t->alike++;
                first = first && k >= i;
            }
        g->pool++;
        g->kinds += first;
    }
}

static uint32_t canaries_of(const struct tr_guard *g, uint64_t set)
{
    for (int i = 0; i < TR_GUEST_SLOTS; i++)
        if (g->guests[i].kind == TR_GUEST_CANARY && g->guests[i].set == set)
            return g->guests[i].alike;
    return 0;
}

static bool may_join(const struct tr_guard *g, const struct tr_guest *t)
{
    return t->kind == TR_GUEST_CANARY && (!t->open || t->passed >= GROWN) &&
           (g->unlimited ||
            t->in_flight < t->trust + TRUST_PASSED * t->passed);
}

static struct tr_guest *seat(struct tr_guard *g, struct tr_str text,
                             uint64_t set, enum tr_guest_kind kind)
{
    struct tr_guest *at = NULL;
    char *copy;

    if (g->mode == TR_GUARD_OFF || !text.n || text.n > TR_GUEST_BYTES)
        return NULL;
    for (int i = 0; i < TR_GUEST_SLOTS; i++) {
        struct tr_guest *t = &g->guests[i];

        if (t->kind == TR_GUEST_FREE)
            at = at ? at : t;
        else if (tr_str_eq(tr_str(t->text, t->n), text))
            return NULL;
    }
    copy = at ? tr_dup(text.p, text.n) : NULL;
    if (!copy)
        return NULL;
    *at = (struct tr_guest){.kind = kind, .text = copy, .n = (uint32_t)text.n,
                            .set = set, .number = ++g->number_last};
    return at;
}

static void retire(struct tr_guard *g, struct tr_guest *t)
{
    g->counts.retired++;
    if (t->in_flight)
        t->kind = TR_GUEST_GONE;
    else
        vacate(t);
    count_pool(g);
}

/* One of those whose answer the most have, if there are two of any. */
static struct tr_guest *a_double(struct tr_guard *g)
{
    struct tr_guest *most = NULL;

    for (int i = 0; i < TR_GUEST_SLOTS; i++) {
        struct tr_guest *t = &g->guests[i];

        if (t->kind == TR_GUEST_CANARY && t->alike > (most ? most->alike : 1))
            most = t;
    }
    return most;
}

bool tr_guard_admit(struct tr_guard *g, struct tr_str text, uint64_t set,
                    bool trusted)
{
    bool full = g->pool >= TR_CANARIES_MAX;
    uint32_t most = g->pool < CANARIES_WANTED ? OF_ONE_SET
                    : full                    ? 1
                                              : LATER_OF_ONE_SET;
    struct tr_guest *leaves = full ? a_double(g) : NULL, *t;

    if ((g->strangers && !trusted) || canaries_of(g, set) >= most ||
        (full && !leaves))
        return false;
    t = seat(g, text, set, TR_GUEST_CANARY);
    if (!t)
        return false;
    t->trust = trusted ? TRUST_EXAMPLE : TRUST_SCOUT;
    if (leaves)
        retire(g, leaves);
    else
        count_pool(g);
    return true;
}

bool tr_guard_lacks(const struct tr_guard *g, struct tr_str text, uint64_t set)
{
    size_t longest = 0;

    for (int i = 0; i < TR_GUEST_SLOTS; i++)
        if (g->guests[i].kind == TR_GUEST_CANARY && g->guests[i].n > longest)
            longest = g->guests[i].n;
    return tr_guard_alarmed(g) && !g->strangers && text.n <= longest &&
           !canaries_of(g, set);
}

void tr_guard_audit(struct tr_guard *g, struct tr_str text, uint64_t set,
                    double coin)
{
    uint32_t n = 0;

    if (g->strangers ||
        coin >= (g->mode == TR_GUARD_STRICT ? AUDIT_SHARE_STRICT : AUDIT_SHARE))
        return;
    for (int i = 0; i < TR_GUEST_SLOTS; i++)
        n += g->guests[i].kind == TR_GUEST_AUDIT;
    if (n < AUDITS_MAX)
        seat(g, text, set, TR_GUEST_AUDIT);
}

/* Answers that rows have, as many as a pack has canaries for. */
static uint32_t kinds_seen(const struct tr_guard *g)
{
    uint32_t n = 0;

    for (int i = 0; i < TR_GUARD_SETS && n < CANARIES_A_PACK; i++)
        n += g->base[i] > 0;
    return n;
}

bool tr_guard_wants_scout(const struct tr_guard *g, int64_t waiting)
{
    uint32_t n = g->pool + g->scouting;
    uint32_t kinds = tr_guard_alarmed(g) ? kinds_seen(g) : SETS_WANTED;
    uint32_t most = g->kinds < kinds ? TR_CANARIES_MAX : CANARIES_WANTED;

    if (g->mode == TR_GUARD_OFF || g->strangers ||
        waiting + g->rows < SCOUT_PACKS * g->from ||
        g->counts.scouts * SCOUT_SHARE * g->from >= waiting + g->rows)
        return false;
    /* The first dozen at once; more only when it is known that they are of
     * too few kinds. */
    return n < CANARIES_WANTED || (n < most && !g->scouting);
}

int64_t tr_guard_scouts(const struct tr_guard *g, int64_t rows)
{
    int64_t n = rows / (SCOUT_SHARE * g->from), want = CANARIES_WANTED;

    want -= g->pool;
    if (g->mode == TR_GUARD_OFF || g->strangers ||
        rows < SCOUT_PACKS * g->from || want <= 0)
        return 0;
    return n < want ? n : want;
}

/* The chance that a pack too small to always have a canary has one: as many
 * for the rows as in the smallest pack that has. What it finds raises the
 * alarm, and that is what it is for. */
static double sample(const struct tr_guard *g, uint32_t rows)
{
    if (g->mode != TR_GUARD_ON || tr_guard_alarmed(g) || rows < 2 ||
        rows >= g->from / 2)
        return 0;
    return (double)rows / (g->from / 2);
}

int64_t tr_guard_chance_permille(const struct tr_guard *g, uint32_t rows)
{
    double share = g->mode == TR_GUARD_OFF || g->strangers ? 0
                   : g->mode == TR_GUARD_STRICT ? AUDIT_SHARE_STRICT
                                                : AUDIT_SHARE;

    if (sample(g, rows) > 0)
        return g->strangers && !g->pool ? 0 : (int64_t)(1000 * sample(g, rows));
    return (int64_t)(share * 1000 * rows);
}

uint32_t tr_guard_free(const struct tr_guard *g)
{
    uint64_t seen[TR_CANARIES_MAX];
    uint32_t n = 0;

    for (int i = 0; i < TR_GUEST_SLOTS; i++) {
        const struct tr_guest *t = &g->guests[i];
        uint32_t k = 0;

        if (!may_join(g, t))
            continue;
        while (k < n && seen[k] != t->set)
            k++;
        if (k == n)
            seen[n++] = t->set;
    }
    return n;
}

bool tr_guard_is_short(const struct tr_guard *g, uint32_t want)
{
    uint32_t free = tr_guard_free(g);

    return free < 2 || (free < want && (free < g->kinds || g->scouting > 0));
}

bool tr_guard_will_be(const struct tr_guard *g)
{
    return g->kinds >= 2 || g->scouting > 0;
}

/* ---- a pack ------------------------------- */

static uint32_t kinds_most(const struct tr_guard *g)
{
    return g->kinds < CANARIES_A_PACK ? g->kinds : CANARIES_A_PACK;
}

static void quieter(struct tr_guard *g, int64_t rows)
{
    g->quiet += rows;
    if (g->quiet > TR_GUARD_QUIET)
        g->quiet = TR_GUARD_QUIET;
}

bool tr_guard_alarmed(const struct tr_guard *g)
{
    return g->quiet < TR_GUARD_QUIET;
}

/* Who looks for a few bad ones in groups pays least with groups of the square
 * root of the distance between two. */
uint32_t tr_guard_pack_most(const struct tr_guard *g)
{
    uint32_t most = (uint32_t)sqrt((double)g->quiet);

    if (!tr_guard_alarmed(g))
        return g->pack_cap;
    if (most < PACK_LEAST)
        return 1;
    return g->pack_cap && g->pack_cap < most ? g->pack_cap : most;
}

static uint32_t two_or_more(uint32_t k)
{
    return k < 2 ? 2 : k < CANARIES_A_PACK ? k : CANARIES_A_PACK;
}

uint32_t tr_guard_usual(const struct tr_guard *g, uint32_t rows)
{
    if (g->mode == TR_GUARD_OFF || rows < 2)
        return 0;
    if (rows < g->from && g->mode != TR_GUARD_STRICT)
        return rows >= g->from / 2 ? 1 : 0;
    return two_or_more(rows / ROWS_PER_CANARY);
}

int64_t tr_guard_first(const struct tr_guard *g, uint32_t pack, int64_t rows)
{
    int64_t left = FIRST_ROWS - g->sent, n = left + pack - 1; /* whole packs */

    if (g->mode == TR_GUARD_OFF || pack < g->from || left <= 0)
        return 0;
    return (n < rows ? n : rows) / FIRST_SHARE;
}

uint32_t tr_guard_want(const struct tr_guard *g, uint32_t rows, bool watched)
{
    uint32_t usual = tr_guard_usual(g, rows), kinds = kinds_most(g), first;

    if (g->mode == TR_GUARD_OFF || rows < 2)
        return 0;
    /* An attack is the likelier then, and may be on any label. */
    if (watched || tr_guard_alarmed(g))
        return two_or_more(kinds > usual ? kinds : usual);
    first = (uint32_t)tr_guard_first(g, rows, rows);
    if (first > kinds)
        first = kinds;
    return first > usual ? first : usual;
}

static bool is_in(const uint8_t *slots, uint32_t n, int slot)
{
    for (uint32_t i = 0; i < n; i++)
        if (slots[i] == slot)
            return true;
    return false;
}

/* One of the slots has this answer. */
static bool has_set(const struct tr_guard *g, const uint8_t *slots, uint32_t n,
                    uint64_t set)
{
    for (uint32_t i = 0; i < n; i++)
        if (g->guests[slots[i]].set == set)
            return true;
    return false;
}

/* Combinations that say their labels are spread over the upper half: two that
 * share a place look more usual than they are, never less. */
static uint32_t place(uint64_t set)
{
    enum { HALF = TR_GUARD_SETS / 2 };

    if (set >= TR_SET_COMBINED)
        return HALF + (uint32_t)((set * UINT64_C(0x9e3779b97f4a7c15) >> 33) %
                                 (HALF - 1));
    return set < TR_GUARD_SETS - 1 ? (uint32_t)set : TR_GUARD_SETS - 1;
}

/* So many rows will hardly all have this answer of their own accord: if they
 * do, beside one canary that has it, it was an order. */
static bool stands_alone(const struct tr_guard *g, uint64_t set, uint32_t rows)
{
    double share = ((double)g->base[place(set)] + 1) / ((double)g->rows + 2);

    return pow(share, rows) < ALL_ALIKE;
}

/* Every answer of the pool is as likely as another, whatever the number of
 * canaries that have it; other: one that is not there yet; alone: one that
 * stands alone among so many rows, 0: any. -1: nobody. */
static int draw(const struct tr_guard *g, const uint8_t *slots, uint32_t n,
                bool other, uint32_t alone, struct tr_rng *rng)
{
    double weight[TR_GUEST_SLOTS] = {0}, sum = 0, at;
    int last = -1;

    for (int i = 0; i < TR_GUEST_SLOTS; i++) {
        const struct tr_guest *t = &g->guests[i];

        if (!may_join(g, t) || is_in(slots, n, i) ||
            (other && has_set(g, slots, n, t->set)) ||
            (alone && !stands_alone(g, t->set, alone)))
            continue;
        weight[i] = 1.0 / t->alike;
        sum += weight[i];
        last = i;
    }
    at = tr_rng_unit(rng) * sum;
    for (int i = 0; i < last; i++) {
        if (weight[i] > 0 && at < weight[i])
            return i;
        at -= weight[i];
    }
    return last;
}

uint32_t tr_guard_pick(struct tr_guard *g, uint32_t rows, uint32_t want,
                       uint32_t max, uint64_t seed, uint8_t *slots)
{
    struct tr_rng rng = {seed ^ 0x6775657374u};
    uint32_t n = 0, audits = 0, wide;
    bool sampled;

    if (max > TR_GUESTS_MAX)
        max = TR_GUESTS_MAX;
    if (want > max)
        want = max;
    g->sent += rows;
    wide = kinds_most(g) < max ? kinds_most(g) : max;
    sampled = !want && max && tr_rng_unit(&rng) < sample(g, rows);
    want += sampled;
    while (n < want && tr_guard_free(g) >= 2) {
        int slot = draw(g, slots, n, true, want == 1 && !sampled ? rows : 0,
                        &rng);

        if (slot < 0 && want == 1 && max >= 2) {
            want = 2;
            continue;
        }
        if (slot < 0 && n >= 2)
            slot = draw(g, slots, n, false, 0, &rng);
        if (slot < 0)
            break;
        slots[n++] = (uint8_t)slot;
        /* A hostile text that is taken for a canary would work in every pack
         * it is in: it is tried among canaries of all kinds. */
        if ((g->guests[slot].passed < TRIALS || g->guests[slot].doubted) &&
            wide > want)
            want = wide;
    }
    if (n == 1 && want > 1)
        n = 0; /* the other one of two is the point */
    for (int i = 0; n && i < TR_GUEST_SLOTS && audits < AUDITS_A_PACK &&
                    n < max; i++)
        if (g->guests[i].kind == TR_GUEST_AUDIT && !g->guests[i].in_flight) {
            slots[n++] = (uint8_t)i;
            audits++;
        }
    for (uint32_t i = 0; i < n; i++)
        g->guests[slots[i]].in_flight++;
    return n;
}

void tr_guard_leave(struct tr_guard *g, const uint8_t *slots, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct tr_guest *t = &g->guests[slots[i]];

        TR_ASSERT(t->in_flight);
        t->in_flight--;
        if (!t->in_flight && t->kind != TR_GUEST_CANARY)
            vacate(t);
    }
}

/* ---- judgement ------------------------------- */

static bool is_canary(const struct tr_guest *t)
{
    return t->kind == TR_GUEST_CANARY || t->kind == TR_GUEST_GONE;
}

static bool is_wrong(const struct tr_guest *t, const struct tr_guest_said *s)
{
    return is_canary(t) && (s->said == TR_SAID_NONSENSE ||
                            (s->said == TR_SAID_SET && s->set != t->set));
}

static bool all_alike(const uint64_t *sets_, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        if (sets_[i] != sets_[0])
            return false;
    return true;
}

/* The logarithm of a bound (Chernoff's) of the chance that c or more of n fall
 * where a share p does: never below the exact tail, so never a doubt too
 * many. */
static double tail(uint32_t n, uint32_t c, double p)
{
    double q = (double)c / n, kl;

    if (q <= p)
        return 0;
    kl = q * log(q / p);
    if (c < n)
        kl += (1 - q) * log((1 - q) / (1 - p));
    return -(double)n * kl;
}

static bool is_unlikely(const struct tr_guard *g, const uint64_t *sets_,
                        uint32_t n)
{
    double packs = (double)(g->counts.packs + g->counts.bare) + 1;
    double total = (double)g->rows + TR_GUARD_SETS;

    if (n < HISTOGRAM_ROWS || g->rows < HISTOGRAM_BASE ||
        g->histogram_false >= HISTOGRAM_FALSE)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = place(sets_[i]), c = 0;

        for (uint32_t k = 0; k < n; k++)
            c += place(sets_[k]) == at;
        /* n looks at most at one pack, packs of them in the run */
        if (tail(n, c, ((double)g->base[at] + 1) / total) <
            log(UNLIKELY) - log(packs) - log(n))
            return true;
    }
    return false;
}

enum tr_guard_verdict tr_guard_judge(const struct tr_guard *g,
                                     const uint8_t *slots,
                                     const struct tr_guest_said *said,
                                     uint32_t guests, const uint64_t *sets_,
                                     uint32_t rows, uint32_t pack)
{
    uint32_t n = 0, right = 0;
    uint64_t first = 0;
    bool two = false; /* right ones with different answers */

    for (uint32_t i = 0; i < guests; i++) {
        const struct tr_guest *t = &g->guests[slots[i]];

        if (!is_canary(t))
            continue;
        if (is_wrong(t, &said[i]))
            return TR_GUARD_WRONG;
        n++;
        if (said[i].said == TR_SAID_NOTHING)
            continue;
        two = two || (right && t->set != first);
        first = t->set;
        right++;
    }
    if (g->mode == TR_GUARD_STRICT && n && (right < n || !two))
        return TR_GUARD_SILENT;
    if (n && !right)
        return TR_GUARD_SILENT;
    /* One right canary refutes all constants but its own answer; in a sample
     * so few rows may well have that all. */
    if (n && !two && (n > 1 || pack >= g->from / 2) && rows &&
        sets_[0] == first && all_alike(sets_, rows))
        return TR_GUARD_SILENT;
    if ((!n || g->mode == TR_GUARD_STRICT) && is_unlikely(g, sets_, rows))
        return TR_GUARD_UNLIKELY;
    return TR_GUARD_FINE;
}

/* An audit came back. True: too many disagree. */
static bool audit(struct tr_guard *g, bool differs)
{
    g->counts.audits++;
    g->counts.differ += differs;
    g->drift += differs ? DRIFT_DIFFER : -DRIFT_AGREE;
    if (g->drift < 0)
        g->drift = 0;
    if (g->drift < DRIFT_ALARM)
        return false;
    g->drift = 0;
    return true;
}

/* A text that bewitches every pack it is in would be the one whose answer is
 * right in all of them. */
static void suspect(struct tr_guard *g, struct tr_guest *t)
{
    t->doubted++;
    if (t->kind == TR_GUEST_CANARY &&
        t->doubted >= (t->passed ? DOUBTED_OLD : DOUBTED_NEW))
        retire(g, t);
}

bool tr_guard_accept(struct tr_guard *g, const uint8_t *slots,
                     const struct tr_guest_said *said, uint32_t guests,
                     const uint64_t *sets_, uint32_t rows, uint32_t pack)
{
    bool vouched = false, drifts = false;

    for (uint32_t i = 0; i < guests; i++) {
        struct tr_guest *t = &g->guests[slots[i]];

        vouched = vouched || is_canary(t);
        if (said[i].said != TR_SAID_SET)
            continue;
        if (t->kind == TR_GUEST_AUDIT) {
            drifts = audit(g, said[i].set != t->set) || drifts;
        } else if (!rows) { /* it may be what silences all others */
            suspect(g, t);
        } else {
            t->passed++;
            t->doubted = 0;
        }
    }
    g->rows += rows;
    quieter(g, rows);
    for (uint32_t i = 0; i < rows; i++)
        g->base[place(sets_[i])]++;
    g->counts.packs += vouched;
    g->counts.bare += !vouched && pack > 1;
    if (drifts) {
        if (!g->pack_cap || pack < g->pack_cap)
            g->pack_cap = pack;
        g->pack_cap = g->pack_cap / 2 > PACK_LEAST ? g->pack_cap / 2
                                                   : PACK_LEAST;
    }
    return drifts;
}

/* ---- doubt ------------------------------- */

static struct tr_doubt *find(struct tr_guard *g, uint16_t id)
{
    struct tr_doubt *d = &g->doubts[id % TR_DOUBTS];

    return id && d->id == id ? d : NULL;
}

static void close_doubt(struct tr_guard *g, struct tr_doubt *d)
{
    for (uint32_t i = 0; d->id && i < d->wrong; i++) {
        struct tr_guest *t = &g->guests[d->slot[i]];

        if (t->number == d->number[i])
            t->open--;
    }
    d->id = 0;
}

/* A pack of so many rows was steered: half of the quiet goes, but not so much
 * that packs would be less than half of this one. Many like it may be under
 * way, and all say the same. */
static int64_t alarm(struct tr_guard *g, uint32_t fresh)
{
    int64_t least = (int64_t)fresh * fresh / 4, took = (g->quiet + 1) / 2;

    if (least > TR_GUARD_QUIET / 2)
        least = TR_GUARD_QUIET / 2;
    if (took > g->quiet - least)
        took = g->quiet - least;
    if (took < 0)
        return 0;
    g->quiet -= took;
    return took;
}

uint16_t tr_guard_doubt(struct tr_guard *g, enum tr_guard_verdict verdict,
                        const uint8_t *slots, const struct tr_guest_said *said,
                        uint32_t guests, uint32_t rows, uint32_t fresh)
{
    struct tr_doubt *d;

    g->counts.doubts++;
    if (!++g->doubt_last)
        g->doubt_last = 1;
    d = &g->doubts[g->doubt_last % TR_DOUBTS];
    close_doubt(g, d); /* an old one that never ended */
    *d = (struct tr_doubt){.id = g->doubt_last, .rows = rows, .left = rows,
                           .histogram = verdict == TR_GUARD_UNLIKELY};
    if (fresh && !d->histogram) /* odd labels alone may be a sorted file */
        d->took = alarm(g, fresh);
    for (uint32_t i = 0; i < guests; i++) {
        struct tr_guest *t = &g->guests[slots[i]];

        if (!is_canary(t))
            continue;
        if (is_wrong(t, &said[i])) {
            t->open++;
            t->doubted = 0; /* a victim */
            d->slot[d->wrong] = slots[i];
            d->number[d->wrong++] = t->number;
        } else if (said[i].said == TR_SAID_SET) {
            suspect(g, t);
        }
    }
    if (!rows) /* nobody can tell */
        close_doubt(g, d);
    return d->id;
}

static int64_t judged(const struct tr_guard *g)
{
    return g->counts.packs + g->counts.bare + g->counts.doubts;
}

/* A canary has the same other answer in one pack after the other. */
static void has_moved(struct tr_guard *g, uint64_t other)
{
    for (int i = TR_MOVED - 1; i > 0; i--)
        g->moved[i] = g->moved[i - 1];
    g->moved[0].at = judged(g);
    g->moved[0].other = other;
}

/* No row was steered lately, and so many were in the pack that one would have
 * been. */
static bool is_calm(const struct tr_guard *g, const struct tr_doubt *d)
{
    return d->rows >= g->from / 2 &&
           (!g->steered_at || judged(g) - g->steered_at > MOVED_PACKS);
}

static void end(struct tr_guard *g, struct tr_doubt *d)
{
    if (d->changed) {
        g->steered_at = judged(g);
    } else {
        quieter(g, d->took);
        g->counts.false_doubts++;
        g->histogram_false += d->histogram;
    }
    for (uint32_t i = 0; !d->changed && i < d->wrong; i++) {
        struct tr_guest *t = &g->guests[d->slot[i]];

        if (t->number != d->number[i] || t->kind != TR_GUEST_CANARY)
            continue;
        if (t->passed >= MOVED_PASSED && t->in_row && t->in_row < MOVED_ROW &&
            is_calm(g, d))
            has_moved(g, t->other);
        retire(g, t);
    }
    close_doubt(g, d);
}

void tr_guard_reask(struct tr_guard *g, uint16_t doubt, bool changed)
{
    struct tr_doubt *d = find(g, doubt);

    g->counts.corrected += changed;
    if (!d)
        return;
    d->changed = d->changed || changed;
    if (--d->left == 0)
        end(g, d);
}

void tr_guard_again(struct tr_guard *g, uint16_t doubt)
{
    struct tr_doubt *d = find(g, doubt);

    if (!d)
        return;
    d->changed = true;
    if (--d->left == 0)
        end(g, d);
}

/* ---- another model ------------------------------- */

/* Else the new one may be to blame for what others say. */
static bool all_tried(const struct tr_guard *g, const uint8_t *slots,
                      uint32_t guests)
{
    for (uint32_t i = 0; i < guests; i++)
        if (is_canary(&g->guests[slots[i]]) &&
            g->guests[slots[i]].passed < TRIALS)
            return false;
    return true;
}

bool tr_guard_moved(struct tr_guard *g, const uint8_t *slots,
                    const struct tr_guest_said *said, uint32_t guests,
                    const uint64_t *sets_, uint32_t rows)
{
    const struct tr_canary_move *last = &g->moved[TR_MOVED - 1];
    bool two = false, tried = all_tried(g, slots, guests);

    for (uint32_t i = 0; i < guests && tried; i++) {
        struct tr_guest *t = &g->guests[slots[i]];

        if (!is_canary(t) || said[i].said == TR_SAID_NOTHING)
            continue;
        if (!is_wrong(t, &said[i]) || said[i].said != TR_SAID_SET) {
            t->in_row = 0;
            continue;
        }
        /* All rows say it, too: that is an order more likely. */
        if (!rows || (sets_[0] == said[i].set && all_alike(sets_, rows)))
            continue;
        t->in_row = said[i].set == t->other ? t->in_row + 1 : 1;
        t->other = said[i].set;
        if (t->in_row == MOVED_ROW && t->passed >= MOVED_PASSED)
            has_moved(g, t->other);
    }
    for (int i = 1; i < TR_MOVED; i++)
        two = two || g->moved[i].other != g->moved[0].other;
    return two && last->at && judged(g) - last->at <= MOVED_PACKS;
}

/* ---- figures ------------------------------- */

void tr_guard_interval(int64_t n, int64_t differ, double *low, double *high)
{
    const double z = 1.96;
    double p, m, s;

    *low = 0;
    *high = 1;
    if (n <= 0)
        return;
    p = (double)differ / (double)n;
    m = p + z * z / (2 * (double)n);
    s = z * sqrt(p * (1 - p) / (double)n +
                 z * z / (4 * (double)n * (double)n));
    *low = (m - s) / (1 + z * z / (double)n);
    *high = (m + s) / (1 + z * z / (double)n);
    if (*low < 0 || !differ)
        *low = 0;
    if (*high > 1 || differ == n)
        *high = 1;
}

void tr_guard_sum(struct tr_guard_counts *sum, const struct tr_guard_counts *c)
{
    sum->packs += c->packs;
    sum->bare += c->bare;
    sum->doubts += c->doubts;
    sum->false_doubts += c->false_doubts;
    sum->corrected += c->corrected;
    sum->isolated += c->isolated;
    sum->scouts += c->scouts;
    sum->retired += c->retired;
    sum->audits += c->audits;
    sum->differ += c->differ;
    sum->tokens += c->tokens;
}
