/* Objects in memory of exactly their size: random histories of puts and merges obey the laws, and bytes that anybody may
 * send are refused or handled like any other object. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "put.h"
#include "siblings.h"

enum { HISTORIES = 1000, STEPS = 14, MUTATIONS = 60 };

static uint64_t drawn = 2007; /* the seed */

static uint64_t draw(uint64_t below)
{
    uint64_t z = (drawn += 0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return (z ^ (z >> 31)) % below;
}

/* Owned bytes; bytes == NULL and n == 0 is an absent object. */
typedef struct {
    uint8_t *bytes;
    size_t n;
} Object;

static Object copy(const uint8_t *bytes, size_t n)
{
    Object object = {n ? malloc(n) : NULL, n};
    if (n)
        memcpy(object.bytes, bytes, n);
    return object;
}

static int same(Object a, Object b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.bytes, b.bytes, a.n) == 0);
}

static Object merge(Object a, Object b)
{
    size_t n = 0;
    uint8_t *out = malloc(a.n + b.n);
    const int code = object_merge(a.bytes, a.n, b.bytes, b.n, out, a.n + b.n, &n);
    assert(code >= 0 && code <= 3);
    assert((code == 3) == same(a, b));
    const Object result = code == 0 ? copy(out, n) : code == 2 ? copy(b.bytes, b.n) : copy(a.bytes, a.n);
    if (code == 0) {
        assert(!same(result, a) && !same(result, b)); /* no copy where one side would do */
        for (int i = 0; i < 3; i++) {                 /* less room is an answer, never an overrun */
            const size_t room = draw(n);
            uint8_t *narrow = malloc(room);
            assert(object_merge(a.bytes, a.n, b.bytes, b.n, narrow, room, &n) == OBJECT_NO_ROOM);
            free(narrow);
        }
    }
    assert(result.n == 0 || object_check(result.bytes, result.n) == OBJECT_OK);
    free(out);
    return result;
}

/* An event of an object, or one that nobody may have made, as a clock entry: what a writer may have seen beyond its context. */
static const uint8_t *event(Object from, uint8_t *out)
{
    SiblingView view;
    size_t offset = 0;
    memset(out, 0, CLOCK_ENTRY_BYTES);
    for (uint64_t skip = draw(4); skip > 0 && object_next(from.bytes, from.n, &offset, &view); skip--) {
        memcpy(out, view.node, 16);
        store_u64(out + 16, view.epoch);
        store_u64(out + 24, view.counter);
        store_u64(out + 32, view.timestamp_ms);
    }
    if (clock_counter(out) == 0) {
        out[0] = (uint8_t)draw(3);
        store_u64(out + 16, draw(3));
        store_u64(out + 24, 1 + draw(20));
        store_u64(out + 32, draw(8));
    }
    return out;
}

static Object put(Object local, Object seen, Object beyond, uint64_t number)
{
    static const uint8_t nodes[3][16] = {{2}, {1}, {0, 1}};
    uint8_t request_id[16] = {0}, value[300], dot[CLOCK_ENTRY_BYTES];
    store_u64(request_id, number);
    memset(value, (int)number, sizeof value);
    const int tombstone = draw(4) == 0;
    PutArguments arguments = {
        .local = local.bytes,
        .local_n = local.n,
        .context = seen.n ? object_clock(seen.bytes) : NULL,
        .context_count = seen.n ? object_clock_count(seen.bytes) : 0,
        .dot = draw(2) ? event(beyond, dot) : NULL,
        .overwrite = draw(6) == 0,
        .node = nodes[draw(3)],
        .epoch = draw(2),
        .timestamp_ms = draw(8),
        .request_id = request_id,
        .tombstone = tombstone,
        .last_write_wins = draw(4) == 0,
        .value = value,
        .value_n = tombstone ? 0 : draw(draw(2) ? 3 : sizeof value),
    };
    const size_t room = object_put_bound(&arguments);
    size_t n = 0;
    uint8_t *out = malloc(room);
    int code = object_put(&arguments, out, room, &n);
    if (code == OBJECT_ACTOR_IN_CLOUD) {
        arguments.epoch = number + 1000; /* as epoch_choose would say */
        code = object_put(&arguments, out, room, &n);
    }
    assert(code == OBJECT_OK);
    assert(object_check(out, n) == OBJECT_OK);
    assert(!arguments.dot || object_covers(out, n, arguments.dot));
    SiblingView view;
    for (size_t offset = 0; object_next(out, n, &offset, &view);) {
        assert(view.timestamp_ms >= (arguments.dot ? clock_timestamp(arguments.dot) : 0) ||
               memcmp(view.request_id, request_id, 16) != 0);
        assert(!arguments.dot || clock_actor_compare(view.node, view.epoch, arguments.dot) != 0 ||
               view.counter != clock_counter(arguments.dot));
    }
    assert(object_has_request(out, n, request_id));
    assert(object_counter(out, n, arguments.node, arguments.epoch) ==
           1 + object_counter(local.bytes, local.n, arguments.node, arguments.epoch) ||
           seen.n != 0);
    for (int i = 0; i < 3; i++) {
        size_t unused;
        const size_t narrow_room = draw(n);
        uint8_t *narrow = malloc(narrow_room);
        assert(object_put(&arguments, narrow, narrow_room, &unused) == OBJECT_NO_ROOM);
        free(narrow);
    }
    const Object result = copy(out, n);
    free(out);
    return result;
}

static void walk(Object object)
{
    size_t offset = 0, siblings = 0, sum = 0;
    SiblingView view;
    while (object_next(object.bytes, object.n, &offset, &view)) {
        assert(view.counter <= object_counter(object.bytes, object.n, view.node, view.epoch));
        for (uint32_t i = 0; i < view.value_n; i++)
            sum += view.value[i];
        siblings++;
    }
    assert(siblings == (object.n ? object_sibling_count(object.bytes) : 0) && offset <= object.n && sum < SIZE_MAX);
    for (uint32_t i = 0; object.n && i < object_cloud_count(object.bytes); i++) {
        const uint8_t *dot = cloud_dot(object_cloud(object.bytes, object.n), i);
        assert(object_covers(object.bytes, object.n, dot));
        assert(clock_counter(dot) > object_counter(object.bytes, object.n, dot, clock_epoch(dot)));
        const uint64_t reach = object_reach(object.bytes, object.n, dot, clock_epoch(dot));
        uint8_t next[CLOUD_DOT_BYTES];
        memcpy(next, dot, 24);
        store_u64(next + 24, reach + 1);
        assert(!object_covers(object.bytes, object.n, next));
    }
}

/* Every dot that either side covers the join covers, and no other. */
static void covers_the_same(Object a, Object b, Object joined)
{
    uint8_t dot[CLOCK_ENTRY_BYTES];
    for (int i = 0; i < 10; i++) {
        event(i & 1 ? a : b, dot);
        const int either = object_covers(a.bytes, a.n, dot) || object_covers(b.bytes, b.n, dot);
        assert(object_covers(joined.bytes, joined.n, dot) == either);
    }
}

/* In a random history every node is its own replica, so a dot may be issued twice: merges must agree all the same. */
static void laws(Object a, Object b)
{
    Object ab = merge(a, b), ba = merge(b, a), again = merge(ab, b);
    assert(same(ab, ba));
    assert(same(again, ab));
    walk(ab);
    covers_the_same(a, b, ab);
    free(ab.bytes);
    free(ba.bytes);
    free(again.bytes);
}

static void mutate(Object object, Object other)
{
    Object changed = copy(object.bytes, object.n);
    const uint64_t changes = 1 + draw(3);
    for (uint64_t i = 0; i < changes; i++) {
        const size_t place = draw(draw(2) ? 8 : changed.n);
        changed.bytes[place] = draw(2) ? (uint8_t)draw(256) : (uint8_t)(changed.bytes[place] ^ (1 << draw(8)));
    }
    const int code = object_check(changed.bytes, changed.n);
    assert(code <= 0 && object_error(code)[0] != 'u');
    if (code == OBJECT_OK) {
        laws(changed, other);
        laws(changed, object);
    }
    free(changed.bytes);
    Object cut = copy(object.bytes, draw(object.n));
    assert(object_check(cut.bytes, cut.n) < 0);
    free(cut.bytes);
}

static void history(void)
{
    Object states[STEPS + 1] = {{NULL, 0}};
    for (int step = 1; step <= STEPS; step++) {
        const Object from = states[draw((uint64_t)step)], other = states[draw((uint64_t)step)];
        const Object beyond = states[draw((uint64_t)step)];
        states[step] = draw(3) == 0 ? merge(from, other) : put(from, draw(3) ? other : states[0], beyond, (uint64_t)step);
    }
    for (int i = 0; i < MUTATIONS; i++) {
        const Object a = states[draw(STEPS + 1)], b = states[draw(STEPS + 1)];
        laws(a, b);
        if (a.n)
            mutate(a, b);
    }
    for (int step = 1; step <= STEPS; step++)
        free(states[step].bytes);
}

static void merge_says_which_side_it_is(void)
{
    const Object absent = {NULL, 0};
    const Object one = put(absent, absent, absent, 1), two = put(one, one, absent, 2);
    size_t n;
    uint8_t out[1];
    assert(object_merge(one.bytes, one.n, two.bytes, two.n, out, 0, &n) == 2);
    assert(object_merge(two.bytes, two.n, one.bytes, one.n, out, 0, &n) == 1);
    assert(object_merge(two.bytes, two.n, two.bytes, two.n, out, 0, &n) == 3);
    assert(object_merge(two.bytes, two.n, NULL, 0, out, 0, &n) == 1);
    assert(object_merge(NULL, 0, two.bytes, two.n, out, 0, &n) == 2);
    assert(object_merge(NULL, 0, NULL, 0, out, 0, &n) == 3);
    free(one.bytes);
    free(two.bytes);
}

static void epochs(void)
{
    const uint8_t node[16] = {1}, request_id[16] = {1};
    uint8_t local[200], seen[CLOCK_ENTRY_BYTES] = {1};
    size_t n;
    PutArguments arguments = {.node = node, .epoch = 5, .request_id = request_id};
    assert(object_put(&arguments, local, sizeof local, &n) == OBJECT_OK);
    int alarm;
    assert(epoch_choose(local, n, 77, 5, 77, NULL, 0, NULL, node, 1000, &alarm) == 5 && !alarm);
    assert(epoch_choose(local, n, 78, 5, 77, NULL, 0, NULL, node, 1000, &alarm) == 1000 && !alarm);
    assert(epoch_choose(local, n, 77, 6, 77, NULL, 0, NULL, node, 1000, &alarm) == 1000 && !alarm);
    assert(epoch_choose(NULL, 0, 77, 5, 77, NULL, 0, NULL, node, 1000, &alarm) == 1000 && !alarm);
    store_u64(seen + 16, 5);
    store_u64(seen + 24, 1);
    assert(epoch_choose(local, n, 77, 5, 77, seen, 1, NULL, node, 1000, &alarm) == 5 && !alarm);
    store_u64(seen + 24, 2);
    assert(epoch_choose(local, n, 77, 5, 77, seen, 1, NULL, node, 1000, &alarm) == 1000 && alarm);
    uint8_t dot[CLOCK_ENTRY_BYTES] = {0};
    memcpy(dot, node, 16);
    store_u64(dot + 16, 5);
    store_u64(dot + 24, object_counter(local, n, node, 5));
    assert(epoch_choose(local, n, 77, 5, 77, NULL, 0, dot, node, 1000, &alarm) == 5 && !alarm);
    store_u64(dot + 24, object_counter(local, n, node, 5) + 1);
    assert(epoch_choose(local, n, 77, 5, 77, NULL, 0, dot, node, 1000, &alarm) == 1000 && alarm);
    assert(epoch_survives_merge(local, n, local, n, node, 5) && epoch_survives_merge(local, n, NULL, 0, node, 5));
    assert(!epoch_survives_merge(NULL, 0, local, n, node, 5));

    /* Another node has superseded a dot of ours that we do not know of. */
    const uint8_t other[16] = {2};
    uint8_t clouded[400], merged[600];
    size_t clouded_n, merged_n;
    PutArguments theirs = {.node = other, .epoch = 9, .dot = dot, .request_id = request_id};
    assert(object_put(&theirs, clouded, sizeof clouded, &clouded_n) == OBJECT_OK && object_cloud_count(clouded) == 1);
    assert(!epoch_survives_merge(local, n, clouded, clouded_n, node, 5));
    assert(epoch_survives_merge(local, n, clouded, clouded_n, node, 6));
    assert(object_merge(local, n, clouded, clouded_n, merged, sizeof merged, &merged_n) == 0);
    assert(epoch_choose(merged, merged_n, 77, 5, 77, NULL, 0, NULL, node, 1000, &alarm) == 1000 && alarm);
    PutArguments ours = {.local = merged, .local_n = merged_n, .node = node, .epoch = 5, .request_id = request_id};
    assert(object_put(&ours, clouded, sizeof clouded, &clouded_n) == OBJECT_ACTOR_IN_CLOUD);
    ours.epoch = 1000;
    assert(object_put(&ours, clouded, sizeof clouded, &clouded_n) == OBJECT_OK && object_cloud_count(clouded) == 1);
}

int main(void)
{
    for (int i = 0; i < HISTORIES; i++)
        history();
    merge_says_which_side_it_is();
    epochs();
    printf("siblings: all passed, %d histories\n", HISTORIES);
    return 0;
}
