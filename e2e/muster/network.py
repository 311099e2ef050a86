"""The network of one device: all its connections go through it, and can be cut, slowed and held."""

import socket
import struct
import threading
import time

CHUNK_BYTES = 16 * 1024
# What is let through of an answer that is then held: its head, and a little more.
HELD_AFTER_BYTES = 4 * 1024
# Closing so sends a reset for what is still under way.
RESET = struct.pack("ii", 1, 0)


class Network:
    """What the device reaches, and how well."""

    def __init__(self):
        self._changed = threading.Condition()
        self._connections = set()
        self._listeners = []
        self._is_cut = False
        self._is_silent = False
        self._bytes_per_second = None
        self._held_word = None
        self._held = 0

    def to(self, port):
        """A port that leads to `port()` of 127.0.0.1, asked for each connection: a server may move."""
        listener = socket.create_server(("127.0.0.1", 0))
        self._listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener, port), daemon=True).start()
        return listener.getsockname()[1]

    def close(self):
        for listener in self._listeners:
            listener.close()
        self._cut_off()

    def cut(self):
        """Every connection is reset, and none is made, until `mend`."""
        self._set(_is_cut=True)
        self._cut_off()

    def fall_silent(self):
        """Nothing gets through, and nobody is told, until `mend`."""
        self._set(_is_silent=True)

    def slow_down(self, bytes_per_second):
        self._set(_bytes_per_second=bytes_per_second)

    def mend(self):
        self._set(_is_cut=False, _is_silent=False, _bytes_per_second=None)

    def hold(self, word):
        """The answers to requests in whose first bytes `word` stands stop in the middle, until `release`."""
        self._set(_held_word=word.encode(), _held=0)

    def release(self):
        self._set(_held_word=None)

    @property
    def is_holding(self):
        """Whether an answer has stopped in the middle since the last `hold`."""
        return self._held > 0

    def _set(self, **values):
        with self._changed:
            for name, value in values.items():
                setattr(self, name, value)
            self._changed.notify_all()

    def _cut_off(self):
        with self._changed:
            connections, self._connections = self._connections, set()
            self._changed.notify_all()
        for connection in connections:
            connection.reset()

    def _accept(self, listener, port):
        while True:
            try:
                client = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client, port), daemon=True).start()

    def _serve(self, client, port):
        connection = _Connection(client)
        try:
            if self._is_cut:
                raise ConnectionError("the link is cut")
            connection.server = socket.create_connection(("127.0.0.1", port()))
        except OSError:
            return connection.reset()
        with self._changed:
            self._connections.add(connection)
        upwards = threading.Thread(target=self._pump, args=(connection, connection.client, connection.server), daemon=True)
        upwards.start()
        self._pump(connection, connection.server, connection.client)
        upwards.join()
        with self._changed:
            self._connections.discard(connection)
        connection.close()

    def _pump(self, connection, source, sink):
        passed = 0
        try:
            while data := source.recv(CHUNK_BYTES):
                if source is connection.client:
                    connection.asked = (connection.asked + data)[:256]
                elif self._is_held(connection):
                    head = data[: max(HELD_AFTER_BYTES - passed, 0)]
                    sink.sendall(head)
                    passed, data = passed + len(head), data[len(head) :]
                    if data:
                        self._await_release(connection)
                self._await_passage(connection, len(data))
                sink.sendall(data)
                passed += len(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            connection.reset()

    def _is_held(self, connection):
        word = self._held_word
        return word is not None and word in connection.asked

    def _await_release(self, connection):
        with self._changed:
            self._held += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._is_held(connection) or connection.is_over)

    def _await_passage(self, connection, bytes_count):
        with self._changed:
            self._changed.wait_for(lambda: not self._is_silent or connection.is_over)
            pause = bytes_count / self._bytes_per_second if self._bytes_per_second else 0
        # Slowness itself, and no waiting for anything.
        time.sleep(pause)


class _Connection:
    """Two sockets, and the first words that the device said."""

    def __init__(self, client):
        self.client, self.server = client, None
        self.asked = b""
        self.is_over = False

    def reset(self):
        self.is_over = True
        for end in (self.client, self.server):
            if end is not None:
                try:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    # Wakes the thread that reads from it; closing alone would not.
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.close()

    def close(self):
        self.is_over = True
        for end in (self.client, self.server):
            if end is not None:
                end.close()
