/* A serial line that is none: pseudo-terminals joined like stations on one pair of wires, at the pace of a
 * baud rate.
 *
 *     rtuline BAUD PORTS [--bits 10|11] [--turnaround US]
 *
 * Makes PORTS pseudo-terminals and prints the device of each on a line of its own; the first is meant for
 * the master. What one station writes, all others read, byte by byte, each byte after its time on the wire:
 * bits / BAUD. Two stations that speak at once destroy what they say (both bytes arrive inverted), as on RS-485.
 * With --turnaround a station other than the first begins to speak no earlier than t3.5 and so many
 * microseconds after the last byte on the line: what a device needs to see the end of a request and to think.
 *
 * On SIGTERM or SIGINT it ends and prints `busy_us N bytes N collisions N` on stderr: time for which the
 * line carried bytes.
 *
 * Not here: drivers and their direction pins, noise, parity (a pseudo-terminal has none). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 34, QUEUE = 8192 };

typedef struct {
    int fd;
    uint8_t queue[QUEUE];
    int first, count;
    int64_t next; /* ns: when its next byte may begin */
    int64_t end;  /* ns: when the byte on the wire ends, 0 for none */
    uint8_t byte;
    bool broken;
} station;

static volatile sig_atomic_t ending;
static station stations[MOST];
static int ports;

static void end(int signal_number) {
    (void)signal_number;
    ending = 1;
}

static void die(const char *what) {
    fprintf(stderr, "rtuline: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int open_port(void) {
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    struct termios mode;
    if (fd < 0 || grantpt(fd) < 0 || unlockpt(fd) < 0 || tcgetattr(fd, &mode) < 0)
        die("pseudo-terminal");
    cfmakeraw(&mode);
    if (tcsetattr(fd, TCSANOW, &mode) < 0)
        die("pseudo-terminal");
    printf("%s\n", ptsname(fd));
    /* Held open here too, or the line would hang up while nobody else has it. */
    if (open(ptsname(fd), O_RDWR | O_NOCTTY | O_CLOEXEC) < 0)
        die("pseudo-terminal");
    return fd;
}

static void take(station *one, int64_t now) {
    uint8_t chunk[512];
    ssize_t size = read(one->fd, chunk, sizeof chunk);
    if (size > 0 && one->count == 0 && one->next < now)
        one->next = now;
    for (ssize_t i = 0; i < size && one->count < QUEUE; i++)
        one->queue[(one->first + one->count++) % QUEUE] = chunk[i];
}

static void deliver(int from) {
    uint8_t byte = stations[from].broken ? (uint8_t)~stations[from].byte : stations[from].byte;
    for (int i = 0; i < ports; i++)
        if (i != from && write(stations[i].fd, &byte, 1) != 1 && errno != EAGAIN)
            die("write");
}

int main(int argc, char **argv) {
    long bits = 10, turnaround = 0, baud = argc > 2 ? strtol(argv[1], NULL, 10) : 0;
    ports = argc > 2 ? atoi(argv[2]) : 0;
    for (int i = 3; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--bits"))
            bits = strtol(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--turnaround"))
            turnaround = strtol(argv[i + 1], NULL, 10);
        else
            baud = 0;
    }
    if (baud < 300 || ports < 2 || ports > MOST || bits < 10 || bits > 12 || turnaround < 0) {
        fprintf(stderr, "usage: rtuline BAUD PORTS [--bits 10|11] [--turnaround US]\n");
        return 2;
    }
    struct sigaction action = {.sa_handler = end};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    prctl(PR_SET_TIMERSLACK, 1000UL);
    int64_t character = bits * 1000000000 / baud;
    int64_t silence = baud > 19200 ? 1750000 : character * 7 / 2;
    int64_t quiet_since = 0, busy = 0, bytes = 0, collisions = 0;
    for (int i = 0; i < ports; i++)
        stations[i].fd = open_port();
    fflush(stdout);
    struct pollfd watched[MOST];
    while (!ending) {
        int64_t now = now_ns(), next = INT64_MAX;
        for (int i = 0; i < ports; i++) { /* what has ended arrives */
            station *one = &stations[i];
            if (one->end && one->end <= now) {
                deliver(i);
                bytes++;
                busy += character;
                one->next = quiet_since = one->end; /* not now: being late must not add up */
                one->end = 0;
                one->broken = false;
                if (one->count == 0)
                    one->next = 0;
            }
        }
        for (int i = 0; i < ports; i++) { /* what waits begins */
            station *one = &stations[i];
            if (one->end || one->count == 0)
                continue;
            int64_t begin = one->next;
            if (i > 0 && begin != quiet_since && begin < quiet_since + silence + turnaround * 1000)
                begin = quiet_since + silence + turnaround * 1000;
            if (begin > now) {
                if (begin < next)
                    next = begin;
                continue;
            }
            one->byte = one->queue[one->first];
            one->first = (one->first + 1) % QUEUE;
            one->count--;
            one->end = begin + character;
            for (int j = 0; j < ports; j++)
                if (j != i && stations[j].end > begin) {
                    stations[j].broken = one->broken = true;
                    collisions++;
                }
        }
        for (int i = 0; i < ports; i++) {
            if (stations[i].end && stations[i].end < next)
                next = stations[i].end;
            watched[i] = (struct pollfd){.fd = stations[i].fd, .events = POLLIN};
        }
        now = now_ns();
        int64_t wait = next == INT64_MAX ? 1000000000 : next > now ? next - now : 0;
        struct timespec patience = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
        int ready = ppoll(watched, (nfds_t)ports, &patience, NULL);
        if (ready < 0 && errno != EINTR)
            die("poll");
        now = now_ns();
        for (int i = 0; ready > 0 && i < ports; i++)
            if (watched[i].revents & POLLIN)
                take(&stations[i], now);
    }
    fprintf(stderr, "busy_us %lld bytes %lld collisions %lld\n", (long long)busy / 1000, (long long)bytes,
            (long long)collisions);
    return 0;
}
