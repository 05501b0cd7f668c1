/* guard.c - no core dumps, no debuggers, no rights beyond the user's.
 *
 * The program's affair and not the library's: a library does not change the
 * process it is in. libcurl keeps copies of the key that nobody wipes, and the
 * environment holds it from the start, so the whole process is closed, not
 * only the page of secret.c. A child starts as any other program; only the
 * soft limit is set, so that --core-dumps can take it back.
 *
 * SPDX-License-Identifier: MIT */
#include "guard.h"

#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

static void set(bool open)
{
    struct rlimit core;

    if (getrlimit(RLIMIT_CORE, &core) == 0) {
        core.rlim_cur = open ? core.rlim_max : 0;
        setrlimit(RLIMIT_CORE, &core);
    }
#ifndef __SANITIZE_ADDRESS__ /* its search for leaks attaches to itself */
    prctl(PR_SET_DUMPABLE, open ? 1L : 0L, 0L, 0L, 0L);
#endif
}

bool guard_raise(void)
{
    set(false);
    unsetenv("SSLKEYLOGFILE"); /* libcurl would write the keys of TLS there */
    setenv("GGML_NO_BACKTRACE", "1", 1); /* it would run a debugger of PATH */
    return getuid() == geteuid() && getgid() == getegid();
}

void guard_lower(void)
{
    set(true);
}
