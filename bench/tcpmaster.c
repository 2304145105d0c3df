/* Clients in C, on libmodbus: what a program gets out of Modbus TCP servers that does nothing else.
 *
 *     tcpmaster COUNT SECONDS PORT...
 *
 * One connection to each PORT of this machine, a thread for each; every thread reads COUNT holding registers
 * from address 0 again and again, one request at a time, from a common start on. Prints one line of JSON:
 * requests, errors, seconds, and the CPU seconds of the process, all of the measured time alone. */
#include <errno.h>
#include <modbus/modbus.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct client {
    modbus_t *context;
    pthread_t thread;
    long requests, errors;
};

static pthread_barrier_t ready;
static atomic_bool ending;
static int count;

static double clock_s(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void *ask(void *argument) {
    struct client *client = argument;
    uint16_t registers[MODBUS_MAX_READ_REGISTERS];
    pthread_barrier_wait(&ready);
    while (!atomic_load_explicit(&ending, memory_order_relaxed)) {
        if (modbus_read_registers(client->context, 0, count, registers) == count)
            client->requests++;
        else
            client->errors++;
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: tcpmaster COUNT SECONDS PORT...\n");
        return 2;
    }
    count = atoi(argv[1]);
    double seconds = atof(argv[2]);
    int number = argc - 3;
    struct client *clients = calloc((size_t)number, sizeof *clients);
    if (count < 1 || count > MODBUS_MAX_READ_REGISTERS || !clients)
        return 2;
    pthread_barrier_init(&ready, NULL, (unsigned)number + 1);
    for (int i = 0; i < number; i++) {
        modbus_t *context = clients[i].context = modbus_new_tcp("127.0.0.1", atoi(argv[3 + i]));
        if (!context || modbus_connect(context) < 0) {
            fprintf(stderr, "tcpmaster: port %s: %s\n", argv[3 + i], modbus_strerror(errno));
            return 1;
        }
        if (pthread_create(&clients[i].thread, NULL, ask, &clients[i])) {
            fprintf(stderr, "tcpmaster: a thread cannot be started\n");
            return 1;
        }
    }
    pthread_barrier_wait(&ready);
    double begin = clock_s(CLOCK_MONOTONIC), cpu = clock_s(CLOCK_PROCESS_CPUTIME_ID);
    struct timespec wait = {.tv_sec = (time_t)seconds,
                            .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&wait, NULL);
    atomic_store(&ending, 1);
    long requests = 0, errors = 0;
    for (int i = 0; i < number; i++) {
        pthread_join(clients[i].thread, NULL);
        requests += clients[i].requests;
        errors += clients[i].errors;
    }
    printf("{\"requests\": %ld, \"errors\": %ld, \"seconds\": %.6f, \"cpu_s\": %.6f}\n", requests, errors,
           clock_s(CLOCK_MONOTONIC) - begin, clock_s(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    return 0;
}
