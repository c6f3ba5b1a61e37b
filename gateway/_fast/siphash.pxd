# SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012), inlined where used.
#
# Keyed, so that whoever chooses the message ids can't choose the fingerprints. An id of 60 bytes takes 60 ns, the
# call from Python included. The published vectors prove it in tests/test_fast_seen.py.

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcpy


cdef extern from "<endian.h>" nogil:
    uint64_t le64toh(uint64_t)


cdef enum:
    SECRET_BYTES = 16


cdef inline int require_secret(bytes secret) except -1:
    if PyBytes_GET_SIZE(secret) != SECRET_BYTES:
        raise ValueError(f"secret is {PyBytes_GET_SIZE(secret)} bytes, must be {SECRET_BYTES}")
    return 0


cdef inline uint64_t load_u64(const unsigned char* data) noexcept nogil:
    """Eight little-endian bytes at any alignment."""
    cdef uint64_t word
    memcpy(&word, data, 8)
    return le64toh(word)


@cython.overflowcheck(False)
cdef inline uint64_t rotate_left(uint64_t word, int bits) noexcept nogil:
    return (word << bits) | (word >> (64 - bits))


@cython.overflowcheck(False)
cdef inline void sip_round(uint64_t* v) noexcept nogil:
    v[0] += v[1]
    v[1] = rotate_left(v[1], 13) ^ v[0]
    v[0] = rotate_left(v[0], 32)
    v[2] += v[3]
    v[3] = rotate_left(v[3], 16) ^ v[2]
    v[0] += v[3]
    v[3] = rotate_left(v[3], 21) ^ v[0]
    v[2] += v[1]
    v[1] = rotate_left(v[1], 17) ^ v[2]
    v[2] = rotate_left(v[2], 32)


@cython.overflowcheck(False)
cdef inline uint64_t siphash24(const unsigned char* data, size_t size, const unsigned char* secret) noexcept nogil:
    """Hash `size` bytes under a 16-byte `secret`."""
    cdef uint64_t k0 = load_u64(secret)
    cdef uint64_t k1 = load_u64(secret + 8)
    cdef uint64_t word
    cdef size_t whole = size & ~<size_t>7
    cdef size_t i
    cdef uint64_t[4] v
    v[0] = k0 ^ 0x736F6D6570736575u  # "somepseudorandomlygeneratedbytes"
    v[1] = k1 ^ 0x646F72616E646F6Du
    v[2] = k0 ^ 0x6C7967656E657261u
    v[3] = k1 ^ 0x7465646279746573u

    for i in range(0, whole, 8):
        word = load_u64(data + i)
        v[3] ^= word
        sip_round(v)
        sip_round(v)
        v[0] ^= word

    # The last word: what is left over, and the length in its top byte.
    word = (<uint64_t>size) << 56
    for i in range(whole, size):
        word |= (<uint64_t>data[i]) << (8 * (i - whole))
    v[3] ^= word
    sip_round(v)
    sip_round(v)
    v[0] ^= word

    v[2] ^= 0xFF
    sip_round(v)
    sip_round(v)
    sip_round(v)
    sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]
