/* web: a static web server of one file, for demonstrations.
 *
 *   web [PORT]      listens on every address (port 8080), answers GET / and prints one line per request
 *
 * It is meant to be the only program of a container: it ends at once on SIGTERM, as `docker stop` expects of the first
 * process, and it has no need of a shell, a library or a second process.
 * build: gcc -O2 -static -o web web.c */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void end(int signal) {
    (void)signal;
    _exit(0);
}

static void answer(int client) {
    char request[4096], host[65] = "?", page[256], head[256];
    ssize_t size = read(client, request, sizeof request - 1);
    if (size <= 0)
        return;
    request[size] = 0;
    char *line_end = strpbrk(request, "\r\n");
    if (line_end)
        *line_end = 0;
    gethostname(host, sizeof host - 1);

    int found = !strncmp(request, "GET / ", 6);
    int length = found ? snprintf(page, sizeof page, "Hello from %s, process %d of its world.\n", host, getpid())
                       : snprintf(page, sizeof page, "There is only one page here.\n");
    int head_length = snprintf(head, sizeof head,
                               "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
                               found ? "200 OK" : "404 Not Found", length);
    if (write(client, head, head_length) == head_length && write(client, page, length) == length)
        printf("%d %s\n", found ? 200 : 404, request);
}

int main(int count, char **arguments) {
    signal(SIGTERM, end);
    signal(SIGINT, end);
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);

    int port = count > 1 ? atoi(arguments[1]) : 8080;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) {
        perror("web: cannot listen");
        return 1;
    }
    printf("listening on port %d\n", port);
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0)
            continue;
        answer(client);
        close(client);
    }
}
