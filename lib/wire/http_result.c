/* http_result.c - what came of a request: whether any of it left, and how it
 * failed.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/http.h"

#include <stdio.h>

static const struct {
    CURLcode code;
    enum tr_net net;
} nets[] = {
    {CURLE_OK, TR_NET_OK},
    {CURLE_COULDNT_RESOLVE_HOST, TR_NET_DNS},
    {CURLE_COULDNT_RESOLVE_PROXY, TR_NET_DNS},
    {CURLE_COULDNT_CONNECT, TR_NET_CONNECT},
    {CURLE_SSL_CONNECT_ERROR, TR_NET_TLS},
    {CURLE_SSL_CIPHER, TR_NET_TLS},
    {CURLE_PEER_FAILED_VERIFICATION, TR_NET_REFUSED},
    {CURLE_SSL_CACERT_BADFILE, TR_NET_REFUSED},
    {CURLE_SSL_ISSUER_ERROR, TR_NET_REFUSED},
    {CURLE_OPERATION_TIMEDOUT, TR_NET_TIMEOUT},
    {CURLE_SEND_ERROR, TR_NET_CUT},
    {CURLE_RECV_ERROR, TR_NET_CUT},
    {CURLE_GOT_NOTHING, TR_NET_CUT},
    {CURLE_PARTIAL_FILE, TR_NET_CUT},
    {CURLE_HTTP2, TR_NET_CUT},
    {CURLE_HTTP2_STREAM, TR_NET_CUT},
};

static enum tr_net net_of(const struct tr_slot *s, bool sent)
{
    enum tr_net net = TR_NET_OTHER;

    if (s->too_big)
        return TR_NET_TOO_BIG;
    if (s->resent)
        return TR_NET_CUT;
    if (s->code == CURLE_OK && !s->headers_end)
        return TR_NET_CUT; /* among the headers, and libcurl is content */
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        if (nets[i].code == s->code)
            net = nets[i].net;
    }
    /* Where one of its addresses may be asked, there may be a server again. */
    if (net == TR_NET_CONNECT && s->barred && !s->dialled)
        return TR_NET_REFUSED;
    if (net == TR_NET_TIMEOUT && !sent)
        return TR_NET_CONNECT;
    return net;
}

/* libcurl repeats the address of a proxy that it cannot use, and may cut it
 * before the @ that ends the password. */
static const char *words_of(struct tr_slot *s)
{
    char *at = strrchr(s->error, '@'), *from = strchr(s->error, '\'');

    if (strncmp(s->error, "Unsupported proxy", 17) == 0)
        return "the address of the proxy is not valid";
    if (at && (!from || from > at))
        from = strstr(s->error, "://");
    if (at && from && from < at)
        memmove(from + 1, at, strlen(at) + 1);
    return s->error[0] ? s->error : curl_easy_strerror(s->code);
}

/* This machine had no socket for it, or none that can be watched. */
static bool lacks(const struct tr_slot *s, enum tr_net net)
{
    return s->no_socket && net == TR_NET_CONNECT;
}

void tr_http_show(struct tr_slot *s, struct tr_http_result *r)
{
    long status = 0, request_bytes = 0;
    curl_off_t upload_bytes = 0;

    curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(s->easy, CURLINFO_REQUEST_SIZE, &request_bytes);
    curl_easy_getinfo(s->easy, CURLINFO_SIZE_UPLOAD_T, &upload_bytes);
    r->tag = s->tag;
    /* libcurl counts what it says to a proxy, too; so tries. */
    r->sent = s->tries && (status || (!s->refused && (request_bytes > 0 ||
                                                      upload_bytes > 0 ||
                                                      s->resent)));
    s->stale = !s->forgot && (s->stale || s->code != CURLE_OK || s->tries > 1);
    r->net = net_of(s, r->sent);
    r->status = (int)status;
    r->headers = tr_buf_str(&s->headers);
    r->body = tr_buf_str(&s->body);
    r->saved_bytes = s->ask.saved;
    r->unsaved = s->ask.disk;
    r->latency_ms = (tr_clock_mono_ns() - s->began_ns) / TR_MS;
    r->message[0] = '\0';
    r->ours = s->ask.unread || (!r->sent && lacks(s, r->net));
    tr_http_note_frames(s, status, r);
    if (r->net == TR_NET_OK)
        return;
    if (s->ask.unread) {
        snprintf(r->message, sizeof r->message, "a temporary file cannot be "
                 "read: %s; check the disk, or set TMPDIR to another",
                 strerror(s->ask.unread));
        return;
    }
    if (lacks(s, r->net)) {
        snprintf(r->message, sizeof r->message, "%s: %s; %s",
                 s->no_watch ? "a socket cannot be watched" : "no socket",
                 strerror(s->no_socket),
                 s->no_watch ? tr_http_watch_remedy(s->no_socket)
                             : tr_errno_remedy(s->no_socket,
                                               "run the same command again"));
        return;
    }
    snprintf(r->message, sizeof r->message, "%.199s",
             s->ask.disk ? "the response cannot be written to a temporary "
                           "file; is the disk full?"
             : r->net == TR_NET_TOO_BIG ? "the response is larger than 8 MiB, "
                                        "or its headers than 64 KiB"
             : s->no_memory ? "out of memory for the response"
             : s->refused && !r->sent
                 ? "the server did not take the request (HTTP/2)"
             : s->resent ? "the connection was closed without an answer"
             : r->net == TR_NET_CUT && s->code == CURLE_OK
                 ? "the connection was closed among the headers"
             : r->net == TR_NET_REFUSED && s->barred ? s->barred
             : words_of(s));
}
