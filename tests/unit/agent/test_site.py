"""Groups, their numbers and requests, from configuration and device types."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.amounts import DAY_MS
from agent.config import Config, parse_config
from agent.site import PollGroup, Site, build_site
from core.errors import ConfigError
from core.manifest import manifest_fault
from drivers.modbus.plan import plan
from drivers.points import PointType, RegisterType, Table
from drivers.types import Block, DeviceType, Limits, Source, load_type

HEAD = '[gateway]\nid = "gw-0001"\ndata_dir = "var"\n'
LINE = '[[line]]\nname = "lan"\nurl = "modbus+tcp://127.0.0.1"\n'
METER = (
    '[[device]]\nname = "meter"\ntype = "eastron-sdm630"\nline = "lan"\nunit_id = 1\nevery = "10s"\n'
    'owner = "dso.example"\n'
)
RELAY = (
    METER.replace('"meter"', '"relay"')
    .replace("eastron-sdm630", "generic-load-relay")
    .replace("unit_id = 1", "unit_id = 2")
)


def parsed(text: str) -> Config:
    return parse_config(text, Path("/etc/portico/gateway.toml"))


def site_of(text: str) -> Site:
    return build_site(parsed(text), load_type)


def names(group: PollGroup) -> list[str]:
    return [point.name for point in group.group.points]


def type_of(*points: PointType, limits: Limits | None = None, blocks: tuple[Block, ...] = ()) -> DeviceType:
    return DeviceType(
        name="made-up",
        manufacturer="Portico",
        model="Made up",
        description="For this test",
        kind="meter",
        source=Source.model_validate(
            {"title": "none", "where": "here", "read": "2026-11-22", "verified": False}, strict=False
        ),
        limits=limits or Limits(),
        blocks=blocks,
        points=points,
    )


def register(name: str, address: int, every_ms: int | None = None) -> PointType:
    return PointType.model_validate(
        {
            "name": name,
            "quantity": name,
            "unit": "W",
            "table": Table.INPUT,
            "address": address,
            "type": RegisterType.UINT16,
            "every": every_ms,
        }
    )


def test_a_device_with_one_interval_and_one_owner_is_one_group() -> None:
    site = site_of(HEAD + LINE + METER)
    (one,) = site.groups
    kind = load_type("eastron-sdm630")
    polled = tuple(point for point in kind.points if point.default)
    assert one.points == polled
    assert names(one) == [point.name for point in polled]
    assert one.requests == plan(polled, kind.limits)
    assert one.group.requests == len(one.requests)
    assert (one.group.device, one.group.device_type, one.line, one.unit_id) == (
        "meter",
        "eastron-sdm630",
        "lan",
        1,
    )
    assert site.manifest.groups == (one.group,)
    assert manifest_fault(site.manifest) is None


def test_each_point_names_the_request_that_brings_it() -> None:
    for one in site_of(HEAD + LINE + METER + RELAY).groups:
        for index, point in enumerate(one.group.points):
            assert index in one.requests[point.request].points


def test_points_with_other_intervals_or_owners_become_groups_of_their_own() -> None:
    text = (
        HEAD
        + LINE
        + METER
        + '[[device.override]]\npoints = ["PhVphB", "PhVphA"]\nevery = "60s"\n'
        + '[[device.override]]\npoints = ["PhVphC"]\ndata_owners = ["customer.example"]\n'
        + RELAY
    )
    site = site_of(text)
    assert [(one.group.group, one.group.key) for one in site.groups] == [
        (1, "meter/60000/PhVphA"),
        (2, "meter/10000/PhVphC"),
        (3, "meter/10000/AphA"),
        (4, "relay/10000/LoadShed"),
    ]
    assert names(site.groups[0]) == ["PhVphA", "PhVphB"], "in the order of the type, not of the override"
    assert site.groups[1].group.entities() == {"customer.example"}
    assert site.groups[2].group.entities() == {"dso.example"}


def test_overrides_that_say_the_same_share_a_group() -> None:
    text = (
        HEAD
        + LINE
        + METER
        + '[[device.override]]\npoints = ["PhVphA"]\nevery = "60s"\n'
        + '[[device.override]]\npoints = ["PhVphC"]\nevery = "1min"\n'
    )
    assert names(site_of(text).groups[0]) == ["PhVphA", "PhVphC"]


def test_the_same_file_gives_the_same_manifest() -> None:
    text = HEAD + LINE + METER + RELAY
    assert site_of(text).manifest.hash() == site_of(text).manifest.hash()


def test_only_the_points_named_are_polled_in_the_order_of_the_type() -> None:
    (one,) = site_of(HEAD + LINE + METER + 'points = ["PhVphC", "PhVphA"]\n').groups
    assert names(one) == ["PhVphA", "PhVphC"]


def test_a_point_that_its_type_leaves_out_is_polled_when_it_is_named() -> None:
    hidden = next(point.name for point in load_type("eastron-sdm630").points if not point.default)
    (one,) = site_of(HEAD + LINE + METER + f'points = ["{hidden}"]\n').groups
    assert names(one) == [hidden]


def test_usage_point_and_phase_come_from_the_device_and_else_from_the_gateway() -> None:
    head = HEAD + 'usage_point = "up-1"\n'
    site = site_of(head + LINE + METER + 'phase = "2s"\n' + RELAY + 'usage_point = "up-2"\n')
    assert [(one.group.usage_point, one.phase_ms) for one in site.groups] == [("up-1", 2000), ("up-2", 0)]


def test_the_phase_stays_within_a_shorter_interval() -> None:
    text = METER + 'phase = "7s"\n[[device.override]]\npoints = ["PhVphA"]\nevery = "5s"\n'
    site = site_of(HEAD + LINE + text)
    assert [(one.every_ms, one.phase_ms) for one in site.groups] == [(5_000, 2_000), (10_000, 7_000)]
    assert manifest_fault(site.manifest) is None


@given(
    st.sampled_from([10, 100, 1_000, 7_500, 10_000, 90_000, 3_600_000, DAY_MS]),
    st.one_of(st.none(), st.integers(1, 2 * DAY_MS)),
)
def test_a_slower_point_is_polled_on_a_grid_that_meets_the_devices(
    every_ms: int, slowest: int | None
) -> None:
    kind = type_of(register("W", 0, slowest))
    (one,) = build_site(
        parsed(HEAD + LINE + METER.replace('"10s"', f'"{every_ms}ms"')), lambda _: kind
    ).groups
    assert one.every_ms % every_ms == 0
    assert DAY_MS % one.every_ms == 0
    assert one.every_ms >= min(slowest or 0, DAY_MS)
    if slowest is None or slowest <= every_ms:
        assert one.every_ms == every_ms


def test_the_timeout_of_the_line_is_the_types_unless_it_is_given() -> None:
    kind = type_of(register("W", 0), limits=Limits(timeout_ms=3000, pause_ms=50))

    def poll(line: str) -> PollGroup:
        return build_site(parsed(HEAD + LINE + line + METER), lambda _: kind).groups[0]

    assert (poll("").timeout_s, poll("").pause_s) == (3.0, 0.05)
    assert poll('timeout = "500ms"\n').timeout_s == 0.5
    assert poll('timeout = "1s"\n').timeout_s == 1.0
    assert poll('pause = "200ms"\n').pause_s == 0.2


def test_a_unit_that_answers_fewer_registers_is_read_in_smaller_requests() -> None:
    limit = 40
    (one,) = site_of(HEAD + LINE + METER + f"max_registers = {limit}\n").groups
    assert max(request.count for request in one.requests) <= limit
    assert one.limits.max_registers == limit


def test_a_block_that_is_longer_than_a_unit_answers_is_planned_instead() -> None:
    kind = type_of(
        register("W", 0), register("VA", 20), blocks=(Block(table=Table.INPUT, address=0, count=60),)
    )
    (whole,) = build_site(parsed(HEAD + LINE + METER), lambda _: kind).groups
    assert [request.count for request in whole.requests] == [60]
    (less,) = build_site(parsed(HEAD + LINE + METER + "max_registers = 30\n"), lambda _: kind).groups
    assert [request.count for request in less.requests] == [1, 1]


def test_points_that_no_read_can_bring_are_told_with_their_device() -> None:
    text = METER + "max_registers = 1\n" + METER.replace('"meter"', '"second"').replace("= 1\n", "= 3\n")
    with pytest.raises(ConfigError) as caught:
        site_of(HEAD + LINE + text)
    assert caught.value.faults == (
        'device "meter": point PhVphA needs 2 registers at once, the device reads 1',
    )


def test_groups_are_found_by_their_line() -> None:
    second = LINE.replace('"lan"', '"shed"')
    site = site_of(HEAD + LINE + second + METER + RELAY.replace('"lan"', '"shed"'))
    assert [one.group.device for one in site.on_line("shed")] == ["relay"]
    assert site.on_line("attic") == ()


def test_what_is_read_does_not_depend_on_who_may_command() -> None:
    text = HEAD + LINE + METER + RELAY
    commanded = site_of(text + '\n[policy]\nroot = "root.json"\nfolder = "policy"\n')
    alone = site_of(text)
    assert commanded.manifest == alone.manifest
    assert [one.requests for one in commanded.groups] == [one.requests for one in alone.groups]


def test_taking_one_owners_device_away_leaves_the_points_of_another_as_they_are() -> None:
    relay = RELAY.replace("dso.example", "esco1")
    both, alone = site_of(HEAD + LINE + relay + METER), site_of(HEAD + LINE + METER)
    (meter,) = (one for one in both.groups if one.group.device == "meter")
    (left,) = alone.groups
    assert meter.group.key == left.group.key
    assert (meter.group.points, meter.group.owners) == (left.group.points, left.group.owners)
    assert meter.requests == left.requests
