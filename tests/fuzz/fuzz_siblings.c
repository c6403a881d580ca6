/* A history of puts and merges among three replicas, read from the input as a program: merge must be commutative,
 * associative and idempotent on every state that puts and merges can reach, and every state must check.
 *
 * An instruction is two bytes. The first: bits 0-1 the replica, bits 2-3 the source, bits 4-5 what to do (0 merge the
 * source in, 1 put with the source's clock as context, 2 blind put, 3 put over all). The second: bit 0 tombstone, bit 1
 * last-write-wins, bit 2 a new epoch for the replica, bits 3-7 the clock's step; the first's bits 6-7, when not 0, choose one
 * of the source's siblings that the put supersedes by its dot, whether its replica holds that or not. */
#include "fuzz.h"
#include "put.h"
#include "siblings.h"

enum { REPLICAS = 3, STEPS_MAX = 32, OBJECT_BYTES_MAX = 1 << 16 };

typedef struct {
    uint8_t bytes[OBJECT_BYTES_MAX];
    size_t n;
    uint64_t epoch;
} Replica;

static void merge(const Replica *a, const Replica *b, Replica *out)
{
    int code = object_merge(a->bytes, a->n, b->bytes, b->n, out->bytes, OBJECT_BYTES_MAX, &out->n);
    CHECK(code >= 0);
    if (code != 0) {
        const Replica *same = code == 2 ? b : a;
        memcpy(out->bytes, same->bytes, same->n);
        out->n = same->n;
    }
    out->epoch = a->epoch;
    CHECK(out->n == 0 || object_check(out->bytes, out->n) == OBJECT_OK);
}

static int same(const Replica *a, const Replica *b) { return a->n == b->n && memcmp(a->bytes, b->bytes, a->n) == 0; }

static void check_laws(const Replica *replicas)
{
    static Replica ab, ba, ab_c, bc, a_bc, again;
    merge(&replicas[0], &replicas[1], &ab);
    merge(&replicas[1], &replicas[0], &ba);
    CHECK(same(&ab, &ba));
    merge(&ab, &replicas[2], &ab_c);
    merge(&replicas[1], &replicas[2], &bc);
    merge(&replicas[0], &bc, &a_bc);
    CHECK(same(&ab_c, &a_bc));
    for (int i = 0; i < REPLICAS; i++) {
        merge(&ab_c, &replicas[i], &again);
        CHECK(same(&again, &ab_c));
    }
}

/* The event of the source's sibling of that number, counted from 1, as a clock entry, or NULL. */
static const uint8_t *event_of(const Replica *source, uint8_t number, uint8_t *out)
{
    SiblingView view;
    size_t offset = 0;
    for (uint8_t i = 0; i < number; i++)
        if (!object_next(source->bytes, source->n, &offset, &view))
            return NULL;
    if (number == 0)
        return NULL;
    memcpy(out, view.node, 16);
    store_u64(out + 16, view.epoch);
    store_u64(out + 24, view.counter);
    store_u64(out + 32, view.timestamp_ms);
    return out;
}

static void put(Replica *replica, const Replica *source, int index, uint8_t how, uint8_t flags, uint64_t *now_ms, uint8_t step,
                uint8_t dot_number)
{
    static Replica out;
    uint8_t node[16] = {(uint8_t)index}, request_id[16] = {step, 1}, dot[CLOCK_ENTRY_BYTES];
    if (flags & 4)
        replica->epoch += 1;
    *now_ms += flags >> 3;
    PutArguments arguments = {
        .local = replica->n ? replica->bytes : NULL, .local_n = replica->n,
        .context = how == 1 && source->n ? object_clock(source->bytes) : NULL,
        .context_count = how == 1 && source->n ? object_clock_count(source->bytes) : 0,
        .dot = event_of(source, dot_number, dot), .overwrite = how == 3, .node = node, .epoch = replica->epoch, .timestamp_ms = *now_ms, .request_id = request_id,
        .tombstone = flags & 1, .last_write_wins = flags >> 1 & 1, .value = &step, .value_n = flags & 1 ? 0 : 1,
    };
    CHECK(object_put_bound(&arguments) <= OBJECT_BYTES_MAX);
    CHECK(object_put(&arguments, out.bytes, object_put_bound(&arguments), &out.n) == OBJECT_OK);
    CHECK(object_check(out.bytes, out.n) == OBJECT_OK && object_has_request(out.bytes, out.n, request_id));
    CHECK(!arguments.dot || object_covers(out.bytes, out.n, dot));
    memcpy(replica->bytes, out.bytes, out.n);
    replica->n = out.n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static Replica replicas[REPLICAS], merged;
    uint64_t now_ms = 1000;
    for (int i = 0; i < REPLICAS; i++) {
        replicas[i].n = 0;
        replicas[i].epoch = 1;
    }
    for (size_t step = 0; step < STEPS_MAX && 2 * step + 1 < n; step++) {
        uint8_t first = data[2 * step], second = data[2 * step + 1];
        int index = (first & 3) % REPLICAS, source = (first >> 2 & 3) % REPLICAS;
        uint8_t how = first >> 4 & 3;
        if (how == 0) {
            merge(&replicas[index], &replicas[source], &merged);
            memcpy(replicas[index].bytes, merged.bytes, merged.n);
            replicas[index].n = merged.n;
        } else {
            put(&replicas[index], &replicas[source], index, how, second, &now_ms, (uint8_t)step, first >> 6);
        }
    }
    check_laws(replicas);
    return 0;
}
