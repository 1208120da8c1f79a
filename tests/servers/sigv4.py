"""Signature V4 for the test servers: what a client signs with and what the double checks with.

Written from Amazon's description of the algorithm, and apart from the code under test: a mistake there must not be
repeated here. No threads, no state.
"""

import hashlib
import hmac
import urllib.parse

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def quote(text, safe=""):
    """Percent encoding with only A-Z a-z 0-9 - . _ ~ left as they are."""
    return urllib.parse.quote(text, safe=safe + "-._~")


def canonical_query(pairs):
    """The query of (name, value) pairs, which are decoded, as it is signed and may be sent."""
    return "&".join(f"{name}={value}" for name, value in sorted((quote(n), quote(v)) for n, v in pairs))


def canonical_request(method, path, pairs, headers, signed, payload):
    """path: as sent (S3 encodes once). headers: lower-case name -> value. signed: the names that are signed, sorted."""
    lines = [f"{name}:{' '.join(headers[name].split())}" for name in signed]
    return "\n".join([method, path or "/", canonical_query(pairs), *lines, "", ";".join(signed), payload])


def string_to_sign(date, scope, request):
    return "\n".join([ALGORITHM, date, scope, hashlib.sha256(request.encode()).hexdigest()])


def signing_key(secret, day, region, service):
    key = ("AWS4" + secret).encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def signature(secret, scope, text):
    """scope: DAY/REGION/SERVICE/aws4_request."""
    day, region, service, _ = scope.split("/")
    return hmac.new(signing_key(secret, day, region, service), text.encode(), hashlib.sha256).hexdigest()


def authorize(method, path, pairs, headers, payload, keys, region, service="s3"):
    """The value of Authorization. headers: all that are to be signed, lower case, with host and x-amz-date in them."""
    date = headers["x-amz-date"]
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    signed = sorted(headers)
    text = string_to_sign(date, scope, canonical_request(method, path, pairs, headers, signed, payload))
    return (
        f"{ALGORITHM} Credential={keys[0]}/{scope}, SignedHeaders={';'.join(signed)}, "
        f"Signature={signature(keys[1], scope, text)}"
    )


def presign(method, host, path, pairs, keys, region, date, seconds, token=None):
    """The query of a presigned request that anybody may send within `seconds` of `date`; only the host is signed."""
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    pairs = [
        *pairs,
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", f"{keys[0]}/{scope}"),
        ("X-Amz-Date", date),
        ("X-Amz-Expires", str(seconds)),
        ("X-Amz-SignedHeaders", "host"),
    ]
    if token:
        pairs.append(("X-Amz-Security-Token", token))
    text = string_to_sign(date, scope, canonical_request(method, path, pairs, {"host": host}, ["host"], UNSIGNED))
    return canonical_query([*pairs, ("X-Amz-Signature", signature(keys[1], scope, text))])
