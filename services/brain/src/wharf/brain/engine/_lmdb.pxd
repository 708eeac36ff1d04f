# cython: language_level=3
"""liblmdb's own declarations, and the environment, shared by the reading and the committing half of the binding."""


from libc.stdint cimport uint64_t


cdef enum:
    MAX_KEY = 511
    TABLES = 4
    META = 0


cdef extern from "lmdb.h" nogil:
    ctypedef struct MDB_env:
        pass
    ctypedef struct MDB_txn:
        pass
    ctypedef struct MDB_cursor:
        pass
    ctypedef unsigned int MDB_dbi
    ctypedef struct MDB_val:
        size_t mv_size
        void* mv_data
    ctypedef struct MDB_stat:
        unsigned int ms_psize
        unsigned int ms_depth
        size_t ms_branch_pages
        size_t ms_leaf_pages
        size_t ms_overflow_pages
        size_t ms_entries
    ctypedef struct MDB_envinfo:
        size_t me_mapsize
        size_t me_last_pgno
        size_t me_last_txnid
    ctypedef enum MDB_cursor_op:
        MDB_FIRST, MDB_LAST, MDB_NEXT, MDB_PREV, MDB_SET_RANGE
    unsigned int MDB_RDONLY, MDB_NOTLS, MDB_NOSYNC, MDB_NOSUBDIR, MDB_NOLOCK, MDB_CREATE, MDB_APPEND, MDB_CP_COMPACT
    int MDB_NOTFOUND, MDB_KEYEXIST, MDB_MAP_FULL, MDB_MAP_RESIZED, MDB_CORRUPTED, MDB_PANIC, MDB_INVALID
    int MDB_VERSION_MISMATCH, MDB_PAGE_NOTFOUND
    char* mdb_strerror(int err)
    int mdb_env_create(MDB_env** env)
    int mdb_env_open(MDB_env* env, const char* path, unsigned int flags, unsigned int mode)
    void mdb_env_close(MDB_env* env)
    int mdb_env_copyfd2(MDB_env* env, int fd, unsigned int flags)
    int mdb_env_sync(MDB_env* env, int force)
    int mdb_env_info(MDB_env* env, MDB_envinfo* info)
    int mdb_env_stat(MDB_env* env, MDB_stat* stat)
    int mdb_env_get_fd(MDB_env* env, int* fd)
    int mdb_env_get_maxkeysize(MDB_env* env)
    int mdb_env_set_mapsize(MDB_env* env, size_t size)
    int mdb_env_set_maxreaders(MDB_env* env, unsigned int readers)
    int mdb_env_set_maxdbs(MDB_env* env, MDB_dbi dbs)
    int mdb_txn_begin(MDB_env* env, MDB_txn* parent, unsigned int flags, MDB_txn** txn)
    int mdb_txn_commit(MDB_txn* txn)
    void mdb_txn_abort(MDB_txn* txn)
    void mdb_txn_reset(MDB_txn* txn)
    size_t mdb_txn_id(MDB_txn* txn)
    int mdb_txn_renew(MDB_txn* txn)
    int mdb_dbi_open(MDB_txn* txn, const char* name, unsigned int flags, MDB_dbi* dbi)
    int mdb_stat(MDB_txn* txn, MDB_dbi dbi, MDB_stat* stat)
    int mdb_get(MDB_txn* txn, MDB_dbi dbi, MDB_val* key, MDB_val* data)
    int mdb_put(MDB_txn* txn, MDB_dbi dbi, MDB_val* key, MDB_val* data, unsigned int flags)
    int mdb_del(MDB_txn* txn, MDB_dbi dbi, MDB_val* key, MDB_val* data)
    int mdb_cursor_open(MDB_txn* txn, MDB_dbi dbi, MDB_cursor** cursor)
    void mdb_cursor_close(MDB_cursor* cursor)
    int mdb_cursor_get(MDB_cursor* cursor, MDB_val* key, MDB_val* data, MDB_cursor_op op)


cdef class Env:
    cdef MDB_env* env
    cdef MDB_dbi dbis[TABLES]
    cdef int fd
    cdef size_t page
    cdef readonly str path


cdef class ReadTxn:
    cdef readonly Env env
    cdef MDB_txn* txn
    cdef readonly bint live
    cdef readonly bint busy  # inside a call that has let go of the GIL
    cdef readonly uint64_t revision
    cdef read_revision(self)
    cdef int ready(self) except -1
    cdef MDB_dbi table(self, int number) except? 0


cdef int seek(MDB_cursor* cursor, const char* low, size_t low_len, MDB_val* k, MDB_val* v) noexcept nogil
cdef int compare(const void* a, size_t a_len, const void* b, size_t b_len) noexcept nogil
