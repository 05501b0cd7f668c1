/* batches.h - files and batches of the fake: OpenAI's and Anthropic's paths.
 * What is done to a batch is done when somebody looks at it after its time.
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
    const struct fake_dialect *dialect;
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
/* The dialect whose batches have this path; NULL: it is none of ours. */
const struct fake_dialect *fake_batches_at(const char *path);
/* A request there; what may be missing is NULL. */
struct fake_batch_ask {
    const struct fake_dialect *dialect;
    const char *method, *path, *type, *after, *host;
    const char *key;       /* value of the dialect's key header */
    struct tr_str body;
};
void fake_batches_serve(struct fake_batches *b, struct fake_reply *reply,
                        const struct fake_batch_ask *ask, int64_t now_ns,
                        int64_t wall_ms);

#endif
