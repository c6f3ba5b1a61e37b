/* A backend for benchmarks: answers every request with an empty 200, and notes when each event was there first.
 *
 *   sink PORT STAMPS
 *
 * An event is MARK and its number in twelve digits, anywhere in a body. One thread; bodies need a Content-Length. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "stamps.h"

#define MARK "BENCH-"
#define MARK_LENGTH 6
#define CONNECTIONS 65536
#define ROOM_FIRST 4096

static const char OK[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

struct connection {
    char *bytes;
    size_t used, room;
};

static struct connection connections[CONNECTIONS];
static struct stamps stamps;

static void note(const char *body, size_t length, uint64_t at_ns) {
    const char *end = body + length, *at = body;
    int found = 0;
    while ((at = memmem(at, (size_t)(end - at), MARK, MARK_LENGTH)) != NULL && at + MARK_LENGTH + ID_DIGITS <= end) {
        uint64_t id = 0;
        at += MARK_LENGTH;
        for (int digit = 0; digit < ID_DIGITS; digit++) id = id * 10 + (uint64_t)(at[digit] - '0');
        if (id < stamps.events) {
            found = 1;
            if (stamps.received[id]) stamps.header[1]++;
            else stamps.received[id] = at_ns;
        }
    }
    stamps.header[0]++;
    if (!found) stamps.header[2]++;
}

/* Length of the request at the start of `bytes`, head and body; 0 when more must come, -1 when it is none. */
static long request_length(const char *bytes, size_t used, const char **body) {
    const char *end = memmem(bytes, used, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    *body = end + 4;
    long length = 0;
    for (const char *line = memmem(bytes, (size_t)(end - bytes), "\r\n", 2); line != NULL && line < end;
         line = memmem(line + 2, (size_t)(*body - line - 2), "\r\n", 2)) {
        if (strncasecmp(line + 2, "content-length:", 15) == 0) length = strtol(line + 17, NULL, 10);
        else if (strncasecmp(line + 2, "transfer-encoding:", 18) == 0) return -1;
    }
    long total = (*body - bytes) + length;
    return (size_t)total <= used ? total : 0;
}

static void hang_up(int fd) {
    free(connections[fd].bytes);
    memset(&connections[fd], 0, sizeof connections[fd]);
    close(fd);
}

static void serve(int fd) {
    struct connection *peer = &connections[fd];
    for (;;) {
        if (peer->room - peer->used < ROOM_FIRST) {
            peer->room = peer->room ? peer->room * 2 : 2 * ROOM_FIRST;
            peer->bytes = realloc(peer->bytes, peer->room);
            if (peer->bytes == NULL) die("realloc");
        }
        size_t free_bytes = peer->room - peer->used;
        ssize_t got = recv(fd, peer->bytes + peer->used, free_bytes, 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (got <= 0) {
            hang_up(fd);
            return;
        }
        peer->used += (size_t)got;
        uint64_t at_ns = now_ns();
        const char *body;
        long length;
        while ((length = request_length(peer->bytes, peer->used, &body)) > 0) {
            note(body, (size_t)(peer->bytes + length - body), at_ns);
            if (send(fd, OK, sizeof OK - 1, MSG_NOSIGNAL) != sizeof OK - 1) {
                hang_up(fd);
                return;
            }
            peer->used -= (size_t)length;
            memmove(peer->bytes, peer->bytes + length, peer->used);
        }
        if (length < 0) {
            fprintf(stderr, "sink: a request without Content-Length\n");
            hang_up(fd);
            return;
        }
        if ((size_t)got < free_bytes) return; /* that was all: saves a system call */
    }
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: sink PORT STAMPS\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    stamps = map_stamps(argv[2]);
    int one = 1, door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(door, (struct sockaddr *)&place, sizeof place) < 0 || listen(door, 1024) < 0) die("bind");
    int poll = epoll_create1(0);
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = door}, ready[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, door, &wanted);
    for (;;) {
        int count = epoll_wait(poll, ready, 256, -1);
        for (int index = 0; index < count; index++) {
            if (ready[index].data.fd != door) {
                serve(ready[index].data.fd);
                continue;
            }
            int fd = accept4(door, NULL, NULL, SOCK_NONBLOCK);
            if (fd < 0) continue;
            if (fd >= CONNECTIONS) {
                close(fd);
                continue;
            }
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            wanted = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
            epoll_ctl(poll, EPOLL_CTL_ADD, fd, &wanted);
        }
    }
}
