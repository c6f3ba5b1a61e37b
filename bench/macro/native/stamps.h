/* What the load and the sink know of each event, in one file that both map: when it was meant to be sent, when it was
 * answered, when it was at the backend (CLOCK_MONOTONIC, ns; 0: not yet). Python reads the same file (load.py). */
#ifndef STAMPS_H
#define STAMPS_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HEADER_WORDS 512 /* one page */
#define ID_DIGITS 12

struct stamps {
    uint64_t *header; /* 0: requests at the sink, 1: events it had had before, 2: bodies without an event */
    uint64_t *meant, *answered, *received;
    uint64_t events;
};

static inline uint64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

static inline struct stamps map_stamps(const char *path) {
    struct stamps made;
    struct stat about;
    int file = open(path, O_RDWR);
    if (file < 0 || fstat(file, &about) < 0) die(path);
    uint64_t *words = mmap(NULL, (size_t)about.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (words == MAP_FAILED) die("mmap");
    close(file);
    made.events = ((uint64_t)about.st_size / 8 - HEADER_WORDS) / 3;
    made.header = words;
    made.meant = words + HEADER_WORDS;
    made.answered = made.meant + made.events;
    made.received = made.answered + made.events;
    return made;
}

#endif
