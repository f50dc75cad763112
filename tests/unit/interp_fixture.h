/* cpu_fixture.h's processor with an interpreter, and programs as bytes. */
#ifndef TESTS_UNIT_INTERP_FIXTURE_H
#define TESTS_UNIT_INTERP_FIXTURE_H
#include "runtime/interp/interp.h"
#include "tests/unit/cpu_fixture.h"
#include "translator/front/decode.h"

static struct decoder *dec;
static struct interp *ip;

static bool on_code_write(void *arg, paddr pa, unsigned len, u8 flags)
{
    (void)arg, (void)flags;
    interp_invalidate(ip, pa, len);
    return true; /* what else is in that page */
}
static struct coherence_listener code_listener = { .rank = COHERENCE_CODE, .written = on_code_write };

static inline void interp_setup_model(const char *model)
{
    fix_setup_model(model);
    ck_assert_int_eq(decoder_new(&dec), 0);
    ck_assert_int_eq(interp_new(&ip, cpu, dec), 0);
    coherence_listen(bus_coherence(bus), &code_listener);
}
static inline void interp_setup(void) { interp_setup_model("n270"); }
static inline void interp_teardown(void)
{
    interp_free(ip);
    decoder_free(dec);
    fix_teardown();
}

/* Puts bytes at a physical address, as a loader does. */
#define PUT(at, ...)                                                                     \
    do {                                                                                 \
        const u8 bytes_[] = { __VA_ARGS__ };                                             \
        ck_assert_uint_eq(bus_dma_write(bus, at, bytes_, sizeof bytes_), sizeof bytes_); \
    } while (0)
/* A program at CODE, and EIP there. */
#define PROGRAM(...)            \
    do {                        \
        PUT(CODE, __VA_ARGS__); \
        cpu->eip = CODE;        \
    } while (0)
/* Its first n instructions, none of which may fault. */
#define STEPS(n)                                                                                       \
    for (unsigned i_ = 0; i_ < (n); i_++) {                                                            \
        int r_ = interp_one(ip);                                                                       \
        ck_assert_msg(!r_, "instruction %u at %x raised %02x error %x", i_, cpu->eip, cpu->exc.vector, \
                      cpu->exc.error);                                                                 \
    }
#define ASSERT_EXC(x) ASSERT_RAISED(interp_one(ip), x)

#endif
