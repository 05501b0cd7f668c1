/* prompt.h - a pack of texts into the words of one request.
 *
 * Layout (docs/internals/packing.md): the system part is the same for
 * every pack of a task and form, so that provider caches hit; the data are
 * lines [417,"text"], everything escaped as JSON; a closing instruction
 * stands after the data.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_TASK_PROMPT_H
#define TR_TASK_PROMPT_H

#include "base/buf.h"
#include "task/task.h"

#define TR_PROMPT_VERSION 1 /* raise when the words change */

enum tr_form { TR_FORM_LINES, TR_FORM_SCHEMA };

/* The stable system part. Pure: equal task and form give equal bytes. */
void tr_prompt_system(struct tr_buf *out, const struct tr_task *task,
                      enum tr_form form);
/* Data and closing instruction, items in the given order. */
void tr_prompt_user(struct tr_buf *out, const struct tr_task *task,
                    enum tr_form form, const struct tr_item *items, size_t n);
/* For lanes that decide: the instruction with the task's examples in words;
 * labels and texts travel on their own (struct tr_question). */
void tr_prompt_question(struct tr_buf *out, const struct tr_task *task);
/* One JSON Schema per task, for TR_FORM_SCHEMA:
 * {"a": [[id, label, ...], ...]} with the labels as an enum, or as any string
 * where there are more than providers take. Strict-mode valid. */
void tr_prompt_schema(struct tr_buf *out, const struct tr_task *task);
/* Output tokens n items may need: bound for the cap, from label bytes. */
int64_t tr_prompt_cap(const struct tr_task *task, enum tr_form form, size_t n);

#endif
