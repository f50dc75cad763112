/* String instructions without a repeat prefix. */
#ifndef TRANSLATOR_LOWER_STRING_H
#define TRANSLATOR_LOWER_STRING_H
#include "translator/lower/ctx.h"

lower_fn lower_string;

#endif
