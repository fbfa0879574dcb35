"""Borrows a server of TVM's RPC, and lets nothing wait for one without end.

TVM's own client tries for a minute where no tracker is, and waits for ever for a key that no server
has, or a server that says nothing. So the tracker is asked here, by its protocol (the docstring of
``tvm.rpc.tracker``), and the socket of TVM's client is given time limits of the system's.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tvm import rpc
from tvm.rpc import base

from tvm_vacc.errors import RequestError
from tvm_vacc.limits import RPC_CONNECT_SECONDS

_MAGIC = struct.pack("<i", base.RPC_TRACKER_MAGIC)
_FAULTS = (RuntimeError, OSError, ValueError, AttributeError, TypeError)
_CONNECTING = threading.Lock()


class RpcServer:
    """A server that works for one caller. Make it with `borrow_server`.

    Attributes:
        session: TVM's, whose calls belong inside of `answering`.
    """

    def __init__(
        self, place: str, session: rpc.RPCSession, line: socket.socket, timeout: int
    ) -> None:
        self.session = session
        self._place = place
        self._line = line
        self._timeout = timeout

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Tell in one line what goes wrong in the block, which calls the server.

        Raises:
            RequestError: the server is gone, or silent for too long, or refuses a call.
        """
        try:
            yield
        except _FAULTS as error:
            self.hang_up()
            if os.strerror(errno.EAGAIN) in str(error):
                raise RequestError(
                    f"the RPC server at {self._place} has not answered for {self._timeout} seconds",
                    "if its work takes longer, give more by --rpc-timeout",
                ) from error
            raise RequestError(
                f"the RPC server at {self._place} failed: {_reason(error)}",
                "see that it runs, with the same apache-tvm, on a processor that the artefact's "
                "target is for",
            ) from error

    def hang_up(self) -> None:
        """End the connection: what is still asked of the server fails at once."""
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)


@contextmanager
def borrow_server(host: str, port: int, key: str | None, timeout: int) -> Iterator[RpcServer]:
    """Have a server for the length of the block.

    Args:
        host: of the tracker.
        port: of the tracker.
        key: what the servers that will do call themselves there. None: there is no tracker, host
            and port are those of a server.
        timeout: seconds to wait for a server that is free, and for each of its answers.

    Raises:
        RequestError: tracker or server cannot be reached, no server has the key, or none is free.
    """
    found = (host, port, "") if key is None else _ask_tracker(host, port, key, timeout)
    session, line = _connect(*found)
    with line:
        interval = struct.pack("ll", timeout, 0)  # a timeval
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)
        server = RpcServer(f"{found[0]}:{found[1]}", session, line, timeout)
        try:
            yield server
            with suppress(*_FAULTS):  # what the caller has had of it is none the worse
                session.get_function("CloseRPCConnection")()
        finally:
            server.hang_up()


def _ask_tracker(host: str, port: int, key: str, timeout: int) -> tuple[str, int, str]:
    """Return host and port of a free server, and what it wants to hear. Errors: `borrow_server`."""
    waiting = False
    try:
        with socket.create_connection((host, port), RPC_CONNECT_SECONDS) as line:
            line.sendall(_MAGIC)
            if base.recvall(line, len(_MAGIC)) != _MAGIC:
                raise OSError("what answers is no tracker")
            base.sendjson(line, [base.TrackerCode.SUMMARY])
            servers = base.recvjson(line)[1]["server_info"]
            known = sorted({str(server["key"]).removeprefix("server:") for server in servers})
            if key in known:
                waiting = True
                line.settimeout(timeout)
                base.sendjson(line, [base.TrackerCode.REQUEST, key, "", 1])
                found_host, found_port, secret = base.recvjson(line)[1]
                return str(found_host), int(found_port), str(secret)
    except (OSError, OverflowError, ValueError, LookupError, TypeError) as error:
        if waiting and isinstance(error, TimeoutError):
            raise RequestError(
                f"no RPC server {key!r} of the tracker at {host}:{port} was free for {timeout} "
                "seconds",
                "start one more, or wait longer by --rpc-timeout",
            ) from None
        raise RequestError(
            f"no RPC tracker answers at {host}:{port}: {_reason(error)}",
            "start one: python -m tvm.exec.rpc_tracker",
        ) from None
    has = f"it has: {', '.join(known)}" if known else "it has none at all"
    raise RequestError(
        f"the RPC tracker at {host}:{port} has no server {key!r}, {has}",
        f"start one: python -m tvm.exec.rpc_server --tracker {host}:{port} --key {key}",
    )


def _connect(host: str, port: int, secret: str) -> tuple[rpc.RPCSession, socket.socket]:
    """Return a session and a duplicate of its socket. Errors: `borrow_server`."""
    sessions: list[rpc.RPCSession] = []
    reasons = [f"silent for {RPC_CONNECT_SECONDS:.0f} seconds"]

    def connect() -> None:
        try:
            sessions.append(rpc.connect(host, port, secret))
        except _FAULTS as error:
            reasons[:] = [_reason(error)]

    with _CONNECTING:
        before = _lines_to(host, port)
        # A server that works for somebody else takes the connection and says nothing; TVM's client
        # has no limit for that, and its socket is found once there is one.
        attempt = threading.Thread(target=connect, daemon=True)
        attempt.start()
        attempt.join(RPC_CONNECT_SECONDS)
        found = _lines_to(host, port)
    lines = [line for inode, line in found.items() if inode not in before]
    for line in (*before.values(), *(found[inode] for inode in before if inode in found)):
        line.close()
    if sessions and lines:
        return sessions[0], lines[0]
    for line in lines:
        with suppress(OSError), line:
            line.shutdown(socket.SHUT_RDWR)
    raise RequestError(
        f"no RPC server answers at {host}:{port}: {reasons[0]}",
        "see that it runs and works for nobody else, or start one: python -m tvm.exec.rpc_server",
    )


def _lines_to(host: str, port: int) -> dict[int, socket.socket]:
    """Return duplicates of this process's connections to an address, by inode."""
    lines: dict[int, socket.socket] = {}
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return lines
    peers = {entry[4][:2] for entry in entries}
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # it is closed by now, or not connected
            status = os.fstat(int(name))
            if not stat.S_ISSOCK(status.st_mode):
                continue
            line = socket.socket(fileno=os.dup(int(name)))
            try:
                if line.getpeername()[:2] in peers:
                    lines.setdefault(status.st_ino, line)
            finally:
                if lines.get(status.st_ino) is not line:
                    line.close()
    return lines


def _reason(error: BaseException) -> str:
    """Return the last line of an error's text: TVM puts a trace before it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{lines[-1].strip(' :'):.200}"
