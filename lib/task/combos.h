/* combos.h - combinations of labels as numbers, and back.
 *
 * A number says by itself which labels it stands for, so nothing has to be
 * remembered about a combination, however many there are.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_TASK_COMBOS_H
#define TR_TASK_COMBOS_H

#include "base/arena.h"
#include "base/err.h"
#include "nouns.h"

#define TR_COMBOS_MAX (TR_SETS_END - TR_SET_COMBINED) /* numbers at most */
#define TR_COMBO_LABELS_MAX 55 /* of so many labels every combination has one */

struct tr_combos {
    uint32_t n;      /* labels to choose from */
    uint32_t most;   /* labels at once: combinations of more have no number */
    uint64_t count;  /* numbers: 0 to count - 1 */
    uint64_t *ways[TR_COMBO_LABELS_MAX + 1]; /* [k][m]: to choose k of m labels;
                                                arena */
};

/* Of n >= 2 labels; of most at once, if there is room for the numbers. */
int tr_combos_init(struct tr_combos *c, struct tr_arena *arena, uint32_t n,
                   uint32_t most, struct tr_err *err);
/* labels: k of them, 2 <= k <= most, sorted, each once. */
uint64_t tr_combos_number(const struct tr_combos *c, const uint32_t *labels,
                          uint32_t k);
/* The labels of a number, sorted, into labels, which has room for most. How
 * many they are. */
uint32_t tr_combos_labels(const struct tr_combos *c, uint64_t number,
                          uint32_t *labels);

#endif
