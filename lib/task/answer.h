/* answer.h - the model's text into one checked label set per item, or why not.
 *
 * Never guesses: an id counts only if it was drawn for this attempt (a text
 * that was asked alone needs none), a label only if it is in the set byte for
 * byte after trimming, quotes and a unique match but for case and blanks. An
 * unknown id, or one id with two different labels, voids the whole answer.
 * Prose, code fences and blank lines around the lines or the JSON are skipped
 * safely or make the answer void.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_TASK_ANSWER_H
#define TR_TASK_ANSWER_H

#include "task/prompt.h"

enum tr_item_result {
    TR_ITEM_MISSING, /* no line or pair for this id */
    TR_ITEM_INVALID, /* its label is not in the set */
    TR_ITEM_OK
};

struct tr_item_answer {
    enum tr_item_result result;
    uint64_t set; /* label set, when OK */
};

struct tr_answer {
    bool is_void;          /* nothing may be used */
    const char *void_why;  /* static words: "unknown id", ... */
    uint32_t ok, missing, invalid;
    uint32_t forgiven;     /* labels accepted by case or quotes only */
};

/* Reads text into out[0..n), out[i] for items[i]. Both forms are accepted
 * whatever was asked for (a model may answer JSON to a request for lines).
 * truncated: the answer was cut; only what is provably complete counts (a
 * line with its line end, a closed pair). May intern new label sets. */
int tr_answer_read(struct tr_answer *answer, struct tr_item_answer *out,
                   struct tr_task *task, const struct tr_item *items, size_t n,
                   struct tr_str text, bool truncated, struct tr_err *err);

#endif
