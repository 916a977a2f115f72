"""Brace patterns: what they stand for, and shards that are named by them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntksap_export.data import braces as braces_module
from ntksap_export.data import open_data, peek
from ntksap_export.data.braces import expand
from ntksap_export.errors import ConfigError, DataError

Make = Callable[..., Path]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("plain.tar", ["plain.tar"]),
        ("{a,b}", ["a", "b"]),
        ("{a,}c", ["ac", "c"]),
        ("x-{8..11}", ["x-8", "x-9", "x-10", "x-11"]),
        ("x-{08..11}", ["x-08", "x-09", "x-10", "x-11"]),
        ("{000..2}", ["000", "001", "002"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{0..0}", ["0"]),
        ("{a,b}-{0..1}", ["a-0", "a-1", "b-0", "b-1"]),
        ("{a,b{0..1},{c,d}e}.tar", ["a.tar", "b0.tar", "b1.tar", "ce.tar", "de.tar"]),
    ],
)
def test_what_a_pattern_stands_for(pattern: str, expected: list[str]) -> None:
    assert expected == expand(pattern)


@given(first=st.integers(0, 300), last=st.integers(0, 300), width=st.integers(2, 5))
def test_padded_ranges_keep_their_width(first: int, last: int, width: int) -> None:
    numbers = expand(f"{{{first:0{width}d}..{last:0{width}d}}}")

    low, high = min(first, last), max(first, last)
    assert list(range(low, high + 1)) == sorted(map(int, numbers))
    assert {max(width, 1)} == {len(number) for number in numbers} or high >= 10**width


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a{b", "'a{b' has a brace without its partner; mend the pattern"),
        ("a}b", "'a}b' has a brace without its partner; mend the pattern"),
        ("{a,b}}", "'{a,b}}' has a brace without its partner; mend the pattern"),
        ("{a}", "'{a}' in '{a}' is no list {a,b} and no range {00..12}; mend the pattern"),
        ("{0..b}", "'{0..b}' in '{0..b}' is no list {a,b} and no range {00..12}; mend the pattern"),
        ("{}", "'{}' in '{}' is no list {a,b} and no range {00..12}; mend the pattern"),
        ("{0..100000}", "'{0..100000}' stands for more than 100,000 names; write a smaller range"),
        (
            "{0..999}{0..99999999999}",
            "'{0..999}{0..99999999999}' stands for more than 100,000 names; write a smaller range",
        ),
    ],
)
def test_patterns_that_stand_for_nothing_sensible(pattern: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        expand(pattern)

    assert message == str(caught.value)


def test_a_pattern_with_very_many_braces() -> None:
    with pytest.raises(ConfigError, match="has more than 50 braces; write a shorter pattern"):
        expand("{a,b}" * 1000)


def test_shards_by_pattern_are_those_of_the_folder(make_shards: Make) -> None:
    root = make_shards()

    by_pattern = open_data(f"{root}/{{train-000{{0..1}},test-0000}}.tar")

    assert open_data(str(root)).spec == by_pattern.spec
    assert "shards" == by_pattern.spec.name


def test_only_the_named_shards_are_read(make_shards: Make) -> None:
    root = make_shards()

    look = peek(f"{root}/{{train-0001,test-0000}}.tar")

    assert (4, 4) == (look.train_images, look.val_images)


def test_val_is_taken_before_test(make_shards: Make) -> None:
    root = make_shards()
    (root / "val-0000.tar").symlink_to(root / "train-0000.tar")

    dataset = open_data(f"{root}/{{train-0001,test-0000,val-0000}}.tar")

    expected = open_data(str(root)).val.take([0]).tolist()
    assert expected == dataset.val.take([0]).tolist()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (
            "{train,test}-000{0..3}.tar",
            "names shards that are not there: '{root}/train-0002.tar', '{root}/train-0003.tar', "
            "'{root}/test-0001.tar', '{root}/test-0002.tar', '{root}/test-0003.tar'",
        ),
        ("train-000{0..1}.tar", "names no val-*.tar or test-*.tar; write it as DIR/{train,val}-{000..012}.tar"),
        ("test-000{0..0}.tar", "names no train-*.tar; write it as DIR/{train,val}-{000..012}.tar"),
        ("{train-0000,train-0000,test-0000}.tar", "names a shard twice; write each once"),
    ],
)
def test_patterns_that_do_not_fit_what_is_there(make_shards: Make, pattern: str, message: str) -> None:
    root = make_shards()

    with pytest.raises(DataError) as caught:
        peek(f"{root}/{pattern}")

    assert f"'{root}/{pattern}' {message.replace('{root}', str(root))}" == str(caught.value)


def test_a_shard_that_does_not_say_what_it_is_for(make_shards: Make) -> None:
    root = make_shards(held_out="extra")

    expected = f"'{root}/extra-0000.tar' must be called train-*.tar, val-*.tar or test-*.tar, to say what it is for"
    with pytest.raises(DataError) as caught:
        peek(f"{root}/{{train,extra}}-0000.tar")

    assert expected == str(caught.value)


def test_a_folder_with_a_brace_in_its_name_is_a_folder(make_shards: Make) -> None:
    root = make_shards()

    assert 8 == peek(str(root.rename(root.with_name("{a,b}")))).train_images


def test_the_bound_is_checked_before_memory_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(braces_module, "LIMIT", 3)

    assert ["0", "1", "2"] == expand("{0..2}")
    with pytest.raises(ConfigError, match="more than 3 names"):
        expand("{0..3}")
