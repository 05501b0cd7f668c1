/* fuzz_rescue.c - what a store left beside it when it failed.
 *
 * Input: a byte that says whether to cut the file or to change a bit, two that
 * say where, then the items of a record, whose head is made to fit. What is
 * read, written again, gives the same bytes; of a cut or changed file nothing
 * is read that the whole one does not hold.
 *
 * SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "base/digest.h"
#include "store/rescue.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { HEAD = 4 + 16, MOST = 1 << 16 };

static int write_again(void *ctx, const struct tr_rescued *item,
                       struct tr_err *err)
{
    struct tr_rescue *r = ctx;

    (void)err;
    switch (item->kind) {
    case TR_RESCUED_ORIGIN:
        tr_rescue_origin(r, item->index, &item->origin);
        break;
    case TR_RESCUED_SET:
        tr_rescue_set(r, item->index, item->names);
        break;
    case TR_RESCUED_PUT:
        tr_rescue_put(r, &item->put);
        break;
    case TR_RESCUED_OUTCOME:
        CHECK(item->outcome.spent_nano >= 0 && item->outcome.tokens_in >= 0);
        tr_rescue_outcome(r, &item->outcome);
        break;
    default:
        fuzz_failed("there is such a kind", __FILE__, __LINE__);
    }
    return TR_OK;
}

static char db[80], path[80];

static void put_file(const unsigned char *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    CHECK(fd >= 0 && write(fd, p, n) == (ssize_t)n);
    close(fd);
}

static void read_file(struct tr_rescue *r, bool *any)
{
    struct tr_err err;

    tr_rescue_init(r);
    CHECK(tr_rescue_read(db, write_again, r, any, &err) == TR_OK);
    CHECK(*any == (r->record.n > 0));
}

/* The head of a record that has n bytes of items behind it. */
static void make_head(unsigned char *file, size_t n)
{
    struct tr_key digest;

    digest = tr_digest(NULL, tr_str((const char *)file + HEAD, n));
    for (int i = 0; i < 4; i++)
        file[i] = (unsigned char)(n >> 8 * i);
    memcpy(file + 4, digest.b, sizeof digest.b);
}

static void clean_up(void)
{
    unlink(path);
}

/* Else nothing of what follows would be read at all. */
static void check_is_read(void)
{
    static unsigned char file[HEAD + TR_RESCUE_PUT_BYTES];
    struct tr_rescue r, again;
    size_t n;
    bool any;

    tr_rescue_init(&r);
    tr_rescue_set(&r, 0, TR_STR("a"));
    CHECK(r.record.n > HEAD && r.record.n <= sizeof file);
    n = r.record.n - HEAD;
    memcpy(file + HEAD, r.record.p + HEAD, n);
    make_head(file, n);
    put_file(file, HEAD + n);
    read_file(&again, &any);
    CHECK(any && again.record.n == HEAD + n);
    CHECK(memcmp(again.record.p + HEAD, file + HEAD, n) == 0);
    tr_rescue_close(&r, db);
    tr_rescue_close(&again, db);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *folder = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    (void)argc;
    (void)argv;
    snprintf(db, sizeof db, "%s/fuzz-rescue-%d.db", folder, (int)getpid());
    snprintf(path, sizeof path, "%s/fuzz-rescue-%d.rescue", folder,
             (int)getpid());
    atexit(clean_up);
    check_is_read();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static unsigned char file[HEAD + MOST];
    struct fuzz_in in = fuzz_begin(data, n);
    unsigned how = fuzz_byte(&in), at = fuzz_byte(&in) | fuzz_byte(&in) << 8;
    struct tr_rescue whole, part;
    bool any;

    n = n < 3 ? 0 : n - 3;
    if (!n || n > MOST)
        return 0;
    memcpy(file + HEAD, data + 3, n);
    make_head(file, n);
    put_file(file, HEAD + n);
    read_file(&whole, &any);
    if (any) {
        CHECK(whole.record.n <= HEAD + n);
        CHECK(memcmp(whole.record.p + HEAD, file + HEAD,
                     whole.record.n - HEAD) == 0);
    }
    at %= (unsigned)(HEAD + n);
    if (how & 1)
        file[at] ^= (unsigned char)(1 << (how >> 1) % 8);
    put_file(file, how & 1 ? HEAD + n : at);
    read_file(&part, &any);
    CHECK(!any); /* one record: all or nothing */
    tr_rescue_close(&whole, db);
    tr_rescue_close(&part, db);
    unlink(path);
    return 0;
}
