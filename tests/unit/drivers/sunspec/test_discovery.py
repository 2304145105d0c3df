"""The chain of models is walked to its end, whatever makers did to it."""

import asyncio
import contextlib
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import FieldError, NoAnswer, Undecodable
from drivers.patientread import MAX_REQUESTS, PatientReader
from drivers.sunspec.devicetype import describe
from drivers.sunspec.discovery import MAX_MODELS, Discovery, discover
from tests.support.sunspec import (
    SUNS,
    Registers,
    chain,
    common,
    controls_123,
    inverter_103,
    meter_203,
    mppt_160,
)

WHOLE = (common(), inverter_103(), controls_123(), mppt_160(), meter_203())


def discovered(link: Registers, **more: Any) -> Discovery:
    return asyncio.run(discover(PatientReader(link, 1, **more)))


def ids(found: Discovery) -> list[int]:
    return [model.id for model in found.models]


@pytest.mark.parametrize("base", [40000, 0, 50000])
def test_map_is_found_at_each_of_the_three_places(base: int) -> None:
    found = discovered(Registers(chain(WHOLE, base)))
    assert (found.base, ids(found), found.remarks) == (base, [1, 103, 123, 160, 203], ())
    inverter = found.model(103)
    assert inverter is not None
    assert inverter.first == base + 2 + 2 + 66 + 2
    assert inverter.registers[inverter.first + 12] == 5230


def test_models_of_the_maker_and_models_without_points_here_are_stepped_over_unread() -> None:
    link = Registers(chain([common(), (64100, [1] * 300), (705, [2] * 30), inverter_103()]))
    found = discovered(link)
    assert [(model.id, model.name, len(model.registers)) for model in found.models] == [
        (1, "common", 66),
        (64100, "of the maker", 0),
        (705, "DERVoltVar", 0),
        (103, "inverter_three_phase", 50),
    ]
    assert max(request.count for request in link.asked) < 100


def test_common_model_without_its_pad_is_no_oddity() -> None:
    first = common()
    found = discovered(Registers(chain([(1, first[1][:65]), inverter_103()])))
    assert (ids(found), found.remarks) == ([1, 103], ())


def test_wrong_length_is_told_and_the_next_model_found_where_the_definition_puts_it() -> None:
    found = discovered(Registers(chain(WHOLE, lengths={103: 48})))
    assert ids(found) == [1, 103, 123, 160, 203]
    (remark,) = found.remarks
    assert (
        remark
        == "model 103 at 40070 says 48 registers, its definition 50; the next model follows the definition"
    )


def test_registers_that_a_maker_added_are_stepped_over() -> None:
    longer = (103, [*inverter_103()[1], 1, 2, 3])
    found = discovered(Registers(chain([common(), longer, meter_203()])))
    assert ids(found) == [1, 103, 203]
    assert found.remarks == ("model 103 at 40070 says 53 registers, its definition 50; taken as it says",)


def test_length_that_leads_nowhere_ends_the_walk_with_what_was_found() -> None:
    found = discovered(Registers(chain([common(), inverter_103()], lengths={103: 40}, end=(7777, 7777))))
    assert ids(found) == [1, 103]
    assert "no model follows either" in found.remarks[0]
    assert "ends in zeros" in found.remarks[1]


@pytest.mark.parametrize("end", [(0xFFFF, 0), (0xFFFF,), (0xFFFF, 7)])
def test_end_may_lack_its_length(end: tuple[int, ...]) -> None:
    found = discovered(Registers(chain(WHOLE, end=end)))
    assert (len(found.models), found.remarks) == (5, ())


@pytest.mark.parametrize(("end", "remark"), [((0, 0), "ends in zeros"), ((), "breaks off")])
def test_chain_without_an_end_is_told(end: tuple[int, ...], remark: str) -> None:
    found = discovered(Registers(chain(WHOLE, end=end)))
    assert len(found.models) == 5
    assert remark in found.remarks[0]


def test_length_beyond_the_last_register_ends_the_walk() -> None:
    found = discovered(Registers(chain([common(), (64100, [])], lengths={64100: 60000}), largest=125))
    assert ids(found) == [1]
    assert "beyond the last one" in found.remarks[0]


def test_endless_chain_is_left() -> None:
    found = discovered(Registers(chain([(64100, [])] * 300)))
    assert len(found.models) == MAX_MODELS
    assert "was left after" in found.remarks[0]


def test_device_of_small_reads_gives_the_same_map() -> None:
    small = discovered(Registers(chain(WHOLE), largest=20))
    whole = discovered(Registers(chain(WHOLE)))
    assert small.models == whole.models
    assert small.max_registers <= 20 < whole.max_registers


def test_registers_that_are_refused_are_told() -> None:
    held = chain(WHOLE)
    del held[40072 + 20]
    found = discovered(Registers(held))
    assert found.refused == (40092,)
    assert found.remarks == ("model 103 at 40070: 1 registers are refused",)


def test_device_without_a_map_says_what_was_found_instead() -> None:
    with pytest.raises(Undecodable, match=r"40000: exception 2, 0: 00010002, 50000: exception 2"):
        discovered(Registers({0: 1, 1: 2}))


def test_device_that_does_not_answer_is_no_device_without_a_map() -> None:
    with pytest.raises(NoAnswer):
        discovered(Registers(chain(WHOLE), silent_first=1000), retries=0)


def test_one_lost_answer_does_not_lose_the_map() -> None:
    assert ids(discovered(Registers(chain(WHOLE), silent_first=1))) == [1, 103, 123, 160, 203]


@given(st.lists(st.sampled_from([0, 1, 2, 66, 103, 160, 203, 0xFFFF]) | st.integers(0, 0xFFFF), max_size=300))
def test_any_registers_behind_the_marker_end_in_a_map_or_in_an_error_of_the_field(words: list[int]) -> None:
    link = Registers(dict(enumerate([*SUNS, *words], 40000)))
    found: Discovery | None = None
    with contextlib.suppress(FieldError):
        found = discovered(link)
        describe(found, "any", date(2026, 11, 22))
    assert len(link.asked) <= MAX_REQUESTS
    assert found is None or len(found.models) <= MAX_MODELS
