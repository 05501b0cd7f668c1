/* hook.h - runs one program of the operator at a time, with text on its
 * standard input.
 *
 * No shell: the program is an absolute path and gets no arguments. Its
 * environment is an allow-list, its other descriptors are closed or
 * /dev/null, it leads a process group of its own, and after a time limit the
 * whole group is killed. Nothing here waits. Only our own child is reaped, so
 * the application's other children stay its own.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_HOOK_H
#define TR_HOOK_H

#include "base/err.h"
#include "base/str.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TR_HOOK_INPUT_MAX 4096u /* fits any pipe: writing it never waits */

struct tr_hook {
    char *path;          /* absolute; owned */
    pid_t child;         /* 0: none */
    int64_t deadline_ns; /* monotonic */
    int killed;          /* its time was over */
};

/* program: an absolute path, or a name that is looked up in PATH once. */
int tr_hook_open(struct tr_hook *h, const char *program, struct tr_err *err);
int tr_hook_start(struct tr_hook *h, const char *kind, struct tr_str input,
                  int64_t now_ns, int64_t limit_ns, struct tr_err *err);

enum { TR_HOOK_BUSY, TR_HOOK_OK, TR_HOOK_FAILED };
/* When no longer BUSY the whole group is gone, but for what cannot be killed;
 * why tells how it ended. */
int tr_hook_poll(struct tr_hook *h, int64_t now_ns, char *why, size_t why_n);
void tr_hook_close(struct tr_hook *h); /* kills; twice is fine */

#endif
