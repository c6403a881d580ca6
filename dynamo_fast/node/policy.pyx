"""What a request gets: `core.options.merge_options`, remembered.

There is one function that merges a request's wishes over its bucket's over the cluster's, and it is plain Python. Requests ask
for few distinct combinations, so its results are kept by the packed question: the hot path is one dict look-up, and still no
request goes past that function.
"""

cimport cython

from dynamo_fast.core.options import RequestOptions, merge_options

cdef enum:
    PLANS_MAX = 1024  # distinct questions kept; clients that send a different deadline each time must not grow memory


@cython.final
cdef class Plan:
    """R, W, DW (0..replicas), strict, and the deadline in milliseconds from arrival."""

    def __cinit__(self, effective):
        self.r = effective.r
        self.w = effective.w
        self.dw = effective.dw
        self.strict = effective.strict
        self.deadline_ms = effective.deadline_ms


@cython.final
cdef class Policy:
    """Policy(settings, cluster): one bucket's BucketSettings over the ClusterDefaults."""

    def __cinit__(self, settings, cluster):
        self.settings = settings
        self.cluster = cluster
        self.last_write_wins = settings.last_write_wins
        self.plans = {}

    cdef Plan plan(self, uint8_t r, uint8_t w, int dw, int strict, uint32_t deadline_ms, uint8_t replicas):
        """What a request gets; r, w, deadline_ms 0, dw and strict -1 say nothing. Raises OptionsError for what cannot be had."""
        cdef object question = (<unsigned long long>deadline_ms << 32 | <unsigned long long>(strict + 1) << 29
                                | <unsigned long long>replicas << 24 | <unsigned long long>(dw & 0xFF) << 16
                                | <unsigned long long>w << 8 | r)
        cdef object found = self.plans.get(question)
        if found is not None:
            return <Plan>found
        found = Plan(merge_options(
            RequestOptions(
                r=r or None,
                w=w or None,
                dw=None if dw < 0 else dw,
                strict=None if strict < 0 else bool(strict),
                deadline_ms=deadline_ms or None,
            ),
            self.settings, self.cluster, replicas,
        ))
        if len(self.plans) >= PLANS_MAX:
            self.plans.clear()
        self.plans[question] = found
        return <Plan>found
