"""From the options that were given to a run: a new one, or one that goes on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tinyddpm import data as data_sets
from tinyddpm.cli.messages import say
from tinyddpm.cli.run_data import data_of, load_data
from tinyddpm.cli.sizes import free_space, size
from tinyddpm.data import Dataset
from tinyddpm.diffusion.losses import VLB_WEIGHT, resolve_objective
from tinyddpm.errors import DataError, StorageError, UsageError
from tinyddpm.machine import total_memory
from tinyddpm.nn.config import PRESETS, UNetConfig
from tinyddpm.nn.unet import UNet
from tinyddpm.parallel import available_cores
from tinyddpm.training import loop
from tinyddpm.training.checkpoint import Checkpoint
from tinyddpm.training.config import DiffusionConfig, RunConfig, default_preset, fit_to, recipe
from tinyddpm.training.disk_use import disk_use
from tinyddpm.training.kernel_choice import kernels_for
from tinyddpm.training.least_memory import least_memory
from tinyddpm.training.run_directory import RunDirectory, step_of

CHAIN_OPTIONS = {"schedule", "T", "predict", "variance", "objective", "vlb_weight", "times"}


class Plan(NamedTuple):
    """What is to be trained.

    Attributes:
        config: of the run.
        dataset: its training set.
        run: where it lies, if it goes on.
        checkpoint: where it goes on from; None at the beginning.
    """

    config: RunConfig
    dataset: Dataset
    run: RunDirectory | None = None
    checkpoint: Checkpoint | None = None

    @property
    def first(self) -> int:
        """Steps done so far."""
        return self.checkpoint.step if self.checkpoint else 0


def new(given: dict[str, Any]) -> Plan:
    """Return the plan of a new run: the preset's recipe, with what was ``given`` in its place."""
    given = dict(given)
    if "preset" in given:
        UNetConfig.preset(given["preset"])  # refused before anything is downloaded
    name = data_sets.canonical(given.pop("data", "glyphs"))
    dataset = load_data(
        name,
        data_dir=given.pop("data_dir", None),
        image_size=given.get("image_size"),
        skip_bad=given.get("skip_bad", False),
    )
    _check_size(given.pop("image_size", None), dataset.images.shape[1])
    _check_square(name, dataset)
    preset = given.pop("preset", default_preset(name, dataset.images.shape))
    where = str(dataset.folder.absolute()) if dataset.folder else ""
    class_names = _classes_of(dataset) if given.pop("conditional", False) else ()
    config = _with_options(replace(recipe(preset, name), data_dir=where), given)
    _check_vlb_weight(config.diffusion)
    _check_preset(preset, dataset.images.shape[1])
    return Plan(fit_to(config, dataset.images.shape, class_names), dataset)


def resumed(path: Path, given: dict[str, Any]) -> Plan:
    """Return the plan of going on with the run in ``path``."""
    run = RunDirectory.open(path)
    if changed := run.changed_versions():
        say(f"note: {', '.join(changed)} since the run was begun: its bits may not be the same")
    if not run.saved():  # it was stopped before its first checkpoint: it begins anew
        config = _as_it_was(RunConfig.from_json(run.read_config()), given)
        return Plan(config, data_of(config, data_dir=given.get("data_dir")), run)
    found = run.latest_checkpoint()
    if found.warning:
        say(f"warning: {found.warning}")
    saved = RunConfig.from_json(found.checkpoint.config)
    config = _as_it_was(saved, given)
    loop.check_same_config(config, found.checkpoint)
    if found.checkpoint.step > config.train_steps:
        raise UsageError(
            f"--train-steps {config.train_steps} is less than the steps already done",
            cause=f"{path} is at step {found.checkpoint.step}",
            remedy="the number of steps counted from the beginning",
        )
    dataset = data_of(config, data_dir=given.get("data_dir"))
    loop.check_same_data(dataset, found.checkpoint)
    return Plan(config, dataset, run, found.checkpoint)


def check_fits(plan: Plan, execution: loop.Execution, out: Path) -> int:
    """Refuse a run that this machine could not do, and return the number of its parameters.

    Raises:
        UsageError: the memory that a step takes at the least on a CPU is more than all there is.
        StorageError: less is free in ``out`` than will be written.
    """
    network = UNet(plan.config.network, kernels=kernels_for("cpu"))
    parameters = network.parameters.count
    if execution.device == "cpu":
        check_memory(plan.config, network, execution.threads or available_cores())
    _check_room(plan, parameters, execution.save_every, out)
    return parameters


def check_memory(config: RunConfig, network: UNet, threads: int) -> None:
    """Refuse a run on a CPU of which not a step fits into the memory of this machine.

    Raises:
        UsageError: the memory that a step takes at the least is more than all there is.
    """
    least, all_there_is = least_memory(config, network, threads), total_memory()
    if least > all_there_is:
        raise UsageError(
            f"a step needs at least {size(least)} of memory",
            cause=f"{config.batch:,} images in shards of {config.shard:,}; this machine has "
            f"{size(all_there_is)}",
            remedy="a smaller --batch or --shard",
        )


def room_needed(plan: Plan, parameters: int, save_every: int) -> int:
    """Return the bytes that a run's files will take beside those that are there already."""
    # Of steps beyond the one that it goes on from, given up as damaged, the checkpoints stay.
    saved = [path for path in plan.run.saved() if step_of(path) <= plan.first] if plan.run else []
    metrics = [plan.run.metrics] if plan.run else []
    use = disk_use(plan.config, parameters, save_every, first=plan.first, saved=len(saved))
    checkpoints = use.most * use.checkpoint - sum(map(_size_of, saved))
    return max(0, checkpoints) + max(0, use.metrics - sum(map(_size_of, metrics)))


def _size_of(path: Path) -> int:
    with suppress(FileNotFoundError):  # who trains here may remove it while we look
        return path.stat().st_size
    return 0


def _check_room(plan: Plan, parameters: int, save_every: int, out: Path) -> None:
    """Refuse a run that would come to its end on a full disk."""
    needed, free = room_needed(plan, parameters, save_every), free_space(out)
    if needed > free:
        raise StorageError(
            f"there is too little disk space for the run in {out}",
            cause=f"its checkpoints and metrics need {size(needed)}, and {size(free)} are free",
            remedy="free some space" if plan.run else "free some space, or another --out",
        )


def _check_vlb_weight(chain: DiffusionConfig) -> None:
    """Only the hybrid has that weight, and a file of settings names it without meaning any."""
    objective = resolve_objective(chain.objective, chain.variance)
    if objective != "hybrid" and chain.vlb_weight != VLB_WEIGHT:
        raise UsageError(
            f"--vlb-weight {chain.vlb_weight} has no part in the objective {objective!r}",
            remedy="--variance learned and the objective hybrid, or no --vlb-weight",
        )


def _as_it_was(saved: RunConfig, given: dict[str, Any]) -> RunConfig:
    """The configuration with what was ``given`` anew."""
    given = dict(given)
    if given.pop("conditional", bool(saved.class_names)) != bool(saved.class_names):
        begun = "with classes" if saved.class_names else "without classes"
        raise UsageError(f"the run was begun {begun}", remedy="leave out --conditional")
    _check_size(given.pop("image_size", None), saved.network.image_size)
    if "data" in given:
        given["data"] = data_sets.canonical(given["data"])
    if "data_dir" in given:
        given["data_dir"] = str(given["data_dir"].absolute())
    return _with_options(saved, given)


def _check_size(asked: int | None, pixels: int) -> None:
    """Only pictures of a folder are brought to the size that is asked for, and only at first."""
    if asked not in {None, pixels}:
        raise UsageError(
            f"--image-size {asked} is not the size of the images, {pixels}×{pixels} pixels",
            remedy="no --image-size; it is for a new run on a folder of pictures",
        )


def _check_preset(preset: str, pixels: int) -> None:
    """Refuse a network that cannot halve the images as often as it has to, where another can; say
    so where it is fitted to them.
    """
    fitting = [name for name, network in PRESETS.items() if pixels % network.divisor == 0]
    if fitting and preset not in fitting:
        raise UsageError(
            f"preset {preset} is not for images of {pixels}×{pixels} pixels",
            cause=f"their height and width must be divisible by {PRESETS[preset].divisor}",
            remedy=f"--preset {', '.join(fitting)}",
        )
    made_for = PRESETS[preset].image_size
    if preset in fitting and made_for != pixels:
        say(
            f"note: preset {preset} is made for images of {made_for}×{made_for} pixels; here it is "
            f"fitted to {pixels}×{pixels}"
        )


def _classes_of(dataset: Dataset) -> tuple[str, ...]:
    """Return the classes that a network is to be told; there must be some."""
    if not dataset.class_names:
        raise UsageError(
            f"--conditional needs classes, and {dataset.name} has none",
            remedy="pictures in a subfolder for each class, an array of labels beside the images, "
            "or no --conditional",
        )
    return dataset.class_names


def _check_square(name: str, dataset: Dataset) -> None:
    _, height, width, _ = dataset.images.shape
    if height != width:
        raise DataError(
            f"the images in {name} are not square",
            cause=f"they have {height}×{width} pixels",
            remedy="crop or pad them; pictures of a folder are cropped to squares",
        )


def _with_options(config: RunConfig, given: dict[str, Any]) -> RunConfig:
    chain = {key: given[key] for key in CHAIN_OPTIONS & given.keys()}
    rest = {key: given[key] for key in given.keys() - CHAIN_OPTIONS}
    return replace(config, diffusion=replace(config.diffusion, **chain), **rest)
