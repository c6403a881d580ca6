/* Preloaded into the process that writes LMDB: tells of every write and sync of data.mdb, in order, with the monotonic time at which it
 * had happened, so that a power cut at any moment can be made up afterwards. The record goes to the file named by RECORDER_OUT:
 * u64 ns | u64 offset | u32 bytes | u32 kind (0 write, 1 write that returned when it was on disk, 2 sync) | the bytes. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int watched(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path);
    return n > 9 && memcmp(path + n - 9, "/data.mdb", 9) == 0;
}

static void put(int out, const void *data, size_t n)
{
    if (syscall(SYS_write, out, data, n) != (ssize_t)n)
        abort();
}

static void tell(uint32_t kind, uint64_t offset, const struct iovec *parts, int count, size_t n)
{
    static int out = -1;
    struct { uint64_t ns, offset; uint32_t bytes, kind; } head;
    struct timespec now;
    if (out < 0)
        out = open(getenv("RECORDER_OUT"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    clock_gettime(CLOCK_MONOTONIC, &now);
    head.ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    head.offset = offset;
    head.bytes = (uint32_t)n;
    head.kind = kind;
    put(out, &head, sizeof head);
    for (int i = 0; i < count && n > 0; i++) {
        size_t part = parts[i].iov_len < n ? parts[i].iov_len : n;
        put(out, parts[i].iov_base, part);
        n -= part;
    }
}

static uint32_t kind_of(int fd) { return fcntl(fd, F_GETFL) & (O_DSYNC | O_SYNC) ? 1 : 0; }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pwrite(int fd, const void *data, size_t n, off_t offset)
{
    ssize_t done = REAL(pwrite)(fd, data, n, offset);
    struct iovec part = {(void *)data, n};
    if (done > 0 && watched(fd))
        tell(kind_of(fd), (uint64_t)offset, &part, 1, (size_t)done);
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t n, off_t offset) { return pwrite(fd, data, n, offset); }

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    ssize_t done = REAL(pwritev)(fd, parts, count, offset);
    if (done > 0 && watched(fd))
        tell(kind_of(fd), (uint64_t)offset, parts, count, (size_t)done);
    return done;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) { return pwritev(fd, parts, count, offset); }

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    int told = watched(fd);
    off_t offset = told ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t done = REAL(writev)(fd, parts, count);
    if (done > 0 && told)
        tell(kind_of(fd), (uint64_t)offset, parts, count, (size_t)done);
    return done;
}

int fdatasync(int fd)
{
    int failed = REAL(fdatasync)(fd);
    if (!failed && watched(fd))
        tell(2, 0, NULL, 0, 0);
    return failed;
}

int fsync(int fd)
{
    int failed = REAL(fsync)(fd);
    if (!failed && watched(fd))
        tell(2, 0, NULL, 0, 0);
    return failed;
}
