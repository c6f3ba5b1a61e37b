"""Metrics as Prometheus's own parser reads them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser

from gateway.ops.exposition import Family, Histogram, Sample, histogram, render

label_values = st.text(st.characters(exclude_categories=["Cs"]))


def read_back(*families: Family) -> dict[str, tuple[str, list[tuple[str, dict[str, str], float]]]]:
    page = render(families).decode()
    return {
        family.name: (family.type, [(one.name, dict(one.labels), one.value) for one in family.samples])
        for family in parser.text_string_to_metric_families(page)
    }


def gauge(*samples: Sample, name: str = "gateway_depth") -> Family:
    return Family(name, "gauge", "How many wait.", samples)


def test_the_page_is_as_the_format_says() -> None:
    family = Family(
        "gateway_sends_total", "counter", "Sends.", [Sample({"class": "bulk", "outcome": "failed"}, 3)]
    )
    assert render([family]) == (
        b"# HELP gateway_sends_total Sends.\n"
        b"# TYPE gateway_sends_total counter\n"
        b'gateway_sends_total{class="bulk",outcome="failed"} 3\n'
    )


def test_a_page_of_nothing_is_empty() -> None:
    assert render([]) == b""


def test_a_family_without_samples_still_says_what_it_is() -> None:
    assert read_back(gauge()) == {"gateway_depth": ("gauge", [])}


@given(label_values, st.integers() | st.floats(allow_nan=False))
def test_labels_and_values_are_read_back_as_they_were(label: str, value: float) -> None:
    [(_, labels, read)] = read_back(gauge(Sample({"lane": label}, value)))["gateway_depth"][1]
    assert labels == {"lane": label}
    assert read == value


@given(label_values)
def test_a_help_text_stays_on_its_line(text: str) -> None:
    page = render([Family("a", "gauge", text, [Sample({}, 1)])])
    assert page.count(b"\n") == 3
    assert len(list(parser.text_string_to_metric_families(page.decode()))) == 1


def test_whole_numbers_are_written_whole_and_the_rest_by_name() -> None:
    values = [2**63, True, 0.5, math.inf, -math.inf, math.nan]
    lines = render([gauge(*(Sample({"n": str(n)}, value) for n, value in enumerate(values)))]).split(b"\n")[
        2:-1
    ]
    assert [line.split()[1] for line in lines] == [
        b"9223372036854775808",
        b"1",
        b"0.5",
        b"+Inf",
        b"-Inf",
        b"NaN",
    ]


def test_a_histogram_has_its_buckets_sum_and_count() -> None:
    family = histogram(
        "gateway_wait_seconds", "Waits.", [0.5, 1], [Histogram({"class": "reply"}, [3, 5], count=7, sum=9.25)]
    )
    kind, samples = read_back(family)["gateway_wait_seconds"]
    assert kind == "histogram"
    assert samples == [
        ("gateway_wait_seconds_bucket", {"class": "reply", "le": "0.5"}, 3.0),
        ("gateway_wait_seconds_bucket", {"class": "reply", "le": "1.0"}, 5.0),
        ("gateway_wait_seconds_bucket", {"class": "reply", "le": "+Inf"}, 7.0),
        ("gateway_wait_seconds_sum", {"class": "reply"}, 9.25),
        ("gateway_wait_seconds_count", {"class": "reply"}, 7.0),
    ]


@pytest.mark.parametrize(
    ("bounds", "cumulative"), [([1.0, 0.5], [1, 2]), ([0.5, 1.0], [2, 1]), ([0.5], [1, 2])]
)
def test_a_histogram_that_falls_is_our_mistake(bounds: list[float], cumulative: list[int]) -> None:
    with pytest.raises(AssertionError):
        histogram("a", "A.", bounds, [Histogram({}, cumulative, count=9, sum=1.0)])


def test_a_name_is_used_once() -> None:
    with pytest.raises(ValueError, match="metric gateway_depth is there twice"):
        render([gauge(), gauge()])
    with pytest.raises(ValueError, match="metric a is there twice"):
        render([gauge(name="a_count"), histogram("a", "A.", [1.0], [])])


def test_a_series_is_written_once() -> None:
    with pytest.raises(ValueError, match=r'series gateway_depth\{class="bulk"\} is there twice'):
        render([gauge(Sample({"class": "bulk"}, 1), Sample({"class": "bulk"}, 2))])


@pytest.mark.parametrize("label", ["", "1a", "a-b", "__name__", "ä", "a\n", "le"])
def test_a_label_that_prometheus_refuses_is_refused_here(label: str) -> None:
    with pytest.raises(ValueError, match="is not allowed"):
        render([gauge(Sample({label: "x"}, 1))])


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "a\n"])
def test_a_name_that_prometheus_refuses_is_refused_here(name: str) -> None:
    with pytest.raises(ValueError, match="metric name"):
        render([gauge(name=name)])


def test_a_counter_says_that_it_is_a_total() -> None:
    with pytest.raises(ValueError, match="ends with _total"):
        render([Family("gateway_sends", "counter", "Sends.", [])])


def test_only_a_histogram_has_parts() -> None:
    with pytest.raises(ValueError, match="suffixes"):
        render([gauge(Sample({}, 1, "_sum"))])
