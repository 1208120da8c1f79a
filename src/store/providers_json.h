/*
 * The bytes of providers.json, which the build turns into C (tools/embed).
 */
#pragma once

#include <stddef.h>

extern const unsigned char providers_json[];
extern const size_t providers_json_length;
