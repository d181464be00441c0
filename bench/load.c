/* A closed loop of clients: the load for `python -m bench`.
 *
 *   load -s SOCKET -r FILE -p close|http|fastcgi -b TEXT [-c 8] [-n REQUESTS] [-t SECONDS]
 *        [-w MS] [-j MS]
 *
 * SOCKET is the path of a unix socket, or a port of 127.0.0.1.
 *
 * FILE holds the bytes of one complete request; each of the -c connections sends it, waits for the
 * whole answer, and sends it again (after -w milliseconds and up to -j more at random), until -n
 * answers have come, -t seconds have passed or SIGTERM comes. What is under way then is waited for,
 * 10 seconds at most. How the end of an answer is told:
 *
 *   close     the server closes the connection (SCGI, uwsgi, HTTP with Connection: close); what has
 *             come by then must be as long as a Content-Length says
 *   http      Content-Length or the last chunk; the connection is used again
 *   fastcgi   the END_REQUEST record; the connection is used again
 *
 * An answer counts when its head says 200 and it contains TEXT. A kept connection that the server
 * closed before one byte of the answer is opened again and the request sent once more, as every
 * HTTP client and front does; the wait goes on, and `stale` counts it. All else is a failure.
 *
 * The report is one line of JSON: answers, failures by kind, latencies in microseconds from the
 * first byte sent (or the connect before it) to the last byte read.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum mode { CLOSE, HTTP, FASTCGI };
enum failure { REFUSED, EMPTY, TRUNCATED, WRONG, UNANSWERED, KINDS };
static const char *const names[KINDS] = {"refused", "empty", "truncated", "wrong", "unanswered"};
enum { BUFFER = 2 << 20, DRAIN_S = 10, EVENTS = 64 };

struct client {
    int fd;            /* -1: not connected */
    int busy;          /* a request is under way */
    int used;          /* an answer has come on this connection before */
    uint64_t started;  /* ns */
    uint64_t resume;   /* ns: not before */
    uint32_t awaits;   /* of epoll's events */
    size_t sent;       /* of the request */
    size_t got;        /* of the answer */
    char answer[BUFFER];
};

static enum mode mode;
static struct sockaddr_un path = {.sun_family = AF_UNIX};
static struct sockaddr_in port = {.sin_family = AF_INET};
static const char *body;
static char *request;
static size_t request_length;
static int epoll;
static struct client *clients;
static int count = 8;
static uint64_t limit = UINT64_MAX, begun, answers, stale, failures[KINDS], pause_ns, jitter_ns;
static volatile uint64_t deadline;
static uint32_t *latencies; /* in units of 100 ns */
static size_t capacity;

static void die(const char *what) {
    perror(what);
    exit(2);
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void hang_up(struct client *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->used = 0;
}

/* A connected socket that does not block, or -1. connect(2) on a port of this host is over at once,
 * but says EINPROGRESS if it may not block. */
static int dial(void) {
    int tcp = port.sin_port != 0, on = 1;
    int fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (tcp ? 0 : SOCK_NONBLOCK), 0);
    if (fd < 0) die("socket");
    if (tcp ? connect(fd, (struct sockaddr *)&port, sizeof port)
            : connect(fd, (struct sockaddr *)&path, sizeof path)) {
        close(fd);
        return -1;
    }
    if (tcp && (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) || fcntl(fd, F_SETFL, O_NONBLOCK)))
        die("the socket");
    return fd;
}

static void await(struct client *c, int how, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (how == EPOLL_CTL_MOD && c->awaits == events) return;
    if (epoll_ctl(epoll, how, c->fd, &event)) die("epoll_ctl");
    c->awaits = events;
}

static int connected(struct client *c) {
    if (c->fd >= 0) return 1;
    c->fd = dial();
    if (c->fd >= 0) await(c, EPOLL_CTL_ADD, EPOLLIN);
    return c->fd >= 0;
}

/* Send what is left of the request, as far as it is taken; 0 when the connection is of no use. */
static int sent(struct client *c) {
    while (c->sent < request_length) {
        ssize_t n = send(c->fd, request + c->sent, request_length - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            await(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return 1;
        }
        if (n <= 0) return 0;
        c->sent += (size_t)n;
    }
    await(c, EPOLL_CTL_MOD, EPOLLIN);
    return 1;
}

/* Send the request from its beginning. */
static int began(struct client *c) {
    c->got = c->sent = 0;
    return sent(c);
}

static void failed(struct client *c, enum failure kind) {
    failures[kind]++;
    c->busy = 0; /* the main loop begins it again */
    hang_up(c);
}

static void lost(struct client *c) {
    if (c->got == 0 && c->used) {
        stale++;
        hang_up(c);
        if (!connected(c))
            failed(c, REFUSED);
        else if (!began(c))
            failed(c, EMPTY);
    } else
        failed(c, c->got ? TRUNCATED : EMPTY);
}

static void begin(struct client *c) {
    uint64_t t = now();
    if (begun >= limit || t >= deadline || t < c->resume) return;
    begun++;
    c->busy = 1;
    c->started = t;
    if (!connected(c))
        failed(c, REFUSED);
    else if (!began(c))
        lost(c);
}

static void done(struct client *c, int keep) {
    c->busy = 0;
    if (c->sent < request_length || !memmem(c->answer, c->got < 64 ? c->got : 64, " 200", 4) ||
        !memmem(c->answer, c->got, body, strlen(body))) {
        failed(c, WRONG);
        return;
    }
    if (answers == capacity) {
        capacity = capacity ? capacity * 2 : 65536;
        if (!(latencies = realloc(latencies, capacity * sizeof *latencies))) die("realloc");
    }
    uint64_t t = now();
    latencies[answers++] = (uint32_t)((t - c->started) / 100);
    c->resume = t + pause_ns + (uint64_t)(drand48() * (double)jitter_ns);
    c->used = 1;
    if (!keep) hang_up(c);
    begin(c);
}

/* What the head of an answer says of its end. */
struct head {
    int keep;       /* the connection may be used again */
    int chunked;
    int sized;      /* there is a Content-Length */
    size_t length;
    size_t got;     /* of the body */
};

/* Read the head; 0 when it is not there. */
static int head(struct client *c, struct head *h) {
    c->answer[c->got] = 0;
    char *end = strstr(c->answer, "\r\n\r\n");
    if (!end) return 0;
    *end = 0;
    char *field = strcasestr(c->answer, "\r\ncontent-length:");
    h->keep = !strcasestr(c->answer, "\r\nconnection: close");
    h->chunked = strcasestr(c->answer, "\r\ntransfer-encoding: chunked") != NULL;
    h->sized = field != NULL;
    h->length = field ? strtoul(field + 17, NULL, 10) : 0;
    h->got = c->got - (size_t)(end + 4 - c->answer);
    *end = '\r';
    return 1;
}

/* Whether the HTTP answer is whole; `*keep`: whether the connection may be used again. */
static int http_whole(struct client *c, int *keep) {
    struct head h;
    if (!head(c, &h)) return 0;
    *keep = h.keep;
    if (h.chunked) return h.got >= 5 && !memcmp(c->answer + c->got - 5, "0\r\n\r\n", 5);
    return h.sized && h.got >= h.length;
}

/* Whether an answer whose connection has been closed is as long as its head says. */
static int closed_whole(struct client *c) {
    struct head h;
    return c->got && (!head(c, &h) || !h.sized || h.got >= h.length);
}

static int fastcgi_whole(struct client *c) {
    const unsigned char *record = (unsigned char *)c->answer, *end = record + c->got;
    while (record + 8 <= end) {
        size_t size = 8u + ((size_t)record[4] << 8 | record[5]) + record[6];
        if (record + size > end) return 0;
        if (record[1] == 3) return 1;
        record += size;
    }
    return 0;
}

static void readable(struct client *c) {
    int whole = 0, keep = 1;
    for (;;) {
        ssize_t n = read(c->fd, c->answer + c->got, BUFFER - 1 - c->got);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            if (!c->busy)
                hang_up(c);
            else if (n == 0 && mode == CLOSE && closed_whole(c))
                done(c, 0);
            else
                lost(c);
            return;
        }
        c->got += (size_t)n;
        if (c->got == BUFFER - 1 || !c->busy) {
            failed(c, WRONG);
            return;
        }
        if (mode == HTTP) whole = http_whole(c, &keep);
        if (mode == FASTCGI) whole = fastcgi_whole(c);
        if (whole) {
            done(c, keep);
            return;
        }
        if (mode != CLOSE) return;
    }
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double quantile(double q) {
    return answers ? latencies[(size_t)(q * (double)(answers - 1))] / 10.0 : 0;
}

static void report(double seconds) {
    double sum = 0;
    qsort(latencies, answers, sizeof *latencies, ascending);
    for (uint64_t i = 0; i < answers; i++) sum += latencies[i] / 10.0;
    printf("{\"requests\": %lu, \"seconds\": %.6f, \"stale\": %lu, \"failures\": {", answers,
           seconds, stale);
    for (int kind = 0; kind < KINDS; kind++)
        printf("%s\"%s\": %lu", kind ? ", " : "", names[kind], failures[kind]);
    printf("}, \"mean_us\": %.1f, \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, "
           "\"max_us\": %.1f}\n",
           answers ? sum / (double)answers : 0, quantile(.5), quantile(.9), quantile(.99),
           quantile(1));
}

static void read_request(const char *name) {
    FILE *file = fopen(name, "rb");
    if (!file) die(name);
    request = malloc(BUFFER);
    if (!request) die("malloc");
    request_length = fread(request, 1, BUFFER, file);
    if (request_length == BUFFER) {
        fprintf(stderr, "%s: over %d bytes\n", name, BUFFER);
        exit(2);
    }
    fclose(file);
}

static void enough(int number) {
    (void)number;
    deadline = 0;
}

int main(int argc, char **argv) {
    double seconds = 60;
    int option;
    while ((option = getopt(argc, argv, "s:r:p:b:c:n:t:w:j:")) != -1) switch (option) {
        case 's':
            strncpy(path.sun_path, optarg, sizeof path.sun_path - 1);
            port.sin_port = strchr(optarg, '/') ? 0 : htons((uint16_t)atoi(optarg));
            break;
        case 'r': read_request(optarg); break;
        case 'p':
            mode = !strcmp(optarg, "http") ? HTTP : !strcmp(optarg, "fastcgi") ? FASTCGI : CLOSE;
            break;
        case 'b': body = optarg; break;
        case 'c': count = atoi(optarg); break;
        case 'n': limit = strtoul(optarg, NULL, 10); break;
        case 'w': pause_ns = (uint64_t)(atof(optarg) * 1e6); break;
        case 'j': jitter_ns = (uint64_t)(atof(optarg) * 1e6); break;
        case 't': seconds = atof(optarg); break;
        default: return 2;
        }
    if (!request || !body || !*path.sun_path || count < 1) {
        fprintf(stderr, "usage: load -s SOCKET -r FILE -p MODE -b TEXT [-c N] [-n N] [-t S] [-w MS] [-j MS]\n");
        return 2;
    }
    epoll = epoll_create1(EPOLL_CLOEXEC);
    clients = calloc((size_t)count, sizeof *clients);
    if (epoll < 0 || !clients) die("setup");
    uint64_t start = now(), last = start, stopped = 0;
    port.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    deadline = start + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < count; i++) clients[i].fd = -1;
    signal(SIGTERM, enough);
    for (;;) {
        int busy = 0;
        uint64_t refused = failures[REFUSED];
        for (int i = 0; i < count; i++) {
            if (!clients[i].busy) begin(&clients[i]);
            busy += clients[i].busy;
        }
        int over = begun >= limit || now() >= deadline;
        if (refused != failures[REFUSED])
            usleep(1000); /* rather than spin on a socket that nobody holds */
        else if (!busy && over)
            break;
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epoll, events, EVENTS, pause_ns ? 1 : busy ? 1000 : 0);
        if (n < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < n; i++) {
            struct client *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT && c->busy && !sent(c)) lost(c);
            if (events[i].events & ~(uint32_t)EPOLLOUT) readable(c);
        }
        if (n > 0) last = now();
        if (over && !stopped) stopped = now();
        if (stopped && now() > stopped + DRAIN_S * 1000000000ull) {
            for (int i = 0; i < count; i++) failures[UNANSWERED] += (uint64_t)clients[i].busy;
            break;
        }
    }
    report((double)(last - start) / 1e9);
    return 0;
}
