"""Processes that a launcher started: the first one does the command, and the others do what it shares with them.

Each is started with the whole command. The first one opens the run, decides, prints and writes. Where it comes to a
work for several, such as a training, it sends that work to the others, which otherwise wait. So a stage is the same
code whoever started its processes, and no two of them write to a file.

Each of the others keeps a connection to the first one. The system closes it when a process ends, however that happens.
So a process that is killed ends all others, even while they do not compute together.
"""

import json
import os
import secrets
import selectors
import signal
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from gcl_custom import console, threads
from gcl_custom.errors import Stopped, UserError
from gcl_custom.launcher import Launch
from gcl_custom.training import processes
from gcl_custom.training.processes import Report
from gcl_custom.training.quiet_lightning import hush

if TYPE_CHECKING:
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

Item = TypeVar("Item")
Made = TypeVar("Made")
MEETING = timedelta(minutes=5)
"""How long processes wait for one another to start."""
WAITING = timedelta(days=100)
"""How long they wait for one that works: packing may take hours, and one that is dead is noticed by its connection."""
GRACE = 5.0
"""Seconds in which a process that lost another one may end by itself."""
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
"""A machine without a sign for 30 seconds is taken for dead."""


class Connections:
    """Connections to other processes. A thread notes when one ends, and then ends this process, too.

    A process that fails says why into them.

    Args:
        sockets: number of a process -> the connection to it.
        hosts: number of a process -> its machine, for messages.
        speaks: whether this process says what it notes.
    """

    def __init__(self, sockets: Mapping[int, socket.socket], hosts: Mapping[int, str], speaks: bool) -> None:
        self._sockets, self._hosts, self._speaks = sockets, hosts, speaks
        self._lost: dict[int, Report | None] = {}
        self._noticed = threading.Event()
        self.closing = False
        """Whether this process ends by itself."""
        for connection in sockets.values():
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in KEEPALIVE.items():
                if hasattr(socket, name):
                    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        threading.Thread(target=self._watch, daemon=True).start()

    def report(self, report: Report) -> None:
        """Tell the others why this process ends."""
        self.closing = True
        for connection in self._sockets.values():
            with suppress(OSError):  # it may be that one which is gone
                connection.sendall(f"{json.dumps(report)}\n".encode())

    def cause(self) -> Exception | None:
        """Why another process ended; None if none does so within a few seconds."""
        if not self._noticed.wait(GRACE):
            return None
        time.sleep(GRACE / 5)  # meanwhile those report that only lost this one
        lost = dict(self._lost)
        silent = [rank for rank, report in lost.items() if report is None]
        killed = f"(number {silent[0]}, on {self._hosts[silent[0]]})" if silent else None
        return processes.cause([report for report in lost.values() if report], killed)

    def say(self) -> None:
        """Say why another process ended. If the first one did so by itself, it has said that."""
        cause = self.cause()
        if self._speaks and cause and self._lost.get(0) is None:
            print(f"error: {cause}", file=sys.stderr, flush=True)

    def _watch(self) -> None:
        said: dict[int, bytes] = defaultdict(bytes)
        with selectors.DefaultSelector() as selector:
            for rank, connection in self._sockets.items():
                selector.register(connection, selectors.EVENT_READ, rank)
            while selector.get_map():
                for key, _ in selector.select():
                    rank, connection = key.data, self._sockets[key.data]
                    try:
                        part = connection.recv(2**16)
                    except OSError:  # reset, or no sign of the machine
                        part = b""
                    said[rank] += part
                    if b"\n" in part or not part:
                        self._note(rank, said[rank])
                    if not part:
                        selector.unregister(connection)

    def _note(self, rank: int, said: bytes) -> None:
        if rank not in self._lost:
            self._lost[rank] = (*json.loads(said),) if said.endswith(b"\n") else None
            if not self._noticed.is_set():
                self._noticed.set()
                threading.Thread(target=self._end, daemon=True).start()

    def _end(self) -> None:
        """End this process, unless it does so by itself, as where it computes with the one that is lost."""
        time.sleep(GRACE)
        if not self.closing:
            self.say()
            os._exit(1)


@dataclass
class _Team:
    launch: Launch
    connections: Connections
    folder: str
    """Where the first process works: paths are relative to it."""
    working: bool = False
    """Whether a work that all share has begun and not ended."""


_team: _Team | None = None


def join(launch: Launch) -> None:
    """Meet the other processes of a launch.

    Raises:
        UserError: not all came, or they cannot reach one another.
    """
    global _team
    hush()
    view = _environment(launch.by)
    address, port = view.main_address, view.main_port
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = address, str(port)
    try:
        store, *_ = next(rendezvous("env://", launch.rank, launch.processes, timeout=MEETING))
        connections, folder = _accepted(launch, store) if launch.rank == 0 else _connected(launch, store, address)
        if torch.cuda.is_available():
            torch.cuda.set_device(launch.local_rank % torch.cuda.device_count())
        # Both: what is said of works travels between CPUs, gradients between GPUs.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(
            backend,
            store=PrefixStore("group", store),
            rank=launch.rank,
            world_size=launch.processes,
            timeout=WAITING,
        )
    except (RuntimeError, OSError) as error:
        why = str(error).strip().splitlines()[0][:200]
        raise UserError(
            f"The {launch.processes} processes that {launch.by} started did not find one another ({why}). Each has to "
            f"reach {address}, ports from 1024 on; of several networks, name one: export GLOO_SOCKET_IFNAME=DEVICE"
        ) from None
    processes.part_at_exit()
    processes.work_apart()
    _team = _Team(launch, connections, folder)


def _environment(by: str) -> "ClusterEnvironment":
    # Here, since Lightning takes seconds to import.
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    return TorchElasticEnvironment() if by == "torchrun" else SLURMEnvironment(auto_requeue=False)


def environment() -> "ClusterEnvironment":
    """Lightning's view of the launcher."""
    assert _team is not None
    return _environment(_team.launch.by)


def _accepted(launch: Launch, store: Store) -> tuple[Connections, str]:
    """Connections to all others, in the first process, and where it works."""
    both = socket.has_dualstack_ipv6()
    family, folder = socket.AF_INET6 if both else socket.AF_INET, str(Path.cwd())
    with socket.create_server(("", 0), family=family, dualstack_ipv6=both, backlog=launch.processes) as server:
        server.settimeout(MEETING.total_seconds())
        token = secrets.token_hex()
        store.set("first", json.dumps([server.getsockname()[1], token, socket.gethostname(), folder]))
        sockets: dict[int, socket.socket] = {}
        hosts: dict[int, str] = {}
        while len(sockets) < launch.processes - 1:
            connection, _ = server.accept()
            connection.settimeout(MEETING.total_seconds())
            with connection.makefile("rb") as file:
                given, rank, host = json.loads(file.readline(2**10) or "[0, 0, 0]")
            if given == token:  # else it is a stranger
                sockets[rank], hosts[rank] = connection, host
    return Connections(sockets, hosts, speaks=True), folder


def _connected(launch: Launch, store: Store, address: str) -> tuple[Connections, str]:
    """The connection to the first process, in another one, and where that one works."""
    port, token, host, folder = json.loads(store.get("first"))
    connection = socket.create_connection((address, port), timeout=MEETING.total_seconds())
    connection.sendall(f"{json.dumps([token, launch.rank, socket.gethostname()])}\n".encode())
    return Connections({0: connection}, {0: host}, speaks=launch.rank == 1), folder


def started() -> Launch | None:
    """The launch that was joined."""
    return _team.launch if _team else None


def leads() -> bool:
    """Whether this is the first of several processes that a launcher started, and the others wait for a work."""
    return _team is not None and _team.launch.rank == 0 and not _team.working


def broken() -> bool:
    """Whether a work that launched processes share has failed; they are about to end."""
    return _team is not None and _team.working


@contextmanager
def sharing(work: Callable[..., object], *arguments: Any) -> Iterator[None]:
    """Let all others do a work, while this process does its own part within.

    Raises:
        UserError: as one of them raised it, or one was killed.
        RuntimeError: a mistake of ours in another process.
    """
    assert _team is not None
    _team.working = True
    before = torch.get_num_threads()
    # A stage's number is of a machine, and the user's that of a process. All take the same, so that bytes do not depend
    # on which process makes them.
    each = before if threads.GIVEN else max(1, before * _team.launch.nodes // _team.launch.processes)
    try:
        with processes.together():
            distributed.broadcast_object_list([(work, arguments, each)])
            torch.set_num_threads(each)
            yield
            distributed.barrier()
    except Exception as error:
        kind, _ = processes.report_of(error)
        if kind != "mendable":
            for number in (signal.SIGTERM, signal.SIGINT):  # torchrun sends one as soon as another process is gone
                signal.signal(number, signal.SIG_IGN)
            if cause := _team.connections.cause():
                raise cause from None
        raise
    finally:
        torch.set_num_threads(before)
    _team.working = False


def shared(make: Callable[[Sequence[Item]], Iterator[Made]], items: Sequence[Item]) -> Iterator[Made]:
    """What is made of each item, in their order. Launched processes that wait for a work share the items.

    Without a launcher, or within a work that is shared already, this process does all: to start others would take
    longer than what this is used for.

    Args:
        make: yields what it makes of each of the items that one process gets. Picklable, as the items are.
    """
    if not leads():
        yield from make(items)
        return
    with sharing(_others_make, make, items):
        yield from _in_turn(make, items)


def sent(network: nn.Module) -> nn.Module:
    """A network that will be sent to other processes, if there are any: off its device, which they may not have."""
    return network.cpu() if leads() else network


def _in_turn(make: Callable[[Sequence[Item]], Iterator[Made]], items: Sequence[Item]) -> Iterator[Made]:
    """What all processes make, in the first one. Each makes that of every n-th item, with n processes."""
    rank, count = processes.rank(), processes.count()
    own = make(items[rank::count])
    for first in range(0, len(items), count):
        made = processes.gathered(next(own) if first + rank < len(items) else None)
        yield from (one for one in made[: len(items) - first] if one is not None)


def _others_make(make: Callable[[Sequence[Item]], Iterator[Made]], items: Sequence[Item]) -> None:
    for _ in _in_turn(make, items):
        raise AssertionError("what is made goes to the first process")


def follow() -> int:
    """Do what the first process shares, until that ends.

    Returns:
        The exit code, which is that of the first process.
    """
    assert _team is not None
    console.console.quiet = True
    for number in (signal.SIGTERM, signal.SIGINT):  # the first process gets them, too, and saves
        signal.signal(number, signal.SIG_IGN)
    try:
        _enter(_team.folder)
        with processes.together():
            while not isinstance(message := _received(), int):
                work, arguments, each = message
                torch.set_num_threads(each)
                work(*arguments)
                distributed.barrier()
    except Exception as error:  # noqa: BLE001  each is reported, and ends the process
        report = processes.report_of(error)
        _team.connections.report(report)
        if report[0] == "lost another":
            _team.connections.say()
        return 1
    _team.connections.closing = True
    return message


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise UserError(
            f"{socket.gethostname()} cannot work in {folder}, where the first process works ({error.strerror}). All "
            f"machines have to see it under this path, on a disk that they share"
        ) from None


def _received() -> tuple[Callable[..., object], Sequence[Any], int] | int:
    """A work, its arguments and the number of threads, or the exit code at the end."""
    box: list[Any] = [None]
    distributed.broadcast_object_list(box)
    found: tuple[Callable[..., object], Sequence[Any], int] | int = box[0]
    return found


@contextmanager
def leading() -> Iterator[None]:
    """Let the others end when this process does, with its exit code."""
    assert _team is not None
    code = 1
    try:
        yield
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        raise
    except Stopped as stopped:
        code = 128 + stopped.signal
        raise
    finally:
        _team.connections.closing = True
        if _team.working:
            _team.connections.report(("lost another", "the first process has failed"))
        else:
            with processes.together(), suppress(RuntimeError):  # of one that has just been killed
                distributed.broadcast_object_list([code])
