/* guard.h - rows that steer their neighbours: known answers in packs, and what
 * follows when they come back wrong. Pure.
 *
 * A guest is an item of a pack that is no row. A canary's answer is known: it
 * is an example of the task, or a text that was answered alone, where no other
 * row could have a say. An audit was answered in another pack before. Why each
 * number is what it is: docs/internals/hostile-rows.md.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_GUARD_H
#define TR_PLAN_GUARD_H

#include "base/rng.h"
#include "nouns.h"

enum tr_guard_mode { TR_GUARD_OFF, TR_GUARD_ON, TR_GUARD_STRICT };

enum {
    TR_GUARD_PACK = 16,    /* rows from which a pack gets two canaries; from
                              half of it one; below that one in some: samples */
    TR_GUARD_ALONE = 16,   /* rows of a doubted pack, so few go alone at once */
    TR_GUARD_QUIET = 4096, /* rows without an attack that end an alarm */
    TR_GUESTS_MAX = 18,    /* of one pack */
    TR_CANARIES_MAX = 24,
    TR_GUEST_SLOTS = 64,   /* canaries, audits, and retired ones under way */
    TR_GUEST_BYTES = 2048, /* a longer text is neither */
    TR_GUARD_SETS = 256,   /* label sets counted apart; the last: all others.
                              Combinations share the upper half */
    TR_DOUBTS = 64,        /* doubted packs remembered */
    TR_MOVED = 3           /* canaries that are answered otherwise for good, and
                              another model answers */
};

enum tr_guest_kind {
    TR_GUEST_FREE,
    TR_GUEST_CANARY,
    TR_GUEST_AUDIT,
    TR_GUEST_GONE /* retired, but a pack with it is under way */
};

struct tr_guest {
    enum tr_guest_kind kind;
    char *text;         /* owned */
    uint32_t n;         /* bytes */
    uint64_t set;       /* its answer */
    uint32_t trust;     /* packs it may be in before it has passed in any */
    uint32_t in_flight; /* packs it is in */
    uint32_t passed;    /* packs that came back with the right answer */
    uint32_t doubted;   /* since then: it was right, and they were doubted */
    uint32_t open;      /* of those: it was wrong, and nobody knows yet why */
    uint64_t other;     /* what it was answered instead, */
    uint32_t in_row;    /* so many times in a row */
    uint32_t number;    /* of the slot's tenant: slots are used again */
    uint32_t alike;     /* canaries with the same answer, itself included */
};

/* A doubted pack, until all of its rows were asked again. */
struct tr_doubt {
    uint16_t id;        /* 0: free */
    bool changed;       /* a row has another label now: the doubt was right */
    bool histogram;
    int64_t took;       /* of the quiet; given back if it was in vain */
    uint32_t rows, left; /* in it; not answered again yet */
    uint32_t wrong;     /* canaries that were wrong, and who they were: */
    uint8_t slot[TR_GUESTS_MAX];
    uint32_t number[TR_GUESTS_MAX];
};

struct tr_guard_counts {
    int64_t packs;     /* accepted that canaries vouch for */
    int64_t bare;      /* accepted with several texts, without canaries */
    int64_t doubts;    /* packs not accepted */
    int64_t false_doubts; /* of those: nothing changed when asked again */
    int64_t corrected; /* rows that have another label since */
    int64_t isolated;  /* rows asked alone because of their looks */
    int64_t scouts;    /* rows asked alone to find canaries */
    int64_t retired;   /* canaries */
    int64_t audits, differ; /* answered again elsewhere; of those: otherwise */
    int64_t tokens;    /* for guests, about, in and out */
};

struct tr_guard {
    enum tr_guard_mode mode;
    bool unlimited;     /* canaries may be everywhere at once */
    bool strangers;     /* no row may be seen in a request of others: canaries
                           are examples, and there are no audits */
    uint32_t from;      /* TR_GUARD_PACK, or as the simulator says */
    uint32_t pack_cap;  /* the audits' wish: rows in a pack; 0: none */
    uint32_t pool, kinds; /* canaries; different answers among them */
    uint32_t scouting;  /* rows under way that may become canaries */
    int64_t sent;       /* rows that left in packs, attempts all counted */
    int64_t rows;       /* accepted */
    int64_t quiet;      /* rows accepted; a pack that was steered takes half.
                           TR_GUARD_QUIET at most: then there is no alarm */
    struct tr_guest guests[TR_GUEST_SLOTS];
    int64_t base[TR_GUARD_SETS];
    struct tr_doubt doubts[TR_DOUBTS];
    uint16_t doubt_last;
    uint32_t number_last;
    uint32_t histogram_false; /* after three the test is off */
    double drift;       /* of the sequential test on audits */
    int64_t steered_at; /* packs judged when a doubt was last right; 0: never */
    struct tr_canary_move {
        int64_t at;     /* packs judged by then */
        uint64_t other; /* its answer now */
    } moved[TR_MOVED];  /* the last ones */
    struct tr_guard_counts counts;
};

void tr_guard_init(struct tr_guard *g, enum tr_guard_mode mode, uint32_t from);
void tr_guard_release(struct tr_guard *g);

/* ---- the pool ------------------------------- */

/* text was answered alone; trusted: it is an example, or an answer is lacking.
 * Copied; false: not wanted, or no memory. */
bool tr_guard_admit(struct tr_guard *g, struct tr_str text, uint64_t set,
                    bool trusted);
/* An alarm is on, no canary has this answer, and one is as long as text: a row
 * of a doubted pack that was answered alone may be one then. */
bool tr_guard_lacks(const struct tr_guard *g, struct tr_str text, uint64_t set);
/* A row of an accepted pack; kept when the coin (0..1) falls so. */
void tr_guard_audit(struct tr_guard *g, struct tr_str text, uint64_t set,
                    double coin);
/* One of the rows that wait should be asked alone, to become a canary. */
bool tr_guard_wants_scout(const struct tr_guard *g, int64_t waiting);
/* Different answers among the canaries that are free for a pack: fewer than two
 * make none. */
uint32_t tr_guard_free(const struct tr_guard *g);
/* More of them are worth waiting for, for a pack that wants so many. */
bool tr_guard_is_short(const struct tr_guard *g, uint32_t want);
/* Of so many rows that wait, how many will be asked alone for it. */
int64_t tr_guard_scouts(const struct tr_guard *g, int64_t rows);
/* Guests that are drawn by chance for a pack of so many rows, in thousandths:
 * audits, and samples of small packs. */
int64_t tr_guard_chance_permille(const struct tr_guard *g, uint32_t rows);
/* There will be, when packs under way come back. */
bool tr_guard_will_be(const struct tr_guard *g);

/* ---- a pack ------------------------------- */

/* Packs were steered not long ago: others will be. */
bool tr_guard_alarmed(const struct tr_guard *g);
/* Rows a pack may have now, as far as the guard minds; 0: any number. */
uint32_t tr_guard_pack_most(const struct tr_guard *g);
/* How many canaries a pack of so many rows should have; watched, or alarmed:
 * whatever its size, and of many kinds. 0: none, or one as a sample. */
uint32_t tr_guard_want(const struct tr_guard *g, uint32_t rows, bool watched);
/* The same when a run has begun and nothing has happened, */
uint32_t tr_guard_usual(const struct tr_guard *g, uint32_t rows);
/* and how many more, at most, the first of so many rows have in packs of that
 * size. */
int64_t tr_guard_first(const struct tr_guard *g, uint32_t pack, int64_t rows);
/* Fills slots with at most max guests for a pack of so many rows: want canaries
 * with as many different answers as there are, at least two, or none; if no
 * more is wanted, one whose answer the rows will hardly all have; if none is,
 * any one now and then; and audits.
 * They are under way until leave(). */
uint32_t tr_guard_pick(struct tr_guard *g, uint32_t rows, uint32_t want,
                       uint32_t max, uint64_t seed, uint8_t *slots);
void tr_guard_leave(struct tr_guard *g, const uint8_t *slots, uint32_t n);

/* What came back for a guest. */
enum tr_said { TR_SAID_NOTHING, TR_SAID_NONSENSE, TR_SAID_SET };
struct tr_guest_said {
    enum tr_said said;
    uint64_t set;
};

enum tr_guard_verdict {
    TR_GUARD_FINE,
    TR_GUARD_WRONG,     /* a canary has another answer */
    TR_GUARD_SILENT,    /* canaries without an answer: nothing is proved */
    TR_GUARD_UNLIKELY   /* no canary, and labels far from the usual */
};

/* sets: of the rows that were answered. pack: rows in it. */
enum tr_guard_verdict tr_guard_judge(const struct tr_guard *g,
                                     const uint8_t *slots,
                                     const struct tr_guest_said *said,
                                     uint32_t guests, const uint64_t *sets,
                                     uint32_t rows, uint32_t pack);
/* The pack counts. True: the audits say that packs are too large; pack_cap
 * was lowered. pack: rows in it. */
bool tr_guard_accept(struct tr_guard *g, const uint8_t *slots,
                     const struct tr_guest_said *said, uint32_t guests,
                     const uint64_t *sets, uint32_t rows, uint32_t pack);
/* The pack does not; rows: that had an answer and are asked again; fresh: rows
 * in it, 0 if some were doubted before. Names the doubt, for
 * tr_guard_reask(). */
uint16_t tr_guard_doubt(struct tr_guard *g, enum tr_guard_verdict verdict,
                        const uint8_t *slots, const struct tr_guest_said *said,
                        uint32_t guests, uint32_t rows, uint32_t fresh);
/* A row of a doubted pack was asked again and has, or has not, changed. */
void tr_guard_reask(struct tr_guard *g, uint16_t doubt, bool changed);
/* It was doubted again: the first doubt was not for nothing. */
void tr_guard_again(struct tr_guard *g, uint16_t doubt);

/* Of each pack that was judged. True: canaries are answered otherwise than
 * before, each in one pack after the other and always alike, but not all with
 * one label. That is no row's doing, it is another model. */
bool tr_guard_moved(struct tr_guard *g, const uint8_t *slots,
                    const struct tr_guest_said *said, uint32_t guests,
                    const uint64_t *sets, uint32_t rows);

/* Of n audits differ disagreed: 95 % interval of the share, by Wilson. */
void tr_guard_interval(int64_t n, int64_t differ, double *low, double *high);
void tr_guard_sum(struct tr_guard_counts *sum, const struct tr_guard_counts *c);

#endif
