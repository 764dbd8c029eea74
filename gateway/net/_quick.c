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

#define HELD(self) \
    {&(self)->driver, &(self)->base, &(self)->hosts, &(self)->known, &(self)->begin, &(self)->end, &(self)->accepted, \
     &(self)->should_share, &(self)->mover, &(self)->interruption, &(self)->line, &(self)->request_path, \
     &(self)->mount, &(self)->whole_body, &(self)->file_wrapper, &(self)->access}
#define HELD_COUNT 16

static PyObject *quick_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *o[HELD_COUNT];
    Limits limits;
    long long max_body;
    double queue_timeout;
    PyObject *listeners;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OO!O!OOOOOOOOOOOO(nnn)LdOO!", &o[0], &PyDict_Type, &o[1], &PyDict_Type, &o[2], &o[3], &o[4],
                          &o[5], &o[6], &o[7], &o[8], &o[9], &o[10], &o[11], &o[12], &o[13], &o[14], &limits.params_size,
                          &limits.params_count, &limits.name_size, &max_body, &queue_timeout, &o[15], &PyTuple_Type,
                          &listeners))
        return NULL;
    Quick *self = (Quick *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->state = PyType_GetModuleState(type);
    PyObject **const held[] = HELD(self);
    for (size_t i = 0; i < HELD_COUNT; i++)
        *held[i] = Py_NewRef(o[i]);
    self->limits = limits;
    self->max_body = max_body;
    self->queue_timeout = queue_timeout;
    self->in = malloc(CHUNK);
    self->out = malloc(HEADER_SIZE + LONGEST_ANSWER + ANSWER_END_SIZE);
    self->listener_count = PyTuple_Size(listeners);
    self->listeners = calloc((size_t)self->listener_count + 1, sizeof *self->listeners);
    if (self->in == NULL || self->out == NULL || self->listeners == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < self->listener_count; i++)
        self->listeners[i] = PyObject_AsFileDescriptor(PyTuple_GetItem(listeners, i));
    if (PyErr_Occurred() || take_log(self) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int quick_traverse(PyObject *object, visitproc visit, void *arg)
{
    PyObject **const held[] = HELD((Quick *)object);
    Py_VISIT(Py_TYPE(object));
    for (size_t i = 0; i < HELD_COUNT; i++)
        Py_VISIT(*held[i]);
    return 0;
}

static int quick_clear(PyObject *object)
{
    Quick *self = (Quick *)object;
    PyObject **const held[] = HELD(self);
    for (size_t i = 0; i < HELD_COUNT; i++)
        Py_CLEAR(*held[i]);
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
