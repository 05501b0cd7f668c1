/* joint.h - a small file that several processes change, one at a time.
 *
 * It lies in the folder of the stores, with a lock file beside it. A change is
 * whole or not there, and on the disk when tr_joint_write() returns.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_STORE_JOINT_H
#define TR_STORE_JOINT_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"

#include <stdbool.h>

#define TR_JOINT_BYTES_MAX (256u << 10)

struct tr_joint {
    char path[4200]; /* FOLDER/NAME */
    int lock_fd;
};

/* Waits for its turn (moments: nobody holds it for longer than a write), and
 * reads; an absent file reads as empty. TR_STOPPED: who holds it has done
 * nothing for ten seconds. tr_joint_close() in any case. */
int tr_joint_open(struct tr_joint *j, const char *folder, const char *name,
                  struct tr_buf *text, struct tr_err *err);
int tr_joint_write(struct tr_joint *j, struct tr_str text, struct tr_err *err);
void tr_joint_close(struct tr_joint *j);
bool tr_joint_exists(const char *folder, const char *name);
/* A process is at work on the store of that task in that folder. */
bool tr_store_in_use(const char *folder, const struct tr_key *task);

#endif
