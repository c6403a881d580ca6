/* The bodies of the messages that carry keys and objects: what a client asks (PUT, GET) and what replicas ask of each
 * other (REPLICATE, READ). docs/protocol.md gives the layouts byte by byte; the structs below are those layouts with
 * pointers in the place of the bytes.
 *
 * A parser takes bytes that a stranger sent and believes none of them: the parts must add up to the body exactly, and
 * reserved bits must be zero. It copies nothing: pointers lead into the body and live as long as it does. A writer takes
 * a struct that we filled ourselves, and a room of exactly *_body_bytes. No function allocates; each costs a few loads
 * or stores and one memcpy per part. */
#ifndef DYNAMO_FAST_MESSAGES_H
#define DYNAMO_FAST_MESSAGES_H

#include <stddef.h>
#include <stdint.h>

/* Types of frames. A reply's type is its request's plus one. */
enum {
    MESSAGE_HELLO = 1, MESSAGE_HELLO_REPLY = 2,
    MESSAGE_PUT = 16, MESSAGE_PUT_REPLY = 17, MESSAGE_GET = 18, MESSAGE_GET_REPLY = 19,
    MESSAGE_REPLICATE = 32, MESSAGE_REPLICATE_REPLY = 33, MESSAGE_READ = 34, MESSAGE_READ_REPLY = 35,
    MESSAGE_PING = 36, MESSAGE_PONG = 37,
    MESSAGE_CONTROL = 48, MESSAGE_CONTROL_REPLY = 49,
};

/* How a request went. 0-15 it was done, 16-63 certainly not applied, 64 and up unknown; so a reader that meets a number
 * it does not know still knows which of the three it is. */
enum {
    STATUS_OK = 0, STATUS_NOT_FOUND = 1,
    STATUS_BAD_REQUEST = 16, STATUS_TOO_LARGE = 17, STATUS_BAD_CONTEXT = 18, STATUS_OVERLOAD = 19, STATUS_TOO_MANY_SIBLINGS = 20,
    STATUS_NOT_READY = 21, STATUS_NO_SUCH_BUCKET = 22, STATUS_READ_ONLY = 23, STATUS_STALE_PLACEMENT = 24,
    STATUS_UNSUPPORTED_VERSION = 25, STATUS_CLOCK_FULL = 26, STATUS_NOT_ENOUGH_REPLICAS = 27, STATUS_KEY_COLLISION = 28,
    STATUS_WRONG_CLUSTER = 29, STATUS_DEPARTED = 30,
    STATUS_QUORUM_FAILED = 64, STATUS_DEADLINE = 65,
};

enum {
    MESSAGE_BUCKET_BYTES_MAX = 64, MESSAGE_KEY_BYTES_MAX = 4096, MESSAGE_PUT_ID_BYTES = 16,
    MESSAGE_PUT_FIXED_BYTES = 32, MESSAGE_GET_FIXED_BYTES = 12, MESSAGE_REPLICATE_FIXED_BYTES = 16, MESSAGE_READ_FIXED_BYTES = 20,
    MESSAGE_GET_REPLY_FIXED_BYTES = 8, MESSAGE_GET_REPLY_SIBLING_FIXED_BYTES = 16,
    MESSAGE_DW_DEFAULT = 255,   /* in a PUT's dw; 0 stands for "the default" in w and r, where 0 would make no sense */
};

/* Bits of the flags byte in a body (those of the frame header are in frame.h). */
enum {
    PUT_STRICT = 1, PUT_STRICT_GIVEN = 2, PUT_OVERWRITE = 4, PUT_TOMBSTONE = 8,
    GET_STRICT = 1, GET_STRICT_GIVEN = 2,
    REPLICATE_ACK_DURABLE = 1, REPLICATE_NO_REPLY = 2,
    REPLICATE_HINT = 4,         /* for the home in the slot that the upper four bits name, which cannot be reached */
    REPLICATE_FOR_ALL = 8,      /* a hint for all homes; there is no slot then */
    REPLICATE_SLOT_SHIFT = 4,
    SIBLING_IS_TOMBSTONE = 1,
};

/* What the parsers return: 0, or one of these. */
enum {
    MESSAGE_SHORT = -1,         /* the body ends inside its fixed part */
    MESSAGE_LENGTHS = -2,       /* the lengths it gives do not add up to it */
    MESSAGE_EMPTY_KEY = -3,
    MESSAGE_TOO_LARGE = -4,     /* key or bucket name over the protocol's own bound */
    MESSAGE_RESERVED = -5,      /* a reserved byte or an unknown flag is set */
    MESSAGE_TOMBSTONE_VALUE = -6, /* a tombstone that carries a value */
};

typedef struct {
    uint8_t w;                  /* acknowledgements wanted; 0 = the bucket's default */
    uint8_t dw;                 /* of which after fdatasync; MESSAGE_DW_DEFAULT = the bucket's default */
    uint8_t flags;              /* PUT_ bits */
    uint8_t bucket_bytes;
    uint16_t key_bytes;
    uint16_t context_bytes;     /* 0 = a blind write */
    uint32_t value_bytes;
    uint32_t deadline_ms;       /* milliseconds left; 0 = the default */
    const uint8_t *put_id;      /* 16 bytes, the same when the same put is tried again */
    const uint8_t *bucket, *key, *context, *value;
} PutMessage;

typedef struct {
    uint8_t r;                  /* answers wanted; 0 = the bucket's default */
    uint8_t flags;              /* GET_ bits */
    uint8_t bucket_bytes;
    uint16_t key_bytes;
    uint16_t session_context_bytes;
    uint32_t deadline_ms;       /* milliseconds left; 0 = the default */
    const uint8_t *bucket, *key, *session_context;
} GetMessage;

typedef struct {
    uint64_t placement;         /* name of the placement that the sender works by */
    uint8_t flags;              /* REPLICATE_ bits */
    uint8_t bucket_bytes;
    uint16_t key_bytes;
    uint32_t object_bytes;
    const uint8_t *bucket, *key, *object;   /* the object is not looked into here: core/siblings does */
} ReplicateMessage;

typedef struct {
    uint64_t placement;
    uint64_t known_hash;        /* hash of the version that the asker holds; 0 = none */
    uint8_t flags;              /* none yet */
    uint8_t bucket_bytes;
    uint16_t key_bytes;
    const uint8_t *bucket, *key;
} ReadMessage;

typedef struct {
    uint16_t context_bytes;
    uint16_t sibling_count;
    const uint8_t *context;
    const uint8_t *siblings;    /* every one of them lies within the body: parsing has walked them all */
} GetReplyMessage;

typedef struct {
    uint32_t value_bytes;
    uint8_t flags;              /* SIBLING_ bits */
    uint64_t timestamp_ms;      /* wall clock of the coordinator that took the put */
    const uint8_t *value;
} GetReplySibling;

int messages_parse_put(const uint8_t *body, size_t n, PutMessage *out);
int messages_parse_get(const uint8_t *body, size_t n, GetMessage *out);
int messages_parse_replicate(const uint8_t *body, size_t n, ReplicateMessage *out);
int messages_parse_read(const uint8_t *body, size_t n, ReadMessage *out);
int messages_parse_get_reply(const uint8_t *body, size_t n, GetReplyMessage *out);

size_t messages_put_body_bytes(const PutMessage *message);
size_t messages_get_body_bytes(const GetMessage *message);
size_t messages_replicate_body_bytes(const ReplicateMessage *message);
size_t messages_read_body_bytes(const ReadMessage *message);
/* values_bytes: the sum over all siblings. */
size_t messages_get_reply_body_bytes(size_t context_bytes, size_t sibling_count, size_t values_bytes);

void messages_write_put(uint8_t *out, const PutMessage *message);
void messages_write_get(uint8_t *out, const GetMessage *message);
void messages_write_replicate(uint8_t *out, const ReplicateMessage *message);
void messages_write_read(uint8_t *out, const ReadMessage *message);

/* A GET_REPLY is written in three moves: its head, which returns where the caller puts context_bytes of context; then
 * each sibling, which returns where the next one goes; starting right behind the context. */
uint8_t *messages_write_get_reply(uint8_t *out, uint16_t context_bytes, uint16_t sibling_count);
uint8_t *messages_write_get_reply_sibling(uint8_t *out, const GetReplySibling *sibling);

/* Reads the sibling at `at` of a parsed GET_REPLY and returns where the next one stands. */
const uint8_t *messages_get_reply_sibling(const uint8_t *at, GetReplySibling *out);

/* A sentence for a code of the parsers; static memory. */
const char *messages_error(int code);

#endif
