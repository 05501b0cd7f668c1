/* fault.h - makes the n-th call to the system fail, or end the process.
 *
 * fault.c takes the place of the C library's calls, in two forms: linked into
 * a test program, which arms it by fault_arm(), and as a module that
 * LD_PRELOAD puts in front of the real program, armed by $TROMMEL_FAULT.
 *
 * A plan is CLASSES:DEED:N, for example "wsn:kill:17" or "w:ENOSPC:3+".
 * CLASSES  which calls count: letters of
 *          w  bytes into files, pipes and sockets by write() and pwrite()
 *          s  fsync(), fdatasync()
 *          n  names and sizes: open(), fopen(), opendir(), mkstemp(), mkdir(),
 *             rename(), unlink(), ftruncate(), posix_fallocate(), fchmod(),
 *             close(), dup(), flock()
 *          i  what is asked of them: stat() and its kin, access(), readdir(),
 *             readlink(), realpath(), fcntl() with its locks
 *          r  read(), pread(), fread()
 *          c  socket(), connect(), send(), recv()
 *          e  what a process gets from the system beside files: epoll,
 *             eventfd(), pipe(), socketpair(), posix_spawn()
 *          l  getaddrinfo(), which libcurl calls on a thread of its own;
 *             torture.test is this machine
 *          m  memory: malloc() and its kin, of our code and of the libraries
 *             in `careful`; not those of the C++ and the TLS libraries
 * DEED     kill   SIGKILL before the call
 *          tear   half of it, then SIGKILL
 *          short  half of it, as a success
 *          fail   no memory
 *          spin   never returns and computes; hang: never returns and sleeps
 *          doze   1.6 s, SIGSTOP to the process, and when it goes on 1.6 s more
 *          TERM   SIGTERM to the process, then the call; TERM+ is two in a row;
 *                 INT and HUP are SIGINT and SIGHUP
 *          leave  with +: SIGTERM twice, then SIGHUP before each call
 *          ENAME  an error: EIO, ENOSPC, EINTR, EMFILE, EDQUOT, ECONNRESET
 * N        the N-th of these calls from now, from 1; with + all from there on.
 *          An interrupted call comes to an end: EINTR+ is four in a row.
 *
 * $TROMMEL_FAULT_COUNT: a file that gets the number of calls at the end, or when
 * a call begins to spin or hang.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FAULT_H
#define FAULT_H

/* Begins to count; NULL: never again a fault. -1: not a plan. */
int fault_arm(const char *plan);
/* Calls counted since. */
long fault_count(void);

#endif
