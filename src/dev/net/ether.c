#include "src/dev/net/ether.h"

#include <string.h>
#include <zlib.h>

u32 ether_fcs(const u8 *p, size_t n) { return (u32)crc32(0, p, (uInt)n); }

unsigned ether_hash(const u8 address[ETHER_ADDRESS], bool lsb)
{
    u32 crc = ~ether_fcs(address, ETHER_ADDRESS);
    unsigned reversed = 0;

    if (lsb) return crc >> 26;
    for (unsigned i = 0; i < 6; i++) reversed |= (crc >> i & 1) << (5 - i);
    return reversed;
}

bool ether_is_broadcast(const u8 *frame)
{
    static const u8 all[ETHER_ADDRESS] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

    return !memcmp(frame, all, sizeof all);
}

size_t ether_wire(u8 out[ETHER_BUF], const u8 *frame, size_t len)
{
    u32 fcs;

    BUG_ON(len > NETDEV_FRAME_MAX);
    memcpy(out, frame, len);
    if (len < ETHER_MIN) {
        memset(out + len, 0, ETHER_MIN - len);
        len = ETHER_MIN;
    }
    fcs = ether_fcs(out, len);
    for (unsigned i = 0; i < ETHER_FCS; i++) out[len + i] = (u8)(fcs >> 8 * i);
    return len + ETHER_FCS;
}
