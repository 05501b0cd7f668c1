/* ending.c - what the ending of a file's name says about what is in it.
 *
 * Inputs are read in any of these formats and compressed too; the output is
 * written in the format of the input and never compressed, so that a name
 * can promise what nobody wrote.
 *
 * SPDX-License-Identifier: MIT */
#include "rows/ending.h"

#include <string.h>
#include <strings.h>

static const struct {
    const char *suffix;
    enum tr_format format;
} formats[] = {
    {".csv", TR_FMT_CSV},      {".tsv", TR_FMT_TSV},
    {".tab", TR_FMT_TSV},      {".jsonl", TR_FMT_JSONL},
    {".ndjson", TR_FMT_JSONL}, {".json", TR_FMT_JSONL},
    {".txt", TR_FMT_LINES},
};

/* What is never written, and the program that makes it of what is. */
static const struct {
    const char *suffix, *packer; /* packer NULL: a format of its own */
} foreign[] = {
    {".gz", "gzip"}, {".zst", "zstd"},  {".bz2", "bzip2"},
    {".xz", "xz"},   {".zip", "zip"},   {".xlsx", NULL},
    {".xls", NULL},  {".ods", NULL},    {".parquet", NULL},
};

static bool ends(struct tr_str name, const char *suffix)
{
    size_t n = strlen(suffix);

    return name.n > n && strncasecmp(name.p + name.n - n, suffix, n) == 0;
}

enum tr_format tr_ending_format(const char *path)
{
    struct tr_str name = tr_str_c(path);

    if (ends(name, ".gz"))
        name.n -= 3;
    else if (ends(name, ".zst"))
        name.n -= 4;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (ends(name, formats[i].suffix))
            return formats[i].format;
    }
    return TR_FMT_AUTO;
}

static int packed(const char *path, const char *suffix, const char *packer,
                  struct tr_err *err)
{
    return tr_fail(err, TR_USAGE,
                   "-o %s: the output is not compressed; name it %.*s and "
                   "compress it afterwards, or leave -o out and pipe standard "
                   "output through %s",
                   path, (int)(strlen(path) - strlen(suffix)), path, packer);
}

static int other_format(const char *path, enum tr_format is,
                        struct tr_err *err)
{
    static const struct {
        const char *says, *suffix;
    } words[] = {
        [TR_FMT_CSV] = {"has the format of the input, which is CSV", "csv"},
        [TR_FMT_TSV] = {"has the format of the input, which is TSV", "tsv"},
        [TR_FMT_JSONL] = {"has the format of the input, which is JSON Lines",
                          "jsonl"},
        [TR_FMT_LINES] = {"of plain lines is CSV", "csv"},
    };
    const char *dot = strrchr(path, '.');

    return tr_fail(err, TR_USAGE,
                   "-o %s: the output %s; name it %.*s.%s, and convert it "
                   "afterwards if need be",
                   path, words[is].says, (int)(dot - path), path,
                   words[is].suffix);
}

int tr_ending_check(const char *path, enum tr_format format, char delimiter,
                    struct tr_err *err)
{
    enum tr_format named;

    if (!path)
        return TR_OK;
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        if (!ends(tr_str_c(path), foreign[i].suffix))
            continue;
        return foreign[i].packer
                   ? packed(path, foreign[i].suffix, foreign[i].packer, err)
                   : other_format(path, format, err);
    }
    named = tr_ending_format(path);
    if (named == TR_FMT_AUTO || named == TR_FMT_LINES || named == format ||
        (named == TR_FMT_CSV && format == TR_FMT_LINES) ||
        (named == TR_FMT_TSV && format == TR_FMT_CSV && delimiter == '\t'))
        return TR_OK;
    return other_format(path, format, err);
}
