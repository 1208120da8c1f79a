"""The rules of the fault proxy: which requests, and what happens to them. A rule is made from keywords or from JSON.

Which requests (all that are given have to hold):

    method, kind        "PUT", "UploadPart": a name, or a list of names
    path, query         regular expressions, searched in the decoded path and the raw query
    header              regular expression, searched in lines `name: value` with lower-case names; ^ and $ match at lines
    skip                so many matching requests pass first
    count               it happens to so many matching requests at most (default: all)
    every               after `skip`, only each so many-th
    probability, seed   by chance; the same seed gives the same sequence

`nth=N` is short for skip=N-1, count=1. What happens, `action`:

    latency    seconds                  waits, then goes on with the next rule that applies
    reset      at="request" (nothing forwarded), "request-body" (after `offset` bytes of it), "before-headers" (forwarded,
               nothing of the answer), "headers" (half of them), "body" (after `offset` bytes), "end" (after the last byte)
    truncate   offset                   the answer's body ends there, in good order, against its Content-Length
    corrupt    offset, request=False    one bit of a byte of the answer's body (the request's) is flipped
    status     status, code, headers, retry_after, message, body, forward=False, drain=True
                                        an answer of our own; with forward, after the server did its work
    header     name, value              a header of the answer is replaced (value None: removed)
    edit       pattern, replacement     in the answer's body, bytes as latin-1; for small bodies
    stall      at as for reset, seconds no byte moves there for so long, then it goes on
    slow       rate, request=False      bytes per second of the answer's (request's) body
    close      announce=True            the connection is closed after the answer, with or without `Connection: close`
    kill       pid, when="before" | "body" | "after" | "answered", signal=9
                                        a process is ended before the request is forwarded, when half of its body was,
                                        when the server answered, when the client had the answer

Offsets are counted from the end if negative (-1: the last byte is missing or hit); None is the middle. Of a body whose
length is not known, None and negative ones are byte 1.
"""

import random
import re
import threading

ACTIONS = {"latency", "reset", "truncate", "corrupt", "status", "header", "edit", "stall", "slow", "close", "kill"}
CHOICE = {"method", "kind", "path", "query", "header", "skip", "count", "every", "probability", "seed", "nth"}


class Rule:
    """One rule with its counters: `matched` and `fired` requests."""

    def __init__(self, action, **given):
        if action not in ACTIONS:
            raise ValueError(f"no such action: {action} (there are {', '.join(sorted(ACTIONS))})")
        self.action = action
        self.choice = {name: given.pop(name) for name in list(given) if name in CHOICE and given[name] is not None
                       and not (name == "header" and action == "header" and "name" not in given)}
        self.values = given
        if "nth" in self.choice:
            self.choice.update(skip=self.choice.pop("nth") - 1, count=1)
        searched = [name for name in ("path", "query", "header") if name in self.choice]
        self.patterns = {name: re.compile(self.choice[name], re.M) for name in searched}
        self.chance = random.Random(self.choice.get("seed", 1))
        self.matched = self.fired = 0
        self.lock = threading.Lock()

    def __repr__(self):
        return f"{self.action} {self.values} if {self.choice} ({self.fired} of {self.matched})"

    def get(self, name, default=None):
        return self.values.get(name, default)

    def fires(self, request):
        """Whether it happens to this request; counts it."""
        if not self._matches(request):
            return False
        with self.lock:
            self.matched += 1
            beyond = self.matched - self.choice.get("skip", 0)
            if beyond <= 0 or self.fired >= self.choice.get("count", 1 << 62) or (beyond - 1) % self.choice.get("every", 1):
                return False
            if "probability" in self.choice and self.chance.random() >= self.choice["probability"]:
                return False
            self.fired += 1
            return True

    def _matches(self, request):
        for name, value in (("method", request.method), ("kind", request.kind)):
            wanted = self.choice.get(name, value)
            if value not in ([wanted] if isinstance(wanted, str) else wanted):
                return False
        texts = {"path": request.path, "query": request.query}
        for name, pattern in self.patterns.items():
            text = texts[name] if name in texts else "\n".join(f"{key}: {value}" for key, value in request.headers.items())
            if not pattern.search(text):
                return False
        return True


def offset_in(rule, length):
    """Where a rule acts in a body of this length (None: not known)."""
    offset = rule.get("offset")
    if length is None:
        return offset if offset is not None and offset >= 0 else 1
    if offset is None:
        return length // 2
    return max(0, length + offset) if offset < 0 else min(offset, length)


# ---- what real providers answer

def slow_down(retry_after=None, **choice):
    return Rule("status", status=503, code="SlowDown", message="too many requests", retry_after=retry_after, **choice)


def internal_error(**choice):
    return Rule("status", **{"status": 500, "code": "InternalError",
                             "message": "something broke", **choice})


def expired_token(status=400, **choice):
    return Rule("status", status=status, code="ExpiredToken", message="the token is too old", **choice)


def revoked_key(**choice):
    return Rule("status", status=403, code="InvalidAccessKeyId", message="no such key", **choice)


def access_denied(**choice):
    return Rule("status", status=403, code="AccessDenied", message="not allowed", **choice)


def skewed_clock(seconds, **choice):
    """403 RequestTimeTooSkewed from a server whose clock differs by so many seconds from ours."""
    return Rule("status", status=403, code="RequestTimeTooSkewed", date_shift=seconds,
                message="the clocks differ", **choice)


def redirect(region, endpoint=None, status=301, **choice):
    """What a bucket of another region answers: 301 PermanentRedirect, 307 with a Location."""
    headers = {"x-amz-bucket-region": region, **({"Location": endpoint} if endpoint and status == 307 else {})}
    code = {301: "PermanentRedirect", 307: "TemporaryRedirect"}.get(status, "AuthorizationHeaderMalformed")
    extra = f"<Endpoint>{endpoint or ''}</Endpoint><Region>{region}</Region>"
    return Rule("status", status=status, code=code, headers=headers, extra=extra, **choice)


def request_timeout(status=408, **choice):
    return Rule("status", status=status, code="RequestTimeout", message="the request came too slowly", **choice)


def wrong_etag(**choice):
    return Rule("header", name="ETag", value='"00000000000000000000000000000000"', **choice)
