/* cmd_fake.c - `trommel fake`: a provider on loopback to rehearse with.
 * SPDX-License-Identifier: MIT */
#include "commands.h"
#include "fake/server.h"

#include "base/clock.h"

#include <signal.h>
#include <stdio.h>

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

/* The signals that end it come only while it sleeps, so none is missed. */
static void catch_signals(sigset_t *unblocked)
{
    struct sigaction end = {.sa_handler = on_signal};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t ends;

    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, unblocked);
    sigdelset(unblocked, SIGINT);
    sigdelset(unblocked, SIGTERM);
    sigaction(SIGINT, &end, NULL);
    sigaction(SIGTERM, &end, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
}

static int write_file(const char *path, struct tr_str text, struct tr_err *err)
{
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(text.p, 1, text.n, f) == text.n;

    if (f && fclose(f))
        ok = false;
    return ok ? TR_OK
              : tr_fail(err, TR_CANTCREATE, "%s cannot be written", path);
}

/* The line comes last: who reads it finds the file written. */
static int announce(const struct fake_options *o, int port, struct tr_err *err)
{
    char text[16];
    int n = snprintf(text, sizeof text, "%d\n", port), rc = TR_OK;

    if (o->port_file)
        rc = write_file(o->port_file, tr_str(text, (size_t)n), err);
    if (rc != TR_OK)
        return rc;
    printf("listening on http://127.0.0.1:%d/v1\n", port);
    fflush(stdout);
    return TR_OK;
}

static int write_bill(const struct fake_options *o, const struct fake_bill *b,
                      struct tr_err *err)
{
    struct tr_buf out = {0};
    int rc;

    if (!o->bill_file)
        return TR_OK;
    fake_bill_write(&out, b);
    rc = tr_buf_ok(&out) ? write_file(o->bill_file, tr_buf_str(&out), err)
                         : tr_fail(err, TR_NOMEM, "out of memory");
    tr_buf_release(&out);
    return rc;
}

static int serve(const struct fake_options *o, struct tr_err *err)
{
    struct fake_provider provider;
    struct fake_server *server = NULL;
    sigset_t unblocked;
    int rc;

    TRY(fake_provider_open(&provider, o, tr_clock_mono_ns(), err));
    catch_signals(&unblocked);
    TRY(fake_server_open(&server, &provider, err));
    TRY(announce(o, fake_server_port(server), err));
    fake_server_run(server, &stopped, &unblocked);
    TRY(write_bill(o, &provider.bill, err));
out:
    fake_server_close(server);
    fake_provider_close(&provider);
    return rc;
}

int cmd_fake(int argc, char **argv)
{
    struct fake_options options;
    struct tr_err err = {0};
    int rc = fake_options_read(&options, argc, argv, stdout, stderr);

    if (rc)
        return rc > 0 ? 0 : tr_exit_code(TR_USAGE);
    rc = serve(&options, &err);
    if (rc != TR_OK)
        fprintf(stderr, "trommel fake: %s\n", err.text);
    return tr_exit_code(rc);
}
