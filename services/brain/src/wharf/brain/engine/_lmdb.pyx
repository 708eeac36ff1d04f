# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A binding of just what brain's engine needs from liblmdb: the environment and read transactions.

Owns the pointers; what an error means is decided in `lmdb.py`. Writing is in `_commit.pyx`.

Invariants: a `ReadTxn` is used by one thread at a time and keeps its `Env` alive; pointers into the map never outlive the call
that read them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy

import os


cdef enum:
    CHUNK_PAIRS = 256
    CHUNK_BYTES = 1048576

NOT_FOUND = MDB_NOTFOUND
MAP_FULL = MDB_MAP_FULL
CORRUPT = (MDB_CORRUPTED, MDB_INVALID, MDB_VERSION_MISMATCH, MDB_PAGE_NOTFOUND)
PANIC = MDB_PANIC

cdef const char* REVISION_KEY = b"revision"
cdef const char* EPOCH_KEY = b"epoch"


class LmdbError(Exception):
    """A code from liblmdb or errno (`code`), with its text."""

    def __init__(self, code, what):
        self.code = code
        super().__init__(f"{what}: {describe(code)}")


def describe(int code):
    """liblmdb's text for a code."""
    return mdb_strerror(code).decode(errors="replace")


cdef inline int check(int rc, str what) except -1:
    if rc != 0:
        raise LmdbError(rc, what)
    return 0


cdef inline uint64_t load_be64(const void* data) noexcept nogil:
    cdef const unsigned char* p = <const unsigned char*> data
    cdef uint64_t number = 0
    cdef int i
    for i in range(8):
        number = number << 8 | p[i]
    return number


cdef inline void store_be64(unsigned char* p, uint64_t number) noexcept nogil:
    cdef int i
    for i in range(8):
        p[7 - i] = number & 0xFF
        number >>= 8


cdef int compare(const void* a, size_t a_len, const void* b, size_t b_len) noexcept nogil:
    cdef int order = memcmp(a, b, a_len if a_len < b_len else b_len)
    if order != 0:
        return order
    return -1 if a_len < b_len else (1 if a_len > b_len else 0)


cdef inline int varint_length(size_t number) noexcept nogil:
    cdef int n = 1
    while number > 0x7F:
        number >>= 7
        n += 1
    return n


cdef inline unsigned char* put_varint(unsigned char* p, size_t number) noexcept nogil:
    while number > 0x7F:
        p[0] = number & 0x7F | 0x80
        p += 1
        number >>= 7
    p[0] = <unsigned char> number
    return p + 1


cdef extern from "sys/mman.h" nogil:
    int MADV_DONTNEED
    int madvise(void* start, size_t length, int advice)


cdef extern from "lmdb.h" nogil:
    int mdb_reader_check(MDB_env* env, int* dead)


cdef int put_meta(
    MDB_txn* txn, MDB_dbi dbi, const void* name, size_t name_length, const void* value, size_t length
) noexcept nogil:
    cdef MDB_val key, data
    key.mv_data, key.mv_size = <void*> name, name_length
    data.mv_data, data.mv_size = <void*> value, length
    return mdb_put(txn, dbi, &key, &data, 0)


cdef class Env:
    """An open LMDB file with the four tables. Closed when the last transaction on it is gone."""

    def __cinit__(self, str path, names, size_t map_size, unsigned int max_readers, bint sync, bint create, bint still=False, bint follow=False):
        """Opens `path` (one file; its lock is `path`-lock). `create`: make the file and the tables `names` when absent.

        `still`: nobody writes the file meanwhile; it is only read, and no lock is made. `follow`: another process writes it.
        """
        cdef MDB_txn* txn = NULL
        cdef int rc, i
        cdef MDB_stat stat
        cdef bytes raw = os.fsencode(path)
        cdef unsigned int flags = MDB_NOTLS | MDB_NOSUBDIR | (0 if sync else MDB_NOSYNC)
        if still:
            flags |= MDB_RDONLY | MDB_NOLOCK
        elif follow:
            flags |= MDB_RDONLY
        self.path = path
        if not create and not os.path.exists(path):
            raise FileNotFoundError(path)
        check(mdb_env_create(&self.env), "creating the environment")
        check(mdb_env_set_maxdbs(self.env, TABLES), "setting the number of tables")
        check(mdb_env_set_maxreaders(self.env, max_readers), "setting the number of readers")
        check(mdb_env_set_mapsize(self.env, map_size), "setting the map size")
        check(mdb_env_open(self.env, raw, flags, 0o600), f"opening {path}")
        mdb_env_get_fd(self.env, &self.fd)
        mdb_env_stat(self.env, &stat)
        self.page = stat.ms_psize
        check(mdb_txn_begin(self.env, NULL, 0 if create else MDB_RDONLY, &txn), f"reading {path}")
        for i in range(TABLES):
            rc = mdb_dbi_open(txn, names[i], MDB_CREATE if create else 0, &self.dbis[i])
            if rc != 0:
                mdb_txn_abort(txn)
                raise LmdbError(rc, f"opening table {names[i].decode()} of {path}")
        check(mdb_txn_commit(txn), f"opening the tables of {path}")

    def __dealloc__(self):
        if self.env != NULL:
            mdb_env_close(self.env)

    def info(self):
        """(map size, pages up to the last one used, page size)."""
        cdef MDB_envinfo info
        mdb_env_info(self.env, &info)
        return info.me_mapsize, info.me_last_pgno + 1, self.page

    def initialise(self, bytes form, uint64_t revision):
        """The first records of a new store."""
        cdef MDB_txn* txn = NULL
        cdef unsigned char number[8]
        cdef int rc = mdb_txn_begin(self.env, NULL, 0, &txn)
        check(rc, "initialising")
        rc = put_meta(txn, self.dbis[META], b"format", 6, PyBytes_AS_STRING(form), PyBytes_GET_SIZE(form))
        store_be64(number, revision)
        if rc == 0:
            rc = put_meta(txn, self.dbis[META], REVISION_KEY, 8, number, 8)
        store_be64(number, 0)
        if rc == 0:
            rc = put_meta(txn, self.dbis[META], EPOCH_KEY, 5, number, 8)
        if rc != 0:
            mdb_txn_abort(txn)
            raise LmdbError(rc, "initialising")
        check(mdb_txn_commit(txn), "initialising")

    def copy(self, str path, bint compact):
        """A consistent copy into a new private file; blocks without the GIL, writers go on. LmdbError."""
        cdef int fd, rc
        try:  # LMDB would create the file with the umask's mode
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LmdbError(error.errno, f"copying to {path}") from error
        try:
            os.fchmod(fd, 0o600)
            with nogil:
                rc = mdb_env_copyfd2(self.env, fd, MDB_CP_COMPACT if compact else 0)
        finally:
            os.close(fd)
        check(rc, f"copying to {path}")

    def sync(self):
        cdef int rc
        with nogil:
            rc = mdb_env_sync(self.env, 1)
        check(rc, "syncing")

    def raise_epoch(self):
        """Epoch + 1, durable; blocking."""
        cdef MDB_txn* txn = NULL
        cdef MDB_val key, data
        cdef unsigned char number[8]
        cdef uint64_t epoch = 1
        check(mdb_txn_begin(self.env, NULL, 0, &txn), "raising the epoch")
        key.mv_size, key.mv_data = 5, <void*> EPOCH_KEY
        if mdb_get(txn, self.dbis[META], &key, &data) == 0 and data.mv_size == 8:
            epoch = load_be64(data.mv_data) + 1
        store_be64(number, epoch)
        cdef int rc = put_meta(txn, self.dbis[META], EPOCH_KEY, 5, number, 8)
        if rc != 0:
            mdb_txn_abort(txn)
            raise LmdbError(rc, "raising the epoch")
        check(mdb_txn_commit(txn), "raising the epoch")
        return epoch

    def forget_dead_readers(self):
        """Free what readers in processes that are over still hold; how many there were."""
        cdef int dead = 0
        check(mdb_reader_check(self.env, &dead), "looking for dead readers")
        return dead

    def let_go(self):
        """Unmap what was read of the file from this process's memory; it stays in the system's cache and comes back when read."""
        cdef MDB_envinfo info
        mdb_env_info(self.env, &info)
        cdef size_t used = (info.me_last_pgno + 1) * self.page
        cdef size_t start, end
        inode, name = str(os.fstat(self.fd).st_ino), os.path.basename(self.path)
        with open("/proc/self/maps") as maps:
            for line in maps:
                fields = line.split()
                if fields[4] == inode and os.path.basename(fields[5]) == name:
                    start, end = (int(bound, 16) for bound in fields[0].split("-"))
                    madvise(<void*> start, min(end - start, used), MADV_DONTNEED)

    def free_pages(self):
        """Pages on the free list (some may still be read by open snapshots)."""
        cdef MDB_txn* txn = NULL
        cdef MDB_cursor* cursor = NULL
        cdef MDB_val key, data
        cdef size_t pages = 0
        check(mdb_txn_begin(self.env, NULL, MDB_RDONLY, &txn), "reading the free list")
        cdef int rc = mdb_cursor_open(txn, 0, &cursor)
        if rc == 0:
            while mdb_cursor_get(cursor, &key, &data, MDB_NEXT) == 0:
                pages += (<size_t*> data.mv_data)[0]
            mdb_cursor_close(cursor)
        mdb_txn_abort(txn)
        check(rc, "reading the free list")
        return pages


include "_span.pxi"


cdef class ReadTxn:
    """A read transaction and the primitives of a snapshot. `reset` parks it cheaply, `renew` moves it to the newest state."""

    def __cinit__(self, Env env, *args):
        self.env = env
        check(mdb_txn_begin(env.env, NULL, MDB_RDONLY, &self.txn), "opening a snapshot")
        self.live = True
        self.read_revision()

    def __dealloc__(self):
        if self.txn != NULL:
            mdb_txn_abort(self.txn)

    cdef read_revision(self):
        cdef MDB_val key, data
        key.mv_size, key.mv_data = 8, <void*> REVISION_KEY
        if mdb_get(self.txn, self.env.dbis[META], &key, &data) == 0 and data.mv_size == 8:
            self.revision = load_be64(data.mv_data)
        else:
            self.revision = 0

    def number(self):
        """Of the committed transaction whose state this is; grows with each, within one file."""
        self.ready()
        return mdb_txn_id(self.txn)

    def newest(self):
        """Whether this still is the newest committed state."""
        cdef MDB_envinfo info
        mdb_env_info(self.env.env, &info)
        return self.live and mdb_txn_id(self.txn) == info.me_last_txnid

    def renew(self):
        """Move to the newest committed state."""
        self.reset()
        check(mdb_txn_renew(self.txn), "renewing a snapshot")
        self.live = True
        self.read_revision()

    def reset(self):
        """Let go of the state; cheap to renew."""
        if self.live:
            mdb_txn_reset(self.txn)
            self.live = False

    def close(self):
        if self.txn != NULL and not self.busy:
            mdb_txn_abort(self.txn)
            self.txn, self.live = NULL, False

    cdef int ready(self) except -1:
        if not self.live:
            raise ValueError("snapshot is closed")
        return 0

    cdef MDB_dbi table(self, int number) except? 0:
        if not 0 <= number < TABLES:
            raise ValueError("no such table")
        return self.env.dbis[number]

    def get(self, int table, bytes key not None):
        cdef MDB_val k, v
        self.ready()
        k.mv_size, k.mv_data = PyBytes_GET_SIZE(key), PyBytes_AS_STRING(key)
        if k.mv_size == 0 or k.mv_size > MAX_KEY:
            return None
        cdef int rc = mdb_get(self.txn, self.table(table), &k, &v)
        if rc == MDB_NOTFOUND:
            return None
        check(rc, "reading")
        return PyBytes_FromStringAndSize(<char*> v.mv_data, v.mv_size)

    def entries(self, int table):
        """How many records the table holds."""
        cdef MDB_stat stat
        self.ready()
        check(mdb_stat(self.txn, self.table(table), &stat), "reading")
        return stat.ms_entries

    def chunk(self, int table, bytes start, end, bint reverse, size_t limit):
        """Up to `limit` (0: a bounded number of) pairs of start <= key < end, from the low end or, reversed, from the high end."""
        cdef MDB_cursor* cursor = NULL
        cdef MDB_val k, v
        cdef size_t taken = 0
        cdef size_t size = 0
        cdef size_t most = limit if 0 < limit < CHUNK_PAIRS else CHUNK_PAIRS
        cdef const char* low = PyBytes_AS_STRING(start)
        cdef size_t low_len = PyBytes_GET_SIZE(start)
        cdef const char* high = NULL
        cdef size_t high_len = 0
        self.ready()
        if end is not None:
            high, high_len = PyBytes_AS_STRING(end), PyBytes_GET_SIZE(end)
        pairs = []
        check(mdb_cursor_open(self.txn, self.table(table), &cursor), "reading")
        cdef int rc
        try:
            if reverse:
                rc = seek_below(cursor, high, high_len, &k, &v)
            else:
                rc = seek(cursor, low, low_len, &k, &v)
            while rc == 0 and taken < most and size < CHUNK_BYTES:
                if reverse:
                    if compare(k.mv_data, k.mv_size, low, low_len) < 0:
                        rc = MDB_NOTFOUND
                        break
                elif high != NULL and compare(k.mv_data, k.mv_size, high, high_len) >= 0:
                    rc = MDB_NOTFOUND
                    break
                pairs.append(
                    (
                        PyBytes_FromStringAndSize(<char*> k.mv_data, k.mv_size),
                        PyBytes_FromStringAndSize(<char*> v.mv_data, v.mv_size),
                    )
                )
                taken += 1
                size += k.mv_size + v.mv_size
                rc = mdb_cursor_get(cursor, &k, &v, MDB_PREV if reverse else MDB_NEXT)
        finally:
            mdb_cursor_close(cursor)
        if rc != MDB_NOTFOUND:
            check(rc, "reading")
        return pairs, rc == MDB_NOTFOUND

    def values(self, int table, bytes start, end, size_t limit, size_t max_bytes, int tag):
        """`Snapshot.values` of the engine contract."""
        cdef Span span
        cdef bytes framed
        cdef unsigned char* out
        self.ready()
        open_span(&span, self.txn, self.table(table), start, end, limit, max_bytes)
        try:
            if limit > 4096 or limit == 0:
                self.busy = True
                with nogil:
                    collect(&span, 1)
                self.busy = False
            else:
                collect(&span, 1)
            span_check(&span)
            framed = PyBytes_FromStringAndSize(NULL, span.bytes)
            out = <unsigned char*> PyBytes_AS_STRING(framed)
            if span.bytes > 262144:
                self.busy = True
                with nogil:
                    copy_framed(&span, out, tag)
                self.busy = False
            else:
                copy_framed(&span, out, tag)
            following = None if span.next.mv_data == NULL else (<char*> span.next.mv_data)[: span.next.mv_size]
            return framed, span.count, following
        finally:
            close_span(&span)

    def measure(self, int table, bytes start, end, size_t limit):
        """`Snapshot.measure` of the engine contract."""
        cdef Span span
        self.ready()
        open_span(&span, self.txn, self.table(table), start, end, limit, <size_t> -1)
        try:
            if limit > 4096 or limit == 0:
                self.busy = True
                with nogil:
                    collect(&span, 0)
                self.busy = False
            else:
                collect(&span, 0)
            span_check(&span)
            return span.bytes, span.count
        finally:
            close_span(&span)


def grow_map(Env env, list snapshots, size_t size):
    """Make the map of `env` larger; False when a snapshot of an older state, or one in use by another thread, forbids it.

    Compiled, so that no other Python thread runs in between. Snapshots of the newest state are let go and taken again.
    """
    cdef ReadTxn each
    cdef list held = []
    cdef int rc
    for each in snapshots:
        if each.env is env and each.live:
            if each.busy or not each.newest():
                return False
            held.append(each)
    for each in held:
        each.reset()
    rc = mdb_env_set_mapsize(env.env, size)
    for each in held:
        each.renew()
    return rc == 0
