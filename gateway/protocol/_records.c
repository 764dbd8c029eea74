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

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "_names.h"

#define END_REQUEST 3
#define STDOUT 6
#define HEADER_SIZE 8
#define BEGINNING_SIZE 20 /* BEGIN_REQUEST, and the header of PARAMS up to its length */
#define PARAMS_AT 24
#define ANSWER_END_SIZE 24 /* the end of STDOUT, END_REQUEST */
#define LONGEST_CONTENT 65535
#define FULL_CONTENT 65528 /* of a record in a longer stream: a multiple of 8, so that what follows stays aligned */

#define BOOLEAN(value) ((value) ? Py_True : Py_False)

typedef unsigned char byte;

/* A request of id 1 to a responder, whose flags (KEEP_CONN) are at offset 10. */
#define KEEP_CONN_AT 10
static const byte BEGINNING[BEGINNING_SIZE] = {1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 4, 0, 1};
static const byte PARAMS_END[HEADER_SIZE] = {1, 4, 0, 1};
static const byte STDIN_END[HEADER_SIZE] = {1, 5, 0, 1};

/* -- decoding: each step gives 1 where it is done, 0 where Python is to look, -1 where an exception is set ----- */

typedef struct {
    Py_ssize_t params_size, params_count, name_size;
} Limits;

typedef struct {
    PyObject *params, *repeats;
    int plain; /* no name or value holds NUL, CR or LF */
} Params;

static int decode_length(const byte **at, const byte *end, Py_ssize_t *length)
{
    const byte *p = *at;
    if (p == end)
        return 0;
    if (*p < 128) {
        *length = *p;
        *at = p + 1;
        return 1;
    }
    if (end - p < 4)
        return 0;
    *length = (Py_ssize_t)((uint32_t)(p[0] & 127) << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]);
    *at = p + 4;
    return 1;
}

static int add_repeat(PyObject *repeats, PyObject *name, PyObject *value)
{
    PyObject *pair = PyTuple_Pack(2, name, value);
    if (pair == NULL)
        return -1;
    int done = PyList_Append(repeats, pair);
    Py_DECREF(pair);
    return done < 0 ? -1 : 1;
}

static int add_pair(const Params *to, PyObject *name, PyObject *value)
{
    if (PyDict_GetItemWithError(to->params, name) != NULL)
        return add_repeat(to->repeats, name, value);
    if (PyErr_Occurred())
        return -1;
    return PyDict_SetItem(to->params, name, value) < 0 ? -1 : 1;
}

typedef struct {
    const byte *text;
    Py_ssize_t size;
} Piece;

static int decode_pair(const Names *names, Piece name_piece, Piece value_piece, const Params *to)
{
    PyObject *name = decode_name(names, (const char *)name_piece.text, name_piece.size);
    if (name == NULL)
        return -1;
    PyObject *value = PyUnicode_DecodeLatin1((const char *)value_piece.text, value_piece.size, NULL);
    int done = value == NULL ? -1 : add_pair(to, name, value);
    Py_XDECREF(value);
    Py_DECREF(name);
    return done;
}

static int is_plain(const byte *at, Py_ssize_t size)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t word, low = 0; /* bytes below 14, looked for in eight at once: there are hardly any but these three */
    const byte *p = at, *end = at + size;
    for (; end - p >= 8; p += 8) {
        memcpy(&word, p, 8);
        low |= (word - ones * 14) & ~word & ones * 128;
    }
    for (; p < end; p++)
        low |= *p < 14;
    for (p = at; low != 0 && p < end; p++)
        if (*p == '\0' || *p == '\n' || *p == '\r')
            return 0;
    return 1;
}

static int decode_pairs(const Names *names, const byte *at, const byte *end, const Limits *limits, Params *to)
{
    Py_ssize_t name_size, value_size;
    int done;
    for (Py_ssize_t count = 0; at < end; count++) {
        if (count == limits->params_count)
            return 0;
        if (!decode_length(&at, end, &name_size) || name_size > limits->name_size)
            return 0;
        if (!decode_length(&at, end, &value_size) || name_size > end - at || value_size > end - at - name_size)
            return 0;
        if ((done = decode_pair(names, (Piece){at, name_size}, (Piece){at + name_size, value_size}, to)) != 1)
            return done;
        to->plain &= is_plain(at, name_size + value_size);
        at += name_size + value_size;
    }
    return 1;
}

static void clear_params(Params *params)
{
    Py_CLEAR(params->params);
    Py_CLEAR(params->repeats);
}

static Piece take_string(const byte **at, const byte *end)
{
    const byte *text = *at, *nul = memchr(text, '\0', (size_t)(end - text));
    *at = nul + 1;
    return (Piece){text, nul - text};
}

static int is_same(Piece one, Piece other)
{
    return one.size == other.size && memcmp(one.text, other.text, (size_t)one.size) == 0;
}

static const Piece LENGTH_NAME = {(const byte *)"CONTENT_LENGTH", 14};

/* NUL-terminated strings, of which CONTENT_LENGTH is the first and may come again if it says the same or nothing. The
 * base has none. */
static int decode_strings(const Names *names, const byte *at, const byte *end, const Limits *limits, Params *to)
{
    Piece length = {NULL, 0};
    if (at == end || end[-1] != '\0')
        return 0;
    to->plain = memchr(at, '\n', (size_t)(end - at)) == NULL && memchr(at, '\r', (size_t)(end - at)) == NULL;
    for (Py_ssize_t count = 0; at < end; count++) {
        const Piece name = take_string(&at, end);
        if (at == end || count == limits->params_count || name.size == 0 || name.size > limits->name_size)
            return 0;
        const Piece value = take_string(&at, end);
        const int is_length = is_same(name, LENGTH_NAME);
        if (count == 0 ? !is_length : is_length && value.size > 0 && !is_same(value, length))
            return 0;
        if (count == 0)
            length = value;
        else if (is_length)
            continue;
        const int done = decode_pair(names, name, value, to);
        if (done != 1)
            return done;
    }
    return 1;
}

typedef int Decoder(const Names *names, const byte *at, const byte *end, const Limits *limits, Params *to);

/* Fill `to` with references of the caller's, or leave it empty. */
static int decode_block(const Names *names, Decoder *decode, Piece block, PyObject *base, const Limits *limits,
                        Params *to)
{
    *to = (Params){NULL, NULL, 1};
    if (block.size > limits->params_size)
        return 0;
    to->params = PyDict_Copy(base);
    to->repeats = to->params == NULL ? NULL : PyList_New(0);
    int done = to->repeats == NULL ? -1 : decode(names, block.text, block.text + block.size, limits, to);
    if (done != 1)
        clear_params(to);
    return done;
}

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

static PyObject *decode_argument(PyObject *module, PyObject *const *args, Py_ssize_t count, Decoder *decode)
{
    Py_buffer data;
    Limits limits;
    Params params;
    if (take_arguments(args, count, &data, &limits) < 0)
        return NULL;
    const Piece block = {data.buf, data.len};
    const int done = decode_block(PyModule_GetState(module), decode, block, args[1], &limits, &params);
    PyBuffer_Release(&data);
    if (done != 1)
        return done < 0 ? NULL : Py_NewRef(Py_None);
    PyObject *result = PyTuple_Pack(3, params.params, params.repeats, BOOLEAN(params.plain));
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

/* What is known of a head before its parameters are decoded. */
typedef struct {
    int keep_conn, complete;
    Py_ssize_t block_size, end;
} Shape;

static int find_shape(const byte *data, Py_ssize_t size, Shape *shape)
{
    byte beginning[BEGINNING_SIZE];
    if (size < PARAMS_AT + HEADER_SIZE || data[KEEP_CONN_AT] > 1)
        return 0;
    memcpy(beginning, data, BEGINNING_SIZE);
    beginning[KEEP_CONN_AT] = 0;
    if (memcmp(beginning, BEGINNING, BEGINNING_SIZE) != 0)
        return 0;
    shape->keep_conn = data[KEEP_CONN_AT];
    shape->block_size = data[20] << 8 | data[21];
    Py_ssize_t at = PARAMS_AT + shape->block_size + data[22];
    if (shape->block_size == 0 || size - at < HEADER_SIZE || memcmp(data + at, PARAMS_END, HEADER_SIZE) != 0)
        return 0;
    at += HEADER_SIZE;
    shape->complete = size - at >= HEADER_SIZE && memcmp(data + at, STDIN_END, HEADER_SIZE) == 0;
    shape->end = shape->complete ? at + HEADER_SIZE : at;
    return 1;
}

static PyObject *head_tuple(const Shape *shape, const Params *params)
{
    PyObject *end = PyLong_FromSsize_t(shape->end);
    PyObject *result = end == NULL ? NULL : PyTuple_Pack(6, BOOLEAN(shape->keep_conn), params->params, params->repeats,
                                                         BOOLEAN(params->plain), end, BOOLEAN(shape->complete));
    Py_XDECREF(end);
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
        done = decode_block(PyModule_GetState(module), decode_pairs, block, args[1], &limits, &params);
    }
    PyBuffer_Release(&data);
    if (done != 1)
        return done < 0 ? NULL : Py_NewRef(Py_None);
    PyObject *result = head_tuple(&shape, &params);
    clear_params(&params);
    return result;
}

static byte *put_header(byte *at, byte kind, long request_id, Py_ssize_t length)
{
    const byte header[HEADER_SIZE] = {1, kind, (byte)(request_id >> 8), (byte)request_id, (byte)(length >> 8),
                                      (byte)length, 0, 0};
    memcpy(at, header, HEADER_SIZE);
    return at + HEADER_SIZE;
}

static byte *put_stdout(byte *at, long request_id, const byte *data, Py_ssize_t size)
{
    const Py_ssize_t most = size <= LONGEST_CONTENT ? LONGEST_CONTENT : FULL_CONTENT;
    for (Py_ssize_t length; size > 0; size -= length) {
        length = size < most ? size : most;
        at = (byte *)memcpy(put_header(at, STDOUT, request_id, length), data, (size_t)length) + length;
        data += length;
    }
    return at;
}

static byte *put_answer_end(byte *at, long request_id, unsigned long app_status)
{
    const byte body[HEADER_SIZE] = {(byte)(app_status >> 24), (byte)(app_status >> 16), (byte)(app_status >> 8),
                                    (byte)app_status};
    at = put_header(put_header(at, STDOUT, request_id, 0), END_REQUEST, request_id, HEADER_SIZE);
    memcpy(at, body, HEADER_SIZE);
    return at + HEADER_SIZE;
}

static Py_ssize_t answer_size(Py_ssize_t size)
{
    Py_ssize_t records = size <= LONGEST_CONTENT ? size > 0 : (size + FULL_CONTENT - 1) / FULL_CONTENT;
    return size + records * HEADER_SIZE + ANSWER_END_SIZE;
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
    const char *pure = getenv("GATEWAY_PURE"); /* asked here, for protocol/ itself knows of no environment */
    if (pure != NULL && *pure != '\0' && strcmp(pure, "0") != 0) {
        PyErr_SetString(PyExc_ImportError, "GATEWAY_PURE is set");
        return -1;
    }
    return fill_names(PyModule_GetState(module));
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
