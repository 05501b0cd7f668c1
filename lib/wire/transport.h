/* transport.h - the seam below a dialect: bytes out, bytes in.
 *
 * http.c implements it with libcurl, the simulator with virtual time. A
 * transport never retries and never follows a redirect.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_WIRE_TRANSPORT_H
#define TR_WIRE_TRANSPORT_H

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

enum tr_net {
    TR_NET_OK,       /* a complete response */
    TR_NET_DNS, TR_NET_CONNECT, TR_NET_TLS, /* before anything was sent */
    TR_NET_REFUSED,  /* we refuse the server: certificate, address, scheme */
    TR_NET_TIMEOUT,  /* the deadline passed */
    TR_NET_CUT,      /* connection lost */
    TR_NET_TOO_BIG,  /* body or headers beyond their bound */
    TR_NET_OTHER
};

struct tr_http_result {
    uint64_t tag;
    enum tr_net net;
    bool sent;            /* some byte of the request may have left */
    bool ours;            /* this machine lacked something; nobody was asked */
    int status;           /* HTTP status, 0: none */
    struct tr_str headers; /* "name: value\n" lines, names lower-case, only the
                              interesting ones; until the next next() */
    struct tr_str body;    /* until the next next() */
    int64_t saved_bytes;   /* of the body, in the file of an ask */
    bool unsaved;          /* that file could not be written */
    int64_t latency_ms;
    char message[200];     /* the transport's own words on failure */
};

/* A request of another kind than a lane's own, to the same origin. What it
 * points at lives until the result, but for url and fields. */
struct tr_http_ask {
    const char *url;       /* whole address */
    bool post;             /* else GET */
    struct tr_str body;    /* post: JSON, may be empty; or it is in a file */
    int file_fd;           /* post, when file_bytes is not 0: read from its */
    int64_t file_bytes;    /* beginning */
    /* post: a form instead of JSON: name, value, name, value, NULL; the file
     * is its last part. */
    const char *const *fields;
    const char *file_name;
    bool save;             /* a 2xx body goes to save_fd, not to memory */
    int save_fd;
    int64_t save_bytes_max;
};

struct tr_transport {
    /* Begins a POST; body must live until the result. */
    int (*start)(struct tr_transport *t, uint64_t tag, struct tr_str body,
                 int64_t deadline_ms, struct tr_err *err);
    /* Begins anything else. NULL where there is nothing else. */
    int (*ask)(struct tr_transport *t, uint64_t tag,
               const struct tr_http_ask *ask, int64_t deadline_ms,
               struct tr_err *err);
    /* Ends one that was asked: its file is written no more, and no result
     * comes. NULL where there is no ask(). */
    void (*drop)(struct tr_transport *t, uint64_t tag);
    /* Takes one finished request: 1 when result was filled, 0 when none. */
    int (*next)(struct tr_transport *t, struct tr_http_result *result);
    /* NULL where there is nothing to wait for (virtual time). */
    void (*wait)(struct tr_transport *t, int timeout_ms, int extra_fd);
    int (*watch)(struct tr_transport *t, int *timeout_ms); /* lane.h */
    void (*wakeup)(struct tr_transport *t); /* any thread */
    void (*cancel)(struct tr_transport *t);
    void (*close)(struct tr_transport *t);
    /* Unix seconds, for servers' dates; NULL: the real clock. */
    int64_t (*wall_s)(struct tr_transport *t);
};

/* libcurl multi, keep-alive, HTTP/2. headers: NULL-terminated "Name: value"
 * lines sent with every request (the key is among them; it goes to this
 * origin only). url: whole address of the endpoint. Strings are copied. */
struct tr_http_opts {
    const char *url;
    const char *const *headers;
    int connect_timeout_ms;  /* 0: 10 s */
    int conn_idle_s, conn_life_s; /* of a kept connection; 0: bounds.h */
    bool allow_http;         /* plain http beyond loopback */
    bool allow_link_local;   /* link-local and metadata addresses */
    const char *proxy;       /* NULL: none, whatever the environment says;
                                "env": HTTPS_PROXY, ALL_PROXY, NO_PROXY;
                                else the proxy's address */
    const char *ca_file;     /* certificates to trust instead of the system's;
                                NULL: the system's */
};
int tr_http_open(struct tr_transport **out, const struct tr_http_opts *o,
                 struct tr_err *err);

/* Of the libcurl that is loaded, such as "7.88.1". */
const char *tr_http_version(void);

#endif
