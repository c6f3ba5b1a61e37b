# `scan` says whether a body is usual, and where in it the fields are; `write_key` makes the key of its event, and
# `siphash24` of siphash.pxd the fingerprint of that.

from cpython.unicode cimport PyUnicode_DecodeASCII


cdef enum:
    TEXT_MAX = 255  # bytes of a field; with a longer one a body is not usual
    KEY_MAX = 1024  # bytes of a key: at most three fields, three lengths, and the name of a status


cdef struct Text:
    Py_ssize_t start  # from the body's begin; 0: the body does not have it
    Py_ssize_t size


cdef struct Usual:
    # What `gateway.dialects.webhook.Event` says, in places of the body: printable ASCII that stands there as it is.
    int kind  # of gateway.events.Kind: 0 a message, 1 sent, 2 delivered, 3 read, 4 failed
    bint is_group
    Text id  # of the message, or the one that the status is about; never empty
    Text lane
    # Of a status only, else empty.
    Text name  # `read` and `played` are one kind, and two names
    Text recipient
    Text member  # of a group, when the body names one
    Text participant  # the member, or else the recipient


cdef bint scan(const char* body, Py_ssize_t size, Usual* found) noexcept nogil  # False: not usual, `found` is spoilt

# Of a body that was usual; returns the key's size.
cdef Py_ssize_t write_key(const char* body, const Usual* found, char* key) noexcept nogil


cdef inline str text_of(const char* body, Text text):
    return PyUnicode_DecodeASCII(body + text.start, text.size, NULL)
