/* The least that a consumer of a trace stream does: it reads every record of FILE or unix:SOCKET, and counts them
 * (bench/instruments.py). */
#include <stream_reader.h>

int main(int argc, char **argv)
{
    struct stream_reader r;
    const struct vm_stream_record *at;
    unsigned long long n = 0, sum = 0;
    if (argc != 2) return 2;
    stream_open(&r, argv[1]);
    for (size_t k; (k = stream_next(&r, &at)); stream_done(&r, k)) {
        n += k;
        for (size_t i = 0; i < k; i++) sum += at[i].address + at[i].value;
    }
    printf("%llu records, %llu lost, %llx\n", n, (unsigned long long)r.header->lost, sum);
    return 0;
}
