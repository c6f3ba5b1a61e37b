# The grammar of JSON (RFC 8259) for readers that make no objects: where a text, a number, any value ends. Inlined
# where used: there is no module.
#
# Strict: whatever these functions pass is JSON in strict UTF-8 to every parser; what they refuse may be JSON all the
# same (nested deeper than SKIP_DEPTH_MAX, a number longer than NUMBER_MAX, half of a surrogate pair). Each takes the
# place of the next byte and the end of all, reads nothing from the end on, and returns the place behind what it was
# asked for, or NULL when that is not there. Texts are passed eight bytes at a time. No table is used: it would be cold.

cimport cython
from libc.stdint cimport uint64_t

from .siphash cimport load_u64


cdef extern from *:
    int lowest_bit "__builtin_ctzll"(unsigned long long) nogil


cdef enum:
    SKIP_DEPTH_MAX = 64  # one bit each in a word; Python's parser and msgspec go to hundreds
    NUMBER_MAX = 300  # Python refuses integers of more than 4300 digits


cdef inline unsigned char peek(const unsigned char* at, const unsigned char* end) noexcept nogil:
    """The next byte; 0, which is nowhere allowed, at the end."""
    return at[0] if at < end else 0


cdef inline const unsigned char* after_space(const unsigned char* at, const unsigned char* end) noexcept nogil:
    while at < end and at[0] <= b" " and (at[0] == b" " or at[0] == b"\n" or at[0] == b"\r" or at[0] == b"\t"):
        at += 1
    return at


@cython.overflowcheck(False)
cdef inline const unsigned char* plain_end(const unsigned char* at, const unsigned char* end) noexcept nogil:
    """The first byte in a text that is not printable ASCII, or is a quote or a backslash; or the end."""
    cdef uint64_t ones = 0x0101010101010101u
    cdef uint64_t highs = 0x8080808080808080u
    cdef uint64_t word, marks
    while end - at >= 8:
        word = load_u64(at)
        # A high bit for each such byte: subtracting borrows in those below 0x20, and in those that xor made 0.
        # A borrow may mark a byte after it too, so only the lowest counts.
        marks = (word - 0x20 * ones) | ((word ^ 0x22 * ones) - ones) | ((word ^ 0x5C * ones) - ones) | word
        marks &= highs
        if marks:
            return at + (lowest_bit(marks) >> 3)
        at += 8
    while at < end and 0x20 <= at[0] < 0x80 and at[0] != b'"' and at[0] != b"\\":
        at += 1
    return at


cdef inline const unsigned char* after_wide(const unsigned char* at, const unsigned char* end) noexcept nogil:
    """Past a character of several bytes: no overlong form, no surrogate, none above 10FFFF (Unicode, table 3-7)."""
    cdef unsigned char lead = at[0]
    cdef unsigned char low = 0x80
    cdef unsigned char high = 0xBF
    cdef int more, n
    if 0xC2 <= lead <= 0xDF:
        more = 1
    elif 0xE0 <= lead <= 0xEF:
        more = 2
        if lead == 0xE0:
            low = 0xA0
        elif lead == 0xED:
            high = 0x9F
    elif 0xF0 <= lead <= 0xF4:
        more = 3
        if lead == 0xF0:
            low = 0x90
        elif lead == 0xF4:
            high = 0x8F
    else:
        return NULL
    if end - at <= more or not low <= at[1] <= high:
        return NULL
    for n in range(2, more + 1):
        if not 0x80 <= at[n] <= 0xBF:
            return NULL
    return at + more + 1


cdef inline int unit_of(const unsigned char* at, const unsigned char* end) noexcept nogil:
    """The UTF-16 unit that is written here as a backslash, `u` and four hexadecimal digits; -1: it is not."""
    cdef int unit = 0
    cdef int n
    cdef unsigned char digit
    if end - at < 6 or at[0] != b"\\" or at[1] != b"u":
        return -1
    for n in range(2, 6):
        digit = at[n]
        if b"0" <= digit <= b"9":
            unit = unit << 4 | (digit - 0x30)
        elif b"a" <= digit | 0x20 <= b"f":
            unit = unit << 4 | ((digit | 0x20) - 0x57)
        else:
            return -1
    return unit


cdef inline const unsigned char* after_escape(const unsigned char* at, const unsigned char* end) noexcept nogil:
    """Past an escape, and past both of a surrogate pair; half of one is refused."""
    cdef unsigned char letter = peek(at + 1, end)
    cdef int unit
    if letter == b"u":
        unit = unit_of(at, end)
        if unit < 0 or 0xDC00 <= unit <= 0xDFFF:
            return NULL
        if not 0xD800 <= unit <= 0xDBFF:
            return at + 6
        return at + 12 if 0xDC00 <= unit_of(at + 6, end) <= 0xDFFF else NULL
    if letter == b"n" or letter == b'"' or letter == b"\\" or letter == b"/":
        return at + 2
    if letter == b"t" or letter == b"r" or letter == b"b" or letter == b"f":
        return at + 2
    return NULL


cdef inline const unsigned char* after_string(const unsigned char* at, const unsigned char* end) noexcept nogil:
    """Past a string."""
    if peek(at, end) != b'"':
        return NULL
    at += 1
    while True:
        at = plain_end(at, end)
        if at == end or at[0] < 0x20:
            return NULL
        if at[0] == b'"':
            return at + 1
        if at[0] == b"\\":
            at = after_escape(at, end)
        else:
            # Most texts that have one have many in a row.
            while at != NULL and peek(at, end) >= 0x80:
                at = after_wide(at, end)
        if at == NULL:
            return NULL


cdef inline const unsigned char* after_digits(const unsigned char* at, const unsigned char* end) noexcept nogil:
    """Past one digit or more."""
    if not b"0" <= peek(at, end) <= b"9":
        return NULL
    while at < end and b"0" <= at[0] <= b"9":
        at += 1
    return at


cdef inline const unsigned char* after_number(const unsigned char* at, const unsigned char* end) noexcept nogil:
    """Past a number of at most NUMBER_MAX characters."""
    cdef const unsigned char* start = at
    if peek(at, end) == b"-":
        at += 1
    at = at + 1 if peek(at, end) == b"0" else after_digits(at, end)
    if at != NULL and peek(at, end) == b".":
        at = after_digits(at + 1, end)
    if at != NULL and peek(at, end) | 0x20 == b"e":
        at += 1
        if peek(at, end) == b"-" or peek(at, end) == b"+":
            at += 1
        at = after_digits(at, end)
    return at if at != NULL and at - start <= NUMBER_MAX else NULL


cdef inline const unsigned char* after_word(
    const unsigned char* at, const unsigned char* end, const char* word, Py_ssize_t size
) noexcept nogil:
    """Past `word`, which is `true`, `false` or `null`."""
    cdef Py_ssize_t n
    if end - at < size:
        return NULL
    for n in range(size):
        if at[n] != <unsigned char>word[n]:
            return NULL
    return at + size


cdef inline const unsigned char* after_scalar(const unsigned char* at, const unsigned char* end) noexcept nogil:
    """Past a value that is neither an object nor an array."""
    cdef unsigned char byte = peek(at, end)
    if byte == b'"':
        return after_string(at, end)
    if byte == b"t":
        return after_word(at, end, b"true", 4)
    if byte == b"f":
        return after_word(at, end, b"false", 5)
    if byte == b"n":
        return after_word(at, end, b"null", 4)
    return after_number(at, end)


cdef inline const unsigned char* after_colon(const unsigned char* at, const unsigned char* end) noexcept nogil:
    """To the value of a member, from the end of its name."""
    at = after_space(at, end)
    return after_space(at + 1, end) if peek(at, end) == b":" else NULL


cdef inline const unsigned char* after_name(const unsigned char* at, const unsigned char* end) noexcept nogil:
    """To the value of a member, from its name."""
    at = after_string(at, end)
    if at == NULL:
        return NULL
    return after_colon(at, end)


cdef inline const unsigned char* after_value(const unsigned char* at, const unsigned char* end) noexcept nogil:
    """Past any value that begins here, nested no deeper than SKIP_DEPTH_MAX."""
    cdef uint64_t objects = 0  # a bit for each level that we are in, the innermost lowest: it is an object
    cdef int depth = 0
    cdef unsigned char byte
    while at != NULL:
        # Here begins a value.
        byte = peek(at, end)
        if byte == b"{" or byte == b"[":
            if depth == SKIP_DEPTH_MAX:
                return NULL
            depth += 1
            objects = objects << 1 | (byte == b"{")
            at = after_space(at + 1, end)
            if peek(at, end) != byte + 2:  # the closing one, in ASCII
                if objects & 1:
                    at = after_name(at, end)
                continue
            depth -= 1
            objects >>= 1
            at += 1
        else:
            at = after_scalar(at, end)
            if at == NULL:
                return NULL
        # And here ended one: so may what it is in.
        while True:
            if depth == 0:
                return at
            at = after_space(at, end)
            byte = peek(at, end)
            if byte == b",":
                at = after_space(at + 1, end)
                if objects & 1:
                    at = after_name(at, end)
                break
            if byte != (0x7D if objects & 1 else 0x5D):  # `}` or `]`
                return NULL
            depth -= 1
            objects >>= 1
            at += 1
    return NULL
