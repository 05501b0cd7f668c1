/* reach.h - whose network an address belongs to: a name may resolve to a place
 * where no key and no text should go.
 * SPDX-License-Identifier: MIT */
#ifndef TR_WIRE_REACH_H
#define TR_WIRE_REACH_H

#include "base/str.h"

#include <stdbool.h>
#include <sys/socket.h>

/* LINK_LOCAL: or where a cloud keeps what its machines may know. */
enum tr_reach { TR_REACH_FAR, TR_REACH_LOOPBACK, TR_REACH_LINK_LOCAL };

/* IPv4, IPv6, and IPv4 inside IPv6; anything else is far. */
enum tr_reach tr_reach_of(const struct sockaddr *a);
/* "10.0.0.0/8", "fe80::/10": is host an address in that network? Anything else
 * is none. */
bool tr_reach_is_in(struct tr_str host, struct tr_str network);

#endif
