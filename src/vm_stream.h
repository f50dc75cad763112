/* The trace stream's memory, and where it goes. */
#ifndef SRC_VM_STREAM_H
#define SRC_VM_STREAM_H
struct vm;
void vm_stream_free(struct vm *vm); /* before its rt */
#endif
