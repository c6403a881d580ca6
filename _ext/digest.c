/* MD5 in two shapes, one message at a time and eight side by side, from one table of steps (RFC 1321, section 3.4). */
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

#define STEP(mix, a, b, word, rotation, constant) \
    a += (mix) + load_u32(block + 4 * (word)) + (uint32_t)(constant); \
    a = b + (a << (rotation) | a >> (32 - (rotation)));
/* The two halves of G share no bit, so they may be added: one step less on the path through b. */
#define STEP_F(a, b, c, d, word, rotation, constant) STEP(d ^ (b & (c ^ d)), a, b, word, rotation, constant)
#define STEP_G(a, b, c, d, word, rotation, constant) STEP((d & b) + (~d & c), a, b, word, rotation, constant)
#define STEP_H(a, b, c, d, word, rotation, constant) STEP(b ^ (c ^ d), a, b, word, rotation, constant)
#define STEP_I(a, b, c, d, word, rotation, constant) STEP(c ^ (b | ~d), a, b, word, rotation, constant)

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

/* Pads the last rest_n < 64 bytes of a message of message_n bytes into one block or two; returns how many. */
static size_t md5_pad(const uint8_t *rest, size_t rest_n, size_t message_n, uint8_t tail[2 * MD5_BLOCK_BYTES])
{
    size_t blocks = rest_n < MD5_BLOCK_BYTES - 8 ? 1 : 2;
    assert(rest_n < MD5_BLOCK_BYTES);
    memset(tail, 0, blocks * MD5_BLOCK_BYTES);
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

void md5_hash_8_portable(const uint8_t *const data[MD5_LANES], const size_t n[MD5_LANES], uint8_t out[MD5_LANES][MD5_BYTES])
{
    for (int lane = 0; lane < MD5_LANES; lane++)
        md5_hash(data[lane], n[lane], out[lane]);
}

#ifdef DIGEST_AVX2

#define LANES_STEP(mix, a, b, word, rotation, constant) \
    a = _mm256_add_epi32(_mm256_add_epi32(a, words[word]), _mm256_add_epi32(mix, _mm256_set1_epi32((int)(constant)))); \
    a = _mm256_add_epi32(b, _mm256_or_si256(_mm256_slli_epi32(a, rotation), _mm256_srli_epi32(a, 32 - (rotation))));
#define XOR(left, right) _mm256_xor_si256(left, right)
#define AND(left, right) _mm256_and_si256(left, right)
#define LANES_F(a, b, c, d, word, rotation, constant) LANES_STEP(XOR(d, AND(b, XOR(c, d))), a, b, word, rotation, constant)
#define LANES_G(a, b, c, d, word, rotation, constant) \
    LANES_STEP(_mm256_add_epi32(AND(d, b), _mm256_andnot_si256(d, c)), a, b, word, rotation, constant)
#define LANES_H(a, b, c, d, word, rotation, constant) LANES_STEP(XOR(b, XOR(c, d)), a, b, word, rotation, constant)
#define LANES_I(a, b, c, d, word, rotation, constant) \
    LANES_STEP(XOR(c, _mm256_or_si256(b, XOR(d, ones))), a, b, word, rotation, constant)

/* Words half*8 .. half*8+7 of eight blocks: words[i] gets word i of all lanes (an 8x8 transposition of 32-bit cells). */
__attribute__((target("avx2"))) static inline void lanes_load(const uint8_t *const block[MD5_LANES], int half, __m256i words[8])
{
    __m256i row[8], pair[8];
    for (int lane = 0; lane < MD5_LANES; lane++)
        row[lane] = _mm256_loadu_si256((const __m256i *)(const void *)(block[lane] + 32 * half));
    for (int i = 0; i < 8; i += 2) {
        pair[i] = _mm256_unpacklo_epi32(row[i], row[i + 1]);
        pair[i + 1] = _mm256_unpackhi_epi32(row[i], row[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        row[i] = _mm256_unpacklo_epi64(pair[i], pair[i + 2]);
        row[i + 1] = _mm256_unpackhi_epi64(pair[i], pair[i + 2]);
        row[i + 2] = _mm256_unpacklo_epi64(pair[i + 1], pair[i + 3]);
        row[i + 3] = _mm256_unpackhi_epi64(pair[i + 1], pair[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        words[i] = _mm256_permute2x128_si256(row[i], row[i + 4], 0x20);
        words[i + 4] = _mm256_permute2x128_si256(row[i], row[i + 4], 0x31);
    }
}

/* One block of each lane; lanes whose cell of `active` is 0 keep their state. */
__attribute__((target("avx2"))) static void lanes_compress(__m256i state[4], const uint8_t *const block[MD5_LANES], __m256i active)
{
    const __m256i ones = _mm256_set1_epi32(-1);
    __m256i words[16], a = state[0], b = state[1], c = state[2], d = state[3];
    lanes_load(block, 0, words);
    lanes_load(block, 1, words + 8);
    MD5_STEPS(LANES_F, LANES_G, LANES_H, LANES_I)
    state[0] = _mm256_add_epi32(state[0], AND(a, active));
    state[1] = _mm256_add_epi32(state[1], AND(b, active));
    state[2] = _mm256_add_epi32(state[2], AND(c, active));
    state[3] = _mm256_add_epi32(state[3], AND(d, active));
}

__attribute__((target("avx2")))
void md5_hash_8_avx2(const uint8_t *const data[MD5_LANES], const size_t n[MD5_LANES], uint8_t out[MD5_LANES][MD5_BYTES])
{
    uint8_t tail[MD5_LANES][2 * MD5_BLOCK_BYTES];
    uint32_t result[4][MD5_LANES];
    size_t whole[MD5_LANES], blocks[MD5_LANES], blocks_most = 0;
    __m256i state[4];

    for (int i = 0; i < 4; i++)
        state[i] = _mm256_set1_epi32((int)MD5_START[i]);
    for (int lane = 0; lane < MD5_LANES; lane++) {
        whole[lane] = n[lane] / MD5_BLOCK_BYTES;
        blocks[lane] = whole[lane] + md5_pad(whole[lane] > 0 ? data[lane] + whole[lane] * MD5_BLOCK_BYTES : data[lane],
                                             n[lane] % MD5_BLOCK_BYTES, n[lane], tail[lane]);
        if (blocks[lane] > blocks_most)
            blocks_most = blocks[lane];
    }
    for (size_t turn = 0; turn < blocks_most; turn++) {
        const uint8_t *block[MD5_LANES];
        int32_t active[MD5_LANES];
        for (int lane = 0; lane < MD5_LANES; lane++) {
            active[lane] = turn < blocks[lane] ? -1 : 0;
            block[lane] = turn < whole[lane] ? data[lane] + turn * MD5_BLOCK_BYTES
                : active[lane] ? tail[lane] + (turn - whole[lane]) * MD5_BLOCK_BYTES
                : tail[lane];  /* a lane that is done reads anything it may */
        }
        lanes_compress(state, block, _mm256_loadu_si256((const __m256i *)(const void *)active));
    }
    for (int i = 0; i < 4; i++)
        _mm256_storeu_si256((__m256i *)(void *)result[i], state[i]);
    for (int lane = 0; lane < MD5_LANES; lane++)
        for (int i = 0; i < 4; i++)
            store_u32(out[lane] + 4 * i, result[i][lane]);
}

int md5_has_lanes(void) { return __builtin_cpu_supports("avx2") != 0; }

#else

void md5_hash_8_avx2(const uint8_t *const data[MD5_LANES], const size_t n[MD5_LANES], uint8_t out[MD5_LANES][MD5_BYTES])
{
    md5_hash_8_portable(data, n, out);
}

int md5_has_lanes(void) { return 0; }

#endif

void md5_hash_8(const uint8_t *const data[MD5_LANES], const size_t n[MD5_LANES], uint8_t out[MD5_LANES][MD5_BYTES])
{
    if (md5_has_lanes())
        md5_hash_8_avx2(data, n, out);
    else
        md5_hash_8_portable(data, n, out);
}
