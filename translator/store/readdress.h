/* A page's blocks are made right for another linear page. */
#ifndef TRANSLATOR_READDRESS_H
#define TRANSLATOR_READDRESS_H
#include "translator/store/xl.h"

/* la's page has no blocks under pa's: gives it those of another alias, if there are enough of these. Whether. */
bool xl_readdress(struct xl *xl, laddr la, paddr pa);

#endif
