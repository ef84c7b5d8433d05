"""The store of parameters: names, places, views."""

import numpy as np
import pytest

from tinyddpm.nn.parameters import Parameter, Parameters


def store():
    parameters = Parameters()
    parameters.add(Parameter("a.weight", (2, 3), bound=0.5))
    parameters.add(Parameter("a.bias", (3,), fill=1.0))
    parameters.add(Parameter("b.weight", (2, 3), bound=0.5, prepare=lambda value: value.T.copy()))
    return parameters


def test_names_and_order_are_those_of_the_layers():
    parameters = store()
    assert [p.name for p in parameters] == list(parameters.named())
    assert list(parameters.named()) == ["a.weight", "a.bias", "b.weight"]
    assert parameters.count == 15


def test_values_and_gradients_are_views_of_the_flat_buffers():
    parameters, flat = store(), np.arange(15.0)
    parameters.bind(flat)
    named = parameters.named()
    assert parameters.value is flat
    np.testing.assert_array_equal(named["a.weight"].value, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(named["a.bias"].value, [6, 7, 8])
    np.testing.assert_array_equal(named["b.weight"].value, [[9, 10, 11], [12, 13, 14]])
    flat[7] = -1
    assert named["a.bias"].value[1] == -1
    named["b.weight"].grad[1, 0] += 2
    np.testing.assert_array_equal(np.flatnonzero(parameters.grad), [12])


def test_a_slot_takes_a_gradient_as_it_is_and_adds_what_comes_then():
    parameters = store()
    parameters.bind(np.arange(15.0))
    slots = parameters.open_slots()
    first, _, last = parameters
    gradient = np.ones((2, 3))
    first.grad += gradient
    assert slots[0].emptied() is gradient
    last.grad += gradient
    last.grad += 2 * gradient
    np.testing.assert_array_equal(slots[2].emptied(), 3 * gradient)
    np.testing.assert_array_equal(gradient, 1)
    np.testing.assert_array_equal(parameters.grad, 0)
    for slot in slots:
        with pytest.raises(ValueError, match="got no gradient"):
            slot.emptied()
    parameters.bind(parameters.value)
    first.grad += gradient
    np.testing.assert_array_equal(parameters.grad[:6], 1)


@pytest.mark.parametrize("shape", [(14,), (16,), (15, 1), (3, 5)])
def test_a_buffer_of_another_shape_is_refused(shape):
    """One that is too long would also be clipped and summed where there is no parameter."""
    with pytest.raises(ValueError, match=r"values must have shape \(15,\): got"):
        store().bind(np.zeros(shape))
    with pytest.raises(ValueError, match=r"gradients must have shape \(15,\): got"):
        store().bind(np.zeros(15), np.zeros(shape))


def test_initial_values_depend_on_the_seed_and_the_place():
    values = store().initial_values(4, np.float64)
    np.testing.assert_array_equal(values, store().initial_values(4, np.float64))
    assert (values[:6] != store().initial_values(5, np.float64)[:6]).all()
    assert (values[:6] != values[9:]).all()
    np.testing.assert_array_equal(values[6:9], 1)
    assert (np.abs(values[:6]) < 0.5).all()


def test_prepared_is_the_value_or_what_was_made_of_it_when_last_asked():
    parameters = store()
    parameters.bind(np.arange(15.0))
    named = parameters.named()
    assert named["a.bias"].prepared is named["a.bias"].value
    np.testing.assert_array_equal(named["b.weight"].prepared, [[9, 12], [10, 13], [11, 14]])
    parameters.value[9] = 0
    assert named["b.weight"].prepared[0, 0] == 9
    parameters.prepare()
    assert named["b.weight"].prepared[0, 0] == 0


def test_prepared_weights_are_adopted_from_a_store_that_shares_the_values():
    first, second, flat = store(), store(), np.arange(15.0)
    first.bind(flat)
    second.bind(flat)
    assert second.named()["b.weight"].prepared is not first.named()["b.weight"].prepared
    second.adopt_prepared(first)
    for mine, theirs in zip(second, first, strict=True):
        assert mine.prepared is theirs.prepared


def test_a_smaller_store_has_nothing_to_adopt():
    first, smaller = store(), Parameters()
    first.bind(np.arange(15.0))
    smaller.bind(np.zeros(0))
    with pytest.raises(ValueError, match="shorter"):
        first.adopt_prepared(smaller)


@pytest.mark.parametrize("name", ["value", "grad"])
def test_what_is_assigned_is_written_into_the_flat_buffer(name):
    """Else no gradient would ever be found behind ``parameters.grad = zeros``."""
    parameters = store()
    parameters.bind(np.ones(15), np.ones(15))
    assigned = np.arange(15.0)
    setattr(parameters, name, assigned)
    parameters.value *= 0.5
    parameters.grad *= 0.5
    np.testing.assert_array_equal(getattr(parameters, name), 0.5 * np.arange(15))
    np.testing.assert_array_equal(assigned, np.arange(15))
    view = getattr(parameters.named()["a.bias"], name)
    assert np.shares_memory(view, getattr(parameters, name))


@pytest.mark.parametrize("name", ["value", "grad"])
def test_so_is_what_is_assigned_to_one_parameter(name):
    parameters = store()
    parameters.bind(np.ones(15), np.ones(15))
    one, flat = parameters.named()["a.bias"], getattr(parameters, name)
    setattr(one, name, np.arange(3.0))
    one.value += 1
    one.grad += 1
    np.testing.assert_array_equal(flat, [1] * 6 + [1, 2, 3] + [1] * 6)
