/* A request on the quick way up to its application: what was read becomes an environ and a binding. Each step gives 1
 * where it is done, 0 where Python is to look, -1 where an exception is set.
 */

#ifndef GATEWAY_REQUEST_H
#define GATEWAY_REQUEST_H

#include <Python.h>

#include <string.h>
#include <time.h>

#include "_quick.h"

/* A small body may have come with its head: one record of STDIN, and its end. */
static int find_body(const byte *data, Py_ssize_t size, const Shape *shape, Request *request)
{
    static const byte STDIN_START[4] = {1, 5, 0, 1};
    const Py_ssize_t at = shape->end;
    request->body_at = at;
    request->body_size = 0;
    if (shape->complete)
        return size == at;
    if (size - at < 2 * HEADER_SIZE || memcmp(data + at, STDIN_START, sizeof STDIN_START) != 0)
        return 0;
    request->body_at = at + HEADER_SIZE;
    request->body_size = data[at + 4] << 8 | data[at + 5];
    const Py_ssize_t end = request->body_at + request->body_size + data[at + 6];
    return size == end + HEADER_SIZE && memcmp(data + end, STDIN_END, HEADER_SIZE) == 0;
}

/* What is bound to the host: a `routing.Known`, or a `routing.ByPath`. */
static int find_site(Quick *self, const Params *params, Request *request)
{
    PyObject *ports = PyDict_GetItemWithError(self->hosts, params->roles[HTTP_HOST]);
    PyObject *site = ports == NULL ? NULL : PyDict_GetItemWithError(ports, params->roles[SERVER_PORT]);
    if (site == NULL && !PyErr_Occurred())
        site = PyObject_CallFunctionObjArgs(self->known, params->params, NULL);
    else
        Py_XINCREF(site);
    request->site = site;
    return site == NULL ? -1 : site != Py_None;
}

/* What is bound to the path, which is set by then. */
static int find_by_path(const Params *params, Request *request)
{
    if (PyTuple_Check(request->site))
        return 1;
    PyObject *site = PyObject_CallFunctionObjArgs(request->site, params->params, NULL);
    Py_DECREF(request->site);
    request->site = site;
    return site == NULL ? -1 : site != Py_None;
}

static int set_server_name(const EnvironNames *names, const Params *params, PyObject *site)
{
    if (is_filled(params->roles[SERVER_NAME]))
        return 1;
    return PyDict_SetItem(params->params, names->server_name, PyTuple_GetItem(site, 4)) < 0 ? -1 : 1;
}

/* Whether `environ.check_escapes` is to look. */
static int may_be_malformed(PyObject *path)
{
    return PyUnicode_FindChar(path, '%', 0, PyUnicode_GetLength(path), 1) >= 0;
}

/* As `environ.request_path` and `mount` do, which are called where it takes more than a look. */
static int set_path(Quick *self, const Params *params)
{
    PyObject *environ = params->params, *script = params->roles[SCRIPT_NAME], *info = params->roles[PATH_INFO];
    if (!is_filled(script) && is_filled(info) && PyUnicode_ReadChar(info, 0) == '/') {
        const EnvironNames *names = &self->state->environ;
        if (may_be_malformed(info))
            return 0;
        return script == NULL && PyDict_SetItem(environ, names->script_name, names->empty) < 0 ? -1 : 1;
    }
    PyObject *found = PyObject_CallFunctionObjArgs(self->request_path, environ, NULL);
    if (found != NULL && may_be_malformed(PyTuple_GetItem(found, 0))) {
        Py_DECREF(found);
        return 0;
    }
    PyObject *done = found == NULL ? NULL : PyObject_CallFunctionObjArgs(self->mount, environ,
        PyTuple_GetItem(found, 0), PyTuple_GetItem(found, 1), NULL);
    Py_XDECREF(found);
    Py_XDECREF(done);
    return done == NULL ? -1 : 1;
}

/* The base has an empty one. */
static int set_input(Quick *self, const Request *request)
{
    if (request->body_size == 0)
        return 1;
    PyObject *input = PyObject_CallFunction(self->whole_body, "y#", self->in + request->body_at, request->body_size);
    const int done = input == NULL ? -1 : PyDict_SetItem(request->environ, self->state->environ.input, input);
    Py_XDECREF(input);
    return done < 0 ? -1 : 1;
}

/* For how long it has waited, by the front-end's stamp; only Python answers what is too old. */
static int find_wait(const Quick *self, PyObject *stamp, Request *request)
{
    struct timespec now;
    if (stamp == NULL)
        return 1;
    PyObject *number = PyFloat_FromString(stamp);
    if (number == NULL) {
        PyErr_Clear();
        return 0;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    double seconds = (double)now.tv_sec + (double)now.tv_nsec / 1e9 - PyFloat_AsDouble(number);
    Py_DECREF(number);
    Py_DECREF(request->waited); /* None */
    if ((request->waited = PyFloat_FromDouble(seconds > 0 ? seconds : 0)) == NULL)
        return -1;
    return self->queue_timeout <= 0 || seconds <= self->queue_timeout;
}

static int complete_environ(Quick *self, const Params *params, Request *request, int trusts_stamp)
{
    const EnvironNames *names = &self->state->environ;
    int done;
    if (!params->plain || !is_usual(params->roles) || request->body_size > self->max_body)
        return 0;
    request->head_only = is_text(params->roles[REQUEST_METHOD], "HEAD");
    if ((done = find_wait(self, trusts_stamp ? params->roles[REQUEST_TIME_FLOAT] : NULL, request)) != 1)
        return done;
    if ((done = find_site(self, params, request)) != 1 || (done = set_scheme(names, params)) != 1)
        return done;
    if ((done = set_path(self, params)) != 1 || (done = find_by_path(params, request)) != 1)
        return done;
    if ((done = set_server_name(names, params, request->site)) != 1)
        return done;
    if ((done = check_content(names, params, request->body_size)) != 1)
        return done;
    if (PyDict_SetItem(params->params, names->application, PyTuple_GetItem(request->site, 1)) < 0)
        return -1;
    return set_input(self, request);
}

/* Decode what was read into a request, whose references are the caller's in any case. */
static int decode_request(Quick *self, Py_ssize_t size, int trusts_stamp, Request *request)
{
    Shape shape;
    Params params;
    if (!find_shape(self->in, size, &shape) || !find_body(self->in, size, &shape, request))
        return 0;
    request->keep_conn = shape.keep_conn;
    const Piece block = {self->in + PARAMS_AT, shape.block_size};
    const int done = decode_after(&self->state->names, &self->last, block, self->base, &self->limits, &params);
    request->environ = params.params;
    return done == 1 ? complete_environ(self, &params, request, trusts_stamp) : done;
}

static void clear_request(Request *request)
{
    Py_XDECREF(request->environ);
    Py_XDECREF(request->site);
    Py_XDECREF(request->waited);
}

#endif
