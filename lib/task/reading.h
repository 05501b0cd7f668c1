/* reading.h - what the readers of an answer share. Private to task/.
 *
 * answer.c reads lines, and calls pairs.c for JSON; both call match.c for
 * labels and claim.c for what is said about an id.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_TASK_READING_H
#define TR_TASK_READING_H

#include "task/answer.h"

/* How well some text names labels. */
enum tr_match {
    TR_MATCH_NOT,
    TR_MATCH_FORGIVEN, /* after peeling quotes, or in another case */
    TR_MATCH_EXACT
};

/* What was said about one item so far. */
struct tr_said {
    uint8_t result;  /* enum tr_item_result */
    bool forgiven;
    bool echo;       /* [id, its own text], and that text is a label */
    uint64_t set;
    uint64_t echo_set;
};

struct tr_reading {
    struct tr_task *task;
    const struct tr_item *items;
    struct tr_said *said;
    size_t n;
    bool truncated;
    const char *void_why; /* NULL while the answer may be used */
    uint32_t claims;      /* made so far, of any kind */
    uint32_t echoes;      /* data lines the model has repeated */
    int rc;               /* TR_NOMEM stops everything */
    struct tr_err *err;
    /* label indices of one claim, reused */
    uint32_t *labels;
    uint32_t label_count, label_cap;
};

/* Nothing has voided the answer or failed yet. */
static inline bool tr_may_go_on(const struct tr_reading *r)
{
    return !r->void_why && r->rc == TR_OK;
}

/* ---- match.c: text into labels, never guessing ---- */

/* Takes off one pair of quotes or marks around s; false: there is none. */
bool tr_unwrap(struct tr_str *s);
/* One label. */
enum tr_match tr_match_label(const struct tr_task *task, struct tr_str s,
                             uint32_t *label);
/* All that stands after an id: one label, or for a multiple task several
 * joined by '|' (',' is forgiven) or '-'. */
enum tr_match tr_match_labels(struct tr_reading *r, struct tr_str s,
                              uint64_t *set);
/* The same from names already taken apart; n may be 0. */
enum tr_match tr_match_names(struct tr_reading *r, const struct tr_str *names,
                             size_t n, uint64_t *set);

/* ---- claim.c ---- */

/* Index of the item with this id, or -1. */
ptrdiff_t tr_find_item(const struct tr_reading *r, uint64_t id);
/* The answer says: this id has this set (match NOT: something that is no
 * label). An id that was not drawn voids the answer. */
void tr_claim(struct tr_reading *r, uint64_t id, enum tr_match match,
              uint64_t set);

/* ---- pairs.c ---- */

enum tr_json {
    TR_JSON_NOT,   /* no answer in JSON here; nothing was claimed */
    TR_JSON_DONE,  /* read to its closing bracket */
    TR_JSON_STUCK  /* closed pairs were claimed, then it is broken or cut */
};

/* Reads the JSON value at text.p[*at], claims every closed pair in it, and
 * moves *at behind it, or to where it got stuck. */
enum tr_json tr_read_json(struct tr_reading *r, struct tr_str text,
                          size_t *at);

#endif
