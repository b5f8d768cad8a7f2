# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The command as an operator types it. The package must be installed, for its entry points."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import logging
import os
import subprocess
import sys
import time

import pytest
import yaml

from nova_devcompat.cli.main import main
from tests import budget

CATALOG = """\
meta: {schema_version: '1.0'}
families:
  mlx5_vf:
    match: {vendor_id: '15b3'}
    source: static
    rules: {fw_version: semver, caps: superset}
  gpu:
    match: {mdev_type: 'nvidia-*'}
    source: static
    rules: {version: range}
"""
INVENTORY = """\
meta: {schema_version: '1.0'}
hosts:
  cmp2:
    devices:
      - address: '0000:81:00.0'
        family: mlx5_vf
        attributes: {fw_version: '28.40.1', caps: [migration]}
      - {address: '0000:82:00.0', attributes: {vendor_id: 8086x}}
  cmp1:
    devices:
      - address: pci_0000_81_00_0
        attributes: {vendor_id: 15b3, fw_version: '28.39.1', caps: [migration]}
"""
COLUMNS = [
    "source_host", "source_address", "family", "destination_host", "verdict", "reason",
]  # fmt: skip
ROWS = [
    ["cmp1", "0000:81:00.0", "mlx5_vf", "cmp2", "accept", ""],
    [
        "cmp2", "0000:81:00.0", "mlx5_vf", "cmp1", "reject",
        "mlx5_vf.fw_version: needs 28.40, offered 28.39.1, too old "
        "[semver, minor-too-old; upgrade cmp1]",
    ],
]  # fmt: skip
DICTS = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(CATALOG)
    (tmp_path / "i.yaml").write_text(INVENTORY)
    return tmp_path


@pytest.fixture
def run(files, capsys):
    """Run the command in this process: its status, what it printed, and its errors."""

    def _run(*argv: str) -> tuple[int, str, str]:
        status = main(list(argv))
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return _run


@pytest.fixture
def matrix(run):
    return lambda *argv: run("matrix", "--catalog", "c.yaml", "--inventory", "i.yaml", *argv)


# --- matrix -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "read"),
    [
        ("json", json.loads),
        ("yaml", yaml.safe_load),
        ("csv", lambda text: list(csv.DictReader(io.StringIO(text)))),
    ],
)
def test_matrix_for_machines(matrix, form, read):
    status, out, err = matrix("-f", form)
    assert status == 0
    assert read(out) == DICTS
    assert err == (
        "Passed over, because no family of the catalog matches: 1 of the devices "
        "(0000:82:00.0 on cmp2)\n"
    )


def test_matrix_for_people(matrix):
    status, out, _ = matrix()
    assert status == 0
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()]
    assert [line for line in lines if line] == [COLUMNS, *ROWS]


def test_matrix_values(matrix):
    assert matrix("-f", "value")[1].splitlines() == [" ".join(row) for row in ROWS]


def test_matrix_options_of_cliff(matrix):
    assert matrix("-f", "json", "--noindent", "-c", "verdict")[1] == (
        '[{"verdict": "accept"}, {"verdict": "reject"}]\n'
    )
    assert matrix(
        "-f", "value", "-c", "source_host", "--sort-column", "verdict", "--sort-descending"
    )[1].split() == ["cmp2", "cmp1"]
    assert matrix("-f", "csv", "--quote", "none", "-c", "family")[1].split() == [
        "family", "mlx5_vf", "mlx5_vf",
    ]  # fmt: skip
    narrow = matrix("--max-width", "80")[1].splitlines()
    assert len(narrow) > len(ROWS) + 4  # wrapped
    assert len({len(line) for line in narrow}) == 1


def test_quiet_is_quiet(run):
    argv = ["matrix", "--catalog", "c.yaml", "--inventory", "i.yaml", "-f", "json"]
    assert run("-q", *argv)[2] == ""


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--from", "cmp1"], ROWS[:1]),
        (["--from", "cmp2"], ROWS[1:]),
        (["--to", "cmp1"], ROWS[1:]),
        (["--from", "cmp1", "--to", "cmp2"], ROWS[:1]),
        (["--from", "cmp1", "--to", "cmp1"], []),
        (["--family", "mlx5_vf"], ROWS),
        (["--family", "gpu"], []),
    ],
)
def test_matrix_narrowed(matrix, argv, expected):
    status, out, _ = matrix("-f", "json", *argv)
    assert status == 0
    assert [list(row.values()) for row in json.loads(out)] == expected


@pytest.mark.parametrize("argv", [["--from", "cmp1", "--to", "cmp1"], ["--family", "gpu"]])
def test_a_matrix_without_a_row_says_so(matrix, argv):
    assert matrix("-f", "json", *argv)[2].splitlines()[-1] == (
        "Nothing is judged: no such device, or no other host for its guests"
    )


def test_matrix_takes_several_catalogs(run, files):
    (files / "d.yaml").write_text(
        CATALOG.replace("{fw_version: semver, caps: superset}", "{caps: superset}")
    )
    argv = ["matrix", "--inventory", "i.yaml", "-f", "value", "-c", "verdict"]
    both = ["--catalog", "c.yaml", "--catalog", "d.yaml"]
    assert run(*argv, *both)[1].split() == ["accept", "accept"]
    assert run(*argv, *both[2:], *both[:2])[1].split() == ["accept", "reject"]


BAD = [
    (["--from", "cmp3"], "the inventory has no host 'cmp3'; there is cmp1, cmp2; did you mean"),
    (["--to", "x"], "the inventory has no host 'x'; there is cmp1, cmp2\n"),
    (["--family", "mlx"], "the catalog has no family 'mlx'; there is gpu, mlx5_vf"),
    (["-c", "color"], "No recognized column names in ['color']"),
    (["--catalog", "no.yaml"], "no.yaml: there is no such file; write one, or name another with"),
    (["--inventory", "no.yaml"], "no.yaml: there is no such file"),
    (
        ["--inventory", "c.yaml"],
        "c.yaml:2: families: unknown key 'families'; allowed: hosts, meta",
    ),
    (["--nonsense"], "unrecognized arguments: --nonsense"),
    (["-f", "xml"], "invalid choice: 'xml'"),
]


@pytest.mark.parametrize(("argv", "expected"), BAD)
def test_matrix_bad_input(matrix, argv, expected):
    status, out, err = matrix(*argv)
    assert status == 2
    assert out == ""
    assert expected in err
    assert "Traceback" not in err


def test_matrix_needs_its_files(run):
    status, out, err = run("matrix")
    assert (status, out) == (2, "")
    assert "the following arguments are required: --inventory" in err
    status, out, err = run("matrix", "--inventory", "i.yaml")
    assert (status, out) == (2, "")
    assert err == "no catalog is named; name a file, or a pack with --pack\n"
    assert run("matrix", "--inventory", "i.yaml", "--catalog", "") == (2, "", err)


def test_matrix_prints_all_that_is_wrong(run, files):
    (files / "i.yaml").write_text(INVENTORY.replace("'28.40.1'", "28.40").replace("15b3", "15"))
    status, out, err = run("matrix", "--catalog", "c.yaml", "--inventory", "i.yaml")
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line == (
        "i.yaml:7: hosts.cmp2.devices.0.attributes.fw_version: 28.40 was read as the number "
        "28.4; put it in quotes: '28.40'"
    )
    (files / "c.yaml").write_text(CATALOG.replace("semver", "semvr").replace("range", "rang"))
    status, out, err = run("matrix", "--catalog", "c.yaml", "--inventory", "i.yaml")
    assert (status, out) == (2, "")
    assert [line.split(": ")[1] for line in err.splitlines()] == [
        "families.mlx5_vf.rules.fw_version",
        "families.gpu.rules.version",
    ]


def test_matrix_needs_no_source(run, files):
    """The inventory stands in for sources that only the hosts have; validate is for the hosts."""
    (files / "c.yaml").write_text(CATALOG.replace("source: static", "source: other"))
    status, out, _ = run("matrix", "--catalog", "c.yaml", "--inventory", "i.yaml", "-f", "json")
    assert (status, json.loads(out)) == (0, DICTS)
    status, _, err = run("catalog", "validate", "c.yaml")
    assert status == 2
    assert "source 'other' is not registered" in err


def test_debug_shows_where_it_failed(run):
    status, _, err = run("--debug", "matrix", "--catalog", "no.yaml", "--inventory", "i.yaml")
    assert status == 2
    assert "Traceback" in err and "no.yaml: there is no such file" in err


FORMS = ["json", "yaml", "csv", "value", "table"]


@pytest.mark.parametrize("form", FORMS)
def test_time_of_a_matrix_of_many_hosts(matrix, files, form):
    """The budget of 1000 hosts is 10 s, for a million of rows, and by day 200 hosts are enough.

    It is of CPU time, so that a busy machine does not fail it; what traces each line may take
    some more.
    """
    count = 1000 if budget.NAME == "night" else 200
    # A second is for what takes as long for any number.
    seconds = (1 + 9 * (count / 1000) ** 2) * (4 if sys.gettrace() else 1)
    hosts = {
        f"cmp{number:04}": {
            "devices": [
                {
                    "address": "0000:81:00.0",
                    "attributes": {
                        "vendor_id": "15b3",
                        "fw_version": f"28.{number % 7}.{number % 11}",
                        "caps": ["migration", "p2p"][: 1 + number % 2],
                    },
                }
            ]
        }
        for number in range(count)
    }
    content = {"meta": {"schema_version": "1.0"}, "hosts": hosts}
    (files / "i.yaml").write_text(yaml.dump(content, Dumper=yaml.CSafeDumper))
    began = time.process_time()
    status, out, _ = matrix("-f", form)
    assert time.process_time() - began < seconds
    assert status == 0
    # Each row has one of them, whatever the form.
    assert out.count("accept") + out.count("minor-too-old") + out.count(
        "feature-missing"
    ) >= count * (count - 1)
    # Twice in each pair of hosts, and in reasons that name who is to be upgraded.
    assert out.count(f"cmp{count - 1:04}") >= 2 * (count - 1)


# --- catalog validate ---------------------------------------------------------------------------


def test_validate_good(run):
    status, out, err = run("catalog", "validate", "c.yaml")
    assert (status, err) == (0, "")
    assert out.startswith("OK: families: 2, rules: 3, digest: ")


def test_validate_policies_alone(run, files):
    """Right, and most likely the packs were forgotten."""
    (files / "off.yaml").write_text(
        "meta: {schema_version: '1.0'}\npolicies: {'*': {mode: report}}"
    )
    status, out, err = run("catalog", "validate", "off.yaml")
    assert (status, err) == (0, "")
    assert out.splitlines()[1:] == [
        "WARNING: there is no family, so nothing is judged; name packs, or a file that has "
        "families"
    ]
    assert "WARNING" not in run("catalog", "validate", "--pack", "mtty", "off.yaml")[1]


def test_validate_several_as_one_catalog(run, files):
    (files / "d.yaml").write_text(CATALOG.replace("gpu", "gpu2").replace("nvidia", "amd"))
    assert run("catalog", "validate", "c.yaml", "d.yaml")[1].startswith(
        "OK: families: 3, rules: 4"
    )
    (files / "d.yaml").write_text(CATALOG.replace("gpu", "gpu2"))
    status, out, err = run("catalog", "validate", "c.yaml", "d.yaml")
    assert (status, out) == (2, "")
    assert "families gpu (c.yaml:7) and gpu2 (d.yaml:7) both match a device with mdev_type" in err


def test_validate_lists_stages_that_begin_soon(run, files):
    stages = "[{from: '2027-04-01', mode: report}, {from: '2027-10-01', mode: enforce}]"
    text = CATALOG.replace("version: range", "version: {kind: range, stages: [{from: nova 99, ")
    text = text.replace("stages: [{from: nova 99, ", "stages: [{from: nova 99, mode: enforce}]}")
    text = text.replace("  gpu:\n", f"    stages: {stages}\n  gpu:\n")
    (files / "c.yaml").write_text(text)

    def told(*argv):
        status, out, err = run("catalog", "validate", "c.yaml", *argv)
        assert (status, err) == (0, "")
        first, gpu, mlx5, *ahead = out.splitlines()
        assert first.startswith("OK: families: 2, rules: 3, digest: ")
        assert gpu.startswith("gpu: announce today; from c.yaml:")
        modes.append(mlx5.partition(";")[0])
        return ahead

    modes = []

    release = "gpu.version: announce becomes enforce with nova 99"
    report = "mlx5_vf: announce becomes report on 2027-04-01, in 31 days"
    enforce = "mlx5_vf: report becomes enforce on 2027-10-01, in 214 days"
    assert told("--as-of", "2027-03-01") == [report, release]
    assert told("--as-of", "2027-03-01", "--activating-within", "365") == [
        report,
        enforce,
        release,
    ]
    assert told("--as-of", "2028-01-01") == [release]
    assert modes == [*["mlx5_vf: announce today"] * 2, "mlx5_vf: enforce today"]
    for argv, error in (
        (["--as-of", "soon"], "'soon' is no date such as 2027-04-01"),
        (["--activating-within", "-1"], "'-1' is no number of days"),
        (["--activating-within", "x"], "'x' is no number of days"),
    ):
        status, _, err = run("catalog", "validate", "c.yaml", *argv)
        assert status == 2
        assert error in err


def test_validate_prints_all_that_is_wrong(run, files):
    (files / "d.yaml").write_text(CATALOG.replace("semver", "1.0").replace("source", "sauce"))
    status, out, err = run("catalog", "validate", "d.yaml", "no.yaml")
    assert (status, out) == (2, "")
    assert [line.split(": ")[0] for line in err.splitlines()] == [
        "d.yaml:3", "d.yaml:5", "d.yaml:6", "d.yaml:7", "d.yaml:9", "no.yaml",
    ]  # fmt: skip


def test_validate_needs_a_file(run):
    status, _, err = run("catalog", "validate")
    assert status == 2
    assert err == "no catalog is named; name a file, or a pack with --pack\n"


# --- inventories --------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["0x26b9", "26b", "26b90", "xyzw", ""])
def test_a_planned_product_is_named_as_sources_do(run, wrong):
    plan = ["inventory", "plan", "a=580.65.06", "--product-id"]
    status, out, err = run(*plan, wrong)
    assert (status, out) == (2, "")
    assert f"{wrong!r} is no PCI product id, which has four hexadecimal digits" in err
    assert "product_id: 26b9\n" in run(*plan, "26B9")[1]


@pytest.mark.parametrize(
    "argv",
    [["plan", "caf\udce9=580.65.06"], ["dump", "--hostname", "caf\udce9", "--pack", "mtty"]],
)
def test_a_host_typed_in_another_encoding(run, argv):
    """No inventory could be read that has such a name."""
    status, out, err = run("inventory", *argv)
    assert (status, out) == (2, "")
    assert r"host 'caf\udce9' was typed in another encoding" in err


@pytest.mark.parametrize("command", [["inventory", "dump"], ["device", "list"]])
def test_a_host_without_a_name(run, command):
    status, out, err = run(*command, "--hostname", " ")
    assert (status, out) == (2, "")
    assert "argument --hostname: a host must have a name" in err


# --- the application ----------------------------------------------------------------------------


def test_version(run):
    version = importlib.metadata.version("nova-devcompat")
    assert run("--version") == (0, f"nova-devcompat {version}\n", "")


def test_help_lists_the_commands(run):
    status, out, _ = run("--help")
    assert status == 0
    assert "catalog validate" in out and "matrix" in out


def test_without_a_command(run):
    """No shell of cliff's opens; what there is to type is said."""
    status, out, err = run()
    assert (status, out) == (2, "")
    assert "usage: nova-devcompat" in err
    assert "\n  catalog validate\n" in err and "\n  matrix\n" in err


def test_unknown_command(run):
    status, _, err = run("matrx")
    assert status == 2
    assert "Traceback" not in err


def test_root_logger_is_left_as_it_was(run):
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    for argv in (["--version"], ["catalog", "validate", "c.yaml"], ["catalog", "validate", "x"]):
        run(*argv)
        assert (root.level, list(root.handlers)) == before


def start(*argv: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "nova_devcompat.cli.main", *argv]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_a_reader_that_went_away(files):
    """``nova-devcompat matrix ... | head -1``"""
    items = "".join(
        f"  c{n}: {{devices: [{{address: a, attributes: {{vendor_id: 15b3}}}}]}}\n"
        for n in range(200)
    )
    (files / "i.yaml").write_text("meta: {schema_version: '1.0'}\nhosts:\n" + items)
    argv = ["matrix", "--catalog", "c.yaml", "--inventory", "i.yaml", "-f", "value"]
    with start(*argv) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 141


MATRIX = ["matrix", "--catalog", "c.yaml", "--inventory", "i.yaml", "-f"]
PLAN = ["inventory", "plan", "h\u00f6st=580.65.06"]


def shell(line: str, *argv: str, **environment: str) -> tuple[int, str, str]:
    """Run a command under a shell; its status, what it printed, and its errors.

    :param line: what stands behind the command
    """
    done = subprocess.run(
        ["sh", "-c", f'"$@" {line}', "sh", sys.executable, "-m", "nova_devcompat.cli.main", *argv],
        capture_output=True,
        # As operators have it: what is written first comes out last.
        env={**os.environ, "PYTHONUNBUFFERED": "", **environment},
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


# A formatter of ours, and commands that write themselves.
@pytest.mark.parametrize("argv", [[*MATRIX, "table"], ["catalog", "validate", "c.yaml"], PLAN])
def test_an_output_that_takes_nothing(files, argv):
    assert shell("> /dev/full", "-q", *argv) == (
        1,
        "",
        "the output cannot be written: No space left on device\n",
    )
    assert shell(">&-", "-q", *argv) == (1, "", "[Errno 9] standard output is closed\n")


def test_without_any_stream(files):
    argv = ["page", "--catalog", "c.yaml", "--inventory", "i.yaml", "-o", "p.html"]
    assert shell("<&- >&- 2>&-", *argv) == (0, "", "")
    assert "Where guests can go" in (files / "p.html").read_text()


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (PLAN, r'"h\xF6st"'),
        ([*MATRIX, "yaml"], r'"h\xF6st"'),
        ([*MATRIX, "csv"], r'"h\xf6st"'),
        ([*MATRIX, "table"], r"| h\xf6st "),
    ],
)
def test_a_terminal_of_another_encoding(files, argv, told):
    """What it has no character for is spelled out; what is exact is exact all the same."""
    (files / "i.yaml").write_text(INVENTORY.replace("cmp2", "h\u00f6st"), "utf-8")
    status, out, err = shell("", *argv, PYTHONIOENCODING="ascii")
    assert (status, "Traceback" in err) == (0, False)
    assert told in out


def test_a_page_for_a_reader_that_went_away(files):
    argv = ["page", "--catalog", "c.yaml", "--inventory", "i.yaml", "-o", "/dev/stdout"]
    with start(*argv) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
        assert process.wait(60) in (0, 141)  # 0 where all fits into the pipe


def test_it_needs_no_nova(files):
    """Nor eventlet, nor oslo: an operator's machine has none."""
    code = (
        "import sys\n"
        "for name in ('nova', 'eventlet', 'oslo_log', 'oslo_config'):\n"
        "    sys.modules[name] = None\n"
        "from nova_devcompat.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    argv = ["matrix", "--catalog", "c.yaml", "--inventory", "i.yaml", "-f", "json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == DICTS
