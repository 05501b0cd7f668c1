/* http_socket.c - where bytes may go, and what epoll knows of each socket.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/http.h"

#include "base/mem.h"
#include "wire/reach.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static struct tr_watch *watch_of(struct tr_http *h, curl_socket_t fd)
{
    if (fd < 0)
        return NULL;
    if ((size_t)fd >= h->watch_count) {
        size_t count = h->watch_count ? h->watch_count : 64;
        struct tr_watch *grown;

        while (count <= (size_t)fd)
            count *= 2;
        grown = tr_resize(h->watches, count * sizeof *grown);
        if (!grown)
            return NULL;
        memset(grown + h->watch_count, 0,
               (count - h->watch_count) * sizeof *grown);
        h->watches = grown;
        h->watch_count = count;
    }
    return &h->watches[fd];
}

/* Why no bytes may go there; NULL: they may. */
static const char *why_barred(const struct tr_http *h, enum tr_reach reach)
{
    if (h->proxy)
        return NULL;
    if (!h->allow_link_local && reach == TR_REACH_LINK_LOCAL)
        return "its address is link-local or a cloud's metadata; "
               "--allow-link-local permits it";
    if (!h->secure && !h->allow_http && reach != TR_REACH_LOOPBACK)
        return "plain http may go to loopback only; --allow-http permits more";
    return NULL;
}

const char *tr_http_watch_remedy(int errnum)
{
    return errnum == ENOSPC
               ? "raise the number of files that a user may watch "
                 "(sysctl fs.epoll.max_user_watches)"
               : tr_errno_remedy(errnum, "run the same command again");
}

int tr_http_tell_epoll(struct tr_http *h, curl_socket_t fd, struct tr_watch *w,
                       unsigned char bits)
{
    struct epoll_event e = {.data.fd = fd};
    bool silent = !bits && w->ours;
    int op = !bits && !silent ? EPOLL_CTL_DEL
             : w->added       ? EPOLL_CTL_MOD
                              : EPOLL_CTL_ADD;
    int bad;

    if (silent && w->added && !w->known)
        return 0;
    if (bits & CURL_POLL_IN)
        e.events |= EPOLLIN;
    if (bits & CURL_POLL_OUT)
        e.events |= EPOLLOUT;
    if (silent) /* its end is told whatever is asked for: once is enough */
        e.events = EPOLLET;
    bad = epoll_ctl(h->epoll, op, fd, &e);
    /* Not every close() of libcurl passes by tr_http_close_socket(): then the
     * number is another socket's by now, of which epoll knows nothing. */
    if (bad && op == EPOLL_CTL_MOD && errno == ENOENT)
        bad = epoll_ctl(h->epoll, EPOLL_CTL_ADD, fd, &e);
    if (bad && op != EPOLL_CTL_DEL)
        return errno;
    w->known = bits;
    w->added = op != EPOLL_CTL_DEL;
    return 0;
}

/* A socket for libcurl, or -1 and s->no_socket. epoll has it before anything
 * is sent, and keeps it until it is closed: a request whose answer nobody would
 * see must not leave, and a change needs no room. */
static int watched_socket(struct tr_slot *s,
                          const struct curl_sockaddr *address)
{
    struct tr_http *h = s->h;
    int fd = socket(address->family,
                    address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    address->protocol);
    struct tr_watch *w = watch_of(h, fd);

    s->no_watch = false;
    s->no_socket = fd < 0 ? errno : w ? 0 : ENOMEM;
    if (fd < 0)
        return -1;
    if (w) {
        *w = (struct tr_watch){.ours = true};
        s->no_socket = tr_http_tell_epoll(h, fd, w, 0);
        s->no_watch = s->no_socket != 0;
    }
    if (!s->no_socket)
        return fd;
    if (w)
        *w = (struct tr_watch){0};
    close(fd);
    return -1;
}

/* The last word on where bytes may go, after the name was resolved. */
curl_socket_t tr_http_open_socket(void *user, curlsocktype purpose,
                                  struct curl_sockaddr *address)
{
    struct tr_slot *s = user;
    const char *why = why_barred(s->h, tr_reach_of(&address->addr));

    (void)purpose;
    if (why) {
        s->barred = why;
        return CURL_SOCKET_BAD;
    }
    s->dialled = true;
    return watched_socket(s, address);
}

/* libcurl takes a socket back after each answer and hands it out again with
 * the next request. Telling epoll both times would cost two system calls a
 * request; so an idle socket stays known until it speaks (look_at()). That
 * goes for connections only: the descriptors of a name look-up are closed
 * without a word, and the connection gets the same number. */
int tr_http_socket_changed(CURL *easy, curl_socket_t fd, int what, void *user,
                           void *socket_user)
{
    struct tr_http *h = user;
    struct tr_watch *w = watch_of(h, fd);

    (void)easy;
    (void)socket_user;
    if (!w)
        return 0; /* not ours */
    w->wanted = what == CURL_POLL_REMOVE ? 0 : (unsigned char)what;
    if (w->wanted == w->known || (!w->wanted && w->ours))
        return 0;
    if (tr_http_tell_epoll(h, fd, w, w->wanted) != 0)
        h->deaf = true;
    return 0;
}

int tr_http_close_socket(void *user, curl_socket_t fd)
{
    struct tr_http *h = user;

    if (fd >= 0 && (size_t)fd < h->watch_count)
        h->watches[fd] = (struct tr_watch){0}; /* epoll forgets it by itself */
    return close(fd);
}

int tr_http_timer_changed(CURLM *multi, long timeout_ms, void *user)
{
    struct tr_http *h = user;

    (void)multi;
    h->due_ns = timeout_ms < 0 ? -1
                               : tr_clock_mono_ns() + timeout_ms * TR_MS;
    return 0;
}
