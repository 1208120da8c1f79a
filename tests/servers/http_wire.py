"""HTTP/1.1 on sockets, byte by byte, for a proxy that has to break it at chosen places."""

import socket
import struct

PIECE = 1 << 16
LARGEST_HEAD = 1 << 17


class Closed(Exception):
    """The other side closed or reset the connection."""


class Wire:
    """A connected socket with a buffer for what was received. Used by one thread."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""

    def receive(self):
        try:
            data = self.sock.recv(PIECE)
        except OSError as why:
            raise Closed(str(why)) from why
        if not data:
            raise Closed("end of stream")
        return data

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError as why:
            raise Closed(str(why)) from why

    def head(self):
        """The next head, blank line included; Closed if there is none any more."""
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end >= 0:
                head, self.buffer = self.buffer[: end + 4], self.buffer[end + 4:]
                return head
            if len(self.buffer) > LARGEST_HEAD:
                raise Closed("a head without end")
            self.buffer += self.receive()

    def some(self, most):
        """Between 1 and `most` bytes."""
        data = self.buffer or self.receive()
        self.buffer = data[most:]
        return data[:most]

    def line(self):
        while b"\r\n" not in self.buffer:
            if len(self.buffer) > LARGEST_HEAD:
                raise Closed("a line without end")
            self.buffer += self.receive()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def body(self, framing):
        """Yields the pieces of a body. framing: a length, "chunked", or "close"."""
        if framing == "chunked":
            while True:
                left = int(self.line().partition(b";")[0], 16)
                if left == 0:
                    while self.line():
                        pass
                    return
                while left:
                    piece = self.some(min(left, PIECE))
                    left -= len(piece)
                    yield piece
                self.line()
        elif framing == "close":
            while True:
                try:
                    yield self.some(PIECE)
                except Closed:
                    return
        else:
            left = framing
            while left:
                piece = self.some(min(left, PIECE))
                left -= len(piece)
                yield piece

    def close(self):
        """Closes in good order."""
        for step in (lambda: self.sock.shutdown(socket.SHUT_WR), self.sock.close):
            try:
                step()
            except OSError:
                pass

    def reset(self):
        """Closes so that the other side sees a reset."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        try:
            self.sock.close()
        except OSError:
            pass


class Head:
    """A parsed head: the first line in three parts, and the headers in their order, as (name, value)."""

    def __init__(self, raw):
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        parts = first.split(" ", 2)
        self.first = parts + [""] * (3 - len(parts))
        self.headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines if ":" in line]

    def get(self, name, default=""):
        return next((value for key, value in self.headers if key.lower() == name), default)

    def set(self, name, value):
        """Replaces a header, or adds it; None removes it."""
        self.headers = [(key, old) for key, old in self.headers if key.lower() != name.lower()]
        if value is not None:
            self.headers.append((name, value))

    def map(self):
        return {name.lower(): value for name, value in self.headers}

    def encode(self):
        lines = [" ".join(self.first).rstrip(), *(f"{name}: {value}" for name, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def framing(self, bodyless=False, answer=False):
        """How the body is framed, for Wire.body."""
        if bodyless:
            return 0
        if "chunked" in self.get("transfer-encoding").lower():
            return "chunked"
        length = self.get("content-length")
        if length:
            return int(length)
        return "close" if answer else 0

    def closes(self):
        return "close" in self.get("connection").lower() or self.first[0] == "HTTP/1.0" or self.first[2] == "HTTP/1.0"
