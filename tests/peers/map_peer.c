/* A foreign Modbus server, on libmodbus, whose four tables hold what it is told: for the maps of device types.
 *
 *     map_peer PORT                       PORT 0: a free one
 *     map_peer --rtu DEVICE BAUD [UNIT]   8N1, unit 1
 *
 * Prints `port N` (`device PATH`) when it listens. Then it takes lines on stdin, TABLE being coil, discrete,
 * holding or input, and words hexadecimal (bits 0 or 1):
 *     hold TABLE ADDRESS WORD...      put words from ADDRESS on
 *     tell TABLE ADDRESS COUNT        prints the words there
 *     sync                            prints `ok`: everything before is held
 * It ends when stdin does. All 65536 addresses of each table are there and begin as 0. Any unit id is answered;
 * on RTU only its own.
 *
 * What a word means is not known here: the words come from the test. Not here: refusals and holes (modbus_peer
 * has those). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
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
#include <unistd.h>

enum { SIZE = 65536, LONGEST_LINE = 1 << 20 };

static modbus_t *context;
static modbus_mapping_t *map;

static void die(const char *what) {
    fprintf(stderr, "map_peer: %s: %s\n", what, modbus_strerror(errno));
    exit(1);
}

/* ---- what it is told ------------------------------------------------------------------------- */

static uint8_t *bits_of(const char *table) {
    return !strcmp(table, "coil") ? map->tab_bits : !strcmp(table, "discrete") ? map->tab_input_bits : NULL;
}

static uint16_t *words_of(const char *table) {
    return !strcmp(table, "holding") ? map->tab_registers
           : !strcmp(table, "input") ? map->tab_input_registers
                                     : NULL;
}

static void obey(char *line) {
    char *rest = NULL;
    const char *verb = strtok_r(line, " \n", &rest);
    if (verb && !strcmp(verb, "sync")) {
        puts("ok");
        fflush(stdout);
        return;
    }
    const char *table = strtok_r(NULL, " \n", &rest), *place = strtok_r(NULL, " \n", &rest);
    uint8_t *bits = table ? bits_of(table) : NULL;
    uint16_t *words = table ? words_of(table) : NULL;
    if (!verb || !place || (!bits && !words)) {
        fprintf(stderr, "map_peer: cannot obey\n");
        exit(2);
    }
    int at = atoi(place);
    const char *word;
    if (!strcmp(verb, "hold")) {
        for (; (word = strtok_r(NULL, " \n", &rest)) && at < SIZE; at++) {
            if (bits)
                bits[at] = (uint8_t)(*word == '1');
            else
                words[at] = (uint16_t)strtoul(word, NULL, 16);
        }
        return;
    }
    for (int left = (word = strtok_r(NULL, " \n", &rest)) ? atoi(word) : 0; left-- > 0 && at < SIZE; at++)
        printf("%x ", bits ? bits[at] : words[at]);
    puts("");
    fflush(stdout);
}

/* Take what came on stdin; false when it has ended. */
static bool listen_to_orders(void) {
    static char buffer[LONGEST_LINE];
    static size_t held;
    ssize_t got = read(STDIN_FILENO, buffer + held, sizeof buffer - held - 1);
    if (got <= 0)
        return false;
    held += (size_t)got;
    char *end, *line = buffer;
    while ((end = memchr(line, '\n', held - (size_t)(line - buffer))) != NULL) {
        *end = '\0';
        obey(line);
        line = end + 1;
    }
    held -= (size_t)(line - buffer);
    memmove(buffer, line, held);
    return held < sizeof buffer - 1;
}

/* ---- lines and clients ----------------------------------------------------------------------- */

static int listen_on(int port) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    if ((context = modbus_new_tcp("127.0.0.1", port)) == NULL)
        die("context");
    int fd = modbus_tcp_listen(context, 16);
    if (fd < 0 || getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        die("listen");
    printf("port %d\n", ntohs(address.sin_port));
    return fd;
}

static int open_line(const char *device, int baud, int unit) {
    if ((context = modbus_new_rtu(device, baud, 'N', 8, 1)) == NULL || modbus_set_slave(context, unit) < 0)
        die("context");
    if (modbus_connect(context) < 0)
        die(device);
    printf("device %s\n", device);
    return modbus_get_socket(context);
}

/* Answer one request; false when this client, or the line, is gone. */
static bool answer(bool rtu) {
    uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH];
    int length = modbus_receive(context, request);
    if (length > 0)
        return modbus_reply(context, request, length, map) >= 0 || rtu;
    if (!rtu)
        return length == 0;
    if (length < 0 && errno == EIO)
        return false;
    if (length < 0)
        modbus_flush(context);
    return true;
}

static void serve(int first, bool rtu) {
    fd_set known, ready;
    FD_ZERO(&known);
    FD_SET(STDIN_FILENO, &known);
    FD_SET(first, &known);
    for (;;) {
        ready = known;
        if (select(FD_SETSIZE, &ready, NULL, NULL, NULL) < 0)
            die("select");
        if (FD_ISSET(STDIN_FILENO, &ready) && !listen_to_orders())
            return;
        for (int fd = 0; fd < FD_SETSIZE; fd++) {
            if (fd == STDIN_FILENO || !FD_ISSET(fd, &ready))
                continue;
            if (fd == first && !rtu) {
                int client = accept(first, NULL, NULL);
                if (client >= FD_SETSIZE)
                    close(client);
                else if (client >= 0)
                    FD_SET(client, &known);
                continue;
            }
            if (!rtu)
                modbus_set_socket(context, fd);
            if (!answer(rtu)) {
                FD_CLR(fd, &known);
                if (!rtu)
                    close(fd);
            }
        }
    }
}

int main(int argc, char **argv) {
    bool rtu = (argc == 4 || argc == 5) && !strcmp(argv[1], "--rtu");
    if (!rtu && argc != 2) {
        fprintf(stderr, "usage: map_peer PORT | --rtu DEVICE BAUD [UNIT]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    if ((map = modbus_mapping_new(SIZE, SIZE, SIZE, SIZE)) == NULL)
        die("memory");
    int fd = rtu ? open_line(argv[2], atoi(argv[3]), argc == 5 ? atoi(argv[4]) : 1) : listen_on(atoi(argv[1]));
    fflush(stdout);
    serve(fd, rtu);
    modbus_mapping_free(map);
    modbus_free(context);
    return 0;
}
