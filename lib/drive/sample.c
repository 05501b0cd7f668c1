/* sample.c - texts spread over the whole input, for models that fit themselves.
 * SPDX-License-Identifier: MIT */
#include "drive/sample.h"

#include "base/bounds.h"
#include "base/keymap.h"
#include "base/mem.h"

#include <stdlib.h>

#define LONG_ENOUGH 40 /* bytes of a text whose language can be told */

void tr_sample_init(struct tr_sample *s)
{
    *s = (struct tr_sample){0};
}

void tr_sample_release(struct tr_sample *s)
{
    tr_arena_release(&s->arena);
    tr_free(s->texts);
    tr_free(s->parties);
    tr_sample_init(s);
}

struct sampled {
    struct tr_key key;
    struct tr_str text;
    uint64_t party;
};

/* Equal texts of two parties are two, as they are when they are asked. */
static struct tr_key key_of(struct tr_str text, uint64_t party)
{
    struct tr_key salt;

    if (!party)
        return tr_digest(NULL, text);
    salt = tr_digest(NULL, tr_str((const char *)&party, sizeof party));
    return tr_digest(&salt, text);
}

static int by_key(const void *a, const void *b)
{
    return tr_key_cmp(&((const struct sampled *)a)->key,
                      &((const struct sampled *)b)->key);
}

/* What is kept while the input is read. */
struct draw {
    struct sampled *best; /* the first `most` sorted if full, then newer ones */
    size_t n, cap, most;
    bool full;
    struct tr_keymap known; /* the keys of best */
};

/* The `most` smallest stay, in memory of their own. */
static int compact(struct draw *d, struct tr_arena *arena, struct tr_err *err)
{
    struct tr_arena kept;
    int rc = TR_OK;

    tr_arena_init(&kept);
    tr_keymap_release(&d->known);
    qsort(d->best, d->n, sizeof *d->best, by_key);
    d->n = d->most;
    d->full = true;
    for (size_t i = 0; i < d->n; i++) {
        struct sampled *b = &d->best[i];

        b->text = tr_arena_dup(&kept, b->text);
        if (!b->text.p || !tr_keymap_add(&d->known, &b->key, d))
            TRY(tr_fail(err, TR_NOMEM, "out of memory for the sample"));
    }
    tr_arena_release(arena);
    *arena = kept;
    tr_arena_init(&kept);
out:
    tr_arena_release(&kept);
    return rc;
}

static int consider(struct draw *d, struct tr_arena *arena, struct tr_str text,
                    uint64_t party, size_t text_max, struct tr_err *err)
{
    struct tr_key key = key_of(text, party);
    struct sampled *b = &d->best[d->n];

    if ((d->full && tr_key_cmp(&key, &d->best[d->most - 1].key) >= 0) ||
        tr_keymap_find(&d->known, &key))
        return TR_OK;
    if (text_max && text.n > text_max)
        text.n = text_max;
    *b = (struct sampled){key, tr_arena_dup(arena, text), party};
    if (!b->text.p || !tr_keymap_add(&d->known, &key, d))
        return tr_fail(err, TR_NOMEM, "out of memory for the sample");
    return ++d->n < d->cap ? TR_OK : compact(d, arena, err);
}

int tr_sample_draw(struct tr_sample *s, size_t most, size_t text_max,
                   const struct tr_source_opts *input, struct tr_err *err)
{
    struct draw d = {.most = most, .cap = 2 * most};
    struct tr_source *src = NULL;
    struct tr_block *block = NULL;
    int rc = TR_OK, got;

    TRY(tr_source_open(&src, input, err));
    block = tr_block_new(TR_BLOCK_ROWS, TR_BLOCK_BYTES);
    d.best = tr_array(d.cap, sizeof *d.best);
    if (!block || !d.best)
        TRY(tr_fail(err, TR_NOMEM, "out of memory for the sample"));
    do {
        got = tr_source_next(src, block, err);
        if (got < 0)
            TRY(got);
        if (got == TR_SOURCE_ROW)
            continue;
        for (uint32_t i = 0; i < block->row_count; i++) {
            const struct tr_row *row = &block->rows[i];

            if (row->state != TR_ROW_SETTLED)
                TRY(consider(&d, &s->arena, tr_row_text(block, row),
                             row->party, text_max, err));
        }
        block->row_count = 0;
        block->bytes_n = 0;
    } while (got != TR_SOURCE_END);
    qsort(d.best, d.n, sizeof *d.best, by_key);
    s->texts = tr_array(d.n + 1, sizeof *s->texts);
    s->parties = tr_array(d.n + 1, sizeof *s->parties);
    if (!s->texts || !s->parties)
        TRY(tr_fail(err, TR_NOMEM, "out of memory for the sample"));
    for (; s->n < d.n && s->n < most; s->n++) {
        s->texts[s->n] = d.best[s->n].text;
        s->parties[s->n] = d.best[s->n].party;
    }
out:
    tr_keymap_release(&d.known);
    tr_free(d.best);
    tr_block_free(block);
    tr_source_close(src);
    return rc;
}

/* Very common English words: a text of some length without any of them is
 * most likely not English. */
static bool has_english(struct tr_str text)
{
    static const char words[] = " the a an of to in is it and for on that this "
        "i my you with was be have are not can do me your we at from but ";
    char word[12] = " ";
    size_t n = 1;

    for (size_t i = 0; i <= text.n; i++) {
        unsigned char c = i < text.n ? (unsigned char)text.p[i] : ' ';

        if (c >= 'A' && c <= 'Z')
            c = (unsigned char)(c + 32);
        if (c >= 'a' && c <= 'z') {
            if (n < sizeof word - 2)
                word[n] = (char)c;
            n++;
            continue;
        }
        if (n > 1 && n < sizeof word - 2) {
            word[n] = ' ';
            word[n + 1] = '\0';
            if (strstr(words, word))
                return true;
        }
        n = 1;
    }
    return false;
}

int tr_sample_foreign_pct(const struct tr_sample *s)
{
    size_t long_enough = 0, foreign = 0;

    for (size_t i = 0; i < s->n; i++) {
        if (s->texts[i].n < LONG_ENOUGH)
            continue;
        long_enough++;
        foreign += !has_english(s->texts[i]);
    }
    return long_enough < 5 ? 0 : (int)(100 * foreign / long_enough);
}
