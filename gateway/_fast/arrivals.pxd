from libc.stdint cimport int64_t

from .budget cimport EventBudget
from .history cimport SecondsHistory
from .window cimport SlidingWindow


cdef class ArrivalMeter:
    cdef EventBudget _budget
    cdef SecondsHistory _history
    cdef SlidingWindow _arrivals  # None: nobody measures quiet
    cdef int64_t _costs[4]
