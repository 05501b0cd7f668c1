/* sink.h - output that appears under its name only when complete.
 *
 * A regular file is written as FILE.partial, synced and renamed at the end,
 * beside the file where a symbolic link leads; a device, pipe, descriptor or
 * standard output is written as a stream.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_ROWS_SINK_H
#define TR_ROWS_SINK_H

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>

struct tr_sink;

/* path NULL or "-": standard output. Refuses (TR_CANTCREATE) when the folder
 * is missing or not writable, or when path is one of the files that are read
 * (the caller passes their names; "-": standard input). */
int tr_sink_open(struct tr_sink **out, const char *path,
                 const char *const *reads, size_t read_count,
                 struct tr_err *err);
/* TR_CANTCREATE when path, which option names, is one of them. */
int tr_sink_refuse(const char *path, const char *option,
                   const char *const *reads, size_t read_count,
                   struct tr_err *err);
/* Two names, there or not yet, of one regular file; "-": standard output. */
bool tr_sink_same(const char *a, const char *b);
/* Buffers, and writes when the buffer is full. A closed pipe is TR_IO with
 * err->text naming it; SIGPIPE never kills (the sink handles EPIPE). */
int tr_sink_write(struct tr_sink *sink, struct tr_str bytes,
                  struct tr_err *err);
/* No store keeps what is written here: sentences must not promise it. */
void tr_sink_not_kept(struct tr_sink *sink);
int tr_sink_flush(struct tr_sink *sink, struct tr_err *err);
/* For streams, whose reader may be slow: whether n more bytes go into the
 * buffer, and what can be written without waiting. 1: nothing is left; 0:
 * tr_sink_fd() says by POLLOUT when to go on; else a tr_code. */
bool tr_sink_has_room(const struct tr_sink *sink, size_t n);
int tr_sink_drain(struct tr_sink *sink, struct tr_err *err);
int tr_sink_fd(const struct tr_sink *sink);
/* Complete: flush, sync, rename. */
int tr_sink_finish(struct tr_sink *sink, struct tr_err *err);
bool tr_sink_is_stream(const struct tr_sink *sink);
const char *tr_sink_partial(const struct tr_sink *sink); /* name or "" */
/* Without finish: flushes what it can, of a stream what goes without waiting,
 * and leaves FILE.partial. NULL is fine. */
void tr_sink_close(struct tr_sink *sink);

#endif
