/* Keeps a copy of everything that a process writes to regular files, also what is overwritten or deleted at once.

   TEE_DIR: where the copies go (TEE_DIR/PID.tee). FAIL_FILE: while it exists, writes to paths that hold FAIL_PATH fail
   with the errno that stands in it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int tee_fd = -1;
static pid_t tee_pid;

static void keep(int fd, const void *data, size_t size) {
    struct stat of;
    int saved = errno;
    if (size == 0 || fd == tee_fd || fstat(fd, &of) != 0 || !S_ISREG(of.st_mode)) {
        errno = saved;
        return;
    }
    const char *folder = getenv("TEE_DIR");
    if (tee_pid != getpid() && folder != NULL) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%d.tee", folder, (int)getpid());
        tee_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        tee_pid = getpid();
    }
    if (tee_fd >= 0)
        syscall(SYS_write, tee_fd, data, size);
    errno = saved;
}

static int failing(int fd) {
    const char *file = getenv("FAIL_FILE"), *part = getenv("FAIL_PATH");
    char link[64], path[4096], number[16];
    if (file == NULL || part == NULL || access(file, F_OK) != 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    if (strstr(path, part) == NULL)
        return 0;
    int source = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t got = source < 0 ? 0 : read(source, number, sizeof number - 1);
    if (source >= 0)
        close(source);
    number[got > 0 ? got : 0] = 0;
    errno = got > 0 ? atoi(number) : EIO;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) {
    if (failing(fd))
        return -1;
    keep(fd, data, size);
    return REAL(write)(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    if (failing(fd))
        return -1;
    keep(fd, data, size);
    return REAL(pwrite)(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    if (failing(fd))
        return -1;
    keep(fd, data, size);
    return REAL(pwrite64)(fd, data, size, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (failing(fd))
        return -1;
    for (int i = 0; i < count; i++)
        keep(fd, parts[i].iov_base, parts[i].iov_len);
    return REAL(writev)(fd, parts, count);
}

size_t fwrite(const void *data, size_t size, size_t count, FILE *to) {
    keep(fileno(to), data, size * count);
    return REAL(fwrite)(data, size, count, to);
}
