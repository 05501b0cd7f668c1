/* group.h - a batch on its way, inside of the lane that makes batches.
 *
 *   FILLING -> CLOSED -> UPLOADING -> CREATING -> OPEN <-> POLLING
 *                                        |        ^ ^        |
 *                                        v        | |        v
 *                                      LOOKING <--+ |  FETCHING -> READING
 *                                                   |      ^          |
 *                                     CANCELLING <--+      +----------+-> gone
 *                                                   (errors after the output)
 *   anywhere -> FAILING -> gone: every attempt gets the same outcome
 *
 * Before CREATING the batch and its attempts are durable, and before OPEN is
 * left for the first question the provider's name of it is.
 *
 *   group.c          its requests and files, how it fails, who has room
 *   batch_ask.c      what the provider is asked, and what its replies mean
 *   batch_results.c  its results, line by line
 *   batch.c          the lane: gathers requests, and does what is due
 *
 * Each knows those above it. Nobody else includes this file.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_WIRE_GROUP_H
#define TR_WIRE_GROUP_H

#include "base/clock.h"
#include "wire/batch.h"

enum {
    TR_BATCH_CHUNK = 256 << 10, /* bytes written and read at a time */
    TR_BATCH_STRANGERS = 256    /* batches found that were not ours */
};

enum tr_group_step {
    TR_GROUP_FILLING, TR_GROUP_CLOSED, TR_GROUP_UPLOADING, TR_GROUP_CREATING,
    TR_GROUP_LOOKING, TR_GROUP_OPEN, TR_GROUP_POLLING, TR_GROUP_CANCELLING,
    TR_GROUP_FETCHING, TR_GROUP_READING, TR_GROUP_FAILING
};

struct tr_entry {
    uint64_t attempt, tag;
    bool done;
    unsigned seen; /* in this fetch of the results */
};

struct tr_group {
    struct tr_batch batch;
    uint64_t id;             /* of its requests; never repeats */
    enum tr_group_step step;
    bool asked;              /* a request is under way */
    int64_t asked_at;        /* the last one left then, ns; 0: none has */
    bool maybe;              /* LOOKING: something like it was seen */
    bool guessed;            /* its name may be another's: no result came yet */
    bool found;              /* that name, by this process */
    int64_t unheard_from;    /* LOOKING: no list since then, ns; ended: no
                                results; 0: they came */
    int64_t known_at;        /* made or picked up, ns */
    int64_t made_at;         /* when we began to make it; 0: an earlier run */
    int64_t cancel_from, cancelled_at; /* ns: wanted, heard of; 0: not */
    bool aged;               /* guessed: it is overdue as the server dates it */
    bool cancel_next;        /* the last time brought nothing */
    bool ended;              /* it has: its results are awaited, however long */
    bool errors_next;        /* FETCHING, READING: the error file comes next */
    struct tr_entry *entries; /* by attempt; owned */
    size_t n, cap, at;       /* at: next one to fail */
    unsigned refused;          /* fields, when it was begun */
    unsigned wrong;            /* batches found that were not it */
    int64_t first_at, last_at; /* FILLING: ns */
    int64_t due_at;            /* next thing to do, ns */
    unsigned polls, looks, pages, empty, rereads;
    int spool, results;        /* files without a name, -1: none */
    int64_t spool_bytes, result_bytes, result_at;
    struct tr_buf buf;         /* of the spool, then of the results */
    size_t buf_at;             /* used of it, READING */
    bool unread;               /* a line of the results made no sense, or was
                                  not of this batch */
    unsigned fetches;
    int64_t worked, seen;      /* requests: as the provider counts them; with
                                  a line in this fetch */
    bool any_ours;             /* a line in this fetch is of this batch */
    bool held_back, second;    /* refusals wait until all answers are read */
    bool in_vain;              /* UPLOADING: it is not to be made, see fail */
    char stranger[80];         /* an id in it that is not */
    struct tr_buf body;        /* of the request under way */
    char errors[300], next[300];
    struct tr_reply fail;      /* FAILING, in_vain: what everyone gets */
};

struct tr_batch_lane {
    struct tr_lane lane; /* first: the two are cast to each other */
    struct tr_lane_vt vt;
    struct tr_lane *inner;
    const struct tr_batch_form *form;
    struct tr_batch_keep keep;
    char base[600];           /* address up to "/batches" */
    char folder[3800];
    int64_t requests_max, bytes_max, tokens_max; /* of a batch; of all; 0: not
                                                    known */
    int64_t tokens_most;      /* never more: the user's word; 0: none */
    int room_shift;           /* the next batch that finds room makes tokens_max
                                 larger by this part of it: 1 / 2^n */
    int64_t poll_ms;
    struct tr_group **groups; /* owned */
    size_t group_count, group_cap;
    struct tr_group *filling; /* among them, or NULL */
    char strangers[TR_BATCH_STRANGERS][120]; /* nobody's batches */
    unsigned stranger_count;  /* so far; the last ones are kept */
    uint64_t next_id;
    bool stopped;             /* refused for good: said once, then silent */
    struct tr_reply stop;
    bool has_stop;
    struct tr_buf scratch;    /* of a line's body */
};

static inline struct tr_transport *
tr_group_transport(const struct tr_batch_lane *l)
{
    return tr_lane_transport(l->inner);
}

/* ---- group.c ---------------------------------------------------------- */

/* A reply that knows nothing but that. */
void tr_group_blank(struct tr_reply *r, enum tr_outcome outcome,
                    enum tr_billing billing);
/* A temporary file without a name. */
int tr_group_file(struct tr_batch_lane *l, int *fd, struct tr_err *err);
/* NULL: *err says why. */
struct tr_group *tr_group_new(struct tr_batch_lane *l, struct tr_err *err);
/* A batch of that name is none of those that are looked for. */
void tr_group_stranger(struct tr_batch_lane *l, const char *name);
/* A batch that was seen may be that of any of those. */
void tr_group_doubt(struct tr_batch_lane *l);
void tr_group_free(struct tr_batch_lane *l, struct tr_group *g);
/* NULL: the attempt is not in it. */
struct tr_entry *tr_group_entry(struct tr_group *g, uint64_t attempt);
/* False: no memory. */
bool tr_group_add(struct tr_group *g, uint64_t attempt, uint64_t tag);
/* All are added: they stand by attempt from now on. */
void tr_group_sort(struct tr_group *g);
/* All that have no answer get this one. */
void tr_group_fail(struct tr_group *g, const struct tr_reply *reply);
void tr_group_fail_as(struct tr_group *g, enum tr_outcome outcome,
                      enum tr_billing billing, const char *message);
/* Its requests that have no answer were never worked on. */
void tr_group_untouched(struct tr_group *g);
/* False when all have got it. */
bool tr_group_hand_failure(struct tr_group *g, struct tr_reply *reply);
/* The lane cannot go on. What is at the provider stays there. */
void tr_group_stop(struct tr_batch_lane *l, const struct tr_reply *reply);
/* For want of something of our own. */
void tr_group_stop_with(struct tr_batch_lane *l, const char *message);
/* What is enqueued was too much with this one; or, with this one, not. */
void tr_group_learn_full(struct tr_batch_lane *l);
void tr_group_learn_room(struct tr_batch_lane *l, const struct tr_group *g);
/* May it be sent, for the tokens that are enqueued? */
bool tr_group_has_room(const struct tr_batch_lane *l, const struct tr_group *g);

/* ---- batch_ask.c ------------------------------------------------------ */

/* Asked about next, not before floor_ms; -1: whenever it suits. */
void tr_group_poll_later(struct tr_batch_lane *l, struct tr_group *g,
                         int64_t floor_ms);
/* Requests to the provider; what comes of them goes to
 * tr_group_on_result(). */
void tr_group_upload(struct tr_batch_lane *l, struct tr_group *g);
/* From here on the provider may have it. */
void tr_group_create(struct tr_batch_lane *l, struct tr_group *g);
void tr_group_look(struct tr_batch_lane *l, struct tr_group *g);
void tr_group_poll(struct tr_batch_lane *l, struct tr_group *g);
void tr_group_fetch(struct tr_batch_lane *l, struct tr_group *g);
/* The provider has it, under this name. */
void tr_group_opened(struct tr_batch_lane *l, struct tr_group *g,
                     const struct tr_batch_news *news);
/* Whether it was made is not known: it is looked for, or given up. */
void tr_group_search(struct tr_batch_lane *l, struct tr_group *g);
/* What was found for it is another's: it looks on. */
void tr_group_look_on(struct tr_batch_lane *l, struct tr_group *g);
/* The results are there: from their first line. */
void tr_group_read(struct tr_group *g);
/* What came of the request that was under way. */
void tr_group_on_result(struct tr_batch_lane *l, struct tr_group *g,
                        const struct tr_http_result *r);

/* ---- batch_results.c -------------------------------------------------- */

/* The reply of one line; false when the file is through. */
bool tr_group_hand_line(struct tr_batch_lane *l, struct tr_group *g,
                        struct tr_reply *reply);

#endif
