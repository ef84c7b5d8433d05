"""The command line as a user meets it: results, errors, exit codes."""

import errno
import json
import os
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_mnist import bars, write_mnist
from PIL import Image

from tinyddpm import data
from tinyddpm.cli.main import commands, main
from tinyddpm.cli.options import RunPath
from tinyddpm.training.checkpoint import read, save
from tinyddpm.training.run_directory import RunDirectory

TINY = ["--batch", "4", "--shard", "2", "--threads", "2", "--device", "cpu", "--preview-every", "0"]


@pytest.fixture
def trained(cli):
    """A folder with a run of two long steps in runs/glyphs-1."""
    code, out, err = cli("train", "--data", "glyphs", "--train-steps", 2, "--lr", 1, *TINY)
    assert code == 0, err
    assert out == "runs/glyphs-1\n"
    return cli


@pytest.mark.usefixtures("trained")
def test_training_leaves_a_run(tmp_path):
    run = RunDirectory.open(tmp_path / "runs" / "glyphs-1")
    metrics = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [m["step"] for m in metrics] == [1, 2]
    assert all({"loss", "seconds", "loss_q0", "loss_q3"} <= m.keys() for m in metrics)
    assert run.latest_checkpoint().checkpoint.step == 2
    assert json.loads((run.path / "config.json").read_text())["batch"] == 4
    assert (run.path / "env.json").exists()


def test_progress_goes_to_stderr_as_plain_lines(cli):
    code, out, err = cli("train", "--train-steps", 2, *TINY, "--out", "here")
    assert (code, out) == (0, "here\n")
    assert "176,849 parameters" in err
    assert "half-life" in err
    assert "step 2/2  loss" in err
    assert "images/s" in err
    assert "\r" not in err
    assert "\x1b" not in err


def test_resuming_needs_nothing_but_the_run(trained):
    assert trained("train", "--resume", "runs/glyphs-1")[0] == 0
    code, _, err = trained("train", "--resume", "runs/glyphs-1", "--train-steps", 3)
    assert code == 0, err
    assert RunDirectory.open(Path("runs/glyphs-1")).latest_checkpoint().checkpoint.step == 3


def test_a_run_goes_by_its_name(trained, tmp_path):
    assert trained("sample", "glyphs-1", "--steps", 2, "--n", 1, "--out", "a.png")[0] == 0
    assert (tmp_path / "a.png").is_file()
    assert trained("runs", "compare", "glyphs-1", "runs/glyphs-1")[0] == 0


@pytest.mark.usefixtures("cli")
def test_what_lies_here_comes_before_the_run_of_its_name():
    Path("runs/a").mkdir(parents=True)
    assert RunPath().convert("a", None, None) == Path("runs/a")
    assert RunPath().convert("b", None, None) == Path("b")
    Path("a").mkdir()
    assert RunPath().convert("a", None, None) == Path("a")


@pytest.mark.parametrize(("seed", "code"), [(0, 0), (2**32 - 1, 0), (2**32, 2)])
def test_a_seed_is_a_word_of_the_generator(cli, seed, code):
    assert cli("train", "--seed", seed, "--print-config")[0] == code


def test_the_newest_run_is_sampled(trained, tmp_path):
    code, out, err = trained("sample", "--steps", 3, "--n", 5, "--npz", "raw.npz")
    assert code == 0, err
    assert out == "samples.png\nraw.npz\n"
    assert "step 3/3" in err
    images = np.load(tmp_path / "raw.npz")["images"]
    assert images.shape == (5, 16, 16, 1)
    assert images.dtype == np.uint8
    sheet = np.asarray(Image.open(tmp_path / "samples.png"))
    assert (sheet[:48:3, :48:3] == images[0, :, :, 0]).all()  # 16 pixels, three times as large


def test_samples_depend_on_seed_and_place_alone(trained, tmp_path):
    def images(*args):
        code, _, err = trained("sample", "--steps", 2, "--npz", "x.npz", *args)
        assert code == 0, err
        return np.load(tmp_path / "x.npz")["images"]

    five = images("--n", 5, "--threads", 2)
    np.testing.assert_array_equal(images("--n", 3, "--threads", 1), five[:3])
    assert not np.array_equal(images("--n", 5, "--seed", 1), five)
    assert not np.array_equal(images("--n", 5, "--weights", "raw"), five)


def test_a_checkpoint_file_can_be_named(trained):
    path = "runs/glyphs-1/checkpoints/step-00000002.npz"
    code, _, err = trained("sample", path, "--steps", 1, "--n", 1)
    assert code == 0
    assert "step 2, ema weights" in err


def test_gradcheck_prints_a_line_for_each(cli):
    code, out, _ = cli("gradcheck")
    lines = out.splitlines()
    assert code == 0
    assert len(lines) > 25
    assert any(line.startswith("UNet, scale-shift") for line in lines)
    assert all(float(line.split()[-1]) <= 1e-11 for line in lines[:-1])


def test_gradcheck_fails_when_a_gradient_is_wrong(cli, monkeypatch):
    wrong = "tinyddpm.gradcheck.ops.softmax_backward"
    monkeypatch.setattr(wrong, lambda dp, saved: dp * saved.p)
    code, out, _ = cli("gradcheck")
    assert code == 1
    assert "softmax" in next(line for line in out.splitlines() if "FAILED" in line)


def test_the_program_is_called_by_its_name(monkeypatch, capsys):
    """However it was started: what completes words in a shell asks for it by that."""
    monkeypatch.setattr(sys, "argv", ["/opt/a-wrapper", "train", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out.startswith("Usage: tinyddpm train [OPTIONS]")


@pytest.mark.parametrize("told", ["", "Unable to allocate 7 TiB"])
def test_too_little_memory_is_one_error(cli, monkeypatch, told):
    def without(*_, **__):
        raise MemoryError(told)

    monkeypatch.setattr("tinyddpm.cli.train_plan.new", without)
    cause = [f"cause: {told}"] if told else []
    code, out, err = cli("train", "--device", "cpu")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "error: out of memory",
        *cause,
        "try: a smaller --batch or --n",
    ]


def test_images_that_are_no_squares_are_refused_by_their_file(cli):
    np.save("oblong.npy", np.zeros((4, 16, 20), np.uint8))
    code, out, err = cli("train", "--data", "oblong.npy")
    assert (code, out) == (3, "")
    assert f"{Path.cwd()}/oblong.npy are not square" in err
    assert "16×20 pixels" in err


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["train", "--data", "nonsense"], 3, ["nonsense", "mnist, fashion-mnist"]),
        (["train", "--preset", "nonsense"], 2, ["nonsense", "mnist-1.7m"]),
        (["train", "--data", "mnist", "--data-dir", "."], 3, ["train-images-idx3-ubyte"]),
        (
            ["train", "--preset", "cifar10", "--batch", "0"],
            2,
            ["--batch", "0 is not in the range x>=1"],
        ),
        (["train", "--lr", "0"], 2, ["lr must be positive", "got 0.0"]),
        (["train", "--vlb-weight", "0.1"], 2, ["--vlb-weight 0.1", "'simple'"]),
        (["train", "--seed", "-1"], 2, ["--seed"]),
        (["train", "--batch", "many"], 2, ["--batch", "'many' is not a valid integer\n"]),
        (["sample", "--ddim", "much"], 2, ["--ddim", "'much' is not a valid float\n"]),
        (["train", "--batch", 10**30], 2, ["--batch", "more than 2147483647"]),
        (["train", "--diffusion-steps", 10**30], 2, ["--diffusion-steps", "x<=1000000"]),
        (["sample", "--n", 10**30], 2, ["--n", "more than 2147483647"]),
        (["sample", "--interpolate", 10**30], 2, ["--interpolate", "more than 2147483647"]),
        (["sample", "--guidance", "nan"], 2, ["--guidance", "nan is not a finite number"]),
        (["sample", "--guidance", "inf"], 2, ["--guidance", "inf is not a finite number"]),
        (["sample", "--ddim", "nan"], 2, ["--ddim", "nan is not a finite number"]),
        (["evaluate", "--ddim", "nan"], 2, ["--ddim", "nan is not a finite number"]),
        (["verify", "--alpha", "nan"], 2, ["--alpha", "nan is not a finite number"]),
        (["train", "--resume", "nowhere"], 2, ["nowhere", "no run"]),
        (["train", "--resume", "a", "--out", "b"], 2, ["--out"]),
        (["train", "--device", "tpu"], 2, ["tpu"]),
        (["train", "--out", "/proc/run"], 6, ["/proc/run"]),
        (["sample"], 4, ["no trained run", "tinyddpm train"]),
        (["sample", "nowhere.npz"], 4, ["nowhere.npz"]),
        (["sample", "--out", "no/folder/x.png"], 2, ["no/folder"]),
        (["sample", "--n", "0"], 2, ["--n"]),
        (["frobnicate"], 2, ["frobnicate"]),
    ],
)
def test_mistakes_give_one_message_and_a_code(cli, args, code, words):
    got, out, err = cli(*args)
    assert got == code, err
    assert out == ""
    assert "Traceback" not in err
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (
            ["train", "--batch", "0"],
            "error: invalid value for '--batch': 0 is not in the range x>=1\n"
            "try: tinyddpm train --help\n",
        ),
        (
            ["runs", "compare", "one"],
            "error: missing argument 'B'\ntry: tinyddpm runs compare --help\n",
        ),
    ],
)
def test_errors_of_click_are_told_like_our_own(cli, args, told):
    assert cli(*args) == (2, "", told)


def test_no_verb_at_all_shows_the_help(cli):
    code, out, err = cli()
    assert (code, out) == (2, "")
    assert err.startswith("Usage: tinyddpm [OPTIONS] COMMAND")


def test_a_run_larger_than_the_machine_is_refused_before_it_begins(cli, monkeypatch, tmp_path):
    monkeypatch.setattr("tinyddpm.cli.train_plan.total_memory", lambda: 2**30)
    code, out, err = cli("train", *TINY, "--batch", 10**7)
    assert (code, out) == (2, "")
    assert "a step needs at least 1.2 GiB of memory" in err
    assert "10,000,000 images in shards of 2; this machine has 1.0 GiB" in err
    assert "a smaller --batch or --shard" in err
    assert not list(tmp_path.iterdir())
    assert cli("train", *TINY, "--train-steps", 1)[0] == 0


def test_cuda_without_cupy_names_the_way_out(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    code, _, err = cli("train", "--device", "cuda")
    assert code == 2
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        (cupy,) = tomllib.load(file)["project"]["optional-dependencies"]["cuda12"]
    assert f'pip install "{cupy}"' in err
    code, _, err = cli("train", "--device", "auto", "--train-steps", 1, "--batch", 2)
    assert code == 0
    assert "device: cpu (no GPU: CuPy is not installed)" in err


def test_an_existing_run_is_not_overwritten(trained, tmp_path):
    before = (tmp_path / "runs/glyphs-1/metrics.jsonl").read_bytes()
    code, _, err = trained("train", "--out", "runs/glyphs-1")
    assert code == 2
    assert "--resume runs/glyphs-1" in err
    assert (tmp_path / "runs/glyphs-1/metrics.jsonl").read_bytes() == before


def test_a_run_in_use_is_locked(trained):
    with RunDirectory.open(Path("runs/glyphs-1")).lock():
        code, _, err = trained("train", "--resume", "runs/glyphs-1", "--train-steps", 3)
    assert code == 75
    assert "runs/glyphs-1" in err


def test_resuming_with_another_configuration_lists_the_keys(trained):
    code, _, err = trained("train", "--resume", "runs/glyphs-1", "--lr", 0.5, "--batch", 5)
    assert code == 4
    assert "batch: 4 → 5" in err
    assert "lr: 1.0 → 0.5" in err


@pytest.mark.parametrize("steps", [0, 1001, -1])
def test_steps_out_of_range_are_refused(trained, steps):
    code, _, err = trained("sample", "--steps", steps)
    assert code == 2
    assert "from 1 to 1000" in err


def test_a_damaged_checkpoint_is_said_and_the_one_before_used(trained, tmp_path):
    path = tmp_path / "runs/glyphs-1/checkpoints/step-00000002.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    code, _, err = trained("sample", "--steps", 1, "--n", 1)
    assert code == 0
    used = "runs/glyphs-1/checkpoints/step-00000000.npz is used instead"
    assert any(line.startswith("warning: ") and used in line for line in err.splitlines())
    assert "step 0" in err
    assert "a network that has not been trained" in err
    code, _, err = trained("sample", path, "--steps", 1, "--n", 1)
    assert code == 4
    assert "damaged" in err


def test_a_run_whose_checkpoints_cannot_be_listed_does_not_begin_anew(trained, monkeypatch):
    """It would lose its metrics, and its checkpoints where they can still be written."""
    folder = "runs/glyphs-1/checkpoints"

    def refusing(function):
        def listed(path="."):
            if str(path) == folder:
                raise PermissionError(errno.EACCES, "Permission denied", folder)
            return function(path)

        return listed

    before = Path("runs/glyphs-1/metrics.jsonl").read_bytes()
    monkeypatch.setattr(os, "listdir", refusing(os.listdir))
    monkeypatch.setattr(os, "scandir", refusing(os.scandir))
    code, _, err = trained("train", "--resume", "runs/glyphs-1", "--train-steps", 3)
    assert code == 4
    assert f"{folder} cannot be read\ncause: Permission denied" in err
    assert Path("runs/glyphs-1/metrics.jsonl").read_bytes() == before


def test_the_way_out_of_nothing_but_damage_is_one(trained, tmp_path):
    damaged = list((tmp_path / "runs/glyphs-1/checkpoints").glob("*.npz"))
    for path in damaged:
        path.write_bytes(b"")
    again = ["train", "--resume", "runs/glyphs-1"]
    code, _, err = trained(*again)
    assert code == 4
    told = "try: another run; without these files tinyddpm train --resume runs/glyphs-1 begins it"
    assert told in err
    for path in damaged:
        path.unlink()
    assert trained(*again)[0] == 0


@pytest.fixture
def train_on_squares(cli, monkeypatch):
    """Run train with images of so many pixels."""

    def train(pixels, *args):
        squares = data.Dataset("squares", np.ones((4, pixels, pixels, 1), np.uint8))
        monkeypatch.setitem(data.LOADERS, "squares", lambda *_: squares)
        return cli("train", "--data", "squares", *args)

    return train


def test_images_that_cannot_be_halved_are_refused(train_on_squares):
    code, _, err = train_on_squares(17, "--preset", "mnist")
    assert code == 2
    assert "17 pixels are not divisible by 4" in err
    assert "16 or 20" in err
    assert "is fitted" not in err


def test_a_preset_that_cannot_be_fitted_is_refused_for_those_that_can(train_on_squares):
    code, _, err = train_on_squares(12, "--preset", "cifar10")
    assert code == 2
    assert "preset cifar10 is not for images of 12×12 pixels\ncause: their height" in err
    assert "divisible by 8" in err
    (remedy,) = (line for line in err.splitlines() if line.startswith("try:"))
    assert remedy == "try: --preset glyphs, mnist, mnist-1.7m"
    for preset in ("glyphs", "mnist", "mnist-1.7m"):
        assert train_on_squares(12, "--preset", preset, "--dry-run", "--threads", 1)[0] == 0


def test_a_data_set_that_is_misspelt_is_guessed(cli):
    code, _, err = cli("train", "--data", "mnits")
    assert code == 3
    assert "unknown data set 'mnits'" in err
    assert "try: mnist, if that was meant; known are glyphs, mnist, " in err
    for name in ("qqq", ""):
        code, _, err = cli("train", "--data", name)
        assert code == 3
        assert f"unknown data set {name!r}" in err
        assert "try: glyphs, mnist, " in err


@pytest.mark.parametrize("verb", [[], *([name] for name in commands.commands)])
def test_help_has_an_example(cli, verb):
    code, out, _ = cli(*verb, "--help")
    assert code == 0
    assert "Example" in out
    assert "tinyddpm " in out


@pytest.mark.parametrize("kind", [RuntimeError, EOFError])
def test_a_bug_is_not_hidden(cli, monkeypatch, kind):
    def broken(_):
        raise kind("a bug")

    monkeypatch.setattr("tinyddpm.cli.gradcheck.certificates", broken)
    with pytest.raises(kind, match="a bug"):
        cli("gradcheck")


def test_a_learned_variance_is_trained_and_sampled(cli):
    args = ["--variance", "learned", "--diffusion-steps", 30, "--times", "second-moment"]
    assert cli("train", "--train-steps", 2, *TINY, *args)[0] == 0
    code, _, err = cli("sample", "--n", 2)
    assert code == 0
    assert "step 30/30" in err


@pytest.mark.parametrize(
    "args",
    [
        ["--variance", "learned", "--objective", "simple"],
        ["--objective", "hybrid"],
        ["--schedule", "linear", "--diffusion-steps", 20],
    ],
    ids=str,
)
def test_chains_that_cannot_be_leave_no_run_behind(cli, tmp_path, args):
    code, _, err = cli("train", *args)
    assert code == 2
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


def test_classes_are_trained_asked_for_and_guided(cli, tmp_path):
    code, _, err = cli("train", "--conditional", "--train-steps", 2, "--lr", 1, *TINY)
    assert code == 0, err

    def images(*args):
        args = ["sample", "--steps", 2, "--n", 3, "--npz", "x.npz", *args]
        code, _, err = cli(*args)
        assert code == 0, err
        return np.load(tmp_path / "x.npz")["images"]

    assert not np.array_equal(images("--class", "7"), images("--class", "3"))
    assert not np.array_equal(images("--class", "7"), images("--class", "7", "--guidance", 3))
    code, _, err = cli("sample", "--class", "cat")
    assert code == 2
    assert "one of 0, 1, 2, 3" in err
    assert cli("train", "--resume", "runs/glyphs-1", "--train-steps", 3, "--conditional")[0] == 0


def test_classes_are_not_promised_where_the_data_have_none(cli, tmp_path):
    np.save("plain.npy", np.zeros((4, 16, 16), np.uint8))
    code, out, err = cli("train", "--data", "plain.npy", "--conditional", *TINY)
    assert (code, out) == (2, "")
    assert "--conditional needs classes, and plain has none" in err
    assert "a subfolder for each class, an array of labels" in err
    assert not (tmp_path / "runs").exists()
    assert cli("train", "--data", "plain.npy", "--no-conditional", "--dry-run", *TINY)[0] == 0


def test_classes_asked_of_a_network_without_them_are_refused(trained):
    for args in (["--class", "7"], ["--guidance", 1]):
        code, _, err = trained("sample", *args)
        assert code == 2
        assert "--conditional" in err
    assert trained("train", "--resume", "runs/glyphs-1", "--conditional")[0] == 2


def test_ddim_is_another_way_back(trained, tmp_path):
    def images(*args):
        code, _, err = trained("sample", "--steps", 5, "--n", 2, "--npz", "x.npz", *args)
        assert code == 0, err
        return np.load(tmp_path / "x.npz")["images"]

    assert not np.array_equal(images("--ddim", 0), images())
    np.testing.assert_array_equal(images("--ddim", 0), images("--ddim", 0))


@pytest.mark.parametrize("lr", ["nan", "inf", "-1", "0"])
def test_learning_rates_that_cannot_be_leave_no_run_behind(cli, tmp_path, lr):
    code, _, err = cli("train", "--lr", lr)
    assert code == 2
    assert "lr" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("args", "steps"), [([], 2), (["--train-steps", 3], 3)])
def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_anew(
    trained, tmp_path, args, steps
):
    for path in (tmp_path / "runs/glyphs-1/checkpoints").iterdir():
        path.unlink()
    code, out, err = trained("train", "--resume", "runs/glyphs-1", *args)
    assert code == 0, err
    assert out == "runs/glyphs-1\n"
    lines = (tmp_path / "runs/glyphs-1/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, steps + 1))


def test_what_cannot_be_written_is_said_before_the_work(trained, tmp_path, monkeypatch):
    code, _, err = trained("sample", "--out", "x.png", "--gif", "x.png")
    assert code == 2
    assert "step" not in err
    code, _, err = trained("sample", "--steps", 1, "--n", 1, "--out", "x" * 300 + ".png")
    assert code == 6
    assert "Traceback" not in err
    assert not list(tmp_path.glob("*.part"))
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    code, _, err = trained("sample")
    assert code == 6
    assert "step" not in err


@pytest.mark.mnist
def test_data_are_found_again_where_they_were(cli, real_data, monkeypatch):
    monkeypatch.setenv("TINYDDPM_DATA", str(real_data))
    code, _, err = cli("train", "--data", "mnist", "--train-steps", 1, *TINY, "--out", "run")
    assert code == 0, err
    monkeypatch.delenv("TINYDDPM_DATA")
    code, _, err = cli("train", "--resume", "run", "--train-steps", 2)
    assert code == 0, err


def test_a_run_on_what_was_downloaded_can_be_measured_and_goes_on(cli, fetched, tmp_path):
    """What training did not need is fetched when it is, and what was deleted is fetched again."""
    args = ["--data", "mnist", "--preset", "glyphs", "--diffusion-steps", 20, "--out", "run"]
    code, _, err = cli("train", *args, "--train-steps", 1, *TINY)
    assert code == 0, err
    assert [name.partition("-")[0] for name in fetched] == ["train", "train"]
    code, _, err = cli("evaluate", "run", "--nll", "--images", 2, "--draws", 1, "--device", "cpu")
    assert code == 0, err
    assert [name.partition("-")[0] for name in fetched[2:]] == ["t10k", "t10k"]
    (tmp_path / "cache/tinyddpm/mnist/train-labels-idx1-ubyte").unlink()
    code, _, err = cli("train", "--resume", "run", "--train-steps", 2)
    assert code == 0, err
    assert fetched[4:] == ["train-labels-idx1-ubyte.gz"]
    assert "note: " not in err


def test_a_run_does_not_go_on_with_other_images(cli):
    np.save("mine.npy", np.zeros((4, 8, 8), np.uint8))
    args = ["--data", "mine.npy", "--preset", "glyphs", "--out", "run", *TINY]
    assert cli("train", *args, "--train-steps", 1)[0] == 0
    np.save("mine.npy", np.ones((4, 8, 8), np.uint8))
    code, out, err = cli("train", "--resume", "run", "--train-steps", 2)
    assert (code, out) == (4, "")
    assert "trained on other data than this mine" in err


@pytest.mark.usefixtures("fetched")
def test_the_folder_of_the_data_is_found_again_from_another_folder(cli, tmp_path):
    """It is recorded whole, when a run begins and when it goes on with the data elsewhere."""
    own = write_mnist(tmp_path / "mine", bars(6, seed=2), bars(4, seed=3))
    moved, run = tmp_path / "moved", tmp_path / "run"
    args = ["--data", "mnist", "--data-dir", "mine", "--preset", "glyphs", "--out", "run", *TINY]
    assert cli("train", *args, "--train-steps", 1)[0] == 0
    assert read(run / "checkpoints/step-00000001.npz").config["data_dir"] == str(own)
    own.rename(moved)
    resume = ["train", "--resume", "run", "--train-steps", 2]
    code, _, err = cli(*resume, "--data-dir", "moved")
    assert code == 0, err
    assert read(run / "checkpoints/step-00000002.npz").config["data_dir"] == str(moved)


def test_own_training_images_that_are_gone_are_missed_and_not_replaced(cli, fetched, tmp_path):
    own = write_mnist(tmp_path / "mine", bars(6, seed=2), bars(4, seed=3))
    args = ["--data", "mnist", "--data-dir", "mine", "--preset", "glyphs", "--out", "run"]
    assert cli("train", *args, "--train-steps", 1, *TINY)[0] == 0
    (own / "train-labels-idx1-ubyte").unlink()
    code, _, err = cli("train", "--resume", "run", "--train-steps", 2)
    assert code == 3
    assert "mine lacks train-labels-idx1-ubyte.gz" in err
    assert fetched == []


def test_a_resumed_run_reads_the_folder_that_is_named_and_no_other(cli, fetched):
    args = ["--data", "mnist", "--preset", "glyphs", "--out", "run"]
    assert cli("train", *args, "--train-steps", 1, *TINY)[0] == 0
    code, _, err = cli("train", "--resume", "run", "--train-steps", 2, "--data-dir", "nowhere")
    assert code == 3
    assert "nowhere lacks train-images-idx3-ubyte.gz" in err
    assert len(fetched) == 2


def test_an_unknown_preset_is_refused_before_anything_is_downloaded(cli, fetched):
    code, _, err = cli("train", "--data", "mnist", "--preset", "minst", "--out", "run")
    assert code == 2
    assert "unknown preset 'minst'" in err
    assert fetched == []


def test_a_preset_for_another_size_is_said_to_be_fitted(cli):
    code, _, err = cli("train", "--preset", "mnist", "--train-steps", 1, *TINY)
    assert code == 0
    assert "preset mnist is made for images of 28×28 pixels; here it is fitted to 16×16" in err


def test_pictures_are_named_as_what_they_are(trained):
    for option, name in [("--out", "x.jpg"), ("--npz", "x.png"), ("--npz", "x")]:
        code, _, err = trained("sample", "--steps", 1, option, name)
        assert code == 2
        assert f"{name} is not named like one" in err


@pytest.mark.parametrize("text", ['{"numpy": "1.0"}', "{}", '{"numpy": []}', "{", None])
def test_a_run_that_goes_on_under_another_numpy_says_so(trained, tmp_path, text):
    path = tmp_path / "runs/glyphs-1/env.json"
    path.write_text(text) if text else path.unlink()
    code, _, err = trained("train", "--resume", "glyphs-1")
    assert code == 0, err
    told = f"note: numpy 1.0 → {np.__version__} since the run was begun" in err
    assert told == (text == '{"numpy": "1.0"}')
    assert ("since the run" in err) == told


def test_what_is_said_to_go_on_with_can_be_pasted(cli):
    args = "train", "--train-steps", 1, "--batch", 2, "--preview-every", 0, "--out", "my runs/a"
    code, out, err = cli(*args)
    assert code == 0, err
    assert out == "my runs/a\n"
    assert "sample it with: tinyddpm sample 'my runs/a'\n" in err
    code, _, err = cli(*args)
    assert code == 2
    assert "try: --resume 'my runs/a' to go on" in err


def test_a_resumed_run_says_where_it_goes_on(trained):
    code, _, err = trained("train", "--resume", "runs/glyphs-1", "--train-steps", 3)
    assert code == 0
    assert "going on from step 2" in err
    assert "step 3/3  loss" in err
    assert "sample it with: tinyddpm sample runs/glyphs-1" in err
    code, _, err = trained("sample", "--steps", 1, "--n", 1)
    assert code == 0
    assert "warning" not in err


def test_a_run_that_goes_on_from_its_beginning_says_so(trained, tmp_path):
    """As one does that was killed before its first checkpoint."""
    for path in (tmp_path / "runs/glyphs-1/checkpoints").glob("*[1-9].npz"):
        path.unlink()
    code, _, err = trained("train", "--resume", "runs/glyphs-1")
    assert code == 0
    assert "going on from step 0" in err


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_fewer_steps_than_are_done_are_refused(trained, dry):
    code, out, err = trained("train", "--resume", "runs/glyphs-1", "--train-steps", 1, *dry)
    assert (code, out) == (2, "")
    assert "--train-steps 1 is less than the steps already done" in err
    assert "step 2" in err


def test_the_weight_of_the_bound_is_the_users(cli, tmp_path):
    def trained_with(weight, name):
        args = ["--variance", "learned", "--diffusion-steps", 30, "--vlb-weight", weight]
        code, _, err = cli("train", "--train-steps", 1, *TINY, *args, "--out", name)
        assert code == 0, err
        metrics = json.loads((tmp_path / name / "metrics.jsonl").read_text())
        return metrics["loss"]

    simple, one, two = (trained_with(w, f"w{w}") for w in (0, 1, 2))
    assert two - simple == pytest.approx(2 * (one - simple), rel=1e-4)
    assert one > simple


def test_a_checkpoint_of_another_network_is_refused_without_a_traceback(trained, tmp_path):
    path = tmp_path / "runs/glyphs-1/checkpoints/step-00000002.npz"
    checkpoint = read(path)
    network = {**checkpoint.config["network"], "channels": [8, 16]}
    save(
        tmp_path / "odd.npz", replace(checkpoint, config={**checkpoint.config, "network": network})
    )
    code, out, err = trained("sample", "odd.npz", "--steps", 1)
    assert (code, out) == (4, "")
    assert "not those of the network" in err
    assert "Traceback" not in err
