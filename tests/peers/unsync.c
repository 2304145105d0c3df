/* A kernel that says of its clock what a test wants: an LD_PRELOAD library that answers adjtimex(2).
 *
 * The status bits, in decimal, are read at every call from the file that PORTICO_ADJTIMEX_FILE names, so a
 * test can change them while the program runs. No variable, no file or no number: -1, as where it is not
 * permitted. Nothing else of the answer is filled in, and no clock is touched.
 *
 * Build: gcc -shared -fPIC unsync.c -o unsync.so; use: LD_PRELOAD=./unsync.so program */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <unistd.h>

int adjtimex(struct timex *answer) {
    const char *path = getenv("PORTICO_ADJTIMEX_FILE");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    char text[16];
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return -1;
    text[n] = 0;
    memset(answer, 0, sizeof *answer);
    answer->status = (int)strtol(text, NULL, 10);
    return answer->status & STA_UNSYNC ? TIME_ERROR : TIME_OK;
}
