# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Mistakes that operators make in catalogs: each is told with its place, and what to do.

Each is one edit of a right file. What "catalog validate" prints is looked at, as operators see it.
"""

from __future__ import annotations

import pytest

from nova_devcompat.cli.main import main

RIGHT = """\
meta:
  schema_version: '1.0'
families:
  mlx5_vf:
    match:
      vendor_id: '15b3'
      product_id: '101e'
    source: devlink
    rules:
      fw_version: semver
""".splitlines()

NAME = "is no name: lower-case letters, digits and single underscores"
STAGE = "is neither a date such as '2027-04-01' nor a release such as 'nova 35'"
LISTED = "it tells: asic_id"


def other(match):
    """A second family."""
    return f"  other:\n    match: {match}\n    source: devlink\n    rules: {{fw: equal}}"


#: By what is wrong: lines by number, whose text takes the place of the right one or follows it,
#: and the lines of the answer: the number in the file, and parts of it.
MISTAKES = {
    "key": (
        {5: "    mach:"},
        ["4: families.mlx5_vf: key 'match' is missing", "5: mach; did you mean 'match'?"],
    ),
    "kind": ({10: "      fw_version: semvar"}, ["10: 'semvar'; did you mean 'semver'?"]),
    "source": ({8: "    source: devlnk"}, ["8: 'devlnk'; did you mean 'devlink'?"]),
    "indentation": ({9: "   rules:"}, ["9: not YAML; see that the indentation is that of"]),
    "tab": ({10: "\tfw_version: semver"}, ["10: indented with a tab: use blanks"]),
    "rule twice": (
        {11: "      fw_version: equal"},
        ["11: duplicate key 'fw_version'; it is first on line 10"],
    ),
    "family twice": (
        {11: "  mlx5_vf:\n    match: {vendor_id: '1dd8'}"},
        ["11: duplicate key 'mlx5_vf'; it is first on line 4"],
    ),
    "merge key": (
        {8: "    <<: &x\n      source: devlink"},
        ["4: key 'source' is missing", "8: merge keys ('<<') are not supported; write the keys"],
    ),
    "alias of a match": (
        {
            5: "    match: &m\n      vendor_id: '15b3'",
            6: None,
            11: other("*m"),
        },
        ["12: both match a device with product_id: '101e', vendor_id: '15b3'; make them disjoint"],
    ),
    "on": ({11: "    on_unknown: on"}, ["11: on is none of: reject, accept"]),
    "off": ({11: "    mode: off"}, ["11: off is none of: enforce, report"]),
    "yes": ({11: "    mode: yes"}, ["11: yes is none of: enforce, report"]),
    "octal": ({6: "      vendor_id: 0010"}, ["6: read as the number 8; in quotes: '0010'"]),
    "exponent": ({6: "      vendor_id: 1e+3"}, ["6: '1e+3' is no identifier; hexadecimal digits"]),
    "three digits": ({7: "      product_id: 1e3"}, ["7: '1e3' has 3 digits; write '01e3'"]),
    "digits": ({7: "      product_id: 1003"}, ["7: the number 1003; put it in quotes: '1003'"]),
    "prefix": ({7: "      product_id: 0x101e"}, ["7: read as the number 4126; put it in quotes"]),
    "quoted prefix": (
        {7: "      product_id: '0x101e'"},
        ["7: '0x101e': identifiers are written without 0x; write '101e'"],
    ),
    "empty": ("", [": is empty"]),
    "comments": ("# nothing yet\n", [": is empty"]),
    "no families": ("meta: {schema_version: '1.0'}\n", ["1: key 'families' is missing"]),
    "no family": (
        "meta: {schema_version: '1.0'}\nfamilies:\n",
        ["2: families: nothing is written here; it must be a mapping"],
    ),
    "list of families": (
        "meta: {schema_version: '1.0'}\nfamilies:\n  - name: x\n",
        ["2: families: a list must be a mapping"],
    ),
    "list of rules": ({10: "      - fw_version: semver"}, ["9: rules: a list must be a mapping"]),
    "list in match": (
        {7: "      product_id: ['101e', '1018']"},
        ["7: product_id: a list must be text"],
    ),
    "blank": ({7: "      product_id: '101e '"}, ["7: has blanks around it; leave them out"]),
    "brackets": (
        {7: "      product_id: '10[12]e'"},
        ["7: '[' cannot be used; the wildcards are * for any text", "7: is no identifier"],
    ),
    "overlap": (
        {11: other("{vendor_id: '15b3'}")},
        ["12: both match a device with product_id: '101e', vendor_id: '15b3'; make them disjoint"],
    ),
    "date without quotes": (
        {11: "    stages: [{from: 2027-04-01, mode: enforce}]"},
        ["11: was read as the date 2027-04-01; put it in quotes: '2027-04-01'"],
    ),
    "time": (
        {11: "    stages: [{from: '2027-04-01T00:00+02:00', mode: enforce}]"},
        [f"11: {STAGE}"],
    ),
    "zone": (
        {11: "    stages: [{from: '2027-04-01 Europe/Berlin', mode: report}]"},
        [f"11: {STAGE}"],
    ),
    "release": ({11: "    stages: [{from: 'nova 2027.1', mode: enforce}]"}, [f"11: {STAGE}"]),
    "order of a date": (
        {11: "    stages: [{from: '01.04.2027', mode: report}]"},
        [f"11: {STAGE}"],
    ),
    "no such day": (
        {11: "    stages: [{from: '2027-02-30', mode: enforce}]"},
        ["11: '2027-02-30' is no date: day "],
    ),
    "version as a number": (
        {2: "  schema_version: 1.0"},
        ["2: was read as the number 1.0; put it in quotes: '1.0'"],
    ),
    "version": ({2: "  schema_version: '2.0'"}, ["2: '2.0' is not supported; supported: '1.0'"]),
    "option as text": (
        {10: "      fw_version: {kind: semver, base: '16'}"},
        ["10: base: '16' is text; leave the quotes out: base: 16"],
    ),
    "value of an option": (
        {10: "      fw_version: {kind: semver, base: 8}"},
        ["10: base: 8 is neither 10 nor 16"],
    ),
    "option": (
        {10: "      fw_version: {kind: ordered, order: numeric}"},
        ["10: unknown option 'order'; ordered takes only: ordering"],
    ),
    "dot": ({10: "      fw.version: semver"}, [f"10: {NAME}; 'fw_version'", f"10: {LISTED}"]),
    "dash": ({10: "      fw-version: semver"}, [f"10: {NAME}; 'fw_version'", f"10: {LISTED}"]),
    "upper case": ({10: "      FW_Version: semver"}, [f"10: {NAME}; for example 'fw_version'"]),
    "name of a family": ({4: "  mlx5-vf:"}, [f"4: {NAME}; for example 'mlx5_vf'"]),
    "attribute": ({10: "      fw_verison: semver"}, [f"10: {LISTED}; did you mean 'fw_version'?"]),
    "attribute of another source": (
        {10: "      driver_srcversion: equal"},
        ["10: source sysfs does: say so in 'attributes', {driver_srcversion: sysfs}"],
    ),
    "integer as text": (
        {8: "    source: sysfs", 10: "      sriov_numvfs: equal"},
        ["10: tells sriov_numvfs as an integer; use at_least, or {kind: equal, integer: true}"],
    ),
    "file of devlink": (
        {11: "    attributes: {fw_version: {source: devlink, path: x}}"},
        ["11: only source 'sysfs' reads files; leave 'path' out"],
    ),
    "absolute path": (
        {11: "    attributes: {fw_version: {source: sysfs, path: /sys/x}}"},
        ["11: is not a path relative to a device's folder; write one like 'vendor/caps'"],
    ),
    "path upward": (
        {11: "    attributes: {fw_version: {source: sysfs, path: ../x}}"},
        ["11: is not a path relative to a device's folder; write one like 'vendor/caps'"],
    ),
    "quote": ({6: "      vendor_id: '15b3"}, ["6: a quote (') that begins here does not end"]),
    "colon": ({8: "    source devlink"}, ["8: a colon is missing behind the key"]),
    "two documents": (
        {11: "---\nmeta: {}"},
        ["11: a second document begins here; write one in a"],
    ),
    "no rule": ({10: "      fw_version:"}, ["10: nothing is written here; it must be text or a"]),
    "no kind": ({10: "      fw_version: {kind: ~}"}, ["10: kind: nothing is written here; text"]),
    "needs of a device": (
        {11: "    needs: []"},
        ["11: is empty", "11: only a family with 'subject: host' has this"],
    ),
    "subject": ({11: "    subject: hosts"}, ["11: none of: device, host; did you mean 'host'?"]),
    "attribute in use": (
        {11: "    in_use: {fw_versoin: foo}"},
        ["11: 'rules' has no 'fw_versoin'; it has: fw_version; did you mean 'fw_version'?"],
    ),
    "tag": (
        {8: "    source: !!python/object:os.system devlink"},
        ["8: not supported; leave it out"],
    ),
    "typographic quotes": (
        {6: "      vendor_id: \u201815b3\u2019"},
        ["6: has typographic quotes in it; write ' or \""],
    ),
    "no-break space": (
        {8: "\u00a0\u00a0\u00a0\u00a0source: devlink"},
        ["8: it has a no-break space (U+00A0) in it: write a blank"],
    ),
    "attribute in match": (
        {6: "      vendorid: '15b3'"},
        ["6: no source tells 'vendorid'; did you"],
    ),
    "numbers": (
        {6: "      vendor_id: 8086", 7: "      product_id: 4941"},
        ["6: put it in quotes: '8086'", "7: put it in quotes: '4941'"],
    ),
    "mode": ({11: "    mode: enforced"}, ["11: 'enforced'; did you mean 'enforce'?"]),
    "policy": ({11: "    on_unknown: allow"}, ["11: 'allow' is none of: reject, accept"]),
    "host without needs": (
        {11: "    subject: host"},
        ["4: has to have 'needs', what guests need"],
    ),
}


def edited(edits):
    """The right file with some lines changed, added or, for None, left out."""
    if isinstance(edits, str):
        return edits
    lines = dict(enumerate(RIGHT, 1)) | edits
    return "".join(f"{lines[number]}\n" for number in sorted(lines) if lines[number] is not None)


@pytest.fixture
def validated(tmp_path, capsys, monkeypatch):
    """Validates a file; the exit status and the lines printed."""
    monkeypatch.chdir(tmp_path)

    def run(content):
        (tmp_path / "c.yaml").write_bytes(content)
        status = main(["catalog", "validate", "c.yaml"])
        out, err = capsys.readouterr()
        return status, (out or err).splitlines()

    return run


def test_the_right_one_is_right(validated):
    status, lines = validated(edited({}).encode())
    assert (status, lines[0][:3]) == (0, "OK:")
    assert lines[1].startswith("mlx5_vf: the mode of [devcompat]; from ")


@pytest.mark.parametrize(("edits", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(validated, edits, expected):
    status, lines = validated(edited(edits).encode())
    assert status == 2
    assert len(lines) == len(expected), lines
    for line, told in zip(lines, expected, strict=True):
        number, _, parts = told.partition(": ")
        assert line.startswith(f"c.yaml:{number}:" if number else "c.yaml:"), line
        for part in parts.split("; "):
            assert part in line


@pytest.mark.parametrize(
    ("encoding", "byte"), [("latin-1", "0xfc"), ("utf-16", "0xff")], ids=["latin-1", "utf-16"]
)
def test_encodings(validated, encoding, byte):
    status, (line,) = validated(edited({8: "    source: devlink  # f\u00fcr"}).encode(encoding))
    assert status == 2
    assert line.endswith(f"is not UTF-8: byte {byte}; save the file as UTF-8")
    assert line.startswith("c.yaml:8:" if encoding == "latin-1" else "c.yaml:1:")


@pytest.mark.parametrize(
    "content",
    [
        edited({7: "      product_id: '101E'"}).encode(),
        edited({}).replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + edited({}).encode(),
        b'{"meta": {"schema_version": "1.0"}, "families": {"a": {"match": {"vendor_id": "15b3"}, '
        b'"source": "devlink", "rules": {"fw": "equal"}}}}',
    ],
    ids=["upper case", "carriage returns", "byte order mark", "JSON"],
)
def test_what_is_no_mistake(validated, content):
    status, lines = validated(content)
    assert (status, len(lines)) == (0, 2), lines


def test_what_may_be_one_is_said(validated):
    """What is allowed, and seldom meant: it is said, with the mode as of today."""
    second = other("{vendor_id: '15b3', driver: mlx5_core}")
    status, lines = validated(edited({11: second}).encode())
    assert status == 0
    assert lines[-1].startswith("mlx5_vf and other may match one device, which is UNKNOWN then")
    for day, mode in (("2020-01-01", "enforce today"), ("2206-01-01", "announce today")):
        stages = f"    stages: [{{from: '{day}', mode: enforce}}]"
        assert validated(edited({11: stages}).encode())[1][1].startswith(f"mlx5_vf: {mode}")
