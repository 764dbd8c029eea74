/* A FastCGI program on libfcgi: answers with its process ID, after as many milliseconds as the query says, or when there
   is a file of that path. */
#include <fcgi_stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void wait_for(const char *path) {
    struct timespec rest = {0, 5000000L};
    while (access(path, F_OK) != 0)
        nanosleep(&rest, NULL);
}

int main(void) {
    while (FCGI_Accept() >= 0) {
        const char *query = getenv("QUERY_STRING");
        if (query && query[0] == '/')
            wait_for(query);
        int milliseconds = query ? atoi(query) : 0;
        struct timespec rest = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
        while (nanosleep(&rest, &rest) != 0)
            ; /* a signal has come: the request is finished nevertheless */
        printf("Content-Type: text/plain\r\n\r\n%d\n", (int)getpid());
    }
    return 0;
}
