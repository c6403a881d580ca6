/* Data messages in C: what is written parses to the same, in memory of the exact size; every shorter or longer body and
 * every number out of bounds is refused with its own code. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "messages.h"

static const uint8_t *text(const char *s) { return (const uint8_t *)s; }

static const uint8_t put_id[16] = "sixteen bytes...";

static PutMessage sample_put(void)
{
    return (PutMessage){
        .w = 3, .dw = MESSAGE_DW_DEFAULT, .flags = PUT_STRICT | PUT_STRICT_GIVEN, .bucket_bytes = 6, .key_bytes = 3,
        .context_bytes = 7, .value_bytes = 5, .deadline_ms = 250, .put_id = put_id, .bucket = text("bucket"),
        .key = text("key"), .context = text("context"), .value = text("value"),
    };
}

/* Calls parse on every prefix and on one byte more: all must be refused. */
#define ASSERT_EXACT(parse, body, n, message)                              \
    do {                                                                   \
        for (size_t length = 0; length <= (n) + 1; length++) {             \
            uint8_t *exact = calloc(1, length ? length : 1);               \
            assert(exact);                                                 \
            memcpy(exact, body, length < (n) ? length : (n));              \
            assert((parse(exact, length, message) == 0) == (length == (n))); \
            free(exact);                                                   \
        }                                                                  \
    } while (0)

static void test_put(void)
{
    PutMessage in = sample_put(), out;
    uint8_t body[53];
    assert(messages_put_body_bytes(&in) == sizeof body);
    messages_write_put(body, &in);
    ASSERT_EXACT(messages_parse_put, body, sizeof body, &out);
    assert(messages_parse_put(body, sizeof body, &out) == 0);
    assert(out.w == 3 && out.dw == 255 && out.flags == 3 && out.deadline_ms == 250 && memcmp(out.put_id, put_id, 16) == 0);
    assert(out.bucket == body + 32 && out.key == body + 38 && out.context == body + 41 && out.value == body + 48);
    assert(memcmp(out.bucket, "bucketkeycontextvalue", 21) == 0);
    body[2] = PUT_TOMBSTONE;
    assert(messages_parse_put(body, sizeof body, &out) == MESSAGE_TOMBSTONE_VALUE);
    body[2] = 16;
    assert(messages_parse_put(body, sizeof body, &out) == MESSAGE_RESERVED);
}

static void test_put_lengths(void)
{
    PutMessage message = sample_put(), out;
    size_t n = messages_put_body_bytes(&message);
    uint8_t *body = calloc(1, n);
    assert(body);
    messages_write_put(body, &message);
    store_u32(body + 8, UINT32_MAX);
    assert(messages_parse_put(body, n, &out) == MESSAGE_LENGTHS);
    store_u32(body + 8, 5);
    store_u16(body + 4, UINT16_MAX);
    assert(messages_parse_put(body, n, &out) == MESSAGE_LENGTHS);
    store_u16(body + 4, 0);
    store_u32(body + 8, 8);
    assert(messages_parse_put(body, n, &out) == MESSAGE_EMPTY_KEY);
    free(body);
    n = MESSAGE_PUT_FIXED_BYTES + MESSAGE_KEY_BYTES_MAX + 1;
    body = calloc(1, n);
    assert(body);
    store_u16(body + 4, MESSAGE_KEY_BYTES_MAX + 1);
    assert(messages_parse_put(body, n, &out) == MESSAGE_TOO_LARGE);
    store_u16(body + 4, MESSAGE_KEY_BYTES_MAX);
    assert(messages_parse_put(body, n - 1, &out) == 0);
    body[3] = MESSAGE_BUCKET_BYTES_MAX + 1;
    store_u16(body + 4, 100);
    assert(messages_parse_put(body, MESSAGE_PUT_FIXED_BYTES + MESSAGE_BUCKET_BYTES_MAX + 1 + 100, &out) == MESSAGE_TOO_LARGE);
    free(body);
}

static void test_get(void)
{
    GetMessage in = {.r = 2, .flags = GET_STRICT_GIVEN, .bucket_bytes = 1, .key_bytes = 2, .session_context_bytes = 3,
                     .deadline_ms = 9, .bucket = text("b"), .key = text("ke"), .session_context = text("ctx")};
    GetMessage out;
    uint8_t body[18];
    assert(messages_get_body_bytes(&in) == sizeof body);
    messages_write_get(body, &in);
    ASSERT_EXACT(messages_parse_get, body, sizeof body, &out);
    assert(messages_parse_get(body, sizeof body, &out) == 0);
    assert(out.r == 2 && out.flags == 2 && out.deadline_ms == 9 && memcmp(out.bucket, "bkectx", 6) == 0);
    body[3] = 1;
    assert(messages_parse_get(body, sizeof body, &out) == MESSAGE_RESERVED);
}

static void test_replicate_and_read(void)
{
    ReplicateMessage in = {.placement = UINT64_MAX, .flags = REPLICATE_ACK_DURABLE, .key_bytes = 3, .object_bytes = 6,
                           .key = text("key"), .object = text("object")};
    ReplicateMessage out;
    uint8_t body[25];
    assert(messages_replicate_body_bytes(&in) == sizeof body);
    messages_write_replicate(body, &in);
    ASSERT_EXACT(messages_parse_replicate, body, sizeof body, &out);
    assert(messages_parse_replicate(body, sizeof body, &out) == 0);
    assert(out.placement == UINT64_MAX && out.flags == 1 && out.object_bytes == 6 && memcmp(out.object, "object", 6) == 0);
    body[8] = REPLICATE_HINT | 15 << REPLICATE_SLOT_SHIFT;
    assert(messages_parse_replicate(body, sizeof body, &out) == 0 && out.flags >> REPLICATE_SLOT_SHIFT == 15);
    body[8] = 15 << REPLICATE_SLOT_SHIFT;   /* a slot without a hint */
    assert(messages_parse_replicate(body, sizeof body, &out) == MESSAGE_RESERVED);
    body[8] = REPLICATE_HINT | REPLICATE_FOR_ALL;
    assert(messages_parse_replicate(body, sizeof body, &out) == 0);
    body[8] = REPLICATE_HINT | REPLICATE_FOR_ALL | 1 << REPLICATE_SLOT_SHIFT;   /* for all, and for one */
    assert(messages_parse_replicate(body, sizeof body, &out) == MESSAGE_RESERVED);
    body[8] = REPLICATE_FOR_ALL;
    assert(messages_parse_replicate(body, sizeof body, &out) == MESSAGE_RESERVED);
    ReadMessage read = {.placement = 1, .known_hash = 2, .key_bytes = 3, .key = text("key")}, read_out;
    uint8_t read_body[23];
    assert(messages_read_body_bytes(&read) == sizeof read_body);
    messages_write_read(read_body, &read);
    ASSERT_EXACT(messages_parse_read, read_body, sizeof read_body, &read_out);
    assert(messages_parse_read(read_body, sizeof read_body, &read_out) == 0);
    assert(read_out.placement == 1 && read_out.known_hash == 2 && memcmp(read_out.key, "key", 3) == 0);
}

static void test_get_reply(void)
{
    GetReplySibling one = {.value_bytes = 3, .timestamp_ms = 1000, .value = text("one")}, two = {.flags = SIBLING_IS_TOMBSTONE};
    GetReplyMessage out;
    uint8_t body[46];
    assert(messages_get_reply_body_bytes(3, 2, 3) == sizeof body);
    uint8_t *at = messages_write_get_reply(body, 3, 2);
    memcpy(at, "ctx", 3);
    at = messages_write_get_reply_sibling(at + 3, &one);
    assert(messages_write_get_reply_sibling(at, &two) == body + sizeof body);
    ASSERT_EXACT(messages_parse_get_reply, body, sizeof body, &out);
    assert(messages_parse_get_reply(body, sizeof body, &out) == 0);
    assert(out.sibling_count == 2 && out.context_bytes == 3 && memcmp(out.context, "ctx", 3) == 0);
    GetReplySibling read;
    const uint8_t *next = messages_get_reply_sibling(out.siblings, &read);
    assert(read.value_bytes == 3 && read.flags == 0 && read.timestamp_ms == 1000 && memcmp(read.value, "one", 3) == 0);
    assert(messages_get_reply_sibling(next, &read) == body + sizeof body && read.flags == SIBLING_IS_TOMBSTONE);
    store_u32(body + 11, UINT32_MAX);
    assert(messages_parse_get_reply(body, sizeof body, &out) == MESSAGE_LENGTHS);
}

int main(void)
{
    test_put();
    test_put_lengths();
    test_get();
    test_replicate_and_read();
    test_get_reply();
    for (int code = MESSAGE_TOMBSTONE_VALUE; code <= 0; code++)
        assert(strlen(messages_error(code)) > 0);
    puts("messages: round trips, exact lengths, bounds");
    return 0;
}
