/* pipe.h - writing where a reader may have gone.
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_PIPE_H
#define TR_BASE_PIPE_H

#include <stddef.h>
#include <sys/types.h>

/* write() that turns SIGPIPE into EPIPE without touching the program's own
 * handling. */
ssize_t tr_pipe_write(int fd, const void *p, size_t n);

#endif
