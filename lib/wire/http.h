/* http.h - requests over libcurl, inside of the only door to it.
 *
 * One multi handle per lane, driven by curl_multi_socket_action() and epoll:
 * the work per wake-up is that of the sockets which are ready, while
 * curl_multi_perform() asks every request in flight (one system call each).
 * Easy handles are set up once, by one function, and used again; a request
 * sets its body and nothing else. Connections are shared by one origin, one
 * key and one set of TLS rules only, since a multi handle belongs to one lane.
 *
 *   http_frames.c  what libcurl says of HTTP/2
 *   http_socket.c  where bytes may go, and what epoll knows
 *   http_slot.c    a request: its handle, and what it takes of the response
 *   http_loop.c    lets libcurl work, and keeps deadlines
 *   http_ask.c     requests of another kind than a lane's own
 *   http_result.c  what came of one
 *   http.c         opens, closes, starts, hands out
 *
 * Each knows those above it. Nobody else includes this file.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_WIRE_HTTP_H
#define TR_WIRE_HTTP_H

#include "base/bounds.h"
#include "base/buf.h"
#include "base/clock.h"
#include "wire/transport.h"

#include <curl/curl.h>

struct tr_http;

struct tr_slot {
    struct tr_http *h;
    CURL *easy;
    uint64_t tag;
    int64_t began_ns, deadline_ns;
    long timeout_ms;      /* what easy is set to */
    bool old_version;     /* and that it speaks HTTP/1.1 */
    struct tr_buf headers, body;
    size_t header_bytes;  /* of all responses, trailers and names included */
    bool active;          /* in the multi handle */
    bool too_big, no_memory; /* why the response was not taken */
    bool interim;         /* they are a 1xx's */
    bool headers_end;     /* the blank line behind the final ones was there */
    bool resent;          /* libcurl wanted to send it a second time */
    bool refused;         /* the server said that it did not work on it */
    bool stale;           /* a refusal that libcurl remembers may be old... */
    bool forgot;          /* ...until it tells it */
    int port;             /* of our side: names its connection; 0: none */
    int64_t stream;       /* of HTTP/2, 0: none */
    int tries;            /* connections it was given to; 0: nothing left */
    const char *barred;   /* why an address of its was, NULL: none was */
    bool dialled;         /* another one was not */
    int no_socket;        /* errno of the last one; 0: there was one */
    bool no_watch;        /* it was epoll that did not take it */
    CURLcode code;
    struct tr_asked {     /* what an ask needs beyond a request */
        CURLU *address;   /* NULL: no ask */
        curl_mime *form;
        int file_fd, save_fd; /* save_fd -1: to memory */
        int64_t file_bytes, file_at, save_max, saved;
        bool disk;        /* the file could not be written */
        int unread;       /* errno: the file could not be read; 0 */
    } ask;
    struct tr_slot *next; /* in the free or done list */
    char error[CURL_ERROR_SIZE];
};

/* What epoll knows of a file descriptor, and what libcurl wants. They differ
 * on purpose: see tr_http_socket_changed(). */
struct tr_watch {
    unsigned char wanted, known; /* CURL_POLL_IN | CURL_POLL_OUT */
    bool ours;                   /* we opened it, and close it, too */
    bool added;                  /* epoll has it, be known 0 */
};

struct tr_http {
    struct tr_transport t; /* first: the two are cast to each other */
    CURLM *multi;
    struct curl_slist *headers, *plain; /* plain: without a content type */
    char *url, *proxy, *ca_file;
    CURLU *address;       /* url, parsed once for all requests */
    bool secure, allow_http, allow_link_local;
    bool reads_ahead;     /* libcurl: see tr_http_look_behind() */
    long connect_timeout_ms, conn_idle_s, conn_life_s;
    int epoll, wake;      /* file descriptors, -1: not open */
    struct tr_watch *watches;
    size_t watch_count;
    struct tr_slot **slots; /* owned */
    size_t slot_count, slot_cap, active;
    size_t unconnected;   /* of the active ones */
    int64_t prodded_at;   /* ns */
    struct tr_slot *unused;
    struct tr_slot *done, **done_end;
    struct tr_slot *shown; /* its buffers are the caller's until next() */
    int running;          /* as libcurl counts */
    int64_t due_ns;       /* libcurl's timer, -1: none */
    int64_t earliest_ns;  /* no deadline before this */
    size_t held_bytes;    /* in all bodies */
    bool drove;           /* wait() has just looked at the sockets */
    bool frames;          /* the server has answered in HTTP/2 */
    bool old_version;     /* it cannot be trusted with it: HTTP/1.1 */
    int frame_troubles;   /* without an answer in between */
    int64_t trouble_at;   /* the last of them, ns */
    int64_t looked_at;    /* at the sockets, ns */
    int64_t asleep_ns;    /* what the machine had slept when a request left */
    bool deaf;            /* epoll did not take a change: see prod() */
};

/* ---- http_frames.c ---------------------------------------------------- */

/* Debug messages of libcurl; user is the slot. */
int tr_http_take_words(CURL *easy, curl_infotype type, char *p, size_t n,
                       void *user);

/* A server, or what stands before it, may be bad at HTTP/2 only. */
void tr_http_note_frames(struct tr_slot *s, long status,
                         const struct tr_http_result *r);

/* ---- http_socket.c ---------------------------------------------------- */

/* Callbacks of libcurl; user is the slot. */
curl_socket_t tr_http_open_socket(void *user, curlsocktype purpose,
                                  struct curl_sockaddr *address);

/* The same; user is the struct tr_http. */
int tr_http_close_socket(void *user, curl_socket_t fd);
int tr_http_socket_changed(CURL *easy, curl_socket_t fd, int what, void *user,
                           void *socket_user);
int tr_http_timer_changed(CURLM *multi, long timeout_ms, void *user);

/* 0 or errno. */
int tr_http_tell_epoll(struct tr_http *h, curl_socket_t fd,
                       struct tr_watch *w, unsigned char bits);

/* What helps when epoll takes no more. */
const char *tr_http_watch_remedy(int errnum);

/* ---- http_slot.c ------------------------------------------------------ */

/* Its handle has every option but those of one request. NULL: no memory. */
struct tr_slot *tr_slot_take(struct tr_http *h);
void tr_slot_give_back(struct tr_slot *s);

void tr_slot_set_body(struct tr_slot *s, struct tr_str body); /* not copied */

/* Out of the multi handle; finish() also keeps it for next(). */
void tr_slot_stop(struct tr_slot *s);
void tr_slot_finish(struct tr_slot *s, CURLcode code);

/* ---- http_loop.c ------------------------------------------------------ */

bool tr_http_new_multi(struct tr_http *h); /* false: no memory */

/* Body, address and all are set: off it goes. */
int tr_http_leave(struct tr_slot *s, uint64_t tag, int64_t deadline_ms,
                  struct tr_err *err);

/* Waits for sockets and timer, and lets libcurl work. */
void tr_http_drive(struct tr_http *h, int timeout_ms);
void tr_http_look_behind(struct tr_http *h);
void tr_http_check_deadlines(struct tr_http *h, int64_t now);

/* transport.h */
int tr_http_watch(struct tr_transport *t, int *timeout_ms);
void tr_http_wait(struct tr_transport *t, int timeout_ms, int extra_fd);
void tr_http_wakeup(struct tr_transport *t);

/* ---- http_ask.c, http_result.c ---------------------------------------- */

/* transport.h */
int tr_http_ask(struct tr_transport *t, uint64_t tag,
                const struct tr_http_ask *ask, int64_t deadline_ms,
                struct tr_err *err);
void tr_http_drop(struct tr_transport *t, uint64_t tag);

/* What the caller of next() gets; it points into the slot. */
void tr_http_show(struct tr_slot *s, struct tr_http_result *r);

#endif
