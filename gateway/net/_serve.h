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

/* Whether the answer can be sent from here; its `head.at` is then its end. */
static int is_simple(Quick *self, Answer *answer, PyObject *body, Sent *sent)
{
    if (answer->response != NULL || answer->text == NULL || self->request->head_only ||
        answer->head.status == 204 || answer->head.status == 304)
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
    return put_body(body, &answer->head, (char *)self->out + HEADER_SIZE, sent);
}

/* Frame and send the answer; where not all of it could be sent, Python sends the rest. False where nobody takes it. */
static int send_answer(Quick *self, const char *end)
{
    const Py_ssize_t content = end - (char *)self->out - HEADER_SIZE;
    byte *at = self->out;
    if (content <= LONGEST_CONTENT)
        put_header(at, STDOUT, 1, content);
    at = put_answer_end((byte *)end, 1, 0);
    const Py_ssize_t size = at - self->out;
    Py_ssize_t sent = send(self->request->fd, self->out, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == size)
        return 1;
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        return 0;
    sent = sent < 0 ? 0 : sent;
    PyObject *alive = PyObject_CallMethod(self->driver, "send_rest", "iy#", self->request->fd, self->out + sent, size - sent);
    const int result = alive == NULL ? -1 : alive == Py_True;
    Py_XDECREF(alive);
    return result;
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

/* True or False, whether the connection is to be kept. */
static PyObject *finish(Quick *self, const Request *request, const Answer *answer, const Sent *sent)
{
    const char *start = (char *)self->out + HEADER_SIZE;
    const int alive = send_answer(self, answer->head.at);
    if (alive < 0 || end_on_board(self, request, answer->head.status) < 0)
        return NULL;
    Entry entry = {.environ = request->environ, .status = answer->head.status, .complete = alive, .head = start,
                   .head_end = sent->head_end, .size = sent->size};
    if (end_log(self, &request->began, &entry) < 0)
        return NULL;
    return Py_NewRef(alive && request->keep_conn ? Py_True : Py_False);
}

/* Let Python end what is not simple, or has failed: it has done all when this returns. */
static PyObject *finish_slowly(Quick *self, Answer *answer, PyObject *body)
{
    PyObject *type = NULL, *error = NULL, *traceback = NULL;
    if (body == NULL) {
        PyErr_Fetch(&type, &error, &traceback);
        PyErr_NormalizeException(&type, &error, &traceback);
        if (traceback != NULL)
            PyException_SetTraceback(error, traceback);
    }
    PyObject *done = hand_over(answer) < 0 ? NULL : PyObject_CallMethod(self->driver, "end_slowly", "OOO",
        answer->response, body == NULL ? Py_None : body, error == NULL ? Py_None : error);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return done;
}

static Answer *new_answer(Quick *self)
{
    Answer *answer = PyObject_New(Answer, self->state->answer_type);
    if (answer == NULL)
        return NULL;
    answer->quick = self;
    answer->response = answer->text = answer->headers = NULL;
    answer->head = (Head){(char *)self->out + HEADER_SIZE, (char *)self->out + HEADER_SIZE + LONGEST_HEAD, 0, -1};
    return answer;
}

static int begin(Quick *self, Request *request)
{
    PyObject *host = PyTuple_GetItem(request->site, 3);
    PyObject *done = PyObject_CallFunctionObjArgs(self->begin, request->environ, host, NULL);
    Py_XDECREF(done);
    begin_log(self, &request->began);
    return done == NULL ? -1 : 0;
}

static PyObject *call_application(Quick *self, const Request *request, Answer *answer)
{
    const State *state = self->state;
    if (PyObject_SetAttr(self->interruption, state->allowed, Py_True) < 0)
        return NULL;
    PyObject *body = PyObject_CallFunctionObjArgs(PyTuple_GetItem(request->site, 0), request->environ, answer, NULL);
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    if (PyObject_SetAttr(self->interruption, state->allowed, Py_False) < 0)
        PyErr_Clear(); /* an attribute of a slot: it does not happen */
    PyErr_Restore(type, error, traceback);
    return body;
}

static PyObject *run(Quick *self, Request *request)
{
    Answer *answer;
    if (begin(self, request) < 0 || (answer = new_answer(self)) == NULL)
        return NULL;
    self->request = request;
    self->answer = answer;
    PyObject *body = call_application(self, request, answer), *result;
    Sent sent = {NULL, 0};
    const int simple = body == NULL ? 0 : is_simple(self, answer, body, &sent);
    if (simple < 0)
        result = NULL;
    else
        result = simple ? finish(self, request, answer, &sent) : finish_slowly(self, answer, body);
    self->request = NULL;
    self->answer = NULL;
    answer->quick = NULL;
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
