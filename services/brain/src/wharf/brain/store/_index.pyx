# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The ordered set of live keys, with ranks: how many keys lie in a range is known without walking it.

Keys are kept as Python bytes in blocks of up to `CAPACITY`, the blocks' sizes in a Fenwick tree: finding a place is two binary
searches, a rank adds O(log n). Blocks split when full and go away when empty. Invariant: keys ascend strictly, no block is empty.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memmove

cdef enum:
    CAPACITY = 256
    FILL = 192  # of a block built in bulk
    WALK = 512  # keys an iterator takes at once


cdef struct Block:
    Py_ssize_t count
    PyObject* keys[CAPACITY]


cdef inline int compare(PyObject* a, const char* b, Py_ssize_t b_len) noexcept:
    cdef Py_ssize_t a_len = PyBytes_GET_SIZE(<object> a)
    cdef int order = memcmp(PyBytes_AS_STRING(<object> a), b, a_len if a_len < b_len else b_len)
    if order != 0:
        return order
    return -1 if a_len < b_len else (1 if a_len > b_len else 0)


cdef class Index:
    """An ordered set of bytes. `add` and `discard` say whether they changed it."""

    cdef Block** blocks
    cdef Py_ssize_t* tree  # Fenwick tree over block counts, from 1
    cdef Py_ssize_t used
    cdef Py_ssize_t room
    cdef Py_ssize_t total

    def __cinit__(self):
        self.grow(16)

    def __dealloc__(self):
        cdef Py_ssize_t i, j
        for i in range(self.used):
            for j in range(self.blocks[i].count):
                Py_DECREF(<object> self.blocks[i].keys[j])
            free(self.blocks[i])
        free(self.blocks)
        free(self.tree)

    def __len__(self):
        return self.total

    def __contains__(self, bytes key not None):
        cdef Py_ssize_t block, at
        return self.locate(key, &block, &at)

    cpdef bint add(self, bytes key) except -1:
        cdef Py_ssize_t number, at
        cdef Block* block
        if self.locate(key, &number, &at):
            return False
        if self.used == 0:
            self.insert_block(0)
            self.rebuild()
        elif self.blocks[number].count == CAPACITY:
            self.split(number)
            if at > self.blocks[number].count:
                at -= self.blocks[number].count
                number += 1
        block = self.blocks[number]
        memmove(&block.keys[at + 1], &block.keys[at], (block.count - at) * sizeof(PyObject*))
        Py_INCREF(key)
        block.keys[at] = <PyObject*> key
        block.count += 1
        self.total += 1
        self.adjust(number, 1)
        return True

    cpdef bint discard(self, bytes key) except -1:
        cdef Py_ssize_t number, at
        cdef Block* block
        if not self.locate(key, &number, &at):
            return False
        block = self.blocks[number]
        Py_DECREF(<object> block.keys[at])
        block.count -= 1
        memmove(&block.keys[at], &block.keys[at + 1], (block.count - at) * sizeof(PyObject*))
        self.total -= 1
        if block.count == 0:
            free(block)
            self.used -= 1
            memmove(&self.blocks[number], &self.blocks[number + 1], (self.used - number) * sizeof(Block*))
            self.rebuild()
        else:
            self.adjust(number, -1)
            if block.count < CAPACITY / 8:
                self.merge(number)
        return True

    def extend(self, keys):
        """Append keys that ascend and lie above everything held; ValueError otherwise."""
        cdef Block* block
        cdef bytes key
        try:
            for key in keys:
                block = self.blocks[self.used - 1] if self.used else NULL
                if block != NULL and compare(block.keys[block.count - 1], PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)) >= 0:
                    raise ValueError("keys do not ascend")
                if block == NULL or block.count >= FILL:
                    self.insert_block(self.used)
                    block = self.blocks[self.used - 1]
                Py_INCREF(key)
                block.keys[block.count] = <PyObject*> key
                block.count += 1
                self.total += 1
        finally:
            self.rebuild()

    cpdef Py_ssize_t rank(self, bytes key) except -1:
        """How many keys are smaller."""
        cdef Py_ssize_t number, at, before = 0
        self.locate(key, &number, &at)
        before = at
        while number > 0:
            before += self.tree[number]
            number -= number & -number
        return before

    cpdef Py_ssize_t count(self, bytes start, end) except -1:
        """Keys with start <= key < end; end None: no upper bound."""
        cdef Py_ssize_t low, high
        if not self.total:
            return 0
        low = self.rank(start) if start else 0
        high = self.total if end is None else self.rank(end)
        return high - low if high > low else 0

    def slice(self, bytes start, end, Py_ssize_t limit, bint reverse=False):
        """Up to `limit` keys of start <= key < end, from the low end or, reversed, from the high end."""
        cdef Py_ssize_t number, at
        cdef PyObject* key
        cdef list found = []
        if not self.total:
            return found
        if reverse:
            if end is None:
                number, at = self.used - 1, self.blocks[self.used - 1].count
            else:
                self.locate(end, &number, &at)
            while len(found) < limit:
                if at == 0:
                    if number == 0:
                        break
                    number -= 1
                    at = self.blocks[number].count
                at -= 1
                key = self.blocks[number].keys[at]
                if compare(key, PyBytes_AS_STRING(start), PyBytes_GET_SIZE(start)) < 0:
                    break
                found.append(<object> key)
            return found
        self.locate(start, &number, &at)
        while number < self.used and len(found) < limit:
            if at == self.blocks[number].count:
                number, at = number + 1, 0
                continue
            key = self.blocks[number].keys[at]
            if end is not None and compare(key, PyBytes_AS_STRING(end), PyBytes_GET_SIZE(end)) >= 0:
                break
            found.append(<object> key)
            at += 1
        return found

    def keys(self, bytes start=b"", end=None, bint reverse=False):
        """Iterate over a range; keys added or removed behind the iterator do not matter to it."""
        while True:
            found = self.slice(start, end, WALK, reverse)
            yield from found
            if len(found) < WALK:
                return
            if reverse:
                end = found[WALK - 1]
            else:
                start = found[WALK - 1] + b"\0"

    cdef bint locate(self, bytes key, Py_ssize_t* number, Py_ssize_t* at) except -1:
        """Where `key` is (True) or would go (False): block and place; the block's own end at most."""
        cdef const char* wanted = PyBytes_AS_STRING(key)
        cdef Py_ssize_t length = PyBytes_GET_SIZE(key)
        cdef Py_ssize_t low = 0, high = self.used, middle
        cdef int order
        cdef Block* block
        number[0] = at[0] = 0
        if self.used == 0:
            return False
        while high - low > 1:
            middle = (low + high) / 2
            if compare(self.blocks[middle].keys[0], wanted, length) <= 0:
                low = middle
            else:
                high = middle
        number[0] = low
        block = self.blocks[low]
        low, high = 0, block.count
        while low < high:
            middle = (low + high) / 2
            order = compare(block.keys[middle], wanted, length)
            if order == 0:
                at[0] = middle
                return True
            if order < 0:
                low = middle + 1
            else:
                high = middle
        at[0] = low
        return False

    cdef int grow(self, Py_ssize_t room) except -1:
        cdef Block** blocks = <Block**> realloc(self.blocks, room * sizeof(Block*))
        if blocks == NULL:
            raise MemoryError
        self.blocks = blocks
        cdef Py_ssize_t* tree = <Py_ssize_t*> realloc(self.tree, (room + 1) * sizeof(Py_ssize_t))
        if tree == NULL:
            raise MemoryError
        self.tree, self.room = tree, room
        return 0

    cdef int insert_block(self, Py_ssize_t number) except -1:
        """An empty block at `number`; the tree is left to the caller."""
        if self.used == self.room:
            self.grow(self.room * 2)
        cdef Block* block = <Block*> malloc(sizeof(Block))
        if block == NULL:
            raise MemoryError
        block.count = 0
        memmove(&self.blocks[number + 1], &self.blocks[number], (self.used - number) * sizeof(Block*))
        self.blocks[number] = block
        self.used += 1
        return 0

    cdef int split(self, Py_ssize_t number) except -1:
        """Halve a full block; the last one keeps most, for keys that arrive in order."""
        cdef Py_ssize_t keep = CAPACITY / 2 if number < self.used - 1 else CAPACITY - CAPACITY / 8
        self.insert_block(number + 1)
        cdef Block* left = self.blocks[number]
        cdef Block* right = self.blocks[number + 1]
        memmove(&right.keys[0], &left.keys[keep], (CAPACITY - keep) * sizeof(PyObject*))
        left.count, right.count = keep, CAPACITY - keep
        self.rebuild()
        return 0

    cdef void merge(self, Py_ssize_t number) noexcept:
        """Join a nearly empty block to a neighbour with room."""
        cdef Py_ssize_t left = number if number + 1 < self.used else number - 1
        cdef Block* a
        cdef Block* b
        if left < 0:
            return
        a, b = self.blocks[left], self.blocks[left + 1]
        if a.count + b.count > FILL:
            return
        memmove(&a.keys[a.count], &b.keys[0], b.count * sizeof(PyObject*))
        a.count += b.count
        free(b)
        self.used -= 1
        memmove(&self.blocks[left + 1], &self.blocks[left + 2], (self.used - left - 1) * sizeof(Block*))
        self.rebuild()

    cdef void adjust(self, Py_ssize_t number, Py_ssize_t by) noexcept:
        number += 1
        while number <= self.used:
            self.tree[number] += by
            number += number & -number

    cdef void rebuild(self) noexcept:
        cdef Py_ssize_t i, parent
        for i in range(1, self.used + 1):
            self.tree[i] = self.blocks[i - 1].count
        for i in range(1, self.used + 1):
            parent = i + (i & -i)
            if parent <= self.used:
                self.tree[parent] += self.tree[i]
