/* server.h - the fake on a port of 127.0.0.1: one thread, any number of
 * requests waiting.
 * SPDX-License-Identifier: MIT */
#ifndef TR_FAKE_SERVER_H
#define TR_FAKE_SERVER_H

#include "fake/provider.h"

#include <signal.h>

struct fake_server;

int fake_server_open(struct fake_server **out, struct fake_provider *provider,
                     struct tr_err *err);
/* Drops what waits. Accepts NULL. */
void fake_server_close(struct fake_server *s);
int fake_server_port(const struct fake_server *s);
/* Serves until *stop is set by a signal handler (the signals of unblocked are
 * delivered while it sleeps), or --max-requests were answered. */
void fake_server_run(struct fake_server *s, const volatile sig_atomic_t *stop,
                     const sigset_t *unblocked);

#endif
