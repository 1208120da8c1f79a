"""Checks the signature of a request to the S3 double as S3 does: header or presigned query, every byte of it."""

import calendar
import hashlib
import re
import time
import urllib.parse

import sigv4

SKEW = 15 * 60
HEADER = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ?SignedHeaders=([^, ]+), ?"
                    r"Signature=([0-9a-f]{64})$")


class S3Error(Exception):
    """An answer with an error code. extra: further XML; headers: of the answer."""

    def __init__(self, status, code, message="", extra="", headers=None):
        super().__init__(code)
        self.status, self.code, self.message, self.extra, self.headers = status, code, message, extra, headers or {}


def malformed(region):
    return S3Error(400, "AuthorizationHeaderMalformed",
                   f"signed for another region than {region}",
                   f"<Region>{region}</Region>", {"x-amz-bucket-region": region})


def seconds_of(date):
    try:
        return calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise S3Error(403, "AccessDenied", "no valid x-amz-date") from None


def check(call, ring, region, now):
    """Raises S3Error unless the request is signed with keys of the ring for this region; returns the Keys."""
    if "X-Amz-Signature" in call.query:
        return _check_presigned(call, ring, region, now)
    given = call.headers.get("authorization")
    if not given:
        raise S3Error(403, "AccessDenied", "not signed")
    found = HEADER.match(given)
    if not found:
        raise S3Error(400, "AuthorizationHeaderMalformed", "Authorization cannot be read")
    access, day, signed_region, service, names, signature = found.groups()
    keys = _find(ring, access, call.headers.get("x-amz-security-token"))
    date = call.headers.get("x-amz-date", "")
    if abs(seconds_of(date) - now) > SKEW:
        raise S3Error(403, "RequestTimeTooSkewed", "the clocks differ")
    if signed_region != region or service != "s3" or day != date[:8]:
        raise malformed(region)
    payload = call.headers.get("x-amz-content-sha256")
    if payload is None:
        raise S3Error(400, "InvalidRequest", "x-amz-content-sha256 is missing")
    names = names.split(";")
    missing = [name for name in call.headers if (name.startswith("x-amz-") or name == "host") and name not in names]
    if missing or names != sorted(names):
        raise S3Error(403, "AccessDenied", "some headers are not signed",
                      f"<HeadersNotSigned>{', '.join(missing)}</HeadersNotSigned>")
    _compare(call, call.pairs, names, payload, keys, f"{day}/{region}/s3/aws4_request", date, signature)
    if payload not in (sigv4.UNSIGNED, "STREAMING-UNSIGNED-PAYLOAD-TRAILER"):
        if not re.fullmatch("[0-9a-f]{64}", payload):
            raise S3Error(501, "NotImplemented", "signed chunks are not part of this double")
        if payload != hashlib.sha256(call.body).hexdigest():
            raise S3Error(400, "XAmzContentSHA256Mismatch", "not the body that was signed")
    return keys


def _find(ring, access, token):
    keys = ring.find(access)
    if keys is None:
        raise S3Error(403, "InvalidAccessKeyId", "no such key")
    if keys.token != token:
        raise S3Error(400, "InvalidToken", "not the token of this key")
    if keys.expired():
        raise S3Error(400, "ExpiredToken", "the token is too old")
    return keys


def _compare(call, pairs, names, payload, keys, scope, date, signature):
    headers = {name: call.headers.get(name, "") for name in names}
    path = sigv4.quote(urllib.parse.unquote(call.raw_path, errors="surrogateescape").encode("utf-8", "surrogateescape"), "/")
    request = sigv4.canonical_request(call.method, path, pairs, headers, names, payload)
    if sigv4.signature(keys.secret, scope, sigv4.string_to_sign(date, scope, request)) != signature:
        raise S3Error(403, "SignatureDoesNotMatch", "another signature was expected",
                      f"<CanonicalRequest>{request.replace('&', '&amp;').replace('<', '&lt;')}</CanonicalRequest>")


def _check_presigned(call, ring, region, now):
    query = call.query
    try:
        access, day, signed_region, service, _ = query["X-Amz-Credential"].split("/")
        date, length = query["X-Amz-Date"], int(query["X-Amz-Expires"])
        names = query["X-Amz-SignedHeaders"].split(";")
    except (KeyError, ValueError):
        raise S3Error(400, "AuthorizationQueryParametersError", "a parameter is missing") from None
    if not 1 <= length <= 604800:
        raise S3Error(400, "AuthorizationQueryParametersError", "X-Amz-Expires is not within a week")
    keys = _find(ring, access, query.get("X-Amz-Security-Token"))
    if (signed_region, service, day) != (region, "s3", date[:8]):
        raise malformed(region)
    if not seconds_of(date) - SKEW <= now < seconds_of(date) + length:
        raise S3Error(403, "AccessDenied", "Request has expired")
    pairs = [pair for pair in call.pairs if pair[0] != "X-Amz-Signature"]
    payload = query.get("X-Amz-Content-Sha256", sigv4.UNSIGNED)
    _compare(call, pairs, names, payload, keys, f"{day}/{region}/s3/aws4_request", date, query["X-Amz-Signature"])
    return keys
