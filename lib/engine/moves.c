/* moves.c - how a row waits, is answered and settles, how a pack is made and
 * goes, and what a row is to a lane. Who moves, and when, others decide.
 *
 * Moves that are part of what their file does stand there: a row joins an
 * equal one in fill.c, a pack in packs.c and another lane in chain.c; between
 * made and gone a pack moves in packs.c, commit.c, receive.c and purse.c.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include "base/bounds.h"
#include "plan/suspect.h"

enum {
    SPARE_BYTES = 32 << 10 /* a body with more room than this is not kept */
};

struct tr_str tr_run_text(const struct tr_run_lane *l,
                          const struct tr_row *row)
{
    struct tr_str text = tr_row_text(row->block, row);

    if (l->text_max && text.n > l->text_max) {
        text.n = l->text_max;
        while (text.n && ((unsigned char)text.p[text.n] & 0xc0) == 0x80)
            text.n--; /* never inside a character */
    }
    return text;
}

struct tr_key tr_run_key(const struct tr_run_lane *l, const struct tr_row *row)
{
    struct tr_key salt = l->salt;

    if (row->party)
        salt = tr_digest(&l->salt, tr_str((const char *)&row->party,
                                          sizeof row->party));
    return tr_digest(&salt, tr_run_text(l, row));
}

struct tr_key tr_run_equal_key(const struct tr_run *run,
                               const struct tr_row *row)
{
    const struct tr_run_lane *l = &run->lanes[0];

    for (uint32_t i = 1; i < run->lane_count && l->text_max; i++)
        if (!run->lanes[i].text_max || run->lanes[i].text_max > l->text_max)
            l = &run->lanes[i];
    return l->place ? tr_run_key(l, row) : row->key;
}

/* ---- a row waits ------------------------------------------------------ */

/* Looks at it as each lane would get it that puts texts together: the first may
 * close and leave the row to any of those behind it. */
static void judge(struct tr_run *run, struct tr_row *row)
{
    size_t judged = 0;

    for (uint32_t i = row->lane; i < run->lane_count && !row->apart; i++) {
        struct tr_run_lane *l = &run->lanes[i];
        struct tr_str text = tr_run_text(l, row);

        if (l->guard.mode == TR_GUARD_OFF || text.n <= judged)
            continue;
        judged = text.n;
        row->apart = tr_suspect(text, run->task->labels,
                                run->task->label_count);
        l->guard.counts.isolated += row->apart;
    }
}

void tr_run_wait(struct tr_run *run, struct tr_row *row)
{
    struct tr_run_lane *l = &run->lanes[row->lane];

    judge(run, row);
    if (row->apart) {
        tr_run_wait_again(run, l, row, 1);
        return;
    }
    row->state = TR_ROW_WAITING;
    tr_rows_add(&l->fresh, row);
}

void tr_run_wait_again(struct tr_run *run, struct tr_run_lane *l,
                       struct tr_row *row, uint16_t company)
{
    row->state = TR_ROW_WAITING;
    row->company = company;
    row->since = run->now;
    tr_rows_add(&l->redo, row);
}

/* ---- a row comes to rest ---------------------------------------------- */

/* A verdict is known; it shows after the next commit. */
void tr_run_answer(struct tr_run *run, struct tr_row *row,
                   struct tr_verdict verdict)
{
    TR_ASSERT(row->state == TR_ROW_PACKED || row->state == TR_ROW_WAITING);
    row->verdict = verdict;
    row->state = TR_ROW_ANSWERED;
    tr_rows_add(&run->answered, row);
    if (!run->flush.oldest_at)
        run->flush.oldest_at = run->now;
}

static void count_settled(struct tr_run *run, const struct tr_row *row)
{
    const struct tr_verdict *v = &row->verdict;
    struct tr_counts *c = &run->counts;
    int64_t number =
        (int64_t)(row->block->first + (uint64_t)(row - row->block->rows)) + 1;

    c->rows_settled++;
    if (v->why != TR_WHY_NONE) {
        int64_t *first = &c->fail_example[v->why];

        c->rows_failed++;
        c->fails[v->why]++;
        if (!*first || number < *first) /* rows settle in any order */
            *first = number;
        return;
    }
    const uint32_t *labels;
    uint32_t n = tr_task_set_labels(run->task, v->set, &labels);

    for (uint32_t i = 0; i < n; i++)
        run->label_counts[labels[i]]++;
    if (n == 0 || (n == 1 && (int32_t)labels[0] == run->task->none))
        c->none_answers++;
}

void tr_run_settle_row(struct tr_run *run, struct tr_row *row)
{
    tr_window_settled(&run->window, row);
    count_settled(run, row);
}

/* What was asked in this run counts for who answered. */
static void count_for_lane(struct tr_lane_counts *c, const struct tr_row *row)
{
    for (const struct tr_row *r = row; r; r = r->twin) {
        c->rows++;
        c->failed += row->verdict.why != TR_WHY_NONE;
    }
}

/* The row and all equal ones got their verdict and it is durable. */
void tr_run_settle_all(struct tr_run *run, struct tr_row *row)
{
    struct tr_key key = tr_run_equal_key(run, row);
    struct tr_row *twin = row->twin;

    if (row->state == TR_ROW_ANSWERED)
        count_for_lane(&run->lanes[row->lane].counts, row);
    tr_keymap_remove(&run->open_keys, &key);
    row->twin = NULL;
    while (twin) {
        struct tr_row *next = twin->twin;

        twin->verdict = row->verdict;
        twin->twin = NULL;
        tr_run_settle_row(run, twin);
        twin = next;
    }
    tr_run_settle_row(run, row);
}

/* ---- packs ------------------------------------------------------------ */

static struct tr_pack *new_pack(struct tr_run_lane *l, uint32_t n,
                                struct tr_err *err)
{
    struct tr_pack *p;
    char *space;
    uint32_t items = n > 1 ? n + TR_GUESTS_MAX : n;
    size_t bytes = sizeof *p + n * (sizeof *p->rows + sizeof *p->texts) +
                   items * (sizeof *p->items + sizeof *p->order);

    p = tr_alloc(bytes);
    if (!p) {
        tr_fail(err, TR_NOMEM, "out of memory for a request of %u texts",
                (unsigned)n);
        return NULL;
    }
    space = (char *)(p + 1);
    p->rows = (void *)space;
    space += n * sizeof *p->rows;
    p->items = (void *)space;
    space += items * sizeof *p->items;
    p->texts = (void *)space;
    space += n * sizeof *p->texts;
    p->order = (void *)space;
    p->n = n;
    p->lane = l;
    tr_buf_init(&p->body, TR_BODIES_BYTES);
    return p;
}

struct tr_pack *tr_pack_new(struct tr_run *run, struct tr_run_lane *l,
                            uint32_t n, struct tr_err *err)
{
    struct tr_pack *p;

    if (!run->free_slot_count) {
        tr_fail(err, TR_BUG, "no free slot for a pack");
        return NULL;
    }
    p = new_pack(l, n, err);
    if (!p)
        return NULL;
    p->slot = run->free_slots[--run->free_slot_count];
    run->packs[p->slot] = p;
    if (run->spare_count)
        p->body = run->spare[--run->spare_count];
    run->body_bytes += p->body.cap;
    return p;
}

struct tr_pack *tr_pack_adopted(struct tr_run *run, struct tr_run_lane *l,
                                uint32_t n, struct tr_err *err)
{
    struct tr_pack *p;

    if (run->slot_count == TR_SLOTS_MAX) {
        tr_fail(err, TR_STOPPED, "more than a million requests of this task "
                "are in batches: wait until some have ended");
        return NULL;
    }
    if (tr_run_grow((void **)&run->packs, &run->pack_cap, run->slot_count + 1,
                    sizeof(struct tr_pack *), err) != TR_OK)
        return NULL;
    p = new_pack(l, n, err);
    if (!p)
        return NULL;
    p->slot = run->slot_count++;
    run->packs[p->slot] = p;
    return p;
}

bool tr_run_seat(struct tr_run *run, struct tr_row *row)
{
    struct tr_seat *seat = tr_keymap_find(&run->seats, &row->key);
    struct tr_pack *p;
    uint32_t at;

    if (!seat)
        return false;
    p = seat->pack;
    at = (uint32_t)(seat - p->seats);
    tr_keymap_remove(&run->seats, &row->key);
    p->rows[at] = row;
    row->state = TR_ROW_PACKED;
    for (uint32_t i = 0; i < p->n; i++)
        if (p->order[i] == at)
            p->items[i].text = tr_run_text(p->lane, row);
    run->unseated -= !p->seated;
    p->seated++;
    return true;
}

/* The pack goes: nobody finds a seat in it any more. */
static void unseat(struct tr_run *run, struct tr_pack *p)
{
    if (!p->seats)
        return;
    run->unseated -= !p->seated;
    for (uint32_t i = 0; i < p->n; i++)
        if (tr_keymap_find(&run->seats, &p->seats[i].key) == &p->seats[i])
            tr_keymap_remove(&run->seats, &p->seats[i].key);
    tr_free(p->seats);
    p->seats = NULL;
}

/* Its rows have been moved on before. */
void tr_pack_free(struct tr_run *run, struct tr_pack *p)
{
    unseat(run, p);
    tr_guard_leave(&p->lane->guard, p->guests, p->guest_count);
    p->lane->guard.scouting -= p->scout;
    run->body_bytes -= p->body.cap;
    run->packs[p->slot] = NULL;
    if (p->slot < run->own_slots)
        run->free_slots[run->free_slot_count++] = p->slot;
    /* Bodies are too large for malloc()'s fast path: keep some. */
    if (p->body.cap && p->body.cap <= SPARE_BYTES && tr_buf_ok(&p->body) &&
        run->spare_count < TR_SPARE_BODIES)
        run->spare[run->spare_count++] = p->body;
    else
        tr_buf_release(&p->body);
    tr_free(p);
}

/* Rows of a pack that never left, or that the lane does not take any more. */
void tr_run_give_back(struct tr_run *run, struct tr_pack *p)
{
    for (uint32_t i = p->n; i-- > 0; ) {
        struct tr_row *row = p->rows[i];

        if (!row) /* of an adopted pack, and not read */
            continue;
        if (p->seats) { /* nobody has looked at it yet */
            tr_run_wait(run, row);
            continue;
        }
        row->state = TR_ROW_WAITING;
        if (p->probe) /* not the same one every time: it may be poison */
            tr_rows_add(&run->lanes[row->lane].fresh, row);
        else
            tr_rows_push(&run->lanes[row->lane].fresh, row);
    }
    tr_pack_free(run, p);
}
