/* webhook.c - one POST at a time to an address that is no model.
 * SPDX-License-Identifier: MIT */
#include "wire/webhook.h"

#include "base/buf.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/secret.h"
#include "wire/provider.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tr_webhook {
    char *url, *proxy, *ca_file;
    char host[160];
    bool allow_http, allow_link_local;
    struct tr_secret *secret; /* NULL: none */
    struct tr_transport *transport; /* of the POST under way, or NULL */
    struct tr_buf body;
};

/* The address itself is never repeated: who knows it may post there. */
static int check_address(struct tr_webhook *w, struct tr_err *err)
{
    bool secure = strncmp(w->url, "https://", 8) == 0;
    struct tr_str host = tr_str_c(w->url);

    if (!secure && strncmp(w->url, "http://", 7) != 0)
        return tr_fail(err, TR_CONFIG, "--alert-webhook: the address begins "
                       "with https:// (or http:// for a server on this "
                       "machine)");
    for (const char *p = w->url; *p; p++) {
        if ((unsigned char)*p < 0x21 || (unsigned char)*p > 0x7e ||
            strchr("@#\\\"<>", *p))
            return tr_fail(err, TR_CONFIG, "--alert-webhook: the address may "
                           "not hold blanks, a user name or #, nor bytes "
                           "beyond ASCII");
    }
    host.p += secure ? 8 : 7;
    host.n = strcspn(host.p, "/?");
    snprintf(w->host, sizeof w->host, "%.*s",
             host.n > 150 ? 150 : (int)host.n, host.p);
    if (host.n && host.p[0] == '[')
        host.n = strcspn(host.p, "]") + (strchr(host.p, ']') != NULL);
    else
        host.n = strcspn(host.p, ":/?");
    if (!host.n)
        return tr_fail(err, TR_CONFIG, "--alert-webhook: the address has no "
                       "host");
    if (!secure && !w->allow_http && !tr_wire_is_loopback(host))
        return tr_fail(err, TR_CONFIG,
                       "--alert-webhook: %s would be told over plain http; "
                       "use https, or --allow-http if the network is yours",
                       w->host);
    return TR_OK;
}

static int read_secret(struct tr_webhook *w, const struct tr_webhook_opts *o,
                       struct tr_err *err)
{
    struct tr_target target;
    const char *value;
    int rc;

    if (o->secret_file) {
        rc = tr_target_key_file(&target, o->secret_file, err);
        if (rc == TR_OK && !(w->secret = tr_secret_new(tr_str_c(target.key))))
            rc = tr_fail(err, TR_NOMEM, "out of memory");
        tr_wipe(&target, sizeof target);
        return rc;
    }
    if (!o->secret_env)
        return TR_OK;
    value = getenv(o->secret_env);
    if ((!value || !value[0]) && !tr_wire_is_variable(o->secret_env))
        return tr_fail(err, TR_CONFIG,
                       "--alert-secret-env: no variable of that name is set; "
                       "give the NAME of one that holds the secret, not the "
                       "secret itself");
    if (!value || !value[0])
        return tr_fail(err, TR_CONFIG,
                       "--alert-secret-env %s: that variable is not set",
                       o->secret_env);
    if (strlen(value) >= sizeof target.key)
        return tr_fail(err, TR_CONFIG, "--alert-secret-env %s: the secret is "
                       "longer than %zu bytes", o->secret_env,
                       sizeof target.key - 1);
    w->secret = tr_secret_new(tr_str_c(value));
    if (!w->secret)
        return tr_fail(err, TR_NOMEM, "out of memory");
    return TR_OK;
}

int tr_webhook_open(struct tr_webhook **out, const struct tr_webhook_opts *o,
                    struct tr_err *err)
{
    struct tr_webhook *w = tr_alloc(sizeof *w);
    const char *ca_file = getenv("SSL_CERT_FILE");
    const char *headers[] = {NULL};
    int rc = TR_OK;

    *out = NULL;
    if (!w)
        return tr_fail(err, TR_NOMEM, "out of memory");
    tr_buf_init(&w->body, 0);
    w->allow_http = o->allow_http;
    w->allow_link_local = o->allow_link_local;
    w->url = tr_dup(o->url, strlen(o->url));
    if (o->proxy)
        w->proxy = tr_dup(o->proxy, strlen(o->proxy));
    if (ca_file && ca_file[0])
        w->ca_file = tr_dup(ca_file, strlen(ca_file));
    if (!w->url || (o->proxy && !w->proxy) ||
        (ca_file && ca_file[0] && !w->ca_file))
        TRY(tr_fail(err, TR_NOMEM, "out of memory"));
    TRY(check_address(w, err));
    TRY(read_secret(w, o, err));
    /* Opened once for the sake of the errors it may name. */
    TRY(tr_http_open(&w->transport,
                     &(struct tr_http_opts){.url = w->url, .headers = headers},
                     err));
    w->transport->close(w->transport);
    w->transport = NULL;
    *out = w;
    w = NULL;
out:
    if (rc == TR_CONFIG && strstr(err->text, o->url))
        tr_fail(err, rc, "--alert-webhook: this is no valid address");
    tr_webhook_close(w);
    return rc;
}

const char *tr_webhook_host(const struct tr_webhook *w)
{
    return w->host;
}

int tr_webhook_post(struct tr_webhook *w, struct tr_str body, int64_t limit_ms,
                    struct tr_err *err)
{
    char signature[100], hex[65];
    const char *headers[] = {"Content-Type: application/json",
                             "User-Agent: trommel/0.1", NULL, NULL};
    int rc = TR_OK;

    TR_ASSERT(!w->transport);
    tr_buf_clear(&w->body);
    tr_buf_adds(&w->body, body);
    if (!tr_buf_ok(&w->body))
        return tr_fail(err, TR_NOMEM, "out of memory for an alert");
    if (w->secret) {
        tr_sign(tr_str_c(tr_secret_text(w->secret)), tr_buf_str(&w->body), hex);
        snprintf(signature, sizeof signature, "X-Trommel-Signature: sha256=%s",
                 hex);
        headers[2] = signature;
    }
    TRY(tr_http_open(&w->transport,
                     &(struct tr_http_opts){.url = w->url,
                                            .headers = headers,
                                            .allow_http = w->allow_http,
                                            .allow_link_local =
                                                w->allow_link_local,
                                            .proxy = w->proxy,
                                            .ca_file = w->ca_file},
                     err));
    TRY(w->transport->start(w->transport, 1, tr_buf_str(&w->body), limit_ms,
                            err));
out:
    if (rc != TR_OK && w->transport) {
        w->transport->close(w->transport);
        w->transport = NULL;
    }
    return rc;
}

static int judge(const struct tr_http_result *r, char *why, size_t why_n)
{
    if (r->net != TR_NET_OK) {
        snprintf(why, why_n, "%s", r->message);
        return r->net == TR_NET_REFUSED ? TR_WEBHOOK_REFUSED
                                        : TR_WEBHOOK_FAILED;
    }
    snprintf(why, why_n, "HTTP %d", r->status);
    if (r->status >= 200 && r->status < 300)
        return TR_WEBHOOK_TAKEN;
    return r->status >= 500 || r->status == 408 || r->status == 429
               ? TR_WEBHOOK_FAILED
               : TR_WEBHOOK_REFUSED;
}

int tr_webhook_poll(struct tr_webhook *w, char *why, size_t why_n)
{
    struct tr_http_result r;
    int came;

    if (!w->transport->next(w->transport, &r))
        return TR_WEBHOOK_BUSY;
    came = judge(&r, why, why_n);
    w->transport->close(w->transport);
    w->transport = NULL;
    return came;
}

void tr_webhook_close(struct tr_webhook *w)
{
    if (!w)
        return;
    if (w->transport)
        w->transport->close(w->transport);
    tr_secret_free(w->secret);
    tr_buf_release(&w->body);
    tr_free(w->url);
    tr_free(w->proxy);
    tr_free(w->ca_file);
    tr_free(w);
}
