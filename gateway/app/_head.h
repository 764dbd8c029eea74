/* The head of an answer as `answer.Head` checks and encodes it (PEP 3333 "The start_response() Callable", RFC 3875 §6),
 * where it is plainly right; every other one is left to Python, which says what is wrong. Included by `_quick.c`.
 */

#ifndef GATEWAY_HEAD_H
#define GATEWAY_HEAD_H

#include <Python.h>

#include <string.h>
#include <strings.h>

#define LONGEST_NUMBER 18 /* digits */

/* An encoded head: lines without the empty one, and what they say. */
typedef struct {
    char *at, *end; /* where the next line goes, and where there is no more room */
    int status;
    long long length; /* Content-Length in bytes, or -1 */
} Head;

typedef struct {
    const char *text;
    Py_ssize_t size;
} Text;

static const Text FORBIDDEN[] = {{"te", 2},          {"status", 6},      {"trailer", 7},
                                 {"upgrade", 7},     {"trailers", 8},    {"connection", 10},
                                 {"keep-alive", 10}, {"transfer-encoding", 17}, {"proxy-authenticate", 18},
                                 {"proxy-authorization", 19}};
static const Text CONTENT_LENGTH_NAME = {"content-length", 14};
static const Text LOCATION_NAME = {"location", 8}; /* which the status has to come after */

/* What may be in a name (RFC 9110 §5.6.2). */
static int is_token_byte(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+.^_`|~-", c) != NULL);
}

/* The text of an exact `str` of ASCII; the others are for Python. */
static int ascii_text(PyObject *object, Text *text)
{
    if (!PyUnicode_CheckExact(object))
        return 0;
    text->text = PyUnicode_AsUTF8AndSize(object, &text->size);
    if (text->text == NULL) {
        PyErr_Clear(); /* a lone surrogate */
        return 0;
    }
    return PyUnicode_GetLength(object) == text->size;
}

static int is_named(Text name, Text other)
{
    return name.size == other.size && strncasecmp(name.text, other.text, (size_t)name.size) == 0;
}

static int has_control(Text value)
{
    for (Py_ssize_t i = 0; i < value.size; i++)
        if ((unsigned char)value.text[i] < 32 || value.text[i] == 127)
            return 1;
    return 0;
}

static int is_header_name(Text name)
{
    for (Py_ssize_t i = 0; i < name.size; i++)
        if (!is_token_byte((unsigned char)name.text[i]))
            return 0;
    for (size_t i = 0; i < sizeof FORBIDDEN / sizeof FORBIDDEN[0]; i++)
        if (is_named(name, FORBIDDEN[i]))
            return 0;
    return name.size > 0;
}

static int parse_number(Text text, long long *number)
{
    if (text.size == 0 || text.size > LONGEST_NUMBER)
        return 0;
    *number = 0;
    for (Py_ssize_t i = 0; i < text.size; i++) {
        if (text.text[i] < '0' || text.text[i] > '9')
            return 0;
        *number = *number * 10 + (text.text[i] - '0');
    }
    return 1;
}

static int put_line(Head *head, Text name, Text value)
{
    if (head->end - head->at < name.size + value.size + 4)
        return 0;
    char *at = (char *)memcpy(head->at, name.text, (size_t)name.size) + name.size;
    at = (char *)memcpy(at, ": ", 2) + 2;
    at = (char *)memcpy(at, value.text, (size_t)value.size) + value.size;
    head->at = (char *)memcpy(at, "\r\n", 2) + 2;
    return 1;
}

static int put_status(Head *head, PyObject *status)
{
    Text text;
    if (!ascii_text(status, &text) || text.size < 3 || has_control(text))
        return 0;
    const char *digits = text.text;
    if (digits[0] < '2' || digits[0] > '9' || digits[1] < '0' || digits[1] > '9' || digits[2] < '0' || digits[2] > '9')
        return 0;
    if (text.size > 3 && digits[3] != ' ')
        return 0;
    head->status = (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + digits[2] - '0';
    return put_line(head, (Text){"Status", 6}, text);
}

static int put_header_line(Head *head, PyObject *pair)
{
    Text name, value;
    if (!PyTuple_CheckExact(pair) || PyTuple_Size(pair) != 2)
        return 0;
    if (!ascii_text(PyTuple_GetItem(pair, 0), &name) || !ascii_text(PyTuple_GetItem(pair, 1), &value))
        return 0;
    if (!is_header_name(name) || has_control(value) || is_named(name, LOCATION_NAME))
        return 0;
    if (is_named(name, CONTENT_LENGTH_NAME) && (head->length >= 0 || !parse_number(value, &head->length)))
        return 0;
    return put_line(head, name, value);
}

/* Encode a head from `head->at` on. Returns 1, or 0 for Python to look; raises nothing. */
static int encode_head(Head *head, PyObject *status, PyObject *headers)
{
    head->length = -1;
    if (!PyList_CheckExact(headers) || !put_status(head, status))
        return 0;
    for (Py_ssize_t i = 0; i < PyList_Size(headers); i++)
        if (!put_header_line(head, PyList_GetItem(headers, i)))
            return 0;
    return 1;
}

#endif
