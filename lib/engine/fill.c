/* fill.c - fill: read rows, look them up, join equal ones.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

enum {
    FILL_ROWS = 1024 /* rows read in one step: a step stays short */
};

/* Rows just read, by the place where they stand in the arrays. */
struct asked {
    struct tr_row *row[FILL_ROWS];
    struct tr_key key[FILL_ROWS]; /* as the lane looked at would store it */
    struct tr_verdict verdict[FILL_ROWS];
    bool found[FILL_ROWS];
    size_t n;
};

/* What the store knows from one lane. Settled rows leave the list; a failure
 * that leads on to the next lane makes this the row's first. */
static int look_up_at(struct tr_run *run, struct tr_run_lane *l,
                      struct asked *a, struct tr_err *err)
{
    size_t left = 0;
    int rc = tr_store_find(run->store, &run->find, a->key, a->n, a->verdict,
                           a->found, err);

    if (rc != TR_OK)
        return rc;
    for (size_t i = 0; i < a->n; i++) {
        struct tr_row *row = a->row[i];
        enum tr_why why = (enum tr_why)a->verdict[i].why;
        /* A failure counts only once no lane before it is left to ask. */
        bool counts = a->found[i] &&
                      (why == TR_WHY_NONE || row->lane == l->place);

        if (counts && why != TR_WHY_NONE && tr_chain_goes_past(run, l, why)) {
            row->lane++;
            row->went_on = true;
            counts = false;
        }
        if (!counts) {
            a->row[left++] = row;
            continue;
        }
        rc = why == TR_WHY_NONE
                 ? tr_task_set_stored(run->task, &a->verdict[i].set, err)
                 : TR_OK;
        if (rc != TR_OK)
            return rc;
        if (run->opts.dry_run) {
            bool wanted;

            rc = tr_run_preview_row(run, row, true, &wanted, err);
            if (rc != TR_OK)
                return rc;
            for (const struct tr_row *r = row; r; r = r->twin)
                run->preview.known++;
        }
        row->verdict = a->verdict[i];
        run->counts.rows_stored++;
        run->counts.rows_stored_failed += why != TR_WHY_NONE;
        l->counts.stored++;
        tr_run_settle_all(run, row);
    }
    a->n = left;
    return TR_OK;
}

/* Rows just read: known ones settle, equal ones join, the rest waits. */
static int look_up(struct tr_run *run, struct tr_row **rows, size_t n,
                   struct tr_err *err)
{
    static const struct tr_verdict unasked = {
        .why = TR_WHY_NOT_ASKED,
        .origin = TR_NO_ORIGIN,
        .confidence = TR_NO_CONFIDENCE,
    };
    struct tr_run_lane *lane = &run->lanes[0];
    struct asked a;
    int rc = TR_OK;

    a.n = 0;
    for (size_t i = 0; i < n; i++) {
        struct tr_row *row = rows[i], *first;
        struct tr_key equal;

        if (row->state == TR_ROW_SETTLED) { /* bad or empty: the source said */
            tr_run_settle_row(run, row);
            continue;
        }
        row->key = tr_run_key(lane, row);
        equal = tr_run_equal_key(run, row);
        first = tr_keymap_find(&run->open_keys, &equal);
        if (first) {
            row->state = TR_ROW_TWIN;
            row->twin = first->twin;
            first->twin = row;
            run->counts.rows_twin++;
            continue;
        }
        if (!tr_keymap_add(&run->open_keys, &equal, row))
            return tr_fail(err, TR_NOMEM, "out of memory while reading rows");
        a.key[a.n] = row->key;
        a.row[a.n++] = row;
    }
    TR_EACH_LANE(run, l) {
        for (size_t i = 0; l->place && i < a.n; i++)
            a.key[i] = tr_run_key(l, a.row[i]);
        TRY(look_up_at(run, l, &a, err));
    }
    for (size_t i = 0; i < a.n; i++) {
        struct tr_row *row = a.row[i];
        bool wanted = !run->opts.offline;

        if (run->opts.dry_run)
            TRY(tr_run_preview_row(run, row, false, &wanted, err));
        if (!wanted) {
            row->verdict = unasked;
            tr_run_settle_all(run, row);
        } else if (!tr_run_seat(run, row)) {
            tr_run_wait(run, row);
        }
    }
out:
    return rc;
}

int tr_run_fill(struct tr_run *run, bool *moved, struct tr_err *err)
{
    struct tr_row *rows[FILL_ROWS];
    size_t n = 0;
    int rc = TR_OK;

    run->input_waits = run->window_full = false;
    if (run->stopping)
        return TR_OK;
    while (!run->input_ended && n < FILL_ROWS) {
        struct tr_block *b = tr_window_room(&run->window, run->new_block, err);

        run->new_block = false;
        if (!b) {
            rc = err->code;
            run->window_full = rc == TR_OK;
            break;
        }
        rc = run->env->read(run->env->ctx, b, err);
        if (rc == TR_FILL_ROW) {
            rows[n++] = tr_window_added(&run->window, b);
            run->counts.rows_read++;
        } else if (rc == TR_FILL_FULL) {
            run->new_block = true;
        } else if (rc == TR_FILL_WAIT) {
            run->input_waits = true;
            break;
        } else if (rc == TR_FILL_END) {
            run->input_ended = run->counts.input_ended = true;
        } else {
            break;
        }
    }
    if (n) {
        struct tr_err again;
        int looked = look_up(run, rows, n, &again);

        *moved = true;
        if (looked != TR_OK) {
            *err = again;
            return looked;
        }
    }
    return rc < 0 ? rc : TR_OK;
}
