# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

from __future__ import annotations

import os
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat.kit.document import Schema
from nova_devcompat.kit.problems import DocumentError, Problem
from nova_devcompat.kit.yamlfile import parse, read
from tests.budget import scaled
from tests.unit.kit.test_document import SCHEMA, parsed

ANY = Schema({"type": "object"})


def problems_of(text: str | bytes) -> list[str]:
    """What is wrong with a document, fatal or not."""
    raw = text.encode() if isinstance(text, str) else text
    try:
        return [str(problem) for problem in parse(raw, "f.yaml").problems]
    except DocumentError as error:
        assert error.problems
        return str(error).splitlines()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "f.yaml: is empty"),
        ("# nothing\n", "f.yaml: is empty"),
        ("---\n", "f.yaml: is empty"),
        ("null", "f.yaml: is empty"),
        ("\n- a", "f.yaml:2: a list must be a mapping"),
        ("text", "f.yaml:1: 'text' must be a mapping"),
        ("a: 1\n---\nb: 1", "f.yaml:2: a second document begins here"),
        ("a: [1, 2", "is not YAML: while parsing a flow sequence"),
        ("a: b\n\tc: d", "f.yaml:2: is not YAML:"),
        ("a: \x00", "f.yaml:1: is not YAML:"),
        (b"a: 1\nb: \xff", "f.yaml:2: is not UTF-8: byte 0xff"),
        ("a: 1".encode("utf-16"), "is not UTF-8"),
        ("%YAML 3.0\n---\na: 1", "is not YAML: found incompatible YAML document"),
        ("a: &x [*x]", "f.yaml:1: a.0: *x stands within what it refers to"),
        ("a:\n  b: *x", "f.yaml:2: a.b: no anchor &x comes before *x"),
        ("a: " + "[" * 40, "is nested deeper than 32 levels"),
        ("{a: " * 40, "is nested deeper than 32 levels"),
        ("a: 1\nb: 2\na: 3", "f.yaml:3: a: duplicate key 'a'; it is first on line 1"),
        ("x:\n  - {k: 1, k: 2}", "f.yaml:2: x.0.k: duplicate key 'k'; it is first on line 2"),
        ("x: 1\n'x': 2", "f.yaml:2: x: duplicate key 'x'"),
        ("x: 1\n1: 2", "f.yaml:2: as a key, 1 was read as the number 1; put it in quotes: '1'"),
        ("on: 2", "as a key, on was read as the truth value true; put it in quotes: 'on'"),
        ("1.50: 2", "as a key, 1.50 was read as the number 1.5; put it in quotes: '1.50'"),
        ("2024-02-03: 2", "as a key, 2024-02-03 was read as the date 2024-02-03"),
        ("~: 2", "as a key, ~ was read as null"),
        ("x: &a {b: c}\ny:\n  <<: *a", "f.yaml:3: y: merge keys ('<<') are not supported"),
        ("? [a, b]\n: c", "f.yaml:1: a key must be text"),
        ("x: &a b\n? *a\n: c", "f.yaml:2: a key must be text"),
        ("x: !!float 1", "f.yaml:1: x: tag 'tag:yaml.org,2002:float' is not supported"),
        ("x: !!python/object:os.system {}", "x: tag 'tag:yaml.org,2002:python/object:os.system'"),
        ("x: 2024-13-45", "2024-13-45 was read as a number; put it in quotes: '2024-13-45'"),
        ("x: " + "9" * 5000, "was read as a number; put it in quotes"),
    ],
)
def test_what_is_refused(text, expected):
    found = problems_of(text)
    assert len(found) == 1
    assert expected in found[0]
    assert len(found[0]) < 300


def test_python_tags_are_never_run(tmp_path):
    target = tmp_path / "made"
    problems_of(f"x: !!python/object/apply:os.mkdir ['{target}']")
    assert not target.exists()


def test_all_problems_are_collected_before_a_fatal_one():
    found = problems_of("a: 1\na: 2\n3: 4\nb: *nowhere")
    assert [line.split(": ")[0] for line in found] == ["f.yaml:2", "f.yaml:3", "f.yaml:4"]


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("a: 28.40", {"a": 28.4}),
        ("a: '28.40'", {"a": "28.40"}),
        ("a: !!str 28.40", {"a": "28.40"}),
        ("a: 28.39.1002", {"a": "28.39.1002"}),
        ("a: [yes, null, 7, ~]", {"a": [True, None, 7, None]}),
        ("a: &x {b: [c]}\nd: *x", {"a": {"b": ["c"]}, "d": {"b": ["c"]}}),
        ("a: &x b\nc: &x d\ne: *x", {"a": "b", "c": "d", "e": "d"}),
        ("'<<': 1", {"<<": 1}),
        ("a: =", {"a": "="}),
        ("\ufeffa: b", {"a": "b"}),
        ("{}", {}),
        ("--- {a: b}\n...\n", {"a": "b"}),
        # An anchor may stand before a key, too.
        ("&a b: 'c'\nd: *a", {"b": "c", "d": "b"}),
    ],
)
def test_what_is_taken(text, content):
    assert parsed(text).content == content


def test_an_alias_bomb_is_refused_in_no_time():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    began = time.process_time()
    assert "more than 2000000 values, aliases expanded" in problems_of("\n".join(lines))[0]
    assert time.process_time() - began < 2


def test_deep_nesting_is_refused_in_no_time():
    began = time.process_time()
    assert "nested deeper" in problems_of("a: " + "[" * 1_000_000)[0]
    assert time.process_time() - began < 2


def test_a_long_number_is_refused_in_no_time():
    began = time.process_time()
    assert "was read as a number" in problems_of("a: 1" + ":1" * 500_000)[0]
    assert time.process_time() - began < 2


def test_lines_and_typed_text():
    document = parsed("a:\n  b:\n    - x\n    - 1_0\n  'c': 0x1b\n")
    assert document.line(("a",)) == 1
    assert document.line(("a", "b")) == 2
    assert document.line(("a", "b", 1)) == 4
    assert document.line(("a", "c")) == 5
    assert document.line(("a", "missing")) == 2  # where the mapping is
    assert document.typed(("a", "b", 0)) is None
    assert document.typed(("a", "b", 1)) == "1_0"
    assert document.typed(("a", "c")) == "0x1b"


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem(file="f", line=0, path="", message="m"), "f: m"),
        (Problem(file="f", line=3, path="", message="m"), "f:3: m"),
        (Problem(file="f", line=3, path="a.b", message="m"), "f:3: a.b: m"),
    ],
)
def test_how_a_problem_reads(problem, text):
    assert str(problem) == text
    assert str(DocumentError([problem, problem])) == f"{text}\n{text}"


def test_a_key_with_a_line_break_does_not_break_the_line():
    (line,) = problems_of('"a\\nb": 1\n"a\\nb": 2')
    assert "'a\\nb'" in line


# --- files --------------------------------------------------------------------------------------


def test_read_missing(tmp_path):
    with pytest.raises(DocumentError, match=r"f\.yaml: there is no such file; write one$"):
        read(tmp_path / "f.yaml", missing="write one")


def test_read_what_is_no_file(tmp_path):
    with pytest.raises(DocumentError, match="cannot be read: Is a directory"):
        read(tmp_path)
    with pytest.raises(DocumentError, match="cannot be read"):
        read("a\0b")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_read_what_may_not_be_read(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text("a: b")
    path.chmod(0)
    with pytest.raises(DocumentError, match="cannot be read: Permission denied"):
        read(path)


def test_read_what_never_ends():
    with pytest.raises(DocumentError, match="/dev/zero: is larger than 16 MiB"):
        read("/dev/zero")


# --- fuzz ---------------------------------------------------------------------------------------

YAMLISH = st.text(
    alphabet=st.sampled_from("ab:,-[]{}&*!|>'\"#%@`?~<=0189._ \n\t\\\ufeffé"),
    max_size=60,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.binary(max_size=200) | YAMLISH.map(str.encode))
@settings(max_examples=scaled(300))
def test_nothing_but_document_errors(raw):
    try:
        document = parse(raw, "f.yaml")
    except DocumentError as error:
        assert error.problems
        return
    assert isinstance(document.content, dict)
    for problem in document.check(ANY):
        pytest.fail(str(problem))
    document.check(SCHEMA)


@given(st.dictionaries(st.text(), VALUES, min_size=1, max_size=5))
@settings(max_examples=scaled(100))
def test_reads_what_yaml_reads(content):
    """What PyYAML writes, it and we read alike: no value gets lost, none changes its type."""
    text = yaml.safe_dump(content, allow_unicode=True)
    expected = yaml.safe_load(text)
    document = parse(text.encode("utf-8", "surrogatepass"), "f.yaml")
    if document.problems:
        return  # a float with too many digits, or the like
    assert repr(document.content) == repr(expected)
