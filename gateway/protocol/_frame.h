/* An answer in FastCGI's records (FastCGI 1.0 §3.3, §5.5). Included by each extension that answers. */

#ifndef GATEWAY_FRAME_H
#define GATEWAY_FRAME_H

#include <Python.h>

#include <string.h>

#include "_decode.h"

#define END_REQUEST 3
#define STDOUT 6
#define ANSWER_END_SIZE 24 /* the end of STDOUT, END_REQUEST */
#define LONGEST_CONTENT 65535
#define FULL_CONTENT 65528 /* of a record in a longer stream: a multiple of 8, so that what follows stays aligned */

static byte *put_header(byte *at, byte kind, long request_id, Py_ssize_t length)
{
    const byte header[HEADER_SIZE] = {1, kind, (byte)(request_id >> 8), (byte)request_id, (byte)(length >> 8),
                                      (byte)length, 0, 0};
    memcpy(at, header, HEADER_SIZE);
    return at + HEADER_SIZE;
}

static inline byte *put_stdout(byte *at, long request_id, const byte *data, Py_ssize_t size)
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

static inline Py_ssize_t answer_size(Py_ssize_t size)
{
    Py_ssize_t records = size <= LONGEST_CONTENT ? size > 0 : (size + FULL_CONTENT - 1) / FULL_CONTENT;
    return size + records * HEADER_SIZE + ANSWER_END_SIZE;
}

#endif
