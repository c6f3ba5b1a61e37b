# CRC-32 as zlib has it, eight bytes at a time (slicing-by-8), so that zlib's headers need not be installed.
#
# tests/test_fast_log_writer.py holds it against zlib's.

from libc.stdint cimport uint8_t, uint32_t


cdef extern from *:
    """
    #include <endian.h>
    #include <stdint.h>
    #include <string.h>

    static uint32_t crc32_tables[8][256];

    __attribute__((constructor)) static void crc32_fill_tables(void) {
        for (int byte = 0; byte < 256; byte++) {
            uint32_t value = (uint32_t)byte;
            for (int bit = 0; bit < 8; bit++) value = (value >> 1) ^ (value & 1 ? 0xEDB88320u : 0);
            crc32_tables[0][byte] = value;
        }
        for (int table = 1; table < 8; table++)
            for (int byte = 0; byte < 256; byte++) {
                uint32_t value = crc32_tables[table - 1][byte];
                crc32_tables[table][byte] = (value >> 8) ^ crc32_tables[0][value & 0xFF];
            }
    }

    static uint32_t crc32_of(const uint8_t *data, size_t size, uint32_t value) {
        uint32_t low, high;
        value = ~value;
        for (; size >= 8; data += 8, size -= 8) {
            memcpy(&low, data, 4);
            memcpy(&high, data + 4, 4);
            low = le32toh(low) ^ value;
            high = le32toh(high);
            value = crc32_tables[7][low & 0xFF] ^ crc32_tables[6][low >> 8 & 0xFF]
                ^ crc32_tables[5][low >> 16 & 0xFF] ^ crc32_tables[4][low >> 24]
                ^ crc32_tables[3][high & 0xFF] ^ crc32_tables[2][high >> 8 & 0xFF]
                ^ crc32_tables[1][high >> 16 & 0xFF] ^ crc32_tables[0][high >> 24];
        }
        for (; size; data++, size--) value = (value >> 8) ^ crc32_tables[0][(value ^ *data) & 0xFF];
        return ~value;
    }
    """
    uint32_t crc32 "crc32_of"(const uint8_t* data, size_t size, uint32_t value) nogil
