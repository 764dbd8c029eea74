/* Everything in C is optional: where GATEWAY_PURE is set in the environment, Python is to be used in its place. Asked here,
 * for the modules that use it are not to know of an environment.
 */

#ifndef GATEWAY_OPTIONAL_H
#define GATEWAY_OPTIONAL_H

#include <Python.h>

#include <stdlib.h>
#include <string.h>

/* -1 with ImportError where it is not wanted. */
static int is_wanted(void)
{
    const char *pure = getenv("GATEWAY_PURE");
    if (pure == NULL || *pure == '\0' || strcmp(pure, "0") == 0)
        return 0;
    PyErr_SetString(PyExc_ImportError, "GATEWAY_PURE is set");
    return -1;
}

#endif
