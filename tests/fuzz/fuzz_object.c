/* Objects as a stranger sends them: two in one input, u16 bytes of the first in front. Whatever object_check lets
 * through must be safe and lawful for everything that is then done with it without a check. */
#include "bytes.h"
#include "fuzz.h"
#include "put.h"
#include "siblings.h"

static void walk(const uint8_t *object, size_t n)
{
    SiblingView view;
    size_t offset = 0;
    uint32_t count = 0;
    while (object_next(object, n, &offset, &view)) {
        touch(view.node, 16);
        touch(view.request_id, 16);
        touch(view.value, view.value_n);
        CHECK(object_counter(object, n, view.node, view.epoch) >= view.counter);
        count++;
    }
    CHECK(count == object_sibling_count(object));
    for (uint32_t i = 0; i < object_cloud_count(object); i++) {
        const uint8_t *dot = cloud_dot(object_cloud(object, n), i);
        touch(dot, CLOUD_DOT_BYTES);
        CHECK(object_covers(object, n, dot));
        CHECK(object_counter(object, n, dot, clock_epoch(dot)) < clock_counter(dot));
        CHECK(object_reach(object, n, dot, clock_epoch(dot)) != clock_counter(dot) - 1);
    }
}

/* Joins a and b and returns the result in memory of its own, or NULL when it is refused. */
static uint8_t *joined(const uint8_t *a, size_t a_n, const uint8_t *b, size_t b_n, size_t *n)
{
    size_t room = a_n + b_n;
    uint8_t *out = malloc(room);
    CHECK(out != NULL);
    int code = object_merge(a, a_n, b, b_n, out, room, n);
    if (code == OBJECT_CLOCK_FULL || code == OBJECT_TOO_MANY_SIBLINGS || code == OBJECT_TOO_MANY_DOTS) {
        free(out);
        return NULL;
    }
    CHECK(code >= 0 && code <= 3);
    if (code != 0) {
        *n = code == 2 ? b_n : a_n;
        memcpy(out, code == 2 ? b : a, *n);
        CHECK(code != 3 || (a_n == b_n && memcmp(a, b, a_n) == 0));
    }
    CHECK(*n <= room && object_check(out, *n) == OBJECT_OK);
    return out;
}

static void check_merge(const uint8_t *a, size_t a_n, const uint8_t *b, size_t b_n)
{
    size_t ab_n = 0, ba_n = 0, again_n = 0;
    uint8_t *ab = joined(a, a_n, b, b_n, &ab_n);
    uint8_t *ba = joined(b, b_n, a, a_n, &ba_n);
    CHECK((ab == NULL) == (ba == NULL));
    if (ab != NULL) {
        CHECK(ab_n == ba_n && memcmp(ab, ba, ab_n) == 0);
        uint8_t *again = joined(ab, ab_n, ab, ab_n, &again_n);
        CHECK(again != NULL && again_n == ab_n && memcmp(again, ab, ab_n) == 0);
        free(again);
    }
    free(ab);
    free(ba);
}

static void check_put(const uint8_t *object, size_t n, const uint8_t *other, size_t other_n)
{
    static const uint8_t node[16] = "some node's id.", request_id[16] = "a put's id.....";
    PutArguments put = {
        .local = object, .local_n = n, .context = object_clock(other), .context_count = object_clock_count(other),
        .node = node, .epoch = 7, .timestamp_ms = 1000, .request_id = request_id, .value = node, .value_n = 3,
        .overwrite = (int)(other_n & 1), .last_write_wins = (int)(n & 1),
        .dot = n & 2 && object_clock_count(other) ? object_clock(other) : NULL,
    };
    size_t room = object_put_bound(&put), out_n = 0;
    uint8_t *out = malloc(room);
    CHECK(out != NULL);
    int code = object_put(&put, out, room, &out_n);
    CHECK(code == OBJECT_OK || code == OBJECT_CLOCK_FULL || code == OBJECT_TOO_MANY_SIBLINGS || code == OBJECT_TOO_MANY_DOTS ||
          code == OBJECT_ACTOR_IN_CLOUD);
    if (code == OBJECT_OK) {
        CHECK(out_n <= room && object_check(out, out_n) == OBJECT_OK && object_has_request(out, out_n, request_id));
        walk(out, out_n);
    }
    free(out);
    int alarm = 0;
    const uint8_t *actor = object_clock_count(object) ? object_clock(object) : node;
    uint64_t mark = object_clock_count(object) ? clock_epoch(actor) : 1;
    uint64_t chosen = epoch_choose(object, n, 5, mark, 5, put.context, put.context_count, NULL, actor, 99, &alarm);
    CHECK(chosen == mark || chosen == 99);
    CHECK(!alarm || chosen == 99);
    CHECK(epoch_choose(object, n, 4, mark, 5, put.context, put.context_count, NULL, actor, 99, &alarm) == 99);
    CHECK(epoch_survives_merge(object, n, object, n, actor, mark));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2)
        return 0;
    size_t a_n = load_u16(data);
    n -= 2;
    if (a_n > n)
        a_n = n;
    size_t b_n = n - a_n;
    uint8_t *a = exact_copy(data + 2, a_n), *b = exact_copy(data + 2 + a_n, b_n);
    int a_code = object_check(a, a_n), b_code = object_check(b, b_n);
    CHECK(object_error(a_code) != NULL && object_error(b_code) != NULL);
    if (a_code == OBJECT_OK) {
        walk(a, a_n);
        check_merge(a, a_n, a, a_n);
        check_put(a, a_n, a, a_n);
    }
    if (a_code == OBJECT_OK && b_code == OBJECT_OK) {
        check_merge(a, a_n, b, b_n);
        check_put(a, a_n, b, b_n);
    }
    free(a);
    free(b);
    return 0;
}
