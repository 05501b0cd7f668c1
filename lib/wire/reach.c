/* reach.c - whose network an address belongs to, and whether it is in one.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/reach.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Where clouds keep what a machine may know, beyond link-local. */
static const uint32_t metadata_v4[] = {
    0x646464c8, /* 100.100.100.200 */
    0xa83f8110, /* 168.63.129.16 */
    0xc00000c0, /* 192.0.0.192 */
};
static const struct in6_addr metadata_v6[] = {
    {{{0xfd, 0, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54}}}, /* fd00:ec2::254 */
    {{{0xfd, 0x20, 0, 0xce, [14] = 0x02, [15] = 0x54}}}, /* fd20:ce::254 */
};
/* Addresses of IPv6 that stand for one of IPv4: after the bytes of prefix. */
static const struct {
    size_t n;
    unsigned char prefix[12];
} embedded_v4[] = {
    {12, {[10] = 0xff, [11] = 0xff}},            /* ::ffff:a.b.c.d */
    {12, {[8] = 0xff, [9] = 0xff}},              /* ::ffff:0:a.b.c.d */
    {12, {0, 0x64, 0xff, 0x9b}},                 /* 64:ff9b::a.b.c.d (NAT64) */
    {2, {0x20, 0x02}},                           /* 2002:abcd:: (6to4) */
    {12, {0}},                                   /* ::a.b.c.d */
};

static enum tr_reach reach_v4(uint32_t ip)
{
    if (ip >> 24 == 127)
        return TR_REACH_LOOPBACK;
    for (size_t i = 0; i < sizeof metadata_v4 / sizeof *metadata_v4; i++) {
        if (ip == metadata_v4[i])
            return TR_REACH_LINK_LOCAL;
    }
    return ip >> 16 == 0xa9fe ? TR_REACH_LINK_LOCAL : TR_REACH_FAR;
}

static enum tr_reach reach_v6(const struct in6_addr *a)
{
    if (IN6_IS_ADDR_LOOPBACK(a))
        return TR_REACH_LOOPBACK;
    for (size_t i = 0; i < sizeof metadata_v6 / sizeof *metadata_v6; i++) {
        if (memcmp(a, &metadata_v6[i], sizeof *a) == 0)
            return TR_REACH_LINK_LOCAL;
    }
    for (size_t i = 0; i < sizeof embedded_v4 / sizeof *embedded_v4; i++) {
        size_t n = embedded_v4[i].n;
        uint32_t ip;

        if (memcmp(a->s6_addr, embedded_v4[i].prefix, n) == 0) {
            memcpy(&ip, a->s6_addr + n, sizeof ip);
            return reach_v4(ntohl(ip));
        }
    }
    return IN6_IS_ADDR_LINKLOCAL(a) ? TR_REACH_LINK_LOCAL : TR_REACH_FAR;
}

enum tr_reach tr_reach_of(const struct sockaddr *a)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (a->sa_family == AF_INET) {
        memcpy(&v4, a, sizeof v4);
        return reach_v4(ntohl(v4.sin_addr.s_addr));
    }
    if (a->sa_family != AF_INET6)
        return TR_REACH_FAR;
    memcpy(&v6, a, sizeof v6);
    return reach_v6(&v6.sin6_addr);
}

/* An address of either family in net's bytes; 0: it is none. */
static int read_address(struct tr_str text, unsigned char net[16])
{
    char copy[INET6_ADDRSTRLEN];

    if (text.n >= sizeof copy)
        return 0;
    snprintf(copy, sizeof copy, "%.*s", (int)text.n, text.p);
    return inet_pton(AF_INET, copy, net) == 1    ? AF_INET
           : inet_pton(AF_INET6, copy, net) == 1 ? AF_INET6 : 0;
}

bool tr_reach_is_in(struct tr_str host, struct tr_str network)
{
    const char *slash = memchr(network.p, '/', network.n);
    unsigned char a[16], b[16];
    size_t at = slash ? (size_t)(slash - network.p) : 0, bits = 0;
    int family;

    if (!slash || at + 1 == network.n || network.n - at > 4)
        return false;
    for (size_t i = at + 1; i < network.n; i++) {
        if (network.p[i] < '0' || network.p[i] > '9')
            return false;
        bits = 10 * bits + (size_t)(network.p[i] - '0');
    }
    family = read_address(tr_str(network.p, at), a);
    if (!family || read_address(host, b) != family ||
        bits > (family == AF_INET ? 32 : 128))
        return false;
    if (memcmp(a, b, bits / 8) != 0)
        return false;
    return bits % 8 == 0 || (a[bits / 8] ^ b[bits / 8]) >> (8 - bits % 8) == 0;
}
