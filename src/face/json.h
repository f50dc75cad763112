/* Texts in JSON, which is UTF-8, while names of files are any bytes: what is none becomes question marks. */
#ifndef SRC_FACE_JSON_H
#define SRC_FACE_JSON_H
#include <jansson.h>
#include <stddef.h>

json_t *json_text(const char *bytes, size_t n); /* a new string; NULL: out of memory */
void json_print(const char *text);              /* to standard output */

#endif
