# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Make the virtual environments of tools/*.sh and .ci/run, and keep them.

An environment is used again as long as what it was made from has not changed. Most test the
working tree, never a copy: our package is on their path, and the shim is linked beside Nova's
drivers. Only the standard library is used here.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import enum
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping, Sequence

from rigs import releases

ROOT = pathlib.Path(__file__).resolve().parents[1]
#: What our own environments are made from.
_OURS = {
    "test": ("requirements.txt", "test-requirements.txt"),
    "check": ("requirements.txt", ".ci/requirements.txt", "doc/requirements.txt"),
    "page": ("requirements.txt", "tests/page/requirements.txt"),
    "mutants": ("requirements.txt", "rigs/mutants/requirements.txt"),
}
#: Those that our package does not get into: mutants are made of a copy.
_WITHOUT_US = ("mutants",)
#: What our own metadata (version, requirements, entry points) is made from.
_METADATA = ("setup.cfg", "setup.py", "pyproject.toml", "requirements.txt")
#: What else is in our wheel.
_CODE = ("nova_devcompat", "shim")
#: Outside a terminal, seconds between two lines of progress.
PULSE = 10


class InstallError(Exception):
    """pip failed; the text is what to show."""


class Project(enum.Enum):
    """How our package gets into an environment."""

    #: The working tree is on the path.
    TREE = enum.auto()
    #: A wheel is built from the tree and installed; nothing of the tree is on the path.
    WHEEL = enum.auto()
    #: Not at all.
    NONE = enum.auto()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Environment:
    """A virtual environment, and what it is made from.

    :ivar name: of its folder, which gets the version of Python added
    :ivar requirements: files for ``pip -r``, from the top of our tree; one has pbr and setuptools
    :ivar constraints: likewise, for ``pip -c``
    :ivar home: the folder that it is in; None: ``$NOVA_DEVCOMPAT_VENVS``, else ``.venvs`` here
    :ivar environ: what pip gets beside this process's own variables
    :ivar project: how our package gets there
    """

    name: str
    requirements: tuple[str, ...]
    constraints: str
    home: pathlib.Path | None = None
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)
    project: Project = Project.TREE

    @property
    def path(self) -> pathlib.Path:
        """Its folder."""
        home = self.home or pathlib.Path(os.environ.get("NOVA_DEVCOMPAT_VENVS") or ROOT / ".venvs")
        return home / f"{self.name}-{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def python(self) -> pathlib.Path:
        return self.path / "bin" / "python"


def environment(name: str, release: str = releases.DEFAULT) -> Environment:
    """One of our own environments.

    :param name: ``test``, ``check``, ``page`` or ``mutants``
    :param release: as :func:`releases.find` takes it
    :raises releases.UnknownRelease: there is no such release
    """
    found = releases.find(release)
    return Environment(
        name=name if found.name == releases.DEFAULT else f"{name}-{found.name}",
        requirements=_OURS[name],
        constraints=found.constraints,
        project=Project.NONE if name in _WITHOUT_US else Project.TREE,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the path of the environment's python on stdout; everything else goes to stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("name", nargs="?", choices=sorted(_OURS))
    what.add_argument(
        "--link-shim", metavar="PYTHON", type=pathlib.Path, help="only do this, for tox"
    )
    parser.add_argument(
        "--nova", metavar="RELEASE", default=releases.DEFAULT, help="2025.1 or 31, for example"
    )
    arguments = parser.parse_args(argv)
    # For this process alone: what it starts finds its modules by itself.
    os.environ.pop("PYTHONPATH", None)
    if arguments.link_shim:
        _link_shim(arguments.link_shim)
        return 0
    try:
        print(ensure(environment(arguments.name, arguments.nova)))
    except releases.UnknownRelease as error:
        parser.error(str(error))
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the next run starts this environment afresh.", file=sys.stderr)
        return 130
    return 0


def ensure(environment: Environment) -> pathlib.Path:
    """Make an environment unless it is there and current.

    :returns: the path of its python
    :raises InstallError: when pip fails; the next call starts afresh
    """
    env = environment.path
    env.parent.mkdir(parents=True, exist_ok=True)
    with _lock(env.with_name(f"{env.name}.lock")):
        dependencies = _digest(environment.constraints, *environment.requirements)
        project = _digest(*_sources(environment.project))
        stamp = _Stamp(env / "nova-devcompat-stamp.json")
        if stamp.read("dependencies") != dependencies or not _runs(environment.python):
            _install_dependencies(environment)
            stamp.write(dependencies=dependencies)
        if stamp.read("project") != project:
            _install_project(environment)
            stamp.write(dependencies=dependencies, project=project)
        if environment.project is Project.TREE:
            _link_shim(environment.python)
    return environment.python


def _install_dependencies(environment: Environment) -> None:
    print(
        f"Making the virtual environment {_short(environment.path)} (once; about a minute) ...",
        file=sys.stderr,
    )
    started = time.monotonic()
    shutil.rmtree(environment.path, ignore_errors=True)
    venv.create(environment.path, with_pip=True, symlinks=True)
    arguments = ["-c", environment.constraints]
    for requirements in environment.requirements:
        arguments += ["-r", requirements]
    _pip(environment, *arguments)
    print(f"Installed in {time.monotonic() - started:.0f} s.", file=sys.stderr)


def _sources(project: Project) -> Sequence[str]:
    """The files that decide whether our package must be installed anew."""
    if project is Project.TREE:
        return _METADATA
    if project is Project.NONE:
        return ()
    code = (path for name in _CODE for path in (ROOT / name).rglob("*"))
    names = (str(path.relative_to(ROOT)) for path in code if path.is_file())
    return (*_METADATA, *sorted(name for name in names if not name.endswith(".pyc")))


def _install_project(environment: Environment) -> None:
    if environment.project is Project.TREE:
        # The compat mode puts the tree on the path and does nothing else. The default would
        # install an import hook that also claims the namespaces nova and nova.virt, for the
        # shim's sake.
        mode = ["--config-settings", "editable_mode=compat", "--editable"]
        _pip(environment, "--no-deps", "--no-build-isolation", *mode, ".")
    elif environment.project is Project.WHEEL:
        wheel = _build_wheel(environment.path / "wheel")
        _pip(environment, "--no-deps", "--force-reinstall", str(wheel))


def _build_wheel(folder: pathlib.Path) -> pathlib.Path:
    shutil.rmtree(folder, ignore_errors=True)
    # As .ci/run builds it, whatever release it is installed beside.
    python = ensure(environment("check"))
    done = subprocess.run(
        [ROOT / "tools" / "lib" / "build_wheel.sh", python, folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise InstallError(f"{tail}\nOur wheel could not be built; see above.")
    (wheel,) = folder.glob("*.whl")
    return wheel


def _link_shim(python: pathlib.Path) -> None:
    """Link the shim beside Nova's drivers, where a wheel would put it; without Nova do nothing."""
    for nova_virt in (python.parent.parent / "lib").glob("python*/site-packages/nova/virt"):
        link = nova_virt / "devcompat"
        target = ROOT / "shim" / "nova_virt_devcompat"
        if link.is_symlink() and link.readlink() == target:
            continue
        if link.is_symlink() or link.is_file():
            link.unlink()
        elif link.exists():
            shutil.rmtree(link)
        link.symlink_to(target, target_is_directory=True)


def _pip(environment: Environment, *arguments: str) -> None:
    """Run ``pip install`` with progress on stderr and everything it says in a log."""
    log_path = environment.path / "install.log"
    command = [str(environment.python), "-m", "pip", "install", "--disable-pip-version-check"]
    command += arguments
    environ = {**os.environ, **environment.environ}
    environ |= {"PIP_USER": "0", "PIP_PROGRESS_BAR": "off", "PYTHONUNBUFFERED": "1"}
    progress = _Progress()
    with open(log_path, "a") as log:
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as pip:
            assert pip.stdout is not None
            try:
                for line in pip.stdout:
                    log.write(line)
                    progress.see(line.strip())
            except BaseException:
                pip.terminate()
                raise
            finally:
                progress.done()
    if pip.returncode:
        tail = "".join(log_path.read_text(errors="replace").splitlines(keepends=True)[-15:])
        raise InstallError(
            f"{tail}\n"
            f"pip could not install what {_short(environment.path)} needs; the end of its output "
            f"is above, all of it in\n{log_path}. pip was run with its ordinary configuration: "
            "does it reach a package index?"
        )


class _Progress:
    """One line that changes on a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self._started = self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._collected = 0

    def see(self, line: str) -> None:
        if line.startswith("Collecting "):
            self._collected += 1
            what = " ".join(line.split()[:2])
        elif line.startswith("Installing collected"):
            if not self._collected:
                return  # our own package, a matter of a second
            what = f"Unpacking {line.count(',') + 1} packages"
        else:
            return
        now = time.monotonic()
        text = f"  {now - self._started:3.0f} s  {what}"
        if what.startswith("Collecting"):
            text += f"  ({self._collected})"
        if self._terminal:
            print(f"\r{text[:78]}\x1b[K", end="", file=sys.stderr, flush=True)
        elif now - self._shown >= PULSE or what.startswith("Unpacking"):
            self._shown = now
            print(text, file=sys.stderr, flush=True)

    def done(self) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class _Stamp:
    """What an environment was made from. It is written last, so an interrupted one has none."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    def read(self, key: str) -> str | None:
        try:
            value = json.loads(self._path.read_text())[key]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return str(value)

    def write(self, **digests: str) -> None:
        self._path.write_text(json.dumps(digests))


@contextlib.contextmanager
def _lock(path: pathlib.Path) -> Iterator[None]:
    with open(path, "w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("Waiting for another run that is installing ...", file=sys.stderr)
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _digest(*names: str) -> str:
    # With the tree's own path: scripts and links in an environment break when it moves.
    digest = hashlib.sha256(os.fsencode(ROOT))
    for name in names:
        content = (ROOT / name).read_bytes()
        digest.update(b"%s %d\n%s" % (name.encode(), len(content), content))
    return digest.hexdigest()


def _runs(python: pathlib.Path) -> bool:
    try:
        return subprocess.run([python, "-c", ""], capture_output=True).returncode == 0
    except OSError:
        return False


def _short(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    sys.exit(main())
