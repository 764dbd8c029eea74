/* Thirteen bytes from a C program on libfcgi, with so many workers: hello SOCKET WORKERS. */

#include <fcgiapp.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int serve(int listener)
{
	FCGX_Request request;

	if (FCGX_InitRequest(&request, listener, 0) != 0)
		return 111;
	while (FCGX_Accept_r(&request) == 0)
		FCGX_PutS("Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!", request.out);
	return 0;
}

int main(int count, char **words)
{
	int listener, workers;

	if (count != 3 || FCGX_Init() != 0 || (listener = FCGX_OpenSocket(words[1], 511)) < 0)
		return 100;
	for (workers = atoi(words[2]); workers > 0; workers--)
		if (fork() == 0)
			return serve(listener);
	while (wait(NULL) > 0)
		;
	return 0;
}
