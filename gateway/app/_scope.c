/* `routing` and `scope` in one step, for a request about which nothing is unusual and whose host is known for all paths;
 * every other one is left to Python, whose steps may then be repeated on the parameters as they are.
 *
 * Of CPython it needs the limited API of 3.11, as `protocol/_records.c`.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <string.h>

#include "../protocol/_again.h"
#include "../protocol/_decode.h"
#include "../protocol/_optional.h"

#define LONGEST_NUMBER 18 /* digits */

/* Parameters that are asked for; from PROXY on they must not be there. */
enum {
    METHOD, PROTOCOL, URI, HOST, PORT, NEEDED, QUERY = NEEDED, NAME, SCRIPT, INFO, SECURE, FRONT_SCHEME, LENGTH, TYPE,
    ADDRESS, CLIENT_PORT, PROXY, HTTP_LENGTH, HTTP_TYPE, TRANSFER_ENCODING, PARAMS
};
static const char *const PARAM_NAMES[PARAMS] = {
    "REQUEST_METHOD", "SERVER_PROTOCOL", "REQUEST_URI", "HTTP_HOST", "SERVER_PORT", "QUERY_STRING", "SERVER_NAME",
    "SCRIPT_NAME", "PATH_INFO", "HTTPS", "REQUEST_SCHEME", "CONTENT_LENGTH", "CONTENT_TYPE", "REMOTE_ADDR",
    "REMOTE_PORT", "HTTP_PROXY", "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_TRANSFER_ENCODING"};

enum {
    K_VERSION, K_METHOD, K_SCHEME, K_PATH, K_RAW_PATH, K_QUERY, K_HEADERS, K_CLIENT, K_SERVER, K_EXTENSIONS,
    K_ROOT_PATH, KEYS
};
static const char *const KEY_NAMES[KEYS] = {"http_version", "method",  "scheme", "path",   "raw_path",
                                            "query_string", "headers", "client", "server", "extensions",
                                            "root_path"};

enum { URL_SCHEME, TERMINATED, APPLICATION, S_HTTP, S_HTTPS, EMPTY, GATEWAY, S_PARAMS, V_10, V_11, V_2, V_3, TEXTS };
static const char *const TEXT_NAMES[TEXTS] = {"wsgi.url_scheme", "wsgi.input_terminated", "gateway.application", "http",
                                              "https", "", "gateway", "params", "1.0", "1.1", "2", "3"};

typedef struct {
    PyObject *params[PARAMS], *keys[KEYS], *texts[TEXTS];
    Names names;
    Last last;
} State;

static int is_text(PyObject *value, const char *text)
{
    return value != NULL && PyUnicode_CompareWithASCIIString(value, text) == 0;
}

static int is_filled(PyObject *value)
{
    return value != NULL && PyUnicode_GetLength(value) > 0;
}

/* The bytes of a text of ASCII, or NULL; raises nothing. */
static const char *ascii(PyObject *text, Py_ssize_t *size)
{
    const char *chars = PyUnicode_AsUTF8AndSize(text, size);
    if (chars == NULL)
        PyErr_Clear();
    return chars != NULL && *size == PyUnicode_GetLength(text) ? chars : NULL;
}

/* -1 for what is no number of digits alone. */
static long long number_of(PyObject *text)
{
    Py_ssize_t size;
    long long number = 0;
    const char *chars = text == NULL ? NULL : ascii(text, &size);
    if (chars == NULL || size == 0 || size > LONGEST_NUMBER)
        return -1;
    for (Py_ssize_t i = 0; i < size; i++) {
        if (chars[i] < '0' || chars[i] > '9')
            return -1;
        number = number * 10 + (chars[i] - '0');
    }
    return number;
}

/* The one of SCRIPT_NAME and PATH_INFO that is filled, which is the whole path (`environ.request_path`), or NULL. */
static PyObject *whole_path(PyObject *const *found)
{
    if (is_filled(found[SCRIPT]) == is_filled(found[INFO]))
        return NULL;
    return is_filled(found[INFO]) ? found[INFO] : found[SCRIPT];
}

/* Look the parameters up (borrowed); say whether they are what `environ.normalise` and `_complete` leave as it is. */
static int find_params(const State *state, PyObject *params, PyObject **found)
{
    for (int i = 0; i < PARAMS; i++)
        found[i] = PyDict_GetItemWithError(params, state->params[i]);
    for (int i = 0; i < NEEDED; i++)
        if (!is_filled(found[i]))
            return 0;
    for (int i = PROXY; i < PARAMS; i++)
        if (found[i] != NULL)
            return 0;
    PyObject *path = whole_path(found);
    if (path == NULL || PyUnicode_ReadChar(path, 0) != '/')
        return 0;
    if (PyUnicode_FindChar(path, '%', 0, PyUnicode_GetLength(path), 1) >= 0)
        return 0; /* `environ.check_escapes` is to look */
    return found[QUERY] != NULL && !is_text(found[PORT], "0") && PyUnicode_ReadChar(found[URI], 0) == '/';
}

/* The scheme, borrowed; NULL where only Python interprets it. */
static PyObject *scheme_of(const State *state, PyObject *const *found)
{
    int secure = is_text(found[FRONT_SCHEME], "https");
    if (is_filled(found[SECURE])) {
        if (is_text(found[SECURE], "on"))
            secure = 1;
        else if (!is_text(found[SECURE], "off"))
            return NULL;
    }
    return state->texts[secure ? S_HTTPS : S_HTTP];
}

static PyObject *version_of(const State *state, PyObject *protocol)
{
    static const char *const known[] = {"HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "HTTP/3.0"};
    for (int i = 0; i < 4; i++)
        if (is_text(protocol, known[i]))
            return state->texts[V_10 + i];
    return NULL;
}

/* Say whether a method is in capitals alone. */
static int is_capital(PyObject *method)
{
    Py_ssize_t size;
    const char *chars = ascii(method, &size);
    for (Py_ssize_t i = 0; chars != NULL && i < size; i++)
        if (chars[i] < 'A' || chars[i] > 'Z')
            return 0;
    return chars != NULL;
}

static int set(PyObject *dict, PyObject *key, PyObject *value) /* takes the reference */
{
    const int done = value == NULL ? -1 : PyDict_SetItem(dict, key, value);
    Py_XDECREF(value);
    return done;
}

static PyObject *pair(PyObject *host, long long port)
{
    return port < 0 || host == NULL ? Py_NewRef(Py_None) : Py_BuildValue("(OL)", host, port);
}

static PyObject *path_of(PyObject *info)
{
    Py_ssize_t size;
    if (ascii(info, &size) != NULL)
        return Py_NewRef(info);
    PyObject *bytes = PyUnicode_AsLatin1String(info);
    PyObject *path = bytes == NULL ? NULL : PyUnicode_DecodeUTF8(PyBytes_AsString(bytes), PyBytes_Size(bytes), "replace");
    Py_XDECREF(bytes);
    return path;
}

static PyObject *raw_path_of(PyObject *uri)
{
    PyObject *bytes = PyUnicode_AsLatin1String(uri);
    const char *chars = bytes == NULL ? NULL : PyBytes_AsString(bytes);
    const char *mark = chars == NULL ? NULL : memchr(chars, '?', (size_t)PyBytes_Size(bytes));
    if (mark == NULL)
        return bytes;
    PyObject *path = PyBytes_FromStringAndSize(chars, mark - chars);
    Py_DECREF(bytes);
    return path;
}

static int add_header(PyObject *headers, PyObject *name, PyObject *value)
{
    PyObject *bytes = PyUnicode_AsLatin1String(value);
    PyObject *header = bytes == NULL ? NULL : PyTuple_Pack(2, name, bytes);
    const int done = header == NULL ? -1 : PyList_Append(headers, header);
    Py_XDECREF(header);
    Py_XDECREF(bytes);
    return done;
}

/* `known` has the header of each parameter; what is not in it `header_of` is asked for. */
static PyObject *headers_of(PyObject *params, PyObject *known, PyObject *header_of)
{
    PyObject *name, *value, *headers = PyList_New(0);
    Py_ssize_t at = 0;
    while (headers != NULL && PyDict_Next(params, &at, &name, &value)) {
        PyObject *header = Py_XNewRef(PyDict_GetItemWithError(known, name));
        if (header == NULL && !PyErr_Occurred())
            header = PyObject_CallFunctionObjArgs(header_of, name, NULL);
        if (header == NULL || (PyBytes_Size(header) > 0 && add_header(headers, header, value) < 0))
            Py_CLEAR(headers);
        Py_XDECREF(header);
    }
    return headers;
}

/* The whole path in PATH_INFO, as `mount` has it without a prefix. */
static int set_path(const State *state, PyObject *params, PyObject **found)
{
    if (is_filled(found[SCRIPT])) {
        found[INFO] = found[SCRIPT];
        if (PyDict_SetItem(params, state->params[INFO], found[INFO]) < 0)
            return -1;
    }
    if (is_text(found[SCRIPT], ""))
        return 0;
    return PyDict_SetItem(params, state->params[SCRIPT], state->texts[EMPTY]);
}

/* What `normalise` and the router change otherwise. */
static int complete(const State *state, PyObject *params, PyObject **found, PyObject *scheme, PyObject *site)
{
    if (PyDict_SetItem(params, state->texts[URL_SCHEME], scheme) < 0 ||
        PyDict_SetItem(params, state->texts[TERMINATED], Py_True) < 0 ||
        PyDict_SetItem(params, state->texts[APPLICATION], PyTuple_GetItem(site, 1)) < 0)
        return -1;
    if (found[TYPE] != NULL && !is_filled(found[TYPE]) && PyDict_DelItem(params, state->params[TYPE]) < 0)
        return -1;
    if (found[LENGTH] != NULL && !is_filled(found[LENGTH]) && PyDict_DelItem(params, state->params[LENGTH]) < 0)
        return -1;
    if (is_filled(found[NAME]))
        return 0;
    found[NAME] = PyTuple_GetItem(site, 4);
    return PyDict_SetItem(params, state->params[NAME], found[NAME]);
}

/* Of an application that is bound to a path; the base has an empty one. */
static int set_root_path(const State *state, PyObject *scope, PyObject *params)
{
    PyObject *script = PyDict_GetItemWithError(params, state->params[SCRIPT]);
    if (!is_filled(script))
        return PyErr_Occurred() ? -1 : 0;
    return set(scope, state->keys[K_ROOT_PATH], path_of(script));
}

static PyObject *extensions_of(const State *state, PyObject *params)
{
    PyObject *own = PyDict_New(), *extensions = PyDict_New();
    if (own == NULL || extensions == NULL || PyDict_SetItem(own, state->texts[S_PARAMS], params) < 0 ||
        PyDict_SetItem(extensions, state->texts[GATEWAY], own) < 0)
        Py_CLEAR(extensions);
    Py_XDECREF(own);
    return extensions;
}

static PyObject *scope_of(const State *state, PyObject *base, PyObject *params, PyObject *const *found, PyObject *scheme,
                          PyObject *headers)
{
    PyObject *const *keys = state->keys, *scope = PyDict_Copy(base);
    if (scope == NULL || PyDict_SetItem(scope, keys[K_VERSION], version_of(state, found[PROTOCOL])) < 0 ||
        PyDict_SetItem(scope, keys[K_METHOD], found[METHOD]) < 0 || PyDict_SetItem(scope, keys[K_SCHEME], scheme) < 0 ||
        PyDict_SetItem(scope, keys[K_HEADERS], headers) < 0 || set(scope, keys[K_PATH], path_of(found[INFO])) < 0 ||
        set(scope, keys[K_RAW_PATH], raw_path_of(found[URI])) < 0 ||
        set(scope, keys[K_QUERY], PyUnicode_AsLatin1String(found[QUERY])) < 0 ||
        set(scope, keys[K_CLIENT], pair(found[ADDRESS], number_of(found[CLIENT_PORT]))) < 0 ||
        set(scope, keys[K_SERVER], pair(found[NAME], number_of(found[PORT]))) < 0 ||
        set(scope, keys[K_EXTENSIONS], extensions_of(state, params)) < 0 || set_root_path(state, scope, params) < 0)
        Py_CLEAR(scope);
    return scope;
}

/* What is bound to the host: a `routing.Known`, or a `routing.ByPath`; borrowed, and NULL where nothing is known. */
static PyObject *site_of(PyObject *hosts, PyObject *const *found)
{
    PyObject *ports = PyDict_GetItemWithError(hosts, found[HOST]);
    return ports == NULL ? NULL : PyDict_GetItemWithError(ports, found[PORT]);
}

/* What is bound to the path, which is set by then; None where nothing that runs is. */
static PyObject *site_by_path(PyObject *site, PyObject *params)
{
    return PyTuple_Check(site) ? Py_NewRef(site) : PyObject_CallFunctionObjArgs(site, params, NULL);
}

/* usual(params, hosts, max_body, base, known, header_of) -> (scope, site, size), or None for Python to look. */
static PyObject *usual(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    const State *state = PyModule_GetState(module);
    PyObject *found[PARAMS], *site, *scheme;
    if (count != 6 || !PyDict_Check(args[0]) || !PyDict_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "needed: params, hosts, max_body, base, known, header_of");
        return NULL;
    }
    const int is_usual = find_params(state, args[0], found);
    const long long size = is_usual && is_filled(found[LENGTH]) ? number_of(found[LENGTH]) : 0;
    if (PyErr_Occurred())
        return NULL;
    if (!is_usual || size < 0 || size > PyLong_AsLongLong(args[2]) || (site = site_of(args[1], found)) == NULL ||
        (scheme = scheme_of(state, found)) == NULL || version_of(state, found[PROTOCOL]) == NULL ||
        !is_capital(found[METHOD]) || (found[CLIENT_PORT] != NULL && number_of(found[CLIENT_PORT]) < 0))
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    const int has_length = is_filled(found[LENGTH]);
    if (set_path(state, args[0], found) < 0)
        return NULL;
    /* The whole path is the dictionary's no more where a prefix of it is mounted. */
    PyObject *path = Py_NewRef(found[INFO]);
    if ((site = site_by_path(site, args[0])) == NULL || site == Py_None) {
        Py_DECREF(path);
        return site;
    }
    const int done = complete(state, args[0], found, scheme, site);
    PyObject *headers = done < 0 ? NULL : headers_of(args[0], args[4], args[5]);
    PyObject *scope = headers == NULL ? NULL : scope_of(state, args[3], args[0], found, scheme, headers);
    Py_XDECREF(headers);
    Py_DECREF(path);
    if (scope == NULL) {
        Py_DECREF(site);
        return NULL;
    }
    return has_length ? Py_BuildValue("(NNL)", scope, site, size) : Py_BuildValue("(NNO)", scope, site, Py_None);
}

/* whole(own, limits, hosts, max_body, base, known, header_of, data) -> (keep_conn, params, (scope, site, size)), or None
 * where data is not one whole FastCGI request of ID 1 without a body, or not a usual one. */
static PyObject *whole(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    State *state = PyModule_GetState(module);
    Shape shape;
    Limits limits;
    Params params;
    if (count != 8 || !PyBytes_Check(args[7]) || !PyArg_ParseTuple(args[1], "nnn", &limits.params_size,
                                                                     &limits.params_count, &limits.name_size)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "needed: own, limits, hosts, max_body, base, known, header_of, data");
        return NULL;
    }
    const byte *data = (const byte *)PyBytes_AsString(args[7]);
    const Py_ssize_t size = PyBytes_Size(args[7]);
    if (!find_shape(data, size, &shape) || !shape.complete || shape.end != size)
        return Py_NewRef(Py_None);
    const Piece block = {data + PARAMS_AT, shape.block_size};
    const int done = decode_after(&state->names, &state->last, block, args[0], &limits, &params);
    if (done != 1 || !params.plain) {
        clear_params(&params);
        return done < 0 ? NULL : Py_NewRef(Py_None);
    }
    PyObject *rest[] = {params.params, args[2], args[3], args[4], args[5], args[6]};
    PyObject *found = usual(module, rest, 6);
    if (found == NULL || found == Py_None) {
        clear_params(&params);
        return found;
    }
    return Py_BuildValue("(NNN)", PyBool_FromLong(shape.keep_conn), params.params, found);
}

static PyMethodDef methods[] = {
    {"whole", (PyCFunction)(void (*)(void))whole, METH_FASTCALL, "A whole request, decoded, and its scope."},
    {"usual", (PyCFunction)(void (*)(void))usual, METH_FASTCALL, "The scope of a request without anything unusual."},
    {NULL, NULL, 0, NULL}};

static int fill(PyObject **places, const char *const *texts, int count)
{
    for (int i = 0; i < count; i++)
        if ((places[i] = PyUnicode_InternFromString(texts[i])) == NULL)
            return -1;
    return 0;
}

static int initialise(PyObject *module)
{
    State *state = PyModule_GetState(module);
    if (is_wanted() < 0 || fill(state->params, PARAM_NAMES, PARAMS) < 0 || fill(state->keys, KEY_NAMES, KEYS) < 0)
        return -1;
    return fill(state->texts, TEXT_NAMES, TEXTS) < 0 ? -1 : fill_names(&state->names);
}

static void release(void *module)
{
    State *state = PyModule_GetState(module);
    if (state != NULL) {
        clear_names(&state->names);
        free_last(&state->last);
    }
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, initialise}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_scope",
    .m_size = sizeof(State),
    .m_methods = methods,
    .m_slots = slots,
    .m_free = release,
};

PyMODINIT_FUNC PyInit__scope(void)
{
    return PyModuleDef_Init(&definition);
}
