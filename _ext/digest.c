/* MD5 in two shapes, one message at a time and sixteen side by side, from one table of steps (RFC 1321, section 3.4). */
#include "digest.h"

#include <assert.h>

#include "bytes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define DIGEST_AVX2 1
#endif

/* Every step as (registers, word of the block, rotation, floor(2^32 |sin(step)|)); who uses the table says what a step
 * does. Written out, because the rotation of registers and all constants then cost nothing. */
#define MD5_STEPS(F, G, H, I) \
    F(a, b, c, d,  0,  7, 0xd76aa478) F(d, a, b, c,  1, 12, 0xe8c7b756) \
    F(c, d, a, b,  2, 17, 0x242070db) F(b, c, d, a,  3, 22, 0xc1bdceee) \
    F(a, b, c, d,  4,  7, 0xf57c0faf) F(d, a, b, c,  5, 12, 0x4787c62a) \
    F(c, d, a, b,  6, 17, 0xa8304613) F(b, c, d, a,  7, 22, 0xfd469501) \
    F(a, b, c, d,  8,  7, 0x698098d8) F(d, a, b, c,  9, 12, 0x8b44f7af) \
    F(c, d, a, b, 10, 17, 0xffff5bb1) F(b, c, d, a, 11, 22, 0x895cd7be) \
    F(a, b, c, d, 12,  7, 0x6b901122) F(d, a, b, c, 13, 12, 0xfd987193) \
    F(c, d, a, b, 14, 17, 0xa679438e) F(b, c, d, a, 15, 22, 0x49b40821) \
    G(a, b, c, d,  1,  5, 0xf61e2562) G(d, a, b, c,  6,  9, 0xc040b340) \
    G(c, d, a, b, 11, 14, 0x265e5a51) G(b, c, d, a,  0, 20, 0xe9b6c7aa) \
    G(a, b, c, d,  5,  5, 0xd62f105d) G(d, a, b, c, 10,  9, 0x02441453) \
    G(c, d, a, b, 15, 14, 0xd8a1e681) G(b, c, d, a,  4, 20, 0xe7d3fbc8) \
    G(a, b, c, d,  9,  5, 0x21e1cde6) G(d, a, b, c, 14,  9, 0xc33707d6) \
    G(c, d, a, b,  3, 14, 0xf4d50d87) G(b, c, d, a,  8, 20, 0x455a14ed) \
    G(a, b, c, d, 13,  5, 0xa9e3e905) G(d, a, b, c,  2,  9, 0xfcefa3f8) \
    G(c, d, a, b,  7, 14, 0x676f02d9) G(b, c, d, a, 12, 20, 0x8d2a4c8a) \
    H(a, b, c, d,  5,  4, 0xfffa3942) H(d, a, b, c,  8, 11, 0x8771f681) \
    H(c, d, a, b, 11, 16, 0x6d9d6122) H(b, c, d, a, 14, 23, 0xfde5380c) \
    H(a, b, c, d,  1,  4, 0xa4beea44) H(d, a, b, c,  4, 11, 0x4bdecfa9) \
    H(c, d, a, b,  7, 16, 0xf6bb4b60) H(b, c, d, a, 10, 23, 0xbebfbc70) \
    H(a, b, c, d, 13,  4, 0x289b7ec6) H(d, a, b, c,  0, 11, 0xeaa127fa) \
    H(c, d, a, b,  3, 16, 0xd4ef3085) H(b, c, d, a,  6, 23, 0x04881d05) \
    H(a, b, c, d,  9,  4, 0xd9d4d039) H(d, a, b, c, 12, 11, 0xe6db99e5) \
    H(c, d, a, b, 15, 16, 0x1fa27cf8) H(b, c, d, a,  2, 23, 0xc4ac5665) \
    I(a, b, c, d,  0,  6, 0xf4292244) I(d, a, b, c,  7, 10, 0x432aff97) \
    I(c, d, a, b, 14, 15, 0xab9423a7) I(b, c, d, a,  5, 21, 0xfc93a039) \
    I(a, b, c, d, 12,  6, 0x655b59c3) I(d, a, b, c,  3, 10, 0x8f0ccc92) \
    I(c, d, a, b, 10, 15, 0xffeff47d) I(b, c, d, a,  1, 21, 0x85845dd1) \
    I(a, b, c, d,  8,  6, 0x6fa87e4f) I(d, a, b, c, 15, 10, 0xfe2ce6e0) \
    I(c, d, a, b,  6, 15, 0xa3014314) I(b, c, d, a, 13, 21, 0x4e0811a1) \
    I(a, b, c, d,  4,  6, 0xf7537e82) I(d, a, b, c, 11, 10, 0xbd3af235) \
    I(c, d, a, b,  2, 15, 0x2ad7d2bb) I(b, c, d, a,  9, 21, 0xeb86d391)

static const uint32_t MD5_START[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};

/* The same words serve one message (uint32_t) and sixteen (a vector of them): C's operators do both. */
#define STEP(mix, a, b, word, rotation, constant) \
    a += (mix) + WORD(word) + (uint32_t)(constant); \
    a = b + (a << (rotation) | a >> (32 - (rotation)));
/* The two halves of G share no bit, so they may be added: one step less on the path through b. */
#define STEP_F(a, b, c, d, word, rotation, constant) STEP(d ^ (b & (c ^ d)), a, b, word, rotation, constant)
#define STEP_G(a, b, c, d, word, rotation, constant) STEP((d & b) + (~d & c), a, b, word, rotation, constant)
#define STEP_H(a, b, c, d, word, rotation, constant) STEP(b ^ (c ^ d), a, b, word, rotation, constant)
#define STEP_I(a, b, c, d, word, rotation, constant) STEP(c ^ (b | ~d), a, b, word, rotation, constant)

#define WORD(word) load_u32(block + 4 * (word))
static void md5_compress(uint32_t state[4], const uint8_t *block, size_t blocks)
{
    for (; blocks > 0; blocks--, block += MD5_BLOCK_BYTES) {
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        MD5_STEPS(STEP_F, STEP_G, STEP_H, STEP_I)
        state[0] += a;
        state[1] += b;
        state[2] += c;
        state[3] += d;
    }
}
#undef WORD

/* Pads the last rest_n < 64 bytes of a message of message_n bytes into one block or two; returns how many. */
static size_t md5_pad(const uint8_t *rest, size_t rest_n, size_t message_n, uint8_t tail[2 * MD5_BLOCK_BYTES])
{
    size_t blocks = rest_n < MD5_BLOCK_BYTES - 8 ? 1 : 2;
    assert(rest_n < MD5_BLOCK_BYTES);
    memset(tail, 0, MD5_BLOCK_BYTES);
    if (blocks == 2)
        memset(tail + MD5_BLOCK_BYTES, 0, MD5_BLOCK_BYTES);
    if (rest_n > 0)
        memcpy(tail, rest, rest_n);
    tail[rest_n] = 0x80;
    store_u64(tail + blocks * MD5_BLOCK_BYTES - 8, (uint64_t)message_n * 8);
    return blocks;
}

/* Ends a message of message_n bytes whose last n are at `data`; all before them are in the state. */
static void md5_finish(uint32_t state[4], const uint8_t *data, size_t n, size_t message_n, uint8_t out[MD5_BYTES])
{
    uint8_t tail[2 * MD5_BLOCK_BYTES];
    size_t whole = n / MD5_BLOCK_BYTES;
    size_t blocks = md5_pad(whole > 0 ? data + whole * MD5_BLOCK_BYTES : data, n % MD5_BLOCK_BYTES, message_n, tail);
    md5_compress(state, data, whole);
    md5_compress(state, tail, blocks);
    memcpy(out, state, MD5_BYTES);
}

void md5_hash(const uint8_t *data, size_t n, uint8_t out[MD5_BYTES])
{
    uint32_t state[4];
    memcpy(state, MD5_START, sizeof state);
    md5_finish(state, data, n, n, out);
}

void digest_key_position(const uint8_t *bucket, size_t bucket_n, const uint8_t *key, size_t key_n, uint8_t out[MD5_BYTES])
{
    /* Length and bucket, then as much of the key as fills the block: what follows is read where it lies. */
    uint8_t head[1 + DIGEST_BUCKET_BYTES_MAX + MD5_BLOCK_BYTES];
    uint32_t state[4];
    size_t head_n = 1 + bucket_n, message_n = 1 + bucket_n + key_n, taken;

    if (bucket_n == 0) {
        md5_hash(key, key_n, out);
        return;
    }
    assert(bucket_n <= DIGEST_BUCKET_BYTES_MAX);
    head[0] = (uint8_t)bucket_n;
    memcpy(head + 1, bucket, bucket_n);
    taken = (MD5_BLOCK_BYTES - head_n % MD5_BLOCK_BYTES) % MD5_BLOCK_BYTES;
    if (taken > key_n)
        taken = key_n;
    if (taken > 0)
        memcpy(head + head_n, key, taken);
    head_n += taken;

    memcpy(state, MD5_START, sizeof state);
    if (head_n % MD5_BLOCK_BYTES != 0) {
        md5_finish(state, head, head_n, message_n, out);
        return;
    }
    md5_compress(state, head, head_n / MD5_BLOCK_BYTES);
    md5_finish(state, taken > 0 ? key + taken : key, key_n - taken, message_n, out);
}

#ifdef DIGEST_AVX2

/* Loops over registers: an array stays in registers only when its indices are constants. */
#define UNROLLED _Pragma("GCC unroll 16")

/* Two registers of eight lanes. One alone would wait on itself: a step needs the one before, six cycles of it, and two
 * messages' worth of steps fit in between. */
typedef uint32_t lanes __attribute__((vector_size(4 * MD5_LANES)));
#define WORD(word) words[word]

/* Eight words of eight blocks, each read at block + offset, into one half of words[0..7]: word i of all of them in
 * words[i] (an 8x8 transposition of 32-bit cells). */
__attribute__((target("avx2"))) static inline void lanes_load(const uint8_t *const block[8], size_t offset, lanes *words, int half)
{
    __m256i row[8], pair[8];
    UNROLLED for (int lane = 0; lane < 8; lane++)
        row[lane] = _mm256_loadu_si256((const __m256i *)(const void *)(block[lane] + offset));
    UNROLLED for (int i = 0; i < 8; i += 2) {
        pair[i] = _mm256_unpacklo_epi32(row[i], row[i + 1]);
        pair[i + 1] = _mm256_unpackhi_epi32(row[i], row[i + 1]);
    }
    UNROLLED for (int i = 0; i < 8; i += 4) {
        row[i] = _mm256_unpacklo_epi64(pair[i], pair[i + 2]);
        row[i + 1] = _mm256_unpackhi_epi64(pair[i], pair[i + 2]);
        row[i + 2] = _mm256_unpacklo_epi64(pair[i + 1], pair[i + 3]);
        row[i + 3] = _mm256_unpackhi_epi64(pair[i + 1], pair[i + 3]);
    }
    UNROLLED for (int i = 0; i < 4; i++) {
        _mm256_storeu_si256((__m256i *)(void *)&words[i] + half, _mm256_permute2x128_si256(row[i], row[i + 4], 0x20));
        _mm256_storeu_si256((__m256i *)(void *)&words[i + 4] + half, _mm256_permute2x128_si256(row[i], row[i + 4], 0x31));
    }
}

/* One block of each lane; lanes whose cell of `active` is 0 keep their state. */
__attribute__((target("avx2")))
static inline void lanes_compress(lanes state[4], const uint8_t *const block[MD5_LANES], const uint32_t active[MD5_LANES])
{
    lanes words[16], keep, a = state[0], b = state[1], c = state[2], d = state[3];
    for (int half = 0; half < 2; half++) {
        lanes_load(block + 8 * half, 0, words, half);
        lanes_load(block + 8 * half, 32, words + 8, half);
    }
    MD5_STEPS(STEP_F, STEP_G, STEP_H, STEP_I)
    memcpy(&keep, active, sizeof keep);
    state[0] += a & keep;
    state[1] += b & keep;
    state[2] += c & keep;
    state[3] += d & keep;
}

__attribute__((target("avx2")))
static void md5_hash_lanes(const uint8_t *const data[MD5_LANES], const size_t n[MD5_LANES], uint8_t out[MD5_LANES][MD5_BYTES])
{
    uint8_t tail[MD5_LANES][2 * MD5_BLOCK_BYTES];
    size_t whole[MD5_LANES], blocks[MD5_LANES], blocks_most = 0;
    lanes state[4];

    for (int i = 0; i < 4; i++)
        state[i] = (lanes){0} + MD5_START[i];
    for (int lane = 0; lane < MD5_LANES; lane++) {
        whole[lane] = n[lane] / MD5_BLOCK_BYTES;
        blocks[lane] = whole[lane] + md5_pad(whole[lane] > 0 ? data[lane] + whole[lane] * MD5_BLOCK_BYTES : data[lane],
                                             n[lane] % MD5_BLOCK_BYTES, n[lane], tail[lane]);
        if (blocks[lane] > blocks_most)
            blocks_most = blocks[lane];
    }
    for (size_t turn = 0; turn < blocks_most; turn++) {
        const uint8_t *block[MD5_LANES];
        uint32_t active[MD5_LANES];
        for (int lane = 0; lane < MD5_LANES; lane++) {
            active[lane] = turn < blocks[lane] ? UINT32_MAX : 0;
            block[lane] = turn < whole[lane] ? data[lane] + turn * MD5_BLOCK_BYTES
                : active[lane] ? tail[lane] + (turn - whole[lane]) * MD5_BLOCK_BYTES
                : tail[lane];  /* a lane that is done reads anything it may */
        }
        lanes_compress(state, block, active);
    }
    for (int lane = 0; lane < MD5_LANES; lane++)
        for (int i = 0; i < 4; i++)
            store_u32(out[lane] + 4 * i, state[i][lane]);
}
#undef WORD

/* Below this many messages a pass over all lanes costs more than hashing them singly. */
enum { LANES_WORTH = 3 };

/* Hashes as many of the first messages as are worth it, and says how many those are. */
static size_t md5_hash_groups(const uint8_t *const *data, const size_t *n, size_t count, uint8_t (*out)[MD5_BYTES])
{
    size_t done = 0;
    if (!__builtin_cpu_supports("avx2"))
        return 0;
    for (; count - done >= MD5_LANES; done += MD5_LANES)
        md5_hash_lanes(data + done, n + done, out + done);
    if (count - done >= LANES_WORTH) {
        const uint8_t *some_data[MD5_LANES] = {0};
        size_t some_n[MD5_LANES] = {0};
        uint8_t some_out[MD5_LANES][MD5_BYTES];
        memcpy(some_data, data + done, (count - done) * sizeof *data);
        memcpy(some_n, n + done, (count - done) * sizeof *n);
        md5_hash_lanes(some_data, some_n, some_out);
        memcpy(out + done, some_out, (count - done) * sizeof *out);
        done = count;
    }
    return done;
}

#else

static size_t md5_hash_groups(const uint8_t *const *data, const size_t *n, size_t count, uint8_t (*out)[MD5_BYTES])
{
    (void)data, (void)n, (void)count, (void)out;
    return 0;
}

#endif

void md5_hash_many(const uint8_t *const *data, const size_t *n, size_t count, uint8_t (*out)[MD5_BYTES])
{
    for (size_t i = md5_hash_groups(data, n, count, out); i < count; i++)
        md5_hash(data[i], n[i], out[i]);
}
