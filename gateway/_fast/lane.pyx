"""Who holds each lane: what every record asks when it goes out and when it has ended.

`gateway.store.lanes` has the rest, what happens to those that wait behind others, and says what a lane is.
"""

from cpython.dict cimport PyDict_GetItem, PyDict_SetItem
from cpython.ref cimport PyObject


cdef class LaneHolders:
    def __cinit__(self, *_args, **_named):
        self._holders = {}
        self._kept = {}
        self._numbers = {}
        self.unread = {}

    def __init__(self, lane_of):
        self._lane_of = lane_of

    @classmethod
    def __class_getitem__(cls, _item):
        return cls

    def enter(self, record):
        return self.may_go(record)

    def leave(self, record):
        return self.let_go(record)

    cdef bint may_go(self, object record) except -1:
        cdef object lane = self._lane_of(record)
        cdef object seq
        cdef PyObject* holder
        if lane is None or lane == "":
            return True
        seq = record.seq
        holder = PyDict_GetItem(self._holders, lane)
        if holder is NULL:
            PyDict_SetItem(self._holders, lane, seq)
            return True
        return <object>holder == seq

    cdef object let_go(self, object record):
        cdef object lane = self._lane_of(record)
        cdef PyObject* holder
        if lane is None or lane == "":
            return None
        holder = PyDict_GetItem(self._holders, lane)
        if holder is NULL or <object>holder != record.seq:
            return None
        if lane in self._kept or lane in self._numbers:
            return self._advance(lane)
        del self._holders[lane]
        return None
