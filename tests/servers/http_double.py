"""A small HTTP server in this process, as a base for doubles: one function answers, all requests are kept."""

import collections
import http.server
import ssl
import threading
import time
import urllib.parse

LOG_LENGTH = 1 << 16
LARGEST_BODY = 1 << 30


class Call:
    """A request as a double sees it. headers: lower-case names. pairs: the decoded query."""

    def __init__(self, method, target, headers, body):
        self.method, self.target, self.headers, self.body = method, target, headers, body
        self.raw_path, _, self.raw_query = target.partition("?")
        self.path = urllib.parse.unquote(self.raw_path, errors="surrogateescape")
        self.pairs = [(urllib.parse.unquote(name), urllib.parse.unquote(value))
                      for name, _, value in (part.partition("=") for part in self.raw_query.split("&") if part)]
        self.query = dict(self.pairs)
        self.status = None

    def text(self):
        """All that could hold a secret, in one string."""
        lines = [f"{self.method} {self.target}", *(f"{name}: {value}" for name, value in self.headers.items())]
        return "\n".join(lines) + "\n" + self.body.decode("latin-1")


class Reply:
    """An answer. `drop` closes the connection without one."""

    def __init__(self, status=200, body=b"", headers=None, drop=False):
        self.status = status
        self.body = body.encode() if isinstance(body, str) else body
        self.headers = dict(headers or {})
        self.drop = drop


class HttpDouble:
    """Listens at a free port of loopback until stop(). Subclasses implement answer(call) -> Reply, which is called from a
    thread per connection, with `lock` not held. tls: a PEM file with certificate and key. clock_shift: seconds that its clock
    is ahead, which may be changed."""

    clock_shift = 0

    def __init__(self, tls=None):
        self.lock = threading.RLock()
        self.calls = collections.deque(maxlen=LOG_LENGTH)
        handler = type("Handler", (_Handler,), {"double": self})
        self.server = _Server(("127.0.0.1", 0), handler)
        self.tls = bool(tls)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def endpoint(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def answer(self, call):
        raise NotImplementedError

    def log(self):
        with self.lock:
            return list(self.calls)

    def clear_log(self):
        with self.lock:
            self.calls.clear()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, request, client_address):
        pass  # a client that goes away is nothing to report


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 120
    double = None

    def log_message(self, *_):
        pass

    def date_time_string(self, timestamp=None):
        return super().date_time_string(time.time() + self.double.clock_shift if timestamp is None else timestamp)

    def handle_expect_100(self):
        good = super().handle_expect_100()
        self.wfile.flush()
        return good

    def handle_one_request(self):
        self.raw_requestline = self.rfile.readline(1 << 16)
        if not self.raw_requestline:
            self.close_connection = True
            return
        if not self.parse_request():
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.command, self.path, headers, self.read_body(headers))
        with self.double.lock:
            self.double.calls.append(call)
        reply = self.double.answer(call)
        call.status = reply.status
        if reply.drop:
            self.close_connection = True
            return
        self.write(call, reply)

    def read_body(self, headers):
        if "chunked" in headers.get("transfer-encoding", ""):
            pieces = []
            while size := int(self.rfile.readline(64).partition(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline(4)
            while self.rfile.readline(1 << 16).strip():
                pass
            return b"".join(pieces)
        length = int(headers.get("content-length") or 0)
        return self.rfile.read(length) if 0 < length <= LARGEST_BODY else b""

    def write(self, call, reply):
        self.send_response(reply.status)
        bodyless = call.method == "HEAD" or reply.status in (204, 304)
        reply.headers.setdefault("Content-Length", "0" if reply.status == 204 else str(len(reply.body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if not bodyless:
            self.wfile.write(reply.body)
        self.wfile.flush()
