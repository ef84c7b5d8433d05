"""A checkpoint turned into a model, or refused."""

from dataclasses import replace

import numpy as np
import pytest
from test_bit_exactness import run_to

import tinyddpm
from tinyddpm.errors import CheckpointError, UsageError
from tinyddpm.training.checkpoint import save
from tinyddpm.training.model import from_checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "run"
    return path, run_to(path)


def test_a_run_and_its_checkpoint_are_the_same_model(trained):
    path, checkpoint = trained
    by_run = tinyddpm.load(path).sample(3, steps=5)
    by_file = tinyddpm.load(path / "checkpoints" / "step-00000012.npz").sample(3, steps=5)
    np.testing.assert_array_equal(by_run, by_file)
    assert by_run.dtype == np.uint8
    assert by_run.shape == (3, 16, 16, 1)
    np.testing.assert_array_equal(
        tinyddpm.load(path, weights="raw").network.parameters.value, checkpoint.value
    )


def test_parameters_of_another_network_are_refused(trained):
    _, checkpoint = trained
    first, second, *rest = checkpoint.parameters
    with pytest.raises(CheckpointError, match="not those of the network"):
        from_checkpoint(replace(checkpoint, parameters=[second, first, *rest]))


def test_a_damaged_latest_checkpoint_is_warned_of(tmp_path):
    run_to(tmp_path / "run")
    (tmp_path / "run/checkpoints/step-00000012.npz").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="step-00000000.npz is used instead"):
        assert tinyddpm.load(tmp_path / "run").step == 0


def test_where_there_is_nothing_the_error_says_so(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no run"):
        tinyddpm.load(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        tinyddpm.load(tmp_path / "none.npz")


def test_checkpoints_of_another_size_do_not_pass(trained, tmp_path):
    _, checkpoint = trained
    config = {**checkpoint.config, "network": {**checkpoint.config["network"], "channels": [4, 4]}}
    save(tmp_path / "odd.npz", replace(checkpoint, config=config))
    with pytest.raises(CheckpointError, match="not those of the network") as refusal:
        tinyddpm.load(tmp_path / "odd.npz")
    assert "flat values must have shape" in refusal.value.cause
