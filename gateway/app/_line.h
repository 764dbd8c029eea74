/* One line of the access log as `accessformat` renders it, where the values in it are ASCII; what has others, or is longer
 * than a pipe takes as a whole, is left to Python. Included by `_quick.c`.
 */

#ifndef GATEWAY_LINE_H
#define GATEWAY_LINE_H

#include <Python.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "_pieces.h"

#define LONGEST_LINE 4096 /* bytes, its end included (pipe(7), PIPE_BUF) */

/* A compiled format. */
typedef struct {
    PyObject_HEAD
    Item *items;
    Py_ssize_t count;
    PyObject *uri, *query, *length; /* names of parameters */
    int spends_cpu;
} Line;

static int put_item(Room *room, const Line *line, Item *item, const Entry *entry)
{
    switch (item->letter) {
    case LITERAL:
        return put_plain(room, PyBytes_AsString(item->object), PyBytes_Size(item->object));
    case 'b':
        return put_number(room, entry->size);
    case 'c':
        return put_truth(room, entry->complete);
    case 'C':
        return put_cpu(room, item, entry);
    case 'd':
        return put_duration(room, item, entry->seconds);
    case 'e':
        return put_parameter(room, entry, item->object, "-");
    case 'i':
        return put_milliseconds(room, entry->began);
    case 'j':
        return put_member(room, entry, item->object);
    case 'l':
        return put_parameter(room, entry, line->length, "0");
    case 'M':
        return put_peak_memory(room, item);
    case 'o':
        return put_header_value(room, entry, item->object);
    case 'p':
        return put_number(room, getpid());
    case 'P':
        return put_number(room, getppid());
    case 'q':
        return put_parameter(room, entry, line->query, "");
    case 'Q':
        return put_question_mark(room, entry, line->query);
    case 'r':
        return put_path(room, entry, line->uri);
    case 's':
        return put_number(room, entry->status);
    case 'S':
        return put_rounded(room, entry->seconds);
    case 't':
        return put_time(room, item, entry->began);
    default: /* 'T' */
        return put_time(room, item, entry->began + entry->seconds);
    }
}

static int put_line_of(Room *room, const Line *line, const Entry *entry)
{
    for (Py_ssize_t i = 0; i < line->count; i++) {
        const int done = put_item(room, line, &line->items[i], entry);
        if (done != 1)
            return done;
    }
    return put_plain(room, "\n", 1);
}

/* -- the type ---------------------------------------------------------------------------------------------------------- */

/* Whether what belongs to an atom is what `put_item` takes it for. */
static int is_item(const Item *item)
{
    switch (item->letter) {
    case LITERAL:
    case 'o':
        return PyBytes_CheckExact(item->object);
    case 'C':
        return item->number >= 0 && item->number <= 2;
    case 'e':
        return PyUnicode_CheckExact(item->object);
    case 'j':
        return PyTuple_CheckExact(item->object) && PyTuple_Size(item->object) == 2 &&
               PyBytes_CheckExact(PyTuple_GetItem(item->object, 0)) &&
               PyUnicode_CheckExact(PyTuple_GetItem(item->object, 1));
    case 'M':
        return item->number > 0;
    case 't':
    case 'T':
        return PyCallable_Check(item->object);
    default:
        return item->letter > 0 && strchr("bcdilpPqQrsS", item->letter) != NULL;
    }
}

static int set_item(Item *item, PyObject *tuple)
{
    const char *letter;
    PyObject *object;
    if (!PyArg_ParseTuple(tuple, "sOLi", &letter, &object, &item->number, &item->digits))
        return -1;
    item->letter = *letter;
    item->object = Py_NewRef(object);
    if (is_item(item))
        return 0;
    PyErr_Format(PyExc_ValueError, "no item of a line: %R", tuple);
    return -1;
}

static PyObject *line_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *items;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!", &PyTuple_Type, &items))
        return NULL;
    Line *self = (Line *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    const Py_ssize_t count = PyTuple_Size(items);
    self->uri = PyUnicode_InternFromString("REQUEST_URI");
    self->query = PyUnicode_InternFromString("QUERY_STRING");
    self->length = PyUnicode_InternFromString("CONTENT_LENGTH");
    self->items = calloc((size_t)count + 1, sizeof *self->items);
    int done = self->items == NULL || self->uri == NULL || self->query == NULL || self->length == NULL ? -1 : 0;
    if (self->items == NULL)
        PyErr_NoMemory();
    while (done == 0 && self->count < count) {
        Item *item = &self->items[self->count];
        done = set_item(item, PyTuple_GetItem(items, self->count++));
        self->spends_cpu |= item->letter == 'C';
    }
    if (done < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

/* The line of an entry in bytes, or None where Python is to render it. */
static PyObject *line_render(PyObject *object, PyObject *args)
{
    Entry entry;
    Py_ssize_t head_size;
    char text[LONGEST_LINE];
    Room room = {text, text + sizeof text};
    if (!PyArg_ParseTuple(args, "O!ipy#ndddd", &PyDict_Type, &entry.environ, &entry.status, &entry.complete, &entry.head,
                          &head_size, &entry.size, &entry.began, &entry.seconds, &entry.user, &entry.system))
        return NULL;
    entry.head_end = entry.head + head_size;
    const int done = put_line_of(&room, (Line *)object, &entry);
    if (done == 0)
        Py_RETURN_NONE;
    return done < 0 ? NULL : PyBytes_FromStringAndSize(text, room.at - text);
}

static void line_dealloc(PyObject *object)
{
    Line *self = (Line *)object;
    PyTypeObject *type = Py_TYPE(object);
    for (Py_ssize_t i = 0; i < self->count; i++) {
        Py_XDECREF(self->items[i].object);
        Py_XDECREF(self->items[i].text);
    }
    free(self->items);
    Py_XDECREF(self->uri);
    Py_XDECREF(self->query);
    Py_XDECREF(self->length);
    PyObject_Free(object);
    Py_DECREF(type);
}

static PyMethodDef line_methods[] = {{"render", line_render, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};

static PyType_Slot line_slots[] = {
    {Py_tp_new, line_new}, {Py_tp_dealloc, line_dealloc}, {Py_tp_methods, line_methods}, {0, NULL}};

static PyType_Spec line_spec = {
    .name = "gateway.net._quick.Line",
    .basicsize = sizeof(Line),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = line_slots,
};

#endif
