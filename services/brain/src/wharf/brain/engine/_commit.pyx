# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The committing half of the binding: batches as C structures, written and synced by a thread that never takes the GIL.

A batch is turned into C structures on the loop thread; the commit thread writes, syncs and reports it without Python, so that neither
a busy loop delays a commit nor a commit the loop. What an error means is decided in `lmdb.py`.

Invariant: the environment is touched only between `pause` and `resume` or by the commit thread, never by both.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc

from wharf.brain.engine._lmdb cimport *


cdef extern from "sys/stat.h" nogil:
    struct stat_t "stat":
        long st_size
    int fstat(int fd, stat_t* buf)


cdef extern from "errno.h" nogil:
    int EIO, ENOSPC, EFBIG, EDQUOT


cdef extern from "fcntl.h" nogil:
    int posix_fallocate(int fd, long offset, long length)


cdef extern from "unistd.h" nogil:
    int ftruncate(int fd, long length)
    ssize_t c_write "write"(int fd, const void* buf, size_t count)


cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_init(pthread_mutex_t*, void*)
    int pthread_mutex_destroy(pthread_mutex_t*)
    int pthread_mutex_lock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)
    int pthread_cond_init(pthread_cond_t*, void*)
    int pthread_cond_destroy(pthread_cond_t*)
    int pthread_cond_wait(pthread_cond_t*, pthread_mutex_t*)
    int pthread_cond_broadcast(pthread_cond_t*)


cdef enum:
    LOG = 1
    GROW_STEP = 16777216  # the file is lengthened (sparse) in steps, ahead of use: see lengthen()

cdef enum:
    WRONG_HOLDER = -1000001
    OUTCOME_UNKNOWN = -1000002

FENCED = WRONG_HOLDER
UNKNOWN = OUTCOME_UNKNOWN  # and below: less the errno of the write that failed

cdef const char* REVISION_KEY = b"revision"
cdef const char* EPOCH_KEY = b"epoch"


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


cdef struct Op:
    int table
    MDB_val key
    MDB_val value  # mv_data NULL: delete


cdef struct Job:
    uint64_t epoch
    uint64_t expected
    uint64_t revision
    size_t count
    size_t bytes
    Op* ops
    int rc
    Job* next


cdef Job* make_job(batch) except NULL:
    """C view of a batch; the batch must outlive it, for it points into the batch's bytes."""
    writes = batch.writes
    cdef Py_ssize_t count = len(writes)
    cdef Job* job = <Job*> malloc(sizeof(Job))
    if job == NULL:
        raise MemoryError
    job.ops = NULL
    try:
        job.ops = <Op*> malloc((count if count else 1) * sizeof(Op))
        if job.ops == NULL:
            raise MemoryError
        fill_job(job, batch, writes)
    except BaseException:
        free_job(job)
        raise
    return job


cdef int fill_job(Job* job, batch, writes) except -1:
    cdef Py_ssize_t i = 0
    cdef Op* op
    cdef bytes key, value
    job.epoch, job.expected, job.revision = batch.epoch, batch.expected_revision, batch.revision
    job.bytes, job.rc, job.next = 0, 0, NULL
    for table, k, v in writes:
        op = job.ops + i
        key = k
        op.table = table
        op.key.mv_data, op.key.mv_size = PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)
        if not 0 <= op.table < TABLES or not 0 < op.key.mv_size <= MAX_KEY:
            raise ValueError(f"no such table, or a key of {len(key)} bytes: 1 to {MAX_KEY} are allowed")
        op.value.mv_data, op.value.mv_size = NULL, 0
        if v is not None:
            value = v
            op.value.mv_data, op.value.mv_size = PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)
        job.bytes += op.key.mv_size + op.value.mv_size
        i += 1
    job.count = i
    return 0


cdef void free_job(Job* job) noexcept nogil:
    free(job.ops)
    free(job)


cdef void lengthen(MDB_env* env, int fd, size_t page, Job* job) noexcept nogil:
    """Keep the file longer (sparse) than what the next commit can use.

    A file shorter than its meta page claims is then always a truncated file, which reading through the map would answer with
    SIGBUS; and a commit rarely has to sync a changed file size. Failing is fine: the commit finds out by itself.
    """
    cdef MDB_envinfo info
    cdef stat_t stat
    mdb_env_info(env, &info)
    cdef size_t need = (info.me_last_pgno + 1) * page + 4 * (job.bytes + job.count * page) + 1048576
    if fstat(fd, &stat) == 0 and <size_t> stat.st_size < need:
        ftruncate(fd, (need / GROW_STEP + 1) * GROW_STEP)


cdef int holds(MDB_txn* txn, MDB_dbi dbi, const char* name, size_t length, uint64_t wanted) noexcept nogil:
    cdef MDB_val key, data
    key.mv_data, key.mv_size = <void*> name, length
    cdef int rc = mdb_get(txn, dbi, &key, &data)
    if rc != 0:
        return rc
    return 0 if data.mv_size == 8 and load_be64(data.mv_data) == wanted else WRONG_HOLDER


cdef int write_ops(MDB_txn* txn, MDB_dbi* dbis, Job* job) noexcept nogil:
    cdef int rc = 0
    cdef size_t i
    cdef Op* op
    for i in range(job.count):
        op = job.ops + i
        if op.value.mv_data == NULL:
            rc = mdb_del(txn, dbis[op.table], &op.key, NULL)
            if rc == MDB_NOTFOUND:
                rc = 0
        elif op.table == LOG:
            rc = mdb_put(txn, dbis[LOG], &op.key, &op.value, MDB_APPEND)
            if rc == MDB_KEYEXIST:
                rc = mdb_put(txn, dbis[LOG], &op.key, &op.value, 0)
        else:
            rc = mdb_put(txn, dbis[op.table], &op.key, &op.value, 0)
        if rc != 0:
            break
    return rc


cdef int why_short(int fd, size_t bytes) noexcept nogil:
    """liblmdb reports a short write as EIO; asking for the room in advance tells whether the disk is full or broken."""
    cdef stat_t stat
    cdef int rc
    if fstat(fd, &stat) != 0:
        return EIO
    rc = posix_fallocate(fd, stat.st_size, bytes + 1048576)
    if rc == 0:
        ftruncate(fd, stat.st_size)
    return rc if rc == ENOSPC or rc == EFBIG or rc == EDQUOT else EIO


cdef bint is_dead(MDB_env* env) noexcept nogil:
    """Whether a failed commit broke off while the meta page was being written: only then may the batch be there after all."""
    cdef MDB_txn* txn = NULL
    if mdb_txn_begin(env, NULL, 0, &txn) == MDB_PANIC:
        return True
    if txn != NULL:
        mdb_txn_abort(txn)
    return False


cdef int apply(MDB_env* env, MDB_dbi* dbis, int fd, size_t page, Job* job) noexcept nogil:
    """One batch: check who leads, write, make durable. Nothing is kept of a batch that fails."""
    cdef MDB_txn* txn = NULL
    cdef MDB_val key, data
    cdef unsigned char number[8]
    lengthen(env, fd, page, job)
    cdef int rc = mdb_txn_begin(env, NULL, 0, &txn)
    if rc != 0:
        return rc
    rc = holds(txn, dbis[META], EPOCH_KEY, 5, job.epoch)
    if rc == 0:
        rc = holds(txn, dbis[META], REVISION_KEY, 8, job.expected)
    if rc == 0:
        rc = write_ops(txn, dbis, job)
    if rc == 0 and job.revision != job.expected:
        store_be64(number, job.revision)
        key.mv_data, key.mv_size = <void*> REVISION_KEY, 8
        data.mv_data, data.mv_size = number, 8
        rc = mdb_put(txn, dbis[META], &key, &data, 0)
    if rc != 0:
        mdb_txn_abort(txn)
        return rc
    rc = mdb_txn_commit(txn)
    if rc != 0 and is_dead(env):
        return OUTCOME_UNKNOWN - (rc if rc > 0 else EIO)
    return why_short(fd, job.bytes) if rc == EIO else rc


cdef class Committer:
    """The queue between the loop thread and the commit thread.

    The loop thread calls `submit`, `finished`, `resume`, `stop`; the commit thread is inside `run` for its whole life; `pause` may be
    called from any thread. `event_fd` becomes readable when `finished` has something to tell.
    """

    cdef Env env
    cdef MDB_env* raw  # `env` taken apart for the commit thread, which may not touch Python objects
    cdef MDB_dbi dbis[TABLES]
    cdef int fd
    cdef size_t page
    cdef pthread_mutex_t mutex
    cdef pthread_cond_t changed
    cdef Job* head
    cdef Job* tail
    cdef Job* done
    cdef Job* done_tail
    cdef bint running
    cdef int pauses
    cdef int refusal  # code for every batch, or 0
    cdef bint stalled  # head met a full map
    cdef bint stopping
    cdef int event_fd

    def __cinit__(self, Env env, int event_fd):
        self.event_fd, self.pauses = event_fd, 1
        pthread_mutex_init(&self.mutex, NULL)
        pthread_cond_init(&self.changed, NULL)
        self.resume(env)

    def __dealloc__(self):
        cdef Job* job
        for _ in range(2):
            while self.head != NULL:
                job, self.head = self.head, self.head.next
                free_job(job)
            self.head, self.done = self.done, NULL
        pthread_cond_destroy(&self.changed)
        pthread_mutex_destroy(&self.mutex)

    def submit(self, batch):
        """Queue a batch, which the caller keeps alive until `finished` reports it."""
        cdef Job* job = make_job(batch)
        pthread_mutex_lock(&self.mutex)
        if self.tail == NULL:
            self.head = job
        else:
            self.tail.next = job
        self.tail = job
        pthread_cond_broadcast(&self.changed)
        pthread_mutex_unlock(&self.mutex)

    def apply_now(self, batch):
        """Land a batch on the calling thread; returns the code. Only while nothing is queued."""
        cdef Job* job = make_job(batch)
        cdef int rc
        with nogil:
            rc = self.refusal
            if rc == 0:
                rc = apply(self.raw, self.dbis, self.fd, self.page, job)
            free_job(job)
        return rc

    def finished(self):
        """(codes of batches done since the last call, in order; whether the queue waits for a larger map)."""
        cdef Job* job
        cdef Job* first
        cdef bint stalled
        pthread_mutex_lock(&self.mutex)
        first, self.done, self.done_tail = self.done, NULL, NULL
        stalled = self.stalled
        pthread_mutex_unlock(&self.mutex)
        codes = []
        while first != NULL:
            codes.append(first.rc)
            job, first = first, first.next
            free_job(job)
        return codes, stalled

    def fail_stalled(self, int code):
        """Give up the batch that waits for a larger map."""
        pthread_mutex_lock(&self.mutex)
        if self.stalled:
            self.stalled = False
            self.finish(code)
        pthread_mutex_unlock(&self.mutex)

    def retry_stalled(self):
        pthread_mutex_lock(&self.mutex)
        self.stalled = False
        pthread_cond_broadcast(&self.changed)
        pthread_mutex_unlock(&self.mutex)

    def pause(self):
        """Returns once no batch is being written and none will be until `resume`."""
        with nogil:
            pthread_mutex_lock(&self.mutex)
            self.pauses += 1
            while self.running:
                pthread_cond_wait(&self.changed, &self.mutex)
            pthread_mutex_unlock(&self.mutex)

    def resume(self, Env env, int refusal=0):
        """Write to `env` from now on, or answer every batch with the code `refusal`."""
        pthread_mutex_lock(&self.mutex)
        self.refusal = refusal
        self.env, self.raw, self.fd, self.page = env, env.env, env.fd, env.page
        for i in range(TABLES):
            self.dbis[i] = env.dbis[i]
        self.pauses -= 1
        pthread_cond_broadcast(&self.changed)
        pthread_mutex_unlock(&self.mutex)

    def stop(self):
        """`run` returns once the queue is empty."""
        pthread_mutex_lock(&self.mutex)
        self.stopping = True
        pthread_cond_broadcast(&self.changed)
        pthread_mutex_unlock(&self.mutex)

    def run(self):
        """The commit thread's life."""
        with nogil:
            self.work()

    cdef void finish(self, int code) noexcept nogil:
        """Move the head to the finished ones and wake the loop; the mutex is held."""
        cdef uint64_t one = 1
        cdef Job* job = self.head
        self.head = job.next
        if self.head == NULL:
            self.tail = NULL
        job.next, job.rc = NULL, code
        if self.done_tail == NULL:
            self.done = job
        else:
            self.done_tail.next = job
        self.done_tail = job
        c_write(self.event_fd, &one, 8)

    cdef void work(self) noexcept nogil:
        cdef Job* job
        cdef int rc
        cdef uint64_t one = 1
        pthread_mutex_lock(&self.mutex)
        while True:
            while (self.head == NULL and not self.stopping) or (self.head != NULL and (self.pauses or self.stalled)):
                pthread_cond_wait(&self.changed, &self.mutex)
            if self.head == NULL:
                break
            job = self.head
            self.running = True
            pthread_mutex_unlock(&self.mutex)
            rc = self.refusal
            if rc == 0:
                rc = apply(self.raw, self.dbis, self.fd, self.page, job)
            pthread_mutex_lock(&self.mutex)
            self.running = False
            if rc == MDB_MAP_FULL or rc == MDB_MAP_RESIZED:
                self.stalled = True
                c_write(self.event_fd, &one, 8)
            else:
                self.finish(rc)
            pthread_cond_broadcast(&self.changed)
        pthread_mutex_unlock(&self.mutex)
