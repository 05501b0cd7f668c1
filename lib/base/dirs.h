/* dirs.h - folders: made, synced, and whose a file is.
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_DIRS_H
#define TR_BASE_DIRS_H

/* Makes what is missing with mode 0700. 0, or errno. */
int tr_dirs_make(const char *folder);
/* A new name, or another file under an old one, is durable only when the folder
 * of path is. 0, or errno: but not every file system can, and not every folder
 * may be read, and then nothing better can be had. */
int tr_dirs_sync(const char *path);

/* Why an open file must not say where a key goes: others may have written it.
 * Words that go behind its name, or NULL: it is the user's own, or root's, and
 * not everybody may write to it. */
const char *tr_distrust(int fd);

/* Why an open file is none that we made ourselves, where others may put files,
 * too: *why is words that go behind its name, or NULL: it may be. 0, or an
 * errno when the disk does not say. */
int tr_not_ours(int fd, const char **why);

#endif
