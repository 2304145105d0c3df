"""Topics: built and parsed in one grammar, and nothing malformed is parsed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.topics import (
    ROOT,
    Lane,
    StreamTopic,
    ask_topic,
    confirm_topic,
    gateway_of,
    manifest_topic,
    state_filter,
    state_topic,
    stream_filter,
)
from tests.unit.core.wire_made import names

lanes = st.sampled_from(Lane)


@given(names, names, lanes)
def test_stream_topic_reads_back(gateway: str, entity: str, lane: Lane) -> None:
    topic = StreamTopic(gateway, entity, lane)
    assert StreamTopic.parse(str(topic)) == topic
    assert gateway_of(str(topic), "stream") == gateway


@given(names, names)
def test_other_topics_name_their_gateway_and_are_no_stream(gateway: str, entity: str) -> None:
    made = {
        "state": state_topic(gateway),
        "confirm": confirm_topic(gateway, entity),
        "ask": ask_topic(gateway, entity),
        "manifest": manifest_topic(gateway, entity),
    }
    for branch, topic in made.items():
        assert gateway_of(topic, branch) == gateway
        assert StreamTopic.parse(topic) is None
        assert [gateway_of(topic, other) for other in made if other != branch] == [None] * 3
    assert len(set(made.values())) == 4


levels = st.sampled_from(
    ["portico", "v1", "v2", "gw-1", "stream", "confirm", "live", "", "+", "#", "ä", "a b"]
)


@given(st.lists(levels, max_size=8).map("/".join) | st.text(max_size=40))
def test_what_parses_is_exactly_what_is_built(topic: str) -> None:
    parsed = StreamTopic.parse(topic)
    if parsed is not None:
        assert str(parsed) == topic


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "portico/v1",
        "portico/v2/gw/stream/dso/live",
        "Portico/v1/gw/stream/dso/live",
        "/portico/v1/gw/stream/dso/live",
        "portico/v1/gw/stream/dso/live/",
        "portico/v1/gw/stream/dso",
        "portico/v1/gw/stream/dso/LIVE",
        "portico/v1/gw/stream/dso/live\n",
        "portico/v1//stream/dso/live",
        "portico/v1/gw/stream//live",
        "portico/v1/+/stream/dso/live",
        "portico/v1/gw/stream/#/live",
        "portico/v1/gw/confirm/dso/live",
        "$share/x/portico/v1/gw/stream/dso/live",
        "portico/v1/" + "g" * 65 + "/stream/dso/live",
    ],
)
def test_malformed_stream_topic_is_none(bad: str) -> None:
    assert StreamTopic.parse(bad) is None


@pytest.mark.parametrize(
    "bad",
    ["portico/v1/gw", "portico/v1/a b/state", "portico/v1//state", "portico/v2/gw/state", "x/v1/gw/state"],
)
def test_topic_of_no_gateway_has_none(bad: str) -> None:
    assert gateway_of(bad, "state") is None


def matches(wanted: str, topic: str) -> bool:
    """Tell whether a subscription takes a topic (MQTT 5 §4.7, single-level wildcards only)."""
    pairs = list(zip(wanted.split("/"), topic.split("/"), strict=False))
    return wanted.count("/") == topic.count("/") and all(one in ("+", two) for one, two in pairs)


@given(names, names, lanes)
def test_filters_take_every_gateway_and_lane_of_one_entity_alone(
    gateway: str, entity: str, lane: Lane
) -> None:
    topic = str(StreamTopic(gateway, entity, lane))
    assert matches(stream_filter(entity), topic)
    assert not matches(stream_filter(entity + "x"), topic)
    assert not matches(state_filter(), topic)
    assert matches(state_filter(), state_topic(gateway))
    assert stream_filter(entity).startswith(ROOT + "/")
