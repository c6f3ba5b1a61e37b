"""Receipt ledger: what became of each of the last messages, in 40 bytes a message.

Layout: the entries lie in a ring by age of creation, the n-th ever made at n % capacity, so that one number says where
the ring begins and how full it is. An open-addressing index of 32-bit places in the ring stands beside it, at most
half full, with linear probing and backward-shift deletion as in `seen.pyx`: it never ages and never rehashes.

An entry holds counts, minima and maxima only. They don't depend on the order of the receipts, and the highest status
follows from them. A failure counts apart, for it may come after any status.

On disk the ledger is pages of 100 entries and a log of what happened since they were taken. A page is the memory
itself behind a header, 4016 bytes: one row that fits into a SQLite page of 4096. Counts are not idempotent, so a
checkpoint is all dirty pages at one moment, and the log from that moment; the highest `created` in the headers is the
ring's position, because the page of the newest entry was dirty. The index is built anew. Lists of checks for who
changes Entry, PageHeader or LogItem: `is_entry`, `is_item`, the sizes below, and the version of the store.

Cost: `record` reads one slot of the index and one entry, about 1.5 times each at half load, two cache misses in a
ledger larger than the cache. Memory is 40 bytes of entry and 8 to 16 of index, allocated at the start: a million
take 48 MB. `bench/micro/ledger.py` measures both beside an OrderedDict of dataclasses.

Not done: age. An entry leaves when room is needed, and who promises less keeps its own clock, and clears all of it.
Nor a change of capacity across a restart, which moves every entry: the pages name their capacity and are refused.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport UINT16_MAX, UINT32_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

cimport cython

from .bounds cimport require

cdef extern from *:
    """
    #if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "pages and log items are little-endian and are copied as they are"
    #endif
    """

cdef enum:
    CAPACITY_MAX = 67_108_864  # 2**26, 3.5 GiB
    ENTRIES_PER_PAGE = 100
    ENTRY_BYTES = 40
    HEADER_BYTES = 16
    PAGE_BYTES = 4016
    ITEM_BYTES = 16

cdef uint64_t CREATED_MAX = <uint64_t>1 << 62  # a page that says more is damaged; counting on never wraps

cdef enum Level:
    NO_LEVEL
    LEVEL_SENT
    LEVEL_DELIVERED
    LEVEL_READ
    LEVEL_FAILED

cdef enum Mask:
    ALL_WANTED
    NONE_WANTED
    FAILED_WANTED
    DELIVERED_WANTED
    READ_WANTED

cdef enum PageState:
    CLEAN
    DIRTY
    RESTORED  # until the restore is finished

SENT = LEVEL_SENT
DELIVERED = LEVEL_DELIVERED
READ = LEVEL_READ
FAILED = LEVEL_FAILED

MASK_ALL = ALL_WANTED
MASK_NONE = NONE_WANTED
MASK_FAILED = FAILED_WANTED
MASK_DELIVERED = DELIVERED_WANTED
MASK_READ = READ_WANTED

assert sizeof(Entry) == ENTRY_BYTES
assert sizeof(PageHeader) == HEADER_BYTES
assert sizeof(LogItem) == ITEM_BYTES
assert HEADER_BYTES + ENTRIES_PER_PAGE * ENTRY_BYTES == PAGE_BYTES


def pack_record(uint64_t fingerprint, int64_t level, int64_t at_s):
    require_receipt(level, at_s)
    return packed(LogItem(fingerprint=fingerprint, at_s=<uint32_t>at_s, level=<uint8_t>level, mask=0, spare=0))


def pack_mask(uint64_t fingerprint, int64_t mask):
    require("mask", mask, ALL_WANTED, READ_WANTED)
    return packed(LogItem(fingerprint=fingerprint, at_s=0, level=NO_LEVEL, mask=<uint8_t>mask, spare=0))


cdef bytes packed(LogItem item):
    return PyBytes_FromStringAndSize(<const char*>&item, ITEM_BYTES)


cdef inline int require_receipt(int64_t level, int64_t at_s) except -1:
    require("level", level, LEVEL_SENT, LEVEL_FAILED)
    require("at_s", at_s, 1, UINT32_MAX)
    return 0


cdef inline bint is_item(const LogItem* item) noexcept nogil:
    if item.level == NO_LEVEL:
        return item.mask <= READ_WANTED and item.at_s == 0 and item.spare == 0
    return item.level <= LEVEL_FAILED and item.mask == 0 and item.at_s != 0 and item.spare == 0


cdef inline bint is_tally(const Tally* tally) noexcept nogil:
    return tally.first_s <= tally.last_s and (tally.count == 0) == (tally.first_s == 0) == (tally.last_s == 0)


cdef inline bint is_entry(const Entry* entry) noexcept nogil:
    return is_tally(&entry.delivered) and is_tally(&entry.read) and entry.mask <= READ_WANTED and entry.spare == 0


cdef inline uint32_t earlier(uint32_t known_s, uint32_t at_s) noexcept nogil:
    """The earlier of two times, of which the first may be 0 for none."""
    return at_s if known_s == 0 or at_s < known_s else known_s


cdef inline void count(Tally* tally, uint32_t at_s) noexcept nogil:
    if tally.count != UINT32_MAX:
        tally.count += 1
    tally.first_s = earlier(tally.first_s, at_s)
    tally.last_s = max(tally.last_s, at_s)


@cython.final
cdef class Receipts:
    @property
    def status(self):
        if self.read:
            return LEVEL_READ
        if self.delivered:
            return LEVEL_DELIVERED
        return LEVEL_SENT if self.sent_s else NO_LEVEL


cdef Receipts receipts_of(const Entry* entry):
    cdef Receipts found = Receipts.__new__(Receipts)
    found.delivered = entry.delivered.count
    found.delivered_first_s = entry.delivered.first_s
    found.delivered_last_s = entry.delivered.last_s
    found.read = entry.read.count
    found.read_first_s = entry.read.first_s
    found.read_last_s = entry.read.last_s
    found.sent_s = entry.sent_s
    found.failed = entry.failed
    found.mask = entry.mask
    return found


@cython.final
cdef class ReceiptLedger:
    def __cinit__(self, Py_ssize_t capacity):
        require("capacity", capacity, 1, CAPACITY_MAX)
        self.capacity = capacity
        self._slots = 2
        while self._slots < 2 * <size_t>capacity:
            self._slots *= 2
        self._pages = (capacity + ENTRIES_PER_PAGE - 1) // ENTRIES_PER_PAGE
        self._entries = <Entry*>PyMem_Calloc(self._pages * ENTRIES_PER_PAGE, sizeof(Entry))
        self._index = <uint32_t*>PyMem_Calloc(self._slots, sizeof(uint32_t))
        self._page_states = <uint8_t*>PyMem_Calloc(self._pages, sizeof(uint8_t))
        if self._entries is NULL or self._index is NULL or self._page_states is NULL:
            raise MemoryError
        # Written to, and so really there, as in `SeenSet`.
        memset(self._entries, 0, self._pages * ENTRIES_PER_PAGE * sizeof(Entry))
        memset(self._index, 0, self._slots * sizeof(uint32_t))

    def __dealloc__(self):
        PyMem_Free(self._entries)
        PyMem_Free(self._index)
        PyMem_Free(self._page_states)

    def __len__(self):
        return self._held()

    @property
    def memory_bytes(self):
        return self._pages * (ENTRIES_PER_PAGE * sizeof(Entry) + sizeof(uint8_t)) + self._slots * sizeof(uint32_t)

    @property
    def evicted(self):
        return self._created - <uint64_t>self._held()

    def record(self, uint64_t fingerprint, int64_t level, int64_t at_s):
        require_receipt(level, at_s)
        self._require_restored()
        self.note(fingerprint, <int>level, <uint32_t>at_s)

    def set_mask(self, uint64_t fingerprint, int64_t mask):
        require("mask", mask, ALL_WANTED, READ_WANTED)
        self._require_restored()
        self.want(fingerprint, <uint8_t>mask)

    def mask(self, uint64_t fingerprint):
        cdef const Entry* entry = self.find(fingerprint)
        return ALL_WANTED if entry is NULL else entry.mask

    def look(self, uint64_t fingerprint):
        cdef const Entry* entry = self.find(fingerprint)
        return None if entry is NULL else receipts_of(entry)

    def apply_log(self, bytes data not None):
        cdef Py_ssize_t items = PyBytes_GET_SIZE(data) // ITEM_BYTES
        cdef const char* log = PyBytes_AS_STRING(data)
        cdef Py_ssize_t number
        cdef LogItem item
        if PyBytes_GET_SIZE(data) % ITEM_BYTES != 0:
            raise ValueError(f"data is {PyBytes_GET_SIZE(data)} bytes, must be a multiple of {ITEM_BYTES}")
        self._require_restored()
        for number in range(items):
            memcpy(&item, log + number * ITEM_BYTES, ITEM_BYTES)
            if not is_item(&item):
                raise ValueError(f"item {number} is none that pack_record or pack_mask makes")
        for number in range(items):
            memcpy(&item, log + number * ITEM_BYTES, ITEM_BYTES)
            if item.level == NO_LEVEL:
                self.want(item.fingerprint, item.mask)
            else:
                self.note(item.fingerprint, item.level, item.at_s)
        return items

    def take_dirty_pages(self):
        cdef list taken = []
        cdef Py_ssize_t number
        self._require_restored()
        for number in range(self._pages):
            if self._page_states[number] == DIRTY:
                taken.append((number, self._page(number)))
        # Only now: had memory run out, all would be dirty still.
        memset(self._page_states, CLEAN, self._pages)
        self.dirty_pages = 0
        return taken

    def has_masks(self):
        cdef Py_ssize_t at
        for at in range(self._held()):
            if self._entries[at].mask != ALL_WANTED:
                return True
        return False

    def clear(self):
        self._require_restored()
        self._clear()
        self.dirty_pages = 0

    def restore_page(self, Py_ssize_t number, bytes page not None):
        cdef const char* data = PyBytes_AS_STRING(page)
        cdef Py_ssize_t rank
        cdef PageHeader header
        cdef Entry entry
        require("number", number, 0, self._pages - 1)
        if self._created != 0:
            raise RuntimeError("pages are restored into a new ledger, this one has entries")
        if PyBytes_GET_SIZE(page) != PAGE_BYTES:
            raise ValueError(f"page {number} is {PyBytes_GET_SIZE(page)} bytes, must be {PAGE_BYTES}")
        if self._page_states[number] == RESTORED:
            raise ValueError(f"page {number} is restored already")
        memcpy(&header, data, HEADER_BYTES)
        if header.number != number:
            raise ValueError(f"page {number} says that it is page {header.number}")
        if header.capacity != self.capacity:
            raise ValueError(f"page {number} is of a ledger for {header.capacity}, not for {self.capacity}")
        if header.created > CREATED_MAX:
            raise ValueError(f"page {number} says {header.created} entries were made, must be at most {CREATED_MAX}")
        for rank in range(ENTRIES_PER_PAGE):
            memcpy(&entry, data + HEADER_BYTES + rank * ENTRY_BYTES, ENTRY_BYTES)
            if not is_entry(&entry):
                raise ValueError(f"page {number} holds what is no entry, at {rank}")
        memcpy(&self._entries[number * ENTRIES_PER_PAGE], data + HEADER_BYTES, ENTRIES_PER_PAGE * ENTRY_BYTES)
        self._page_states[number] = RESTORED
        self._restored_created = max(self._restored_created, header.created)
        self._is_restoring = True

    def finish_restore(self):
        if not self._is_restoring:
            return
        self._created = self._restored_created
        try:
            self._require_whole()
            self._rebuild_index()
        except ValueError:
            self._clear()
            raise
        memset(self._page_states, CLEAN, self._pages)
        self._is_restoring = False

    cdef inline void note(self, uint64_t fingerprint, int level, uint32_t at_s) noexcept nogil:
        """Count a receipt that `require_receipt` or `is_item` let pass."""
        cdef Entry* entry = self._touch(fingerprint)
        if level == LEVEL_DELIVERED:
            count(&entry.delivered, at_s)
        elif level == LEVEL_READ:
            count(&entry.read, at_s)
        elif level == LEVEL_SENT:
            entry.sent_s = earlier(entry.sent_s, at_s)
        elif entry.failed != UINT16_MAX:
            entry.failed += 1

    cdef inline void want(self, uint64_t fingerprint, uint8_t mask) noexcept nogil:
        self._touch(fingerprint).mask = mask

    cdef inline Entry* find(self, uint64_t fingerprint) noexcept nogil:
        """The entry of a message, or NULL."""
        cdef uint32_t place = self._index[self._find_slot(fingerprint)]
        return NULL if place == 0 else &self._entries[place - 1]

    cdef inline Py_ssize_t _held(self) noexcept nogil:
        return <Py_ssize_t>min(self._created, <uint64_t>self.capacity)

    cdef inline Entry* _touch(self, uint64_t fingerprint) noexcept nogil:
        """The entry of a message, made if need be, on a page that is dirty from now on."""
        cdef size_t slot = self._find_slot(fingerprint)
        cdef Py_ssize_t at = <Py_ssize_t>self._index[slot] - 1
        cdef Py_ssize_t page
        if at < 0:
            at = self._create(fingerprint, slot)
        page = at // ENTRIES_PER_PAGE
        self.dirty_pages += self._page_states[page] == CLEAN
        self._page_states[page] = DIRTY
        return &self._entries[at]

    cdef Py_ssize_t _create(self, uint64_t fingerprint, size_t slot) noexcept nogil:
        """Make an entry whose search ended at the free `slot`, in the place of the oldest if the ring is full."""
        cdef Py_ssize_t at = <Py_ssize_t>(self._created % <uint64_t>self.capacity)
        cdef Entry* entry = &self._entries[at]
        if self._created >= <uint64_t>self.capacity:
            self._unlink(entry.fingerprint)
            # What moved up may have left a gap earlier in the run.
            slot = self._find_slot(fingerprint)
        memset(entry, 0, sizeof(Entry))
        entry.fingerprint = fingerprint
        self._index[slot] = <uint32_t>(at + 1)
        self._created += 1
        return at

    cdef inline size_t _find_slot(self, uint64_t fingerprint) noexcept nogil:
        """The slot that holds the place of `fingerprint`, or the free one that ends its run. Half are free."""
        cdef size_t slot = <size_t>fingerprint & (self._slots - 1)
        while self._index[slot] != 0 and self._entries[self._index[slot] - 1].fingerprint != fingerprint:
            slot = (slot + 1) & (self._slots - 1)
        return slot

    @cython.overflowcheck(False)
    cdef void _unlink(self, uint64_t fingerprint) noexcept nogil:
        cdef size_t last = self._slots - 1
        cdef size_t gap = self._find_slot(fingerprint)
        cdef size_t slot = gap
        cdef size_t home
        while True:
            slot = (slot + 1) & last
            if self._index[slot] == 0:
                break
            # A place may move back into the gap unless its home lies after the gap, around the end or not.
            home = <size_t>self._entries[self._index[slot] - 1].fingerprint & last
            if ((slot - home) & last) >= ((slot - gap) & last):
                self._index[gap] = self._index[slot]
                gap = slot
        self._index[gap] = 0

    cdef bytes _page(self, Py_ssize_t number):
        cdef bytes page = PyBytes_FromStringAndSize(NULL, PAGE_BYTES)
        cdef char* data = PyBytes_AS_STRING(page)
        cdef PageHeader header
        header.created = self._created
        header.capacity = <uint32_t>self.capacity
        header.number = <uint32_t>number
        memcpy(data, &header, HEADER_BYTES)
        memcpy(data + HEADER_BYTES, &self._entries[number * ENTRIES_PER_PAGE], ENTRIES_PER_PAGE * ENTRY_BYTES)
        return page

    cdef inline int _require_restored(self) except -1:
        if self._is_restoring:
            raise RuntimeError("the restore is not finished: finish_restore() comes first")
        return 0

    cdef int _require_whole(self) except -1:
        """Refuse a restore unless there is a page for each entry, and nothing beyond them."""
        cdef Py_ssize_t needed = (self._held() + ENTRIES_PER_PAGE - 1) // ENTRIES_PER_PAGE
        cdef Py_ssize_t number, at
        cdef Entry empty
        cdef str fault
        memset(&empty, 0, sizeof(Entry))
        for number in range(self._pages):
            if (self._page_states[number] == RESTORED) != (number < needed):
                fault = "missing" if number < needed else "too many"
                raise ValueError(f"page {number} is {fault}: there were {self._held()} entries")
        for at in range(self._held(), needed * ENTRIES_PER_PAGE):
            if memcmp(&self._entries[at], &empty, sizeof(Entry)) != 0:
                raise ValueError(f"entry {at} is there, but there were {self._held()}")
        return 0

    cdef int _rebuild_index(self) except -1:
        cdef Py_ssize_t at
        cdef size_t slot
        for at in range(self._held()):
            slot = self._find_slot(self._entries[at].fingerprint)
            if self._index[slot] != 0:
                raise ValueError(f"entries {self._index[slot] - 1} and {at} are of the same message")
            self._index[slot] = <uint32_t>(at + 1)
        return 0

    cdef void _clear(self) noexcept nogil:
        memset(self._entries, 0, self._pages * ENTRIES_PER_PAGE * sizeof(Entry))
        memset(self._index, 0, self._slots * sizeof(uint32_t))
        memset(self._page_states, CLEAN, self._pages)
        self._created = 0
        self._restored_created = 0
        self._is_restoring = False
