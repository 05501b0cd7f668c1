/* task.h - what the user decides: labels, instruction, examples; its digest.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_TASK_TASK_H
#define TR_TASK_TASK_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "nouns.h"
#include "task/combos.h"

#define TR_LABEL_BYTES_MAX 200u /* of one name: it is an answer, not a text */

struct tr_example {
    struct tr_str text;
    uint64_t set; /* label set; TR_SET_NOTHING only when multiple */
};

/* A top-level option of the task file that is not about the decision itself
 * (model: ..., budget: ...); config.c takes them with lower precedence. */
struct tr_task_option {
    struct tr_str name, value; /* name as the caller spells it; a list is
                                  joined by commas */
    int line, column;          /* of the value */
};

/* `examples_file:`, for the caller to read: tr_task_add_example() each row. */
struct tr_task_examples_file {
    struct tr_str path;               /* beside the task file; empty: none */
    struct tr_str text_column, label_column; /* default: text, label */
    int line, column;
};

struct tr_task {
    struct tr_arena arena; /* owns every string below */
    struct tr_str instruction; /* may be empty: a default is used */
    struct tr_label *labels;
    uint32_t label_count;
    struct tr_example *examples;
    uint32_t example_count, example_cap;
    bool multiple;             /* any number of labels per text */
    int32_t none;              /* index of the "none of these" label, or -1 */
    struct tr_task_option *options;
    uint32_t option_count;
    struct tr_str providers_yaml; /* "providers:" subtree as YAML, or empty;
                                     its lines and columns are the file's */
    bool names_servers;        /* by an address in there */
    struct tr_task_examples_file examples_file;
    struct tr_key digest;      /* of all the user decides: docs/task-file.md */
    /* Label sets beyond single labels: see below. */
    uint32_t combo_most;       /* labels of a set that says them; UINT32_MAX, or
                                  as a test says */
    struct tr_combos combos;   /* from the first such set on: */
    uint32_t *combined;        /* labels of the one looked at last; arena */
    struct tr_set *sets;       /* the list */
    uint32_t set_count;
    size_t set_cap;
    uint32_t *set_buckets;     /* open addressing: index into sets + 1, or 0 */
    uint32_t set_bucket_count; /* a power of two, or 0 */
    size_t set_bytes;          /* of TR_SETS_BYTES */
    uint32_t *label_index;     /* labels sorted by name, as
                                  tr_task_label_like() sees it */
    uint32_t *singles;         /* 0, 1, 2, ...: what single sets point at */
};

/* From --labels a,b,c. */
int tr_task_from_labels(struct tr_task *task, const char *labels,
                        struct tr_err *err);
/* From a YAML file. Errors carry file, line, column and the nearest known
 * key or label name. option_names: the names (with '-') that are options and no
 * mistakes beside the keys of the task itself; they end up in task->options,
 * and '_' in the file is taken for '-'. */
int tr_task_from_file(struct tr_task *task, const char *path,
                      const char *const *option_names, size_t option_count,
                      struct tr_err *err);
/* The same from text in memory; name stands in error sentences, and its
 * folder is where examples_file is looked for. */
int tr_task_from_text(struct tr_task *task, struct tr_str text,
                      const char *name, const char *const *option_names,
                      size_t option_count, struct tr_err *err);
void tr_task_release(struct tr_task *task);

/* One more example; updates the digest. label: a name, or names joined by '|'
 * and '-' for none of them when the task is multiple. where ("FILE:LINE")
 * begins the error sentence. */
int tr_task_add_example(struct tr_task *task, struct tr_str text,
                        struct tr_str label, const char *where,
                        struct tr_err *err);

/* Label sets: what a verdict's `set` means. Sets 0..label_count-1 are the
 * single labels, TR_SET_NOTHING the empty one; from TR_SET_COMBINED on the
 * number of a combination says its labels (combos.h). Those of more labels are
 * listed in the order in which they are first seen, behind all combinations of
 * the examples: set label_count + i is sets[i]. The store keeps what is listed
 * behind the examples as text and gives it back on open, in the same order;
 * files of earlier versions list every combination. */
struct tr_set {
    uint64_t set;     /* what it is called */
    uint32_t *labels; /* sorted indices, arena of the task; NULL: its name says
                         them, or they stand at an earlier place */
    uint32_t count;
};
/* Number of the set with these label indices (any order, duplicates fine).
 * TR_CONFIG: it would be listed, and there is no room. */
int tr_task_set(struct tr_task *task, const uint32_t *labels, uint32_t count,
                uint64_t *set, struct tr_err *err);
/* The same for an example, which is listed in any case. */
int tr_task_set_of_example(struct tr_task *task, const uint32_t *labels,
                           uint32_t count, uint64_t *set, struct tr_err *err);
/* Half of the room is taken: the other half is for answers under way. */
bool tr_task_sets_full(const struct tr_task *task);
/* Its labels; *labels points into the task, until the next call. */
uint32_t tr_task_set_labels(const struct tr_task *task, uint64_t set,
                            const uint32_t **labels);
/* The set as text: names joined by '|', '-' for TR_SET_NOTHING. */
void tr_task_set_text(const struct tr_task *task, uint64_t set,
                      struct tr_buf *out);
/* The next one of the store's list, after the last example. Whatever labels of
 * the task it has: earlier versions listed some that no answer may have. */
int tr_task_set_restore(struct tr_task *task, struct tr_str names,
                        struct tr_err *err);
/* *set as it stands in the store becomes what it is called here. TR_CONFIG:
 * it is no set of this task. */
int tr_task_set_stored(struct tr_task *task, uint64_t *set,
                       struct tr_err *err);
/* Index of a label by exact name, or -1. */
int32_t tr_task_label(const struct tr_task *task, struct tr_str name);
/* The same with ASCII case ignored, and how many blanks of which kind stand
 * between words: pages have no-break spaces, models write plain ones. Unique,
 * because names are. */
int32_t tr_task_label_like(const struct tr_task *task, struct tr_str name);

#endif
