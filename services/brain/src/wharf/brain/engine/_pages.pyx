# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Whether a file's pages form the trees they claim to, looked at before liblmdb does.

liblmdb trusts its file: a page number beyond the end or a node outside its page ends the process. This walk follows every branch
of every table with bounds checked, every leaf of the tables it is told to check whole, and reports the first thing that is wrong.
It knows the layout of LMDB 0.9's data version 1 on a little-endian 64-bit machine.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    HEADER = 16  # bytes before a page's node offsets
    NODE = 8  # bytes before a node's key
    BRANCH = 0x01
    LEAF = 0x02
    OVERFLOW = 0x04
    BIG_DATA = 0x01
    SUB_DATA = 0x02
    MOST_DEPTH = 32
    TABLE_RECORD = 48

cdef uint64_t NO_ROOT = <uint64_t> -1


class BadPage(ValueError):
    """What is wrong, and where."""


cdef class Checker:
    cdef const uint8_t[::1] data
    cdef size_t page_size
    cdef uint64_t pages
    cdef uint8_t[::1] seen
    cdef uint64_t leaves
    cdef uint64_t entries

    def __init__(self, const uint8_t[::1] data, size_t page_size, uint64_t pages):
        self.data, self.page_size, self.pages = data, page_size, pages
        self.seen = bytearray(pages)

    cdef const uint8_t* page(self, uint64_t number, int flags) except NULL:
        """The page of that number, checked to be what is expected and not part of another tree."""
        cdef const uint8_t* page
        cdef uint64_t held
        cdef uint16_t kind
        if number < 2 or number >= self.pages:
            raise BadPage(f"page {number} is referred to, {self.pages} exist")
        if self.seen[number]:
            raise BadPage(f"page {number} is used twice")
        self.seen[number] = 1
        page = &self.data[number * self.page_size]
        memcpy(&held, page, 8)
        memcpy(&kind, page + 10, 2)
        if held != number or (kind & (BRANCH | LEAF | OVERFLOW)) != flags:
            raise BadPage(f"page {number} holds something else")
        return page

    cdef int count_of(self, const uint8_t* page, uint64_t number) except -1:
        """Nodes of a page."""
        cdef uint16_t lower, upper
        memcpy(&lower, page + 12, 2)
        memcpy(&upper, page + 14, 2)
        if lower < HEADER or lower > upper or upper > self.page_size or lower & 1:
            raise BadPage(f"page {number} has impossible bounds")
        return (lower - HEADER) >> 1

    cdef const uint8_t* node(self, const uint8_t* page, uint64_t number, int at) except NULL:
        cdef uint16_t offset, key_size
        memcpy(&offset, page + HEADER + 2 * at, 2)
        if offset < HEADER or offset + NODE > self.page_size:
            raise BadPage(f"page {number} has a node outside itself")
        memcpy(&key_size, page + offset + 6, 2)
        if offset + NODE + key_size > self.page_size:
            raise BadPage(f"page {number} has a key outside itself")
        return page + offset

    cdef int walk(self, uint64_t number, int depth, bint whole) except -1:
        """The tree under a page that has `depth` levels; leaves are looked into if `whole`."""
        cdef const uint8_t* page
        cdef const uint8_t* node
        cdef uint16_t lo, hi, top
        cdef int at, count
        if depth == 1:
            self.leaves += 1
            if whole:
                self.walk_leaf(number)
            elif number < 2 or number >= self.pages:
                raise BadPage(f"page {number} is referred to, {self.pages} exist")
            return 0
        page = self.page(number, BRANCH)
        count = self.count_of(page, number)
        if count < 1:
            raise BadPage(f"page {number} branches nowhere")
        for at in range(count):
            node = self.node(page, number, at)
            memcpy(&lo, node, 2)
            memcpy(&hi, node + 2, 2)
            memcpy(&top, node + 4, 2)
            self.walk(lo | <uint64_t> hi << 16 | <uint64_t> top << 32, depth - 1, whole)
        return 0

    cdef int walk_leaf(self, uint64_t number) except -1:
        cdef const uint8_t* page = self.page(number, LEAF)
        cdef int at
        for at in range(self.count_of(page, number)):
            self.entries += 1
            self.check_value(page, number, at)
        return 0

    cdef int check_value(self, const uint8_t* page, uint64_t number, int at) except -1:
        cdef const uint8_t* node = self.node(page, number, at)
        cdef uint16_t lo, hi, flags, key_size
        cdef uint32_t held
        cdef uint64_t size, first, needed, i
        memcpy(&lo, node, 2)
        memcpy(&hi, node + 2, 2)
        memcpy(&flags, node + 4, 2)
        memcpy(&key_size, node + 6, 2)
        size = lo | <uint64_t> hi << 16
        if not flags & BIG_DATA:
            if <size_t> (node - page) + NODE + key_size + size > self.page_size:
                raise BadPage(f"page {number} has a value outside itself")
            return 0
        if <size_t> (node - page) + NODE + key_size + 8 > self.page_size:
            raise BadPage(f"page {number} has a value outside itself")
        memcpy(&first, node + NODE + key_size, 8)
        page = self.page(first, OVERFLOW)
        memcpy(&held, page + 12, 4)
        needed = (HEADER + size + self.page_size - 1) / self.page_size
        if held < needed or first + held > self.pages:
            raise BadPage(f"page {first} is too short for its value")
        for i in range(1, held):
            if self.seen[first + i]:
                raise BadPage(f"page {first + i} is used twice")
            self.seen[first + i] = 1
        return 0

    cdef int check_table(self, const uint8_t* record, str name, bint whole) except -1:
        """A table from its 48-byte record."""
        cdef uint16_t depth
        cdef uint64_t leaves, entries, root
        memcpy(&depth, record + 6, 2)
        memcpy(&leaves, record + 16, 8)
        memcpy(&entries, record + 32, 8)
        memcpy(&root, record + 40, 8)
        if root == NO_ROOT:
            return 0
        if not 0 < depth <= MOST_DEPTH:
            raise BadPage(f"table {name} has {depth} levels")
        self.leaves = self.entries = 0
        self.walk(root, depth, whole)
        if self.leaves != leaves or (whole and self.entries != entries):
            raise BadPage(f"table {name} has {self.leaves} leaves and {self.entries} entries, not {leaves} and {entries}")
        return 0

    def check_tables(self, uint64_t root, whole):
        """Every table named in the main tree's one leaf; those in `whole` (None: all) to the last leaf."""
        cdef const uint8_t* page = self.page(root, LEAF)
        cdef const uint8_t* node
        cdef uint16_t flags, key_size
        cdef uint32_t size
        cdef int at
        for at in range(self.count_of(page, root)):
            self.check_value(page, root, at)
            node = self.node(page, root, at)
            memcpy(&size, node, 4)
            memcpy(&flags, node + 4, 2)
            memcpy(&key_size, node + 6, 2)
            if not flags & SUB_DATA or size != TABLE_RECORD:
                raise BadPage("the list of tables holds something else")
            name = (<const char*> node + NODE)[:key_size]
            self.check_table(node + NODE + key_size, name.decode(errors="replace"), whole is None or name in whole)

    def check_free_list(self, const uint8_t[::1] record):
        self.check_table(&record[0], "of free pages", True)


def check_pages(const uint8_t[::1] data, size_t page_size, uint64_t pages, bytes free_record, bytes main_record, whole):
    """BadPage when the file's trees are not sound. `whole`: tables whose leaves are checked too; None: all."""
    cdef Checker checker = Checker(data, page_size, pages)
    cdef uint64_t root
    cdef uint16_t depth
    checker.check_free_list(free_record)
    root = int.from_bytes(main_record[40:48], "little")
    depth = int.from_bytes(main_record[6:8], "little")
    if root == NO_ROOT or depth != 1:
        raise BadPage("there is no list of tables")
    checker.check_tables(root, whole)
