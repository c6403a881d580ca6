/* The 24 bytes in front of every message, and how a stream of bytes is cut into frames.
 *
 *   0 u32 body bytes | 4 u8 type | 5 u8 flags | 6 u16 status | 8 u64 request id | 16 u32 CRC-32C of the body
 *   20 u32 CRC-32C of bytes 0..19
 *
 * The header is checked by its own checksum before its length is believed, so that a flipped bit can never make a
 * reader wait for, or make room for, four gigabytes. Nothing here allocates, keeps state or knows what a type means.
 *
 * The checksum is passed in: it belongs to core/checksum, which picks the fast instruction at run time, and a C file is
 * linked into one extension only. It must be the CRC-32C (Castagnoli, RFC 3720) with crc = 0 to start from. */
#ifndef DYNAMO_FAST_FRAME_H
#define DYNAMO_FAST_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum { FRAME_HEADER_BYTES = 24 };

/* Flags of a frame. Bits without a name are sent as zero and ignored when received. */
enum {
    FRAME_FORWARDED = 1,        /* a request that already came through another node: never forwarded again */
    FRAME_STALE_PLACEMENT = 2,  /* a reply: the sender asked a node that is no home of the key, and should refresh */
    FRAME_SAME = 4,             /* a READ_REPLY without a body: the object has the hash that the question named */
    FRAME_UNSURE = 8,           /* a READ_REPLY of a home that may have lost data: no proof that there was nothing newer */
    FRAME_PIECE = 16,           /* the body is a piece of a message that is longer than a frame */
    FRAME_MORE = 32,            /* with FRAME_PIECE: more pieces of the message follow */
};

/* What frame_scan returns when the bytes cannot be the start of a good frame. The stream is lost: no later byte can be
 * told to be the start of a frame. */
enum {
    FRAME_BAD_HEADER = -1,      /* the header's checksum does not match: not our protocol, or damaged */
    FRAME_TOO_LONG = -2,        /* a sound header that announces more than body_bytes_max */
    FRAME_BAD_BODY = -3,        /* the body's checksum does not match */
};

typedef struct {
    uint32_t body_bytes;
    uint8_t type;               /* MESSAGE_ of messages.h; any value passes here */
    uint8_t flags;              /* FRAME_ bits */
    uint16_t status;            /* STATUS_ of messages.h in a reply, 0 in a request */
    uint64_t request_id;        /* chosen by who asks, echoed by who answers */
} FrameHeader;

typedef uint32_t frame_crc(uint32_t crc, const uint8_t *data, size_t n);

/* Looks for one whole frame at bytes[0..n). Returns the bytes it takes, header included (its body then stands at
 * bytes + FRAME_HEADER_BYTES); 0 when more bytes are needed; or one of the codes above. header is written when the
 * result is positive. Cost: one pass over header and body, nothing over an unfinished body. */
int64_t frame_scan(const uint8_t *bytes, size_t n, size_t body_bytes_max, frame_crc *crc, FrameHeader *header);

/* Writes the header in front of a body that already stands at frame + FRAME_HEADER_BYTES. */
void frame_seal(uint8_t *frame, const FrameHeader *header, frame_crc *crc);

/* A sentence for a code of frame_scan; static memory. */
const char *frame_error(int64_t code);

#endif
