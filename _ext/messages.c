/* Parsing and writing the bodies of data messages; the contract is in messages.h, the layouts in docs/protocol.md. */
#include "messages.h"

#include "bytes.h"

/* Bounds that hold for every message with a bucket and a key. Lengths in a body are of at most 32 bits, so that their
 * sum fits in 64 without a check. */
static int check_name(uint8_t bucket_bytes, uint16_t key_bytes)
{
    if (key_bytes == 0)
        return MESSAGE_EMPTY_KEY;
    if (key_bytes > MESSAGE_KEY_BYTES_MAX || bucket_bytes > MESSAGE_BUCKET_BYTES_MAX)
        return MESSAGE_TOO_LARGE;
    return 0;
}

static uint8_t *write_part(uint8_t *out, const uint8_t *part, size_t n)
{
    if (n)
        memcpy(out, part, n);
    return out + n;
}

int messages_parse_put(const uint8_t *body, size_t n, PutMessage *out)
{
    if (n < MESSAGE_PUT_FIXED_BYTES)
        return MESSAGE_SHORT;
    out->w = body[0];
    out->dw = body[1];
    out->flags = body[2];
    out->bucket_bytes = body[3];
    out->key_bytes = load_u16(body + 4);
    out->context_bytes = load_u16(body + 6);
    out->value_bytes = load_u32(body + 8);
    out->deadline_ms = load_u32(body + 12);
    out->put_id = body + 16;
    if (messages_put_body_bytes(out) != n)
        return MESSAGE_LENGTHS;
    if (out->flags & ~(PUT_STRICT | PUT_STRICT_GIVEN | PUT_OVERWRITE | PUT_TOMBSTONE))
        return MESSAGE_RESERVED;
    if ((out->flags & PUT_TOMBSTONE) && out->value_bytes)
        return MESSAGE_TOMBSTONE_VALUE;
    out->bucket = body + MESSAGE_PUT_FIXED_BYTES;
    out->key = out->bucket + out->bucket_bytes;
    out->context = out->key + out->key_bytes;
    out->value = out->context + out->context_bytes;
    return check_name(out->bucket_bytes, out->key_bytes);
}

int messages_parse_get(const uint8_t *body, size_t n, GetMessage *out)
{
    if (n < MESSAGE_GET_FIXED_BYTES)
        return MESSAGE_SHORT;
    out->r = body[0];
    out->flags = body[1];
    out->bucket_bytes = body[2];
    out->key_bytes = load_u16(body + 4);
    out->session_context_bytes = load_u16(body + 6);
    out->deadline_ms = load_u32(body + 8);
    if (messages_get_body_bytes(out) != n)
        return MESSAGE_LENGTHS;
    if (body[3] || (out->flags & ~(GET_STRICT | GET_STRICT_GIVEN)))
        return MESSAGE_RESERVED;
    out->bucket = body + MESSAGE_GET_FIXED_BYTES;
    out->key = out->bucket + out->bucket_bytes;
    out->session_context = out->key + out->key_bytes;
    return check_name(out->bucket_bytes, out->key_bytes);
}

int messages_parse_replicate(const uint8_t *body, size_t n, ReplicateMessage *out)
{
    if (n < MESSAGE_REPLICATE_FIXED_BYTES)
        return MESSAGE_SHORT;
    out->placement = load_u64(body);
    out->flags = body[8];
    out->bucket_bytes = body[9];
    out->key_bytes = load_u16(body + 10);
    out->object_bytes = load_u32(body + 12);
    if (messages_replicate_body_bytes(out) != n)
        return MESSAGE_LENGTHS;
    if (out->flags & REPLICATE_FOR_ALL && (out->flags >> REPLICATE_SLOT_SHIFT || !(out->flags & REPLICATE_HINT)))
        return MESSAGE_RESERVED;
    if (out->flags >> REPLICATE_SLOT_SHIFT && !(out->flags & REPLICATE_HINT))
        return MESSAGE_RESERVED;
    out->bucket = body + MESSAGE_REPLICATE_FIXED_BYTES;
    out->key = out->bucket + out->bucket_bytes;
    out->object = out->key + out->key_bytes;
    return check_name(out->bucket_bytes, out->key_bytes);
}

int messages_parse_read(const uint8_t *body, size_t n, ReadMessage *out)
{
    if (n < MESSAGE_READ_FIXED_BYTES)
        return MESSAGE_SHORT;
    out->placement = load_u64(body);
    out->known_hash = load_u64(body + 8);
    out->flags = body[16];
    out->bucket_bytes = body[17];
    out->key_bytes = load_u16(body + 18);
    if (messages_read_body_bytes(out) != n)
        return MESSAGE_LENGTHS;
    if (out->flags)
        return MESSAGE_RESERVED;
    out->bucket = body + MESSAGE_READ_FIXED_BYTES;
    out->key = out->bucket + out->bucket_bytes;
    return check_name(out->bucket_bytes, out->key_bytes);
}

int messages_parse_get_reply(const uint8_t *body, size_t n, GetReplyMessage *out)
{
    if (n < MESSAGE_GET_REPLY_FIXED_BYTES)
        return MESSAGE_SHORT;
    out->context_bytes = load_u16(body);
    out->sibling_count = load_u16(body + 2);
    if (load_u32(body + 4))
        return MESSAGE_RESERVED;
    size_t left = n - MESSAGE_GET_REPLY_FIXED_BYTES;
    if (left < out->context_bytes)
        return MESSAGE_LENGTHS;
    left -= out->context_bytes;
    out->context = body + MESSAGE_GET_REPLY_FIXED_BYTES;
    out->siblings = out->context + out->context_bytes;
    const uint8_t *at = out->siblings;
    for (uint16_t i = 0; i < out->sibling_count; i++) {
        if (left < MESSAGE_GET_REPLY_SIBLING_FIXED_BYTES)
            return MESSAGE_LENGTHS;
        left -= MESSAGE_GET_REPLY_SIBLING_FIXED_BYTES;
        uint32_t value_bytes = load_u32(at);
        if ((at[4] & ~SIBLING_IS_TOMBSTONE) || at[5] || at[6] || at[7])
            return MESSAGE_RESERVED;
        if (left < value_bytes)
            return MESSAGE_LENGTHS;
        left -= value_bytes;
        at += MESSAGE_GET_REPLY_SIBLING_FIXED_BYTES + value_bytes;
    }
    return left ? MESSAGE_LENGTHS : 0;
}

size_t messages_put_body_bytes(const PutMessage *message)
{
    return (size_t)MESSAGE_PUT_FIXED_BYTES + message->bucket_bytes + message->key_bytes + message->context_bytes + message->value_bytes;
}

size_t messages_get_body_bytes(const GetMessage *message)
{
    return (size_t)MESSAGE_GET_FIXED_BYTES + message->bucket_bytes + message->key_bytes + message->session_context_bytes;
}

size_t messages_replicate_body_bytes(const ReplicateMessage *message)
{
    return (size_t)MESSAGE_REPLICATE_FIXED_BYTES + message->bucket_bytes + message->key_bytes + message->object_bytes;
}

size_t messages_read_body_bytes(const ReadMessage *message)
{
    return (size_t)MESSAGE_READ_FIXED_BYTES + message->bucket_bytes + message->key_bytes;
}

size_t messages_get_reply_body_bytes(size_t context_bytes, size_t sibling_count, size_t values_bytes)
{
    return MESSAGE_GET_REPLY_FIXED_BYTES + context_bytes + sibling_count * MESSAGE_GET_REPLY_SIBLING_FIXED_BYTES + values_bytes;
}

void messages_write_put(uint8_t *out, const PutMessage *message)
{
    out[0] = message->w;
    out[1] = message->dw;
    out[2] = message->flags;
    out[3] = message->bucket_bytes;
    store_u16(out + 4, message->key_bytes);
    store_u16(out + 6, message->context_bytes);
    store_u32(out + 8, message->value_bytes);
    store_u32(out + 12, message->deadline_ms);
    memcpy(out + 16, message->put_id, MESSAGE_PUT_ID_BYTES);
    out = write_part(out + MESSAGE_PUT_FIXED_BYTES, message->bucket, message->bucket_bytes);
    out = write_part(out, message->key, message->key_bytes);
    out = write_part(out, message->context, message->context_bytes);
    write_part(out, message->value, message->value_bytes);
}

void messages_write_get(uint8_t *out, const GetMessage *message)
{
    out[0] = message->r;
    out[1] = message->flags;
    out[2] = message->bucket_bytes;
    out[3] = 0;
    store_u16(out + 4, message->key_bytes);
    store_u16(out + 6, message->session_context_bytes);
    store_u32(out + 8, message->deadline_ms);
    out = write_part(out + MESSAGE_GET_FIXED_BYTES, message->bucket, message->bucket_bytes);
    out = write_part(out, message->key, message->key_bytes);
    write_part(out, message->session_context, message->session_context_bytes);
}

void messages_write_replicate(uint8_t *out, const ReplicateMessage *message)
{
    store_u64(out, message->placement);
    out[8] = message->flags;
    out[9] = message->bucket_bytes;
    store_u16(out + 10, message->key_bytes);
    store_u32(out + 12, message->object_bytes);
    out = write_part(out + MESSAGE_REPLICATE_FIXED_BYTES, message->bucket, message->bucket_bytes);
    out = write_part(out, message->key, message->key_bytes);
    write_part(out, message->object, message->object_bytes);
}

void messages_write_read(uint8_t *out, const ReadMessage *message)
{
    store_u64(out, message->placement);
    store_u64(out + 8, message->known_hash);
    out[16] = message->flags;
    out[17] = message->bucket_bytes;
    store_u16(out + 18, message->key_bytes);
    out = write_part(out + MESSAGE_READ_FIXED_BYTES, message->bucket, message->bucket_bytes);
    write_part(out, message->key, message->key_bytes);
}

uint8_t *messages_write_get_reply(uint8_t *out, uint16_t context_bytes, uint16_t sibling_count)
{
    store_u16(out, context_bytes);
    store_u16(out + 2, sibling_count);
    store_u32(out + 4, 0);
    return out + MESSAGE_GET_REPLY_FIXED_BYTES;
}

uint8_t *messages_write_get_reply_sibling(uint8_t *out, const GetReplySibling *sibling)
{
    store_u32(out, sibling->value_bytes);
    out[4] = sibling->flags;
    out[5] = out[6] = out[7] = 0;
    store_u64(out + 8, sibling->timestamp_ms);
    return write_part(out + MESSAGE_GET_REPLY_SIBLING_FIXED_BYTES, sibling->value, sibling->value_bytes);
}

const uint8_t *messages_get_reply_sibling(const uint8_t *at, GetReplySibling *out)
{
    out->value_bytes = load_u32(at);
    out->flags = at[4];
    out->timestamp_ms = load_u64(at + 8);
    out->value = at + MESSAGE_GET_REPLY_SIBLING_FIXED_BYTES;
    return out->value + out->value_bytes;
}

const char *messages_error(int code)
{
    switch (code) {
    case MESSAGE_SHORT: return "the body ends inside its fixed part";
    case MESSAGE_LENGTHS: return "the lengths in the body do not add up to it";
    case MESSAGE_EMPTY_KEY: return "the key is empty; a key has 1 to 4096 bytes";
    case MESSAGE_TOO_LARGE: return "the key is over 4096 bytes or the bucket name over 64";
    case MESSAGE_RESERVED: return "a reserved byte or an unknown flag is set";
    case MESSAGE_TOMBSTONE_VALUE: return "a tombstone carries a value";
    default: return "no message error";
    }
}
