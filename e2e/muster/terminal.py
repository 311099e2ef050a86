"""A WebSocket, by hand: as a browser has it, and slow where a test wants that."""

import base64
import json
import os
import socket
import struct
import threading
import urllib.parse

from .waiting import eventually

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Refused(Exception):
    """The handshake was answered with another status."""

    def __init__(self, status):
        super().__init__(status)
        self.status = status


class Terminal:
    """A terminal, or what a watcher sees of one. A thread gathers what comes."""

    def __init__(self, url, token, path, as_browser=False, reads=True):
        host = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((host.hostname, host.port), timeout=30)
        borne = f"Authorization: Bearer {token}"
        if as_browser:
            borne = f"Sec-WebSocket-Protocol: muster.terminal.v1, muster.bearer.{token}"
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
            f"{borne}\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.socket.recv(1)
            if not piece:
                raise ConnectionError(head)
            head += piece
        self.head = head.decode()
        status = int(head.split(b" ")[1])
        if status != 101:
            self.socket.close()
            raise Refused(status)
        self.shown, self.said, self.is_over = b"", [], threading.Event()
        self.socket.settimeout(None)
        if reads:
            self.read()

    def read(self):
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            while True:
                kind, payload = self._frame()
                if kind == BINARY:
                    self.shown += payload
                elif kind == TEXT:
                    self.said.append(json.loads(payload))
                elif kind == CLOSE:
                    break
        except OSError:
            pass
        self.is_over.set()

    def _exactly(self, length):
        pieces = b""
        while len(pieces) < length:
            piece = self.socket.recv(length - len(pieces))
            if not piece:
                raise ConnectionError
            pieces += piece
        return pieces

    def _frame(self):
        first, length = self._exactly(2)
        if length == 126:
            (length,) = struct.unpack("!H", self._exactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._exactly(8))
        return first & 15, self._exactly(length)

    def _send(self, kind, payload):
        mask, length = os.urandom(4), len(payload)
        head = bytes([0x80 | kind]) + (bytes([0x80 | length]) if length < 126 else b"\xfe" + struct.pack("!H", length))
        self.socket.sendall(head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)))

    def type(self, text):
        self._send(BINARY, text.encode())

    def say(self, **message):
        self._send(TEXT, json.dumps(message).encode())

    def run(self, command, until):
        """Types a command and waits until `until` is shown behind it."""
        seen = len(self.shown)
        self.type(command + "\n")
        eventually(lambda: until.encode() in self.shown[seen:], what=f"{until!r} in {self.shown[seen:]!r}")

    def end(self, timeout=30):
        """What was said at the end."""
        assert self.is_over.wait(timeout), f"it goes on: {self.shown!r}"
        return self.said[-1] if self.said else None

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
