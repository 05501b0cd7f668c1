/* rows_fixture.h - one input in, what came of it as text, for the tests.
 *
 * Each test program works in a temporary folder of its own, so that names in
 * sentences are bare.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ROWS_FIXTURE_H
#define ROWS_FIXTURE_H

#include "base/bounds.h"
#include "base/buf.h"
#include "base/mem.h"
#include "rows/source.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

static char fixture_dir[] = "/tmp/rows_test_XXXXXX";

static inline int enter_folder(void **state)
{
    (void)state;
    return mkdtemp(fixture_dir) && chdir(fixture_dir) == 0 ? 0 : -1;
}

static inline int leave_folder(void **state)
{
    char command[64];

    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", fixture_dir);
    return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

static inline void put_file(const char *name, struct tr_str bytes)
{
    FILE *f = fopen(name, "wb");

    assert_non_null(f);
    if (bytes.n)
        assert_int_equal(fwrite(bytes.p, 1, bytes.n, f), bytes.n);
    assert_int_equal(fclose(f), 0);
}

/* Reads everything o names. out: head and records with the companions L, m,
 * 0.9731; seen (may be NULL): per row "LINE:[TEXT]", "#ID", "!why". After an
 * error both end with "! " and its sentence. Returns the code. */
static inline int read_all(const struct tr_source_opts *o, uint32_t row_cap,
                           size_t bytes_cap, struct tr_buf *out,
                           struct tr_buf *seen)
{
    const struct tr_str label = TR_STR("L");
    struct tr_source *src = NULL;
    struct tr_block *block = tr_block_new(row_cap, bytes_cap);
    struct tr_err err = {0};
    int rc = tr_source_open(&src, o, &err);
    uint64_t rows = 0;
    bool over = rc < 0;

    assert_non_null(block);
    if (!over)
        tr_source_head(src, out);
    while (!over) {
        rc = tr_source_next(src, block, &err);
        if (rc == TR_SOURCE_ROW || rc == TR_SOURCE_WAIT)
            continue;
        if (rc == TR_SOURCE_FULL)
            assert_true(block->row_count > 0);
        if (block->row_count)
            assert_int_equal(block->first, rows);
        rows += block->row_count;
        for (uint32_t i = 0; i < block->row_count; i++) {
            const struct tr_row *row = &block->rows[i];
            enum tr_why why = row->verdict.why;
            bool good = why == TR_WHY_NONE;
            struct tr_companions c = {
                .labels = &label,
                .label_count = good,
                .by = good ? TR_STR("m") : TR_STR(""),
                .confidence = good ? 9731 : TR_NO_CONFIDENCE,
                .why = why};

            assert_int_equal(row->state,
                             good ? TR_ROW_READ : TR_ROW_SETTLED);
            tr_source_render(src, block, row, &c, out);
            if (!seen)
                continue;
            tr_buf_addf(seen, "%llu:[", (unsigned long long)row->line);
            tr_buf_adds(seen, tr_row_text(block, row));
            tr_buf_addc(seen, ']');
            if (row->id_n) {
                tr_buf_addc(seen, '#');
                tr_buf_add(seen, block->bytes + row->id_at, row->id_n);
            }
            if (!good)
                tr_buf_addf(seen, "!%s", tr_why_code(why));
            tr_buf_addc(seen, '\n');
        }
        block->row_count = 0;
        block->bytes_n = 0;
        over = rc <= 0;
    }
    if (rc < 0) {
        assert_int_equal(rc, err.code);
        tr_buf_addf(out, "! %s", err.text);
        if (seen)
            tr_buf_addf(seen, "! %s", err.text);
    }
    tr_source_close(src);
    tr_block_free(block);
    assert_true(tr_buf_ok(out));
    return rc;
}

#endif
