"""The network, the training step and the sampling step in PyTorch are ours."""

import numpy as np
import pytest
from small_runs import narrow, small_run, tiny

from tinyddpm.benchmark.against import AGREEMENT, Ground, Rivals, questions
from tinyddpm.benchmark.ours import Ours, fill_with_noise, random_dataset
from tinyddpm.errors import TinyDDPMError
from tinyddpm.nn.config import PRESETS
from tinyddpm.nn.unet import UNet
from tinyddpm.optim import ema_decay
from tinyddpm.parallel import Workers

torch = pytest.importorskip("torch")

from tinyddpm.benchmark import torch_steps  # noqa: E402  needs torch
from tinyddpm.benchmark.torch_unet import TorchUNet, copy_values  # noqa: E402

pytestmark = pytest.mark.peer

GROUND = Ground("cpu", "fp32", 1)
LAST = (0, 2, 3, 1)
FIRST = (0, 3, 1, 2)


@pytest.fixture(autouse=True)
def one_thread():
    """PyTorch's threads spin while they wait, which helps nobody on busy cores."""
    torch_steps.set_threads(1)


def in_double(config):
    """Our network and PyTorch's with the same values, in float64 to the last frequency."""
    ours = UNet(config, dtype=np.float64)
    fill_with_noise(ours.parameters)
    theirs = TorchUNet(config).double()
    copy_values(ours.parameters, theirs)
    half = config.channels[0] // 2
    omega = 10000.0 ** -(np.arange(half) / (half - config.embedding_shift))
    theirs.time.omega = torch.from_numpy(omega * config.time_scale)
    return ours, theirs.eval()


@pytest.mark.parametrize("preset", PRESETS)
def test_output_and_all_gradients_are_ours(preset):
    config = narrow(preset)
    ours, theirs = in_double(config)
    random = np.random.default_rng(0)
    x = random.standard_normal((2, config.image_size, config.image_size, config.in_channels))
    t = np.array([3, 700])
    y, saved = ours.forward(x, t)
    dy = random.standard_normal(y.shape)
    ours.backward(dy, saved)

    their_y = theirs(torch.from_numpy(x.transpose(FIRST)), torch.from_numpy(t))
    their_y.backward(torch.from_numpy(dy.transpose(FIRST)))
    np.testing.assert_allclose(y, their_y.detach().numpy().transpose(LAST), atol=1e-10)
    largest = np.abs(ours.parameters.grad).max()
    gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    for p in ours.parameters:
        their_grad = gradients.pop(p.name)
        if their_grad.ndim == 4:
            their_grad = their_grad.transpose(2, 3, 1, 0)
        elif their_grad.ndim == 2:
            their_grad = their_grad.T
        np.testing.assert_allclose(p.grad, their_grad, rtol=0, atol=1e-11 * largest)
    assert not gradients


def run_of(config, **options):
    ours = UNet(config.network)
    fill_with_noise(ours.parameters)
    images = random_dataset(config.network).images
    options = {"layout": "channels last", "parameters": ours.parameters} | options
    return ours, torch_steps.TorchRun(config, images, **options)


@pytest.mark.parametrize("preset", ["mnist", "cifar10", "cifar10-improved"])
@pytest.mark.parametrize("t", [1, 2, 400])
def test_the_sampling_step_draws_from_our_distribution(preset, t, monkeypatch):
    config = small_run(narrow(preset), preset)
    ours, run = run_of(config)
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)
    run.network.eval()
    x = np.random.default_rng(1).standard_normal((3, *ours_shape(config))).astype(np.float32)
    output, _ = ours.forward(x, np.full(3, t - 1))
    mean, variance, _, _ = config.diffusion.build().p_mean_variance(output, x, t)
    expected = mean if t == 1 else mean + np.sqrt(variance)
    drawn = run.step(torch.from_numpy(x.transpose(FIRST).copy()), t).numpy().transpose(LAST)
    np.testing.assert_allclose(drawn, expected, atol=2e-4)


def ours_shape(config):
    network = config.network
    return network.image_size, network.image_size, network.in_channels


def test_a_chain_ends_and_begins_anew():
    config = small_run(tiny())
    _, run = run_of(config)
    run.t = 0
    run.sample()
    assert run.t == run.T - 1
    run.t = 1
    run.sample()
    assert run.t == 0
    run.sample()
    assert run.t == run.T - 1


@pytest.mark.parametrize("layout", torch_steps.FORMATS)
@pytest.mark.parametrize("fused", [True, False])
def test_the_training_step_has_all_its_parts(layout, fused):
    config = small_run(tiny(), lr=1e-3, warmup=10)
    _, run = run_of(config, layout=layout, fused=fused)
    before = [value.detach().clone() for value in run.values]
    run.train()
    decay = ema_decay(1, config.ema_decay)
    norm = torch.sqrt(sum((value.grad**2).sum() for value in run.values))
    assert norm <= config.grad_clip * (1 + 1e-5)
    for old, new, average in zip(before, run.values, run.ema, strict=True):
        moved = (new - old).abs().max()
        assert 0 < moved <= 1.01e-4  # Adam's first step is the learning rate, here a tenth of 1e-3
        torch.testing.assert_close(average, decay * old + (1 - decay) * new.detach())


def test_dropout_is_there_in_training_and_not_in_sampling():
    config = small_run(narrow("cifar10", dropout=0.5), "cifar10")
    _, run = run_of(config)
    x = torch.randn(2, 3, 32, 32)
    t = torch.tensor([3, 700])
    run.network.train()
    assert not torch.equal(run.network(x, t), run.network(x, t))
    run.network.eval()
    assert torch.equal(run.network(x, t), run.network(x, t))


def test_times_are_of_networks_that_agree():
    config = small_run(narrow("mnist"))
    with Workers(1) as workers:
        ours = Ours(config, workers)
        rivals = Rivals(config, ours, GROUND, ("eager",))
        assert max(rivals.differences.values()) <= AGREEMENT["fp32"]
        found = rivals.compare(ours, "sample", 1.0, rounds=2, steps=1)
    assert len(found.in_turns) == 2
    assert {(v.mode, v.layout) for v in found.variants} == {
        ("eager", layout) for layout in torch_steps.FORMATS
    }
    assert found.best() in found.variants
    assert found.best().ratio.median == min(v.ratio.median for v in found.variants)


@pytest.mark.parametrize(
    ("options", "least", "most"),
    [({}, 0.0, 1e-5), ({"mode": "bf16"}, 1e-3, 0.1), ({"precision": "bf16"}, 1e-3, 0.1)],
    ids=str,
)
def test_the_precision_asked_for_is_the_one_in_use(options, least, most):
    config = small_run(narrow("mnist"))
    ours, run = run_of(config, **options)
    x, t = questions(config, 5)
    y, _ = ours.forward(x, t)
    assert least <= np.abs(run.output(x, t) - y).max() / np.abs(y).max() <= most


@pytest.fixture
def gpu_switches():
    """What PyTorch is told of a GPU, as it was."""
    cudnn, before = torch.backends.cudnn, torch.get_float32_matmul_precision()
    flags = cudnn.allow_tf32, cudnn.benchmark
    yield cudnn
    torch.set_float32_matmul_precision(before)
    cudnn.allow_tf32, cudnn.benchmark = flags


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_on_a_gpu_pytorch_multiplies_as_we_do(precision, gpu_switches):
    torch_steps.set_up_gpu(precision)
    allowed = precision != "fp32"
    assert gpu_switches.allow_tf32 is allowed
    assert torch.get_float32_matmul_precision() == ("high" if allowed else "highest")
    assert gpu_switches.benchmark is True


def test_tensors_are_counted_once_what_was_tried_is_gone(monkeypatch):
    said = []
    cuda = torch_steps.torch.cuda
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(cuda, name, lambda name=name: said.append(name))
    monkeypatch.setattr(cuda, "max_memory_allocated", lambda: 7)
    found = torch_steps.tensor_memory(lambda: said.append("step"), warm_up=2, steps=3)
    assert found == 7
    assert said == [*["step"] * 2, "empty_cache", "reset_peak_memory_stats", *["step"] * 3]


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("compile", {"mode": "default", "dynamic": False}),
        ("reduce-overhead", {"mode": "reduce-overhead", "dynamic": False}),
    ],
)
def test_what_is_compiled_is_what_is_called(mode, options, monkeypatch):
    asked = []

    def compiled(network, **given):
        asked.append(given)
        return lambda x, t: 2 * network(x, t)

    monkeypatch.setattr(torch, "compile", compiled)
    config = small_run(tiny())
    _, eager = run_of(config)
    _, run = run_of(config, mode=mode)
    x, t = questions(config, 2)
    assert asked == [options]
    np.testing.assert_allclose(run.output(x, t), 2 * eager.output(x, t))


def test_a_network_that_is_not_ours_is_not_timed(monkeypatch):
    config = small_run(narrow("mnist"))
    monkeypatch.setattr(TorchUNet, "forward", wrong(TorchUNet.forward))
    with Workers(1) as workers, pytest.raises(TinyDDPMError, match="is not ours"):
        Rivals(config, Ours(config, workers), GROUND, ("eager",))


@pytest.mark.parametrize(
    ("mode", "said"), [("eager", "PyTorch failed (eager,"), ("compile", "torch.compile failed")]
)
def test_what_fails_in_a_step_is_told_before_any_is_timed(mode, said, monkeypatch):
    """Its output needs no memory for a backward, nor one that is compiled."""

    def full(*_):
        raise RuntimeError("out of memory")

    config = small_run(tiny())
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    monkeypatch.setattr(torch.Tensor, "backward", full)
    with Workers(1) as workers, pytest.raises(TinyDDPMError) as failed:
        Rivals(config, Ours(config, workers), GROUND, (mode,))
    assert said in str(failed.value)
    assert "out of memory" in failed.value.cause


def test_modules_are_told_once_whether_they_train(monkeypatch):
    _, run = run_of(small_run(tiny()))
    asked, tell = [], torch.nn.Module.train
    monkeypatch.setattr(
        TorchUNet, "train", lambda self, mode=True: (asked.append(mode), tell(self, mode))[1]
    )
    for step in (run.train, run.train, run.sample, run.sample, run.train):
        step()
    assert asked == [False, True]


def wrong(forward):
    """Off by a part in a thousand."""

    def altered(self, x, t):
        return 1.001 * forward(self, x, t)

    return altered
