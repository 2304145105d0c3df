"""When a route wants to hear soon."""

from agent.uplink.sender import RouteOptions

OPTIONS = RouteOptions("dso", "dso.example", "gw-0001", within_s=300, unconfirmed_bytes=8 << 20)


def test_a_route_waits_for_its_confirmation_as_configured() -> None:
    assert OPTIONS.wish_s(0) == 300
    assert OPTIONS.wish_s(4 << 20) == 300


def test_a_route_near_its_flow_control_wants_to_be_confirmed_at_once() -> None:
    assert OPTIONS.wish_s((4 << 20) + 1) == 0
    assert OPTIONS.wish_s(8 << 20) == 0
