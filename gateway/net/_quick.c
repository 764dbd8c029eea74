/* The quick way of a request: one that comes whole in one read, with nothing unusual about it, and is answered with a
 * small list of bytes. What `blocking.Driver`, `Dispatcher` and `wsgi.run` do with it is done here in one go:
 *
 *     recv → parameters → environ → binding → board.begin → application → head, body → send → board.end
 *
 * So is what is answered with an iterable whose first chunk is small, and all that comes or that was announced.
 * Everything else goes the ordinary way: before the application is called by giving the bytes back, afterwards by
 * giving the answer, as far as it is, to a `wsgi.Response`. So nothing is refused here, and nothing decided.
 *
 * Of CPython it needs the limited API of 3.11, as `_records.c`.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#define _GNU_SOURCE
#include <Python.h>

#include <stddef.h>
#include <stdlib.h>

#include "../protocol/_optional.h"
#include "_answer.h"
#include "_log.h"
#include "_loop.h"
#include "_quick.h"
#include "_serve.h"

/* The socket, whether a stamp of its front-end counts, and the events by which it is asked whether the front-end has left,
 * or -1 where that is known. */
static PyObject *quick_serve(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "needed: socket, trusts_stamp, events");
        return NULL;
    }
    const int fd = PyObject_AsFileDescriptor(args[0]);
    const long events = PyLong_AsLong(args[2]);
    if (PyErr_Occurred())
        return NULL;
    return serve_connection((Quick *)object, fd, args[1] == Py_True, (int)events);
}

/* As an exchange's: what the application prints, for the front-end too. */
static PyObject *quick_stderr(PyObject *object, PyObject *text)
{
    Quick *self = (Quick *)object;
    if (self->answer == NULL)
        Py_RETURN_NONE;
    Answer *answer = (Answer *)Py_NewRef((PyObject *)self->answer);
    PyObject *done = NULL;
    if (answer->response == NULL && PyThread_get_thread_ident() != self->thread)
        done = note_printed(answer, text);
    else if (hand_over(answer) == 0)
        done = pass_on(answer, text);
    Py_DECREF(answer);
    return done;
}

/* What is held of a `wiring.Wiring`: attributes by their names, and the places of the same names here. */
#define ATTRIBUTE(name) {#name, offsetof(Quick, name)}
static const struct {
    const char *name;
    size_t place;
} HELD[] = {ATTRIBUTE(fallback),     ATTRIBUTE(interruption), ATTRIBUTE(mover),      ATTRIBUTE(access),
            ATTRIBUTE(base),         ATTRIBUTE(hosts),        ATTRIBUTE(known),      ATTRIBUTE(line),
            ATTRIBUTE(begin),        ATTRIBUTE(end),          ATTRIBUTE(accepted),   ATTRIBUTE(should_share),
            ATTRIBUTE(request_path), ATTRIBUTE(mount),        ATTRIBUTE(whole_body), ATTRIBUTE(file_wrapper)};
#define HELD_COUNT (sizeof HELD / sizeof HELD[0])

static PyObject **held(Quick *self, size_t index)
{
    return (PyObject **)((char *)self + HELD[index].place);
}

static int take_held(Quick *self, PyObject *wiring)
{
    for (size_t i = 0; i < HELD_COUNT; i++)
        if ((*held(self, i) = PyObject_GetAttrString(wiring, HELD[i].name)) == NULL)
            return -1;
    return 0;
}

/* An attribute that is a number, in a format of PyArg_Parse(). */
static int take_number(PyObject *object, const char *name, const char *format, void *place)
{
    PyObject *number = PyObject_GetAttrString(object, name);
    const int done = number != NULL && PyArg_Parse(number, format, place) ? 0 : -1;
    Py_XDECREF(number);
    return done;
}

static int take_numbers(Quick *self, PyObject *wiring)
{
    PyObject *limits = PyObject_GetAttrString(wiring, "limits");
    const int done = limits == NULL || take_number(limits, "params_size", "n", &self->limits.params_size) < 0 ||
                     take_number(limits, "params_count", "n", &self->limits.params_count) < 0 ||
                     take_number(limits, "name_size", "n", &self->limits.name_size) < 0 ||
                     take_number(wiring, "max_body", "L", &self->max_body) < 0 ||
                     take_number(wiring, "queue_timeout", "d", &self->queue_timeout) < 0 ? -1 : 0;
    Py_XDECREF(limits);
    return done;
}

/* The descriptors of its listeners. */
static int take_listeners(Quick *self, PyObject *wiring)
{
    PyObject *listeners = PyObject_GetAttrString(wiring, "listeners");
    const Py_ssize_t count = listeners == NULL ? -1 : PyTuple_Size(listeners);
    int done = count < 0 ? -1 : 0;
    if (done == 0 && (self->listeners = calloc((size_t)count + 1, sizeof *self->listeners)) == NULL) {
        PyErr_NoMemory();
        done = -1;
    }
    for (; done == 0 && self->listener_count < count; self->listener_count++) {
        const int fd = PyObject_AsFileDescriptor(PyTuple_GetItem(listeners, self->listener_count));
        self->listeners[self->listener_count] = fd;
        done = fd < 0 ? -1 : 0;
    }
    Py_XDECREF(listeners);
    return done;
}

static int make_buffers(Quick *self)
{
    self->in = malloc(CHUNK);
    self->out = malloc(HEADER_SIZE + LONGEST_ANSWER + ANSWER_END_SIZE);
    if (self->in != NULL && self->out != NULL)
        return 0;
    PyErr_NoMemory();
    return -1;
}

static PyObject *quick_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *wiring;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O", &wiring))
        return NULL;
    Quick *self = (Quick *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->state = PyType_GetModuleState(type);
    if (take_held(self, wiring) < 0 || take_numbers(self, wiring) < 0 || take_listeners(self, wiring) < 0 ||
        take_log(self) < 0 || make_buffers(self) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int quick_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    for (size_t i = 0; i < HELD_COUNT; i++)
        Py_VISIT(*held((Quick *)object, i));
    return 0;
}

static int quick_clear(PyObject *object)
{
    Quick *self = (Quick *)object;
    for (size_t i = 0; i < HELD_COUNT; i++)
        Py_CLEAR(*held(self, i));
    Py_CLEAR(self->suppressed);
    Py_CLEAR(self->format);
    return 0;
}

static void quick_dealloc(PyObject *object)
{
    Quick *self = (Quick *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    quick_clear(object);
    free_last(&self->last);
    free(self->in);
    free(self->out);
    free(self->listeners);
    free(self->marks);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyMethodDef quick_methods[] = {{"serve", (PyCFunction)(void (*)(void))quick_serve, METH_FASTCALL, NULL},
                                      {"wait", quick_wait, METH_VARARGS, NULL},
                                      {"mark", quick_mark, METH_VARARGS, NULL},
                                      {"served", quick_served, METH_O, NULL},
                                      {"busy", quick_busy, METH_NOARGS, NULL},
                                      {"stderr", quick_stderr, METH_O, NULL},
                                      {NULL, NULL, 0, NULL}};

static PyType_Slot quick_slots[] = {{Py_tp_new, quick_new},         {Py_tp_dealloc, quick_dealloc},
                                    {Py_tp_traverse, quick_traverse}, {Py_tp_clear, quick_clear},
                                    {Py_tp_methods, quick_methods}, {0, NULL}};

static PyType_Spec quick_spec = {
    .name = "gateway.net._quick.Quick",
    .basicsize = sizeof(Quick),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = quick_slots,
};

static int initialise(PyObject *module)
{
    State *state = PyModule_GetState(module);
    const struct {
        PyObject **place;
        const char *text;
    } names[] = {{&state->raised, "raised"}, {&state->allowed, "allowed"}, {&state->text, "text"},
                 {&state->running, "running"}, {&state->armed, "armed"}, {&state->moving, "moving"},
                 {&state->is_plain, "is_plain"}};
    if (is_wanted() < 0)
        return -1;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if ((*names[i].place = PyUnicode_InternFromString(names[i].text)) == NULL)
            return -1;
    if (fill_names(&state->names) < 0 || fill_environ_names(&state->environ) < 0)
        return -1;
    state->answer_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &answer_spec, NULL);
    state->line_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &line_spec, NULL);
    PyObject *quick_type = PyType_FromModuleAndSpec(module, &quick_spec, NULL);
    int done = state->answer_type == NULL || state->line_type == NULL || quick_type == NULL ? -1 : 0;
    if (done == 0)
        done = PyModule_AddObjectRef(module, "Line", (PyObject *)state->line_type);
    if (done == 0)
        done = PyModule_AddObjectRef(module, "Quick", quick_type);
    Py_XDECREF(quick_type);
    return done;
}

static void destroy(void *module)
{
    State *state = PyModule_GetState(module);
    clear_names(&state->names);
    clear_environ_names(&state->environ);
    Py_CLEAR(state->raised);
    Py_CLEAR(state->allowed);
    Py_CLEAR(state->text);
    Py_CLEAR(state->running);
    Py_CLEAR(state->armed);
    Py_CLEAR(state->moving);
    Py_CLEAR(state->is_plain);
    Py_CLEAR(state->answer_type);
    Py_CLEAR(state->line_type);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, initialise}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_quick",
    .m_size = sizeof(State),
    .m_slots = slots,
    .m_free = destroy,
};

PyMODINIT_FUNC PyInit__quick(void)
{
    return PyModuleDef_Init(&definition);
}
