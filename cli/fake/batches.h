/* batches.h - files and batches of the fake: OpenAI's paths. What is done to
 * a batch is done when somebody looks at it after its time.
 * SPDX-License-Identifier: MIT */
#ifndef TR_FAKE_BATCHES_H
#define TR_FAKE_BATCHES_H

#include "fake/provider.h"

struct fake_file {
    char id[40];
    struct tr_buf text;
};

enum fake_batch_end { FAKE_BATCH_RUNS, FAKE_BATCH_COMPLETED,
                      FAKE_BATCH_EXPIRED, FAKE_BATCH_FAILED,
                      FAKE_BATCH_CANCELLED };

struct fake_batch {
    char id[40], input[40], output[40], errors[40], mark[80];
    enum fake_batch_end end;
    bool is_cancelled;
    int64_t created_s, due_ns, tokens;
    uint64_t nth, total, completed, failed;
};

struct fake_batches {
    struct fake_provider *provider; /* borrowed */
    struct fake_file **files;       /* owned */
    struct fake_batch **batches;    /* owned, oldest first */
    size_t file_count, file_cap, batch_count, batch_cap;
    uint64_t numbers, made;
};

void fake_batches_init(struct fake_batches *b, struct fake_provider *provider);
void fake_batches_release(struct fake_batches *b);
/* Answers a request under /v1/files or /v1/batches: reply is filled. type is
 * the content type, after the list's parameter, both may be NULL. */
void fake_batches_serve(struct fake_batches *b, struct fake_reply *reply,
                        const char *method, const char *path,
                        struct tr_str body, const char *type,
                        const char *after, const char *authorization,
                        int64_t now_ns, int64_t wall_ms);

#endif
