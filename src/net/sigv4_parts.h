/*
 * The steps of Signature Version 4 one by one, for its published test vectors and for whoever has to find out why a
 * server computes another signature. Only for src/net and its tests. Any thread.
 */
#pragma once

#include "net/sigv4.h"

/* "20130524T000000Z", and the day in front of the T. */
typedef struct {
    char stamp[17];
    char day[9];
} SigDate;
SigDate sigv4_date(gint64 time);

/* Writes the canonical request to out, and the names of its signed headers ("host;x-amz-date") to names. */
void sigv4_canonical(const SigRequest *request, const char *query, const GPtrArray *headers, const char *payload_hash,
                     GString *out, GString *names);

/* The signature of a canonical request, in hex. */
void sigv4_signature(const SigRequest *request, const SigDate *date, const char *secret_key, const GString *canonical,
                     char out[SIGV4_HEX]);

/* Appends the query with its parts sorted, and "=" behind names without a value. */
void sigv4_canonical_query(GString *out, const char *query);
