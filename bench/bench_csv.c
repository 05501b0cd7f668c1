/* bench_csv.c - MB/s of reading and rendering CSV with companions, one core.
 *
 *   cc -O2 -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -Ilib \
 *      bench/bench_csv.c build/libtr_rows.a build/libtr_base.a \
 *      -lz -lzstd -lsodium -o bench_csv && ./bench_csv [FILE.csv]
 *
 * Without FILE it writes about 200 MB of support messages to a temporary
 * file. Every row is read, given companions and rendered into memory. The
 * floor is the time to read() the same bytes in pieces of 128 KiB and copy
 * them once.
 *
 * SPDX-License-Identifier: MIT */
#include "base/bounds.h"
#include "base/rng.h"
#include "rows/source.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BYTES ((size_t)200 << 20)
#define CHUNK ((size_t)128 << 10)

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void generate(const char *path)
{
    static const char *const words[] = {
        "the", "parcel", "invoice", "never", "arrived", "please", "refund",
        "my",  "account", "locked",  "since", "yesterday", "caf\xc3\xa9"};
    FILE *f = fopen(path, "w");
    struct tr_rng rng = {1};
    size_t written = 0, row = 0;

    if (!f)
        exit(1);
    fputs("id,text,channel\n", f);
    while (written < BYTES) {
        bool quoted = tr_rng_below(&rng, 3) == 0;
        int n = 5 + (int)tr_rng_below(&rng, 50);

        written += (size_t)fprintf(f, "ticket-%07zu,%s", row++,
                                   quoted ? "\"" : "");
        for (int i = 0; i < n; i++)
            written += (size_t)fprintf(
                f, "%s%s", i ? quoted && i % 9 == 0 ? ", " : " " : "",
                words[tr_rng_below(&rng, sizeof words / sizeof *words)]);
        written += (size_t)fprintf(f, "%s,mail\n", quoted ? "\"" : "");
    }
    fclose(f);
}

static double floor_s(const char *path)
{
    static char a[CHUNK], b[CHUNK];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    double from = now();
    ssize_t n;

    while ((n = read(fd, a, sizeof a)) > 0) {
        memcpy(b, a, (size_t)n);
        __asm__ volatile("" : : "r"(b) : "memory");
    }
    close(fd);
    return now() - from;
}

static double whole_s(const char *path, size_t *rows, size_t *out_bytes)
{
    struct tr_source_opts o = {
        .paths = &path, .path_count = 1, .as = "topic"};
    const struct tr_str label = TR_STR("billing");
    const struct tr_companions c = {.labels = &label,
                                    .label_count = 1,
                                    .by = TR_STR("openai/some-model"),
                                    .confidence = 9731};
    struct tr_block *block = tr_block_new(TR_BLOCK_ROWS, TR_BLOCK_BYTES);
    struct tr_source *src;
    struct tr_err err;
    struct tr_buf out;
    double from = now();
    int rc;

    tr_buf_init(&out, 0);
    if (!block || tr_source_open(&src, &o, &err) != TR_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    *rows = *out_bytes = 0;
    do {
        rc = tr_source_next(src, block, &err);
        if (rc == TR_SOURCE_ROW)
            continue;
        for (uint32_t i = 0; i < block->row_count; i++)
            tr_source_render(src, block, &block->rows[i], &c, &out);
        *rows += block->row_count;
        *out_bytes += out.n;
        out.n = 0;
        block->row_count = 0;
        block->bytes_n = 0;
    } while (rc > 0);
    if (rc < 0)
        fprintf(stderr, "%s\n", err.text);
    tr_source_close(src);
    tr_block_free(block);
    tr_buf_release(&out);
    return now() - from;
}

int main(int argc, char **argv)
{
    char made[] = "/tmp/bench_csv_XXXXXX.csv";
    const char *path = argc > 1 ? argv[1] : made;
    struct stat st;
    double best = 1e9, best_floor = 1e9;
    size_t rows = 0, out_bytes = 0;

    if (argc < 2) {
        int fd = mkstemps(made, 4);

        if (fd < 0)
            return 1;
        close(fd);
        generate(made);
    }
    if (stat(path, &st) < 0)
        return 1;
    for (int i = 0; i < 5; i++) {
        double s = floor_s(path);

        best_floor = s < best_floor ? s : best_floor;
        s = whole_s(path, &rows, &out_bytes);
        best = s < best ? s : best;
    }
    printf("%.0f MB, %zu rows, %.0f MB out\n", (double)st.st_size / 1e6, rows,
           (double)out_bytes / 1e6);
    printf("read and copy   %7.0f MB/s\n",
           (double)st.st_size / 1e6 / best_floor);
    printf("read and render %7.0f MB/s, %.0f ns a row, %.2f x the floor\n",
           (double)st.st_size / 1e6 / best, best * 1e9 / (double)rows,
           best / best_floor);
    if (argc < 2)
        unlink(made);
    return 0;
}
