/* What the files of the 82540EM share. */
#ifndef SRC_DEV_NET_E1000_PRIV_H
#define SRC_DEV_NET_E1000_PRIV_H
#include "src/dev/net/eeprom93.h"
#include "src/dev/net/segment.h"
#include "src/dev/pc_devices.h"

/* Registers by their place, in bytes. */
/* clang-format off */
enum {
    CTRL = 0x0000, STATUS = 0x0008, EECD = 0x0010, EERD = 0x0014, CTRL_EXT = 0x0018, FLA = 0x001c, MDIC = 0x0020,
    FCAL = 0x0028, FCAH = 0x002c, FCT = 0x0030, VET = 0x0038, ICR = 0x00c0, ITR = 0x00c4, ICS = 0x00c8, IMS = 0x00d0,
    IMC = 0x00d8, RCTL = 0x0100, FCTTV = 0x0170, TCTL = 0x0400, TIPG = 0x0410, AIT = 0x0458, LEDCTL = 0x0e00,
    PBA = 0x1000, FCRTL = 0x2160, FCRTH = 0x2168, RDBAL = 0x2800, RDBAH = 0x2804, RDLEN = 0x2808, RDH = 0x2810,
    RDT = 0x2818, RDTR = 0x2820, RXDCTL = 0x2828, RADV = 0x282c, RSRPD = 0x2c00, TDBAL = 0x3800, TDBAH = 0x3804,
    TDLEN = 0x3808, TDH = 0x3810, TDT = 0x3818, TIDV = 0x3820, TXDCTL = 0x3828, TADV = 0x382c, TSPMT = 0x3830,
    STATS = 0x4000, PRC64 = 0x405c, GPRC = 0x4074, BPRC = 0x4078, MPRC = 0x407c, GPTC = 0x4080, GORC = 0x4088,
    GOTC = 0x4090, TOR = 0x40c0, TOT = 0x40c8, TPR = 0x40d0, TPT = 0x40d4, PTC64 = 0x40d8, MPTC = 0x40f0,
    BPTC = 0x40f4, STATS_END = 0x4100, RXCSUM = 0x5000, MTA = 0x5200, RA = 0x5400, RA_END = 0x5480, VFTA = 0x5600,
    WUC = 0x5800, WUFC = 0x5808, MANC = 0x5820, REGS_END = 0x5900,
};
enum { CTRL_SLU = 0x40, CTRL_RST = 1 << 26, CTRL_VME = 1 << 30 };
#define CTRL_PHY_RST 0x80000000u
enum { INT_TXDW = 1, INT_TXQE = 2, INT_LSC = 4, INT_RXDMT0 = 0x10, INT_RXT0 = 0x80, INT_MDAC = 0x200 };
enum { RCTL_EN = 2, RCTL_UPE = 8, RCTL_MPE = 0x10, RCTL_LBM = 0xc0, RCTL_BAM = 0x8000, RCTL_VFE = 1 << 18,
       RCTL_BSEX = 1 << 25, RCTL_SECRC = 1 << 26 };
/* clang-format on */
#define E1000_PHY_REGS 32u

/* What a context descriptor has said: offsets into a packet, and how it is to be cut. */
struct e1000_context {
    u8 ip_start, ip_place, l4_start, l4_place, header;
    u16 ip_end, l4_end, size; /* ends are inclusive, 0: the packet's */
    bool tcp, ip4;
};

struct e1000 {
    struct bus *bus;
    struct clock *clk;
    struct pci_fn *fn;
    struct irq_line intx;
    struct netdev *net;
    const char *name;
    u8 *packet; /* SEGMENT_PACKET_MAX bytes, of the packet that is being sent */
    u32 reg[REGS_END / 4];
    u16 phy[E1000_PHY_REGS];
    u32 io_address;
    struct e1000_context context[2]; /* for plain packets, for those that are cut */
    struct timer throttle, tx_delay, rx_delay;
    u64 quiet_until; /* no interrupt before */
    struct eeprom93 eeprom;
};
extern const struct snap_table e1000_table;

static inline u32 *e1000_reg(struct e1000 *e, u32 at) { return &e->reg[at / 4]; }
static inline u32 e1000_get(const struct e1000 *e, u32 at) { return e->reg[at / 4]; }
void e1000_cause(struct e1000 *e, u32 causes); /* sets bits of ICR */

/* ---- e1000_ring.c ---- */

void e1000_transmit(struct e1000 *e);
bool e1000_receive(void *fe, const u8 *frame, size_t len);

#endif
