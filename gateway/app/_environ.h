/* What `environ.py` makes of a request's parameters, where nothing about them is unusual; every other request is left to
 * Python, as it came. Included by `_quick.c`.
 */

#ifndef GATEWAY_ENVIRON_H
#define GATEWAY_ENVIRON_H

#include <Python.h>

#include "../protocol/_decode.h"
#include "_head.h"

/* What is set in an environ, interned. */
typedef struct {
    PyObject *server_name, *content_length, *content_type, *script_name, *url_scheme, *input, *application;
    PyObject *empty, *https;
} EnvironNames;

static int fill_environ_names(EnvironNames *names)
{
    const struct {
        PyObject **place;
        const char *text;
    } all[] = {{&names->server_name, "SERVER_NAME"},   {&names->content_length, "CONTENT_LENGTH"},
               {&names->content_type, "CONTENT_TYPE"}, {&names->script_name, "SCRIPT_NAME"},
               {&names->url_scheme, "wsgi.url_scheme"}, {&names->input, "wsgi.input"},
               {&names->application, "gateway.application"}, {&names->empty, ""},
               {&names->https, "https"}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if ((*all[i].place = PyUnicode_InternFromString(all[i].text)) == NULL)
            return -1;
    return 0;
}

static void clear_environ_names(EnvironNames *names)
{
    PyObject **const all = &names->server_name;
    for (size_t i = 0; i < sizeof *names / sizeof *all; i++)
        Py_CLEAR(all[i]);
}

static int is_text(PyObject *value, const char *text)
{
    return value != NULL && PyUnicode_CompareWithASCIIString(value, text) == 0;
}

static int is_filled(PyObject *value)
{
    return value != NULL && PyUnicode_GetLength(value) > 0;
}

/* Whether all is there that `environ._complete` would have to supply, but for SERVER_NAME, and nothing that
 * `environ.normalise` drops. */
static int is_usual(PyObject *const *roles)
{
    static const int needed[] = {REQUEST_METHOD, SERVER_PORT, SERVER_PROTOCOL, REQUEST_URI, HTTP_HOST};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if (!is_filled(roles[needed[i]]))
            return 0;
    return roles[QUERY_STRING] != NULL && roles[DROPPED] == NULL && !is_text(roles[SERVER_PORT], "0");
}

/* The base says http. 1, or 0 where HTTPS has a value that only Python interprets, -1 with an exception. */
static int set_scheme(const EnvironNames *names, const Params *params)
{
    PyObject *https = params->roles[HTTPS];
    int secure = is_text(params->roles[REQUEST_SCHEME], "https");
    if (is_filled(https)) {
        if (is_text(https, "on"))
            secure = 1;
        else if (!is_text(https, "off"))
            return 0;
    }
    return secure && PyDict_SetItem(params->params, names->url_scheme, names->https) < 0 ? -1 : 1;
}

static int drop(PyObject *environ, PyObject *name)
{
    return PyDict_DelItem(environ, name) < 0 ? -1 : 1;
}

/* Take CONTENT_LENGTH and CONTENT_TYPE away where they are empty; `size` is that of the body. 1, 0 or -1 as above. */
static int check_content(const EnvironNames *names, const Params *params, Py_ssize_t size)
{
    PyObject *type = params->roles[CONTENT_TYPE], *length = params->roles[CONTENT_LENGTH];
    long long number;
    Text text;
    if (type != NULL && !is_filled(type) && drop(params->params, names->content_type) < 0)
        return -1;
    if (length == NULL)
        return 1;
    if (!is_filled(length))
        return drop(params->params, names->content_length);
    return ascii_text(length, &text) && parse_number(text, &number) && number == size;
}

#endif
