/* Owns how a text stands in JSON. */
#include "src/face/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

json_t *json_text(const char *bytes, size_t n)
{
    json_t *j = json_stringn(bytes, n);
    char *copy = j ? NULL : malloc(n + 1);
    if (!copy) return j;
    memcpy(copy, bytes, n);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)copy[i] >= 0x80) copy[i] = '?';
    j = json_stringn(copy, n);
    free(copy);
    return j;
}

void json_print(const char *text)
{
    json_t *j = json_text(text, strlen(text));
    char *quoted = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
    fputs(quoted ? quoted : "\"\"", stdout);
    free(quoted);
    json_decref(j);
}
