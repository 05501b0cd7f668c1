/* http_frames.c - HTTP/2: what libcurl says of a stream that was refused, and
 * when a server is asked in HTTP/1.1 from now on.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/http.h"

#define FRAME_TROUBLES_MAX 3 /* then a lane speaks HTTP/1.1 */

/* A stream that was refused (REFUSED_STREAM), or is above the last one of a
 * GOAWAY, was not worked on (RFC 9113, 6.8 and 8.7). libcurl answers both by
 * sending the request again, as it does when a kept connection died; what it
 * was stands in its debug messages alone. These are the ones that prove it,
 * from 7.88 to 8.21. What is not said in these words stays unknown. */
static const struct word {
    const char *begins;
    enum { OPENED, GOODBYE, REFUSED, RETRIED_REFUSED, AGAIN } means;
    const char *number; /* stands before the number it tells; NULL: none */
} words[] = {
    {"Using Stream ID: ", OPENED, "ID: "},                   /* before 8.3 */
    {"[HTTP/2] [", OPENED, "] ["},                           /* since */
    {"recveived GOAWAY, error=", GOODBYE, ", last_stream="}, /* before 8.1 */
    {"received GOAWAY, error=", GOODBYE, ", last_stream="},
    {"HTTP/2 stream ", REFUSED, NULL},                       /* since 8.20 */
    /* Only of a connection that no other request was ever on. Else libcurl
     * remembers it beyond the request: see stale. */
    {"REFUSED_STREAM, retrying a fresh connect", RETRIED_REFUSED, NULL},
    {"Connection died, ", AGAIN, NULL},
    {"Downgrades to HTTP/1.1", AGAIN, NULL},
};

static bool begins(const char *p, size_t n, const char *word)
{
    size_t length = strlen(word);

    return n >= length && memcmp(p, word, length) == 0;
}

/* Where word stands; NULL: nowhere. */
static const char *find(const char *p, size_t n, const char *word)
{
    for (; n; p++, n--) {
        if (begins(p, n, word))
            return p;
    }
    return NULL;
}

/* -1: none. */
static int64_t number_behind(const char *p, size_t n, const char *word)
{
    const char *end = p + n, *at = word ? find(p, n, word) : NULL;
    int64_t number = -1;

    if (!at)
        return -1;
    for (at += strlen(word); at < end && *at >= '0' && *at <= '9'; at++) {
        number = (number < 0 ? 0 : number) * 10 + (*at - '0');
        if (number > INT32_MAX) /* no stream has a larger one */
            return -1;
    }
    return number;
}

/* The connection of s ends with the stream last: what is above it was never
 * looked at. */
static void note_goodbye(const struct tr_slot *s, int64_t last)
{
    const struct tr_http *h = s->h;

    if (!s->port || !s->stream || last < 0)
        return; /* it looks at a connection that it is not on */
    for (size_t i = 0; i < h->slot_count; i++) {
        struct tr_slot *other = h->slots[i];

        if (other->active && other->port == s->port && other->stream > last)
            other->refused = true;
    }
}

int tr_http_take_words(CURL *easy, curl_infotype type, char *p, size_t n,
                       void *user)
{
    struct tr_slot *s = user;
    const struct word *w = words, *end = words + sizeof words / sizeof *words;
    int64_t number;

    (void)easy;
    if (type != CURLINFO_TEXT)
        return 0;
    while (w < end && !begins(p, n, w->begins))
        w++;
    if (w == end)
        return 0;
    number = number_behind(p, n, w->number);
    switch (w->means) {
    case OPENED:
        if (number > 0)
            s->stream = number;
        break;
    case GOODBYE:
        note_goodbye(s, number);
        break;
    case REFUSED:
        s->refused |= find(p, n, " refused by server, ") != NULL;
        break;
    case RETRIED_REFUSED:
        s->refused |= !s->stale;
        s->forgot = true;
        break;
    case AGAIN:
        s->port = 0;
        s->stream = 0;
        break;
    }
    return 0;
}

/* A server, or what stands before it, may be bad at HTTP/2 only. A connection
 * that takes many requests with it counts once. */
void tr_http_note_frames(struct tr_slot *s, long status,
                         const struct tr_http_result *r)
{
    struct tr_http *h = s->h;
    long version = 0;

    if (!h->secure || h->old_version)
        return;
    curl_easy_getinfo(s->easy, CURLINFO_HTTP_VERSION, &version);
    if (r->net == TR_NET_OK)
        h->frames = version == CURL_HTTP_VERSION_2_0;
    if (status) {
        h->frame_troubles = 0;
    } else if ((r->sent || s->refused) && s->began_ns > h->trouble_at &&
               (s->refused || s->code == CURLE_HTTP2 ||
                s->code == CURLE_HTTP2_STREAM ||
                (!h->frames && s->code != CURLE_OPERATION_TIMEDOUT))) {
        h->trouble_at = tr_clock_mono_ns();
        h->old_version = ++h->frame_troubles == FRAME_TROUBLES_MAX;
    }
}
