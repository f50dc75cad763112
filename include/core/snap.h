/* What a chip's state is, said once. A chip has one table of fields; reset, save, load and `info` come of it
 * (src/snap/fields.c). What a chip holds beside its table never changes after it has been wired up: buses, wires, back
 * ends, the other chips it was told of. tests/unit/test_snap.c holds that, byte by byte.
 *
 * A field has a bound wherever the chip relies on one (an index, a divisor, a length); what depends on several fields
 * is for check(). So no file, whatever is in it, makes a chip leave its own memory or wait for ever.
 *
 * A new field gets .since, the table's version that has it, and the table's version goes up: it is at its reset value
 * after the load of an older file. No field is ever renamed, removed or put before another. */
#ifndef CORE_SNAP_H
#define CORE_SNAP_H
#include "core/clock.h"
#include "core/types.h"

/* The numbers are those of the file format. */
enum snap_type {
    SNAP_BOOL = 1,
    SNAP_U8,
    SNAP_U16,
    SNAP_U32,
    SNAP_U64,
    SNAP_S32,
    SNAP_S64,
    SNAP_TIMER, /* struct timer: whether it is armed, and its deadline in guest time */
    SNAP_QUEUE, /* struct byte_queue: .max is the most bytes there may be */
};

/* Bytes in order, in memory of their own. */
struct byte_queue {
    u8 *data;
    u32 head, len, room; /* byte i is data[(head + i) % room] */
};

struct snap_field {
    const char *name;
    enum snap_type type;
    u32 offset, stride, count; /* bytes from the start of the object to the first element, and from one to the next */
    u32 since;                 /* the table's first version that has it; 0: all have */
    bool keep;                 /* RESET# leaves it: the level of an input, what a battery holds */
    u64 reset;                 /* value after RESET#, of each element */
    u64 max;                   /* largest value; 0: whatever the type holds */
    s64 min;                   /* signed types with max: smallest value */
};

/* Types and counts come from the member itself. Further arguments: .max = .., .reset = .. */
#define SNAP_TYPE_OF(lvalue)                 \
    _Generic((lvalue), bool                  \
             : SNAP_BOOL, u8                 \
             : SNAP_U8, u16                  \
             : SNAP_U16, u32                 \
             : SNAP_U32, u64                 \
             : SNAP_U64, s32                 \
             : SNAP_S32, s64                 \
             : SNAP_S64, struct timer        \
             : SNAP_TIMER, struct byte_queue \
             : SNAP_QUEUE)
/* A member. */
#define SNAP(T, m, ...)                                                                                    \
    {                                                                                                      \
        .name = #m, .type = SNAP_TYPE_OF(((T *)0)->m), .offset = offsetof(T, m), .count = 1, ##__VA_ARGS__ \
    }
/* An array. */
#define SNAP_ARRAY(T, m, ...)                                                                                         \
    {                                                                                                                 \
        .name = #m, .type = SNAP_TYPE_OF(((T *)0)->m[0]), .offset = offsetof(T, m), .stride = sizeof(((T *)0)->m[0]), \
        .count = ARRAY_LEN(((T *)0)->m), ##__VA_ARGS__                                                                \
    }
/* A member as the bytes it is, whatever its type: for what a manual lays out byte by byte. */
#define SNAP_BYTES(T, m, ...)                                                                             \
    {                                                                                                     \
        .name = #m, .type = SNAP_U8, .offset = offsetof(T, m), .stride = 1, .count = sizeof(((T *)0)->m), \
        ##__VA_ARGS__                                                                                     \
    }
/* Member m of each element of an array of structs. */
#define SNAP_COLUMN(T, array, m, ...)                                                            \
    {                                                                                            \
        .name = #array "." #m, .type = SNAP_TYPE_OF(((T *)0)->array[0].m),                       \
        .offset = offsetof(T, array) + offsetof(__typeof__(((T *)0)->array[0]), m),              \
        .stride = sizeof(((T *)0)->array[0]), .count = ARRAY_LEN(((T *)0)->array), ##__VA_ARGS__ \
    }

struct snap_table {
    const char *name;                /* of the chip, as `info` takes it */
    u32 version;                     /* 1 at first */
    size_t size;                     /* of the object, bytes */
    const struct snap_field *fields; /* up to one without a name */
    void (*reset)(void *chip);       /* what RESET# does, and the wires it drives then; NULL: snap_reset() alone */
    /* After all fields are in: does the chip hold together? NULL: whatever is within bounds does. Changes nothing. */
    bool (*check)(const void *chip);
    /* Before a load: off the bus, where the chip's place there is among its fields. NULL: it has one place. */
    void (*unmap)(void *chip);
    /* After a load: takes up what follows from the fields (the place on the bus, timers that hang on the wall clock).
     * Drives no interrupt wire: the other end loads its level itself. 0 or -errno. */
    int (*loaded)(void *chip);
};

/* One chip of a board. */
struct snap_part {
    const char *name; /* the table's, or what tells it from others of its kind */
    const struct snap_table *table;
    void *chip;
};

/* All fields to their reset values: what a chip's reset() begins with. */
void snap_reset(const struct snap_table *t, void *chip);
/* RESET# of one chip of a board. */
void snap_part_reset(const struct snap_part *p);

/* A growing buffer. Once memory has been short, failed is set and nothing is added any more. */
struct snap_buf {
    u8 *data;
    size_t len, room;
    bool failed;
};
void snap_buf_put(struct snap_buf *b, const void *data, size_t n);
void snap_buf_free(struct snap_buf *b);

/* Appends the chip's state. */
void snap_save(const struct snap_part *p, struct snap_buf *out);
/* Before any chip of a board is loaded. */
void snap_unmap(const struct snap_part *p);
/* Sets the chip from n bytes that snap_save() has made. 0, -EINVAL (why says what is wrong with them, at most room
 * bytes of text) or what loaded() returns. After a failure the chip can be freed, and nothing else. */
MUST_CHECK int snap_load(const struct snap_part *p, const u8 *data, size_t n, char *why, size_t room);
/* One line for each field. */
void snap_info(const struct snap_part *p, FILE *out);

/* False: memory is short, or max would be exceeded; nothing is added then. */
MUST_CHECK bool byte_queue_put(struct byte_queue *q, const u8 *data, size_t n, size_t max);
u8 byte_queue_take(struct byte_queue *q); /* it is not empty */
void byte_queue_free(struct byte_queue *q);

#endif
