/* A FastCGI program on libfcgi: answers with its process ID, after as many milliseconds as the query says. */
#include <fcgi_stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    while (FCGI_Accept() >= 0) {
        const char *query = getenv("QUERY_STRING");
        int milliseconds = query ? atoi(query) : 0;
        struct timespec rest = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
        while (nanosleep(&rest, &rest) != 0)
            ; /* a signal has come: the request is finished nevertheless */
        printf("Content-Type: text/plain\r\n\r\n%d\n", (int)getpid());
    }
    return 0;
}
