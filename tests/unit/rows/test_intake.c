/* test_intake.c - packed inputs: whole, in pieces, cut, damaged, a bomb;
 * and a file that changes while it is read.
 *
 * SPDX-License-Identifier: MIT */
#include "rows_fixture.h"

#include "rows/inflate.h"

#include <zlib.h>
#include <zstd.h>

static void add_gzip(struct tr_buf *out, struct tr_str text)
{
    z_stream z = {0};
    char *to = tr_buf_room(out, text.n + 1000);

    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8,
                                  Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (z_const Bytef *)text.p;
    z.avail_in = (uInt)text.n;
    z.next_out = (Bytef *)to;
    z.avail_out = (uInt)(text.n + 1000);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    out->n += z.total_out;
    deflateEnd(&z);
}

static void add_zstd(struct tr_buf *out, struct tr_str text)
{
    size_t room = ZSTD_compressBound(text.n);
    size_t n = ZSTD_compress(tr_buf_room(out, room), room, text.p, text.n, 3);

    assert_false(ZSTD_isError(n));
    out->n += n;
}

static const struct {
    const char *name;
    void (*add)(struct tr_buf *, struct tr_str);
} kinds[] = {{"p.csv.gz", add_gzip}, {"p.csv.zst", add_zstd}};

#define KINDS (sizeof kinds / sizeof *kinds)

/* About 40 kB of rows in three members or frames, the borders in odd places. */
static void pack_rows(size_t kind, struct tr_buf *plain, struct tr_buf *packed)
{
    size_t cuts[4] = {0};

    tr_buf_init(plain, 0);
    tr_buf_init(packed, 0);
    tr_buf_addz(plain, "id,text\n");
    for (int i = 0; i < 2000; i++)
        tr_buf_addf(plain, "%d,\"row, %d\"\n", i, i * i);
    cuts[1] = 3;
    cuts[2] = plain->n / 2;
    cuts[3] = plain->n;
    for (int i = 0; i < 3; i++)
        kinds[kind].add(packed, tr_str(plain->p + cuts[i],
                                       cuts[i + 1] - cuts[i]));
}

static void packed_equals_plain(void **state)
{
    static const size_t read_sizes[] = {0, 1, 3, 1000};
    (void)state;

    for (size_t k = 0; k < KINDS; k++) {
        struct tr_buf plain, packed, want, got;
        const char *plain_name = "plain.csv", *odd_name = "odd.csv";
        struct tr_source_opts o = {.paths = &plain_name, .path_count = 1};

        pack_rows(k, &plain, &packed);
        put_file(plain_name, tr_buf_str(&plain));
        put_file(kinds[k].name, tr_buf_str(&packed));
        put_file(odd_name, tr_buf_str(&packed));
        tr_buf_init(&want, 0);
        tr_buf_init(&got, 0);
        assert_int_equal(read_all(&o, 64, 4096, &want, NULL), TR_SOURCE_END);
        for (size_t r = 0; r < sizeof read_sizes / sizeof *read_sizes; r++) {
            o.read_bytes = read_sizes[r];
            /* By name, and by first bytes alone. */
            o.paths = r % 2 ? &odd_name : &kinds[k].name;
            tr_buf_clear(&got);
            assert_int_equal(read_all(&o, 64, 4096, &got, NULL),
                             TR_SOURCE_END);
            assert_true(tr_str_eq(tr_buf_str(&got), tr_buf_str(&want)));
        }
        tr_buf_release(&plain);
        tr_buf_release(&packed);
        tr_buf_release(&want);
        tr_buf_release(&got);
    }
}

/* Cut anywhere, the run says so: never a quiet end. */
static void cut_short(void **state)
{
    (void)state;

    for (size_t k = 0; k < KINDS; k++) {
        struct tr_buf plain, packed, out, member;
        struct tr_source_opts o = {.paths = &kinds[k].name, .path_count = 1};

        pack_rows(k, &plain, &packed);
        tr_buf_init(&out, 0);
        tr_buf_init(&member, 0);
        kinds[k].add(&member, tr_buf_str(&plain));
        for (size_t n = 4; n < member.n; n += 1 + n / 7) {
            put_file(kinds[k].name, tr_str(member.p, n));
            tr_buf_clear(&out);
            assert_int_equal(read_all(&o, 64, 4096, &out, NULL), TR_DATA);
            assert_non_null(strstr(out.p, "was cut short: get it again"));
        }
        tr_buf_release(&plain);
        tr_buf_release(&packed);
        tr_buf_release(&member);
        tr_buf_release(&out);
    }
}

static void damaged(void **state)
{
    static const char *const sentences[KINDS] = {
        "p.csv.gz is not sound gzip data; get it again, or unpack it yourself "
        "and label the result",
        "p.csv.zst is not sound Zstandard data; get it again, or unpack it "
        "yourself and label the result"};
    (void)state;

    for (size_t k = 0; k < KINDS; k++) {
        struct tr_buf plain, packed, out;
        struct tr_source_opts o = {.paths = &kinds[k].name, .path_count = 1};

        pack_rows(k, &plain, &packed);
        /* Something that is no member behind the last one. */
        tr_buf_addz(&packed, "garbage");
        put_file(kinds[k].name, tr_buf_str(&packed));
        tr_buf_init(&out, 0);
        assert_int_equal(read_all(&o, 64, 4096, &out, NULL), TR_DATA);
        assert_non_null(strstr(out.p, sentences[k]));
        tr_buf_release(&plain);
        tr_buf_release(&packed);
        tr_buf_release(&out);
    }
}

static void padding_after_gzip(void **state)
{
    struct tr_buf plain, packed, out;
    struct tr_source_opts o = {.paths = &kinds[0].name, .path_count = 1};
    (void)state;

    pack_rows(0, &plain, &packed);
    tr_buf_add(&packed, "\0\0\0\0\0\0\0", 7);
    put_file(kinds[0].name, tr_buf_str(&packed));
    tr_buf_init(&out, 0);
    assert_int_equal(read_all(&o, 64, 4096, &out, NULL), TR_SOURCE_END);
    tr_buf_release(&plain);
    tr_buf_release(&packed);
    tr_buf_release(&out);
}

/* Nine empty gigabytes in a few kilobytes. */
static void bomb(void **state)
{
    static char zeros[1 << 20], out[1 << 16];
    struct tr_inflate *z = tr_inflate_new(TR_PACKED_ZSTD);
    struct tr_buf frame;
    const char *what = NULL;
    uint64_t given = 0;
    long n = 0;
    (void)state;

    tr_buf_init(&frame, 0);
    add_zstd(&frame, tr_str(zeros, sizeof zeros));
    assert_true(frame.n * 10000 < sizeof zeros);
    while (n >= 0 && given < (uint64_t)9 << 30) {
        struct tr_str in = tr_buf_str(&frame);

        do {
            n = tr_inflate_step(z, &in, out, sizeof out, &what);
            given += n > 0 ? (uint64_t)n : 0;
        } while (n == (long)sizeof out || (n >= 0 && in.n));
    }
    assert_int_equal(n, -1);
    assert_string_equal(what, "grows by more than 10,000 times");
    assert_true(given < (uint64_t)65 << 20);
    tr_inflate_free(z);
    tr_buf_release(&frame);
}

/* A window above 16 MiB would break the promise of flat memory. */
static void wide_window(void **state)
{
    static const char *const path = "wide.csv.zst";
    struct tr_source_opts o = {.paths = (const char *const *)&path,
                               .path_count = 1};
    ZSTD_CCtx *c = ZSTD_createCCtx();
    struct tr_buf frame, out;
    ZSTD_inBuffer from = {"id,text\n1,a\n", 12, 0};
    ZSTD_outBuffer to;
    (void)state;

    ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, 27);
    tr_buf_init(&frame, 0);
    tr_buf_init(&out, 0);
    to = (ZSTD_outBuffer){tr_buf_room(&frame, 1000), 1000, 0};
    assert_false(ZSTD_isError(ZSTD_compressStream2(c, &to, &from,
                                                   ZSTD_e_flush)));
    assert_int_equal(ZSTD_compressStream2(c, &to, &from, ZSTD_e_end), 0);
    put_file(path, tr_str(frame.p, to.pos));
    assert_int_equal(read_all(&o, 8, 4096, &out, NULL), TR_DATA);
    assert_string_equal(out.p, "! wide.csv.zst was compressed with a window "
                               "above 16 MiB; get it again, or unpack it "
                               "yourself and label the result");
    ZSTD_freeCCtx(c);
    tr_buf_release(&frame);
    tr_buf_release(&out);
}

/* A file is cut to n bytes and gets more behind them once its first row has
 * been read. Returns how many rows came of it; *rc is what ended them. */
static uint64_t rows_when_changed(off_t n, const char *more, int *rc,
                                  struct tr_err *err)
{
    const char *name = "changed.txt";
    struct tr_source_opts o = {
        .paths = &name, .path_count = 1, .read_bytes = 8};
    struct tr_block *block = tr_block_new(64, 4096);
    struct tr_source *src;
    uint64_t rows;
    FILE *f;

    put_file(name, TR_STR("one\ntwo\nthree\nfour\nfive\nsix\nseven\n"));
    assert_non_null(block);
    assert_int_equal(tr_source_open(&src, &o, err), TR_OK);
    assert_int_equal(tr_source_next(src, block, err), TR_SOURCE_ROW);
    assert_int_equal(truncate(name, n), 0);
    f = fopen(name, "ab");
    assert_non_null(f);
    assert_true(fputs(more, f) >= 0);
    assert_int_equal(fclose(f), 0);
    do
        *rc = tr_source_next(src, block, err);
    while (*rc == TR_SOURCE_ROW);
    rows = block->row_count;
    tr_source_close(src);
    tr_block_free(block);
    return rows;
}

/* Whoever writes a file anew empties it first: that is no end of the input. */
static void shorter_than_before(void **state)
{
    static const struct {
        off_t n;
        const char *more;
    } cases[] = {{0, ""}, {0, "new\n"}, {20, ""}, {33, ""}};
    struct tr_err err;
    int rc;
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rows_when_changed(cases[i].n, cases[i].more, &rc, &err);
        assert_int_equal(rc, TR_IO);
        assert_string_equal(err.text, "changed.txt became shorter while it was "
                            "read, so rows of it are missing; run the same "
                            "command again when nothing writes to it");
    }
    /* One that grows, as logs do, is read to its end. */
    assert_int_equal(rows_when_changed(34, "eight\n", &rc, &err), 8);
    assert_int_equal(rc, TR_SOURCE_END);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_equals_plain),
        cmocka_unit_test(cut_short),
        cmocka_unit_test(damaged),
        cmocka_unit_test(padding_after_gzip),
        cmocka_unit_test(bomb),
        cmocka_unit_test(wide_window),
        cmocka_unit_test(shorter_than_before),
    };

    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
