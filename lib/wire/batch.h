/* batch.h - batches as providers speak of them: requests into a file or a
 * body, objects and results out of it; and when to ask again. Pure.
 *
 * batch_form.c holds one row per vendor; batch.c is the lane that uses them.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_WIRE_BATCH_H
#define TR_WIRE_BATCH_H

#include "wire/provider.h"

enum tr_batch_stage {
    TR_STAGE_RUNNING, /* and every word that we do not know */
    TR_STAGE_ENDED,   /* results may be fetched, whole or in part */
    TR_STAGE_FAILED   /* it never ran: nothing was done, nothing is billed */
};

/* What a reply says about one batch. */
struct tr_batch_news {
    enum tr_batch_stage stage;
    char name[120];               /* the provider's; "" when it says none */
    char status[40];
    char output[300], errors[300]; /* file names or addresses; "": none */
    int64_t worked;               /* requests that were worked on: they have an
                                     answer or an error; -1: unsaid */
    int64_t created_at;           /* Unix s by the server's clock; -1: unsaid,
                                     or never asked for */
    struct tr_wire_error error;   /* FAILED: the first one */
};

/* One line of results. */
struct tr_batch_line {
    char id[80];        /* our custom_id */
    int status;         /* as of HTTP; 0: none */
    bool done;          /* worked on: status and body say how it ended */
    bool untouched;     /* expired or cancelled before its turn */
    struct tr_str body; /* as of HTTP; in the scratch buffer */
    char request_id[80];
    struct tr_wire_error error; /* neither done nor untouched */
};

/* A batch whose making got no reply, as it is looked for in a list. */
struct tr_batch_wanted {
    const struct tr_batch *batch;
    int64_t created_at;   /* Unix s, by the server's clock as far as that is
                             known */
    bool (*is_other)(void *ctx, const char *name); /* NULL: none is known */
    void *ctx;
    bool maybe;           /* set when one is seen that it may be */
};

struct tr_batch_form {
    const char *name;     /* "openai" */
    const char *lane_path; /* end of a lane's address that ours begin before */
    const char *batches;  /* path of the collection */
    const char *files;    /* path of files; NULL: requests go inline */
    const char *content;  /* after a file's name; NULL: output is an address */
    const char *results;  /* then after a batch's name, where the output's
                             address is not of the lane's server */
    const char *after;    /* of a list: parameter of the next page */
    bool guesses;         /* lists show no mark: what is found may be another
                             one, which the ids in its results tell */
    const char *head, *between, *tail; /* around requests */
    void (*request)(struct tr_buf *out, const char *id, struct tr_str body);
    /* What makes a batch of an uploaded file. NULL: the requests do. */
    void (*create)(struct tr_buf *out, const char *file, const char *mark);
    /* False: not such an object. */
    bool (*read)(struct tr_batch_news *news, struct tr_str body);
    /* Looks for a batch in a page of a list: true when *news is it. next: the
     * name to ask on from, or "". valid: false when it is no list. */
    bool (*find)(struct tr_batch_news *news, struct tr_batch_wanted *wanted,
                 struct tr_str body, char *next, size_t next_n, bool *valid);
    /* False: not such a line. scratch owns line->body. */
    bool (*line)(struct tr_batch_line *line, struct tr_str text,
                 struct tr_buf *scratch);
};
/* NULL: no such form. */
const struct tr_batch_form *tr_batch_form_find(const char *name);

/* The name of an uploaded file; false: the reply does not say. */
bool tr_batch_file_read(char *name, size_t size, struct tr_str body);

/* What a batch that failed before it ran means for all of its requests. */
enum tr_outcome tr_batch_failure(const struct tr_wire_error *e);

/* "t" mark "-" attempt. out has room for 64 bytes. */
void tr_batch_id_write(char *out, const char *mark, uint64_t attempt);
/* False: it is not of this batch. */
bool tr_batch_id_read(const char *id, const char *mark, uint64_t *attempt);

/* Until the next question after so many: from first_ms, half as much again
 * each time, up to ten times that, with a tenth of jitter; never before the
 * server's wish (floor_ms, -1: none). unit in [0, 1). */
int64_t tr_batch_poll_ms(unsigned asked, int64_t first_ms, int64_t floor_ms,
                         double unit);
/* Until the next look for a batch whose making got no reply: a list may lag
 * behind. -1 after the last look: it does not exist. */
int64_t tr_batch_look_ms(unsigned looked, int64_t first_ms);

/* ---- the lane (batch.c) ----------------------------------------------- */

struct tr_batch_lane_opts {
    const struct tr_batch_form *form;
    const char *url;         /* of the lane's own requests */
    int64_t requests_max, bytes_max; /* of one batch */
    int price_pct;           /* 0: not known, the full price is counted */
    const struct tr_batch_opts *user;
};
/* Takes inner over, also when it fails. */
int tr_batch_lane_over(struct tr_lane **out, struct tr_lane *inner,
                       const struct tr_batch_lane_opts *o, struct tr_err *err);

/* ---- of a lane over HTTP (lane.c) ------------------------------------- */

struct tr_transport *tr_lane_transport(struct tr_lane *lane);
/* Reads a result as one of the lane's own requests'. */
void tr_lane_decode(struct tr_lane *lane, const struct tr_http_result *r,
                    struct tr_reply *reply);
/* Fields that its server refused so far, a mask. The requests that are read
 * next were written before it did: that they are refused for these as well
 * says nothing new. */
unsigned tr_lane_refused_fields(const struct tr_lane *lane);
void tr_lane_written_before(struct tr_lane *lane);
/* Takes the lane's very key and the values of its row's headers, in any
 * spelling, out of what a server says. */
void tr_lane_hide_key(const struct tr_lane *lane, struct tr_reply *reply);

#endif
