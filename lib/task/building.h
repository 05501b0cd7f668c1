/* building.h - how a task is put together. Private to task/: task.c does it for
 * labels on the command line, task_file.c for a file.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_TASK_BUILDING_H
#define TR_TASK_BUILDING_H

#include "task/task.h"

/* What a label is called that stands for none of the others. */
#define TR_NONE_DESCRIPTION "none of the other labels fits"

/* Where something was said. */
struct tr_place {
    const char *file;
    int line, column; /* 0: no place in a file */
};

/* Labels of one set, as they are named. labels has room for all of the task. */
struct tr_chosen {
    uint32_t *labels;
    uint32_t count, cap;
};

int tr_task_no_memory(struct tr_err *err);
/* " (did you mean 'x'?)" or nothing. */
const char *tr_task_meant(char *out, size_t n, const char *name);
/* "FILE:LINE:COLUMN: ..."; TR_CONFIG. */
int tr_fail_at(struct tr_err *err, struct tr_place at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void tr_task_init(struct tr_task *task);
/* *out is a copy that lives as long as the task. */
int tr_task_keep(struct tr_task *task, struct tr_str *out, struct tr_str s,
                 struct tr_err *err);
/* Room for n labels and the one that `none:` may add. */
int tr_task_make_labels(struct tr_task *task, size_t n, struct tr_place at,
                        struct tr_err *err);
/* Its name must be sound; equal ones are found by index. */
int tr_task_add(struct tr_task *task, struct tr_str name,
                struct tr_str description, struct tr_place at,
                struct tr_err *err);
/* Sorts the names for look-ups and refuses equal ones. */
int tr_task_index(struct tr_task *task, struct tr_place at,
                  struct tr_err *err);
/* Of all but the examples, which tr_task_add_example() chains on. */
int tr_task_first_digest(struct tr_task *task, struct tr_err *err);
/* A label by its name. */
int tr_task_choose(const struct tr_task *task, struct tr_chosen *c,
                   struct tr_str name, struct tr_place at, struct tr_err *err);
/* Names joined by '|' where several are allowed. '-' is no label, which the
 * task's none label stands for where it has one. */
int tr_task_choose_all(const struct tr_task *task, struct tr_chosen *c,
                       struct tr_str joined, struct tr_place at,
                       struct tr_err *err);
/* The set of what was chosen, if it makes sense. */
int tr_task_close(struct tr_task *task, struct tr_chosen *c, uint64_t *set,
                  struct tr_place at, struct tr_err *err);
int tr_task_push(struct tr_task *task, struct tr_str text, uint64_t set,
                 struct tr_place at, struct tr_err *err);

#endif
