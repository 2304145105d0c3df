"""The model definitions fit together, and fit registers that were written down by hand."""

import pytest

from drivers.points import RegisterType
from drivers.sunspec.definitions import (
    KINDS,
    ModelDefinition,
    controls,
    defined_models,
    definition,
    model_names,
)
from tests.support import sunspec


def known(model: int) -> ModelDefinition:
    found = definition(model)
    assert found is not None
    return found


def test_models_that_the_field_meets_are_defined() -> None:
    wanted = {
        1,
        *range(101, 104),
        *range(111, 114),
        *range(120, 125),
        160,
        *range(201, 205),
        *range(211, 215),
    }
    assert wanted | {701, 702, 703, 704, 713, 714, 715, 802, 803} == set(defined_models())


@pytest.mark.parametrize("model", defined_models())
def test_parts_of_a_model_fit_together(model: int) -> None:
    found = known(model)
    names = [point.name for point in found.points]
    assert found.id == model
    assert model in model_names()
    assert len(set(names)) == len(names)
    assert found.points[-1].end == found.length
    for point in (*found.points, *(found.repeat.points if found.repeat else ())):
        register = RegisterType(KINDS[point.kind].register)
        assert register is RegisterType.STRING or point.length == max(1, register.bits // 16)
        assert not point.scale_factor or point.scale_factor in names
    if found.repeat is not None:
        assert found.repeat.counter in names
        assert found.repeat.points[-1].end == found.repeat.length


@pytest.mark.parametrize(
    ("model", "registers"),
    [
        sunspec.common(),
        sunspec.inverter_103(),
        sunspec.controls_123(),
        sunspec.mppt_160(3),
        sunspec.meter_203(),
        sunspec.der_704(),
    ],
)
def test_registers_written_by_hand_fit_their_definition(model: int, registers: list[int]) -> None:
    assert known(model).fits(len(registers))


@pytest.mark.parametrize(
    ("model", "length", "fits"),
    [
        (1, 66, True),
        (1, 65, True),
        (1, 64, False),
        (103, 50, True),
        (103, 51, False),
        (103, 49, False),
        (160, 8, True),
        (160, 28, True),
        (160, 48, True),
        (160, 40, False),
    ],
)
def test_length_fits_with_or_without_the_pad_and_for_whole_repeats(
    model: int, length: int, fits: bool
) -> None:
    assert known(model).fits(length) is fits


def test_orders_are_writable_points_with_a_timer_of_their_model() -> None:
    assert {model for model, _ in controls()} == {123, 124, 704}
    for (model, name), control in controls().items():
        points = {point.name: point for point in known(model).points}
        assert points[name].writable
        assert points[control.timer].writable
        assert points[control.timer].unit == "Secs"
        assert control.min <= control.default <= control.max


def test_model_without_points_here_has_a_name() -> None:
    assert definition(705) is None
    assert model_names()[705] == "DERVoltVar"
