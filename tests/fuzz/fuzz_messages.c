/* Bodies of data messages: the first byte is the type, the rest the body. What parses must lie within the body and
 * write back as the same bytes. */
#include "messages.h"

#include "fuzz.h"

static void check_put(const uint8_t *body, size_t n, uint8_t *again)
{
    PutMessage message;
    int code = messages_parse_put(body, n, &message);
    CHECK(messages_error(code) != NULL);
    if (code != 0)
        return;
    CHECK(messages_put_body_bytes(&message) == n);
    CHECK(message.key_bytes >= 1 && message.key_bytes <= MESSAGE_KEY_BYTES_MAX && message.bucket_bytes <= MESSAGE_BUCKET_BYTES_MAX);
    messages_write_put(again, &message);
    CHECK(memcmp(again, body, n) == 0);
}

static void check_get(const uint8_t *body, size_t n, uint8_t *again)
{
    GetMessage message;
    int code = messages_parse_get(body, n, &message);
    CHECK(messages_error(code) != NULL);
    if (code != 0)
        return;
    CHECK(messages_get_body_bytes(&message) == n);
    messages_write_get(again, &message);
    CHECK(memcmp(again, body, n) == 0);
}

static void check_replicate(const uint8_t *body, size_t n, uint8_t *again)
{
    ReplicateMessage message;
    if (messages_parse_replicate(body, n, &message) != 0)
        return;
    CHECK(messages_replicate_body_bytes(&message) == n);
    messages_write_replicate(again, &message);
    CHECK(memcmp(again, body, n) == 0);
}

static void check_read(const uint8_t *body, size_t n, uint8_t *again)
{
    ReadMessage message;
    if (messages_parse_read(body, n, &message) != 0)
        return;
    CHECK(messages_read_body_bytes(&message) == n);
    messages_write_read(again, &message);
    CHECK(memcmp(again, body, n) == 0);
}

static void check_get_reply(const uint8_t *body, size_t n, uint8_t *again)
{
    GetReplyMessage message;
    if (messages_parse_get_reply(body, n, &message) != 0)
        return;
    uint8_t *out = messages_write_get_reply(again, message.context_bytes, message.sibling_count);
    memcpy(out, message.context, message.context_bytes);
    out += message.context_bytes;
    const uint8_t *at = message.siblings;
    size_t values_bytes = 0;
    for (uint16_t i = 0; i < message.sibling_count; i++) {
        GetReplySibling sibling;
        at = messages_get_reply_sibling(at, &sibling);
        values_bytes += sibling.value_bytes;
        out = messages_write_get_reply_sibling(out, &sibling);
    }
    CHECK(at == body + n && out == again + n);
    CHECK(messages_get_reply_body_bytes(message.context_bytes, message.sibling_count, values_bytes) == n);
    CHECK(memcmp(again, body, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    size_t body_bytes = n - 1;
    uint8_t *body = exact_copy(data + 1, body_bytes);
    uint8_t *again = exact_copy(body, body_bytes);
    memset(again, 0xEE, body_bytes);
    switch (data[0]) {
    case MESSAGE_PUT: check_put(body, body_bytes, again); break;
    case MESSAGE_GET: check_get(body, body_bytes, again); break;
    case MESSAGE_GET_REPLY: check_get_reply(body, body_bytes, again); break;
    case MESSAGE_REPLICATE: check_replicate(body, body_bytes, again); break;
    case MESSAGE_READ: check_read(body, body_bytes, again); break;
    default: break;
    }
    free(again);
    free(body);
    return 0;
}
