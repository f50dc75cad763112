/* Runs a few instructions on a bare processor, calls back at a port, and looks at registers and memory.
 *
 *   cc registers.c $(pkg-config --cflags --libs transvisor) -o registers && ./registers */
#include <inttypes.h>
#include <stdio.h>
#include <transvisor/vm.h>

#define CODE 0x1000
#define PORT 0x500

static const unsigned char code[] = {
    0xb9, 10,   0,    0, 0, /* mov  $10, %ecx        */
    0x31, 0xc0,             /* xor  %eax, %eax       */
    0x01, 0xc8,             /* add  %ecx, %eax       */
    0xe2, 0xfc,             /* loop -4               */
    0xa3, 0,    0x20, 0, 0, /* mov  %eax, 0x2000     */
    0x66, 0xba, 0,    5,    /* mov  $PORT, %dx       */
    0xef,                   /* out  %eax, %dx        */
    0xf4,                   /* hlt                   */
};

static void on_write(void *arg, uint32_t offset, unsigned size, uint32_t value)
{
    printf("port %x: %" PRIu32 " in %u bytes\n", PORT + (unsigned)offset, value, size);
    vm_pause(arg); /* vm_run() returns after this instruction */
}

int main(void)
{
    const struct vm_config cfg = { .size = sizeof cfg, .firmware = VM_FIRMWARE_NONE, .memory = VM_MEMORY_MIN };
    const struct vm_segment flat_code = { .selector = 8, .limit = 0xffffffff, .attributes = 0xc09b };
    const struct vm_segment flat_data = { .selector = 16, .limit = 0xffffffff, .attributes = 0xc093 };
    struct vm_registers r;
    struct vm_error err;
    struct vm *vm;
    uint32_t sum = 0;

    if (vm_create(&vm, &cfg, &err)) return fprintf(stderr, "%s\n", err.text), 1;
    const struct vm_device device = { .write = on_write, .arg = vm };
    vm_get_registers(vm, &r); /* as reset leaves them: real mode */
    r.cs = flat_code;
    r.ds = r.es = r.ss = flat_data;
    r.cr0 |= 1; /* protected mode */
    r.eip = CODE;
    vm_write_physical(vm, CODE, code, sizeof code);
    if (vm_map_ports(vm, PORT, 4, &device, &err) || vm_set_registers(vm, &r, &err))
        return fprintf(stderr, "%s\n", err.text), 1;

    enum vm_exit event = vm_run(vm, &err);
    vm_get_registers(vm, &r);
    vm_read_linear(vm, 0x2000, &sum, sizeof sum);
    printf("eax %" PRIu32 " ecx %" PRIu32 " eip %" PRIx32 " memory %" PRIu32 "\n", r.eax, r.ecx, r.eip, sum);
    vm_free(vm);
    return event == VM_EXIT_PAUSED && r.eax == 55 && sum == 55 ? 0 : 1;
}
