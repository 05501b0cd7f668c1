/* http_ask.c - requests of another kind than a lane's own, to the same origin:
 * files, forms, and results that are saved.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/http.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static size_t read_file(char *out, size_t size, size_t n, void *user)
{
    struct tr_slot *s = user;
    ssize_t got;

    n *= size;
    if ((int64_t)n > s->ask.file_bytes - s->ask.file_at)
        n = (size_t)(s->ask.file_bytes - s->ask.file_at);
    do
        got = pread(s->ask.file_fd, out, n, s->ask.file_at);
    while (got < 0 && errno == EINTR);
    if (got < 0 || (n && !got)) {
        s->ask.unread = got < 0 ? errno : ENODATA;
        return CURL_READFUNC_ABORT;
    }
    s->ask.file_at += got;
    return (size_t)got;
}

static int seek_file(void *user, curl_off_t offset, int origin)
{
    struct tr_slot *s = user;

    if (origin != SEEK_SET)
        return CURL_SEEKFUNC_CANTSEEK;
    s->ask.file_at = offset;
    return CURL_SEEKFUNC_OK;
}

/* A body that is not in memory. */
static void set_file_body(struct tr_slot *s)
{
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDS, NULL);
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDSIZE_LARGE,
                     (curl_off_t)s->ask.file_bytes);
    curl_easy_setopt(s->easy, CURLOPT_READFUNCTION, read_file);
    curl_easy_setopt(s->easy, CURLOPT_READDATA, s);
    curl_easy_setopt(s->easy, CURLOPT_SEEKFUNCTION, seek_file);
    curl_easy_setopt(s->easy, CURLOPT_SEEKDATA, s);
}

static bool fill_form(struct tr_slot *s, const struct tr_http_ask *ask)
{
    curl_mime *form = s->ask.form = curl_mime_init(s->easy);
    curl_mimepart *part;
    bool bad = !form;

    for (size_t i = 0; !bad && ask->fields[i]; i += 2) {
        part = curl_mime_addpart(form);
        bad = !part || curl_mime_name(part, ask->fields[i]) ||
              curl_mime_data(part, ask->fields[i + 1], CURL_ZERO_TERMINATED);
    }
    if (bad)
        return false;
    part = curl_mime_addpart(form);
    return part && !curl_mime_name(part, "file") &&
           !curl_mime_filename(part, ask->file_name) &&
           !curl_mime_type(part, "application/jsonl") &&
           !curl_mime_data_cb(part, ask->file_bytes, read_file, seek_file,
                              NULL, s) &&
           !curl_easy_setopt(s->easy, CURLOPT_MIMEPOST, form);
}

/* CURLUE_OK: the same. */
static CURLUcode same_part(CURLU *a, CURLU *b, CURLUPart part)
{
    char *x = NULL, *y = NULL;
    CURLUcode bad = curl_url_get(a, part, &x, CURLU_DEFAULT_PORT);

    if (!bad)
        bad = curl_url_get(b, part, &y, CURLU_DEFAULT_PORT);
    if (!bad && strcmp(x, y) != 0)
        bad = CURLUE_BAD_HOSTNAME;
    curl_free(x);
    curl_free(y);
    return bad;
}

/* The key is in the headers: it goes nowhere else, whoever gave the url. */
static CURLUcode same_origin(CURLU *a, CURLU *b)
{
    CURLUcode bad = same_part(a, b, CURLUPART_SCHEME);

    if (!bad)
        bad = same_part(a, b, CURLUPART_HOST);
    return bad ? bad : same_part(a, b, CURLUPART_PORT);
}

int tr_http_ask(struct tr_transport *t, uint64_t tag,
                const struct tr_http_ask *ask, int64_t deadline_ms,
                struct tr_err *err)
{
    struct tr_http *h = (struct tr_http *)t;
    struct tr_slot *s = tr_slot_take(h);
    bool json = ask->post && !ask->fields;
    CURLUcode bad;

    if (!s)
        return tr_fail(err, TR_NOMEM, "out of memory for a request");
    s->ask = (struct tr_asked){
        .address = curl_url(),
        .file_fd = ask->file_fd,
        .file_bytes = ask->file_bytes,
        .save_fd = ask->save ? ask->save_fd : -1,
        .save_max = ask->save_bytes_max,
    };
    if (!s->ask.address) {
        tr_slot_give_back(s);
        return tr_fail(err, TR_NOMEM, "out of memory for a request");
    }
    bad = curl_url_set(s->ask.address, CURLUPART_URL, ask->url, 0);
    if (!bad)
        bad = same_origin(s->ask.address, h->address);
    if (bad == CURLUE_OUT_OF_MEMORY) {
        tr_slot_give_back(s);
        return tr_fail(err, TR_NOMEM, "out of memory for a request");
    }
    if (bad) {
        tr_slot_give_back(s);
        return tr_fail(err, TR_CONFIG, "%.200s: not an address of %.200s, and "
                       "the key goes nowhere else", ask->url, h->url);
    }
    curl_easy_setopt(s->easy, CURLOPT_CURLU, s->ask.address);
    curl_easy_setopt(s->easy, CURLOPT_HTTPHEADER, json ? h->headers : h->plain);
    if (json && ask->file_bytes)
        set_file_body(s);
    else if (json)
        tr_slot_set_body(s, ask->body);
    else if (!ask->post)
        curl_easy_setopt(s->easy, CURLOPT_HTTPGET, 1L);
    else if (!fill_form(s, ask)) {
        tr_slot_give_back(s);
        return tr_fail(err, TR_NOMEM, "out of memory for a file");
    }
    return tr_http_leave(s, tag, deadline_ms, err);
}

void tr_http_drop(struct tr_transport *t, uint64_t tag)
{
    struct tr_http *h = (struct tr_http *)t;

    for (size_t i = 0; i < h->slot_count; i++) {
        struct tr_slot *s = h->slots[i];

        if (s->active && s->ask.address && s->tag == tag) {
            tr_slot_stop(s);
            tr_slot_give_back(s);
        }
    }
}
