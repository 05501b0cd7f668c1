/* window.c - the rows in memory, in input order, within a bound.
 *
 * Invariant: a block with an unsettled row is in memory, so pointers to
 * unsettled rows stay good; only wholly settled blocks are ever spilled.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/window.h"

#include "base/bounds.h"
#include "base/mem.h"
#include "rows/source.h"

/* Counts what the block takes now: it grows for one over-large record. */
static void weigh(struct tr_window *w, struct tr_block *b)
{
    size_t now = sizeof *b;

    if (b->rows)
        now += b->bytes_cap + (size_t)b->row_cap * sizeof *b->rows;
    w->bytes += now - b->weight;
    b->weight = now;
}

void tr_window_init(struct tr_window *w, const struct tr_env *env,
                    size_t bytes_max, bool as_completed)
{
    *w = (struct tr_window){
        .env = env,
        .bytes_max = bytes_max,
        .as_completed = as_completed,
    };
}

void tr_window_release(struct tr_window *w)
{
    while (w->head) {
        struct tr_block *b = w->head;

        w->head = b->next;
        tr_block_free(b);
    }
    tr_window_init(w, w->env, w->bytes_max, w->as_completed);
}

static bool in_memory(const struct tr_block *b)
{
    return b->spilled_at < 0 && b->rows;
}

static void drop_memory(struct tr_window *w, struct tr_block *b)
{
    tr_free(b->bytes);
    tr_free(b->rows);
    b->bytes = NULL;
    b->rows = NULL;
    weigh(w, b);
}

/* Frees a quarter of the window, so that spilling comes in large strokes. The
 * head stays (it is next to leave) and so does the tail (it is being filled). */
static int spill_some(struct tr_window *w, struct tr_err *err)
{
    size_t goal = w->bytes_max - w->bytes_max / 4;

    if (!w->env->spill || w->as_completed || !w->head)
        return TR_OK;
    for (struct tr_block *b = w->head->next;
         b && b != w->tail && w->bytes > goal; b = b->next) {
        if (b->open || !in_memory(b))
            continue;
        int rc = w->env->spill(w->env->ctx, b, err);

        if (rc != TR_OK)
            return rc;
        drop_memory(w, b);
    }
    return TR_OK;
}

static void drop_head(struct tr_window *w)
{
    struct tr_block *gone = w->head;

    w->head = gone->next;
    if (!w->head)
        w->tail = NULL;
    drop_memory(w, gone);
    w->bytes -= gone->weight;
    tr_block_free(gone);
}

struct tr_block *tr_window_room(struct tr_window *w, bool fresh,
                                struct tr_err *err)
{
    struct tr_block *b = w->tail;
    size_t one = TR_BLOCK_BYTES + TR_BLOCK_ROWS * sizeof(struct tr_row);

    err->code = TR_OK;
    if (b && !fresh && b->rows && b->row_count < b->row_cap)
        return b;
    /* The last block may have been written while it was the last: nobody else
     * will let it go, and it would stand in front of the next one. */
    if (b && b->written == b->row_count) {
        if (b == w->head)
            drop_head(w);
        else
            drop_memory(w, b);
    }
    if (w->head && w->bytes + one > w->bytes_max) {
        if (spill_some(w, err) != TR_OK || w->bytes + one > w->bytes_max)
            return NULL;
    }
    b = tr_block_new(TR_BLOCK_ROWS, TR_BLOCK_BYTES);
    if (!b) {
        tr_fail(err, TR_NOMEM, "out of memory while reading the input");
        return NULL;
    }
    b->first = w->next_ordinal;
    b->sequence = w->next_sequence++;
    b->spilled_at = -1;
    if (w->tail)
        w->tail->next = b;
    else
        w->head = b;
    w->tail = b;
    weigh(w, b);
    return b;
}

struct tr_row *tr_window_added(struct tr_window *w, struct tr_block *block)
{
    struct tr_row *row = &block->rows[block->row_count - 1];

    row->block = block;
    block->open++;
    w->next_ordinal++;
    weigh(w, block);
    return row;
}

void tr_window_settled(struct tr_window *w, struct tr_row *row)
{
    TR_ASSERT(row->block->open > 0);
    row->block->open--;
    row->state = TR_ROW_SETTLED;
    if (!w->as_completed)
        return;
    row->next = NULL;
    if (w->done_tail)
        w->done_tail->next = row;
    else
        w->done_head = row;
    w->done_tail = row;
}

static int load(struct tr_window *w, struct tr_block *b, struct tr_err *err)
{
    int rc;

    if (in_memory(b))
        return TR_OK;
    b->bytes = tr_alloc(b->bytes_cap);
    b->rows = tr_array(b->row_cap, sizeof *b->rows);
    weigh(w, b);
    if (!b->bytes || !b->rows) {
        drop_memory(w, b);
        return tr_fail(err, TR_NOMEM, "out of memory while writing rows");
    }
    rc = w->env->unspill(w->env->ctx, b, err);
    if (rc != TR_OK) {
        drop_memory(w, b);
        return rc;
    }
    b->spilled_at = -1;
    for (uint32_t i = 0; i < b->row_count; i++)
        b->rows[i].block = b;
    return TR_OK;
}

int tr_window_next(struct tr_window *w, struct tr_row **row,
                   struct tr_err *err)
{
    struct tr_block *b = w->head;

    *row = NULL;
    if (w->as_completed) {
        *row = w->done_head;
        return TR_OK;
    }
    if (!b || b->written >= b->row_count)
        return TR_OK;
    if (!in_memory(b)) {
        int rc = load(w, b, err);

        if (rc != TR_OK)
            return rc;
    }
    if (b->rows[b->written].state == TR_ROW_SETTLED)
        *row = &b->rows[b->written];
    return TR_OK;
}

void tr_window_wrote(struct tr_window *w, struct tr_row *row)
{
    struct tr_block *b = row->block;

    if (w->as_completed) {
        w->done_head = row->next;
        if (!w->done_head)
            w->done_tail = NULL;
    }
    b->written++;
    /* A block that is still being filled keeps its memory until the next one
     * has begun; a middle one (as completed) keeps its shell until its turn. */
    if (b->written == b->row_count && b != w->tail && b != w->head)
        drop_memory(w, b);
    while (w->head && w->head != w->tail &&
           w->head->written == w->head->row_count)
        drop_head(w);
}

bool tr_window_empty(const struct tr_window *w)
{
    return !w->head || (w->head == w->tail &&
                        w->head->written == w->head->row_count);
}

bool tr_window_moves(const struct tr_window *w)
{
    const struct tr_block *b = w->head;

    if (w->as_completed)
        return w->done_head != NULL;
    return b && b->written < b->row_count &&
           (!in_memory(b) || b->rows[b->written].state == TR_ROW_SETTLED);
}
