"""One request on a connection of its own that can be left at any moment: HTTP/1.1 and HTTP/2.

Written on bare sockets, so that a client that goes is exactly that: a closed connection (FIN), a
reset one (RST), or a cancelled stream. Knows no route.
"""

import json
import socket
import struct

# Statuses of HPACK's static table, from index 8 on (RFC 7541, appendix A).
STATIC_STATUSES = (200, 204, 206, 304, 400, 404, 500)
STATUS_INDEX = 8

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20


class Gone(Exception):
    """The server went away before its answer."""


class Request:
    """A sent request. `answer` waits for status and body; the others leave."""

    def __init__(self, port, method, path, body=None, headers=None, timeout_s=60):
        self.connection = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        headers = {"content-type": "application/json"} | (headers or {})
        if body is None:
            body = b""
        elif not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send(method, path, headers, body)

    def answer(self):
        """Status and body. Raises `Gone`; `TimeoutError` where nothing comes."""
        try:
            return self.read()
        except TimeoutError:
            raise
        except (OSError, IndexError, ValueError) as error:
            raise Gone(str(error)) from error
        finally:
            self.connection.close()

    def close(self):
        """Goes as a client does that has given up: FIN."""
        self.connection.close()

    def reset(self):
        """Goes as a client does that was killed by a firewall: RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


class Http1(Request):
    """A request over HTTP/1.1."""

    def send(self, method, path, headers, body):
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head += f"content-length: {len(body)}\r\n\r\n"
        self.connection.sendall(head.encode() + body)

    def read(self):
        data = b""
        while piece := self.connection.recv(1 << 16):
            data += piece
        head, end, body = data.partition(b"\r\n\r\n")
        if not end:
            raise ValueError("no answer")
        lines = head.decode().lower().split("\r\n")
        fields = dict(line.split(":", 1) for line in lines[1:])
        if fields.get("transfer-encoding", "").strip() == "chunked":
            body = unchunked(body)
        elif len(body) != int(fields.get("content-length", len(body))):
            raise ValueError("half an answer")
        return int(lines[0].split(" ")[1]), body


def unchunked(data):
    body = b""
    while True:
        size, end, data = data.partition(b"\r\n")
        if not end:
            raise ValueError("no last chunk")
        length = int(size, 16)
        if length == 0:
            return body
        body, data = body + data[:length], data[length + 2 :]


class HalfHead(Http1):
    """A request that ends within its head."""

    def send(self, method, path, headers, body):
        self.connection.sendall(f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n".encode())


class Http2(Request):
    """A request over HTTP/2 without TLS, by prior knowledge."""

    def send(self, method, path, headers, body):
        fields = {":method": method, ":scheme": "http", ":path": path, ":authority": "127.0.0.1"}
        fields |= headers | {"content-length": str(len(body))}
        block = b"".join(
            b"\0" + hpack_text(name) + hpack_text(str(value)) for name, value in fields.items()
        )
        frames = PREFACE + frame(SETTINGS) + frame(HEADERS, END_HEADERS, 1, block)
        pieces = [body[at : at + 16384] for at in range(0, len(body), 16384)] or [b""]
        for piece in pieces[:-1]:
            frames += frame(DATA, 0, 1, piece)
        self.connection.sendall(frames + frame(DATA, END_STREAM, 1, pieces[-1]))

    def read(self):
        status, body = None, b""
        while True:
            kind, flags, stream, content = self.next_frame()
            if kind == SETTINGS and not flags & ACK:
                self.connection.sendall(frame(SETTINGS, ACK))
            elif kind == PING and not flags & ACK:
                self.connection.sendall(frame(PING, ACK, 0, content))
            elif kind == HEADERS and stream == 1:
                status = status or status_of(unpadded(content, flags))
            elif kind == DATA and stream == 1:
                body += unpadded(content, flags)
                if content:
                    room = struct.pack(">I", len(content))
                    windows = frame(WINDOW_UPDATE, 0, 0, room) + frame(WINDOW_UPDATE, 0, 1, room)
                    self.connection.sendall(windows)
            elif kind == RST_STREAM and stream == 1:
                raise ValueError("the stream was reset")
            elif kind == GOAWAY and struct.unpack(">I", content[4:8])[0] != 0:
                raise ValueError("the server said goodbye")
            if stream == 1 and kind in (HEADERS, DATA) and flags & END_STREAM:
                return status, body

    def next_frame(self):
        head = self.exactly(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        return kind, flags, int.from_bytes(head[5:], "big") & 0x7FFFFFFF, self.exactly(length)

    def exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.connection.recv(count - len(data))
            if not piece:
                raise ValueError("the connection ended")
            data += piece
        return data

    def cancel(self):
        """Cancels the stream and keeps the connection, as a client with a pool does."""
        self.connection.sendall(frame(RST_STREAM, 0, 1, struct.pack(">I", 8)))


def frame(kind, flags=0, stream=0, content=b""):
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def hpack_text(text):
    """A text without compression: its length in a prefix of seven bits, then its bytes."""
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, length = len(data) - 127, b"\x7f"
    while rest >= 128:
        length += bytes([rest % 128 + 128])
        rest //= 128
    return length + bytes([rest]) + data


def unpadded(content, flags):
    if flags & PADDED:
        content = content[1 : len(content) - content[0]]
    return content[5:] if flags & PRIORITY else content


def status_of(block):
    """The status, which comes first in a block of header fields."""
    while block[0] & 0xE0 == 0x20:  # a change of the table's size
        block = block[1:]
    if block[0] & 0x80:
        return STATIC_STATUSES[(block[0] & 0x7F) - STATUS_INDEX]
    mask = 0x3F if block[0] & 0x40 else 0x0F
    if block[0] & mask != STATUS_INDEX:
        raise ValueError("no status at the begin of the header fields")
    length, data = block[1] & 0x7F, block[2 : 2 + (block[1] & 0x7F)]
    return int(huffman_digits(data, 3) if block[1] & 0x80 else data[:length])


def huffman_digits(data, count):
    """Digits in HPACK's Huffman code: 0 to 2 have five bits, the others six."""
    bits = "".join(f"{byte:08b}" for byte in data)
    short = {"00000": "0", "00001": "1", "00010": "2"}
    long = {f"{0b011001 + digit - 3:06b}": str(digit) for digit in range(3, 10)}
    text = ""
    while len(text) < count:
        digit, width = (short[bits[:5]], 5) if bits[:5] in short else (long[bits[:6]], 6)
        text, bits = text + digit, bits[width:]
    return text


# ways to go, by name: the kind of request and the method that leaves
WAYS_TO_GO = {
    "HTTP/1.1, closed": (Http1, Http1.close),
    "HTTP/1.1, reset": (Http1, Http1.reset),
    "HTTP/2, closed": (Http2, Http2.close),
    "HTTP/2, stream cancelled": (Http2, Http2.cancel),
}
