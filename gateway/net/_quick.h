/* What the parts of `_quick.c` share: the state of the module, of a driver's quick way, and of the request on it. */

#ifndef GATEWAY_QUICK_H
#define GATEWAY_QUICK_H

#include <Python.h>

#include "../app/_environ.h"
#include "../app/_line.h"
#include "../protocol/_again.h"
#include "../protocol/_decode.h"
#include "../protocol/_frame.h"

#define CHUNK 65536          /* bytes read at once, as by `stream.Stream` */
#define LONGEST_ANSWER 65536 /* bytes of head and body that are sent from here */
#define LONGEST_HEAD 16384

typedef struct Answer Answer;

/* Of a connection that is served from here: when it had its last answer, in seconds of the monotonic clock. */
typedef struct {
    int is_set;
    double served;
} Mark;

/* When a request began, as `accesslog.Began`. */
typedef struct {
    double time, clock, user, system;
} Began;

/* A request on its way. */
typedef struct {
    int fd, keep_conn, head_only;
    Py_ssize_t body_at, body_size;
    PyObject *environ, *site; /* `routing.Known` */
    PyObject *waited;         /* seconds, or None */
    Began began;              /* where there is an access log */
} Request;

typedef struct {
    Names names;
    EnvironNames environ;
    PyObject *raised, *allowed, *text, *running, *armed, *moving, *is_plain; /* names of attributes */
    PyTypeObject *answer_type, *line_type;
} State;

typedef struct {
    PyObject_HEAD
    State *state; /* of the module, which the type holds */
    /* As in `wiring.Wiring`. */
    PyObject *fallback, *interruption, *mover, *access, *base, *hosts, *known, *line;
    PyObject *begin, *end, *accepted, *should_share, *request_path, *mount, *whole_body, *file_wrapper;
    double queue_timeout;
    long long max_body;
    Limits limits;
    int *listeners; /* their descriptors */
    Py_ssize_t listener_count;
    /* Of the access log, if there is one. */
    PyObject *suppressed;
    Line *format;
    int log_fd;
    double ticks; /* of CPU time in a second */

    byte *in, *out;
    Last last;
    Mark *marks; /* by descriptor */
    int mark_count;
    unsigned long thread; /* that answers */
    unsigned long serial; /* of the last request that the mover was told of */
    Request *request; /* that runs */
    Answer *answer;   /* to it */
} Quick;

#endif
