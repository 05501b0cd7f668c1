/* task.h - what the user decides: labels, instruction, examples; its digest.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_TASK_TASK_H
#define TR_TASK_TASK_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "nouns.h"

struct tr_label {
    struct tr_str name;        /* unique, non-empty, no '|', no line break */
    struct tr_str description; /* may be empty */
};

struct tr_example {
    struct tr_str text;
    uint32_t *labels; /* indices */
    uint32_t label_count;
};

/* A top-level option of the task file that is not about the decision itself
 * (model: ..., budget: ...); config.c takes them with lower precedence. */
struct tr_task_option {
    struct tr_str name, value;
    int line, column;
};

struct tr_task {
    struct tr_arena arena; /* owns every string below */
    struct tr_str instruction; /* may be empty: a default is used */
    struct tr_label *labels;
    uint32_t label_count;
    struct tr_example *examples;
    uint32_t example_count;
    bool multiple;             /* any number of labels per text */
    int32_t none;              /* index of the "none of these" label, or -1 */
    struct tr_task_option *options;
    uint32_t option_count;
    struct tr_str providers_yaml; /* "providers:" subtree as YAML, or empty */
    struct tr_key digest;      /* of all the user decides, see docs */
    /* Label sets beyond single labels, interned: see below. */
    struct tr_set *sets;
    uint32_t set_count, set_cap;
};

/* From --labels a,b,c. */
int tr_task_from_labels(struct tr_task *task, const char *labels,
                        struct tr_err *err);
/* From a YAML file. Errors carry file, line, column and the nearest known
 * key or label name. `examples_file:` names a labelled CSV/JSONL beside it. */
int tr_task_from_file(struct tr_task *task, const char *path,
                      struct tr_err *err);
void tr_task_release(struct tr_task *task);

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
/* Index of a label by exact name, or -1. */
int32_t tr_task_label(const struct tr_task *task, struct tr_str name);
/* Nearest of names by edit distance for "did you mean", or NULL when nothing
 * is near. */
const char *tr_nearest(struct tr_str word, const char *const *names, size_t n);

#endif
