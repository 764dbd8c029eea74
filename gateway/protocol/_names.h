/* The names of parameters that front-ends send and browsers cause: made once, with their hash, and interned; and of each
 * the last short value, for most are the same in one request after another.
 *
 * The table never has other names than those it was filled with, so clients can neither make it slow nor make it grow.
 */

#ifndef GATEWAY_NAMES_H
#define GATEWAY_NAMES_H

#include <Python.h>

#include <stdint.h>
#include <string.h>

static const char *const KNOWN[] = {
    "AUTH_TYPE", "CONTENT_LENGTH", "CONTENT_TYPE", "DOCUMENT_ROOT", "DOCUMENT_URI", "FCGI_ROLE", "GATEWAY_INTERFACE",
    "HTTPS", "PATH_INFO", "PATH_TRANSLATED", "QUERY_STRING", "REDIRECT_STATUS", "REDIRECT_URI", "REMOTE_ADDR",
    "REMOTE_HOST", "REMOTE_PORT", "REMOTE_USER", "REQUEST_ID", "REQUEST_METHOD", "REQUEST_SCHEME", "REQUEST_TIME",
    "REQUEST_TIME_FLOAT", "REQUEST_URI", "SCGI", "SCRIPT_FILENAME", "SCRIPT_NAME", "SERVER_ADDR", "SERVER_ADMIN", "SERVER_NAME",
    "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SIGNATURE", "SERVER_SOFTWARE", "SSL_CIPHER", "SSL_CLIENT_S_DN",
    "SSL_CLIENT_VERIFY", "SSL_PROTOCOL", "UNIQUE_ID",
    "HTTP_ACCEPT", "HTTP_ACCEPT_CHARSET", "HTTP_ACCEPT_ENCODING", "HTTP_ACCEPT_LANGUAGE",
    "HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "HTTP_ACCESS_CONTROL_REQUEST_METHOD", "HTTP_AUTHORIZATION",
    "HTTP_CACHE_CONTROL", "HTTP_CONNECTION", "HTTP_CONTENT_ENCODING", "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE",
    "HTTP_COOKIE", "HTTP_DATE", "HTTP_DNT", "HTTP_EXPECT", "HTTP_FORWARDED", "HTTP_FROM", "HTTP_HOST", "HTTP_IF_MATCH",
    "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_MATCH", "HTTP_IF_RANGE", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_KEEP_ALIVE",
    "HTTP_ORIGIN", "HTTP_PRAGMA", "HTTP_PRIORITY", "HTTP_PROXY", "HTTP_RANGE", "HTTP_REFERER", "HTTP_SEC_CH_UA",
    "HTTP_SEC_CH_UA_MOBILE", "HTTP_SEC_CH_UA_PLATFORM", "HTTP_SEC_FETCH_DEST", "HTTP_SEC_FETCH_MODE",
    "HTTP_SEC_FETCH_SITE", "HTTP_SEC_FETCH_USER", "HTTP_SEC_GPC", "HTTP_TE", "HTTP_TRACEPARENT", "HTTP_TRACESTATE",
    "HTTP_TRANSFER_ENCODING", "HTTP_UPGRADE", "HTTP_UPGRADE_INSECURE_REQUESTS", "HTTP_USER_AGENT", "HTTP_VIA",
    "HTTP_X_CSRFTOKEN", "HTTP_X_CSRF_TOKEN", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PREFIX", "HTTP_X_FORWARDED_PROTO", "HTTP_X_REAL_IP", "HTTP_X_REQUESTED_WITH",
    "HTTP_X_REQUEST_ID",
};
#define KNOWN_COUNT (sizeof KNOWN / sizeof KNOWN[0])
#define SLOTS 512 /* a power of 2, several times KNOWN_COUNT: there is always an empty slot to end a search at */

#define LONGEST_LAST 64 /* bytes of a value that is remembered */

/* Names whose values somebody asks for: where they are put while they are decoded. */
enum {
    NO_ROLE, REQUEST_METHOD, SERVER_NAME, SERVER_PORT, SERVER_PROTOCOL, REQUEST_URI, QUERY_STRING, HTTP_HOST,
    CONTENT_LENGTH, CONTENT_TYPE, HTTPS, REQUEST_SCHEME, SCRIPT_NAME, PATH_INFO, REQUEST_TIME_FLOAT, DROPPED, ROLES
};

typedef struct {
    const char *text;
    Py_ssize_t size;
    PyObject *name;
    int role;
    PyObject *last; /* its last value, or NULL, which is */
    Py_ssize_t last_size;
    char last_text[LONGEST_LAST];
} Slot;

typedef struct {
    Slot slots[SLOTS];
} Names;

/* By both ends of a name and its size. */
static unsigned slot_of(const char *text, Py_ssize_t size)
{
    uint64_t first = 0, last = 0;
    size_t part = size < 8 ? (size_t)size : 8;
    memcpy(&first, text, part);
    memcpy(&last, text + size - part, part);
    uint64_t mixed = first * UINT64_C(0x9E3779B97F4A7C15) ^ last * UINT64_C(0xC2B2AE3D27D4EB4F) ^ (uint64_t)size;
    return (unsigned)((mixed >> 48) ^ mixed) % SLOTS;
}

/* NULL for a name that is not in the table. */
static Slot *find_name(Names *names, const char *text, Py_ssize_t size)
{
    Slot *slot;
    for (unsigned at = slot_of(text, size); (slot = &names->slots[at])->name != NULL; at = (at + 1) % SLOTS)
        if (slot->size == size && memcmp(slot->text, text, (size_t)size) == 0)
            return slot;
    return NULL;
}

/* The value of a name, as a new reference; NULL with an exception. */
static PyObject *decode_value(Slot *slot, const char *text, Py_ssize_t size)
{
    if (slot == NULL || size > LONGEST_LAST)
        return PyUnicode_DecodeLatin1(text, size, NULL);
    if (slot->last == NULL || slot->last_size != size || memcmp(slot->last_text, text, (size_t)size) != 0) {
        PyObject *value = PyUnicode_DecodeLatin1(text, size, NULL);
        if (value == NULL)
            return NULL;
        Py_XDECREF(slot->last);
        slot->last = value;
        slot->last_size = size;
        memcpy(slot->last_text, text, (size_t)size);
    }
    return Py_NewRef(slot->last);
}

static int role_of(const char *text)
{
    static const struct {
        const char *text;
        int role;
    } roles[] = {{"REQUEST_METHOD", REQUEST_METHOD}, {"SERVER_NAME", SERVER_NAME}, {"SERVER_PORT", SERVER_PORT},
                 {"SERVER_PROTOCOL", SERVER_PROTOCOL}, {"REQUEST_URI", REQUEST_URI}, {"QUERY_STRING", QUERY_STRING},
                 {"HTTP_HOST", HTTP_HOST}, {"CONTENT_LENGTH", CONTENT_LENGTH}, {"CONTENT_TYPE", CONTENT_TYPE},
                 {"HTTPS", HTTPS}, {"REQUEST_SCHEME", REQUEST_SCHEME}, {"SCRIPT_NAME", SCRIPT_NAME},
                 {"PATH_INFO", PATH_INFO}, {"REQUEST_TIME_FLOAT", REQUEST_TIME_FLOAT}, {"HTTP_PROXY", DROPPED},
                 {"HTTP_CONTENT_LENGTH", DROPPED}, {"HTTP_CONTENT_TYPE", DROPPED},
                 {"HTTP_TRANSFER_ENCODING", DROPPED}};
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(roles[i].text, text) == 0)
            return roles[i].role;
    return NO_ROLE;
}

static int fill_names(Names *names)
{
    for (size_t i = 0; i < KNOWN_COUNT; i++) {
        Py_ssize_t size = (Py_ssize_t)strlen(KNOWN[i]);
        unsigned at = slot_of(KNOWN[i], size);
        while (names->slots[at].name != NULL)
            at = (at + 1) % SLOTS;
        PyObject *name = PyUnicode_InternFromString(KNOWN[i]);
        if (name == NULL)
            return -1;
        names->slots[at] = (Slot){.text = KNOWN[i], .size = size, .name = name, .role = role_of(KNOWN[i])};
    }
    return 0;
}

static void clear_names(Names *names)
{
    for (unsigned at = 0; at < SLOTS; at++) {
        Py_CLEAR(names->slots[at].name);
        Py_CLEAR(names->slots[at].last);
    }
}

#endif
