"""``tinyddpm evaluate`` for the quality of samples, as a user meets it."""

import json
import os
from functools import partial

import numpy as np
import pytest
from fake_mnist import bars, write_mnist
from PIL import Image

from tinyddpm.cli import evaluate_fit, evaluate_samples
from tinyddpm.cli.main import commands
from tinyddpm.evaluation import chunks, sample_quality
from tinyddpm.evaluation.classifier import read, shipped
from tinyddpm.evaluation.fit_lenet import Recipe
from tinyddpm.training import kept_samples, model
from tinyddpm.training.model import load

TINY = ["--batch", "4", "--shard", "16", "--threads", "1", "--device", "cpu", "--train-steps", "1"]
CHAIN = ["--diffusion-steps", "20", "--preview-every", "0"]
SHORT = ["--steps", 2, "--device", "cpu", "--threads", 1]
CHUNK = 32
MORE = CHUNK + 12  # samples, in two chunks
TRAIN, TEST = bars(200, seed=0), bars(60, seed=1)


def crop(digits):
    return digits._replace(images=np.ascontiguousarray(digits.images[:, 6:22, 6:22]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hardly trained runs on stand-ins for MNIST and on glyphs, and images in files."""
    folder = tmp_path_factory.mktemp("quality")
    data = str(write_mnist(folder / "mnist", TRAIN, TEST))
    mnist = ["--data", "mnist", "--data-dir", data, "--preset", "glyphs"]
    small = [write_mnist(folder / "small-mnist", *(crop(digits) for digits in (TRAIN, TEST)))]
    chosen = {
        "plain": mnist,
        "classes": [*mnist, "--conditional"],
        "glyphs": [],
        "small": ["--data", "mnist", "--data-dir", *map(str, small), "--preset", "glyphs"],
    }
    for name, options in chosen.items():
        out = ["--out", str(folder / name)]
        commands.main(["train", *TINY, *CHAIN, *options, *out], standalone_mode=False)
    np.savez(folder / "images.npz", images=bars(70, seed=2).images)
    (folder / "pictures").mkdir()
    for number, image in enumerate(bars(70, seed=2).images):
        Image.fromarray(image[..., 0]).save(folder / "pictures" / f"{number:03d}.png")
    (folder / "empty").mkdir()
    np.savez(folder / "small.npz", images=np.zeros((9, 16, 16, 1), np.uint8))
    np.savez(folder / "nan.npz", images=np.full((9, 28, 28, 1), np.nan))
    (folder / "short.npz").write_bytes((folder / "images.npz").read_bytes()[:5000])
    return folder


@pytest.fixture
def evaluate(command, monkeypatch, folder):
    """Run the command in that folder: its exit code, stdout and stderr."""
    monkeypatch.chdir(folder)
    for module in (chunks, kept_samples, evaluate_samples):
        monkeypatch.setattr(module, "CHUNK", CHUNK)
    monkeypatch.setattr(sample_quality, "REAL_DRAWS", 3)
    return partial(command, "evaluate")


def found(evaluate, *args):
    """The JSON object of a run that succeeds."""
    code, out, err = evaluate(*args, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.fixture
def walks(monkeypatch):
    """The numbers of the first images of the chunks that are generated from now on."""
    begun = []
    walk = kept_samples._walk

    def spying(*args):
        begun.append(args[-1])
        return walk(*args)

    monkeypatch.setattr(kept_samples, "_walk", spying)
    return begun


def test_the_table_is_on_stdout_and_the_rest_is_not(evaluate, folder):
    code, out, err = evaluate("plain", "--samples", 30, *SHORT, "--sheet", "sheet.png")
    assert code == 0, err
    lines = out.splitlines()
    assert "step 1, ema weights, 2 steps, ancestral, seed 0" in lines[0]
    assert lines[1].startswith("30 samples, judged by a LeNet-5 that names 99.")
    labels = [line[:24].strip() for line in lines[3:]]
    for label in ("cfd-84", "cfd-400", "unsure, p < 0.9", "black pixels", "median", "9"):
        assert any(found.startswith(label) for found in labels), label
    assert sum(" R = " in line for line in lines) == 2
    assert "60 test images" in out
    assert "R is defined at 10,000" in out
    assert "fewer samples than the 400 features" in out
    assert lines[-1] == "sheet.png"
    assert "sampling 30" in err
    assert "fitted" not in out
    assert "other images than these" in err  # the shipped classifier learnt the real MNIST
    with Image.open(folder / "sheet.png") as sheet:
        assert (sheet.mode, sheet.width > 1000, sheet.height > 500) == ("L", True, True)


def test_json_holds_all_that_the_table_shows(evaluate):
    result = found(evaluate, "plain", "--samples", 30, *SHORT)
    assert result["samples"]["images"] == 30
    assert result["real"]["images"] == 60
    assert sum(result["samples"]["classes"]) == 30
    assert result["classifier"] == shipped().about()
    assert result["sampling"] == {"steps": 2, "eta": None, "seed": 0}
    for distance in result["distances"].values():
        assert distance["ratio"] == pytest.approx(distance["value"] / distance["real_mean"])
        assert distance["real_mean"] == pytest.approx(np.mean(distance["real"]))
    near = result["samples"]["nearest_training_image"]
    assert 0 < near["least"] <= near["first percentile"] <= near["median"]


def test_the_samples_are_those_of_the_model(evaluate, folder):
    """Those that ``tinyddpm sample`` gives, in chunks, the last of them cut off."""
    result = found(evaluate, "plain", "--samples", MORE, *SHORT, "--seed", 3)
    kept_in = sorted((folder / result["folder"]).glob("chunk-*.npz"))
    assert [chunk.name for chunk in kept_in] == ["chunk-00000.npz", "chunk-00001.npz"]
    with np.load(kept_in[0]) as first, np.load(kept_in[1]) as second:
        kept = np.concatenate([first["images"], second["images"]])
    expected = load(folder / "plain").sample(2 * CHUNK, steps=2, seed=3, threads=1)
    assert np.abs(kept.astype(int) - expected).max() <= 1  # a rounding


def test_what_is_kept_is_not_generated_again_and_threads_change_no_bit(evaluate, folder, walks):
    args = ["plain", "--samples", MORE, "--steps", 2, "--device", "cpu", "--seed", 4]
    first = found(evaluate, *args, "--threads", 1)
    assert walks == [0, CHUNK]
    walks.clear()
    assert found(evaluate, *args, "--threads", 1) == first
    assert walks == []
    path = folder / first["folder"]
    lost = (path / "chunk-00001.npz").read_bytes()
    (path / "chunk-00001.npz").unlink()
    assert found(evaluate, *args, "--threads", 2) == first
    assert walks == [CHUNK]
    assert (path / "chunk-00001.npz").read_bytes() == lost


def test_a_stop_in_the_middle_loses_one_chunk(evaluate, walks, monkeypatch):
    args = ["plain", "--samples", MORE, *SHORT, "--seed", 5]
    walk = kept_samples._walk

    def stopped(*given):
        if given[-1] == CHUNK:
            raise KeyboardInterrupt
        return walk(*given)

    with monkeypatch.context() as patch:
        patch.setattr(kept_samples, "_walk", stopped)
        code, out, _ = evaluate(*args)
    assert (code, out) == (130, "")
    walks.clear()
    result = found(evaluate, *args)
    assert walks == [CHUNK]
    assert result["samples"]["images"] == MORE


@pytest.mark.parametrize("options", [["--ddim", 0], ["--weights", "raw"], ["--seed", 1]])
def test_other_samples_are_kept_apart(evaluate, options):
    usual = found(evaluate, "plain", "--samples", 30, *SHORT)
    other = found(evaluate, "plain", "--samples", 30, *SHORT, *options)
    assert other["folder"] != usual["folder"]
    assert other["distances"] != usual["distances"]


def test_a_network_with_classes_is_asked_for_those_of_the_training_images(evaluate, monkeypatch):
    asked = []
    guided = model.guided_model

    def spying(model, labels, **options):
        asked.append(labels)
        return guided(model, labels, **options)

    monkeypatch.setattr(model, "guided_model", spying)
    found(evaluate, "classes", "--samples", MORE, *SHORT)
    labels = np.resize(TRAIN.labels, 2 * CHUNK)
    np.testing.assert_array_equal(np.concatenate(asked), labels)


def test_of_classes_that_were_asked_for_there_is_no_chi2(evaluate):
    """Nothing about them is left to chance."""
    result = found(evaluate, "classes", "--samples", 30, *SHORT)
    assert result["classes_given"] is True
    assert result["samples"]["homogeneity"] is None
    assert result["real"]["homogeneity"]["chi2"] > 0
    _, out, _ = evaluate("classes", "--samples", 30, *SHORT)
    (line,) = (line for line in out.splitlines() if "chi2, 9 degrees" in line)
    assert line.split()[3] == "–"
    assert "(p = " in line  # of the real ones
    assert "chi2: not of these samples, which were asked for by their classes" in out
    result = found(evaluate, "plain", "--samples", 30, *SHORT)
    assert result["classes_given"] is False
    assert result["samples"]["homogeneity"]["chi2"] > 0
    assert "asked for by" not in evaluate("plain", "--samples", 30, *SHORT)[1]


def test_a_sheet_that_could_not_be_written_is_refused_before_the_walk(evaluate, folder, walks):
    os.mkfifo(folder / "pipe.png")
    code, out, err = evaluate("plain", "--samples", 30, *SHORT, "--sheet", "pipe.png")
    assert (code, out, walks) == (6, "", [])
    assert "pipe.png is neither a file nor a folder" in err


def test_a_network_of_other_images_is_refused_before_the_walk(evaluate, walks):
    """One that learnt from files by the names of MNIST's, and of another size."""
    code, out, err = evaluate("small", "--samples", 30, *SHORT, "--data-dir", "mnist")
    assert (code, out, walks) == (3, "", [])
    assert "these images are 16×16×1" in err


def test_a_damaged_chunk_is_one_error_before_the_walk(evaluate, folder, walks):
    args = ["plain", "--samples", MORE, *SHORT, "--seed", 8]
    path = folder / found(evaluate, *args)["folder"] / "chunk-00001.npz"
    path.write_bytes(path.read_bytes()[:-9])
    path.with_name("chunk-00000.npz").unlink()
    walks.clear()
    code, out, err = evaluate(*args)
    assert (code, out, walks) == (3, "", [])
    assert f"error: the samples kept in {path} cannot be used\ncause: " in err
    path.unlink()
    assert found(evaluate, *args)["samples"]["images"] == MORE


def test_a_long_generation_says_so_beforehand(evaluate, monkeypatch):
    monkeypatch.setattr(evaluate_samples, "LONG", 4)
    _, _, err = evaluate("plain", "--samples", MORE, *SHORT, "--seed", 6)
    assert f"4 steps of {CHUNK} images, about " in err
    _, _, err = evaluate("plain", "--samples", 30, *SHORT, "--seed", 7)
    assert f"of {CHUNK} images, about " not in err


def test_images_in_files_are_measured(evaluate, folder):
    by_npz, by_folder = (
        found(evaluate, "--from", name, "--data-dir", "mnist")
        for name in ("images.npz", "pictures")
    )
    assert by_npz["samples"] == by_folder["samples"]
    assert by_npz["distances"] == by_folder["distances"]
    assert by_npz["samples"]["images"] == 70
    assert by_npz["source"] == "images.npz"
    expected = shipped()
    with np.load(folder / "images.npz") as archive:
        logits = expected.network.forward(archive["images"].astype(np.float32) / 255)[0].logits
    assert by_npz["samples"]["classes"] == np.bincount(logits.argmax(1), minlength=10).tolist()


def test_a_classifier_is_fitted_and_used(evaluate, monkeypatch):
    monkeypatch.setattr(
        evaluate_fit, "Recipe", lambda seed: Recipe(seed=seed, epochs=6, batch=20, shift=1)
    )
    fit = ["--fit-classifier", "--data-dir", "mnist", "--threads", 1]
    code, out, err = evaluate(*fit, "--seed", 1, "--out", "bars.npz")
    assert code == 0, err
    assert "of 60 test images are named rightly" in out
    assert out.splitlines()[-1] == "bars.npz"
    assert "loss" in err
    about = found(evaluate, *fit, "--seed", 1, "--out", "again.npz")
    assert about["sha256"] in out
    assert about["sha256"] == read(evaluate_fit.Path("bars.npz")).sha256
    assert about["test_accuracy"] > 0.9
    files = ["--from", "images.npz", "--data-dir", "mnist"]
    code, _, err = evaluate(*files, "--classifier", "bars.npz")
    assert code == 0
    assert "warning" not in err  # it learnt from these training images
    result = found(evaluate, *files, "--classifier", "bars.npz")
    assert result["classifier"]["sha256"] == about["sha256"]
    assert result["distances"] != found(evaluate, *files)["distances"]


FILES = ["--data-dir", "mnist"]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ([], 2, ["what to measure", "none", "--nll, --samples, --from, --fit-classifier"]),
        (["plain", "--nll", "--samples", 30], 2, ["asked for: --nll, --samples"]),
        (["plain", "--samples", 30, "--draws", 3], 2, ["--draws means nothing to --samples"]),
        (["plain", "--nll", "--sheet", "s.png"], 2, ["--sheet means nothing to --nll"]),
        (["plain", "--from", "images.npz"], 2, ["RUN means nothing to --from"]),
        (["--from", "images.npz", "--steps", 50], 2, ["--steps means nothing to --from"]),
        (["plain", "--fit-classifier"], 2, ["RUN means nothing to --fit-classifier"]),
        (["plain", "--samples", 1], 2, ["--samples"]),
        (["plain", "--samples", 201, *SHORT], 2, ["from 2 to 200", "there are 201"]),
        (["plain", "--samples", 30, "--steps", 21], 2, ["--steps must be from 1 to 20"]),
        (["plain", "--samples", 30, "--steps", 0], 2, ["--steps must be from 1 to 20"]),
        (["plain", "--samples", 30, "--sheet", "sheet.jpg"], 2, ["sheet.jpg"]),
        (["plain", "--samples", 30, "--sheet", "no/sheet.png"], 2, ["no folder", "no"]),
        (["glyphs", "--samples", 30], 2, ["classifier of mnist", "learnt glyphs", "--nll"]),
        (["nowhere", "--samples", 30], 2, ["nowhere"]),
        (["--samples", 30], 4, ["no trained run in runs"]),
        (["plain", "--samples", 30, "--classifier", "images.npz"], 4, ["images.npz"]),
        (["plain", "--samples", 30, "--classifier", "gone.npz"], 4, ["gone.npz"]),
        (["--from", "gone.npz", *FILES], 3, ["no file or folder gone.npz", "sample --npz"]),
        (["--from", "mnist", *FILES], 3, ["mnist"]),
        (["--from", "empty", *FILES], 3, ["no pictures", "empty"]),
        (["--from", "short.npz", *FILES], 3, ["short.npz is damaged"]),
        (["--from", "nan.npz", *FILES], 3, ["nan.npz", "NaN"]),
        (["--from", "small.npz", *FILES], 3, ["28×28 grey", "16×16×1"]),
        (["--fit-classifier"], 2, ["--out"]),
        (["--fit-classifier", "--out", "lenet.pt"], 2, ["--out"]),
        (["--fit-classifier", "--out", "no/lenet.npz"], 2, ["no folder"]),
    ],
)
def test_mistakes_get_one_clear_error(evaluate, args, code, words):
    found_code, out, err = evaluate(*args)
    assert (found_code, out) == (code, "")
    assert err.count("error:") + err.count("Error:") == 1
    for word in words:
        assert word in err
