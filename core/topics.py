"""The topic grammar of the wire, built and parsed in one place (docs/wire.md)."""

from dataclasses import dataclass
from enum import Enum

from core.ids import name_fault

ROOT = "portico/v1"


class Lane(Enum):
    """The lanes of a stream, served in this order with a minimum share each."""

    CONTROL = "control"
    LIVE = "live"
    BACKLOG = "backlog"


@dataclass(frozen=True, slots=True)
class StreamTopic:
    """``portico/v1/<gateway>/stream/<entity>/<lane>``: gateway to entity."""

    gateway: str
    entity: str
    lane: Lane

    def __str__(self) -> str:
        return f"{ROOT}/{self.gateway}/stream/{self.entity}/{self.lane.value}"

    @classmethod
    def parse(cls, topic: str) -> "StreamTopic | None":
        """Return the parts of a stream topic, None when it is not one."""
        parts = topic.split("/")
        if len(parts) != 6 or "/".join(parts[:2]) != ROOT or parts[3] != "stream":
            return None
        if name_fault(parts[2]) or name_fault(parts[4]) or parts[5] not in _LANES:
            return None
        return cls(parts[2], parts[4], _LANES[parts[5]])


_LANES = {lane.value: lane for lane in Lane}


def state_topic(gateway: str) -> str:
    """Return the retained state topic of a gateway (also its will)."""
    return f"{ROOT}/{gateway}/state"


def confirm_topic(gateway: str, entity: str) -> str:
    """Return the topic on which an entity's collector confirms to a gateway; never retained."""
    return f"{ROOT}/{gateway}/confirm/{entity}"


def ask_topic(gateway: str, entity: str) -> str:
    """Return the topic on which an entity's collector asks a gateway; never retained."""
    return f"{ROOT}/{gateway}/ask/{entity}"


def manifest_topic(gateway: str, entity: str) -> str:
    """Return the topic of the retained copy of the manifest, for people."""
    return f"{ROOT}/{gateway}/manifest/{entity}"


def audit_topic(gateway: str) -> str:
    """Return the retained topic of the head of a gateway's audit log."""
    return f"{ROOT}/{gateway}/evt/audit"


def audit_filter() -> str:
    """Return the subscription to the audit heads of every gateway."""
    return f"{ROOT}/+/evt/audit"


def command_topic(gateway: str, entity: str, device: str) -> str:
    """Return the topic on which an entity commands a device; never retained."""
    return f"{ROOT}/{gateway}/cmd/{entity}/{device}"


def command_filter(gateway: str) -> str:
    """Return the subscription of a gateway to its commands."""
    return f"{ROOT}/{gateway}/cmd/+/+"


def command_parts(topic: str, gateway: str) -> tuple[str, str] | None:
    """Return entity and device of a command's topic, None when it is another topic."""
    parts = topic.split("/")
    if len(parts) != 6 or "/".join(parts[:4]) != f"{ROOT}/{gateway}/cmd":
        return None
    if name_fault(parts[4]) or name_fault(parts[5]):
        return None
    return parts[4], parts[5]


def beat_topic(segment: str, entity: str) -> str:
    """Return the topic on which the hub of an entity beats to the gateways of a segment; never retained."""
    return f"{ROOT}/beat/{segment}/{entity}"


def beat_entity(topic: str, segment: str) -> str | None:
    """Return whose beat a topic of a segment is for, None when it is another topic."""
    entity = topic.removeprefix(f"{ROOT}/beat/{segment}/")
    return None if entity == topic or name_fault(entity) else entity


def stream_filter(entity: str) -> str:
    """Return the subscription of a collector: every gateway, every lane of one entity."""
    return f"{ROOT}/+/stream/{entity}/+"


def state_filter() -> str:
    """Return the subscription to the state of every gateway."""
    return f"{ROOT}/+/state"


def gateway_of(topic: str, branch: str) -> str | None:
    """Return the gateway of ``portico/v1/<gateway>/<branch>…``, None when it is another topic."""
    parts = topic.split("/")
    if len(parts) < 4 or "/".join(parts[:2]) != ROOT or parts[3] != branch or name_fault(parts[2]):
        return None
    return parts[2]


def policy_bundle_topic(segment: str) -> str:
    """Return the retained topic of a segment's policy, whole (docs/policy-distribution.md)."""
    return f"{ROOT}/policy/{segment}/bundle"


def policy_timestamp_topic(segment: str) -> str:
    """Return the retained topic of the daily word that a segment's policy is the newest."""
    return f"{ROOT}/policy/{segment}/timestamp"


def assign_topic(gateway: str) -> str:
    """Return the retained topic of what a gateway is assigned."""
    return f"{ROOT}/{gateway}/assign"
