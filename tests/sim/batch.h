/* batch.h - a provider's batches, as its three parts know them: batch.c, what
 * becomes of one; batch_server.c, what is said about it; batch_lane.c, who asks.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SIM_BATCH_H
#define SIM_BATCH_H

#include "sim.h"

enum {
    OWNERS = 4096,      /* attempts whose payer is known, by number */
    LATE_MOST = 7       /* questions until late results are there */
};
#define HOST "sim"
#define BASE "https://" HOST "/v1"

/* One request of a batch. */
struct line {
    struct sim_flight f;
    char id[80];
    bool done;          /* worked on: it has a status and a body */
    bool named;         /* stands in the results, under its own id, readable */
    bool is_error;      /* in the file of errors */
    size_t end;         /* of it in its file */
};

enum state { ON_ITS_WAY, NEVER_MADE, RUNNING, ENDED, FAILED };

struct batch {
    struct sim_provider *p;
    enum state state;
    char name[32], mark[48];
    int64_t wall_s;             /* when it was made, by the provider's clock */
    int64_t shown_at, ends_at;  /* in lists from then on; ns */
    bool expires, stuck, cancelled;
    bool odd;                   /* last told of in a word that nobody knows */
    bool known, told;           /* its name, by whomever; and its sender
                                   keeps it */
    int late;                   /* questions until the results are there */
    int64_t tokens, completed, errored, takes;
    int64_t clock;              /* how wrong that of its sender was, s */
    int late_was, heard_run;    /* of its end; 0: not yet */
    int pages;                  /* that came instead of its results */
    const char *failure;
    struct line *lines;
    int n;
    struct tr_buf results[2];   /* and errors */
};

enum kind { UPLOAD, CREATE, LIST, POLL, CANCEL, FETCH };

struct ask {
    enum sim_stage stage;
    enum kind kind;
    uint64_t tag;
    bool forgotten;
    int64_t arrive_at, back_at, deadline_at;
    char name[40], after[40];   /* of a batch or file */
    struct tr_buf body;         /* a file, or what makes a batch */
    int save_fd;
    struct batch *batch;        /* that it makes, polls or fetches */
    int errors;                 /* FETCH: of the file of errors */
    enum tr_net net;
    bool repeats, nonsense;
    int status;
    struct tr_buf headers, reply;
};

struct file {
    char name[32];
    struct tr_buf text;
};

struct sim_batches {
    struct ask **asks;
    struct batch **all;         /* oldest first */
    struct file *files;
    size_t ask_n, ask_cap, all_n, all_cap, file_n, file_cap;
    struct tr_buf headers, reply; /* of the result that was taken last */
    int names;
    bool strange;               /* results name what nobody sent: then nobody
                                   can tell whose a guessed batch is */
    int used_up_run;            /* the last one that heard "insufficient_quota" */
    int looked_run;             /* the last one that looked for a batch */
    /* by attempt, modulo: who asked it, when it was handed to the lane */
    struct { uint64_t attempt; int period, account; } owners[OWNERS];
};

static inline bool strikes(struct sim *w, enum sim_site fault)
{
    return sim_strike(w, fault, w->o.batch_rate[fault - B_UNREACHED] * 1000,
                      1) != 0;
}

static inline bool is_openai(const struct sim *w)
{
    return w->o.batch == SIM_OPENAI;
}

static inline int64_t draw_s(struct sim *w, int64_t most)
{
    return 1 + (int64_t)tr_rng_below(&w->rng, (uint64_t)most);
}

/* NULL: there is none. */
struct batch *sim_batch_named(struct sim_batches *b, const char *name);

/* Nobody will hear of what is not heard by now: its rows may be asked anew. */
void sim_batch_land(struct sim *w, struct batch *b);
void sim_batch_free(struct batch *b);

/* Its requests, counted `by` times more as those of which nobody may hear. */
void sim_batch_slack(struct sim *w, const struct batch *b, int by);

/* What is asked for; nothing is made of it yet. Lives as long as the world. */
struct batch *sim_batch_new(struct sim *w, struct sim_provider *p,
                            struct tr_str requests, const char *mark);

/* The provider takes it; or it fails at once. */
void sim_batch_make(struct sim *w, struct batch *b);

/* Its time has come: what was worked on is billed, results are written. */
void sim_batch_end(struct sim *w, struct batch *b);

/* A question has arrived: what is done, and what is said about it. */
void sim_batch_arrive(struct sim *w, struct ask *a);

#endif
