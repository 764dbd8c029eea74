/* The access log of what goes the quick way (`accesslog.AccessLog`): a line is rendered and written here where it is one
 * write of what a file or a pipe takes as a whole. What is torn, would wait, or fails is left to Python, and so is what the
 * pool may not want to be logged.
 */

#ifndef GATEWAY_LOG_H
#define GATEWAY_LOG_H

#include <Python.h>

#include <sys/times.h>
#include <time.h>
#include <unistd.h>

#include "../app/_line.h"
#include "_quick.h"

/* As time.time() and time.perf_counter() say it. */
static double seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_nsec == 0 ? (double)now.tv_sec : (double)(now.tv_sec * 1000000000LL + now.tv_nsec) / 1e9;
}

/* As os.times() says it, where the format asks for it. */
static void look_at_cpu(const Quick *self, double *user, double *system)
{
    struct tms used = {0, 0, 0, 0};
    if (self->format->spends_cpu)
        times(&used);
    *user = (double)used.tms_utime / self->ticks;
    *system = (double)used.tms_stime / self->ticks;
}

static void begin_log(const Quick *self, Began *began)
{
    if (self->access == Py_None)
        return;
    look_at_cpu(self, &began->user, &began->system);
    began->time = seconds_of(CLOCK_REALTIME);
    began->clock = seconds_of(CLOCK_MONOTONIC);
}

/* `accesslog.Began`, or None without a log. */
static PyObject *began_tuple(const Quick *self, const Began *began)
{
    if (self->access == Py_None)
        Py_RETURN_NONE;
    return Py_BuildValue("dddd", began->time, began->clock, began->user, began->system);
}

/* The steps of a line give 1 where it is done, 0 where Python is to do it, -1 with an exception. */

/* Whether a line may be written from here at all. */
static int may_write(Quick *self, PyObject *environ)
{
    PyObject *plain = PyObject_GetAttr(self->access, self->state->is_plain);
    Py_XDECREF(plain);
    if (plain != Py_True)
        return plain == NULL ? -1 : 0;
    if (self->suppressed == Py_None)
        return 1;
    PyObject *uri = PyDict_GetItemWithError(environ, self->format->uri);
    if (uri == NULL || !PyUnicode_CheckExact(uri))
        return PyErr_Occurred() ? -1 : 0;
    const int suppressed = PySet_Contains(self->suppressed, uri);
    return suppressed < 0 ? -1 : !suppressed;
}

static int write_line(Quick *self, const char *line, Py_ssize_t size)
{
    ssize_t written;
    Py_BEGIN_ALLOW_THREADS
    written = write(self->log_fd, line, (size_t)size);
    Py_END_ALLOW_THREADS
    if (written < 0 || written == size)
        return written == size;
    PyObject *noted = PyObject_CallMethod(self->access, "lose_rest", NULL);
    Py_XDECREF(noted);
    return noted == NULL ? -1 : 1;
}

/* The request is over, as `entry` says, but for its times. */
static int log_plainly(Quick *self, const Began *began, Entry *entry)
{
    char line[LONGEST_LINE];
    Room room = {line, line + sizeof line};
    int done = entry->complete ? may_write(self, entry->environ) : 0;
    if (done != 1)
        return done;
    look_at_cpu(self, &entry->user, &entry->system);
    entry->began = began->time;
    entry->seconds = seconds_of(CLOCK_MONOTONIC) - began->clock;
    entry->user -= began->user;
    entry->system -= began->system;
    done = put_line_of(&room, self->format, entry);
    return done == 1 ? write_line(self, line, room.at - line) : done;
}

static int end_log(Quick *self, const Began *began, Entry *entry)
{
    const int done = self->access == Py_None ? 1 : log_plainly(self, began, entry);
    if (done != 0)
        return done < 0 ? -1 : 0;
    PyObject *logged = PyObject_CallMethod(self->fallback, "log", "NOiy#nO", began_tuple(self, began), entry->environ,
        entry->status, entry->head, entry->head_end - entry->head, entry->size, entry->complete ? Py_True : Py_False);
    Py_XDECREF(logged);
    return logged == NULL ? -1 : 0;
}

/* Take what is needed of an AccessLog, or of None. */
static int take_log(Quick *self)
{
    PyObject *fd = NULL, *items = NULL;
    self->ticks = (double)sysconf(_SC_CLK_TCK);
    self->suppressed = Py_NewRef(Py_None);
    if (self->access == Py_None)
        return 0;
    Py_DECREF(self->suppressed);
    if ((self->suppressed = PyObject_GetAttrString(self->access, "suppressed")) != NULL &&
        (fd = PyObject_GetAttrString(self->access, "fd")) != NULL)
        items = PyObject_GetAttrString(self->access, "items");
    int done = items == NULL ? -1 : 0;
    if (done == 0 && PySet_Size(self->suppressed) == 0) {
        Py_DECREF(self->suppressed);
        self->suppressed = Py_NewRef(Py_None);
    }
    if (done == 0) {
        self->log_fd = (int)PyLong_AsLong(fd);
        self->format = (Line *)PyObject_CallFunctionObjArgs((PyObject *)self->state->line_type, items, NULL);
        done = self->format == NULL ? -1 : 0;
    }
    Py_XDECREF(fd);
    Py_XDECREF(items);
    return done;
}

#endif
