/* A fast Modbus TCP server for the benchmark: many devices of 50 noisy points, one thread, epoll.
 *
 * It is the field of `make bench`: it must cost little beside the agent that reads it, and its values
 * must not flatter compression. Therefore every point has its own level and its own noise, and is
 * stepped once for every answered read that touches it; nothing is constant and nothing repeats
 * (xorshift128+, period 2^128 - 1, one generator a device, so a device's values follow from the seed
 * and its own reads alone).
 *
 * Devices: `--ports N` listening ports base..base+N-1 (base 0: free ports, one by one), each with
 * `--units U` devices. U = 0 (the default): one device a port, which answers every unit id.
 * U > 0: unit ids 1..U, any other is answered by exception 11 (gateway target failed to respond).
 *
 * Registers, the same for function codes 3 and 4:
 *     0..99     50 float32, big endian, high word first
 *     100..103  uint64, wall time in milliseconds when the answer was built
 *     104..105  uint32, answered reads of this device, this one included
 * Beyond 105: exception 2. A count outside 1..125: exception 3. Another function: exception 1.
 *
 * Points (`--describe` prints this table as JSON), with the resolution a device type should declare.
 * The float carries finer digits than the resolution, as a meter's float does.
 *     0..11   voltage V    resolution 0.1    walk around 224..236, step 0.3
 *     12..23  current A    resolution 0.01   walk around 2..58, step 0.1 + 1 % of the level
 *     24..38  power W      resolution 1      walk around -4500..14500, step 20 + 1 % of the level
 *     39..49  energy kWh   resolution 0.01   rises by 0..0.1 a read, from 1000..30000, rolls over at 100000
 * A walk is x += (level - x) / 50 + step * n with n of mean 0 and variance 1, so it spreads about
 * five steps around its level: more restless than a household, so that compression is not flattered.
 *
 * Output: line 1 of stdout is {"ports": [...]} once all ports listen; the last line, after SIGTERM or
 * SIGINT, is a JSON object of totals. `--log FILE` maps the statistics below while running: a reader
 * may map the file at any time, each field is a 64-bit counter of the machine's own byte order.
 *     struct log_header, then one struct port_log a port, then one uint64 a device: answered reads.
 *
 * A connection that does not speak Modbus TCP is closed; one that does not read its answers is not read
 * from. At most 4096 connections; one more is closed at once.
 *
 * Not here: writes, TLS, other Modbus functions, device faults (the simulator has those). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    POINTS = 50,
    REGISTERS = 106,
    TIME_REGISTER = 100,
    COUNTER_REGISTER = 104,
    MAX_PORTS = 1024,
    MAX_UNITS = 247,
    MAX_CONNECTIONS = 4096,
    MBAP = 6,               /* transaction, protocol, length: the bytes before the unit id */
    LENGTH_MIN = 2,         /* unit id and function code */
    LENGTH_MAX = 254,       /* unit id and a PDU of 253 (Modbus Messaging on TCP/IP V1.0b 3.1.3) */
    READ_MAX = 125,         /* registers a read (Modbus Application Protocol V1.1b3 6.3) */
    ANSWER_MAX = MBAP + 3 + 2 * READ_MAX,
    IN_SIZE = 8192,
    OUT_SIZE = 65536,
};

struct log_header {
    char magic[8]; /* "PFSLOG1\0" */
    uint64_t ports, units, started_ms;
};

struct port_log {
    uint64_t requests, answered, registers, exceptions; /* requests = answered + exceptions */
    uint64_t connections, open, bytes_in, bytes_out;
};

enum kind { VOLTAGE, CURRENT, POWER, ENERGY };

static const struct {
    const char *quantity, *unit, *resolution;
    double min, max;
} KINDS[] = {
    [VOLTAGE] = {"voltage", "V", "0.1", 200, 260},
    [CURRENT] = {"current", "A", "0.01", 0, 60},
    [POWER] = {"power", "W", "1", -5000, 15000},
    [ENERGY] = {"energy", "kWh", "0.01", 0, 100000},
};

static enum kind kind_of(int point) {
    return point < 12 ? VOLTAGE : point < 24 ? CURRENT : point < 39 ? POWER : ENERGY;
}

struct device {
    uint64_t random[2];
    uint64_t *answered;
    double value[POINTS], level[POINTS], step[POINTS];
};

struct peer {
    int fd, port;
    bool listener;
    uint32_t events;
    size_t in_used, out_start, out_used;
    uint8_t *in, *out; /* IN_SIZE and OUT_SIZE bytes; a listener has none */
};

static struct port_log *port_logs;
static struct device *devices;
static int port_count = 1, unit_count, epoll_fd, connection_count,
    connection_limit = MAX_CONNECTIONS;

static void die(const char *what) {
    fprintf(stderr, "fastserver: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- values ---------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t state[2]) { /* xorshift128+, Vigna 2017 */
    uint64_t a = state[0], b = state[1], sum = a + b;
    state[0] = b;
    a ^= a << 23;
    state[1] = a ^ b ^ (a >> 18) ^ (b >> 5);
    return sum;
}

static uint64_t mix(uint64_t *seed) { /* splitmix64: spreads a small seed over all bits */
    uint64_t z = (*seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double uniform(uint64_t state[2], double low, double high) {
    return low + (high - low) * (double)(next_random(state) >> 11) * 0x1p-53;
}

/* Mean 0, variance 1: the sum of four uniform 16-bit numbers (variance 4/12), from one random word. */
static double bell(uint64_t state[2]) {
    uint64_t r = next_random(state);
    int64_t sum = (int64_t)((r & 0xffff) + (r >> 16 & 0xffff) + (r >> 32 & 0xffff) + (r >> 48));
    return (double)(sum - 131070) * (1.7320508075688772 / 65536);
}

static void start_device(struct device *d, uint64_t seed, uint64_t index) {
    uint64_t s = seed * 0x2545f4914f6cdd1du + index;
    d->random[0] = mix(&s);
    d->random[1] = mix(&s) | 1;
    for (int i = 0; i < POINTS; i++) {
        double level = 0, step = 0;
        switch (kind_of(i)) {
        case VOLTAGE: level = uniform(d->random, 224, 236), step = 0.3; break;
        case CURRENT: level = uniform(d->random, 2, 58), step = 0.1 + 0.01 * level; break;
        case POWER:
            level = uniform(d->random, -4500, 14500);
            step = 20 + 0.01 * (level < 0 ? -level : level);
            break;
        case ENERGY: level = uniform(d->random, 1000, 30000), step = 0.1; break;
        }
        d->level[i] = d->value[i] = level;
        d->step[i] = step;
    }
}

static float step_point(struct device *d, int i) {
    enum kind kind = kind_of(i);
    double x = d->value[i];
    if (kind == ENERGY) {
        x += uniform(d->random, 0, d->step[i]);
        if (x >= KINDS[kind].max)
            x -= KINDS[kind].max;
    } else {
        x += (d->level[i] - x) * 0.02 + d->step[i] * bell(d->random);
        if (x < KINDS[kind].min)
            x = 2 * KINDS[kind].min - x;
        if (x > KINDS[kind].max)
            x = 2 * KINDS[kind].max - x;
    }
    d->value[i] = x;
    return (float)x;
}

static uint64_t wall_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Write registers first..first+count-1 as bytes; the caller has checked the range. */
static void put_registers(struct device *d, int first, int count, uint8_t *out) {
    uint8_t image[2 * REGISTERS];
    int last = first + count - 1;
    for (int point = first / 2; point <= last / 2 && point < POINTS; point++) {
        float value = step_point(d, point);
        uint32_t bits;
        memcpy(&bits, &value, 4);
        bits = htonl(bits);
        memcpy(image + 4 * point, &bits, 4);
    }
    if (last >= TIME_REGISTER) {
        uint64_t now = wall_ms();
        uint32_t answered = (uint32_t)*d->answered;
        for (int i = 0; i < 8; i++)
            image[2 * TIME_REGISTER + i] = (uint8_t)(now >> (56 - 8 * i));
        for (int i = 0; i < 4; i++)
            image[2 * COUNTER_REGISTER + i] = (uint8_t)(answered >> (24 - 8 * i));
    }
    memcpy(out, image + 2 * first, 2 * (size_t)count);
}

/* ---- one request ----------------------------------------------------------------------------- */

static struct device *device_of(int port, uint8_t unit) {
    if (unit_count == 0)
        return &devices[port];
    if (unit < 1 || unit > unit_count)
        return NULL;
    return &devices[port * unit_count + unit - 1];
}

/* Answer the request of `length` bytes from the unit id on; returns the bytes written, at most ANSWER_MAX. */
static size_t answer(int port, const uint8_t *frame, int length, uint8_t *out) {
    struct port_log *log = &port_logs[port];
    const uint8_t *pdu = frame + MBAP + 1;
    uint8_t function = pdu[0], exception = 0;
    int first = 0, count = 0;
    struct device *d = device_of(port, frame[MBAP]);
    log->requests++;
    if (d == NULL) {
        exception = 11;
    } else if (function != 3 && function != 4) {
        exception = 1;
    } else if (length != 6) {
        exception = 3;
    } else {
        first = pdu[1] << 8 | pdu[2];
        count = pdu[3] << 8 | pdu[4];
        if (count < 1 || count > READ_MAX)
            exception = 3;
        else if (first + count > REGISTERS)
            exception = 2;
    }
    size_t body = exception ? 3 : 3 + 2 * (size_t)count; /* from the unit id on */
    memcpy(out, frame, 4);
    out[4] = (uint8_t)(body >> 8);
    out[5] = (uint8_t)body;
    out[6] = frame[MBAP];
    if (exception) {
        out[7] = function | 0x80;
        out[8] = exception;
        log->exceptions++;
    } else {
        ++*d->answered;
        out[7] = function;
        out[8] = (uint8_t)(2 * count);
        put_registers(d, first, count, out + 9);
        log->answered++;
        log->registers += (uint64_t)count;
    }
    return MBAP + body;
}

/* ---- connections ----------------------------------------------------------------------------- */

static void watch(struct peer *p, uint32_t events) {
    if (p->events == events)
        return;
    struct epoll_event e = {.events = events, .data.ptr = p};
    if (epoll_ctl(epoll_fd, p->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, p->fd, &e) < 0)
        die("epoll_ctl");
    p->events = events;
}

static void hang_up(struct peer *p) {
    close(p->fd);
    port_logs[p->port].open--;
    connection_count--;
    free(p->in);
    free(p->out);
    free(p);
}

static void accept_all(struct peer *listener) {
    int fd, one = 1;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct peer *p = connection_count < connection_limit ? calloc(1, sizeof *p) : NULL;
        if (p == NULL || !(p->in = malloc(IN_SIZE)) || !(p->out = malloc(OUT_SIZE))) {
            if (p)
                free(p->in);
            free(p);
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        p->fd = fd;
        p->port = listener->port;
        port_logs[p->port].connections++;
        port_logs[p->port].open++;
        connection_count++;
        watch(p, EPOLLIN);
    }
}

/* Answer whole requests while the output has room; false when the peer does not speak Modbus TCP. */
static bool answer_waiting(struct peer *p) {
    size_t at = 0;
    bool spoken = true;
    while (p->in_used - at > MBAP && OUT_SIZE - p->out_used >= ANSWER_MAX) {
        const uint8_t *frame = p->in + at;
        int protocol = frame[2] << 8 | frame[3], length = frame[4] << 8 | frame[5];
        if (protocol != 0 || length < LENGTH_MIN || length > LENGTH_MAX) {
            spoken = false;
            break;
        }
        if (p->in_used - at < MBAP + (size_t)length)
            break;
        p->out_used += answer(p->port, frame, length, p->out + p->out_used);
        at += MBAP + (size_t)length;
    }
    p->in_used -= at;
    if (at && p->in_used)
        memmove(p->in, p->in + at, p->in_used);
    return spoken;
}

/* Send what is there; false when the connection is gone. */
static bool flush(struct peer *p) {
    while (p->out_start < p->out_used) {
        ssize_t n = send(p->fd, p->out + p->out_start, p->out_used - p->out_start, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        p->out_start += (size_t)n;
        port_logs[p->port].bytes_out += (uint64_t)n;
    }
    p->out_start = p->out_used = 0;
    return true;
}

static void serve(struct peer *p, uint32_t events) {
    bool alive = true;
    if (events & EPOLLOUT) {
        alive = flush(p);
    } else {
        ssize_t n = recv(p->fd, p->in + p->in_used, IN_SIZE - p->in_used, 0);
        if (n > 0) {
            p->in_used += (size_t)n;
            port_logs[p->port].bytes_in += (uint64_t)n;
        } else {
            alive = n < 0 && (errno == EAGAIN || errno == EINTR);
        }
    }
    /* A peer that does not read its answers is not read from: its input and output stay bounded. */
    while (alive && p->out_used == 0) {
        size_t before = p->in_used;
        bool spoken = answer_waiting(p);
        alive = flush(p) && spoken;
        if (p->in_used == before)
            break;
    }
    if (alive)
        watch(p, p->out_used ? EPOLLOUT : EPOLLIN);
    else
        hang_up(p);
}

/* ---- start and end --------------------------------------------------------------------------- */

static int listen_on(const char *host, int port, int *chosen) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof a;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (inet_pton(AF_INET, host, &a.sin_addr) != 1) {
        fprintf(stderr, "fastserver: --host %s is not an IPv4 address\n", host);
        exit(2);
    }
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 128) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &size) < 0) {
        fprintf(stderr, "fastserver: cannot listen on %s:%d: %s\n", host, port, strerror(errno));
        exit(1);
    }
    *chosen = ntohs(a.sin_port);
    return fd;
}

static void describe(void) {
    printf("{\"registers\": %d, \"time_register\": %d, \"counter_register\": %d, \"points\": [", REGISTERS,
           TIME_REGISTER, COUNTER_REGISTER);
    for (int i = 0; i < POINTS; i++)
        printf("%s{\"index\": %d, \"register\": %d, \"type\": \"float32\", \"quantity\": \"%s\", "
               "\"unit\": \"%s\", \"resolution\": \"%s\", \"min\": %g, \"max\": %g}",
               i ? ", " : "", i, 2 * i, KINDS[kind_of(i)].quantity, KINDS[kind_of(i)].unit,
               KINDS[kind_of(i)].resolution, KINDS[kind_of(i)].min, KINDS[kind_of(i)].max);
    printf("]}\n");
}

/* Never run out of descriptors: a listener that cannot accept would keep epoll awake for nothing. */
static void limit_connections(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        die("getrlimit");
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < (rlim_t)(MAX_CONNECTIONS + port_count + 16))
        connection_limit = (int)files.rlim_cur - port_count - 16;
}

static void *open_log(const char *path, size_t size) {
    int flags = MAP_SHARED, fd = -1;
    if (path == NULL) {
        flags |= MAP_ANONYMOUS;
    } else {
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
            die(path);
    }
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (map == MAP_FAILED)
        die("mmap");
    if (fd >= 0)
        close(fd);
    return map;
}

static void print_totals(uint64_t started_ms) {
    struct port_log sum = {0};
    struct timespec cpu;
    for (int i = 0; i < port_count; i++) {
        sum.requests += port_logs[i].requests;
        sum.answered += port_logs[i].answered;
        sum.registers += port_logs[i].registers;
        sum.exceptions += port_logs[i].exceptions;
        sum.connections += port_logs[i].connections;
        sum.bytes_in += port_logs[i].bytes_in;
        sum.bytes_out += port_logs[i].bytes_out;
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    printf("{\"requests\": %" PRIu64 ", \"answered\": %" PRIu64 ", \"registers\": %" PRIu64
           ", \"exceptions\": %" PRIu64 ", \"connections\": %" PRIu64 ", \"bytes_in\": %" PRIu64
           ", \"bytes_out\": %" PRIu64 ", \"seconds\": %.3f, \"cpu_s\": %.3f}\n",
           sum.requests, sum.answered, sum.registers, sum.exceptions, sum.connections, sum.bytes_in,
           sum.bytes_out, (double)(wall_ms() - started_ms) / 1e3,
           (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
    fflush(stdout);
}

static long number(const char *option, const char *text, long low, long high) {
    char *end;
    long value = text ? strtol(text, &end, 10) : 0;
    if (text == NULL || *text == 0 || *end || value < low || value > high) {
        fprintf(stderr, "fastserver: %s needs a number from %ld to %ld\n", option, low, high);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv) {
    const char *host = "127.0.0.1", *log_path = NULL;
    long base = 0, seed = 1;
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i];
        if (!strcmp(option, "--describe")) {
            describe();
            return 0;
        }
        const char *value = argv[i + 1]; /* NULL at the end: argv is terminated by NULL */
        if (!strcmp(option, "--ports"))
            port_count = (int)number(option, value, 1, MAX_PORTS);
        else if (!strcmp(option, "--base"))
            base = number(option, value, 0, 65535);
        else if (!strcmp(option, "--units"))
            unit_count = (int)number(option, value, 0, MAX_UNITS);
        else if (!strcmp(option, "--seed"))
            seed = number(option, value, 0, 0x7fffffff);
        else if (!strcmp(option, "--host") && value)
            host = value;
        else if (!strcmp(option, "--log") && value)
            log_path = value;
        else {
            fprintf(stderr, "usage: fastserver [--ports N] [--base P] [--units N] [--seed S] [--host A] "
                            "[--log FILE] | --describe\n");
            return 2;
        }
        i++;
    }
    if (base && base + port_count - 1 > 65535) {
        fprintf(stderr, "fastserver: ports %ld..%ld pass 65535\n", base, base + port_count - 1);
        return 2;
    }

    limit_connections();
    size_t device_count = (size_t)port_count * (size_t)(unit_count ? unit_count : 1);
    struct log_header *header = open_log(log_path, sizeof *header + (size_t)port_count * sizeof *port_logs +
                                                       device_count * sizeof(uint64_t));
    port_logs = (struct port_log *)(header + 1);
    uint64_t *answered = (uint64_t *)(port_logs + port_count);
    devices = calloc(device_count, sizeof *devices);
    struct peer *listeners = calloc((size_t)port_count, sizeof *listeners);
    if (devices == NULL || listeners == NULL)
        die("memory");
    for (size_t i = 0; i < device_count; i++) {
        devices[i].answered = &answered[i];
        start_device(&devices[i], (uint64_t)seed, i);
    }

    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    sigprocmask(SIG_BLOCK, &ending, NULL);
    struct peer signals = {.fd = signalfd(-1, &ending, SFD_CLOEXEC)};
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (signals.fd < 0 || epoll_fd < 0)
        die("epoll");
    watch(&signals, EPOLLIN);

    printf("{\"ports\": [");
    for (int i = 0; i < port_count; i++) {
        int chosen = 0;
        listeners[i] = (struct peer){.port = i, .listener = true};
        listeners[i].fd = listen_on(host, base ? (int)base + i : 0, &chosen);
        watch(&listeners[i], EPOLLIN);
        printf("%s%d", i ? ", " : "", chosen);
    }
    printf("]}\n");
    fflush(stdout);
    header->ports = (uint64_t)port_count;
    header->units = (uint64_t)unit_count;
    header->started_ms = wall_ms();
    memcpy(header->magic, "PFSLOG1", 8); /* last: a reader that sees it sees the rest */

    struct epoll_event events[256];
    for (;;) {
        int n = epoll_wait(epoll_fd, events, 256, -1);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            struct peer *p = events[i].data.ptr;
            if (p == &signals) {
                print_totals(header->started_ms);
                return 0;
            }
            if (p->listener)
                accept_all(p);
            else
                serve(p, events[i].events);
        }
    }
}
