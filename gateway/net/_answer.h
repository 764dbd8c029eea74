/* `start_response` of one request that goes the quick way, and what becomes of it where Python has to go on. */

#ifndef GATEWAY_ANSWER_H
#define GATEWAY_ANSWER_H

#include <Python.h>

#include "_log.h"
#include "_quick.h"

/* Given to the application as `start_response`. */
struct Answer {
    PyObject_HEAD
    Quick *quick;       /* whose request it is, borrowed; NULL once that is over */
    PyObject *response; /* a `wsgi.Response`, once Python has to go on with the answer */
    PyObject *text, *headers;
    PyObject *printed; /* a list of what other threads have, once they do */
    Head head;
    Py_ssize_t sent; /* bytes of the body that are on their way, with the head; -1 before that */
};

/* Let the front-end have what was printed. */
static PyObject *pass_on(Answer *self, PyObject *text)
{
    PyObject *exchange = PyObject_GetAttrString(self->response, "exchange");
    PyObject *done = exchange == NULL ? NULL : PyObject_CallMethod(exchange, "stderr", "O", text);
    Py_XDECREF(exchange);
    return done;
}

static int pass_on_all(Answer *self)
{
    const Py_ssize_t count = self->printed == NULL ? 0 : PyList_Size(self->printed);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *done = pass_on(self, PyList_GetItem(self->printed, i));
        Py_XDECREF(done);
        if (done == NULL)
            return -1;
    }
    return 0;
}

/* Another thread has printed: that waits for the one that answers. */
static PyObject *note_printed(Answer *self, PyObject *text)
{
    if (self->printed == NULL && (self->printed = PyList_New(0)) == NULL)
        return NULL;
    return PyList_Append(self->printed, text) < 0 ? NULL : Py_NewRef(Py_None);
}

/* Let Python have the answer, as far as it is, from here on: `response` is set. Returns -1 with an exception. */
static int hand_over(Answer *self)
{
    Quick *quick = self->quick;
    if (self->response != NULL)
        return 0;
    if (quick == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the request is over: its start_response and write() are of no more use");
        return -1;
    }
    const Request *request = quick->request;
    self->response = PyObject_CallMethod(quick->fallback, "go_on_slowly", "iOO(OOON)", request->fd,
        request->head_only ? Py_True : Py_False, PyTuple_GetItem(request->site, 2), request->environ,
        request->keep_conn ? Py_True : Py_False, request->waited, began_tuple(quick, &request->began));
    if (self->response == NULL || pass_on_all(self) < 0)
        return -1;
    if (self->text == NULL)
        return 0;
    PyObject *write = PyObject_CallMethod(self->response, "start_response", "OO", self->text, self->headers);
    PyObject *noted = write == NULL || self->sent < 0 ? Py_XNewRef(write)
                                                      : PyObject_CallMethod(quick->fallback, "note_sent", "On",
                                                            self->response, self->sent);
    Py_XDECREF(write);
    Py_XDECREF(noted);
    return noted == NULL ? -1 : 0;
}

static PyObject *answer_write(PyObject *object, PyObject *data)
{
    Answer *self = (Answer *)object;
    return hand_over(self) < 0 ? NULL : PyObject_CallMethod(self->response, "write", "O", data);
}

static PyMethodDef WRITE = {"write", answer_write, METH_O, "PEP 3333, \"The write() Callable\"."};

static int has_no_error(PyObject *args, PyObject *kwargs)
{
    Py_ssize_t count = PyTuple_Size(args);
    return kwargs == NULL && (count == 2 || (count == 3 && PyTuple_GetItem(args, 2) == Py_None));
}

/* PEP 3333, "The start_response() Callable". */
static PyObject *answer_call(PyObject *object, PyObject *args, PyObject *kwargs)
{
    Answer *self = (Answer *)object;
    if (self->response == NULL && self->text == NULL && self->quick != NULL && has_no_error(args, kwargs)) {
        PyObject *text = PyTuple_GetItem(args, 0), *headers = PyTuple_GetItem(args, 1);
        char *start = self->head.at;
        if (encode_head(&self->head, text, headers)) {
            self->text = Py_NewRef(text);
            /* as it is now: the list is the application's to change */
            self->headers = PyList_GetSlice(headers, 0, PyList_Size(headers));
            return self->headers == NULL ? NULL : PyCFunction_NewEx(&WRITE, object, NULL);
        }
        self->head.at = start;
    }
    if (hand_over(self) < 0)
        return NULL;
    PyObject *start_response = PyObject_GetAttrString(self->response, "start_response");
    PyObject *result = start_response == NULL ? NULL : PyObject_Call(start_response, args, kwargs);
    Py_XDECREF(start_response);
    return result;
}

static void answer_dealloc(PyObject *object)
{
    Answer *self = (Answer *)object;
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(self->response);
    Py_XDECREF(self->text);
    Py_XDECREF(self->headers);
    Py_XDECREF(self->printed);
    PyObject_Free(object);
    Py_DECREF(type);
}

static PyType_Slot answer_slots[] = {
    {Py_tp_call, answer_call}, {Py_tp_dealloc, answer_dealloc}, {0, NULL}};

static PyType_Spec answer_spec = {
    .name = "gateway.net._quick.Answer",
    .basicsize = sizeof(Answer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = answer_slots,
};

#endif
