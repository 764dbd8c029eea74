/* A request on the quick way from its bytes to its answer. */

#ifndef GATEWAY_SERVE_H
#define GATEWAY_SERVE_H

#include <Python.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "_answer.h"
#include "_log.h"
#include "_quick.h"
#include "_request.h"

/* What is sent of the body, and where the head that it follows ends. */
typedef struct {
    const char *head_end;
    Py_ssize_t size;
} Sent;

/* The body where it is a list or tuple of bytes that fits; what Python does with a body is not done here. */
static int put_body(PyObject *body, Head *head, const char *start, Sent *sent)
{
    Py_ssize_t count = PyList_CheckExact(body) ? PyList_Size(body) : PyTuple_CheckExact(body) ? PyTuple_Size(body) : -1;
    Py_ssize_t total = 0;
    if (count < 0)
        return 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *chunk = PyList_CheckExact(body) ? PyList_GetItem(body, i) : PyTuple_GetItem(body, i);
        if (!PyBytes_CheckExact(chunk))
            return 0;
        total += PyBytes_Size(chunk);
        if (total > LONGEST_ANSWER)
            return 0;
    }
    char line[48];
    Py_ssize_t line_size = 0;
    if (head->length < 0)
        line_size = snprintf(line, sizeof line, "Content-Length: %zd\r\n", total);
    else if (head->length != total)
        return 0;
    if (head->at - start + line_size + 2 + total > LONGEST_ANSWER)
        return 0;
    sent->head_end = head->at = (char *)memcpy(head->at, line, (size_t)line_size) + line_size;
    head->at = (char *)memcpy(head->at, "\r\n", 2) + 2;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *chunk = PyList_CheckExact(body) ? PyList_GetItem(body, i) : PyTuple_GetItem(body, i);
        const Py_ssize_t length = PyBytes_Size(chunk);
        head->at = (char *)memcpy(head->at, PyBytes_AsString(chunk), (size_t)length) + length;
    }
    sent->size = total;
    return 1;
}

/* Whether nothing has come of the answer so far that is Python's to see to. */
static int is_undisturbed(Quick *self, const Answer *answer)
{
    if (answer->response != NULL || answer->printed != NULL)
        return 0;
    PyObject *raised = PyObject_GetAttr(self->interruption, self->state->raised);
    Py_XDECREF(raised);
    if (raised != Py_None) /* swallowed by the application */
        return PyErr_Occurred() ? -1 : 0;
    PyObject *unfinished = PyObject_GetAttr(self->line, self->state->text);
    const Py_ssize_t left = unfinished == NULL ? -1 : PyUnicode_GetLength(unfinished);
    Py_XDECREF(unfinished);
    if (left != 0) /* printed, and to be flushed */
        return left < 0 ? -1 : 0;
    return 1;
}

static int may_have_body(const Quick *self, const Answer *answer)
{
    return answer->text != NULL && !self->request->head_only && answer->head.status != 204 && answer->head.status != 304;
}

/* Whether the answer can be sent from here; its `head.at` is then its end. */
static int is_simple(Quick *self, Answer *answer, PyObject *body, Sent *sent)
{
    const int done = may_have_body(self, answer) ? is_undisturbed(self, answer) : 0;
    return done == 1 ? put_body(body, &answer->head, (char *)self->out + HEADER_SIZE, sent) : done;
}

/* Send what is framed; where not all of it could be sent, Python sends the rest. False where nobody takes it. */
static int send_bytes(Quick *self, const byte *data, Py_ssize_t size)
{
    Py_ssize_t sent = send(self->request->fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == size)
        return 1;
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        return 0;
    sent = sent < 0 ? 0 : sent;
    PyObject *alive = PyObject_CallMethod(self->fallback, "send_rest", "iy#", self->request->fd, data + sent, size - sent);
    const int result = alive == NULL ? -1 : alive == Py_True;
    Py_XDECREF(alive);
    return result;
}

/* The head and what follows it become one record. */
static void put_record(Quick *self, const char *end)
{
    const Py_ssize_t content = end - (char *)self->out - HEADER_SIZE;
    if (content <= LONGEST_CONTENT)
        put_header(self->out, STDOUT, 1, content);
}

static int send_answer(Quick *self, const char *end)
{
    put_record(self, end);
    return send_bytes(self, self->out, put_answer_end((byte *)end, 1, 0) - self->out);
}

static int end_on_board(Quick *self, const Request *request, int status)
{
    PyObject *number = PyLong_FromLong(status);
    PyObject *done = number == NULL ? NULL : PyObject_CallFunctionObjArgs(self->end, PyTuple_GetItem(request->site, 2),
        number, request->waited, NULL);
    Py_XDECREF(number);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Note what was answered to whoever is `alive`. True or False, whether the connection is to be kept. */
static PyObject *finish(Quick *self, const Request *request, const Answer *answer, const Sent *sent, int alive)
{
    const char *start = (char *)self->out + HEADER_SIZE;
    if (alive < 0 || end_on_board(self, request, answer->head.status) < 0)
        return NULL;
    Entry entry = {.environ = request->environ, .status = answer->head.status, .complete = alive, .head = start,
                   .head_end = sent->head_end, .size = sent->size};
    if (end_log(self, &request->began, &entry) < 0)
        return NULL;
    return Py_NewRef(alive && request->keep_conn ? Py_True : Py_False);
}

/* What was raised, or None. */
static PyObject *take_error(void)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    if (type == NULL)
        Py_RETURN_NONE;
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(error, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return error;
}

/* Let Python end what is not simple, or has failed: it has done all when this returns. */
static PyObject *finish_slowly(Quick *self, Answer *answer, PyObject *body)
{
    PyObject *error = take_error();
    PyObject *done = hand_over(answer) < 0 ? NULL : PyObject_CallMethod(self->fallback, "end_slowly", "OOO",
        answer->response, body == NULL ? Py_None : body, error);
    Py_DECREF(error);
    return done;
}

static Answer *new_answer(Quick *self)
{
    Answer *answer = PyObject_New(Answer, self->state->answer_type);
    if (answer == NULL)
        return NULL;
    answer->quick = self;
    answer->response = answer->text = answer->headers = answer->printed = NULL;
    answer->sent = -1;
    answer->head = (Head){(char *)self->out + HEADER_SIZE, (char *)self->out + HEADER_SIZE + LONGEST_HEAD, 0, -1};
    return answer;
}

/* Nothing that is still done, as by a thread of the application while the last bytes wait, is about the answer. */
static void part_with(Quick *self, Answer *answer)
{
    self->answer = NULL;
    answer->quick = NULL;
}

static int begin(Quick *self, Request *request)
{
    PyObject *host = PyTuple_GetItem(request->site, 3);
    PyObject *done = PyObject_CallFunctionObjArgs(self->begin, request->environ, host, NULL);
    Py_XDECREF(done);
    begin_log(self, &request->began);
    return done == NULL ? -1 : 0;
}

static int allow_interruption(const Quick *self, PyObject *allowed)
{
    return PyObject_SetAttr(self->interruption, self->state->allowed, allowed);
}

static PyObject *call_application(Quick *self, const Request *request, Answer *answer)
{
    if (allow_interruption(self, Py_True) < 0)
        return NULL;
    PyObject *body = PyObject_CallFunctionObjArgs(PyTuple_GetItem(request->site, 0), request->environ, answer, NULL);
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    if (allow_interruption(self, Py_False) < 0)
        PyErr_Clear(); /* an attribute of a slot: it does not happen */
    PyErr_Restore(type, error, traceback);
    return body;
}

/* -- bodies that come in chunks --------------------------------------------------------------------------------------- */

/* Whether the body is an iterable whose first chunk may be all of it, as of most frameworks' are: that is sent from here,
 * before the next is asked for. */
static int are_chunks(const Quick *self, const Answer *answer, PyObject *body)
{
    if (answer->response != NULL || !may_have_body(self, answer))
        return 0;
    return body != Py_None && !PyList_Check(body) && !PyTuple_Check(body) && !PyBytes_Check(body) &&
           !PyUnicode_Check(body) && !PyType_IsSubtype(Py_TYPE(body), (PyTypeObject *)self->file_wrapper);
}

/* The first chunk, where it fits and is as long as the head says, if that says it. */
static int put_chunk(const Quick *self, PyObject *chunk, Head *head, Sent *sent)
{
    const Py_ssize_t room = LONGEST_CONTENT - (head->at - (char *)self->out - HEADER_SIZE) - 2;
    if (!PyBytes_CheckExact(chunk) || PyBytes_Size(chunk) > room ||
        (head->length >= 0 && PyBytes_Size(chunk) != head->length))
        return 0;
    sent->head_end = head->at;
    sent->size = PyBytes_Size(chunk);
    head->at = (char *)memcpy(head->at, "\r\n", 2) + 2;
    head->at = (char *)memcpy(head->at, PyBytes_AsString(chunk), (size_t)sent->size) + sent->size;
    return 1;
}

/* The next chunk that is not empty; NULL at the end, and with an exception. */
static PyObject *next_chunk(PyObject *chunks)
{
    PyObject *chunk;
    while ((chunk = PyIter_Next(chunks)) != NULL && PyBytes_CheckExact(chunk) && PyBytes_Size(chunk) == 0) {
        Py_DECREF(chunk);
        if (PyErr_CheckSignals() < 0) /* there may be no end of them, and no step of Python in between */
            return NULL;
    }
    return chunk;
}

static int close_body(PyObject *body)
{
    PyObject *close = PyObject_GetAttrString(body, "close");
    if (close == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        return 0;
    }
    PyObject *done = close == NULL      ? NULL
                     : close == Py_None ? Py_NewRef(close)
                                        : PyObject_CallFunctionObjArgs(close, NULL);
    Py_XDECREF(close);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Let Python go on: with `chunk` and the other `chunks` of `body`, which it closes; without one they are over, or
 * something was raised. */
static PyObject *leave_chunks(Quick *self, Answer *answer, PyObject *body, PyObject *chunks, PyObject *chunk, int alive)
{
    PyObject *error = take_error();
    const int ready = allow_interruption(self, Py_False) < 0 ? -1 : hand_over(answer);
    PyObject *first = ready < 0 ? NULL : chunk == NULL ? PyTuple_New(0) : PyTuple_Pack(1, chunk);
    PyObject *done = first == NULL ? NULL : PyObject_CallMethod(self->fallback, "end_chunks", "OOOOOO", answer->response,
        body, first, chunks == NULL ? Py_None : chunks, error, alive ? Py_True : Py_False);
    Py_XDECREF(first);
    Py_DECREF(error);
    return done;
}

/* The body is over, and all of it on its way. */
static PyObject *end_chunks(Quick *self, Answer *answer, PyObject *body, PyObject *chunks, const Sent *sent)
{
    const int done = close_body(body) < 0 ? 0 : is_undisturbed(self, answer);
    if (done != 1)
        return done < 0 ? NULL : leave_chunks(self, answer, Py_None, chunks, NULL, 1);
    if (allow_interruption(self, Py_False) < 0)
        return NULL;
    part_with(self, answer);
    /* The head stays where it is: the access log looks into it. */
    byte end[ANSWER_END_SIZE];
    put_answer_end(end, 1, 0);
    return finish(self, self->request, answer, sent, send_bytes(self, end, sizeof end));
}

static PyObject *send_chunks(Quick *self, Answer *answer, PyObject *body, PyObject *chunks)
{
    Sent sent;
    PyObject *chunk = next_chunk(chunks);
    int alive = 1, done = chunk == NULL ? 0 : is_undisturbed(self, answer);
    if (done == 1 && (done = put_chunk(self, chunk, &answer->head, &sent)) == 1) {
        put_record(self, answer->head.at);
        answer->sent = sent.size; /* first, lest an interruption leave it to be sent twice */
        alive = send_bytes(self, self->out, answer->head.at - (char *)self->out);
        Py_DECREF(chunk);
        chunk = alive == 1 ? next_chunk(chunks) : NULL;
        if (alive == 1 && chunk == NULL && !PyErr_Occurred())
            return end_chunks(self, answer, body, chunks, &sent);
    }
    PyObject *result = done < 0 ? NULL : leave_chunks(self, answer, body, chunks, chunk, alive);
    Py_XDECREF(chunk);
    return result;
}

static PyObject *finish_chunks(Quick *self, Answer *answer, PyObject *body)
{
    if (allow_interruption(self, Py_True) < 0)
        return NULL;
    PyObject *chunks = PyObject_GetIter(body);
    if (chunks == NULL)
        return leave_chunks(self, answer, body, NULL, NULL, 1);
    PyObject *result = send_chunks(self, answer, body, chunks);
    Py_DECREF(chunks);
    return result;
}

static PyObject *run(Quick *self, Request *request)
{
    Answer *answer;
    if (begin(self, request) < 0 || (answer = new_answer(self)) == NULL)
        return NULL;
    self->request = request;
    self->thread = PyThread_get_thread_ident();
    self->answer = answer;
    PyObject *body = call_application(self, request, answer), *result;
    Sent sent = {NULL, 0};
    const int simple = body == NULL ? 0 : is_simple(self, answer, body, &sent);
    if (simple < 0)
        result = NULL;
    else if (simple) {
        part_with(self, answer);
        result = finish(self, request, answer, &sent, send_answer(self, answer->head.at));
    } else if (body != NULL && are_chunks(self, answer, body))
        result = finish_chunks(self, answer, body);
    else
        result = finish_slowly(self, answer, body);
    self->request = NULL;
    part_with(self, answer);
    Py_XDECREF(body);
    Py_DECREF(answer);
    return result;
}

static int has_left(int fd, short events)
{
    struct pollfd look = {fd, events, 0};
    return poll(&look, 1, 0) != 0;
}

/* What has come on a connection: None for nothing yet, the bytes where Python is to go on with them (b"" at the end, and
 * where it broke); where the request was answered, True or False, whether to keep the connection; Ellipsis where
 * Python has ended it meanwhile. */
static PyObject *serve_connection(Quick *self, int fd, int trusts_stamp, int look)
{
    const Py_ssize_t size = recv(fd, self->in, CHUNK, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        Py_RETURN_NONE;
    Request request = {.fd = fd, .waited = Py_NewRef(Py_None)};
    int done = size <= 0 ? 0 : decode_request(self, size, trusts_stamp, &request);
    if (done == 1 && look >= 0 && has_left(fd, (short)look))
        done = 0; /* nobody waits for an answer */
    PyObject *result = done == 1   ? run(self, &request)
                       : done == 0 ? PyBytes_FromStringAndSize((char *)self->in, size > 0 ? size : 0)
                                   : NULL;
    clear_request(&request);
    return result;
}

#endif
