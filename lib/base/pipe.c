/* pipe.c - writing where a reader may have gone.
 * SPDX-License-Identifier: MIT */
#include "base/pipe.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

/* The signal is blocked in this thread and taken when it came. */
ssize_t tr_pipe_write(int fd, const void *p, size_t n)
{
    const struct timespec now = {0};
    sigset_t pipe_only, before, pending;
    bool was_pending;
    ssize_t done;
    int saved;

    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigpending(&pending);
    was_pending = sigismember(&pending, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    done = write(fd, p, n);
    saved = errno;
    if (done < 0 && saved == EPIPE && !was_pending) {
        while (sigtimedwait(&pipe_only, NULL, &now) < 0 && errno == EINTR)
            ;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = saved;
    return done;
}
