"""``tinyddpm evaluate`` as a user meets it."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from tinyddpm.cli.likelihood_report import comparison_lines
from tinyddpm.cli.main import commands
from tinyddpm.evaluation.estimate import Estimate
from tinyddpm.evaluation.ledger import Comparison
from tinyddpm.nn.unet import UNet
from tinyddpm.training import run_directory

TINY = ["--batch", "4", "--shard", "2", "--threads", "1", "--device", "cpu", "--train-steps", "1"]
FEW = ["--images", 7, "--draws", 3, "--threads", 1, "--device", "cpu"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of hardly trained runs: two of a kind, and two of other kinds."""
    folder = tmp_path_factory.mktemp("runs")
    chains = {
        "one": ["--diffusion-steps", "30"],
        "like": ["--diffusion-steps", "30", "--seed", "1"],
        "learned": ["--diffusion-steps", "20", "--variance", "learned"],
        "conditional": ["--diffusion-steps", "20", "--conditional"],
    }
    for name, chain in chains.items():
        out = ["--out", str(folder / name), "--preview-every", "0"]
        commands.main(["train", *TINY, *chain, *out], standalone_mode=False)
    return folder


@pytest.fixture
def evaluate(command, monkeypatch, runs):
    """Run the command in the folder of the runs: its exit code, stdout and stderr."""
    monkeypatch.chdir(runs)
    return partial(command, "evaluate")


def found(evaluate, *args):
    """The JSON object of a run that succeeds."""
    code, out, err = evaluate(*args, "--nll", "--json")
    assert code == 0, err
    return json.loads(out)


def test_the_ledger_is_on_stdout_and_progress_is_not(evaluate):
    code, out, err = evaluate("one", "--nll", *FEW)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("glyphs, test set: 7 of ")
    assert "256 dimensions" in lines[0]
    assert "cosine T = 30, predicts eps, variance beta_tilde" in lines[2]
    assert lines[3] == "5 of 30 times for each image"
    labels = [line[:16].strip() for line in lines[6:]]
    expected = ["L_0", "L_1", "L_2 .. L_4", "L_5 .. L_9", "L_10 .. L_19", "L_20 .. L_28", "L_29"]
    assert labels[:-1] == [*expected, "L_T", "bound", "95 %"]
    assert all(line.count("±") == 4 for line in lines[6:-2])
    assert lines[-1].startswith("floor of L_0, clipped, for any network: ")
    assert "evaluating step-00000001.npz  step 5/5" in err  # a bar has no room for all the path
    assert "±" not in err


def test_what_no_time_was_drawn_for_has_no_estimate(evaluate):
    draws = "--images", 2, "--draws", 1, "--threads", 1, "--device", "cpu"
    entries = found(evaluate, "one", *draws)["clipped"]["sums"]
    assert sum(entry["drawn"] for entry in entries) == 2 * 2  # and t = T; t = 1 is in no range
    lines = evaluate("one", "--nll", *draws)[1].splitlines()[7 : 7 + len(entries)]
    said = ["no t drawn" in line for line in lines]
    assert said == [entry["drawn"] == 0 for entry in entries]
    assert sum(said) >= 3
    assert all(line.count("±") == 4 for line, none in zip(lines, said, strict=True) if not none)


def test_json_holds_all_that_the_table_shows(evaluate):
    result = found(evaluate, "one", *FEW)
    assert (result["data"], result["images"], result["dims"]) == ("glyphs", 7, 256)
    assert result["chain"]["T"] == 30
    assert result["times_per_image"] == 5
    assert result["step"] == 1
    for kind in ("clipped", "unclipped"):
        part = result[kind]
        sums = [part["L_0"], part["L_T"], *part["sums"]]
        assert sum(entry["mean"] for entry in sums) == pytest.approx(part["bits_per_dim"]["mean"])
        low, high = part["bits_per_dim"]["interval_95"]
        assert low < part["bits_per_dim"]["mean"] < high
        ratio = part["nats_per_image"]["mean"] / part["bits_per_dim"]["mean"]
        assert ratio == pytest.approx(256 * 0.6931471805599453)
        first, *_, last = part["terms"]
        assert (first["t"], first["images"], last["t"]) == (1, 7, 30)
        assert first["mean"] == pytest.approx(part["L_0"]["mean"])
    assert result["clipped"]["L_0"]["mean"] >= result["decoder_floor"]["bits_per_dim"]


def test_threads_do_not_matter_and_seeds_do(evaluate):
    one, two = (
        found(evaluate, "one", "--images", 20, "--threads", n, "--device", "cpu") for n in (1, 2)
    )
    assert one == two
    assert found(evaluate, "one", *FEW, "--seed", 1)["clipped"] != one["clipped"]
    assert found(evaluate, "one", *FEW, "--weights", "raw")["weights"] == "raw"


def test_exact_takes_all_times(evaluate):
    result = found(evaluate, "one", "--images", 2, "--exact", "--device", "cpu")
    assert result["times_per_image"] == 30
    terms = result["clipped"]["terms"]
    assert [term["t"] for term in terms] == list(range(1, 31))
    assert all(term["images"] == 2 for term in terms)


def test_two_runs_are_compared_on_the_same_noise(evaluate):
    alone = found(evaluate, "like", *FEW)
    both = found(evaluate, "one", "--against", "like", *FEW)
    assert both["against"]["clipped"] == alone["clipped"]
    for kind in ("clipped", "unclipped"):
        bounds = [side[kind]["bits_per_dim"]["mean"] for side in (both, both["against"])]
        difference = both["difference"][kind]["bound"]
        assert difference["mean"] == pytest.approx(bounds[0] - bounds[1])
    same = found(evaluate, "one", "--against", "one", *FEW)["difference"]["clipped"]["bound"]
    assert (same["mean"], same["standard_error"]) == (0.0, 0.0)
    code, out, _ = evaluate("one", "--nll", "--against", "learned", *FEW)
    assert code == 0
    assert "first less second" in out
    assert out.count("95 %") == 3


def test_a_learned_variance_has_no_strict_floor(evaluate):
    assert not found(evaluate, "learned", *FEW)["decoder_floor"]["strict"]


def test_a_network_with_classes_is_asked_for_none(evaluate, monkeypatch):
    told = []
    forward = UNet.forward

    def spying(self, x, t, **given):
        told.append(given["labels"])
        return forward(self, x, t, **given)

    monkeypatch.setattr(UNet, "forward", spying)
    assert found(evaluate, "conditional", *FEW)["images"] == 7
    assert set(told) == {None}


def test_a_figure_is_drawn_too(evaluate, runs):
    code, out, err = evaluate("one", "--nll", "--against", "like", *FEW, "--plot", "terms.svg")
    assert code == 0, err
    assert out.splitlines()[-1] == "terms.svg"
    svg = (runs / "terms.svg").read_text("utf-8")
    assert "<svg" in svg


def test_an_impossible_result_is_not_reported(evaluate, monkeypatch):
    monkeypatch.setattr("tinyddpm.evaluation.decoder_limit.decoder_floor", lambda *_: 1e3)
    code, out, err = evaluate("one", "--nll", *FEW)
    assert (code, out) == (1, "")
    assert "below what any network can reach" in err


@pytest.mark.parametrize("grey", ["train", "test"])
def test_test_pictures_are_read_with_the_channels_of_the_training_pictures(cli, grey):
    for split in ("train", "test"):
        Path("mine", split).mkdir(parents=True)
        for number in range(4):
            picture = Image.new("L" if split == grey else "RGB", (16, 16), 40 * number)
            picture.save(Path("mine", split, f"{number}.png"))
    chain = ["--preset", "glyphs", "--diffusion-steps", 20]
    assert cli("train", "--data", "mine", *chain, *TINY, "--out", "run")[0] == 0
    code, out, err = cli("evaluate", "run", "--nll", "--draws", 1, "--device", "cpu", "--json")
    assert code == 0, err
    assert json.loads(out)["dims"] == 256 * (1 if grey == "train" else 3)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["one"], 2, ["what to measure", "--nll"]),
        (["--nll"], 4, ["no trained run in runs"]),
        (["nowhere", "--nll"], 2, ["nowhere"]),
        (["one", "--nll", "--images", 1], 2, ["--images"]),
        (["one", "--nll", "--exact", "--draws", 3], 2, ["--exact", "--draws"]),
        (["one", "--nll", "--plot", "terms.pdf"], 2, [".png or .svg"]),
        (["one", "--nll", "--data-dir", "."], 2, ["glyphs"]),
    ],
)
def test_mistakes_get_one_clear_error(evaluate, args, code, words):
    found_code, out, err = evaluate(*args)
    assert (found_code, out) == (code, "")
    assert all(word in err for word in words)


def test_the_help_begins_with_all_that_can_be_measured(evaluate):
    first = evaluate("--help")[1].split("\n\n")[1]
    for option in ("--nll", "--samples", "--from", "--fit-classifier"):
        assert option in first


def test_runs_on_other_data_are_not_compared(evaluate, monkeypatch):
    find = run_directory.find

    def find_altered(path):
        found = find(path)
        altered = replace(found.checkpoint, data_fingerprint="another")
        return found._replace(checkpoint=altered) if path.name == "like" else found

    monkeypatch.setattr(run_directory, "find", find_altered)
    code, _, err = evaluate("one", "--nll", "--against", "like")
    assert code == 2
    assert "same data" in err


def test_what_two_runs_share_is_said_as_it_is():
    zero = Estimate(0.0, 0.0)
    same = Comparison(zero, zero, zero)
    alike, *_ = comparison_lines(same, same, same_times=True)
    unlike, *_ = comparison_lines(same, same, same_times=False)
    assert "times and noise" in alike
    assert "times and noise" not in unlike
