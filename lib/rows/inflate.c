/* inflate.c - gzip and Zstandard as a stream of steps; no input, no output.
 * SPDX-License-Identifier: MIT */
#include "rows/inflate.h"

#include "base/mem.h"

#include <stdint.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define ZSTD_WINDOW_LOG 24
#define GROWTH_MAX 10000u
#define GROWTH_FREE ((uint64_t)64 << 20) /* small texts may grow as they like */

struct tr_inflate {
    enum tr_packed kind;
    bool complete;
    uint64_t taken, given;
    z_stream gz;
    ZSTD_DStream *zstd;
};

enum tr_packed tr_inflate_magic(struct tr_str s)
{
    if (s.n >= 2 && memcmp(s.p, "\x1f\x8b", 2) == 0)
        return TR_PACKED_GZIP;
    if (s.n >= 4 && memcmp(s.p, "\x28\xb5\x2f\xfd", 4) == 0)
        return TR_PACKED_ZSTD;
    return TR_PACKED_NOT;
}

static voidpf gz_alloc(voidpf opaque, uInt count, uInt size)
{
    (void)opaque;
    return tr_array(count, size);
}

static void gz_free(voidpf opaque, voidpf p)
{
    (void)opaque;
    tr_free(p);
}

struct tr_inflate *tr_inflate_new(enum tr_packed kind)
{
    struct tr_inflate *z = tr_alloc(sizeof *z);

    if (!z)
        return NULL;
    z->kind = kind;
    if (kind == TR_PACKED_GZIP) {
        z->gz.zalloc = gz_alloc;
        z->gz.zfree = gz_free;
        if (inflateInit2(&z->gz, 15 + 16) != Z_OK) {
            tr_free(z);
            return NULL;
        }
        return z;
    }
    z->zstd = ZSTD_createDStream();
    if (!z->zstd) {
        tr_free(z);
        return NULL;
    }
    ZSTD_DCtx_setParameter(z->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG);
    return z;
}

static long gz_step(struct tr_inflate *z, struct tr_str *in, char *out,
                    size_t cap, const char **what)
{
    z_stream *gz = &z->gz;
    size_t given = 0;

    for (;;) {
        int rc;

        if (z->complete) {
            /* tar and tapes pad with zeros after the last member. */
            while (in->n && in->p[0] == '\0')
                *in = tr_str(in->p + 1, in->n - 1);
            if (!in->n)
                return (long)given;
            if (inflateReset(gz) != Z_OK)
                return -1;
            z->complete = false;
        }
        gz->next_in = (z_const Bytef *)in->p;
        gz->avail_in = (uInt)in->n;
        gz->next_out = (Bytef *)out + given;
        gz->avail_out = (uInt)(cap - given);
        rc = inflate(gz, Z_NO_FLUSH);
        *in = tr_str(in->p + (in->n - gz->avail_in), gz->avail_in);
        given = cap - gz->avail_out;
        if (rc == Z_STREAM_END) {
            z->complete = true;
            continue;
        }
        if (rc != Z_OK && rc != Z_BUF_ERROR) {
            *what = rc == Z_MEM_ERROR ? NULL : "is not sound gzip data";
            return -1;
        }
        if (!gz->avail_out || !in->n)
            return (long)given;
    }
}

static long zstd_step(struct tr_inflate *z, struct tr_str *in, char *out,
                      size_t cap, const char **what)
{
    ZSTD_inBuffer from = {in->p, in->n, 0};
    ZSTD_outBuffer to = {out, cap, 0};

    while (to.pos < to.size) {
        size_t from_before = from.pos, to_before = to.pos, rc;

        /* A frame that is complete holds nothing back. */
        if (z->complete && from.pos == from.size)
            break;
        rc = ZSTD_decompressStream(z->zstd, &to, &from);
        if (ZSTD_isError(rc)) {
            switch (ZSTD_getErrorCode(rc)) {
            case ZSTD_error_frameParameter_windowTooLarge:
                *what = "was compressed with a window above 16 MiB";
                break;
            case ZSTD_error_memory_allocation:
                *what = NULL;
                break;
            default:
                *what = "is not sound Zstandard data";
            }
            return -1;
        }
        if (from.pos == from_before && to.pos == to_before)
            break;
        z->complete = rc == 0;
    }
    *in = tr_str(in->p + from.pos, in->n - from.pos);
    return (long)to.pos;
}

long tr_inflate_step(struct tr_inflate *z, struct tr_str *in, char *out,
                     size_t cap, const char **what)
{
    size_t before = in->n;
    long given;

    *what = "is damaged";
    given = z->kind == TR_PACKED_GZIP ? gz_step(z, in, out, cap, what)
                                      : zstd_step(z, in, out, cap, what);
    if (given < 0)
        return -1;
    z->taken += before - in->n;
    z->given += (uint64_t)given;
    if (z->given > GROWTH_FREE && z->given / GROWTH_MAX > z->taken) {
        *what = "grows by more than 10,000 times";
        return -1;
    }
    return given;
}

bool tr_inflate_complete(const struct tr_inflate *z)
{
    return z->complete;
}

void tr_inflate_free(struct tr_inflate *z)
{
    if (!z)
        return;
    if (z->kind == TR_PACKED_GZIP)
        inflateEnd(&z->gz);
    ZSTD_freeDStream(z->zstd);
    tr_free(z);
}
