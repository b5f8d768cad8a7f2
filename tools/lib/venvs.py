"""Make the virtual environments of tools/test.sh, tools/demo.sh and .ci/run, and keep them.

An environment is used again as long as what it was made from has not changed. It tests the
working tree, never a copy: our package is on its path, and the shim is linked beside Nova's
drivers. Only the standard library is used here.
"""

import argparse
import contextlib
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
from collections.abc import Iterator, Sequence

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONSTRAINTS = "constraints/2026.2.txt"
#: What each environment is made from.
REQUIREMENTS = {
    "test": ("requirements.txt", "test-requirements.txt"),
    "check": ("requirements.txt", ".ci/requirements.txt", "doc/requirements.txt"),
}
#: What our own metadata (version, requirements, entry points) is made from.
PROJECT = ("setup.cfg", "setup.py", "pyproject.toml", "requirements.txt")
#: Outside a terminal, seconds between two lines of progress.
PULSE = 10


class InstallError(Exception):
    """pip failed; the text is what to show."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the path of the environment's python on stdout; everything else goes to stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("name", nargs="?", choices=sorted(REQUIREMENTS))
    what.add_argument(
        "--link-shim", metavar="PYTHON", type=pathlib.Path, help="only do this, for tox"
    )
    arguments = parser.parse_args(argv)
    if arguments.link_shim:
        _link_shim(arguments.link_shim)
        return 0
    try:
        print(ensure(arguments.name))
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the next run starts this environment afresh.", file=sys.stderr)
        return 130
    return 0


def ensure(name: str) -> pathlib.Path:
    """Make environment ``name`` unless it is there and current.

    :returns: the path of its python
    :raises InstallError: when pip fails; the next call starts afresh
    """
    home = pathlib.Path(os.environ.get("NOVA_DEVCOMPAT_VENVS") or ROOT / ".venvs")
    env = home / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python = env / "bin" / "python"
    home.mkdir(parents=True, exist_ok=True)
    with _lock(env.with_name(f"{env.name}.lock")):
        dependencies = _digest(CONSTRAINTS, *REQUIREMENTS[name])
        project = _digest(*PROJECT)
        stamp = _Stamp(env / "nova-devcompat-stamp.json")
        if stamp.read("dependencies") != dependencies or not _runs(python):
            _install_dependencies(env, python, name)
            stamp.write(dependencies=dependencies)
        if stamp.read("project") != project:
            _install_project(python, env)
            stamp.write(dependencies=dependencies, project=project)
        _link_shim(python)
    return python


def _install_dependencies(env: pathlib.Path, python: pathlib.Path, name: str) -> None:
    print(
        f"Making the virtual environment {_short(env)} (once; about a minute) ...",
        file=sys.stderr,
    )
    started = time.monotonic()
    shutil.rmtree(env, ignore_errors=True)
    venv.create(env, with_pip=True, symlinks=True)
    arguments = ["-c", CONSTRAINTS]
    for requirements in REQUIREMENTS[name]:
        arguments += ["-r", requirements]
    _pip(python, env, *arguments)
    print(f"Installed in {time.monotonic() - started:.0f} s.", file=sys.stderr)


def _install_project(python: pathlib.Path, env: pathlib.Path) -> None:
    # The compat mode puts the tree on the path and does nothing else. The default would install
    # an import hook that also claims the namespaces nova and nova.virt, for the shim's sake.
    arguments = ["--no-deps", "--no-build-isolation", "--config-settings", "editable_mode=compat"]
    _pip(python, env, *arguments, "--editable", ".")


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


def _pip(python: pathlib.Path, env: pathlib.Path, *arguments: str) -> None:
    """Run ``pip install`` with progress on stderr and everything it says in a log."""
    log_path = env / "install.log"
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    environ = os.environ | {"PIP_USER": "0", "PIP_PROGRESS_BAR": "off", "PYTHONUNBUFFERED": "1"}
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
            f"pip could not install what {_short(env)} needs; the end of its output is above, all "
            f"of it in\n{log_path}. pip was run with its ordinary configuration: does it reach a "
            "package index?"
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
