"""Networks that are told the class."""

import numpy as np
import pytest
from networks import images, narrow, random_network

from tinyddpm.errors import UsageError
from tinyddpm.nn.unet import UNet

CONFIG = narrow("mnist", classes=3)
T = np.array([3, 3])


def outputs(network, labels):
    x = images(network.config, 1)
    return network.forward(np.concatenate([x, x]), T, labels=labels)[0]


def test_the_class_matters_and_none_is_the_null_label():
    network = random_network(CONFIG)
    first, second = outputs(network, np.array([0, 1]))
    assert np.abs(first - second).max() > 1e-3
    null = outputs(network, np.array([3, 3]))
    np.testing.assert_array_equal(outputs(network, None), null)
    assert np.abs(null[0] - first).max() > 1e-3


def test_only_the_rows_of_the_batch_get_a_gradient():
    network = random_network(CONFIG)
    y, saved = network.forward(np.concatenate([images(CONFIG, 1)] * 2), T, labels=np.array([1, 1]))
    network.backward(np.ones_like(y), saved)
    gradient = network.parameters.named()["label.weight"].grad
    assert np.abs(gradient[1]).max() > 0
    np.testing.assert_array_equal(gradient[[0, 2, 3]], 0)


def test_classes_cost_one_row_each_and_one_for_none():
    plain, told = UNet(narrow("mnist")), UNet(CONFIG)
    width = 4 * CONFIG.channels[0]
    assert told.parameters.count - plain.parameters.count == 4 * width


@pytest.mark.parametrize("labels", [[4, 0], [-1, 0], [0], [[0, 1]], [0.0, 1.0]])
def test_labels_that_cannot_be_are_refused(labels):
    network = random_network(CONFIG)
    with pytest.raises(UsageError, match="labels must"):
        outputs(network, np.array(labels))
    with pytest.raises(UsageError, match="labels must be an array"):
        outputs(network, labels)


def test_a_network_without_classes_takes_no_labels():
    with pytest.raises(UsageError, match="without classes"):
        outputs(random_network(narrow("mnist")), np.array([0, 0]))
