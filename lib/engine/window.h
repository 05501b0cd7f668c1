/* window.h - the rows in memory, in input order, within a bound.
 *
 * Rows are read into the last block and leave from the first. When one
 * unsettled row holds back the rest and the window is full, settled blocks
 * behind it are spilled (env->spill) and come back when their turn is there:
 * a stuck row holds back the output, not the reading.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_WINDOW_H
#define TR_WINDOW_H

#include "run.h"

struct tr_window {
    const struct tr_env *env;
    bool as_completed;       /* rows leave when settled, not in order */
    size_t bytes, bytes_max; /* memory of blocks, structs included */
    struct tr_block *head, *tail;
    struct tr_row *done_head, *done_tail; /* as completed: settled, unwritten */
    uint64_t next_ordinal;
    uint32_t next_sequence;
};

void tr_window_init(struct tr_window *w, const struct tr_env *env,
                    size_t bytes_max, bool as_completed);
void tr_window_release(struct tr_window *w);

/* The block to read the next row into, with a free row; NULL: the window is
 * full, or memory is out (err is filled then). fresh: begin a new block (the
 * row did not fit into the old one). */
struct tr_block *tr_window_room(struct tr_window *w, bool fresh,
                                struct tr_err *err);
/* Counts the row just read into block as part of the window. */
struct tr_row *tr_window_added(struct tr_window *w, struct tr_block *block);
/* A row became SETTLED. */
void tr_window_settled(struct tr_window *w, struct tr_row *row);

/* The next settled row to write, or NULL. Its block is in memory. */
int tr_window_next(struct tr_window *w, struct tr_row **row,
                   struct tr_err *err);
/* It was written: forget it. A block goes with its last row, but not while rows
 * are read into it. */
void tr_window_wrote(struct tr_window *w, struct tr_row *row);
bool tr_window_empty(const struct tr_window *w); /* every row was written */
/* Some row is settled and waits to be written: there will be room. */
bool tr_window_moves(const struct tr_window *w);

#endif
