/* Frames in C: the header's bytes, every prefix waits, every flipped bit is caught, no length is believed too early. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "checksum.h"
#include "frame.h"

enum { BODY_BYTES = 37, FRAME_BYTES = FRAME_HEADER_BYTES + BODY_BYTES };

static const FrameHeader sample = {
    .body_bytes = BODY_BYTES, .type = 16, .flags = FRAME_FORWARDED, .status = 27, .request_id = 0x0123456789abcdef,
};

static uint8_t *sealed(void)
{
    uint8_t *frame = malloc(FRAME_BYTES);
    assert(frame);
    for (int i = 0; i < BODY_BYTES; i++)
        frame[FRAME_HEADER_BYTES + i] = (uint8_t)(i * 7);
    frame_seal(frame, &sample, checksum_crc32c);
    return frame;
}

static int64_t scan(const uint8_t *bytes, size_t n, size_t body_bytes_max, FrameHeader *header)
{
    return frame_scan(bytes, n, body_bytes_max, checksum_crc32c, header);
}

static void test_layout(void)
{
    uint8_t *frame = sealed();
    assert(load_u32(frame) == BODY_BYTES && frame[4] == 16 && frame[5] == 1 && load_u16(frame + 6) == 27);
    assert(load_u64(frame + 8) == sample.request_id);
    assert(load_u32(frame + 16) == checksum_crc32c(0, frame + FRAME_HEADER_BYTES, BODY_BYTES));
    assert(load_u32(frame + 20) == checksum_crc32c(0, frame, 20));
    FrameHeader header;
    assert(scan(frame, FRAME_BYTES, BODY_BYTES, &header) == FRAME_BYTES);
    assert(header.body_bytes == BODY_BYTES && header.type == 16 && header.flags == 1 && header.status == 27);
    assert(header.request_id == sample.request_id);
    free(frame);
}

static void test_every_prefix_waits(void)
{
    uint8_t *frame = sealed();
    for (size_t n = 0; n < FRAME_BYTES; n++) {
        uint8_t *part = malloc(n + 1);
        assert(part);
        memcpy(part, frame, n);
        uint8_t *exact = realloc(part, n ? n : 1);
        FrameHeader header;
        assert(scan(exact, n, BODY_BYTES, &header) == 0);
        free(exact);
    }
    free(frame);
}

static void test_every_flipped_bit(void)
{
    uint8_t *frame = sealed();
    FrameHeader header;
    for (size_t bit = 0; bit < FRAME_BYTES * 8; bit++) {
        frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert(scan(frame, FRAME_BYTES, BODY_BYTES, &header) == (bit / 8 < FRAME_HEADER_BYTES ? FRAME_BAD_HEADER : FRAME_BAD_BODY));
        frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(frame);
}

static void test_lengths(void)
{
    FrameHeader header, bomb = sample;
    uint8_t frame[FRAME_HEADER_BYTES];
    bomb.body_bytes = 0;
    frame_seal(frame, &bomb, checksum_crc32c);
    assert(scan(frame, sizeof frame, 0, &header) == FRAME_HEADER_BYTES);
    /* Four gigabytes announced in a header that is otherwise sound: refused with not a byte of it there. */
    store_u32(frame, UINT32_MAX);
    assert(scan(frame, sizeof frame, BODY_BYTES, &header) == FRAME_BAD_HEADER);
    store_u32(frame + 20, checksum_crc32c(0, frame, 20));
    assert(scan(frame, sizeof frame, BODY_BYTES, &header) == FRAME_TOO_LONG);
    assert(scan(frame, sizeof frame, UINT32_MAX, &header) == 0);
    uint8_t *one = sealed();
    assert(scan(one, FRAME_BYTES, BODY_BYTES - 1, &header) == FRAME_TOO_LONG);
    free(one);
}

int main(void)
{
    test_layout();
    test_every_prefix_waits();
    test_every_flipped_bit();
    test_lengths();
    for (int64_t code = FRAME_BAD_BODY; code <= 0; code++)
        assert(strlen(frame_error(code)) > 0);
    puts("frame: layout, prefixes, flipped bits, lengths");
    return 0;
}
