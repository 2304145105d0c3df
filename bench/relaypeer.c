/* A relay for the benchmark of commands, on libmodbus: obeys at once and tells when each write reached it.
 *
 *     relaypeer PORT                     Modbus TCP on 127.0.0.1, one client at a time; PORT 0: a free one
 *     relaypeer --rtu DEVICE BAUD UNIT   8N1
 *
 * Coil 0 sheds, discrete input 0 shows it, holding register 0 is the hold (which does not run here), further
 * registers up to 127 are there to fill a line. Prints `port N` (`device PATH`)
 * when it is ready, and then for each write
 *     write FIRST_NS LAST_NS FUNCTION ADDRESS VALUE
 * FIRST_NS: when the first byte of the request could be read here; LAST_NS: when all of it was there. Both by
 * the wall clock, in nanoseconds since 1970, taken before anything is answered. SIGTERM or SIGINT ends it.
 *
 * Not here: the hold's own end, faults, several clients. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <modbus/modbus.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 128 };

static volatile sig_atomic_t ending;
static modbus_t *context;
static modbus_mapping_t *map;
static int header; /* bytes before the function code */

static void end(int signal_number) {
    (void)signal_number;
    ending = 1;
}

static void die(const char *what) {
    fprintf(stderr, "relaypeer: %s: %s\n", what, modbus_strerror(errno));
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Wait until a descriptor can be read; false when a signal ended it. Signals are let in only here. */
static bool ready(int fd) {
    fd_set set;
    sigset_t none;
    sigemptyset(&none);
    while (!ending) {
        FD_ZERO(&set);
        FD_SET(fd, &set);
        if (pselect(fd + 1, &set, NULL, NULL, NULL, &none) > 0)
            return true;
        if (errno != EINTR)
            die("select");
    }
    return false;
}

static void tell(const uint8_t *request, int64_t first, int64_t last) {
    int function = request[header];
    if (function != 5 && function != 6 && function != 15 && function != 16)
        return;
    /* 5 and 6 have the value at once; 15 and 16 a count, the number of bytes, and then the values. */
    const uint8_t *value = request + header + (function < 15 ? 3 : 6);
    int word = function == 15 ? value[0] : value[0] << 8 | value[1];
    printf("write %lld %lld %d %d %d\n", (long long)first, (long long)last, function,
           request[header + 1] << 8 | request[header + 2], word);
    fflush(stdout);
}

static void serve(int fd) {
    uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH];
    while (ready(fd)) {
        int64_t first = now_ns();
        int length = modbus_receive(context, request);
        int64_t last = now_ns();
        if (length > header + 4) {
            tell(request, first, last);
            modbus_reply(context, request, length, map);
            map->tab_input_bits[0] = map->tab_bits[0];
        } else if (length < 0 && header == 1 && errno != EIO)
            modbus_flush(context); /* a frame of another device of the line */
        else if (length < 0)
            return;
    }
}

static void serve_line(const char *device, int baud, int unit) {
    if ((context = modbus_new_rtu(device, baud, 'N', 8, 1)) == NULL || modbus_set_slave(context, unit) < 0 ||
        modbus_connect(context) < 0)
        die(device);
    header = 1;
    printf("device %s\n", device);
    fflush(stdout);
    serve(modbus_get_socket(context));
}

static void serve_tcp(int port) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    if ((context = modbus_new_tcp("127.0.0.1", port)) == NULL)
        die("context");
    int listener = modbus_tcp_listen(context, 4), one = 1;
    if (listener < 0 || getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        die("listen");
    header = 7;
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    while (ready(listener)) {
        int client = accept(listener, NULL, NULL);
        if (client < 0)
            continue;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        modbus_set_socket(context, client);
        serve(client);
        close(client);
    }
}

int main(int argc, char **argv) {
    bool rtu = argc == 5 && !strcmp(argv[1], "--rtu");
    if (!rtu && argc != 2) {
        fprintf(stderr, "usage: relaypeer PORT | --rtu DEVICE BAUD UNIT\n");
        return 2;
    }
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    struct sigaction action = {.sa_handler = end};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    if ((map = modbus_mapping_new(SIZE, SIZE, SIZE, SIZE)) == NULL)
        die("memory");
    if (rtu)
        serve_line(argv[2], atoi(argv[3]), atoi(argv[4]));
    else
        serve_tcp(atoi(argv[1]));
    modbus_mapping_free(map);
    modbus_free(context);
    return 0;
}
