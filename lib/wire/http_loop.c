/* http_loop.c - lets libcurl work when a socket speaks or its timer is due, and
 * keeps deadlines even if it does not.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/http.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define OWN_DEADLINE_NS (200 * TR_MS) /* how long libcurl may be late */
#define LOOK_AGAIN_NS INT64_C(20000)  /* before a request leaves */
#define PROD_MS 500 /* see prod() */
#define EVENTS 64

#ifndef CURL_IGNORE_DEPRECATION /* headers before 7.87 */
#define CURL_IGNORE_DEPRECATION(statements) statements
#endif

bool tr_http_new_multi(struct tr_http *h)
{
    h->multi = curl_multi_init();
    if (!h->multi)
        return false;
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION,
                      tr_http_socket_changed);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, tr_http_timer_changed);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
    if (h->slot_cap)
        curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)h->slot_cap);
    return true;
}

/* libcurl keeps deadlines too, but ours must hold even if it does not. */
void tr_http_check_deadlines(struct tr_http *h, int64_t now)
{
    if (!h->active || now < h->earliest_ns)
        return;
    h->earliest_ns = INT64_MAX;
    for (size_t i = 0; i < h->slot_count; i++) {
        struct tr_slot *s = h->slots[i];

        if (!s->active)
            continue;
        if (now >= s->deadline_ns)
            tr_slot_finish(s, CURLE_OPERATION_TIMEDOUT);
        else if (s->deadline_ns < h->earliest_ns)
            h->earliest_ns = s->deadline_ns;
    }
}

/* Whether any request has ended. */
static bool collect(struct tr_http *h)
{
    bool any = false;
    CURLMsg *m;
    int left;

    while ((m = curl_multi_info_read(h->multi, &left))) {
        CURLcode code = m->data.result;
        struct tr_slot *s = NULL;

        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&s);
        tr_slot_finish(s, code);
        any = true;
    }
    return any;
}

/* Lets libcurl work. Once it fails, for want of memory, its handle serves
 * nobody any more, and 7.88 divides by zero when it is used: whatever was under
 * way ends, and a new one takes over. */
static void take_code(struct tr_http *h, CURLMcode code)
{
    if (code == CURLM_OK)
        return;
    collect(h); /* what it had completed before */
    for (size_t i = 0; i < h->slot_count; i++)
        if (h->slots[i]->active)
            tr_slot_finish(h->slots[i], CURLE_OUT_OF_MEMORY);
    curl_multi_cleanup(h->multi);
    h->running = 0;
    h->due_ns = -1;
    tr_http_new_multi(h); /* else tr_http_leave() tries again */
}

static void act(struct tr_http *h, curl_socket_t fd, int bits)
{
    if (h->multi)
        take_code(h, curl_multi_socket_action(h->multi, fd, bits,
                                              &h->running));
}

/* When one address of a name does not answer, libcurl (7.88) closes the socket
 * and tries the next one when it is called again. It sets no timer for that,
 * and of the socket nobody hears any more; only a call for all requests reaches
 * this one. The same where epoll does not tell of all that it should: what was
 * sent is paid for, and is heard a little later. */
static void prod(struct tr_http *h)
{
    int64_t now = tr_clock_mono_ns();

    if (!h->multi || !(h->unconnected || (h->deaf && h->active)) ||
        now < h->prodded_at + PROD_MS * TR_MS)
        return;
    h->prodded_at = now;
    CURL_IGNORE_DEPRECATION(
        take_code(h, curl_multi_socket_all(h->multi, &h->running));
    )
    /* A request may have gone out and come back in this one call: what libcurl
     * no longer wants to write to is not what speaks unasked. */
    for (size_t fd = 0; fd < h->watch_count; fd++) {
        struct tr_watch *w = &h->watches[fd];

        if (w->ours && !w->wanted && w->known & CURL_POLL_OUT)
            tr_http_tell_epoll(h, (curl_socket_t)fd, w, CURL_POLL_IN);
    }
}

/* From 8.15 on libcurl takes all that a socket has and decrypts it piece by
 * piece, until the request that it does it for has ended. Answers to others on
 * the same connection then wait for a socket that says nothing more. */
void tr_http_look_behind(struct tr_http *h)
{
    while (h->reads_ahead && h->active && collect(h)) {
        for (size_t fd = 0; fd < h->watch_count; fd++) {
            if (h->watches[fd].ours && h->watches[fd].wanted & CURL_POLL_IN)
                act(h, (curl_socket_t)fd, CURL_CSELECT_IN);
        }
    }
    collect(h);
}

static void run_timer(struct tr_http *h)
{
    /* A timer of 0 ms is set again and again while handles are new. */
    for (int i = 0; i < 8 && h->due_ns >= 0; i++) {
        if (h->due_ns > tr_clock_mono_ns())
            return;
        h->due_ns = -1;
        act(h, CURL_SOCKET_TIMEOUT, 0);
    }
}

/* A connection speaks while no request is on it: it says good-bye, or the
 * server talks of something that was not asked ("408 Request Timeout"), which
 * libcurl before 8.0 takes for the answer to the next request; and a TLS
 * good-bye it does not see at all. Emptied and closed for reading it is
 * dead for every libcurl. In HTTP/2 there are frames at any time. */
static void hang_up(int fd)
{
    char unread[4096];

    shutdown(fd, SHUT_RD);
    for (int i = 0; i < 64; i++) {
        if (recv(fd, unread, sizeof unread, MSG_DONTWAIT) <= 0)
            return;
    }
}

/* While the machine slept no connection aged, and the server or a middlebox
 * has forgotten them: idle ones are not used again. */
static void mind_sleep(struct tr_http *h)
{
    int64_t asleep = tr_clock_asleep_ns();
    bool woke = asleep - h->asleep_ns > TR_S;

    h->asleep_ns = asleep;
    for (size_t fd = 0; woke && fd < h->watch_count; fd++) {
        if (h->watches[fd].ours && !h->watches[fd].wanted)
            hang_up((int)fd);
    }
}

static void look_at(struct tr_http *h, const struct epoll_event *e)
{
    int fd = e->data.fd, bits = 0;
    uint64_t count;

    if (fd == h->wake) {
        if (read(fd, &count, sizeof count) < 0 && errno != EAGAIN)
            return;
        return;
    }
    if (!h->watches[fd].wanted) {
        tr_http_tell_epoll(h, fd, &h->watches[fd], 0);
        if (h->watches[fd].ours && !h->frames)
            hang_up(fd);
        return;
    }
    if (e->events & EPOLLIN)
        bits |= CURL_CSELECT_IN;
    if (e->events & EPOLLOUT)
        bits |= CURL_CSELECT_OUT;
    if (e->events & (EPOLLERR | EPOLLHUP))
        bits |= CURL_CSELECT_ERR;
    act(h, fd, bits);
}

void tr_http_drive(struct tr_http *h, int timeout_ms)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(h->epoll, events, EVENTS, timeout_ms);

    for (int i = 0; i < n; i++)
        look_at(h, &events[i]);
    h->looked_at = tr_clock_mono_ns();
    run_timer(h);
    prod(h);
}

static int until_ms(int64_t then_ns, int64_t now_ns)
{
    int64_t ms = (then_ns - now_ns + TR_MS - 1) / TR_MS;

    return ms < 0 ? 0 : ms > 60000 ? 60000 : (int)ms;
}

/* How long it may sleep, at most timeout_ms. */
static int sleep_ms(struct tr_http *h, int timeout_ms)
{
    int64_t now;

    run_timer(h); /* what start() added leaves before we sleep */
    if (h->done || (size_t)h->running < h->active)
        return 0;
    now = tr_clock_mono_ns();
    if (h->due_ns >= 0 && until_ms(h->due_ns, now) < timeout_ms)
        timeout_ms = until_ms(h->due_ns, now);
    if (h->active && until_ms(h->earliest_ns, now) < timeout_ms)
        timeout_ms = until_ms(h->earliest_ns, now);
    if ((h->unconnected || (h->deaf && h->active)) && timeout_ms > PROD_MS)
        timeout_ms = PROD_MS;
    return timeout_ms;
}

int tr_http_watch(struct tr_transport *t, int *timeout_ms)
{
    struct tr_http *h = (struct tr_http *)t;

    *timeout_ms = sleep_ms(h, *timeout_ms);
    return h->epoll;
}

void tr_http_wait(struct tr_transport *t, int timeout_ms, int extra_fd)
{
    struct tr_http *h = (struct tr_http *)t;

    timeout_ms = sleep_ms(h, timeout_ms);
    h->drove = true;
    if (extra_fd >= 0) { /* may be a kind of file that epoll does not take */
        struct pollfd both[2] = {{h->epoll, POLLIN, 0}, {extra_fd, POLLIN, 0}};

        poll(both, 2, timeout_ms);
        timeout_ms = 0;
    }
    tr_http_drive(h, timeout_ms);
}

void tr_http_wakeup(struct tr_transport *t)
{
    struct tr_http *h = (struct tr_http *)t;
    uint64_t one = 1;

    if (write(h->wake, &one, sizeof one) < 0)
        return; /* full: it wakes anyway */
}

/* Body, address and all are set: off it goes. */
int tr_http_leave(struct tr_slot *s, uint64_t tag, int64_t deadline_ms,
                  struct tr_err *err)
{
    struct tr_http *h = s->h;
    CURLMcode bad;

    mind_sleep(h);
    /* Kept connections may have ended. Without memory libcurl may, too. */
    if (h->multi && tr_clock_mono_ns() - h->looked_at > LOOK_AGAIN_NS)
        tr_http_drive(h, 0);
    if (!h->multi && !tr_http_new_multi(h)) {
        tr_slot_give_back(s);
        return tr_fail(err, TR_NOMEM, "out of memory for a request");
    }
    if (deadline_ms < 1)
        deadline_ms = 1;
    if (deadline_ms > 24 * 3600 * 1000)
        deadline_ms = 24 * 3600 * 1000;
    if (s->timeout_ms != deadline_ms) {
        curl_easy_setopt(s->easy, CURLOPT_TIMEOUT_MS, (long)deadline_ms);
        s->timeout_ms = (long)deadline_ms;
    }
    if (s->old_version != h->old_version) {
        curl_easy_setopt(s->easy, CURLOPT_HTTP_VERSION,
                         (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(s->easy, CURLOPT_VERBOSE, 0L);
        s->old_version = h->old_version;
    }
    s->tag = tag;
    s->tries = s->port = 0;
    s->stream = 0;
    s->header_bytes = 0;
    s->too_big = s->no_memory = s->resent = false;
    s->interim = s->headers_end = false;
    s->refused = s->forgot = false;
    s->barred = NULL;
    s->dialled = false;
    s->no_socket = 0;
    s->error[0] = '\0';
    s->began_ns = tr_clock_mono_ns();
    s->deadline_ns = s->began_ns + deadline_ms * TR_MS + OWN_DEADLINE_NS;
    bad = curl_multi_add_handle(h->multi, s->easy);
    if (bad) {
        tr_slot_give_back(s);
        return tr_fail(err, bad == CURLM_OUT_OF_MEMORY ? TR_NOMEM : TR_BUG,
                       "libcurl did not take a request: %s",
                       curl_multi_strerror(bad));
    }
    if (!h->active || s->deadline_ns < h->earliest_ns)
        h->earliest_ns = s->deadline_ns;
    s->active = true;
    h->active++;
    if (h->unconnected++ == 0)
        h->prodded_at = s->began_ns;
    h->running++; /* until libcurl counts it */
    return TR_OK;
}
