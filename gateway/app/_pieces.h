/* What a line of the access log is put together from, as `accessformat` renders it. Included by `_line.h`. */

#ifndef GATEWAY_PIECES_H
#define GATEWAY_PIECES_H

#include <Python.h>

#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <unistd.h>

#include "_head.h"

#define LITERAL '\0'

/* As `accessformat.Item`: literal text, or an atom's letter with what belongs to it. */
typedef struct {
    char letter;
    PyObject *object;  /* bytes of a text or of a header's name; a parameter's name, or with what is before it in JSON;
                        * what makes text of a second */
    long long number;  /* a factor, a unit, or a share of the CPU time */
    int digits;        /* of a duration, behind the point */
    long long second;  /* that `text` is of */
    PyObject *text;
} Item;

/* One request that is over, as `accessformat.Entry`. */
typedef struct {
    PyObject *environ;
    int status, complete;
    const char *head, *head_end; /* ASCII, in lines that end with CR LF */
    Py_ssize_t size;
    double began, seconds, user, system;
} Entry;

/* Where the next piece goes, and where there is no more room. */
typedef struct {
    char *at;
    const char *end;
} Room;

/* -- what is in lines of any kind -------------------------------------------------------------------------------------- */

/* Each gives 1 where it is done, 0 where Python is to render the line, -1 with an exception. */

static int put_plain(Room *room, const char *text, Py_ssize_t size)
{
    if (room->end - room->at < size)
        return 0;
    room->at = (char *)memcpy(room->at, text, (size_t)size) + size;
    return 1;
}

static int is_safe(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* ASCII, but for what is escaped. */
static int put_escaped(Room *room, const char *text, Py_ssize_t size, int (*escape)(Room *room, unsigned char c))
{
    for (Py_ssize_t i = 0; i < size; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (room->at == room->end)
            return 0;
        if (is_safe(c))
            *room->at++ = (char)c;
        else if (!escape(room, c))
            return 0;
    }
    return 1;
}

static int put_hexadecimal(Room *room, const char *prefix, unsigned char c)
{
    static const char DIGITS[] = "0123456789abcdef";
    return put_plain(room, prefix, (Py_ssize_t)strlen(prefix)) && put_plain(room, DIGITS + (c >> 4), 1) &&
           put_plain(room, DIGITS + (c & 15), 1);
}

static int escape_as_nginx(Room *room, unsigned char c)
{
    return put_hexadecimal(room, "\\x", c);
}

static int escape_as_json(Room *room, unsigned char c)
{
    static const char SHORT[] = "\"\"\\\\\nn\rr\tt\ff\bb"; /* each with what stands for it behind the backslash */
    for (const char *each = SHORT; *each != '\0'; each += 2)
        if ((unsigned char)*each == c)
            return put_plain(room, "\\", 1) && put_plain(room, each + 1, 1);
    return put_hexadecimal(room, "\\u00", c);
}

/* As `accessformat._safe`, of ASCII. */
static int put_safe(Room *room, const char *text, Py_ssize_t size)
{
    return size == 0 ? put_plain(room, "-", 1) : put_escaped(room, text, size, escape_as_nginx);
}

static int put_number(Room *room, long long number)
{
    char digits[24], *at = digits + sizeof digits;
    do
        *--at = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return put_plain(room, at, digits + sizeof digits - at);
}

/* Not by printf, which has the application's locale. */
static int put_double(Room *room, double value, char format, int digits)
{
    char *text = PyOS_double_to_string(value, format, digits, format == 'r' ? Py_DTSF_ADD_DOT_0 : 0, NULL);
    if (text == NULL)
        return -1;
    const int done = put_plain(room, text, (Py_ssize_t)strlen(text));
    PyMem_Free(text);
    return done;
}

/* The text of a parameter: 1 with none where there is no such parameter. */
static int find_parameter(const Entry *entry, PyObject *name, Text *text)
{
    PyObject *value = PyDict_GetItemWithError(entry->environ, name);
    *text = (Text){"", 0};
    if (value == NULL)
        return PyErr_Occurred() ? -1 : 1;
    return ascii_text(value, text);
}

static int put_parameter(Room *room, const Entry *entry, PyObject *name, const char *missing)
{
    Text text;
    const int done = find_parameter(entry, name, &text);
    if (done != 1)
        return done;
    return text.size > 0 ? put_safe(room, text.text, text.size) : put_plain(room, missing, (Py_ssize_t)strlen(missing));
}

static int put_path(Room *room, const Entry *entry, PyObject *name)
{
    Text text;
    const int done = find_parameter(entry, name, &text);
    const char *query = done == 1 ? memchr(text.text, '?', (size_t)text.size) : NULL;
    return done == 1 ? put_safe(room, text.text, query == NULL ? text.size : query - text.text) : done;
}

static int put_question_mark(Room *room, const Entry *entry, PyObject *name)
{
    Text text;
    const int done = find_parameter(entry, name, &text);
    return done == 1 && text.size > 0 ? put_plain(room, "?", 1) : done;
}

/* The value of the first header of the answer that is named so. */
static int put_header_value(Room *room, const Entry *entry, PyObject *name)
{
    const char *text = PyBytes_AsString(name), *line = entry->head, *end;
    const Py_ssize_t size = PyBytes_Size(name);
    for (; line < entry->head_end; line = end + 2) {
        end = memchr(line, '\r', (size_t)(entry->head_end - line));
        if (end == NULL)
            return 0;
        if (end - line <= size || line[size] != ':' || strncasecmp(line, text, (size_t)size) != 0)
            continue;
        const char *value = line + size + 1;
        while (*value == ' ' || *value == '\t')
            value++;
        return put_safe(room, value, end - value);
    }
    return put_plain(room, "-", 1);
}

static int put_time(Room *room, Item *item, double moment)
{
    Text text;
    const long long second = (long long)moment;
    if (item->text == NULL || item->second != second) {
        PyObject *made = PyObject_CallFunction(item->object, "L", second);
        if (made == NULL)
            return -1;
        Py_XDECREF(item->text);
        item->text = made;
        item->second = second;
    }
    return ascii_text(item->text, &text) ? put_plain(room, text.text, text.size) : 0;
}

static int put_duration(Room *room, const Item *item, double seconds)
{
    const double value = seconds * (double)item->number;
    return item->digits > 0 ? put_double(room, value, 'f', item->digits) : put_number(room, (long long)value);
}

static int put_cpu(Room *room, const Item *item, const Entry *entry)
{
    const double shares[] = {entry->user + entry->system, entry->user, entry->system};
    return put_double(room, entry->seconds != 0 ? 100 * shares[item->number] / entry->seconds : 0, 'f', 2);
}

static int put_peak_memory(Room *room, const Item *item)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return put_number(room, (long long)used.ru_maxrss * 1024 / item->number);
}

/* -- what is in JSON alone --------------------------------------------------------------------------------------------- */

/* A member whose value is a parameter, if there is one. */
static int put_member(Room *room, const Entry *entry, PyObject *member)
{
    Text text;
    PyObject *before = PyTuple_GetItem(member, 0);
    const int done = find_parameter(entry, PyTuple_GetItem(member, 1), &text);
    if (done != 1 || text.size == 0)
        return done;
    return put_plain(room, PyBytes_AsString(before), PyBytes_Size(before)) &&
           put_escaped(room, text.text, text.size, escape_as_json) && put_plain(room, "\"", 1);
}

static int put_milliseconds(Room *room, double moment)
{
    const int number = (int)((long long)(moment * 1000) % 1000);
    const char text[] = {'.', (char)('0' + number / 100), (char)('0' + number / 10 % 10), (char)('0' + number % 10)};
    return put_plain(room, text, sizeof text);
}

/* As `json` writes what round() has left with six digits behind the point. */
static int put_rounded(Room *room, double seconds)
{
    char *text = PyOS_double_to_string(seconds, 'f', 6, 0, NULL);
    if (text == NULL)
        return -1;
    const double rounded = PyOS_string_to_double(text, NULL, NULL);
    PyMem_Free(text);
    return put_double(room, rounded, 'r', 0);
}

static int put_truth(Room *room, int truth)
{
    return truth ? put_plain(room, "true", 4) : put_plain(room, "false", 5);
}

#endif
