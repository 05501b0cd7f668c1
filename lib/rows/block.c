/* block.c - rows and the bytes they live in.
 * SPDX-License-Identifier: MIT */
#include "rows/source.h"

#include "base/bounds.h"
#include "base/mem.h"

/* A bad record is kept as one quoted field, or as a JSON string that is cut
 * (faulty.c): at most twice as long as a record may be. */
#define GROWN_MAX (4 * (size_t)TR_RECORD_BYTES_MAX)

struct tr_block *tr_block_new(uint32_t row_cap, size_t bytes_cap)
{
    struct tr_block *block = tr_alloc(sizeof *block);

    if (!block)
        return NULL;
    block->row_cap = row_cap;
    block->bytes_cap = bytes_cap;
    block->spilled_at = -1;
    block->rows = tr_array(row_cap, sizeof *block->rows);
    /* Not zeroed: every byte is written before it is read. */
    block->bytes = tr_resize(NULL, bytes_cap);
    if (!block->rows || !block->bytes) {
        tr_block_free(block);
        return NULL;
    }
    return block;
}

void tr_block_free(struct tr_block *block)
{
    if (!block)
        return;
    tr_free(block->rows);
    tr_free(block->bytes);
    tr_free(block);
}

uint32_t tr_block_add(struct tr_block *block, struct tr_str bytes, bool grow)
{
    size_t at = block->bytes_n;

    if (bytes.n > block->bytes_cap - at) {
        size_t cap = at + bytes.n;
        char *p;

        if (!grow || cap > GROWN_MAX)
            return UINT32_MAX;
        p = tr_resize(block->bytes, cap);
        if (!p)
            return UINT32_MAX;
        block->bytes = p;
        block->bytes_cap = cap;
    }
    if (bytes.n)
        memcpy(block->bytes + at, bytes.p, bytes.n);
    block->bytes_n = at + bytes.n;
    return (uint32_t)at;
}

struct tr_row *tr_block_add_row(struct tr_block *block, struct tr_str text,
                                bool grow)
{
    uint32_t at, n = (uint32_t)text.n;
    struct tr_row *row;

    if (block->row_count == block->row_cap)
        return NULL;
    at = tr_block_add(block, text, grow);
    if (at == UINT32_MAX)
        return NULL;
    row = &block->rows[block->row_count++];
    *row = (struct tr_row){.raw_at = at, .raw_n = n, .text_at = at,
                           .text_n = n};
    return row;
}
