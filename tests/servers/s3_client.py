"""A plain S3 client for tests: one signed request at a time, nothing retried, nothing hidden. One thread per object."""

import datetime
import hashlib
import http.client
import re
import ssl
import urllib.parse
import xml.sax.saxutils

import sigv4

TIMEOUT = 60


class Answer:
    """What came back: status, headers (lower-case names), body; `code` is the Code of an XML error, or None."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body
        found = re.search(rb"<Code>([^<]*)</Code>", body) if status >= 300 else None
        self.code = found.group(1).decode() if found else None

    def __repr__(self):
        return f"{self.status} {self.code or ''} {self.body[:300]!r}"


class S3Client:
    """Requests to one endpoint. keys: (access key, secret key). With `virtual`, the bucket is in the host's name."""

    def __init__(self, endpoint, keys, region="us-east-1", ca=None, token=None, virtual=False, shift=0):
        parts = urllib.parse.urlsplit(endpoint)
        self.host, self.port, self.tls = parts.hostname, parts.port, parts.scheme == "https"
        self.keys, self.region, self.token, self.virtual, self.shift = keys, region, token, virtual, shift
        self.context = ssl.create_default_context(cafile=str(ca)) if self.tls else None
        self.connection = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def _address(self, bucket, key):
        """(host, path as sent) for a bucket and a key."""
        key = "/" + sigv4.quote(key, "/") if key is not None else ""
        if self.virtual and bucket:
            return f"{bucket}.{self.host}", key or "/"
        return self.host, (f"/{bucket}{key}" if bucket else "/")

    def _connect(self, host):
        if self.connection and self.connection.test_host == host:
            return
        self.close()
        # The name of a virtual host goes into SNI, Host and the signature; the address is loopback all the same.
        if self.tls:
            self.connection = _LoopbackTls(host, self.port, context=self.context, timeout=TIMEOUT)
        else:
            self.connection = http.client.HTTPConnection(_loopback(host), self.port, timeout=TIMEOUT)
        self.connection.test_host = host

    def request(self, method, bucket=None, key=None, query=(), headers=None, body=b"", payload=None):
        """Sends a signed request. query: (name, value) pairs or {name: value}. payload: x-amz-content-sha256 if it is not the
        body's. Returns an Answer, whatever the status."""
        pairs = list(query.items()) if isinstance(query, dict) else list(query)
        host, path = self._address(bucket, key)
        now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.shift)
        payload = payload or hashlib.sha256(body).hexdigest()
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        sent["host"] = f"{host}:{self.port}"
        sent["x-amz-date"] = now.strftime("%Y%m%dT%H%M%SZ")
        sent["x-amz-content-sha256"] = payload
        if self.token:
            sent["x-amz-security-token"] = self.token
        sent["authorization"] = sigv4.authorize(method, path, pairs, dict(sent), payload, self.keys, self.region)
        target = path + ("?" + sigv4.canonical_query(pairs) if pairs else "")
        return self.send(host, method, target, sent, body)

    def send(self, host, method, target, headers, body=b""):
        """Sends a request as it is; on a connection that the other side closed meanwhile, once more."""
        for attempt in (0, 1):
            fresh = self.connection is None
            self._connect(host)
            try:
                self.connection.request(method, target, body=body or None, headers=self._length(method, headers, body))
                answer = self.connection.getresponse()
                content = answer.read()
                return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)
            except (http.client.HTTPException, OSError):
                self.close()
                if fresh or attempt:
                    raise
        raise AssertionError("not reached")

    @staticmethod
    def _length(method, headers, body):
        return {**headers, "content-length": str(len(body))} if body or method in ("PUT", "POST") else headers

    def good(self, method, *args, **options):
        """request() that has to succeed."""
        answer = self.request(method, *args, **options)
        assert answer.status < 300, f"{method} {args}: {answer}"
        return answer

    def put(self, bucket, key, body=b"", **headers):
        return self.good("PUT", bucket, key, body=body, headers={n.replace("_", "-"): v for n, v in headers.items()})

    def get(self, bucket, key, **headers):
        return self.good("GET", bucket, key, headers={n.replace("_", "-"): v for n, v in headers.items()})

    def head(self, bucket, key):
        return self.request("HEAD", bucket, key)

    def delete(self, bucket, key):
        return self.good("DELETE", bucket, key)

    def listing(self, bucket, prefix=""):
        """All keys below a prefix, in the server's order, with pages followed: [(key, size, etag)]."""
        found, token = [], None
        while True:
            query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
            if token:
                query["continuation-token"] = token
            body = self.good("GET", bucket, query=query).body.decode()
            for entry in re.findall(r"<Contents>(.*?)</Contents>", body, re.S):
                key, etag = urllib.parse.unquote_plus(_text(entry, "Key")), _text(entry, "ETag").replace("&quot;", '"')
                found.append((key, int(_text(entry, "Size")), etag))
            token = _text(body, "NextContinuationToken")
            if _text(body, "IsTruncated") != "true":
                return found


def _text(answer, name):
    found = re.search(f"<{name}>([^<]*)</{name}>", answer)
    if not found:
        return None
    return xml.sax.saxutils.unescape(found.group(1), {"&apos;": "'", "&quot;": '"'})


def _loopback(host):
    return "127.0.0.1" if host == "localhost" or host.endswith(".localhost") else host


class _LoopbackTls(http.client.HTTPSConnection):
    """TLS with the certificate of `host`, to the address that *.localhost has everywhere."""

    def connect(self):
        name, self.host = self.host, _loopback(self.host)
        try:
            http.client.HTTPConnection.connect(self)
        finally:
            self.host = name
        self.sock = self._context.wrap_socket(self.sock, server_hostname=name)
