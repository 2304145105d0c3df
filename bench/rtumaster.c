/* A master on a serial line in C, on libmodbus: what the line gives to a program that does nothing else.
 *
 *     rtumaster DEVICE BAUD UNIT COUNT SECONDS SILENCE_US
 *
 * Reads COUNT holding registers from address 0 again and again, 8N1, and prints `reads N errors N seconds S`.
 * libmodbus itself keeps no silence between an answer and the next request; SILENCE_US is slept there. */
#include <errno.h>
#include <modbus/modbus.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    uint16_t registers[MODBUS_MAX_READ_REGISTERS];
    if (argc != 7) {
        fprintf(stderr, "usage: rtumaster DEVICE BAUD UNIT COUNT SECONDS SILENCE_US\n");
        return 2;
    }
    prctl(PR_SET_TIMERSLACK, 1000UL);
    int count = atoi(argv[4]);
    double seconds = atof(argv[5]);
    struct timespec silence = {.tv_nsec = atol(argv[6]) * 1000};
    modbus_t *context = modbus_new_rtu(argv[1], atoi(argv[2]), 'N', 8, 1);
    if (!context || modbus_set_slave(context, atoi(argv[3])) < 0 || modbus_connect(context) < 0) {
        fprintf(stderr, "rtumaster: %s: %s\n", argv[1], modbus_strerror(errno));
        return 1;
    }
    modbus_set_response_timeout(context, 1, 0);
    long reads = 0, errors = 0;
    double begin = now_s(), end = begin;
    while (end - begin < seconds) {
        if (modbus_read_registers(context, 0, count, registers) == count)
            reads++;
        else
            errors++;
        if (silence.tv_nsec)
            nanosleep(&silence, NULL);
        end = now_s();
    }
    printf("reads %ld errors %ld seconds %.6f\n", reads, errors, end - begin);
    modbus_close(context);
    modbus_free(context);
    return 0;
}
