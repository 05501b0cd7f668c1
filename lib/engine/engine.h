/* engine.h - the state of a run, shared by the files of the five verbs.
 *
 *   engine.c   small words that all of them use
 *   lanes.c    what a lane needs: opened, remembered from run to run
 *   moves.c    how rows wait, are answered and settle; packs made and gone
 *   purse.c    budgets: reserved together, claimed from the job's ledger
 *   chain.c    which lane takes a row; how lanes close, and rows go on
 *   guests.c   items that are no rows: canaries and audits
 *   preview.c  a run that only plans: what it would ask and cost
 *   fill.c     read rows, look them up, join equal ones
 *   packs.c    plan: form packs, build requests, reserve money
 *   commit.c   commit, then act: send what is committed, write what is
 *   receive.c  take replies, check answers, settle money, learn
 *   adopt.c    batches of earlier runs, and their rows
 *   wind.c     every way a run ends
 *   run.c      the step that joins them, opening and closing
 *
 * Each calls only those above it (tools/check-layers). Nobody else in lib/
 * includes this file.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_ENGINE_H
#define TR_ENGINE_H

#include "base/clock.h"
#include "base/keymap.h"
#include "base/mem.h"
#include "base/rng.h"
#include "plan/cache.h"
#include "plan/distinct.h"
#include "plan/guard.h"
#include "plan/health.h"
#include "plan/pack.h"
#include "plan/retry.h"
#include "run.h"
#include "task/answer.h"
#include "task/prompt.h"
#include "engine/window.h"

enum {
    TR_PACKS_MAX = 8192, /* packs alive: planned, waiting to go again, sent */
    TR_PACKS_ONLINE = 2048, /* the same without batches */
    TR_SLOTS_MAX = 1 << 20, /* places of packs, adopted ones on top */
    TR_SPARE_BODIES = 64
};
#define TR_REDO_AGE (2 * TR_S) /* an invalid item waits this long for company */

/* A pack's way:  ASIDE -> PLANNED -> READY -> SENT -> gone, or back to ASIDE.
 * PLANNED: the request is built and its money reserved; READY: its intent is
 * durable. */
enum tr_pack_state { TR_PACK_ASIDE, TR_PACK_PLANNED, TR_PACK_READY, TR_PACK_SENT };

/* Where a row belongs that an adopted pack asks about. */
struct tr_seat {
    struct tr_key key;
    struct tr_pack *pack;
};

struct tr_pack {
    enum tr_pack_state state;
    uint32_t n;                /* rows */
    uint32_t slot;             /* own index in run->packs */
    struct tr_row **rows;      /* n, in the order of the queue; of an adopted
                                  pack NULL until the row is read */
    struct tr_item *items;     /* n and the guests, in the order sent */
    uint16_t *order;           /* item i is rows[order[i]], or from n on the
                                  guest order[i] - n */
    uint8_t guests[TR_GUESTS_MAX]; /* places in lane->guard */
    uint32_t guest_count;
    size_t guest_bytes;        /* of content_bytes */
    bool scout;                /* one row that may become a canary */
    struct tr_str *texts;      /* local lanes */
    struct tr_run_lane *lane;  /* who is asked */
    bool probe;                /* of a lane that is closed: one row */
    uint64_t attempt, seed;    /* seed: of ids and order */
    int64_t bound;             /* money reserved */
    int64_t token_bound;       /* tokens reserved: in and out */
    int64_t tokens;            /* estimate, for pace */
    int64_t cap;               /* output cap sent */
    int64_t reasoning;         /* the lane's allowance for it then */
    size_t content_bytes;      /* system, user and schema */
    enum tr_form form;
    struct tr_buf body;
    struct tr_seat *seats;     /* n, of an adopted pack: adopt.c; owned */
    uint32_t seated;
    bool of_other;             /* another job or round pays for it */
    int64_t sent_at, due_at;
    uint32_t tries;            /* attempts without success, for back-off */
    uint32_t lane_tries;       /* of those, charged to the lane */
    uint32_t learns;           /* of those, by which the lane learned */
    int64_t lane_tries_since;  /* run->successes when the first happened */
    struct tr_pack *next;         /* queue link */
};

struct tr_queue {
    struct tr_pack *head, *tail;
    uint32_t n;
};

struct tr_rows {
    struct tr_row *head, *tail;
    uint32_t n;
};

/* What a lane would be asked: the packs of a dry run so far. */
struct tr_foreseen {
    struct tr_forecast forecast;
    int64_t bound_nano;         /* costs at most; -1: no prices */
    /* what canaries and audits will add that are not known yet */
    int64_t guest_bytes, guest_bound_nano;
};

/* One lane of the run and all that belongs to it alone: what waits for it, what
 * it is doing, what it has shown of itself. */
struct tr_run_lane {
    struct tr_lane *lane;
    uint32_t place;             /* in run->lanes */
    struct tr_health health;
    char refusal[1000];         /* the sentence it closed with, or "" */
    struct tr_key salt;         /* model and effort, part of every key */
    size_t text_max;            /* --truncate: bytes a text is cut to */

    /* WAITING rows whose first lane this is: never asked by it; to be asked
     * again. Whoever is open first from here on takes them (chain.c). */
    struct tr_rows fresh, redo;
    struct tr_queue aside;      /* packs to go again, by due_at */
    struct tr_queue planned, ready, sent;

    struct tr_buf system, schema; /* stable parts of the prompt, per form */
    struct tr_question question;  /* what lanes that decide get instead */
    size_t question_bytes;        /* of all questions about one text, about */
    enum tr_form form_built;
    bool form_ready;
    struct tr_form_choice form;
    struct tr_meter meter;
    struct tr_pace pace;
    struct tr_fair fair;        /* its part of the key's limits, ... */
    int64_t meet_at;            /* ... looked at again then */
    struct tr_retry_budget retries;
    struct tr_guard guard;
    int64_t scout_at;           /* when the last scout was sent out */
    int64_t sends_since_commit, sends_last;
    int64_t wait_since;         /* only limits keep it back since; 0: no */

    uint16_t origin;            /* of the last served model */
    char origin_served[96];
    bool origin_known;
    bool renamed, moved;        /* it was told that another model answers: it
                                   is called so, or canaries say it */
    bool fitted, fitting;       /* to a sample; a part of that is done */
    bool fit_short;             /* the sample is what a stream had by then */
    int64_t fit_at;             /* no more rows are waited for then; 0: no */
    struct tr_cache_plan cache; /* of the provider's prompt cache */
    char cache_key[33];         /* of task and model */
    bool cache_known;
    bool warming;               /* one request is out, the others wait for it */

    uint32_t refused_in_row;    /* for the pace, since the last answer */
    int64_t successes, bad_requests;
    bool taken;        /* a request was taken as it was: answered, or blocked
                          for what its texts say */
    struct tr_lane_counts counts;
    struct tr_foreseen foreseen; /* dry run */
};

struct tr_run {
    const struct tr_env *env;
    struct tr_run_opts opts;
    struct tr_task *task;
    struct tr_store *store;
    struct tr_run_lane lanes[TR_LANES_MAX]; /* the first is asked first */
    uint32_t lane_count;

    struct tr_window window;
    struct tr_keymap open_keys; /* tr_run_equal_key() -> first unsettled row
                                   with it */
    struct tr_store_find find;
    bool input_ended, input_waits, new_block;
    bool window_full;           /* no room for the next row */

    struct tr_keymap seats;     /* key -> struct tr_seat still free; dry run:
                                   keys of rows in batches */
    uint32_t unseated;          /* adopted packs none of whose rows was read */
    struct tr_store_put *absent; /* answers to rows that are not here */
    size_t absent_count, absent_cap;

    struct tr_pack **packs;     /* by slot: own_slots, then one for each that
                                   was adopted, which nobody takes again */
    size_t pack_cap;
    uint32_t own_slots, slot_count;
    uint32_t free_slots[TR_PACKS_MAX], free_slot_count;
    size_t body_bytes;          /* of all packs alive */
    struct tr_buf spare[TR_SPARE_BODIES]; /* of packs gone, for the next */
    uint32_t spare_count;
    struct tr_buf user;         /* the part of a prompt that build() adds */

    struct tr_flush flush;
    struct tr_money money;
    struct tr_money tokens, asks; /* the same in tokens and in requests */
    int64_t elsewhere[TR_PURSES]; /* held by other stores of the job */
    int64_t unheard[TR_PURSES]; /* reserved by batches not adopted yet */
    int64_t unasked[TR_PURSES]; /* unknown, of batches that are under way */
    int64_t round, day;         /* of the store's sums; of the budget */
    int64_t day_seen;           /* by the ledger: a clock may have been ahead */
    struct tr_rng rng;

    /* what the next commit makes durable */
    struct tr_rows answered;    /* verdict known, in memory only */
    struct tr_rows saved;       /* in the file, not synced yet */
    int64_t saved_at;           /* when the last save was */
    struct tr_store_put *puts;
    size_t put_cap;
    struct tr_store_put *passed; /* failures of lanes that rows went past */
    size_t passed_count, passed_cap;
    struct tr_store_intent *intents;
    size_t intent_cap;
    struct tr_key *keys;        /* of intents that go by batch */
    size_t key_cap;
    struct tr_store_outcome *outs;
    size_t out_count, out_cap;

    bool bound_said;            /* what the run may cost was shown */
    bool output_broken;         /* nothing more is written */
    bool store_failed;          /* what is paid for goes to its rescue file */
    bool money_waits;           /* no room for the next bound until a reply */

    int64_t last_served_at;     /* a provider did what it was asked, or said
                                   what is wrong with the request */
    int64_t trouble_since;      /* first failure after that; 0: none */
    bool trouble_again;         /* what was sent after it has failed as well */
    int64_t batch_failed_at;    /* last request that came back from a batch with
                                   a failure, after longer than --max-wait */
    int64_t trouble_told_at;    /* 0: never */
    int64_t opened_at;
    int64_t run_at;             /* Unix s */
    int64_t origins_since;      /* what this run is told must not look as if
                                   it had been said before; Unix s */
    int64_t now;                /* monotonic ns, as of the last tick */
    char last_trouble[320];
    bool trouble_ours;          /* it was this machine's */
    const struct tr_run_lane *trouble_lane; /* whose it was */

    int stopping;               /* 0 no, 1 nothing leaves, 2 at once */
    bool told;                  /* to stop, once */
    int64_t stop_at;
    int exit_code;
    char sentence[1200];
    bool ended;

    struct tr_counts counts;
    int64_t *label_counts;
    struct tr_preview preview;  /* dry run: forecast and bound so far */
    struct tr_distinct seen;    /* dry run: texts of the whole input */
    struct tr_buf preview_body;
};

/* Over the lanes of a run, first to last. */
#define TR_EACH_LANE(run, l)                                                   \
    for (struct tr_run_lane *l = (run)->lanes;                                 \
         l < (run)->lanes + (run)->lane_count; l++)

/* ---- lists of rows and packs ------------------------------------------ */

/* Row of the item at place i, NULL: a guest, or not read yet. */
static inline struct tr_row *tr_pack_row(const struct tr_pack *p, uint32_t i)
{
    return p->order[i] < p->n ? p->rows[p->order[i]] : NULL;
}

static inline uint32_t tr_pack_items(const struct tr_pack *p)
{
    return p->n + p->guest_count;
}

/* What a lane calls a request: attempt and slot. */
static inline uint64_t tr_pack_tag(const struct tr_pack *p)
{
    return p->attempt * TR_SLOTS_MAX + p->slot;
}

static inline void tr_rows_add(struct tr_rows *q, struct tr_row *row)
{
    row->next = NULL;
    if (q->tail)
        q->tail->next = row;
    else
        q->head = row;
    q->tail = row;
    q->n++;
}

static inline struct tr_row *tr_rows_take(struct tr_rows *q)
{
    struct tr_row *row = q->head;

    q->head = row->next;
    if (!q->head)
        q->tail = NULL;
    q->n--;
    row->next = NULL;
    return row;
}

/* Rows go back to where they came from, in front: they are the oldest. */
static inline void tr_rows_push(struct tr_rows *q, struct tr_row *row)
{
    row->next = q->head;
    q->head = row;
    if (!q->tail)
        q->tail = row;
    q->n++;
}

static inline void tr_queue_add(struct tr_queue *q, struct tr_pack *p)
{
    p->next = NULL;
    if (q->tail)
        q->tail->next = p;
    else
        q->head = p;
    q->tail = p;
    q->n++;
}

static inline void tr_queue_add_due(struct tr_queue *q, struct tr_pack *p)
{
    struct tr_pack **at = &q->head;

    while (*at && (*at)->due_at <= p->due_at)
        at = &(*at)->next;
    p->next = *at;
    *at = p;
    if (!p->next)
        q->tail = p;
    q->n++;
}

static inline struct tr_pack *tr_queue_take(struct tr_queue *q)
{
    struct tr_pack *p = q->head;

    if (!p)
        return NULL;
    q->head = p->next;
    if (!q->head)
        q->tail = NULL;
    q->n--;
    p->next = NULL;
    return p;
}

static inline void tr_queue_reverse(struct tr_queue *q)
{
    struct tr_pack *rest = q->head;

    *q = (struct tr_queue){0};
    while (rest) {
        struct tr_pack *p = rest;

        rest = p->next;
        p->next = q->head;
        q->head = p;
        if (!q->tail)
            q->tail = p;
        q->n++;
    }
}

static inline void tr_queue_remove(struct tr_queue *q, struct tr_pack *p)
{
    struct tr_pack **at = &q->head, *before = NULL;

    while (*at != p) {
        before = *at;
        at = &before->next;
    }
    *at = p->next;
    if (q->tail == p)
        q->tail = before;
    q->n--;
    p->next = NULL;
}

/* ---- engine.c: small words -------------------------------------------- */

/* Asks the time anew: at the start of a step and after what takes long. */
int64_t tr_run_tick(struct tr_run *run);
void tr_run_say(const struct tr_run *run, int level, const char *line);
/* wait_s: until a quota is back, -1: nobody knows. */
void tr_run_event(const struct tr_run *run, enum tr_event_kind kind,
                  const struct tr_lane *lane, int64_t wait_s);
/* An attempt has ended; lane is whose it was. */
void tr_run_ended(const struct tr_run *run, const struct tr_lane *lane,
                  const struct tr_pack *p, const struct tr_reply *reply);
/* "HTTP 401 from ", or nothing where no status came, as from a server whose
 * certificate is not trusted. */
enum { TR_STATUS_TEXT = 24 };
const char *tr_run_status_text(const struct tr_reply *reply,
                               char out[TR_STATUS_TEXT]);
/* tr_kept_words() of this run. */
const char *tr_run_kept(const struct tr_run *run);
/* Makes room for need elements of size bytes in *array. */
int tr_run_grow(void **array, size_t *cap, size_t need, size_t size,
                struct tr_err *err);

/* Nothing more leaves; what is in flight is awaited. The first reason wins. */
void tr_run_stop_with(struct tr_run *run, int exit_code, const char *sentence);

/* What all lanes hold together. */
struct tr_run_load {
    uint32_t waiting;                     /* rows */
    uint32_t aside, planned, ready, sent; /* packs */
};
struct tr_run_load tr_run_load(const struct tr_run *run);

/* ---- lanes.c ---------------------------------------------------------- */

int tr_run_lane_open(struct tr_run *run, struct tr_lane *lane,
                     struct tr_err *err);
void tr_run_lane_close(struct tr_run_lane *l);
/* What lanes learned in earlier runs, and for later ones. */
int tr_run_recall(struct tr_run *run, struct tr_err *err);
int tr_run_remember(struct tr_run *run, struct tr_err *err);
/* Several processes may use the same keys: which part is ours? */
void tr_run_meet_peers(struct tr_run *run, int64_t *wake);
/* The part of the prompt that all packs of a lane share, for a form. */
int tr_run_stable_parts(struct tr_run *run, struct tr_run_lane *l,
                        enum tr_form form, struct tr_err *err);
/* Output tokens that n items may need, without reasoning: 0 where the lane
 * decides. */
int64_t tr_run_cap(const struct tr_run *run, const struct tr_run_lane *l,
                   enum tr_form form, uint32_t n);
/* Once, when the first rows are there: whether the provider's cache pays. */
void tr_run_plan_cache(struct tr_run *run, struct tr_run_lane *l);
/* Who said a verdict, as the store numbers it. */
int tr_run_origin(struct tr_run *run, struct tr_run_lane *l,
                  const char *served, uint16_t *origin, struct tr_err *err);
/* Every lane has its number, or can have one when it is needed. */
int tr_run_number_lanes(struct tr_run *run, struct tr_err *err);

/* ---- moves.c: a row to a lane ----------------------------------------- */

/* The text of a row as this lane gets it: cut under --truncate. */
struct tr_str tr_run_text(const struct tr_run_lane *l,
                          const struct tr_row *row);
/* Under which a verdict of this lane on the row is stored: its text and, where
 * rows are kept apart, whose it is. */
struct tr_key tr_run_key(const struct tr_run_lane *l, const struct tr_row *row);
/* Rows with the same one are equal for every lane: by the text as the one gets
 * it that cuts least. */
struct tr_key tr_run_equal_key(const struct tr_run *run,
                               const struct tr_row *row);

/* ---- rows move (moves.c) ---------------------------------------------- */

/* A row begins to wait at its lane: among others, or apart by its looks. */
void tr_run_wait(struct tr_run *run, struct tr_row *row);
/* Asked again later, in a pack of at most company rows. */
void tr_run_wait_again(struct tr_run *run, struct tr_run_lane *l,
                       struct tr_row *row, uint16_t company);
/* A verdict is known; it shows after the next commit. */
void tr_run_answer(struct tr_run *run, struct tr_row *row,
                   struct tr_verdict verdict);
/* A row that nobody is asked about. */
void tr_run_settle_row(struct tr_run *run, struct tr_row *row);
/* The row and all equal ones got their verdict and it is durable. */
void tr_run_settle_all(struct tr_run *run, struct tr_row *row);

/* ---- packs move (moves.c) --------------------------------------------- */

/* NULL: *err says why. */
struct tr_pack *tr_pack_new(struct tr_run *run, struct tr_run_lane *l,
                            uint32_t n, struct tr_err *err);
/* One that an earlier run has sent: it takes no slot from those to come. */
struct tr_pack *tr_pack_adopted(struct tr_run *run, struct tr_run_lane *l,
                                uint32_t n, struct tr_err *err);
void tr_pack_free(struct tr_run *run, struct tr_pack *p);
/* Its rows wait as if this lane had never been asked; the pack goes. */
void tr_run_give_back(struct tr_run *run, struct tr_pack *p);
/* True: the answer of a row is under way in a batch of an earlier run, and it
 * sits in its pack now. */
bool tr_run_seat(struct tr_run *run, struct tr_row *row);

/* ---- purse.c ---------------------------------------------------------- */

/* What earlier runs of the job have used, and which part of the budget is
 * ours. */
int tr_run_purse_open(struct tr_run *run, const struct tr_job *job,
                      struct tr_err *err);
/* A new day, if the budget is by the day. */
int tr_run_purse_tick(struct tr_run *run, struct tr_err *err);
/* A pack of a batch of this job goes on with what is reserved for it; then,
 * batches that this run does not ask about: charged until they are heard. */
void tr_run_purse_adopt(struct tr_run *run, const struct tr_pack *p);
void tr_run_purse_unheard(struct tr_run *run);
/* What is not used goes back to the job; before the store's job is finished. */
int tr_run_purse_close(struct tr_run *run, bool finished, struct tr_err *err);
/* Money, tokens and a request for p, or none of them: then p is put aside, and
 * the run stops when no reply can give anything back. Not waits: it is a probe
 * that nobody needs now, and is made again later. */
int tr_run_reserve(struct tr_run *run, struct tr_pack *p, bool waits,
                   bool *reserved, struct tr_err *err);
void tr_run_unreserve(struct tr_run *run, const struct tr_pack *p);
/* Intents of packs that never left are taken back: they cost nothing. */
int tr_run_unplan(struct tr_run *run, struct tr_queue *q, bool had_intent,
                  struct tr_err *err);
/* What became of the reservation; fills the money's part of out. */
void tr_run_settle(struct tr_run *run, const struct tr_pack *p,
                   const struct tr_reply *reply, struct tr_store_outcome *out);

/* ---- chain.c ---------------------------------------------------------- */

/* The rows of the lanes from this one to l are l's to take, once it is open. */
uint32_t tr_chain_from(const struct tr_run *run, const struct tr_run_lane *l);
uint32_t tr_chain_waiting(const struct tr_run *run,
                          const struct tr_run_lane *l); /* how many */
/* l is open, or it is worth waiting until it is. */
bool tr_chain_hopes(const struct tr_run *run, const struct tr_run_lane *l);
/* l has requests that go out or are out, or rows that it may take. */
bool tr_chain_has_work(const struct tr_run *run, const struct tr_run_lane *l);
/* A row ends at l, or goes on to the next lane. */
void tr_run_fail_row(struct tr_run *run, struct tr_run_lane *l,
                     struct tr_row *row, enum tr_why why);
/* Would it go on, with a failure that the store knows? */
bool tr_chain_goes_past(const struct tr_run *run, const struct tr_run_lane *l,
                        enum tr_why why);
/* Nobody is sure of it. What is stored has an origin even if the lane never
 * answered anybody: only that tells --fresh and --retry-failed when it was. */
struct tr_verdict tr_chain_failure(struct tr_run *run, struct tr_run_lane *l,
                                   enum tr_why why);
/* The key under which a lane's verdict on a row is stored. */
struct tr_key tr_chain_key(const struct tr_run_lane *l,
                           const struct tr_row *row);
/* A row that its own lane has refused, which l may not be asked about. */
bool tr_chain_withholds(const struct tr_run *run, const struct tr_run_lane *l,
                        const struct tr_row *row);
/* A pack leaves: its rows will never go back before this lane. */
void tr_chain_sends(struct tr_run *run, const struct tr_pack *p);
/* What a reply says about its lane's health, and what follows. */
int tr_chain_reply(struct tr_run *run, struct tr_run_lane *l,
                   const struct tr_reply *reply, int64_t sent_at, bool probe,
                   struct tr_err *err);
/* Leaves lanes alone whose servers ask for it; stops the run when rows wait
 * and no lane will ever take them. */
int tr_chain_mind(struct tr_run *run, struct tr_err *err);

/* ---- guests.c --------------------------------------------------------- */

void tr_guests_open(struct tr_run *run, struct tr_run_lane *l);
/* How many of the first n rows of q go together, seen from here; 0: wait for
 * replies. May bring another row to the front. scout: it goes alone so that it
 * may become a canary. */
uint32_t tr_guests_fit(struct tr_run *run, struct tr_run_lane *l,
                       struct tr_rows *q, uint32_t n, bool *scout);
void tr_guests_join(struct tr_run *run, struct tr_pack *p);
struct tr_str tr_guests_text(const struct tr_pack *p, uint32_t guest);
/* Bytes that guests may add to a pack of n rows. */
int64_t tr_guests_bytes(const struct tr_run *run, const struct tr_run_lane *l,
                        uint32_t n);
/* What guests will add to a planned pack that are not in it yet: how many, and
 * their bytes. */
int64_t tr_guests_foreseen(const struct tr_pack *p, int64_t *bytes);
void tr_guests_book(struct tr_pack *p, const struct tr_usage *usage);
/* Does the pack count? False: it is gone, and its rows are asked again. */
bool tr_guests_vouch(struct tr_run *run, struct tr_pack *p,
                     const struct tr_item_answer *got);
/* A row has its answer: was the doubt about the last one right? */
void tr_guests_answered(struct tr_run_lane *l, struct tr_row *row,
                        uint64_t set);
/* What stands for a guest among the keys of a pack in a batch; and the answer
 * it must have, when it is one. */
struct tr_key tr_guests_key(const struct tr_pack *p, uint32_t guest);
bool tr_guests_is_key(const struct tr_key *key, bool *canary, uint64_t *set);

/* ---- preview.c -------------------------------------------------------- */

/* A row of a dry run; *wanted: it is the first of its text, unknown, and in no
 * batch. */
int tr_run_preview_row(struct tr_run *run, const struct tr_row *row,
                       bool known, bool *wanted, struct tr_err *err);
/* More rows first, so that packs are as full as those of a real run. */
bool tr_run_preview_waits(const struct tr_run *run,
                          const struct tr_run_lane *l);
/* The pack is counted and forgotten. */
int tr_run_preview_pack(struct tr_run *run, struct tr_pack *p,
                        struct tr_err *err);

/* ---- fill.c ----------------------------------------------------------- */

int tr_run_fill(struct tr_run *run, bool *moved, struct tr_err *err);

/* ---- packs.c ---------------------------------------------------------- */

int tr_run_plan(struct tr_run *run, bool *moved, struct tr_err *err);

/* ---- commit.c --------------------------------------------------------- */

/* One transaction, if it is due or now_please. */
int tr_run_commit(struct tr_run *run, bool now_please, bool *moved,
                  struct tr_err *err);
int tr_run_send_ready(struct tr_run *run, int64_t *wake, bool *moved,
                      struct tr_err *err);
int tr_run_write_settled(struct tr_run *run, bool *moved, struct tr_err *err);

/* ---- receive.c -------------------------------------------------------- */

int tr_run_receive(struct tr_run *run, bool *moved, struct tr_err *err);
/* Money, tokens and pace of one attempt; joins the next commit. */
int tr_run_book(struct tr_run *run, struct tr_pack *p,
                const struct tr_reply *reply, int64_t now, struct tr_err *err);

/* What the answer says about each of p's items; new label sets are noted. */
int tr_run_read_answer(struct tr_run *run, const struct tr_pack *p,
                       const struct tr_reply *reply, struct tr_answer *a,
                       struct tr_item_answer *got, struct tr_err *err);

/* How sure the lane is of an item, where it says so. */
uint16_t tr_run_confidence(const struct tr_reply *reply, uint32_t id);

/* ---- adopt.c ---------------------------------------------------------- */

/* Takes over the batches of earlier runs. */
int tr_run_adopt(struct tr_run *run, struct tr_err *err);

/* ---- wind.c ----------------------------------------------------------- */

int tr_run_wind_down(struct tr_run *run, int64_t *wake, bool *moved,
                     struct tr_err *err);
void tr_run_mind_outage(struct tr_run *run, int64_t *wake);
int tr_run_finish(struct tr_run *run, struct tr_err *err);

#endif
