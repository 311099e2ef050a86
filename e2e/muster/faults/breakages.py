"""What breaks, and how it is well again."""

import contextlib
import time

# How long a link stays cut, and a disk full: longer than a first attempt to go on takes.
BROKEN_SECONDS = 2
# A link as thin as a bad mobile one. What a device fetches in the matrix takes seconds over it.
SLOW_BYTES_PER_SECOND = 60_000
DAY = 24 * 60 * 60


class Breakage:
    """One fault. `broken` holds while it lasts; what is in the cell's own hands goes on inside."""

    name = "?"
    engine = "postgres"
    has_own_clock = False
    has_small_disk = False

    @contextlib.contextmanager
    def broken(self, device):
        raise NotImplementedError
        yield


class KillServer(Breakage):
    name = "kill -9 server"

    @contextlib.contextmanager
    def broken(self, device):
        device.stand.server.kill9()
        yield
        device.stand.server.restart()


class KillServerSqlite(KillServer):
    name = "kill -9 server (SQLite)"
    engine = "sqlite"


class KillAgent(Breakage):
    name = "kill -9 agent"

    @contextlib.contextmanager
    def broken(self, device):
        device.kill_agent()
        yield
        device.start()


class LosePower(Breakage):
    name = "kill -9 agent and its steps"

    @contextlib.contextmanager
    def broken(self, device):
        device.lose_power()
        yield
        device.start()


class CutLink(Breakage):
    name = "cut the link"

    @contextlib.contextmanager
    def broken(self, device):
        device.stand.network.cut()
        yield
        last(BROKEN_SECONDS)
        device.stand.network.mend()


class SilentLink(Breakage):
    name = "silent link"

    @contextlib.contextmanager
    def broken(self, device):
        device.stand.network.fall_silent()
        yield
        last(BROKEN_SECONDS)
        # A link that was silent for long is never heard of again.
        device.stand.network.cut()
        device.stand.network.mend()


class SlowLink(Breakage):
    """Slow until the update has ended."""

    name = "slow link"

    @contextlib.contextmanager
    def broken(self, device):
        device.stand.network.slow_down(SLOW_BYTES_PER_SECOND)
        yield


class FullDisk(Breakage):
    name = "disk full"
    has_small_disk = True

    @contextlib.contextmanager
    def broken(self, device):
        filler = device.disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 65536)
        with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0")
        yield
        last(BROKEN_SECONDS)
        filler.unlink()


class RestartPostgres(Breakage):
    name = "PostgreSQL restarted"

    @contextlib.contextmanager
    def broken(self, device):
        device.stand.postgres.restart()
        yield


class Jump(Breakage):
    """The device's clock is another for the rest of its life."""

    has_own_clock = True
    seconds = 0

    @contextlib.contextmanager
    def broken(self, device):
        device.clock.jump(self.seconds)
        yield


class JumpForward(Jump):
    name = "device's clock a day on"
    seconds = DAY


class JumpBack(Jump):
    name = "device's clock a day back"
    seconds = -DAY


class ServerJump(Breakage):
    """The server's clock is another until the update has ended."""

    has_own_clock = True
    seconds = 0

    @contextlib.contextmanager
    def broken(self, device):
        device.stand.clock.jump(self.seconds)
        yield


class ServerJumpForward(ServerJump):
    name = "server's clock ten minutes on"
    seconds = 600


class ServerJumpBack(ServerJump):
    name = "server's clock ten minutes back"
    seconds = -600


def last(seconds):
    """The fault itself lasts; nothing is waited for."""
    time.sleep(seconds)


BREAKAGES = {
    kind.name: kind
    for kind in (
        KillServer, KillServerSqlite, KillAgent, LosePower, CutLink, SilentLink, SlowLink, FullDisk,
        RestartPostgres, JumpForward, JumpBack, ServerJumpForward, ServerJumpBack,
    )
}  # fmt: skip
