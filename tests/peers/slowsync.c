/* A disk whose flush takes long: an LD_PRELOAD library that delays fsync and fdatasync.
 *
 * The delay in milliseconds is read at every flush from the file that PORTICO_SLOWSYNC_FILE names, so a
 * test can change it while the program runs. No variable, no file, an empty file or no number: no delay.
 * At most 60 s. The delay comes before the flush, as a slow disk's would: nothing is durable until the
 * call returns. The call that a program makes as a plain system call (syscall(2)) is not seen.
 *
 * Build: gcc -shared -fPIC slowsync.c -o slowsync.so; use: LD_PRELOAD=./slowsync.so program */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { DELAY_MAX_MS = 60000 };

static long delay_ms(void) {
    const char *path = getenv("PORTICO_SLOWSYNC_FILE");
    if (path == NULL)
        return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    char text[16];
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = 0;
    long value = strtol(text, NULL, 10);
    return value < 0 ? 0 : value > DELAY_MAX_MS ? DELAY_MAX_MS : value;
}

static void wait_as_the_disk_would(void) {
    int before = errno;
    long ms = delay_ms();
    struct timespec rest = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (ms && nanosleep(&rest, &rest) < 0 && errno == EINTR)
        ;
    errno = before;
}

static int flush(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (real == NULL) {
        errno = ENOSYS;
        return -1;
    }
    wait_as_the_disk_would();
    return real(fd);
}

int fsync(int fd) { return flush("fsync", fd); }

int fdatasync(int fd) { return flush("fdatasync", fd); }
