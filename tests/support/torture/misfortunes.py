"""The misfortunes: each bends a peaceful stand, and leaves it for `Ground.make_peace` to mend.

A misfortune that must have an effect to mean anything looks for it, and says when it had none
(:class:`NoBite`): a torture that hurts nobody proves nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cli.process import ProcessFailed, wait_until
from tests.support.torture import copies
from tests.support.torture.ground import ABSENT, FORGETFUL, GATEWAY, SMALL_QUEUES, Ground, Means

YEAR_S: Final = 365 * 86_400
HOUR_S: Final = 3_600
SLOW_MS: Final = 1_000


class NoBite(RuntimeError):
    """A misfortune had no effect."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of misfortune."""

    name: str
    play: Callable[[Ground], None]
    lacks: Callable[[Means], str | None] = lambda means: None
    """What it needs and this machine has not, as a sentence."""


def kill_agent(ground: Ground) -> None:
    """kill -9 at any instant of a life, also of its first moments, several times."""
    for _ in range(ground.rng.randint(1, 3)):
        ground.pause(0.0, 2.5)
        ground.kill_agent()
        if ground.rng.random() < 0.4:
            ground.note("start agent and kill -9 while it starts")
            ground.agent.start(wait=False)
            ground.pause(0.05, 1.0)
            ground.agent.kill9()
        ground.pause(0.0, 1.5)
        ground.start_agent()


def freeze_agent(ground: Ground) -> None:
    """SIGSTOP, so that polls, commits and confirmations are late; sometimes killed in that state."""
    ground.note("freeze agent")
    ground.agent.freeze()
    ground.pause(1.0, 4.0)
    if ground.rng.random() < 0.3:
        ground.kill_agent()
        ground.start_agent()
        return
    ground.agent.thaw()
    ground.wait_rows(3)


def kill_broker(ground: Ground) -> None:
    """kill -9 of a broker that keeps what it saved some seconds ago."""
    for _ in range(ground.rng.randint(1, 2)):
        ground.pause(0.2, 2.0)
        ground.kill_broker()
        ground.pause(0.0, 2.0)
        ground.start_broker()


def kill_broker_forgetful(ground: Ground) -> None:
    """kill -9 of a broker that keeps nothing: sessions, subscriptions and what it acknowledged are gone."""
    ground.pause(0.2, 2.0)
    if ground.rng.random() < 0.5:
        for one in ground.collectors():  # what is acknowledged now waits in the broker alone
            ground.kill_collector(one)
        ground.pause(1.0, 2.0)
    ground.kill_broker()
    if ground.rng.random() < 0.5:
        ground.start_broker(forget=True)
    else:
        ground.start_broker(FORGETFUL)
        ground.pause(0.5, 2.0)
        ground.kill_broker()
        ground.start_broker(FORGETFUL)
    _start_collectors(ground)


def outage(ground: Ground) -> None:
    """The broker is away, in order or frozen, while polls go on."""
    if ground.rng.random() < 0.5:
        ground.stop_broker()
        ground.pause(2.0, 6.0)
        ground.start_broker()
    else:
        ground.note("freeze broker")
        ground.stand.broker.freeze()
        ground.pause(2.0, 6.0)
        ground.stand.broker.thaw()


def kill_collector(ground: Ground) -> None:
    """kill -9 of one or all collectors, at any instant, several times."""
    for _ in range(ground.rng.randint(1, 2)):
        ground.pause(0.1, 2.0)
        for one in ground.collectors():
            ground.kill_collector(one)
        ground.pause(0.0, 2.5)
        _start_collectors(ground)


def small_queues(ground: Ground) -> None:
    """A broker that acknowledges everything and keeps 20 messages for a collector that is away."""
    ground.stop_broker()
    ground.start_broker(SMALL_QUEUES)
    ground.pause(1.0, 2.0)
    for one in ground.collectors():
        ground.kill_collector(one)
    ground.wait_rows(120)
    _start_collectors(ground)


def disk_full_by_others(ground: Ground) -> None:
    """Something else takes all room of the file system, and takes again what the store gives up."""
    assert ground.disk is not None
    ground.end_agent()
    ground.fold_store()
    ground.start_agent()
    ground.note("somebody else fills the disk")
    _fill_until_it_hurts(ground)
    _perhaps_die_full(ground)
    ground.disk.give_room()
    ground.note("room again")
    _start_agent_if_dead(ground)
    ground.wait_rows(10)


def disk_full_by_store(ground: Ground) -> None:
    """The store itself takes the last room, with nothing in it that anybody has confirmed."""
    assert ground.disk is not None
    with ground.pinned():
        ground.note(f"a route to {ABSENT} pins everything; the disk shrinks")
        ground.disk.shrink(ground.rng.randint(4, 40) * 4096)
        # It is good at living on what it gives up: each time it found some, the disk is cut to size again.
        if not any(_hurts(ground, 4.0, ground.disk.shrink_to_fit) for _ in range(5)):
            raise NoBite("the store never filled its disk")
        _perhaps_die_full(ground)
        ground.disk.give_room()
        ground.note("room again")
        _start_agent_if_dead(ground)
        ground.wait_rows(10)


def older_store(ground: Ground) -> None:
    """The whole folder of the store is put back to an older copy."""
    copy = ground.directory / f"copy-{len(ground.said)}"
    ground.kill_agent()
    copies.copy_folder(ground.agent.data_dir, copy)
    ground.note("the store's folder is copied")
    ground.start_agent()
    _perhaps_undelivered(ground)
    ground.pause(1.5, 5.0)
    if ground.rng.random() < 0.5:
        ground.kill_agent()
        ground.start_agent()
        ground.pause(0.5, 2.0)
    ground.kill_agent()
    copies.put_folder_back(copy, ground.agent.data_dir)
    _store_was_put_back(ground)


def older_readings(ground: Ground) -> None:
    """readings.db alone is put back to an older copy, made by hand or by SQLite's backup."""
    copy = ground.directory / f"copy-{len(ground.said)}" / "readings.db"
    if ground.rng.random() < 0.5:
        ground.kill_agent()
        copies.copy_file(ground.agent.store_path, copy)
        ground.start_agent()
    else:
        copies.back_up(ground.agent.store_path, copy)
    ground.note("readings.db is copied")
    _perhaps_undelivered(ground)
    ground.pause(1.5, 5.0)
    ground.kill_agent()
    copies.put_file_back(copy, ground.agent.store_path)
    _store_was_put_back(ground)


def older_books(ground: Ground) -> None:
    """The books of one or all entities are put back to an older copy."""
    chosen = ground.collectors()
    taken = []
    for one in chosen:
        copy = ground.directory / f"copy-{len(ground.said)}-{one.plan.entity}"
        if ground.rng.random() < 0.5:
            ground.kill_collector(one)
            copies.copy_file(one.books_path, copy)
            ground.start_collector(one)
        else:
            copies.back_up(one.books_path, copy)
        ground.note(f"the books of {one.plan.entity} are copied")
        taken.append(copy)
    ground.pause(2.0, 5.0)
    for one, copy in zip(chosen, taken, strict=True):
        ground.kill_collector(one)
        copies.put_file_back(copy, one.books_path)
        ground.note(f"the older books of {one.plan.entity} are put back")
    ground.pause(0.0, 1.5)
    _start_collectors(ground)


def clock_year(ground: Ground) -> None:
    """The clock jumps a year ahead, and later back."""
    _clock(ground, [YEAR_S])


def clock_hours(ground: Ground) -> None:
    """The clock jumps some hours to one side, then to another, and back."""
    hours = ground.rng.randint(1, 12) * ground.rng.choice((1, -1))
    _clock(ground, [hours * HOUR_S, ground.rng.choice((0, -hours)) * HOUR_S])


def clock_before(ground: Ground) -> None:
    """The clock falls back to a year before any certificate was valid: the link may wait, polls may not."""
    _clock(ground, [-YEAR_S])


def slow_disk(ground: Ground) -> None:
    """Each flush takes a second; what a kill takes then is bounded by what the agent measured before."""
    ground.set_slow(SLOW_MS)
    ground.pause(4.0, 6.0)
    if ground.rng.random() < 0.5:
        ground.kill_agent_by_its_bound()
        ground.start_agent()
    ground.wait_rows(10)


KINDS: Final = (
    Kind("kill-agent", kill_agent),
    Kind("freeze-agent", freeze_agent),
    Kind("kill-broker", kill_broker),
    Kind("kill-forgetful-broker", kill_broker_forgetful),
    Kind("broker-outage", outage),
    Kind("kill-collector", kill_collector),
    Kind("small-queues", small_queues),
    Kind("disk-full-by-others", disk_full_by_others, lambda means: means.disk),
    Kind("disk-full-by-store", disk_full_by_store, lambda means: means.disk),
    Kind("older-store", older_store),
    Kind("older-readings", older_readings),
    Kind("older-books", older_books),
    Kind("clock-year", clock_year, lambda means: means.clock),
    Kind("clock-hours", clock_hours, lambda means: means.clock),
    Kind("clock-before", clock_before, lambda means: means.clock),
    Kind("slow-disk", slow_disk, lambda means: means.slow),
)


def _start_collectors(ground: Ground) -> None:
    for one in ground.stand.collectors:
        if not one.running:
            ground.start_collector(one)


def _perhaps_undelivered(ground: Ground) -> None:
    """Sometimes what the store takes from now on leaves the box in no other way than with the store."""
    if ground.rng.random() < 0.5:
        ground.stop_broker()


def _store_was_put_back(ground: Ground) -> None:
    ground.note("the older copy is put back")
    ground.evidence.put_back(GATEWAY, ground.agent.store_path)
    if not ground.stand.broker.running:
        ground.start_broker()
    ground.start_agent()
    ground.wait_rows(10)


def _clock(ground: Ground, offsets_s: list[int]) -> None:
    """Jump while the agent runs, or while it is dead, and back; it begins and ends by the true clock."""
    ground.end_agent()
    if ground.rng.random() < 0.3:
        ground.set_clock(offsets_s[0])
    ground.start_agent(faked=True)
    ground.wait_rows(10)
    for offset_s in [*offsets_s, 0]:
        ground.pause(0.0, 0.5)
        if ground.rng.random() < 0.3:
            ground.end_agent()
            ground.set_clock(offset_s)
            ground.start_agent(faked=True)
        else:
            ground.set_clock(offset_s)
        ground.pause(1.0, 2.5)
        ground.wait_rows(5)
    ground.end_agent()
    ground.start_agent()


def _fill_until_it_hurts(ground: Ground) -> None:
    assert ground.disk is not None
    disk = ground.disk
    begun, still = ground.rows(), 0

    def hurts() -> bool:
        nonlocal begun, still
        disk.fill()
        now = ground.rows()
        still, begun = (still + 1, now) if now == begun else (0, now)
        return still >= 15

    try:
        wait_until(hurts, 25, lambda: "", 0.1)
    except ProcessFailed as error:
        raise NoBite("the store went on growing on a full disk") from error


def _hurts(ground: Ground, within_s: float, otherwise: Callable[[], object]) -> bool:
    begun, still = ground.rows(), 0

    def hurts() -> bool:
        nonlocal begun, still
        now = ground.rows()
        still, begun = (still + 1, now) if now == begun else (0, now)
        return still >= 9

    try:
        wait_until(hurts, within_s, lambda: "", 0.1)
    except ProcessFailed:
        otherwise()
        return False
    return True


def _perhaps_die_full(ground: Ground) -> None:
    """Sometimes the agent dies on a full disk; it may then refuse to start, by one sentence."""
    if ground.rng.random() < 0.5:
        ground.pause(0.5, 2.0)
        return
    ground.kill_agent(look=False)
    ground.note("start agent on a full disk")
    ground.agent.start(wait=False)
    ground.pause(1.0, 2.5)
    if not ground.agent.running and ground.agent.exit_code not in (1, 2):
        tail = ground.agent.tail()
        ground.unexpected.append(f"on a full disk the agent ended with {ground.agent.exit_code}: {tail}")
    if "Traceback" in ground.agent.said():
        ground.unexpected.append(f"on a full disk the agent ended without a sentence: {ground.agent.tail()}")


def _start_agent_if_dead(ground: Ground) -> None:
    if not ground.agent.running:
        ground.start_agent()
