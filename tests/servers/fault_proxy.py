#!/usr/bin/env python3
"""A proxy before an S3 server that breaks what passes, by rules (see fault_rules.py), and writes down what it saw.

In Python:

    with FaultProxy(server.plain_endpoint) as proxy:
        proxy.add(Rule("reset", at="body", kind="GetObject", nth=2))
        run_something(env=server.env(AWS_S3_ENDPOINT=proxy.endpoint))
        assert proxy.counts()["PutObject"] == 3

From elsewhere: `fault_proxy.py --target URL [--rules JSON] [--tls PEM]` prints one line of JSON with its endpoint and
its control address, and runs until its standard input ends. At the control address: GET, PUT, POST, DELETE /rules (JSON
list; POST adds), GET, DELETE /log, GET /counts, POST /drop.

The Host header and so every signature pass unchanged. Each connection of a client has a thread and a connection of its own
to the server, over which all is streamed. The object may be used by several threads.
"""

import argparse
import base64
import collections
import dataclasses
import datetime
import email.utils
import http.server
import json
import os
import re
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse

from fault_rules import Rule, offset_in
from http_wire import Closed, Head, Wire
from s3_kinds import kind_of, split_target

LOG_LENGTH = 1 << 18
TIMEOUT = 120  # seconds without a byte until a connection is given up
SMALL = 16 << 20  # bodies that `edit` may hold


@dataclasses.dataclass
class Request:
    """What the log holds of a request. status: what the client was answered, None if it got no status line."""

    number: int
    connection: int
    method: str
    path: str
    query: str
    kind: str
    headers: dict
    body_bytes: int = 0
    body: bytes = b""
    answer_bytes: int = 0
    status: int = None
    server_status: int = None
    answer_headers: dict = dataclasses.field(default_factory=dict)
    faults: list = dataclasses.field(default_factory=list)

    def text(self):
        """All that could hold a secret, in one string."""
        lines = [f"{self.method} {self.path}?{self.query}", *(f"{name}: {value}" for name, value in self.headers.items())]
        return "\n".join(lines) + "\n" + self.body.decode("latin-1")


class Broken(Exception):
    """A rule ended the connection; nothing more is to be sent."""


class FaultProxy:
    """Listens at a free port of loopback until stop(). tls: a PEM file with certificate and key. keep_bodies: so many bytes
    of each request's body go to the log."""

    def __init__(self, target, *, tls=None, port=0, keep_bodies=0, domain="s3.localhost"):
        parts = urllib.parse.urlsplit(target)
        self.target = (parts.hostname, parts.port or 80)
        assert parts.scheme == "http", "the proxy speaks plain HTTP to the server"
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(tls)
        self.keep_bodies, self.domain = keep_bodies, domain
        self.lock = threading.Lock()
        self.rules = []
        self.requests = collections.deque(maxlen=LOG_LENGTH)
        self.kinds = collections.Counter()
        self.number = self.connections = self.active = self.most_active = 0
        self.open = set()
        self.stopping = False
        self.listener = None
        self.port = port
        self.listen()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def endpoint(self):
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"

    @property
    def virtual_endpoint(self):
        return f"{'https' if self.context else 'http'}://{self.domain}:{self.port}"

    # ---- rules and log

    def add(self, *rules):
        """Adds rules; the first that fires decides, but latency, which only adds up. Returns the last."""
        with self.lock:
            self.rules = self.rules + list(rules)
        return rules[-1]

    def replace(self, *rules):
        """These rules and no others; none: everything passes."""
        with self.lock:
            self.rules = list(rules)

    def kill_at(self, number, pid, when="before", signal=9):
        """Ends a process (an id, or a function that gives it) at the number-th request from now on; see action kill."""
        return self.add(Rule("kill", nth=number, pid=pid, when=when, signal=signal))

    def log(self):
        """All requests so far, in the order of their coming."""
        with self.lock:
            return list(self.requests)

    def counts(self):
        """Number of requests by kind."""
        with self.lock:
            return collections.Counter(self.kinds)

    def clear(self):
        """Forgets rules, log and counts."""
        with self.lock:
            self.rules = []
            self.requests.clear()
            self.kinds.clear()
            self.number = self.most_active = 0

    # ---- connections

    def listen(self):
        """Accepts connections (again, after refuse())."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(256)
        self.port = listener.getsockname()[1]
        self.listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def refuse(self):
        """From now on connections are refused, as if the server were down; drop() ends those that are open."""
        listener, self.listener = self.listener, None
        if listener:
            try:
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
            except OSError:
                pass
            listener.close()

    def drop(self):
        """Resets all open connections."""
        with self.lock:
            wires = list(self.open)
        for wire in wires:
            _linger_and_shut(wire)

    def stop(self):
        self.stopping = True
        self.refuse()
        self.drop()

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                number = self.connections
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock, number):
        """One connection of a client, to its end."""
        sock.settimeout(TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self.context:
                sock = self.context.wrap_socket(sock, server_side=True)
        except OSError:
            sock.close()
            return
        client = Wire(sock)
        with self.lock:
            self.open.add(client)
        connection = _Connection(self, client, number)
        try:
            while connection.one_request() and not self.stopping:
                pass
        except (Closed, Broken, ValueError):
            pass
        finally:
            with self.lock:
                self.open.discard(client)
            connection.close()


class _Connection:
    """A client's connection and ours to the server."""

    def __init__(self, proxy, client, number):
        self.proxy, self.client, self.number = proxy, client, number
        self.server = None

    def close(self):
        self.client.close()
        self.drop_server()

    def drop_server(self):
        if self.server:
            self.server.close()
            self.server = None

    def one_request(self):
        """Reads a request and answers it. Whether the connection may be used further."""
        head = Head(self.client.head())
        entry = self.enter(head)
        try:
            return self.handle(head, entry)
        finally:
            with self.proxy.lock:
                self.proxy.active -= 1

    def enter(self, head):
        """Writes the request to the log."""
        proxy = self.proxy
        method, target, _ = head.first
        headers = head.map()
        path, query, _ = split_target(target)
        kind = kind_of(method, target, headers, proxy.domain)
        with proxy.lock:
            proxy.number += 1
            proxy.active += 1
            proxy.most_active = max(proxy.most_active, proxy.active)
            entry = Request(proxy.number, self.number, method, path, query, kind, headers)
            proxy.requests.append(entry)
            proxy.kinds[kind] += 1
        return entry

    def handle(self, head, entry):
        fault = self.choose(entry)
        answer = None
        try:
            if fault.is_at("reset", "request"):
                self.break_off(entry)
            fault.stall("request")
            if fault.action == "kill" and fault.get("when", "before") == "before":
                fault.kill()
                self.break_off(entry)
            if fault.action == "status" and not fault.get("forward"):
                return self.own_answer(fault.rule, head, entry)
            answer = self.forward(head, entry, fault)
            if fault.action == "kill" and fault.get("when") == "after":
                fault.kill()
                self.break_off(entry)
            if fault.action == "status":
                for _ in self.server.body(self.framing_of(answer, entry)):
                    pass
                return self.own_answer(fault.rule, None, entry)
            return self.give_answer(answer, entry, fault)
        except Broken:
            self.client.reset()
            raise

    def choose(self, entry):
        """The rule for this request, after all latency that applies."""
        with self.proxy.lock:
            rules = self.proxy.rules
        for rule in rules:
            if not rule.fires(entry):
                continue
            entry.faults.append(rule.action)
            if rule.action != "latency":
                return _Fault(rule)
            time.sleep(rule.get("seconds", 0.1))
        return _Fault(None)

    def break_off(self, entry):
        raise Broken(f"request {entry.number}")

    # ---- the way there

    def forward(self, head, entry, fault):
        """Sends the request to the server and returns the head of its answer."""
        if "100-continue" in head.get("expect").lower():
            head.set("Expect", None)
            self.client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        framing = head.framing()
        length = framing if isinstance(framing, int) else None
        pieces = self.request_pieces(framing, length, entry, fault)
        if self.server is None:
            self.connect()
        early = False
        try:
            self.server.send(head.encode())
        except Closed:  # it closed an idle connection: as with any server, the client has to see that
            self.break_off(entry)
        for piece in pieces:
            try:
                if not early:
                    self.server.send(b"%x\r\n%s\r\n" % (len(piece), piece) if framing == "chunked" else piece)
            except Closed:  # an answer may have come before the end of the body
                early = True
        try:
            if framing == "chunked" and not early:
                self.server.send(b"0\r\n\r\n")
            answer = Head(self.server.head())
            while answer.first[1] == "100":
                answer = Head(self.server.head())
        except Closed:
            self.break_off(entry)
        entry.server_status = int(answer.first[1])
        return answer

    def connect(self):
        try:
            sock = socket.create_connection(self.proxy.target, timeout=TIMEOUT)
        except OSError as why:
            raise Broken(str(why)) from why
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server = Wire(sock)

    def request_pieces(self, framing, length, entry, fault):
        """Yields the request's body as it is to be forwarded."""
        for piece in fault.pieces(self.client.body(framing), length, request=True, stop=self.drop_server):
            entry.body_bytes += len(piece)
            if len(entry.body) < self.proxy.keep_bodies:
                entry.body += piece[: self.proxy.keep_bodies - len(entry.body)]
            yield piece

    # ---- the way back

    @staticmethod
    def framing_of(answer, entry):
        bodyless = entry.method == "HEAD" or answer.first[1] in ("204", "304")
        return answer.framing(bodyless, answer=True)

    def give_answer(self, answer, entry, fault):
        """Passes the server's answer to the client, with whatever the rule does to it."""
        framing = self.framing_of(answer, entry)
        body = self.server.body(framing)
        closes = answer.closes() or framing == "close"
        if fault.action == "header":
            answer.set(fault.get("name"), fault.get("value"))
        if fault.action == "edit":
            framing, body = self.edited(answer, body, fault)
        if fault.action == "close" and fault.get("announce", True):
            answer.set("Connection", "close")
        if fault.is_at("reset", "before-headers"):
            self.break_off(entry)
        fault.stall("before-headers")
        raw = answer.encode()
        if fault.at in ("headers",):
            self.client.send(raw[: len(raw) // 2])
            fault.stall("headers")
            if fault.action == "reset":
                self.break_off(entry)
            raw = raw[len(raw) // 2:]
        # Written down before it is sent: a test may look as soon as its client has the answer.
        entry.status, entry.answer_headers = int(answer.first[1]), answer.map()
        self.client.send(raw)
        length = framing if isinstance(framing, int) else None
        cut = False
        try:
            for piece in fault.pieces(body, length, request=False):
                entry.answer_bytes += len(piece)
                self.client.send(b"%x\r\n%s\r\n" % (len(piece), piece) if framing == "chunked" else piece)
        except EOFError:  # truncated
            cut = True
        if cut:
            return False
        if framing == "chunked":
            self.client.send(b"0\r\n\r\n")
        if fault.is_at("reset", "end"):
            self.break_off(entry)
        fault.stall("end")
        if fault.action == "kill" and fault.get("when") == "answered":
            fault.kill()
            self.break_off(entry)
        return not closes and fault.action != "close"

    @staticmethod
    def edited(answer, body, fault):
        """The body with a replacement made, and its new framing."""
        whole = b"".join(body)
        assert len(whole) <= SMALL, "edit is for small bodies"
        whole = re.sub(fault.get("pattern").encode("latin-1"), fault.get("replacement").encode("latin-1"), whole, flags=re.S)
        answer.set("Transfer-Encoding", None)
        answer.set("Content-Length", str(len(whole)))
        return len(whole), iter([whole] if whole else [])

    def own_answer(self, rule, head, entry):
        """Answers in the server's place. head: of the request whose body was not read yet."""
        drained = True
        if head is not None:
            drained = rule.get("drain", True) and "100-continue" not in head.get("expect").lower()
            if drained:
                for piece in self.client.body(head.framing()):
                    entry.body_bytes += len(piece)
        raw = own_bytes(rule, entry, drained)
        entry.status = rule.get("status")
        self.client.send(raw)
        return drained


def own_bytes(rule, entry, drained):
    """An answer with the XML of an S3 error."""
    status = rule.get("status")
    body = rule.get("body")
    if body is None:
        body = (f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{rule.get("code", "InternalError")}</Code>'
                f'<Message>{rule.get("message", "")}</Message>{rule.get("extra", "")}'
                f"<RequestId>FAULT{entry.number:08}</RequestId><HostId>fault</HostId></Error>")
    body = body if isinstance(body, bytes) else body.encode()
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=rule.get("date_shift", 0))
    lines = [f"HTTP/1.1 {status} {http.server.BaseHTTPRequestHandler.responses.get(status, ('Fault',))[0]}",
             f"x-amz-request-id: FAULT{entry.number:08}", "Content-Type: application/xml",
             f"Date: {email.utils.format_datetime(now, usegmt=True)}"]
    if rule.get("retry_after") is not None:
        lines.append(f"Retry-After: {rule.get('retry_after')}")
    lines += [f"{name}: {value}" for name, value in (rule.get("headers") or {}).items()]
    if not drained:
        lines.append("Connection: close")
    bodyless = entry.method == "HEAD" or status in (204, 304)
    lines += [f"Content-Length: {0 if status == 204 else len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + (b"" if bodyless else body)


class _Fault:
    """A rule at work on one request; without a rule nothing happens."""

    def __init__(self, rule):
        self.rule = rule
        self.action = rule.action if rule else None
        self.at = rule.get("at", "body" if self.action in ("reset", "stall") else None) if rule else None

    def get(self, name, default=None):
        return self.rule.get(name, default)

    def is_at(self, action, place):
        return self.action == action and self.at == place

    def stall(self, place):
        if self.is_at("stall", place):
            time.sleep(self.get("seconds", 1))

    def kill(self):
        pid = self.get("pid")
        pid = pid() if callable(pid) else pid
        try:
            os.kill(pid, self.get("signal", 9))
        except (ProcessLookupError, TypeError):
            pass

    def acts_in(self, request):
        """Whether something happens inside this body."""
        place = "request-body" if request else "body"
        if self.action in ("reset", "stall"):
            return self.at == place
        if self.action == "kill":
            return request and self.get("when") == "body"
        if self.action in ("corrupt", "slow"):
            return bool(self.get("request", False)) == request
        return self.action == "truncate" and not request

    def pieces(self, body, length, request, stop=None):
        """Yields a body's pieces as they are to be passed on. stop() cuts the other side off before this one is reset."""
        if self.rule is None or not self.acts_in(request):
            yield from body
            return
        where = offset_in(self.rule, length)
        if self.action == "corrupt" and length:
            where = min(where, length - 1)
        done, acted = 0, False
        for piece in body:
            if self.action == "slow":
                yield from self.slowly(piece)
                continue
            before, after = piece[: max(0, where - done)], piece[max(0, where - done):]
            done += len(piece)
            if acted or not after and not (length is not None and done == length and where == length):
                yield piece
                continue
            acted = True
            if before:
                yield before
            after = self.act(after, stop)
            if after:
                yield after
        if not acted and self.action in ("reset", "kill", "truncate", "stall"):
            self.act(b"", stop)

    def act(self, rest, stop):
        """What happens at the place; `rest` as it follows."""
        if self.action == "corrupt":
            return bytes([rest[0] ^ 0x20]) + rest[1:] if rest else rest
        if self.action == "stall":
            time.sleep(self.get("seconds", 1))
            return rest
        if self.action == "truncate":
            raise EOFError
        if self.action == "kill":
            self.kill()
        if stop:
            stop()
        raise Broken(self.action)

    def slowly(self, piece):
        rate = self.get("rate", 1 << 16)
        step = max(1, min(1 << 14, rate // 20))
        for start in range(0, len(piece), step):
            yield piece[start:start + step]
            time.sleep(step / rate)


def _linger_and_shut(wire):
    """Resets a connection on which another thread may be waiting: that one closes it."""
    try:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket.shutdown(wire.sock, socket.SHUT_RDWR)
    except OSError:
        pass


# ---- control by HTTP

class Control:
    """The control address of a proxy, for tests that do not run in its process."""

    def __init__(self, proxy):
        handler = type("Handler", (_ControlHandler,), {"proxy": proxy})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class _ControlHandler(http.server.BaseHTTPRequestHandler):
    proxy = None

    def log_message(self, *_):
        pass

    def reply(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def rules(self):
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        value = json.loads(text or b"[]")
        return [Rule(**item) for item in (value if isinstance(value, list) else [value])]

    def do_GET(self):
        if self.path == "/rules":
            self.reply([{"action": r.action, "matched": r.matched, "fired": r.fired} for r in self.proxy.rules])
        elif self.path == "/counts":
            self.reply(self.proxy.counts())
        elif self.path == "/log":
            self.reply([{**dataclasses.asdict(r), "body": base64.b64encode(r.body).decode()} for r in self.proxy.log()])
        else:
            self.reply("no such thing", 404)

    def do_PUT(self):
        self.change(self.proxy.replace)

    def do_POST(self):
        if self.path == "/drop":
            self.proxy.drop()
            self.reply("dropped")
        else:
            self.change(lambda *rules: rules and self.proxy.add(*rules))

    def change(self, apply):
        try:
            apply(*self.rules())
            self.reply("done")
        except (ValueError, TypeError, re.error) as why:
            self.reply(str(why), 400)

    def do_DELETE(self):
        if self.path == "/log":
            self.proxy.clear()
        else:
            self.proxy.replace()
        self.reply("done")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True)
    parser.add_argument("--tls", help="PEM file with certificate and key")
    parser.add_argument("--rules", default="[]", help="JSON list of rules to begin with")
    parser.add_argument("--keep-bodies", type=int, default=0)
    given = parser.parse_args()
    proxy = FaultProxy(given.target, tls=given.tls, keep_bodies=given.keep_bodies)
    proxy.replace(*(Rule(**item) for item in json.loads(given.rules)))
    control = Control(proxy)
    print(json.dumps({"endpoint": proxy.endpoint, "control": control.address}), flush=True)
    sys.stdin.read()
    proxy.stop()
    control.stop()


if __name__ == "__main__":
    main()
