/* A load for benchmarks: one request under way on each of so many connections of HTTP/1.1.
 *
 *   load PORT CONNECTIONS RATE SECONDS COUNT FIRST STATUS DRAIN REQUEST STAMPS
 *
 * RATE 0: closed loop, the next request when the last one is answered, until SECONDS have passed or COUNT are sent.
 * RATE above 0: open loop. Requests are due at Poisson times whatever the server does; one for which no connection is
 * free waits, and its latency counts from when it was due (no coordinated omission). After SECONDS it waits DRAIN
 * seconds at most for what is due and not answered.
 * REQUEST is a file with a whole request; twelve # in it become the event's number, four @ its last four digits.
 * Answers other than STATUS are counted by their status. Prints one JSON object. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "stamps.h"

#define PLACES 16
#define ANSWER_MAX 16384
#define CONNECTIONS_MAX 4096

struct connection {
    int fd;
    int is_busy;
    uint64_t id;
    size_t used;
    char answer[ANSWER_MAX];
};

static struct connection *connections;
static int idle[CONNECTIONS_MAX], idle_count;
static struct stamps stamps;
static char *request;
static size_t request_length;
static size_t numbers[PLACES], shorts[PLACES];
static int number_count, short_count;

static uint64_t first, next_id, due_end, sent, answered, wrong, broken;
static uint64_t late_sum_ns, late_max_ns;
static int expected, statuses[1000];

static void read_request(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) die(path);
    request = calloc(1, 1 << 22);
    request_length = fread(request, 1, 1 << 22, file);
    fclose(file);
    for (size_t at = 0; at + 4 <= request_length; at++) {
        if (number_count < PLACES && strncmp(request + at, "############", 12) == 0) numbers[number_count++] = at, at += 11;
        else if (short_count < PLACES && strncmp(request + at, "@@@@", 4) == 0) shorts[short_count++] = at, at += 3;
    }
}

static void write_digits(size_t at, uint64_t value, int digits) {
    while (digits-- > 0) {
        request[at + (size_t)digits] = (char)('0' + value % 10);
        value /= 10;
    }
}

static void send_next(int index) {
    struct connection *peer = &connections[index];
    uint64_t id = next_id++;
    for (int place = 0; place < number_count; place++) write_digits(numbers[place], id, ID_DIGITS);
    for (int place = 0; place < short_count; place++) write_digits(shorts[place], id, 4);
    uint64_t now = now_ns();
    if (stamps.meant[id] == 0) stamps.meant[id] = now;
    uint64_t late = now - stamps.meant[id];
    late_sum_ns += late;
    if (late > late_max_ns) late_max_ns = late;
    peer->id = id;
    peer->is_busy = 1;
    for (size_t done = 0; done < request_length;) {
        ssize_t part = send(peer->fd, request + done, request_length - done, MSG_NOSIGNAL);
        if (part < 0 && errno == EAGAIN) continue; /* larger than the socket's buffer: the server reads it meanwhile */
        if (part < 0) die("send");
        done += (size_t)part;
    }
    sent++;
}

/* Whether a whole answer has come; its status in *status, -1 for one this program can't read. */
static int is_complete(struct connection *peer, int *status) {
    char *end = memmem(peer->answer, peer->used, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    long length = -1;
    for (char *line = memmem(peer->answer, peer->used, "\r\n", 2); line != NULL && line < end;
         line = memmem(line + 2, (size_t)(end + 4 - line - 2), "\r\n", 2))
        if (strncasecmp(line + 2, "content-length:", 15) == 0) length = strtol(line + 17, NULL, 10);
    *status = length < 0 ? -1 : atoi(peer->answer + 9);
    return length < 0 || peer->used >= (size_t)(end + 4 - peer->answer) + (size_t)length;
}

static void receive(int index) {
    struct connection *peer = &connections[index];
    ssize_t got = recv(peer->fd, peer->answer + peer->used, ANSWER_MAX - peer->used, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        fprintf(stderr, "load: the server closed a connection\n");
        broken++;
        close(peer->fd);
        peer->fd = -1;
        return;
    }
    peer->used += (size_t)got;
    int status;
    if (!is_complete(peer, &status)) return;
    uint64_t now = now_ns();
    if (status == expected) {
        answered++;
        stamps.answered[peer->id] = now;
    } else {
        wrong++;
        statuses[status > 0 && status < 1000 ? status : 0]++;
    }
    peer->used = 0;
    peer->is_busy = 0;
    idle[idle_count++] = index;
}

static void open_connections(int port, int count, int poll) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    for (int index = 0; index < count; index++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&place, sizeof place) < 0) die("connect");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        struct epoll_event wanted = {.events = EPOLLIN, .data.u32 = (uint32_t)index};
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &wanted);
        connections[index].fd = fd;
        idle[idle_count++] = index;
    }
}

/* The same gaps in each run. */
static uint64_t gap_ns(double rate) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    double uniform = ((double)(state >> 11) + 1.0) / 9007199254740993.0;
    return (uint64_t)(-log(uniform) / rate * 1e9);
}

static double cpu_s(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv) {
    if (argc != 11) {
        fprintf(stderr, "usage: load PORT CONNECTIONS RATE SECONDS COUNT FIRST STATUS DRAIN REQUEST STAMPS\n");
        return 2;
    }
    int count = atoi(argv[2]);
    double rate = atof(argv[3]), seconds = atof(argv[4]), drain = atof(argv[8]);
    uint64_t limit = strtoull(argv[5], NULL, 10);
    first = next_id = due_end = strtoull(argv[6], NULL, 10);
    expected = atoi(argv[7]);
    read_request(argv[9]);
    stamps = map_stamps(argv[10]);
    uint64_t last = limit ? first + limit : stamps.events;
    if (count < 1 || count > CONNECTIONS_MAX || last > stamps.events) {
        fprintf(stderr, "load: CONNECTIONS is 1 to %d, FIRST and COUNT within the stamps\n", CONNECTIONS_MAX);
        return 2;
    }
    connections = calloc((size_t)count, sizeof *connections);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1);
    int poll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event wanted = {.events = EPOLLIN, .data.u32 = UINT32_MAX}, ready[512];
    epoll_ctl(poll, EPOLL_CTL_ADD, timer, &wanted);
    open_connections(atoi(argv[1]), count, poll);

    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9), give_up = end + (uint64_t)(drain * 1e9);
    uint64_t due = rate > 0 ? start + gap_ns(rate) : 0;
    uint64_t finished = start, backlog_max = 0, armed = 0;
    while (!broken) {
        uint64_t now = now_ns();
        int is_sending = now < end && (rate > 0 ? due_end : next_id) < last;
        if (rate > 0) {
            for (; is_sending && due <= now && due < end && due_end < last; due += gap_ns(rate))
                stamps.meant[due_end++] = due;
            if (due >= end) is_sending = 0;
            while (idle_count && next_id < due_end) send_next(idle[--idle_count]);
            if (due_end - next_id > backlog_max) backlog_max = due_end - next_id;
        } else {
            while (is_sending && idle_count && next_id < last) send_next(idle[--idle_count]);
        }
        int is_done = idle_count == count && (rate > 0 ? next_id == due_end : 1);
        if (!is_sending && (is_done || now >= give_up)) break;
        uint64_t wake = is_sending && rate > 0 && due < end ? due : is_sending ? end : give_up;
        if (wake != armed) { /* one that has fired is armed again: its time has passed, so `wake` is another */
            struct itimerspec at = {.it_value = {(time_t)(wake / 1000000000u), (long)(wake % 1000000000u)}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
            armed = wake;
        }
        int events = epoll_wait(poll, ready, 512, 1000);
        for (int index = 0; index < events; index++) {
            if (ready[index].data.u32 != UINT32_MAX) {
                receive((int)ready[index].data.u32);
                finished = now_ns();
            }
        }
    }
    uint64_t unsent = rate > 0 ? due_end - next_id : 0;
    printf("{\"first\": %lu, \"end\": %lu, \"sent\": %lu, \"ok\": %lu, \"wrong\": %lu, \"broken\": %lu, \"unsent\": %lu, "
           "\"unanswered\": %lu, \"backlog_max\": %lu, \"seconds\": %.6f, \"late_mean_us\": %.1f, \"late_max_us\": %.1f, "
           "\"cpu_s\": %.4f, \"statuses\": {",
           first, rate > 0 ? due_end : next_id, sent, answered, wrong, broken, unsent, sent - answered - wrong, backlog_max,
           (double)(finished - start) / 1e9, sent ? (double)late_sum_ns / (double)sent / 1e3 : 0.0,
           (double)late_max_ns / 1e3, cpu_s());
    const char *comma = "";
    for (int status = 0; status < 1000; status++)
        if (statuses[status]) printf("%s\"%d\": %d", comma, status, statuses[status]), comma = ", ";
    printf("}}\n");
    return 0;
}
