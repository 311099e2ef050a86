"""Both ends of a tunnel: a target beside the agent, and callers of the server's port."""

import contextlib
import os
import socket
import struct
import threading

from .waiting import eventually

RESET = struct.pack("ii", 1, 0)


class Target:
    """A TCP service beside the agent. `serve(connection)` has each connection in a thread of its own."""

    def __init__(self, serve):
        self.serve = serve
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.ends = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection):
        with connection:
            try:
                self.serve(connection)
                self.ends.append("end")
            except OSError as error:
                self.ends.append(type(error).__name__)

    def close(self):
        self.listener.close()


def echo(connection):
    """Sends back what comes, until the other side has ended."""
    while data := connection.recv(65536):
        connection.sendall(data)


def read_all(connection):
    pieces = []
    while data := connection.recv(65536):
        pieces.append(data)
    return b"".join(pieces)


def connect(port, source="127.0.0.1"):
    """A connection to the server's end of a tunnel."""
    return socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0))


def reset(connection):
    """Ends a connection by a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


def exchange(connection, data):
    """Sends `data` and ends; what came back until the other side ended."""

    def send():
        # That it is cut is seen by whoever reads.
        with contextlib.suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    back = read_all(connection)
    sender.join()
    return back


def is_cut(connection, timeout=30):
    """Whether the connection ends by itself, one way or the other."""
    connection.settimeout(timeout)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def descriptors(process):
    """How many files a process has open."""
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def settle(process, before, slack):
    """Waits until a process has as many files open as before, or few more."""
    eventually(lambda: descriptors(process) <= before + slack, what=f"{before} open files again")


def is_turned_away(port, source="127.0.0.1"):
    """Whether a new connection ends at once: as soon as it is made, or while it is."""
    try:
        with connect(port, source) as connection:
            return is_cut(connection)
    except ConnectionResetError:
        return True


def listens(port):
    """Whether anybody takes connections at that port of the server."""
    try:
        connect(port).close()
    except ConnectionRefusedError:
        return False
    except ConnectionResetError:
        return True
    return True
