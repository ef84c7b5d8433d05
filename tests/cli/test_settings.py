"""Where options get their values: flag, environment, file, preset, default; and who is told."""

import itertools
import json
import tomllib
from pathlib import Path

import click
import numpy as np
import pytest
from fake_mnist import bars, write_mnist
from PIL import Image

from tinyddpm.cli.main import commands
from tinyddpm.cli.settings import ACTIONS, flag, nearest, settings_of
from tinyddpm.training.config import flat

TRAIN = commands.commands["train"]
TINY = ["--batch", "4", "--shard", "2", "--threads", "1", "--device", "cpu", "--preview-every", "0"]
HERE = Path("here.toml")


@pytest.fixture
def settings(cli):
    """What ``train --print-config --json`` says."""

    def run(*args):
        code, out, err = cli("train", "--device", "cpu", "--print-config", "--json", *args)
        assert code == 0, err
        return json.loads(out)

    return run


@pytest.mark.parametrize("given", list(itertools.product([False, True], repeat=3)), ids=str)
def test_flag_before_environment_before_file_before_preset(settings, monkeypatch, given):
    by_flag, by_environment, by_file = given
    expected = {"value": 64, "origin": "preset glyphs"}
    args = []
    if by_file:
        HERE.write_text("batch = 5\n")
        args += ["--config", HERE]
        expected = {"value": 5, "origin": "file here.toml"}
    if by_environment:
        monkeypatch.setenv("TINYDDPM_TRAIN_BATCH", "6")
        expected = {"value": 6, "origin": "environment TINYDDPM_TRAIN_BATCH"}
    if by_flag:
        args += ["--batch", 7]
        expected = {"value": 7, "origin": "flag --batch"}
    assert settings(*args)["batch"] == expected


def test_a_folder_that_nobody_named_was_found(settings, monkeypatch, tmp_path):
    folder = str(write_mnist(tmp_path / "mnist", bars(8), bars(8)))
    monkeypatch.setenv("TINYDDPM_DATA", str(tmp_path))
    found, named = settings("--data", "mnist"), settings("--data", "mnist", "--data-dir", folder)
    assert found["data-dir"] == {"value": folder, "origin": "where it was found"}
    assert named["data-dir"] == {"value": folder, "origin": "flag --data-dir"}
    assert settings()["data-dir"] == {"value": "", "origin": "default"}


def test_a_file_pins_the_folder_of_the_data_only_if_it_was_named(cli, monkeypatch, tmp_path):
    """What was found here would be missing elsewhere, and is no folder of other data."""
    folder = write_mnist(tmp_path / "mnist", bars(8), bars(8))
    monkeypatch.setenv("TINYDDPM_DATA", str(tmp_path))
    args = ["train", "--device", "cpu", "--print-config"]
    text = cli(*args, "--data", "mnist")[1]
    assert f'# data-dir = "{folder}" # where it was found' in " ".join(text.split())
    HERE.write_text(text)
    code, _, err = cli(*args, "--config", HERE, "--data", "glyphs")
    assert code == 0, err
    named = cli(*args, "--data", "mnist", "--data-dir", folder)[1]
    assert tomllib.loads(named)["data-dir"] == str(folder)
    run = ["--data", "mnist", "--preset", "glyphs", "--train-steps", 1, *TINY, "--out", "run"]
    assert cli("train", *run)[0] == 0
    assert "data-dir" not in tomllib.loads(cli(*args, "--resume", "run")[1])


def test_all_origins_at_once_make_the_run(cli, settings, monkeypatch):
    HERE.write_text("batch = 5\nlr = 0.5\ntrain-steps = 1\nthreads = 1\n")
    monkeypatch.setenv("TINYDDPM_TRAIN_BATCH", "6")
    monkeypatch.setenv("TINYDDPM_TRAIN_LR", "0.25")
    args = ["--config", HERE, "--batch", 4]
    found = settings(*args)
    origins = {key: found[key]["origin"].split()[0] for key in found}
    assert [origins[key] for key in ("batch", "lr", "train-steps", "shard", "seed")] == [
        *("flag", "environment", "file", "preset", "default")
    ]
    code, out, err = cli("train", *args)
    assert (code, out) == (0, "runs/glyphs-1\n"), err
    config = json.loads(Path("runs/glyphs-1/config.json").read_text())
    assert (config["batch"], config["lr"], config["train_steps"]) == (4, 0.25, 1)
    assert (config["shard"], config["seed"]) == (16, 0)
    assert {key: found[key]["value"] for key in config if key in found} == {
        key: value for key, value in config.items() if key in found
    }


def test_every_option_and_every_part_of_the_configuration_is_printed(cli, settings):
    found = settings()
    options = {flag(param) for param in TRAIN.params if isinstance(param, click.Option)}
    assert options - ACTIONS <= found.keys()
    assert options >= ACTIONS
    text = cli("train", "--print-config")[1]
    lines = text.splitlines()
    for key in options - ACTIONS:
        assert any(line.startswith((f"{key} = ", f"# {key} is not set")) for line in lines), key
    assert all("  # " in line for line in lines if " = " in line or "not set" in line)
    assert cli("train", "--train-steps", 1, *TINY)[0] == 0
    for key, value in flat(json.loads(Path("runs/glyphs-1/config.json").read_text())):
        of_an_option = key.removeprefix("diffusion.") in {p.name for p in TRAIN.params}
        assert of_an_option or key == "class_names" or found[key]["value"] == value, key


def test_nothing_is_done_by_printing(cli, tmp_path):
    assert cli("train", "--print-config", "--out", "run")[0] == 0
    assert not list(tmp_path.iterdir())


def test_what_the_preset_decides_is_what_the_help_says_it_does(settings):
    found = settings()
    for key, option in settings_of(TRAIN).items():
        by_the_preset = "the preset's]" in (option.help or "")
        assert (found[key]["origin"] == "preset glyphs") == by_the_preset, key


def test_what_is_printed_is_a_file_for_config(cli, settings):
    args = ["--lr", 1e-5, "--diffusion-steps", 30, "--conditional", "--variance", "learned"]
    args += ["--preset", "mnist", "--out", 'ü "x"\\y', "--preview-every", 0]
    before = settings(*args)
    HERE.write_text(cli("train", *args, "--device", "cpu", "--print-config")[1], "utf-8")
    after = settings("--config", HERE)
    assert {k: v["value"] for k, v in after.items()} == {k: v["value"] for k, v in before.items()}
    for key in tomllib.loads(HERE.read_text("utf-8")):
        assert after[key]["origin"] == ("flag --device" if key == "device" else "file here.toml")


def test_fitted_values_are_told_from_the_presets(settings):
    found = settings("--preset", "mnist", "--conditional")
    assert found["network.image_size"] == {"value": 16, "origin": "fitted to data and options"}
    assert found["network.classes"]["value"] == 10
    assert found["network.blocks"]["origin"] == "preset mnist"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bacth = 4", ["here.toml: unknown key 'bacth'", "try: batch"]),
        ("train_steps = 4", ["here.toml: unknown key 'train_steps'", "try: train-steps"]),
        ("xyzzy = 4", ["'xyzzy'", "lr", "threads"]),
        ("dry-run = true", ["unknown key 'dry-run'"]),
        ("[train]\nbatch = 4", ["unknown key 'train'"]),
        ('batch = "4"', ["here.toml: batch must be an integer", "it is '4'"]),
        ("batch = 4.0", ["batch must be an integer"]),
        ("batch = true", ["batch must be an integer"]),
        ('lr = "1"', ["lr must be a number"]),
        ("conditional = 1", ["conditional must be true or false"]),
        ("data = 1", ["data must be a string"]),
        ("out = []", ["out must be a string"]),
        ("seed = -1", ["here.toml: seed cannot be -1", "0<=x"]),
        ('schedule = "line"', ["schedule cannot be 'line'", "linear"]),
        ("batch = ", ["here.toml is not a TOML file", "cause: Invalid value"]),
        ("batch = 4\nbatch = 5", ["is not a TOML file"]),
        ("x = " + "[" * 5000, ["is not a TOML file"]),
    ],
)
def test_files_that_cannot_be_are_refused(cli, tmp_path, text, words):
    HERE.write_text(text)
    code, out, err = cli("train", "--config", HERE)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    for word in words:
        assert word in err
    assert list(tmp_path.iterdir()) == [tmp_path / HERE]


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["missing", "not utf-8"])
def test_files_that_cannot_be_read_are_refused(cli, content):
    if content:
        HERE.write_bytes(content)
    code, _, err = cli("train", "--config", HERE)
    assert code == 2
    assert "here.toml" in err
    assert "Traceback" not in err
    assert cli("train", "--config", ".")[0] == 2


def test_whole_numbers_are_numbers_too(settings):
    HERE.write_text("lr = 1\n")
    assert settings("--config", HERE)["lr"]["value"] == 1


def test_a_flag_can_unset_what_a_file_sets(settings):
    HERE.write_text("conditional = true\npreview-terminal = true\n")
    assert settings("--config", HERE)["conditional"]["value"] is True
    found = settings("--config", HERE, "--no-conditional", "--no-preview-terminal")
    assert found["conditional"] == {"value": False, "origin": "flag --conditional"}
    assert found["preview-terminal"]["value"] is False


def every_verb(group=commands, path=()):
    for name, verb in group.commands.items():
        yield (*path, name), verb
        if isinstance(verb, click.Group):
            yield from every_verb(verb, (*path, name))


@pytest.mark.parametrize(
    ("path", "verb"), list(every_verb()), ids=lambda x: " ".join(x) if type(x) is tuple else ""
)
def test_every_option_has_a_variable_named_after_verb_and_flag(path, verb):
    options = [param for param in verb.params if isinstance(param, click.Option)]
    for option in options:
        name = "_".join(["TINYDDPM", *path, flag(option)]).upper().replace("-", "_")
        assert option.envvar == name
    assert "TINYDDPM_DATA" not in {option.envvar for option in options}
    assert "Example" in (verb.epilog or "")
    assert f"tinyddpm {path[0]}" in verb.epilog


def commands_with_an_empty_path():
    for words, verb in every_verb():
        paths = [param for param in verb.params if isinstance(param.type, click.Path)]
        options = [param for param in paths if isinstance(param, click.Option)]
        yield from ([*words, option.opts[0], ""] for option in options)
        if len(paths) > len(options):
            yield [*words, *[""] * (len(paths) - len(options))]


@pytest.mark.parametrize("words", list(commands_with_an_empty_path()), ids=" ".join)
def test_an_unset_variable_does_not_mean_the_present_folder(cli, words, tmp_path):
    code, out, err = cli(*words)
    assert (code, out) == (2, "")
    assert "the path is empty\n" in err
    assert not list(tmp_path.iterdir())


def test_the_folder_of_data_sets_is_no_option(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("TINYDDPM_DATA", str(tmp_path))
    monkeypatch.setenv("TINYDDPM_VERSION", "1")
    assert settings()["data"] == {"value": "glyphs", "origin": "default"}


def test_variables_reach_options_whose_flag_is_not_their_name(settings, monkeypatch):
    monkeypatch.setenv("TINYDDPM_TRAIN_DIFFUSION_STEPS", "30")
    monkeypatch.setenv("TINYDDPM_TRAIN_CONDITIONAL", "yes")
    monkeypatch.setenv("TINYDDPM_TRAIN_LR", "")
    found = settings()
    assert found["diffusion-steps"]["value"] == 30
    assert found["conditional"]["value"] is True
    assert found["lr"]["origin"] == "preset glyphs"


def test_a_mistake_in_the_environment_names_the_variable(cli, monkeypatch):
    monkeypatch.setenv("TINYDDPM_TRAIN_BATCH", "many")
    code, _, err = cli("train")
    assert code == 2
    assert "'many'" in err
    assert "cause: it is set by environment TINYDDPM_TRAIN_BATCH" in err
    assert "cause" not in cli("train", "--batch", "many")[2]


def test_a_variable_of_no_option_is_noted(cli, monkeypatch):
    monkeypatch.setenv("TINYDDPM_TRAIN_BACTH", "4")
    monkeypatch.setenv("TINYDDPM_SAMPLE_M", "4")
    note = "note: $TINYDDPM_TRAIN_BACTH is not an option of train; was "
    code, _, err = cli("train", "--print-config")
    assert code == 0
    assert f"{note}TINYDDPM_TRAIN_BATCH meant?" in err
    assert "SAMPLE" not in err


def test_variables_of_a_verb_within_a_verb_are_known(cli, monkeypatch, tmp_path):
    """And $TINYDDPM_DATA, the folder of data sets, is taken for no option of ``data``."""
    monkeypatch.setenv("TINYDDPM_DATA", str(tmp_path))
    monkeypatch.setenv("TINYDDPM_DATA_LIST_JSON", "1")
    code, out, err = cli("data", "list")
    assert (code, err) == (0, "")
    assert json.loads(out)
    monkeypatch.setenv("TINYDDPM_DATA_LIST_JSN", "1")
    note = "$TINYDDPM_DATA_LIST_JSN is not an option of data; was "
    assert f"{note}TINYDDPM_DATA_LIST_JSON meant?" in cli("data", "list")[2]


def test_a_resumed_run_says_what_it_has_of_itself(cli, settings):
    assert cli("train", "--train-steps", 1, "--lr", 0.5, *TINY)[0] == 0
    found = settings("--resume", "runs/glyphs-1", "--train-steps", 3)
    assert found["lr"] == {"value": 0.5, "origin": "run runs/glyphs-1"}
    assert found["train-steps"] == {"value": 3, "origin": "flag --train-steps"}
    assert found["save-every"]["origin"] == "default"
    HERE.write_text('resume = "runs/glyphs-1"\nout = "runs/glyphs-1"\ntrain-steps = 2\n')
    code, out, err = cli("train", "--config", HERE)
    assert (code, out) == (0, "runs/glyphs-1\n"), err
    assert cli("train", "--resume", "runs/glyphs-1", "--no-conditional", "--train-steps", 3)[0] == 0


@pytest.fixture
def pictures(tmp_path):
    """A folder of eight small pictures and one file that is none."""
    folder = tmp_path / "my pictures"
    folder.mkdir()
    for number in range(8):
        pixels = np.full((20, 20), 30 * number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_a_folder_of_pictures_is_trained_on(cli, pictures):
    args = ["train", "--data", pictures.name, "--train-steps", 1, *TINY]
    assert cli(*args)[0] == 3
    args += ["--image-size", 8, "--skip-bad"]
    code, out, err = cli(*args)
    assert (code, out) == (0, "runs/my pictures-1\n"), err
    config = json.loads(Path("runs/my pictures-1/config.json").read_text())
    assert (config["data"], config["skip_bad"]) == (str(pictures), True)
    assert config["network"]["image_size"] == 8
    resume = ["train", "--resume", "runs/my pictures-1", "--train-steps", 2]
    assert cli(*resume, "--image-size", 16)[0] == 2
    assert cli(*resume, "--no-skip-bad")[0] == 4
    assert cli(*resume, "--data", "my pictures", "--image-size", 8)[0] == 0


def test_only_pictures_are_brought_to_a_size(cli):
    code, _, err = cli("train", "--image-size", 8)
    assert code == 2
    assert "--image-size 8 is not the size of the images, 16×16 pixels" in err
    assert not Path("runs").exists()


def test_json_is_for_what_is_printed(cli):
    code, _, err = cli("train", "--json")
    assert code == 2
    assert "--dry-run" in err


def test_the_nearest_name_or_all():
    assert nearest("bach", ["seed", "batch"]) == "batch"
    assert nearest("zzz", ["seed", "batch"]) == "batch, seed"
