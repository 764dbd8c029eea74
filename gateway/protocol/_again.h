/* A request whose parameters have the same names as those of the one before, in the same order: front-ends send what their
 * configuration says, and a client sends the same headers again. Then only values that differ are decoded, over a copy of
 * what the one before was decoded to.
 */

#ifndef GATEWAY_AGAIN_H
#define GATEWAY_AGAIN_H

#include <Python.h>

#include <stdlib.h>
#include <string.h>

#include "_decode.h"

#define LONGEST_BLOCK 16384 /* bytes of parameters that are remembered */

/* The request before: its parameters over the base, as they were sent, and these bytes. */
typedef struct {
    PyObject *base, *params; /* NULL where there is none */
    PyObject *roles[ROLES];
    byte *block;
    Py_ssize_t size;
} Last;

static void forget(Last *last)
{
    Py_CLEAR(last->base);
    Py_CLEAR(last->params);
    last->size = 0;
}

static void free_last(Last *last)
{
    forget(last);
    free(last->block);
    last->block = NULL;
}

/* Remember what was decoded, unless it is long; -1 with an exception. */
static int remember(Last *last, Piece block, PyObject *base, const Params *decoded)
{
    forget(last);
    if (block.size > LONGEST_BLOCK || !decoded->plain)
        return 0;
    if (last->block == NULL && (last->block = malloc(LONGEST_BLOCK)) == NULL)
        return 0;
    if ((last->params = PyDict_Copy(decoded->params)) == NULL)
        return -1;
    last->base = Py_NewRef(base);
    memcpy(last->block, block.text, (size_t)block.size);
    memcpy(last->roles, decoded->roles, sizeof last->roles);
    last->size = block.size;
    return 0;
}

/* One pair of either block, of which the remembered one is known to be right. */
static inline int take_pair(const byte **at, const byte *end, Piece *name, Piece *value)
{
    if (!decode_length(at, end, &name->size) || !decode_length(at, end, &value->size))
        return 0;
    if (name->size > end - *at || value->size > end - *at - name->size)
        return 0;
    name->text = *at;
    value->text = *at + name->size;
    *at += name->size + value->size;
    return 1;
}

static int is_equal(Piece one, Piece other)
{
    return one.size == other.size && memcmp(one.text, other.text, (size_t)one.size) == 0;
}

static int set_value(Names *names, Last *last, Piece name, Piece value)
{
    Params to = {.params = last->params};
    if (decode_pair(names, name, value, &to) < 0)
        return -1;
    for (int role = 0; role < ROLES; role++)
        if (to.roles[role] != NULL)
            last->roles[role] = to.roles[role];
    return is_plain(value.text, value.size);
}

/* Bring what is remembered to `block`: 1 where it is now that, 0 where it is nothing of use, -1 with an exception. */
static int follow(Names *names, Last *last, Piece block)
{
    const byte *at = block.text, *const end = at + block.size, *old = last->block, *const old_end = old + last->size;
    Piece name, value, old_name, old_value;
    while (at < end && old < old_end) {
        const byte *const start = at;
        if (!take_pair(&at, end, &name, &value))
            return 0;
        if (at - start <= old_end - old && memcmp(start, old, (size_t)(at - start)) == 0) {
            old += at - start;
            continue;
        }
        if (!take_pair(&old, old_end, &old_name, &old_value) || !is_equal(name, old_name))
            return 0;
        const int done = set_value(names, last, name, value);
        if (done != 1)
            return done;
    }
    return at == end && old == old_end;
}

static int decode_again(Names *names, Last *last, Piece block, PyObject *base, Params *to)
{
    *to = (Params){.plain = 1};
    if (last->base != base || block.size > LONGEST_BLOCK)
        return 0;
    const int done = follow(names, last, block);
    if (done != 1) {
        forget(last);
        return done;
    }
    memcpy(last->block, block.text, (size_t)block.size);
    last->size = block.size;
    memcpy(to->roles, last->roles, sizeof to->roles);
    to->params = PyDict_Copy(last->params);
    return to->params == NULL ? -1 : 1;
}

/* As `decode_block` without repeats. */
static int decode_after(Names *names, Last *last, Piece block, PyObject *base, const Limits *limits, Params *to)
{
    int done = block.size > limits->params_size ? 0 : decode_again(names, last, block, base, to);
    if (done != 0)
        return done;
    done = decode_block(names, decode_pairs, block, base, limits, 0, to);
    if (done == 1 && remember(last, block, base, to) < 0) {
        clear_params(to);
        return -1;
    }
    return done;
}

#endif
