/* Texts in JSON, on standard output. */
#ifndef SRC_JSON_H
#define SRC_JSON_H

void json_string(const char *text); /* with its quotes; control characters are left out */

#endif
