/*
 * A wrapper that asks before every request of another store and hears how each went: what limit and breaker have in
 * common. For those two only.
 */
#pragma once

#include "store/common.h"

/* The functions of a guard; all may be called from any thread at once. */
typedef struct {
    const char *name;
    gboolean (*before)(gpointer data, GError **error);   /* FALSE: the request is not made */
    void (*after)(gpointer data, const GError *failure); /* once for each TRUE of before; NULL: it went well */
    void (*free)(gpointer data);
} GuardOps;

/* A store that guards `inner`, which it takes, and owns `data`. A list counts as a request for each thousand objects. */
Store *guard_new(Store *inner, const GuardOps *ops, gpointer data);
