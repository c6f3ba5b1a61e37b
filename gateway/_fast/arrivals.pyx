"""The one call that an arrival is charged by: in the budget, in its history, and where quiet is measured.

Cost: 65 ns, the call from Python included.
"""

from libc.stdint cimport int64_t

cimport cython

from .bounds cimport require
from .budget cimport EventBudget
from .history cimport SecondsHistory
from .window cimport SlidingWindow

cdef enum:
    KINDS = 4
    COUNT_MAX = 1_000_000
    COST_MAX = 1_000


@cython.final
cdef class ArrivalMeter:
    def __cinit__(
        self, EventBudget budget not None, SecondsHistory history not None, tuple costs not None, SlidingWindow arrivals
    ):
        cdef int kind
        if len(costs) != KINDS:
            raise ValueError(f"costs has {len(costs)} values, must have {KINDS}")
        for kind in range(KINDS):
            self._costs[kind] = costs[kind]
            require("cost", self._costs[kind], 0, COST_MAX)
        self._budget = budget
        self._history = history
        self._arrivals = arrivals

    def charge(self, int kind, int64_t count, int64_t now_ns):
        cdef int64_t used
        require("kind", kind, 0, KINDS - 1)
        require("count", count, 0, COUNT_MAX)
        self._budget.book(kind, count, now_ns)
        self._history.enter(kind, count, now_ns)
        used = count * self._costs[kind]
        if used and self._arrivals is not None:
            self._arrivals.add(now_ns, used)
