# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What runs in the background: started, found again by later commands, and stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TextIO

from rigs.cloud import waiting
from rigs.cloud.layout import Cloud, CloudError, tail, write

#: Seconds that a process has to end after SIGTERM.
GRACE = 50.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Service:
    """A process that the cloud is made of.

    :param name: also of its log
    :param command: what to run; it must stay in the foreground
    :param environ: added to the environment
    :param reads: the files whose change asks for a restart
    :param skips: what is not for it in the configuration files among them: sections, or
        ``section.option``
    :param ready: tells when it can be used
    :param limit: seconds until it must be ready
    """

    name: str
    command: Sequence[str]
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)
    reads: Sequence[pathlib.Path] = ()
    skips: Sequence[str] = ()
    ready: waiting.Check | None = None
    limit: float = 90.0

    def digest(self) -> str:
        """Changes with whatever makes a restart necessary."""
        digest = hashlib.sha256(json.dumps([self.command, sorted(self.environ.items())]).encode())
        for path in self.reads:
            text = path.read_text()
            digest.update((self._read_of(text) if path.suffix == ".conf" else text).encode())
        return digest.hexdigest()

    def _read_of(self, text: str) -> str:
        """What a service reads of a configuration file, as :func:`configuration.ini` writes it."""
        section, kept = "", []
        for line in text.splitlines():
            if line.startswith("["):
                section = line.strip("[]")
            option = f"{section}.{line.partition(' = ')[0]}"
            if section not in self.skips and option not in self.skips:
                kept.append(line)
        return "\n".join(kept)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process:
    """One that was started, as its pid file has it.

    A pid alone would be no proof, since Linux hands them out again; with the time of its start
    and the boot it is.
    """

    name: str
    pid: int
    started: int
    boot: str
    digest: str
    #: How long its log was before, in bytes.
    logged: int = 0

    def alive(self) -> bool:
        return self.boot == _boot() and _started(self.pid) == self.started

    def members(self) -> list[int]:
        """The processes of its session, itself included, those that outlived it too.

        As long as one of them lives, Linux gives the session's number to nobody else.
        """
        if self.boot != _boot() or _started(self.pid) not in (None, self.started):
            return []
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                fields = _stat(int(entry))
                if fields and int(fields[3]) == self.pid and fields[0] not in "ZX":
                    found.append(int(entry))
        return found

    def memory(self) -> int:
        """Bytes of its session's own memory and its share of what is shared (PSS)."""
        total = 0
        for pid in self.members():
            with contextlib.suppress(OSError, IndexError, ValueError):
                for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
        return total

    def age(self) -> float:
        """Seconds since its start."""
        uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
        return uptime - self.started / os.sysconf("SC_CLK_TCK")


class Supervisor:
    """Starts and stops services, remembers them in pid files.

    :param cloud: whose services they are
    """

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._run = cloud / "run"

    def log(self, name: str) -> pathlib.Path:
        return self._cloud / f"log/{name}.log"

    def known(self) -> list[Process]:
        """All that have a pid file, alive or not, the first to be started first."""
        found = [self.find(path.stem) for path in self._run.glob("*.json")]
        return sorted((p for p in found if p is not None), key=lambda p: (p.started, p.pid))

    def find(self, name: str) -> Process | None:
        """The process of a name, alive or not; None if it was never started or was stopped."""
        try:
            return Process(**json.loads((self._run / f"{name}.json").read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise CloudError(f"pid file of {name}: {error}") from error

    def start(self, services: Sequence[Service], *, kill: bool = False) -> list[str]:
        """Start services unless they run as they should; what is out of date is restarted.

        :param kill: do not ask those that are restarted to end
        :returns: the names of those that were started
        """
        digests = {service.name: service.digest() for service in services}
        known = {name: found for name in digests if (found := self.find(name)) is not None}
        good = {p.name for p in known.values() if p.alive() and p.digest == digests[p.name]}
        missing = {service.name: service for service in services if service.name not in good}
        for name, service in missing.items():
            if name not in known:
                self._start(service, digests[name])
        # The first that ends starts again while others take seconds to end.
        old = [known[name] for name in missing if name in known]
        for process in self._stopped(old, kill=kill):
            self._start(missing[process.name], digests[process.name])
        return list(missing)

    def _start(self, service: Service, digest: str) -> None:
        log = self.log(service.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        self._run.mkdir(parents=True, exist_ok=True)
        environ = {**os.environ, **service.environ}
        with open(log, "ab") as output:
            logged = output.tell()
            child = subprocess.Popen(
                service.command,
                cwd=self._cloud.data,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A terminal's Ctrl-C is for tools/cloud, not for what it has started.
                start_new_session=True,
            )
        started = _started(child.pid)
        if started is None:
            raise CloudError(self._ended(service.name))
        process = Process(
            name=service.name,
            pid=child.pid,
            started=started,
            boot=_boot(),
            digest=digest,
            logged=logged,
        )
        write(self._run / f"{service.name}.json", json.dumps(dataclasses.asdict(process)))

    def logged(self, name: str, words: str) -> int:
        """How many lines of its log have these words since a service was started."""
        process = self.find(name)
        if process is None:
            return 0
        with contextlib.suppress(FileNotFoundError), open(self.log(name), "rb") as file:
            file.seek(process.logged)
            return sum(words.encode() in line for line in file)
        return 0

    def wait(self, services: Sequence[Service]) -> None:
        """Wait until services are ready.

        :raises CloudError: one has ended, or takes too long
        """
        for service in services:
            if service.ready is not None:
                waiting.until(
                    f"{service.name} {service.ready.what}",
                    service.ready.met,
                    limit=service.limit,
                    alive=functools.partial(self.check_alive, [service.name]),
                    problem=functools.partial(self._last_lines, service.name),
                )

    def check_alive(self, names: Iterable[str]) -> None:
        """Make sure that nobody waits for what has ended.

        :raises CloudError: one has, with the end of its log
        """
        for name in names:
            process = self.find(name)
            if process is None or not process.alive():
                raise CloudError(self._ended(name))

    def _ended(self, name: str) -> str:
        return f"{name} has ended.\n{self._last_lines(name)}"

    def _last_lines(self, name: str) -> str:
        lines = "\n".join(f"  {line}" for line in tail(self.log(name), 15))
        return f"{lines}\nThe end of its log is above, all of it in {self.log(name)}."

    def stop(
        self, processes: Sequence[Process], *, grace: float = GRACE, kill: bool = False
    ) -> None:
        """End processes and whatever they have left behind in their sessions.

        :param grace: seconds they have to end by themselves, together
        :param kill: do not ask, as if the machine had failed
        """
        for _ in self._stopped(processes, grace=grace, kill=kill):
            pass

    def _stopped(
        self, processes: Sequence[Process], *, grace: float = GRACE, kill: bool = False
    ) -> Iterator[Process]:
        """End processes, as :meth:`stop` does; yield each when it has ended."""
        for process in processes:
            # Those that are told first may need the others, so each is only told here.
            if process.alive():
                _signal(process.pid, signal.SIGKILL if kill else signal.SIGTERM)
        deadline = time.monotonic() + (0 if kill else grace)
        left = list(processes)
        while left:
            late = time.monotonic() >= deadline
            for process in [one for one in left if late or not one.alive()]:
                left.remove(process)
                if process.alive() and not kill:
                    print(
                        f"{process.name} did not end within {grace:.0f} s: killed", file=sys.stderr
                    )
                self._end_session(process)
                yield process
            if left:
                time.sleep(0.05)

    def _end_session(self, process: Process) -> None:
        """Kill what is left of a process, and forget it."""
        for _ in range(100):
            members = process.members()
            if not members:
                break
            for pid in members:
                _signal(pid, signal.SIGKILL)
            time.sleep(0.05)
        (self._run / f"{process.name}.json").unlink(missing_ok=True)


@contextlib.contextmanager
def locked(cloud: Cloud) -> Iterator[None]:
    """Keep other runs of tools/cloud away while services come and go."""
    with _locked(cloud / "cloud.lock"):
        yield


@contextlib.contextmanager
def programs_locked(cloud: Cloud) -> Iterator[None]:
    """Keep other runs of tools/cloud away, of the other cloud too, while programs are fetched."""
    with _locked(cloud.programs / "programs.lock"):
        yield


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(path, "w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("Waiting for another run of tools/cloud (at most 10 minutes) ...", flush=True)
            waiting.until("the other run to end", lambda: _try_lock(held), limit=600, quiet=True)
        yield


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on; None if there is no such process."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in brackets, which may have brackets and blanks.
    return text.rpartition(")")[2].split()


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if it does not run."""
    fields = _stat(pid)
    # Where nobody collects orphans, as in many containers, they stay as zombies.
    if fields is None or fields[0] in "ZX":
        return None
    return int(fields[19])


def _boot() -> str:
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
