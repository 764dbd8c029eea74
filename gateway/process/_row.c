/* `scoreboard.Row` in C: what every request writes, in the layout that scoreboard.py declares and explains. It is taken
 * only where `LAYOUT` says the same as that.
 *
 * Of CPython it needs the limited API of 3.11, as `_records.c`.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../protocol/_optional.h"

enum {
    SEQUENCE, BUSY, SINCE, REQUESTS, LASTED, RUN_SUM, WAIT_SUM, TEXT_SIZE, LENGTH, PID, LOST, SHED, GONE, MEANT, WORDS
};
enum { STALE, USED, ACCEPTED, IDLE };
#define PER_THREAD 2 /* words of the header */
#define WORTH_SHARING 200000 /* ns */

static const uint64_t BOUNDS[] = { /* ns */
    1000000, 2500000, 5000000, 10000000, 25000000, 50000000, 100000000, 250000000, 500000000, 1000000000, 2500000000,
    5000000000, 10000000000, 30000000000, 60000000000};
#define BOUND_COUNT (sizeof BOUNDS / sizeof BOUNDS[0])
#define BUCKETS (BOUND_COUNT + 1)
#define CLASSES 5
#define TEXT_AT (WORDS * 8)
#define COUNTERS_AT 1024
#define LONGEST_TEXT (COUNTERS_AT - TEXT_AT)
#define RUN (COUNTERS_AT / 8)
#define WAIT (RUN + BUCKETS)
#define ANSWERS (WAIT + BUCKETS)

typedef struct {
    PyObject *method, *application, *address, *user, *uri, *length; /* names in the environ */
} State;

typedef struct {
    PyObject_HEAD
    State *state;
    Py_buffer slot, header;
    uint64_t *words, *shared; /* of the row in it, of the header */
    Py_ssize_t number;        /* of its word in the header */
    Py_ssize_t size, shared_size; /* in words */
    uint64_t since;
} Row;

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* The sequence number is odd while the row is written: readers have to see it before and after all else. */
static void open_row(Row *self)
{
    __atomic_store_n(&self->words[SEQUENCE], self->words[SEQUENCE] + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void close_row(Row *self)
{
    __atomic_store_n(&self->words[SEQUENCE], self->words[SEQUENCE] + 1, __ATOMIC_RELEASE);
}

/* Append latin-1 text, and a NUL where another follows, as far as there is room; -1 with an exception. */
static int put_text(char **at, const char *end, PyObject *text, int last)
{
    Py_ssize_t size = 0;
    PyObject *bytes = NULL;
    const char *chars = "";
    if (text != NULL) {
        chars = PyUnicode_AsUTF8AndSize(text, &size);
        if (chars == NULL)
            return -1;
        if (size != PyUnicode_GetLength(text)) {
            if ((bytes = PyUnicode_AsEncodedString(text, "latin-1", "replace")) == NULL)
                return -1;
            chars = PyBytes_AsString(bytes);
            size = PyBytes_Size(bytes);
        }
    }
    if (size > end - *at)
        size = end - *at;
    *at = (char *)memcpy(*at, chars, (size_t)size) + size;
    if (!last && *at < end)
        *(*at)++ = '\0';
    Py_XDECREF(bytes);
    return 0;
}

static int body_length(PyObject *text, uint64_t *length)
{
    *length = 0;
    if (text == NULL || PyUnicode_GetLength(text) == 0)
        return 0;
    const char *chars = PyUnicode_AsUTF8AndSize(text, NULL);
    *length = chars == NULL ? 0 : strtoull(chars, NULL, 10);
    return chars == NULL ? -1 : 0;
}

static PyObject *begin(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    Row *self = (Row *)object;
    char text[LONGEST_TEXT], *at = text;
    uint64_t length;
    if (count != 2 || !PyDict_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "needed: environ, host");
        return NULL;
    }
    const State *state = self->state;
    PyObject *const parts[] = {PyDict_GetItemWithError(args[0], state->method), args[1],
                               PyDict_GetItemWithError(args[0], state->application),
                               PyDict_GetItemWithError(args[0], state->address),
                               PyDict_GetItemWithError(args[0], state->user),
                               PyDict_GetItemWithError(args[0], state->uri)};
    const size_t last = sizeof parts / sizeof parts[0] - 1;
    for (size_t i = 0; i <= last; i++)
        if (put_text(&at, text + LONGEST_TEXT, parts[i], i == last) < 0)
            return NULL;
    if (body_length(PyDict_GetItemWithError(args[0], state->length), &length) < 0)
        return NULL;
    self->since = now();
    open_row(self);
    self->words[BUSY] = 1;
    self->words[SINCE] = self->since;
    self->words[TEXT_SIZE] = (uint64_t)(at - text);
    self->words[LENGTH] = length;
    memcpy((char *)self->words + TEXT_AT, text, (size_t)(at - text));
    close_row(self);
    self->shared[self->number + 1] = 0;
    Py_RETURN_NONE;
}

static size_t bucket(uint64_t nanoseconds)
{
    size_t at = 0;
    while (at < BOUND_COUNT && BOUNDS[at] < nanoseconds)
        at++;
    return at;
}

static PyObject *end(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    Row *self = (Row *)object;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "needed: label, status, waited");
        return NULL;
    }
    const long label = PyLong_AsLong(args[0]), status = PyLong_AsLong(args[1]);
    const double waited = args[2] == Py_None ? 0 : PyFloat_AsDouble(args[2]);
    if (PyErr_Occurred())
        return NULL;
    const long class = status / 100 < CLASSES ? status / 100 : CLASSES;
    const Py_ssize_t answer = (Py_ssize_t)ANSWERS + label * CLASSES + class - 1;
    if (label < 0 || class < 1 || answer >= self->size) {
        PyErr_SetString(PyExc_IndexError, "no such label or status");
        return NULL;
    }
    const uint64_t time = now();
    open_row(self);
    uint64_t *words = self->words;
    words[BUSY] = 0;
    words[REQUESTS]++;
    if (self->since != 0) { /* else it was refused before it ran */
        const uint64_t lasted = time - self->since;
        self->since = 0;
        words[LASTED] = lasted;
        words[RUN_SUM] += lasted;
        words[RUN + bucket(lasted)]++;
    }
    words[SINCE] = time;
    if (args[2] != Py_None) {
        const uint64_t nanoseconds = (uint64_t)(waited * 1e9);
        words[WAIT_SUM] += nanoseconds;
        words[WAIT + bucket(nanoseconds)]++;
    }
    words[answer]++;
    close_row(self);
    self->shared[self->number + 1] = 1;
    Py_RETURN_NONE;
}

static PyObject *resume(PyObject *object, PyObject *argument)
{
    Row *self = (Row *)object;
    const uint64_t before = self->since, since = PyLong_AsUnsignedLongLong(argument);
    if (PyErr_Occurred())
        return NULL;
    open_row(self);
    self->words[BUSY] = 1;
    self->words[SINCE] = self->since = since;
    close_row(self);
    self->shared[self->number + 1] = 0;
    return PyLong_FromUnsignedLongLong(before);
}

/* The sum of a word of all threads that have been used. */
static uint64_t sum_of(const Row *self, int word)
{
    uint64_t sum = 0, used = self->shared[USED];
    for (Py_ssize_t i = word; i < self->shared_size && used > 0; i += PER_THREAD, used--)
        sum += self->shared[i];
    return sum;
}

static PyObject *accepted(PyObject *object, PyObject *none)
{
    Row *self = (Row *)object;
    (void)none;
    self->shared[self->number]++;
    const uint64_t stale = self->shared[STALE];
    return PyBool_FromLong(stale != 0 && sum_of(self, ACCEPTED) <= stale);
}

static PyObject *should_share(PyObject *object, PyObject *none)
{
    const Row *self = (Row *)object;
    (void)none;
    if (self->words[LASTED] < WORTH_SHARING)
        Py_RETURN_FALSE;
    return PyBool_FromLong(sum_of(self, IDLE) > self->shared[self->number + 1]);
}

static PyObject *add_one(Row *self, int word)
{
    open_row(self);
    self->words[word]++;
    close_row(self);
    Py_RETURN_NONE;
}

static PyObject *shed(PyObject *object, PyObject *none)
{
    (void)none;
    return add_one((Row *)object, SHED);
}

static PyObject *gone(PyObject *object, PyObject *none)
{
    (void)none;
    return add_one((Row *)object, GONE);
}

/* In whatever thread: the word stands outside what the sequence number guards. */
static PyObject *lose(PyObject *object, PyObject *none)
{
    (void)none;
    ((Row *)object)->words[LOST]++;
    Py_RETURN_NONE;
}

static PyObject *is_meant(PyObject *object, PyObject *none)
{
    const uint64_t *words = ((Row *)object)->words;
    (void)none;
    return PyBool_FromLong(words[BUSY] != 0 && words[MEANT] == words[REQUESTS] + 1);
}

static void clear_row(Row *self)
{
    const uint64_t sequence = self->words[SEQUENCE] | 1; /* a predecessor may have died while it wrote */
    self->words[SEQUENCE] = sequence;
    memset(self->words + SEQUENCE + 1, 0, (WORDS - SEQUENCE - 1) * 8);
    memset(self->words + RUN, 0, (size_t)(self->size - RUN) * 8);
    self->words[SINCE] = now();
    self->words[PID] = (uint64_t)getpid();
    self->shared[self->number + 1] = 1;
    __atomic_store_n(&self->words[SEQUENCE], sequence + 1, __ATOMIC_RELEASE);
}

/* Begin anew, so many bytes into the memory of a slot, as the thread of that number in the header. After an exception the
 * row is of no more use. */
static PyObject *move(PyObject *object, PyObject *args)
{
    Row *self = (Row *)object;
    PyObject *slot, *header;
    Py_ssize_t offset, number;
    if (!PyArg_ParseTuple(args, "OnOn", &slot, &offset, &header, &number))
        return NULL;
    PyBuffer_Release(&self->slot);
    PyBuffer_Release(&self->header);
    if (PyObject_GetBuffer(slot, &self->slot, PyBUF_WRITABLE) < 0 ||
        PyObject_GetBuffer(header, &self->header, PyBUF_WRITABLE) < 0)
        return NULL;
    self->words = (uint64_t *)((char *)self->slot.buf + offset);
    self->shared = self->header.buf;
    self->shared_size = self->header.len / 8;
    self->number = ACCEPTED + PER_THREAD * number;
    self->since = 0;
    if (self->size < (Py_ssize_t)(ANSWERS + CLASSES) || offset < 0 || self->slot.len - offset < self->size * 8 ||
        number < 0 || self->number + 1 >= self->shared_size)
        return PyErr_Format(PyExc_ValueError, "the slot or the header is too small");
    clear_row(self);
    Py_RETURN_NONE;
}

static PyObject *zeroes(Py_ssize_t size)
{
    return PyObject_CallFunction((PyObject *)&PyByteArray_Type, "n", size);
}

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Py_ssize_t size, start = 0;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "n", &size))
        return NULL;
    Row *self = (Row *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->state = PyType_GetModuleState(type);
    self->size = size / 8;
    PyObject *done = PyObject_CallMethod((PyObject *)self, "move", "NnNn", zeroes(size), start,
        zeroes((ACCEPTED + PER_THREAD) * 8), start);
    if (done == NULL)
        Py_CLEAR(self);
    Py_XDECREF(done);
    return (PyObject *)self;
}

static void dealloc(PyObject *object)
{
    Row *self = (Row *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyBuffer_Release(&self->slot);
    PyBuffer_Release(&self->header);
    PyObject_Free(object);
    Py_DECREF(type);
}

#define FAST(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}
static PyMethodDef methods[] = {{"move", move, METH_VARARGS, NULL},
                                FAST(begin),
                                FAST(end),
                                {"resume", resume, METH_O, NULL},
                                {"accepted", accepted, METH_NOARGS, NULL},
                                {"should_share", should_share, METH_NOARGS, NULL},
                                {"shed", shed, METH_NOARGS, NULL},
                                {"gone", gone, METH_NOARGS, NULL},
                                {"lose", lose, METH_NOARGS, NULL},
                                {"is_meant", is_meant, METH_NOARGS, NULL},
                                {NULL, NULL, 0, NULL}};

static PyType_Slot row_slots[] = {
    {Py_tp_new, new}, {Py_tp_dealloc, dealloc}, {Py_tp_methods, methods}, {0, NULL}};

static PyType_Spec row_spec = {
    .name = "gateway.process._row.Row",
    .basicsize = sizeof(Row),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = row_slots,
};

static int initialise(PyObject *module)
{
    State *state = PyModule_GetState(module);
    const struct {
        PyObject **place;
        const char *text;
    } names[] = {{&state->method, "REQUEST_METHOD"}, {&state->application, "gateway.application"},
                 {&state->address, "REMOTE_ADDR"},   {&state->user, "REMOTE_USER"},
                 {&state->uri, "REQUEST_URI"},       {&state->length, "CONTENT_LENGTH"}};
    if (is_wanted() < 0)
        return -1;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if ((*names[i].place = PyUnicode_InternFromString(names[i].text)) == NULL)
            return -1;
    PyObject *layout = PyTuple_New(BOUND_COUNT), *type = PyType_FromModuleAndSpec(module, &row_spec, NULL);
    int done = layout == NULL || type == NULL ? -1 : 0;
    for (size_t i = 0; done == 0 && i < BOUND_COUNT; i++)
        done = PyTuple_SetItem(layout, (Py_ssize_t)i, PyLong_FromUnsignedLongLong(BOUNDS[i]));
    PyObject *whole = done < 0 ? NULL : Py_BuildValue("(iniO)", WORDS, (Py_ssize_t)COUNTERS_AT, CLASSES, layout);
    done = whole == NULL || PyModule_AddObjectRef(module, "LAYOUT", whole) < 0 ? -1
                                                                                 : PyModule_AddObjectRef(module, "Row", type);
    Py_XDECREF(whole);
    Py_XDECREF(layout);
    Py_XDECREF(type);
    return done;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, initialise}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_row",
    .m_size = sizeof(State),
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__row(void)
{
    return PyModuleDef_Init(&definition);
}
