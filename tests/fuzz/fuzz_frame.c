/* A stream of frames, cut into frames as a connection does it, and each body parsed as what its type says.
 *
 * Mutations are mended: most of the time the checksums are set right again, since a fuzzer cannot guess them and would
 * never get behind them. */
#include "frame.h"

#include "bytes.h"
#include "checksum.h"
#include "fuzz.h"
#include "messages.h"

enum { BODY_BYTES_MAX = 4096 };

static void parse_body(const FrameHeader *header, const uint8_t *body)
{
    PutMessage put;
    GetMessage get;
    GetReplyMessage reply;
    ReplicateMessage replicate;
    ReadMessage read;
    switch (header->type) {
    case MESSAGE_PUT: messages_parse_put(body, header->body_bytes, &put); break;
    case MESSAGE_GET: messages_parse_get(body, header->body_bytes, &get); break;
    case MESSAGE_GET_REPLY: messages_parse_get_reply(body, header->body_bytes, &reply); break;
    case MESSAGE_REPLICATE: messages_parse_replicate(body, header->body_bytes, &replicate); break;
    case MESSAGE_READ: messages_parse_read(body, header->body_bytes, &read); break;
    default: touch(body, header->body_bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t *stream = exact_copy(data, n);
    size_t at = 0;
    for (;;) {
        FrameHeader header;
        int64_t taken = frame_scan(stream + at, n - at, BODY_BYTES_MAX, checksum_crc32c, &header);
        CHECK(taken >= FRAME_BAD_BODY && taken <= (int64_t)(n - at));
        CHECK(frame_error(taken) != NULL);
        if (taken <= 0)
            break;
        CHECK(header.body_bytes <= BODY_BYTES_MAX && taken == FRAME_HEADER_BYTES + (int64_t)header.body_bytes);
        /* The frame needs its last byte, and its header says all that there is to say about it. */
        CHECK(frame_scan(stream + at, (size_t)taken - 1, BODY_BYTES_MAX, checksum_crc32c, &header) == 0);
        uint8_t *again = exact_copy(stream + at, (size_t)taken);
        memset(again, 0, FRAME_HEADER_BYTES);
        frame_seal(again, &header, checksum_crc32c);
        CHECK(memcmp(again, stream + at, (size_t)taken) == 0);
        parse_body(&header, again + FRAME_HEADER_BYTES);
        free(again);
        at += (size_t)taken;
    }
    free(stream);
    return 0;
}

/* Sets right the checksums of all frames whose length fits, and the length of the last one half of the time. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t n_max, unsigned int seed)
{
    n = LLVMFuzzerMutate(data, n, n_max);
    if (seed % 4 == 0)
        return n;
    for (size_t at = 0; n - at >= FRAME_HEADER_BYTES;) {
        size_t left = n - at - FRAME_HEADER_BYTES;
        uint32_t body_bytes = load_u32(data + at);
        if (body_bytes > left && seed % 2) {
            body_bytes = (uint32_t)left;
            store_u32(data + at, body_bytes);
        }
        if (body_bytes <= left)
            store_u32(data + at + 16, checksum_crc32c(0, data + at + FRAME_HEADER_BYTES, body_bytes));
        store_u32(data + at + 20, checksum_crc32c(0, data + at, 20));
        if (body_bytes > left)
            break;
        at += FRAME_HEADER_BYTES + body_bytes;
    }
    return n;
}
