/* What the fuzz targets share. A target takes any bytes; it crashes when the code under test reads or writes where it
 * must not (the sanitizers see that) or breaks one of its own promises (CHECK sees that). */
#ifndef DYNAMO_FAST_FUZZ_H
#define DYNAMO_FAST_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* libFuzzer's own mutations, for targets that mend checksums after them. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t n_max);

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                       \
        }                                                                                  \
    } while (0)

/* A copy in memory of its own exact size, so that one byte too far is seen. The caller frees it. */
static inline uint8_t *exact_copy(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    CHECK(copy != NULL);
    if (n)
        memcpy(copy, data, n);
    return copy;
}

/* Reads every byte. */
static inline void touch(const uint8_t *data, size_t n)
{
    static volatile uint8_t sink;
    uint8_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum ^= data[i];
    sink = sum;
    (void)sink;
}

#endif
