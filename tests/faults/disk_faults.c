/* A preloaded library that makes chosen file operations of a process fail.
 *
 * DISK_FAULTS names a control file that the test maps too:
 *   int32 from    number of the first operation that fails, counted from 1; 0: none
 *   int32 until   number of the last one that fails
 *   int32 error   errno of the failure; 0: a write stores only half of its bytes
 *   int32 count   operations seen since the test set this to 0
 *   int32 hits    operations that failed
 *   int32 kinds   bit mask of the operations that count: see enum kind
 *   char  prefix[]  only files whose path begins with this count
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { DATA = 1, META = 2, SYNC = 4, SIZE = 8, RENAME = 16 };
enum { SIZE_OF_CONTROL = 4096, HEAD_PAGES = 2 * 4096, PASS = -1, HALF = -2 };

struct control {
    volatile int32_t from, until, error, count, hits, kinds;
    char prefix[SIZE_OF_CONTROL - 24];
};

static struct control *control;

__attribute__((constructor)) static void map_control(void)
{
    const char *path = getenv("DISK_FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *mapped = mmap(NULL, SIZE_OF_CONTROL, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED)
        control = mapped;
}

/* PASS, HALF, or the errno to fail with. */
static int verdict_path(const char *path, enum kind kind, int divisible)
{
    if (!control || !control->prefix[0] || !(control->kinds & kind))
        return PASS;
    if (strncmp(path, control->prefix, strlen(control->prefix)))
        return PASS;
    int number = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
    if (number < control->from || number > control->until || (!control->error && !divisible))
        return PASS;
    __atomic_add_fetch(&control->hits, 1, __ATOMIC_SEQ_CST);
    return control->error ? control->error : HALF;
}

static int verdict(int fd, enum kind kind, int divisible)
{
    char link[64], path[4096];
    if (!control || !control->prefix[0])
        return PASS;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return PASS;
    path[length] = 0;
    return verdict_path(path, kind, divisible);
}

static int failed(int error)
{
    errno = error;
    return -1;
}

#define NEXT(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

ssize_t pwrite(int fd, const void *buf, size_t count, off_t offset)
{
    int found = verdict(fd, offset < HEAD_PAGES ? META : DATA, 1);
    if (found == PASS)
        return NEXT(pwrite)(fd, buf, count, offset);
    return found == HALF ? NEXT(pwrite)(fd, buf, count / 2, offset) : failed(found);
}

ssize_t pwrite64(int fd, const void *buf, size_t count, off64_t offset)
{
    return pwrite(fd, buf, count, offset);
}

ssize_t write(int fd, const void *buf, size_t count)
{
    int found = verdict(fd, DATA, 1);
    if (found == PASS)
        return NEXT(write)(fd, buf, count);
    return found == HALF ? NEXT(write)(fd, buf, count / 2) : failed(found);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    int found = verdict(fd, DATA, 1);
    if (found == PASS)
        return NEXT(writev)(fd, parts, count);
    return found == HALF ? NEXT(write)(fd, parts[0].iov_base, parts[0].iov_len / 2) : failed(found);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    int found = verdict(fd, DATA, 1);
    if (found == PASS)
        return NEXT(pwritev)(fd, parts, count, offset);
    return found == HALF ? NEXT(pwrite)(fd, parts[0].iov_base, parts[0].iov_len / 2, offset) : failed(found);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    return pwritev(fd, parts, count, offset);
}

int fsync(int fd)
{
    int found = verdict(fd, SYNC, 0);
    return found == PASS ? NEXT(fsync)(fd) : failed(found);
}

int fdatasync(int fd)
{
    int found = verdict(fd, SYNC, 0);
    return found == PASS ? NEXT(fdatasync)(fd) : failed(found);
}

int ftruncate(int fd, off_t length)
{
    int found = verdict(fd, SIZE, 0);
    return found == PASS ? NEXT(ftruncate)(fd, length) : failed(found);
}

int ftruncate64(int fd, off64_t length)
{
    return ftruncate(fd, length);
}

int posix_fallocate(int fd, off_t offset, off_t length)
{
    int found = verdict(fd, SIZE, 0);
    return found == PASS ? NEXT(posix_fallocate)(fd, offset, length) : found;
}

int posix_fallocate64(int fd, off64_t offset, off64_t length)
{
    return posix_fallocate(fd, offset, length);
}

int rename(const char *from, const char *to)
{
    int found = verdict_path(to, RENAME, 0);
    return found == PASS ? NEXT(rename)(from, to) : failed(found);
}
