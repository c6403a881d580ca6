/* Cutting and sealing frames; the layout and the contract are in frame.h. */
#include "frame.h"

#include "bytes.h"

enum { BODY_BYTES_AT = 0, TYPE_AT = 4, FLAGS_AT = 5, STATUS_AT = 6, REQUEST_ID_AT = 8, BODY_CRC_AT = 16, HEADER_CRC_AT = 20 };

int64_t frame_scan(const uint8_t *bytes, size_t n, size_t body_bytes_max, frame_crc *crc, FrameHeader *header)
{
    if (n < FRAME_HEADER_BYTES)
        return 0;
    if (load_u32(bytes + HEADER_CRC_AT) != crc(0, bytes, HEADER_CRC_AT))
        return FRAME_BAD_HEADER;
    uint32_t body_bytes = load_u32(bytes + BODY_BYTES_AT);
    if (body_bytes > body_bytes_max)
        return FRAME_TOO_LONG;
    if (n - FRAME_HEADER_BYTES < body_bytes)
        return 0;
    if (load_u32(bytes + BODY_CRC_AT) != crc(0, bytes + FRAME_HEADER_BYTES, body_bytes))
        return FRAME_BAD_BODY;
    header->body_bytes = body_bytes;
    header->type = bytes[TYPE_AT];
    header->flags = bytes[FLAGS_AT];
    header->status = load_u16(bytes + STATUS_AT);
    header->request_id = load_u64(bytes + REQUEST_ID_AT);
    return (int64_t)FRAME_HEADER_BYTES + body_bytes;
}

void frame_seal(uint8_t *frame, const FrameHeader *header, frame_crc *crc)
{
    store_u32(frame + BODY_BYTES_AT, header->body_bytes);
    frame[TYPE_AT] = header->type;
    frame[FLAGS_AT] = header->flags;
    store_u16(frame + STATUS_AT, header->status);
    store_u64(frame + REQUEST_ID_AT, header->request_id);
    store_u32(frame + BODY_CRC_AT, crc(0, frame + FRAME_HEADER_BYTES, header->body_bytes));
    store_u32(frame + HEADER_CRC_AT, crc(0, frame, HEADER_CRC_AT));
}

const char *frame_error(int64_t code)
{
    switch (code) {
    case FRAME_BAD_HEADER: return "frame header fails its checksum";
    case FRAME_TOO_LONG: return "frame is longer than this connection allows";
    case FRAME_BAD_BODY: return "frame body fails its checksum";
    default: return "no frame error";
    }
}
