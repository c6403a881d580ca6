/* Dot clouds: every function but the search is one walk over sorted arrays. */
#include "cloud.h"

int cloud_check(const uint8_t *dots, uint32_t count, const uint8_t *entries, uint32_t entries_count)
{
    ClockWalk clock = {entries, entries_count};
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *dot = cloud_dot(dots, i);
        if (clock_counter(dot) - 1 >= CLOCK_NUMBER_MAX || clock_walk_covers(&clock, dot))
            return 0;
        if (i > 0 && cloud_dot_compare(cloud_dot(dots, i - 1), dot) >= 0)
            return 0;
    }
    return 1;
}

int cloud_has(const uint8_t *dots, uint32_t count, const uint8_t *dot)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const int order = cloud_dot_compare(cloud_dot(dots, middle), dot);
        if (order == 0)
            return 1;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

uint64_t cloud_highest(const uint8_t *dots, uint32_t count, const uint8_t *node, uint64_t epoch)
{
    uint64_t highest = 0;
    for (uint32_t i = 0; i < count; i++)
        if (clock_actor_compare(node, epoch, cloud_dot(dots, i)) == 0)
            highest = clock_counter(cloud_dot(dots, i)); /* sorted: the last is the highest */
    return highest;
}

int64_t cloud_merge(const uint8_t *a, uint32_t a_count, const uint8_t *b, uint32_t b_count, const uint8_t *entries,
                    uint32_t entries_count, uint8_t *out, size_t out_max)
{
    ClockWalk clock = {entries, entries_count};
    int64_t count = 0;
    while (a_count > 0 || b_count > 0) {
        const int order = a_count == 0 ? 1 : b_count == 0 ? -1 : cloud_dot_compare(a, b);
        const uint8_t *dot = order <= 0 ? a : b;
        if (!clock_walk_covers(&clock, dot)) {
            if ((size_t)count == out_max)
                return -1;
            memcpy(out + CLOUD_DOT_BYTES * (size_t)count++, dot, CLOUD_DOT_BYTES);
        }
        if (order <= 0) {
            a += CLOUD_DOT_BYTES;
            a_count--;
        }
        if (order >= 0) {
            b += CLOUD_DOT_BYTES;
            b_count--;
        }
    }
    return count;
}
