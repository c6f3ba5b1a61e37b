cdef class LaneHolders:
    cdef readonly dict _holders  # who holds each lane, by sequence number
    cdef readonly dict _kept  # records that wait behind, by lane
    cdef readonly dict _numbers  # numbers of those on disk, by lane
    cdef readonly dict unread
    cdef readonly object _lane_of

    cdef bint may_go(self, object record) except -1
    cdef object let_go(self, object record)
