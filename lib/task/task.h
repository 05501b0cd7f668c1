/* task.h - what the user decides: labels, instruction, examples; its digest.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_TASK_TASK_H
#define TR_TASK_TASK_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "nouns.h"

#define TR_LABEL_BYTES_MAX 200u /* of one name: it is an answer, not a text */

struct tr_example {
    struct tr_str text;
    uint32_t set; /* label set; TR_SET_NOTHING only when multiple */
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
    struct tr_task_examples_file examples_file;
    struct tr_key digest;      /* of all the user decides: docs/task-file.md */
    /* Label sets beyond single labels, interned: see below. */
    struct tr_set *sets;       /* set i is sets[i - label_count] */
    uint32_t set_count, set_cap;
    uint32_t *set_buckets;     /* open addressing: index into sets + 1, or 0 */
    uint32_t set_bucket_count; /* a power of two, or 0 */
    uint32_t *label_index;     /* labels sorted by name, ASCII case ignored */
    uint32_t *singles;         /* 0, 1, 2, ...: what single sets point at */
};

/* From --labels a,b,c. */
int tr_task_from_labels(struct tr_task *task, const char *labels,
                        struct tr_err *err);
/* From a YAML file. Errors carry file, line, column and the nearest known
 * key or label name. option_names: the names (with '-') that may stand in a
 * task file beside the keys of the task itself; they end up in task->options,
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
 * single labels, TR_SET_NOTHING the empty one; combinations get numbers from
 * label_count upwards in the order in which they are first seen. The store
 * keeps them as text and gives them back on open, in the same order. */
struct tr_set {
    uint32_t *labels; /* sorted indices; arena of the task */
    uint32_t count;
};
/* Number of the set with these label indices (any order, duplicates fine);
 * negative tr_code when memory is out. */
int tr_task_set(struct tr_task *task, const uint32_t *labels, uint32_t count,
                uint32_t *set, struct tr_err *err);
/* Its labels; *labels points into the task. */
uint32_t tr_task_set_labels(const struct tr_task *task, uint32_t set,
                            const uint32_t **labels);
/* The set as text: names joined by '|', '-' for TR_SET_NOTHING; and back
 * (TR_CONFIG when it has a label that this task does not have). Any labels are
 * a set here: stores of earlier versions keep some that no answer may have, and
 * number the others behind them. */
void tr_task_set_text(const struct tr_task *task, uint32_t set,
                      struct tr_buf *out);
int tr_task_set_parse(struct tr_task *task, struct tr_str text, uint32_t *set,
                      struct tr_err *err);
/* Index of a label by exact name, or -1. */
int32_t tr_task_label(const struct tr_task *task, struct tr_str name);
/* The same with ASCII case ignored; unique, because names are. */
int32_t tr_task_label_nocase(const struct tr_task *task, struct tr_str name);

#endif
