/* The loop of a worker whose requests go the quick way, as long as nothing else comes: epoll_wait → accept, or one of the
 * connections that Python has marked → serve.
 */

#ifndef GATEWAY_LOOP_H
#define GATEWAY_LOOP_H

#include <Python.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "_quick.h"
#include "_serve.h"

#define MOST_EVENTS 64
#define FIRST_BYTES 1 /* ms that the first bytes of a connection are waited for, where there is no other */

/* -1 where nothing can be accepted. */
static int accept_one(int listener, int *has_failed)
{
    const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    *has_failed = fd < 0 && errno != EAGAIN && errno != ECONNABORTED && errno != EINTR;
    return fd;
}

/* Whether a request has come within `patience` ms, and nobody has left. */
static int has_come(int fd, int patience)
{
    struct pollfd look = {fd, POLLIN, 0};
    int found;
    if (patience == 0)
        return poll(&look, 1, 0) == 1 && look.revents == POLLIN;
    Py_BEGIN_ALLOW_THREADS
    found = poll(&look, 1, patience);
    Py_END_ALLOW_THREADS
    return found == 1 && look.revents == POLLIN;
}

static int is_stale(Quick *self)
{
    PyObject *stale = PyObject_CallFunctionObjArgs(self->accepted, NULL);
    const int result = stale == NULL ? -1 : stale == Py_True;
    Py_XDECREF(stale);
    return result;
}

/* Tell the mover of a request that others may have to wait for (`mover.Mover.begin`, `end`). */
static int begin_watched(Quick *self)
{
    PyObject *mark = PyLong_FromUnsignedLong(++self->serial);
    int done = mark == NULL ? -1 : PyObject_SetAttr(self->mover, self->state->running, mark);
    Py_XDECREF(mark);
    PyObject *armed = done < 0 ? NULL : PyObject_GetAttr(self->mover, self->state->armed);
    if (armed == Py_False) {
        PyObject *arming = PyObject_CallMethod(self->mover, "arm", NULL);
        done = arming == NULL ? -1 : 0;
        Py_XDECREF(arming);
    }
    Py_XDECREF(armed);
    return armed == NULL ? -1 : done;
}

static int end_watched(Quick *self)
{
    if (PyObject_SetAttr(self->mover, self->state->running, Py_None) < 0)
        return -1;
    PyObject *moving = PyObject_GetAttr(self->mover, self->state->moving);
    PyObject *waited = moving == Py_True ? PyObject_CallMethod(self->mover, "end", NULL) : Py_NewRef(Py_None);
    const int done = moving == NULL || waited == NULL ? -1 : 0;
    Py_XDECREF(waited);
    Py_XDECREF(moving);
    return done;
}

static PyObject *serve_watched(Quick *self, int fd, int crowded)
{
    if (!crowded || self->mover == Py_None)
        return serve_connection(self, fd, 1, -1);
    if (begin_watched(self) < 0)
        return NULL;
    PyObject *outcome = serve_connection(self, fd, 1, -1);
    if (outcome != NULL && end_watched(self) < 0)
        Py_CLEAR(outcome);
    return outcome;
}

/* After a request that Python has ended: nothing for it to do, but it may have to leave. */
static PyObject *back_to_python(void)
{
    return PyList_New(0);
}

/* Accept a connection and serve it: None where that is all, else its fd, for Python to close, and what `serve` would say
 * of it; NotImplemented there when it has waited for too long and nothing was read. Where it cannot, for want of
 * descriptors for one, the events that make Python try itself. */
static PyObject *accept_and_serve(Quick *self, int listener, int crowded)
{
    int has_failed;
    const int fd = accept_one(listener, &has_failed);
    if (fd < 0)
        return has_failed ? Py_BuildValue("[(iI)]", listener, EPOLLIN) : Py_NewRef(Py_None);
    PyObject *outcome = NULL;
    const int stale = is_stale(self);
    if (stale == 0)
        outcome = has_come(fd, crowded ? 0 : FIRST_BYTES) ? serve_watched(self, fd, crowded) : Py_NewRef(Py_None);
    else if (stale == 1)
        outcome = Py_NewRef(Py_NotImplemented);
    if (outcome == Py_False || outcome == NULL)
        close(fd);
    if (outcome == Py_False || outcome == Py_Ellipsis) {
        const int ended = outcome == Py_Ellipsis;
        Py_DECREF(outcome);
        return ended ? back_to_python() : Py_NewRef(Py_None);
    }
    return outcome == NULL ? NULL : Py_BuildValue("iN", fd, outcome);
}

/* -- which connections are served from here --------------------------------------------------------------------------- */

static int is_marked(const Quick *self, int fd)
{
    return fd < self->mark_count && self->marks[fd].is_set;
}

/* mark(fd, socket) lets a connection be served from here: one on a Unix socket that has had requests and is between two;
 * mark(fd, None) takes that back. */
static PyObject *quick_mark(PyObject *object, PyObject *args)
{
    Quick *self = (Quick *)object;
    int fd, is_set;
    if (!PyArg_ParseTuple(args, "ip", &fd, &is_set))
        return NULL;
    if (fd < 0 || (fd >= self->mark_count && !is_set))
        Py_RETURN_NONE;
    if (fd >= self->mark_count) {
        const int count = fd + 64;
        Mark *marks = realloc(self->marks, (size_t)count * sizeof *marks);
        if (marks == NULL)
            return PyErr_NoMemory();
        memset(marks + self->mark_count, 0, (size_t)(count - self->mark_count) * sizeof *marks);
        self->marks = marks;
        self->mark_count = count;
    }
    self->marks[fd] = (Mark){is_set, 0.0};
    Py_RETURN_NONE;
}

/* When a marked connection had its last answer from here, in seconds of the monotonic clock; 0 for none. */
static PyObject *quick_served(PyObject *object, PyObject *fd)
{
    const Quick *self = (Quick *)object;
    const long number = PyLong_AsLong(fd);
    if (number == -1 && PyErr_Occurred())
        return NULL;
    return PyFloat_FromDouble(number >= 0 && is_marked(self, (int)number) ? self->marks[number].served : 0.0);
}

/* The descriptor of the connection whose request runs, or -1. */
static PyObject *quick_busy(PyObject *object, PyObject *none)
{
    const Request *request = ((Quick *)object)->request;
    (void)none;
    return PyLong_FromLong(request == NULL ? -1 : request->fd);
}

static void note_answer(Quick *self, int fd)
{
    struct timespec now;
    if (!is_marked(self, fd)) /* handed on meanwhile */
        return;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    self->marks[fd].served = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* -- events ------------------------------------------------------------------------------------------------------------ */

static PyObject *events_list(const struct epoll_event *events, int count)
{
    PyObject *list = PyList_New(count);
    for (int i = 0; list != NULL && i < count; i++) {
        PyObject *pair = Py_BuildValue("iI", events[i].data.fd, events[i].events);
        if (pair == NULL || PyList_SetItem(list, i, pair) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static int is_listener(const Quick *self, int fd)
{
    for (Py_ssize_t i = 0; i < self->listener_count; i++)
        if (self->listeners[i] == fd)
            return 1;
    return 0;
}

/* Whether Python is to see these events: what is nobody's of here, and more than one connection where others are idle. */
static int are_for_python(Quick *self, const struct epoll_event *events, int count)
{
    int connections = 0;
    for (int i = 0; i < count; i++) {
        const int fd = events[i].data.fd;
        if (events[i].events != EPOLLIN || !(is_marked(self, fd) || is_listener(self, fd)))
            return 1;
        connections += is_marked(self, fd);
    }
    if (connections < 2)
        return count == 0;
    PyObject *idle = PyObject_CallFunctionObjArgs(self->should_share, NULL);
    const int result = idle == NULL ? -1 : idle == Py_True;
    Py_XDECREF(idle);
    return result;
}

/* None where nothing is left to be done, else a descriptor and an outcome for Python, or events for it. */
static PyObject *serve_event(Quick *self, int fd, int connections)
{
    if (is_listener(self, fd))
        return accept_and_serve(self, fd, connections > 0);
    if (!is_marked(self, fd)) /* the mover was faster */
        Py_RETURN_NONE;
    PyObject *outcome = serve_watched(self, fd, connections > 1);
    if (outcome == NULL)
        return NULL;
    const int ended = outcome == Py_Ellipsis;
    if (outcome == Py_True)
        note_answer(self, fd);
    else if (!ended && outcome != Py_None)
        return Py_BuildValue("iN", fd, outcome);
    Py_DECREF(outcome);
    return ended ? back_to_python() : Py_NewRef(Py_None);
}

/* Wait for events of an epoll set, up to `timeout` ms from the last one, and serve what is served from here. Returns the
 * list of all others, as `select.epoll.poll` does, or one outcome with its descriptor: what else has come then comes
 * again. There are so many `connections` in all. */
static PyObject *quick_wait(PyObject *object, PyObject *args)
{
    Quick *self = (Quick *)object;
    struct epoll_event events[MOST_EVENTS];
    PyObject *epoll;
    int timeout, connections, count;
    if (!PyArg_ParseTuple(args, "Oii", &epoll, &timeout, &connections))
        return NULL;
    const int set = PyObject_AsFileDescriptor(epoll);
    if (set < 0)
        return NULL;
    for (;;) {
        Py_BEGIN_ALLOW_THREADS
        count = epoll_wait(set, events, MOST_EVENTS, timeout);
        Py_END_ALLOW_THREADS
        if (count < 0 && errno != EINTR)
            return PyErr_SetFromErrno(PyExc_OSError);
        if (count < 0 && PyErr_CheckSignals() < 0)
            return NULL;
        if (count < 0)
            continue;
        const int python = are_for_python(self, events, count);
        if (python != 0)
            return python < 0 ? NULL : events_list(events, count);
        for (int i = 0; i < count; i++) {
            PyObject *found = serve_event(self, events[i].data.fd, connections);
            if (found != Py_None)
                return found;
            Py_DECREF(found);
        }
    }
}

#endif
