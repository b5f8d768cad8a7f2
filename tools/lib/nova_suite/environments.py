"""Make the virtual environments of tools/nova-suite.sh: Nova, and Nova with our wheel beside it.

Nothing of our tree is on their path, unlike in those of tools/test.sh.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[3]
#: Which release of OpenStack, and what is installed of it.
CONSTRAINTS = "constraints/2026.2.txt"
REQUIREMENTS = {
    "stock": ("test-requirements.txt",),
    "ours": ("requirements.txt", "test-requirements.txt"),
}
#: What our wheel is made from.
WHEEL = ("nova_devcompat", "shim", "setup.cfg", "setup.py", "pyproject.toml", "requirements.txt")


class InstallError(Exception):
    """Something could not be installed; the text is what to show."""


def home() -> pathlib.Path:
    """The folder of the environments."""
    return pathlib.Path(os.environ.get("NOVA_DEVCOMPAT_VENVS") or ROOT / ".venvs").resolve()


def ensure(variant: str) -> pathlib.Path:
    """Make an environment unless it is there and current; ours has a wheel built from the tree.

    :param variant: a key of :data:`REQUIREMENTS`
    :returns: the path of its python
    :raises InstallError: when pip fails; the next call starts afresh
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    env = home() / f"nova-suite-{variant}-{version}"
    env.parent.mkdir(parents=True, exist_ok=True)
    with _lock(env.with_name(f"{env.name}.lock")):
        _install_dependencies(env, variant)
        if variant == "ours":
            _install_wheel(env)
    return env / "bin" / "python"


def _install_dependencies(env: pathlib.Path, variant: str) -> None:
    stamp = env / "stamp-dependencies"
    wanted = _digest(CONSTRAINTS, *REQUIREMENTS[variant])
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    print(f"Making the virtual environment {env.name} (once; about a minute) ...", flush=True)
    shutil.rmtree(env, ignore_errors=True)
    venv.create(env, with_pip=True, symlinks=True)
    files = [part for name in REQUIREMENTS[variant] for part in ("-r", name)]
    _pip(env, "-c", CONSTRAINTS, *files)
    # Nova's fixtures look for etc/nova/api-paste.ini beside its package (nova/conf/paths.py).
    (site_packages,) = env.glob("lib/python*/site-packages")
    (site_packages / "etc").symlink_to(env / "etc", target_is_directory=True)
    stamp.write_text(wanted)


def _install_wheel(env: pathlib.Path) -> None:
    # Not needlessly: another run may be using it.
    stamp = env / "stamp-wheel"
    files = [path for name in WHEEL for path in (ROOT / name, *(ROOT / name).rglob("*"))]
    names = [str(path.relative_to(ROOT)) for path in files if path.is_file()]
    wanted = _digest(*sorted(name for name in names if not name.endswith(".pyc")))
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    folder = env / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    _run([ROOT / "tools" / "lib" / "build_wheel.sh", env / "bin" / "python", folder], "the wheel")
    (wheel,) = folder.glob("*.whl")
    _pip(env, "--no-deps", "--force-reinstall", str(wheel))
    stamp.write_text(wanted)


def _pip(env: pathlib.Path, *arguments: str) -> None:
    pip = [env / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check"]
    _run([*pip, *arguments], f"what {env.name} needs")


def _run(command: list[str | pathlib.Path], what: str) -> None:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PIP_USER": "0", "PIP_PROGRESS_BAR": "off"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise InstallError(
            f"{tail}\npip could not install {what}; the end of its output is above. It was run "
            "with its ordinary configuration: does it reach a package index?"
        )


def _digest(*names: str) -> str:
    # With the tree's own path: scripts and links in an environment break when it moves.
    digest = hashlib.sha256(os.fsencode(ROOT))
    for name in names:
        content = (ROOT / name).read_bytes()
        digest.update(b"%s %d\n%s" % (name.encode(), len(content), content))
    return digest.hexdigest()


@contextlib.contextmanager
def _lock(path: pathlib.Path) -> Iterator[None]:
    with open(path, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
