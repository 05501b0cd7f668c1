/* dirs.h - a folder with all that lead to it.
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_DIRS_H
#define TR_BASE_DIRS_H

/* Makes what is missing with mode 0700. 0, or errno. */
int tr_dirs_make(const char *folder);

#endif
