/* Requests to dictionaries: name-value pairs, SCGI's headers, and the shape of a head that came whole (FastCGI 1.0
 * §3.3, §3.4, §5.1; the SCGI specification). Included by each extension that decodes.
 */

#ifndef GATEWAY_DECODE_H
#define GATEWAY_DECODE_H

#include <Python.h>

#include <stdint.h>
#include <string.h>

#include "_names.h"

#define HEADER_SIZE 8
#define BEGINNING_SIZE 20 /* BEGIN_REQUEST, and the header of PARAMS up to its length */
#define PARAMS_AT 24

typedef unsigned char byte;

/* A request of id 1 to a responder, whose flags (KEEP_CONN) are at offset 10. */
#define KEEP_CONN_AT 10
static const byte BEGINNING[BEGINNING_SIZE] = {1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 4, 0, 1};
static const byte PARAMS_END[HEADER_SIZE] = {1, 4, 0, 1};
static const byte STDIN_END[HEADER_SIZE] = {1, 5, 0, 1};

/* Each step gives 1 where it is done, 0 where Python is to look, -1 where an exception is set. */

typedef struct {
    Py_ssize_t params_size, params_count, name_size;
} Limits;

/* What is decoded. A pair whose name is there already only counts, and is found by the dictionary's size: then all is
 * decoded again with `repeats`. */
typedef struct {
    PyObject *params, *repeats;
    Py_ssize_t count;
    int plain;                    /* no name or value holds NUL, CR or LF */
    PyObject *roles[ROLES];       /* the values of names that have one, borrowed from `params` */
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

static int add_pair(Params *to, PyObject *name, PyObject *value)
{
    to->count++;
    if (to->repeats == NULL)
        return PyDict_SetItem(to->params, name, value) < 0 ? -1 : 1;
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

static int decode_pair(Names *names, Piece name, Piece value, Params *to)
{
    Slot *slot = find_name(names, (const char *)name.text, name.size);
    PyObject *key = slot != NULL ? Py_NewRef(slot->name) : PyUnicode_DecodeLatin1((const char *)name.text, name.size, NULL);
    if (key == NULL)
        return -1;
    PyObject *text = decode_value(slot, (const char *)value.text, value.size);
    const int done = text == NULL ? -1 : add_pair(to, key, text);
    if (slot != NULL)
        to->roles[slot->role] = text;
    Py_XDECREF(text);
    Py_DECREF(key);
    return done;
}

static int is_plain(const byte *at, Py_ssize_t size)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t word, low = 0; /* bytes below 14, looked for in eight at once: there are hardly any but these three */
    const byte *p = at, *end = at + size;
    for (; size >= 8 && p < end; p += 8) {
        memcpy(&word, end - p >= 8 ? p : end - 8, 8); /* the last one overlaps the one before it */
        low |= (word - ones * 14) & ~word & ones * 128;
    }
    for (; p < end; p++)
        low |= *p < 14;
    for (p = at; low != 0 && p < end; p++)
        if (*p == '\0' || *p == '\n' || *p == '\r')
            return 0;
    return 1;
}

static int decode_pairs(Names *names, const byte *at, const byte *end, const Limits *limits, Params *to)
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

static inline Piece take_string(const byte **at, const byte *end)
{
    const byte *text = *at, *nul = memchr(text, '\0', (size_t)(end - text));
    *at = nul + 1;
    return (Piece){text, nul - text};
}

static inline int is_same(Piece one, Piece other)
{
    return one.size == other.size && memcmp(one.text, other.text, (size_t)one.size) == 0;
}

#define LENGTH_NAME ((Piece){(const byte *)"CONTENT_LENGTH", 14})

/* NUL-terminated strings, of which CONTENT_LENGTH is the first and may come again if it says the same or nothing. The
 * base has none. */
static inline int decode_strings(Names *names, const byte *at, const byte *end, const Limits *limits, Params *to)
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

typedef int Decoder(Names *names, const byte *at, const byte *end, const Limits *limits, Params *to);

/* Fill `to` with references of the caller's, or leave it empty. Without `wants_repeats` it is Python's to look for them. */
static int decode_block(Names *names, Decoder *decode, Piece block, PyObject *base, const Limits *limits,
                        int wants_repeats, Params *to)
{
    *to = (Params){.plain = 1};
    if (block.size > limits->params_size)
        return 0;
    to->params = PyDict_Copy(base);
    int done = to->params == NULL ? -1 : decode(names, block.text, block.text + block.size, limits, to);
    if (done == 1 && PyDict_Size(to->params) == PyDict_Size(base) + to->count)
        return 1;
    Py_CLEAR(to->params);
    if (done != 1 || !wants_repeats)
        return done < 0 ? -1 : 0;
    *to = (Params){.plain = 1, .params = PyDict_Copy(base), .repeats = PyList_New(0)};
    done = to->params == NULL || to->repeats == NULL ? -1
                                                     : decode(names, block.text, block.text + block.size, limits, to);
    if (done != 1)
        clear_params(to);
    return done;
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

#endif
