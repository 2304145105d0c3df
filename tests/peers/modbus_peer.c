/* A foreign Modbus server, on libmodbus, for TCP and RTU: what our client must understand without our help.
 *
 *     modbus_peer PORT [--counter LOGFILE]        PORT 0: a free one
 *     modbus_peer --rtu DEVICE BAUD [UNIT]        8N1, unit 1
 *
 * Prints `port N` (`device PATH`) on stdout when it listens, and each request as `fc address count` on
 * stderr. Serves several clients at once; SIGTERM or SIGINT ends it. Any unit id is answered; on RTU, where
 * others share the line, only its own. Functions 1-6, 15, 16. On RTU a function that libmodbus does not know
 * is not answered at all: its length is unknown there, and the checksum is not found.
 *
 * What it holds (addresses 0..1199 of each table):
 *     coils             i: 1 where i % 3 == 0
 *     discrete inputs   i: 1 where i % 5 == 0
 *     input registers   i: i * 259 + 1, low 16 bits
 *     holding registers i: i * 257, low 16 bits, except
 *         100, 102, 104, 106   float32 230.1 in byte order ABCD, CDAB, BADC, DCBA (ABCD = 43 66 19 9A)
 *         120, 122             int32 -123456 in ABCD, CDAB
 *         130                  uint64 9007199254740993 (2^53 + 1, no double holds it), high word first
 *         140                  float64 123456.789, high word first
 *         150..157             string "PORTICO", two characters a register, padded with NUL
 *         160, 161, 162        not-available markers 0x8000, 0xFFFF and 0x7FC00000 (two registers)
 *         1000                 with --counter: uint32, high word first, see below
 * Words are written here byte by byte and not by libmodbus's modbus_set_float_*, whose word order changed
 * between versions; the transport is libmodbus's.
 *
 * What it refuses, in both register tables: a read that touches 500..509 (exception 2: a hole inside the
 * range, as many meters have), and a read of more than 40 registers that touches 600 or above (exception 3:
 * a device with small reads).
 *
 * --counter: registers 1000..1001 count the answered reads that touch them, the first answers 1; each count
 * is appended to LOGFILE as `count unix_ms` by one write(2) before its answer is sent, so that every count
 * a client saw is in the file. A LOGFILE with counts continues after its last one.
 *
 * Not here: faults and delays on purpose (the simulator has those), TLS. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <modbus/modbus.h>
#include <netinet/in.h>
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

enum {
    SIZE = 1200,
    HOLE_FIRST = 500,
    HOLE_LAST = 509,
    SMALL_FROM = 600,
    SMALL_MAX = 40,
    COUNTER = 1000,
    HEADER = 7, /* MBAP header with the unit id */
};

static int header = HEADER; /* on RTU the unit id alone */

static volatile sig_atomic_t ending;
static modbus_t *context;
static modbus_mapping_t *map;
static int counter_log = -1;
static uint32_t counter;

static void end(int signal_number) {
    (void)signal_number;
    ending = 1;
}

static void die(const char *what) {
    fprintf(stderr, "modbus_peer: %s: %s\n", what, modbus_strerror(errno));
    exit(1);
}

/* ---- what it holds --------------------------------------------------------------------------- */

static void put(int address, int words, uint64_t value) {
    for (int i = 0; i < words; i++)
        map->tab_registers[address + i] = (uint16_t)(value >> 16 * (words - 1 - i));
}

static uint16_t swapped(uint16_t word) { return (uint16_t)(word << 8 | word >> 8); }

static void fill(void) {
    for (int i = 0; i < SIZE; i++) {
        map->tab_bits[i] = i % 3 == 0;
        map->tab_input_bits[i] = i % 5 == 0;
        map->tab_registers[i] = (uint16_t)(i * 257);
        map->tab_input_registers[i] = (uint16_t)(i * 259 + 1);
    }
    float single = 230.1f;
    double number = 123456.789;
    uint32_t bits;
    uint64_t long_bits;
    memcpy(&bits, &single, 4);
    memcpy(&long_bits, &number, 8);
    uint16_t high = (uint16_t)(bits >> 16), low = (uint16_t)bits;
    uint16_t orders[] = {high, low, low, high, swapped(high), swapped(low), swapped(low), swapped(high)};
    memcpy(map->tab_registers + 100, orders, sizeof orders);
    uint32_t negative = (uint32_t)-123456;
    put(120, 2, negative);
    put(122, 2, negative << 16 | negative >> 16);
    put(130, 4, 9007199254740993u);
    put(140, 4, long_bits);
    const char text[16] = "PORTICO";
    for (int i = 0; i < 8; i++)
        map->tab_registers[150 + i] = (uint16_t)((uint8_t)text[2 * i] << 8 | (uint8_t)text[2 * i + 1]);
    put(160, 1, 0x8000);
    put(161, 1, 0xffff);
    put(162, 2, 0x7fc00000);
}

static void open_counter(const char *path) {
    FILE *earlier = fopen(path, "r");
    unsigned count;
    if (earlier) {
        while (fscanf(earlier, "%u %*u", &count) == 1)
            counter = count;
        fclose(earlier);
    }
    counter_log = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (counter_log < 0)
        die(path);
    put(COUNTER, 2, counter);
}

static void count_read(void) {
    struct timespec now;
    char line[64];
    clock_gettime(CLOCK_REALTIME, &now);
    put(COUNTER, 2, ++counter);
    int size = snprintf(line, sizeof line, "%u %llu\n", counter,
                        (unsigned long long)now.tv_sec * 1000 + (unsigned long long)now.tv_nsec / 1000000);
    if (write(counter_log, line, (size_t)size) != size)
        die("counter log");
}

/* ---- one request ----------------------------------------------------------------------------- */

static bool touches(int first, int count, int from, int to) { return first <= to && first + count > from; }

/* The exception this peer answers, 0 for none. Checked here and not by modbus_reply, which sleeps and
 * throws away what the client has sent behind a request that it refuses. */
static unsigned refusal(int function, int first, int count) {
    int most;
    switch (function) {
    case 1: case 2: most = MODBUS_MAX_READ_BITS; break;
    case 3: case 4: most = MODBUS_MAX_READ_REGISTERS; break;
    case 5: case 6: most = 1; break;
    case 15: most = MODBUS_MAX_WRITE_BITS; break;
    case 16: most = MODBUS_MAX_WRITE_REGISTERS; break;
    default: return MODBUS_EXCEPTION_ILLEGAL_FUNCTION;
    }
    if (count < 1 || count > most)
        return MODBUS_EXCEPTION_ILLEGAL_DATA_VALUE;
    if (first + count > SIZE)
        return MODBUS_EXCEPTION_ILLEGAL_DATA_ADDRESS;
    if (function == 3 || function == 4) {
        if (touches(first, count, HOLE_FIRST, HOLE_LAST))
            return MODBUS_EXCEPTION_ILLEGAL_DATA_ADDRESS;
        if (first + count > SMALL_FROM && count > SMALL_MAX)
            return MODBUS_EXCEPTION_ILLEGAL_DATA_VALUE;
    }
    return 0;
}

static bool answer(const uint8_t *request, int length) {
    int function = request[header];
    int first = length >= header + 5 ? MODBUS_GET_INT16_FROM_INT8(request, header + 1) & 0xffff : 0;
    int count = length >= header + 5 ? MODBUS_GET_INT16_FROM_INT8(request, header + 3) & 0xffff : 0;
    if (function == 5 || function == 6)
        count = 1;
    fprintf(stderr, "%d %d %d\n", function, first, count);
    unsigned exception = refusal(function, first, count);
    if (exception)
        return modbus_reply_exception(context, request, exception) >= 0;
    if (counter_log >= 0 && function == 3 && touches(first, count, COUNTER, COUNTER + 1))
        count_read();
    return modbus_reply(context, request, length, map) >= 0;
}

/* ---- clients --------------------------------------------------------------------------------- */

static int listen_on(int port) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    if ((context = modbus_new_tcp("127.0.0.1", port)) == NULL)
        die("context");
    int fd = modbus_tcp_listen(context, 16);
    if (fd < 0 || getsockname(fd, (struct sockaddr *)&address, &size) < 0) {
        fprintf(stderr, "modbus_peer: cannot listen on 127.0.0.1:%d: %s\n", port, modbus_strerror(errno));
        exit(1);
    }
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

/* Read and drop what the frame holds beyond the bytes that libmodbus took: of a function it does not know
 * it takes the code alone, and the rest would be read as the next request. False when the length lies. */
static bool skip_rest(int fd, const uint8_t *request, int length) {
    uint8_t rest[MODBUS_TCP_MAX_ADU_LENGTH];
    int left = HEADER - 1 + (request[4] << 8 | request[5]) - length;
    if (left < 0 || left > (int)sizeof rest)
        return false;
    return left == 0 || recv(fd, rest, (size_t)left, MSG_WAITALL) == left;
}

static void serve(int listener) {
    fd_set clients, ready;
    uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH];
    sigset_t none;
    sigemptyset(&none);
    FD_ZERO(&clients);
    FD_SET(listener, &clients);
    while (!ending) {
        ready = clients;
        /* The signals are let in only here: one that comes earlier ends the wait at once. */
        if (pselect(FD_SETSIZE, &ready, NULL, NULL, NULL, &none) < 0) {
            if (errno == EINTR)
                continue;
            die("select");
        }
        for (int fd = 0; fd < FD_SETSIZE; fd++) {
            if (!FD_ISSET(fd, &ready))
                continue;
            if (fd == listener) {
                int client = accept(listener, NULL, NULL);
                if (client >= FD_SETSIZE)
                    close(client);
                else if (client >= 0) {
                    struct timeval patience = {.tv_sec = 1};
                    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
                    FD_SET(client, &clients);
                }
                continue;
            }
            modbus_set_socket(context, fd);
            int length = modbus_receive(context, request);
            bool whole = length > HEADER && skip_rest(fd, request, length);
            if (length < 0 || (length > 0 && !(whole && answer(request, length)))) {
                close(fd);
                FD_CLR(fd, &clients);
            }
        }
    }
}

/* ---- a serial line --------------------------------------------------------------------------- */

static void open_line(const char *device, int baud, int unit) {
    if ((context = modbus_new_rtu(device, baud, 'N', 8, 1)) == NULL || modbus_set_slave(context, unit) < 0)
        die("context");
    if (modbus_connect(context) < 0)
        die(device);
    printf("device %s\n", device);
    fflush(stdout);
}

static void serve_line(void) {
    uint8_t request[MODBUS_RTU_MAX_ADU_LENGTH];
    int fd = modbus_get_socket(context);
    fd_set ready;
    sigset_t none;
    sigemptyset(&none);
    while (!ending) {
        FD_ZERO(&ready);
        FD_SET(fd, &ready);
        if (pselect(fd + 1, &ready, NULL, NULL, NULL, &none) < 0) {
            if (errno == EINTR)
                continue;
            die("select");
        }
        int length = modbus_receive(context, request);
        if (length < 0 && errno == EIO)
            return; /* the line is gone */
        if (length < 0)
            modbus_flush(context); /* noise, a broken frame, an answer of somebody else */
        else if (length > 0)
            answer(request, length);
    }
}

static int usage(void) {
    fprintf(stderr, "usage: modbus_peer PORT [--counter LOGFILE] | --rtu DEVICE BAUD [UNIT]\n");
    return 2;
}

int main(int argc, char **argv) {
    bool rtu = (argc == 4 || argc == 5) && !strcmp(argv[1], "--rtu");
    bool counting = !rtu && argc == 4 && !strcmp(argv[2], "--counter");
    char *rest = "";
    long port = argc > 1 && !rtu ? strtol(argv[1], &rest, 10) : 0;
    if ((!rtu && argc != 2 && !counting) || *rest || port < 0 || port > 65535)
        return usage();
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
    fill();
    if (counting)
        open_counter(argv[3]);
    if (rtu) {
        header = 1;
        open_line(argv[2], atoi(argv[3]), argc == 5 ? atoi(argv[4]) : 1);
        serve_line();
    } else
        serve(listen_on((int)port));
    modbus_mapping_free(map);
    modbus_free(context);
    return 0;
}
