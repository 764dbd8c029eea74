/* The functions of records.py and headers.py that every request passes, in C: name-value pairs, whole heads and SCGI's
 * headers to dictionaries, an answer to one buffer (FastCGI 1.0 §3.3, §3.4, §5.1, §5.5; the SCGI specification).
 *
 * It knows the formats and nothing else. Whatever is not plainly right (a fault, an excess, a head of another shape) it
 * returns None for, and Python, which does the same and is read more easily, says what is wrong. So there is one text
 * for each refusal.
 *
 * Of CPython it needs the limited API of 3.11: one file serves every later version, also that of a pool's own
 * interpreter.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <string.h>

#include "_decode.h"
#include "_frame.h"
#include "_optional.h"

#define BOOLEAN(value) ((value) ? Py_True : Py_False)

/* -- what is called from Python ------------------------------------------------------------------------------------ */

/* Arguments of all decoders: bytes, dictionary, three limits. On success the buffer is to be released. */
static int take_arguments(PyObject *const *args, Py_ssize_t count, Py_buffer *data, Limits *limits)
{
    if (count != 5 || !PyDict_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "needed: bytes, a dictionary, params_size, params_count, name_size");
        return -1;
    }
    Py_ssize_t *const numbers[] = {&limits->params_size, &limits->params_count, &limits->name_size};
    for (int i = 0; i < 3; i++)
        if ((*numbers[i] = PyLong_AsSsize_t(args[2 + i])) == -1 && PyErr_Occurred())
            return -1;
    return PyObject_GetBuffer(args[0], data, PyBUF_SIMPLE);
}

static PyObject *repeats_of(const Params *params)
{
    return params->repeats == NULL ? PyList_New(0) : Py_NewRef(params->repeats);
}

static PyObject *decode_argument(PyObject *module, PyObject *const *args, Py_ssize_t count, Decoder *decode)
{
    Py_buffer data;
    Limits limits;
    Params params;
    if (take_arguments(args, count, &data, &limits) < 0)
        return NULL;
    const Piece block = {data.buf, data.len};
    const int done = decode_block(PyModule_GetState(module), decode, block, args[1], &limits, 1, &params);
    PyBuffer_Release(&data);
    if (done != 1)
        return done < 0 ? NULL : Py_NewRef(Py_None);
    PyObject *repeats = repeats_of(&params);
    PyObject *result = repeats == NULL ? NULL : PyTuple_Pack(3, params.params, repeats, BOOLEAN(params.plain));
    Py_XDECREF(repeats);
    clear_params(&params);
    return result;
}

static PyObject *decode_params(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    return decode_argument(module, args, count, decode_pairs);
}

static PyObject *decode_headers(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    return decode_argument(module, args, count, decode_strings);
}

static PyObject *head_tuple(const Shape *shape, const Params *params)
{
    PyObject *end = PyLong_FromSsize_t(shape->end), *repeats = repeats_of(params), *result = NULL;
    if (end != NULL && repeats != NULL)
        result = PyTuple_Pack(6, BOOLEAN(shape->keep_conn), params->params, repeats, BOOLEAN(params->plain), end,
                              BOOLEAN(shape->complete));
    Py_XDECREF(end);
    Py_XDECREF(repeats);
    return result;
}

static PyObject *decode_whole_head(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer data;
    Limits limits;
    Shape shape;
    Params params;
    if (take_arguments(args, count, &data, &limits) < 0)
        return NULL;
    int done = find_shape(data.buf, data.len, &shape);
    if (done == 1) {
        const Piece block = {(const byte *)data.buf + PARAMS_AT, shape.block_size};
        done = decode_block(PyModule_GetState(module), decode_pairs, block, args[1], &limits, 1, &params);
    }
    PyBuffer_Release(&data);
    if (done != 1)
        return done < 0 ? NULL : Py_NewRef(Py_None);
    PyObject *result = head_tuple(&shape, &params);
    clear_params(&params);
    return result;
}

static PyObject *encode_answer(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer data;
    (void)module;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "needed: request id, bytes, application status");
        return NULL;
    }
    long request_id = PyLong_AsLong(args[0]);
    if (request_id == -1 && PyErr_Occurred())
        return NULL;
    unsigned long app_status = PyLong_AsUnsignedLongMask(args[2]);
    if (app_status == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    if (request_id < 0 || request_id > 65535)
        Py_RETURN_NONE;
    if (PyObject_GetBuffer(args[1], &data, PyBUF_SIMPLE) < 0)
        return NULL;
    PyObject *answer = PyBytes_FromStringAndSize(NULL, answer_size(data.len));
    if (answer != NULL)
        put_answer_end(put_stdout((byte *)PyBytes_AsString(answer), request_id, data.buf, data.len), request_id,
                       app_status);
    PyBuffer_Release(&data);
    return answer;
}

/* -- the module ---------------------------------------------------------------------------------------------------- */

static int initialise(PyObject *module)
{
    return is_wanted() < 0 ? -1 : fill_names(PyModule_GetState(module));
}

static void destroy(void *module)
{
    clear_names(PyModule_GetState(module));
}

#define FUNCTION(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}
static PyMethodDef functions[] = {
    FUNCTION(decode_params), FUNCTION(decode_whole_head), FUNCTION(decode_headers), FUNCTION(encode_answer),
    {NULL, NULL, 0, NULL}};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, initialise}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_records",
    .m_size = sizeof(Names),
    .m_methods = functions,
    .m_slots = slots,
    .m_free = destroy,
};

PyMODINIT_FUNC PyInit__records(void)
{
    return PyModuleDef_Init(&definition);
}
