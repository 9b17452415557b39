"""What the commands of the command line do, once their flags are read."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from everlearn.errors import ConfigurationError, LayerError, MissingDataError, UnknownNameError
from everlearn.experiments.elsewhere import keep_page, local_of
from everlearn.experiments.presets import preset_of
from everlearn.experiments.run import run
from everlearn.experiments.store import StoredRun
from everlearn.experiments.together import is_first
from everlearn.flags import check_file, page_of
from everlearn.methods.base import Memory
from everlearn.methods.catalogue import METHODS, make_method, network_name
from everlearn.networks.papers import BACKBONES, make_backbone
from everlearn.report import print_table, write_report
from everlearn.tasks import STREAMS, make_stream, stream_info, stream_of, stream_outline
from everlearn.tasks.described import describe, outline_table, shape_in_words, task_table
from everlearn.tasks.sheet import write_sheet
from everlearn.track_command import write as write_tracked
from everlearn.tracking.track import read_target

_TRAINING = ("epochs", "batch", "rate", "protocol")
_FLAGS = {"training": "--set", "options": "--option", "stream_options": "--stream-option"}
_FLAGS |= {name: f"--{name}" for name in ("first", "sweep")}


def run_experiment(flags: Mapping[str, Any], config: Path | None, console: Console) -> None:
    """`everlearn run`.

    Args:
        flags: what the command line said, None where it said nothing; the tables as lists of NAME=VALUE.
        config: a file that says the same; flags win.
        console: where the table goes.
    """
    asked = merge(read_config(config) if config else {}, flags)
    if not asked.get("stream"):
        raise ConfigurationError(f"name a stream of tasks: one of {', '.join(sorted(STREAMS))}.")
    asked = typed(asked)
    report = page_of("--report", asked.pop("report", None))
    runs = asked.get("runs", "runs")
    said = asked.pop("track", None) or ()
    trackers = [str(read_target(text)) for text in ([said] if isinstance(said, str) else said)]  # before hours of work
    done = run(**asked)
    if not is_first():
        return  # one process of torchrun's speaks for all
    print_table(done, console)
    folder = local_of(runs)
    page = write_report(folder, report or folder / "report.html")
    console.print(f"The report is {page if report else keep_page(page, runs)}", soft_wrap=True, markup=False)
    if trackers:
        write_tracked(done, trackers)


def merge(file: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `everlearn.run` (and `report`), from a file and the flags."""
    asked: dict[str, Any] = {}
    for source in (file, {name: value for name, value in flags.items() if value is not None}):
        _check_once(source)
        for name, value in source.items():
            if name not in flags:
                raise UnknownNameError("setting of an experiment", name, flags)
            if name in _FLAGS:
                asked[name] = asked.get(name, {}) | _table(name, value)
                if name == "sweep":
                    asked[name] = {key: _listed(values) for key, values in asked[name].items()}
            elif name in _TRAINING:
                asked["training"] = asked.get("training", {}) | {name: value}
            elif name == "methods":
                asked[name] = [m.strip() for m in value.split(",") if m.strip()] if isinstance(value, str) else value
            else:
                asked[name] = value
    return asked


def _check_once(source: Mapping[str, Any]) -> None:
    """Refuse a setting that flags, or a file, say twice and differently: `--epochs 1 --set epochs=2`."""
    table = _table("training", source["training"]) if source.get("training") else {}
    for name in _TRAINING:
        if name in source and name in table and str(source[name]) != str(table[name]):
            raise ConfigurationError(
                f"{name} came as {source[name]} and, with --set (training in a file), as {table[name]}; leave out one "
                "of the two."
            )


def typed(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `everlearn.run` as the types that they should have: a file may say anything.

    Raises:
        ConfigurationError: a value that is of another type.
    """
    hints = {**get_type_hints(run), "stream": str, "report": str | Path | None, "track": str | list[str] | None}
    found: dict[str, Any] = {}
    for name, value in asked.items():
        _check_number(name, value, hints[name])
        try:
            found[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            if name in _FLAGS and first["loc"]:
                key = str(first["loc"][0])
                raise ConfigurationError(f"{name} needs one value of {key}, but came as {value[key]!r}.") from None
            wanted = first["msg"].lower().removeprefix("input should be ")
            raise ConfigurationError(f"{name} should be {wanted}, but came as {value!r}.") from None
    return found


def _check_number(name: str, value: object, wanted: Any) -> None:
    """Refuse true and false for a number, which pydantic takes for 1 and 0."""
    if isinstance(value, bool) and {int, float}.intersection(get_args(wanted) or (wanted,)):
        raise ConfigurationError(f"{name} should be a number, but came as {value!r}.")


def read_config(path: Path) -> dict[str, Any]:
    """A TOML or YAML file as a dictionary.

    Raises:
        ConfigurationError: no such file, of another kind, or one that cannot be read.
    """
    try:
        text = path.read_text()
        content = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except OSError as error:
        raise ConfigurationError(f"the file {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:  # the latter of 2020-13-45, !!bool x
        what = "TOML" if path.suffix == ".toml" else "YAML"
        raise ConfigurationError(f"{path} is no valid {what}: {' '.join(str(error).split()).rstrip('.')}.") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} needs names with values (stream: digits), but holds something else.")
    return _named(str(path), content)


def _table(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return _named(name, value)
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise ConfigurationError(f"{name} needs names with values, but came as {value!r}.")
    table: dict[str, Any] = {}
    for key, equals, text in (text.partition("=") for text in value):
        if not (key and equals):
            raise ConfigurationError(f"{_FLAGS[name]} needs NAME=VALUE, but came as {key + equals + text!r}.")
        if table.setdefault(key, text) != text:
            one = "give all values in one, with commas" if name == "sweep" else "leave out one of the two"
            raise ConfigurationError(f"{_FLAGS[name]} came with {key}={table[key]} and {key}={text}; {one}.")
    return table


def _named(name: str, table: dict[Any, Any]) -> dict[str, Any]:
    """A table whose names are text: in YAML, 1 and no are something else."""
    for key in table:
        if not isinstance(key, str):
            raise ConfigurationError(f"{name} needs names that are text, but one came as {key!r}; put it in quotes.")
    return table


def _listed(values: Any) -> list[Any]:
    """The values of a sweep: a list as it is, text cut at its commas, anything else as the only one."""
    if isinstance(values, str):
        return [text.strip() for text in values.split(",") if text.strip()]
    return list(values) if isinstance(values, list) else [values]


def write_report_of(runs: str, said: str | None, wide: bool, csv: Path | None, console: Console) -> None:
    """`everlearn report`; the page goes where it is said to."""
    from everlearn.experiments.files import explained, write_whole
    from everlearn.experiments.store import find_runs

    out = page_of("--out", said)
    check_file("--csv", csv, "table.csv")
    folder = local_of(runs)
    page = write_report(folder, out or folder / "report.html")
    found = find_runs(folder)
    print_table(found, console, wide=wide)
    for path, content in csv_files(found, csv).items() if csv else ():
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content.encode())
        console.print(f"Written as CSV: {path}", soft_wrap=True, markup=False)
    console.print(f"The report is {page if out else keep_page(page, runs)}", soft_wrap=True, markup=False)


def csv_files(found: Sequence[StoredRun], path: Path) -> dict[Path, str]:
    """The summary table as CSV; and beside it, each named after it, the tables that these runs have besides."""
    from everlearn.report import errors_frame, growth_frame, old_new_frame, table_frame, units_frame

    stages = growth_frame(found)
    others = {
        "old-new": old_new_frame(found),
        "errors": errors_frame(found),
        "tasks": stages[:0] if bool(stages["auroc"].isna().all()) else stages,
        "units": units_frame(found),
    }
    named = {path.with_name(f"{path.stem}-{name}{path.suffix}"): frame for name, frame in others.items() if len(frame)}
    return {place: frame.to_csv(index=False) for place, frame in {path: table_frame(found), **named}.items()}


def list_methods(stream: str | None, backbone: str | None, tasks: int | None, console: Console) -> None:
    """`everlearn methods`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", no_wrap=True)
    if stream is None:
        table.add_column("what it is")
        for name, entry in METHODS.items():
            table.add_row(name, entry.about)
        console.print(table)
        console.print(
            "\nA name may carry a configuration of blocks: @all @none @top-K @bottom-K @alternating @0110; "
            "file.py:Name is a method of your own.",
            highlight=False,
        )
        return
    for kind in ("shared", "own", "heads", "total"):
        table.add_column(kind, justify="right")
    base = backbone or preset_of(stream).backbone
    make_backbone(base, stream_outline(stream).image_shape)
    unfit: list[str] = []
    with console.status("") as status:
        for name, entry in METHODS.items():
            if entry.chooses or entry.grows or (entry.variant and network_name(name, base) not in BACKBONES):
                continue  # a network without a larger or smaller variant
            status.update(f"counting {name} ...")  # 200 million numbers, or the decompositions of some, take a while
            try:
                counts = count_parameters(name, stream, backbone, tasks)
            except (ConfigurationError, LayerError) as error:
                # One head for tasks of unlike classes, or a rule for convolutions alone.
                table.add_row(name, *"----")
                unfit.append(f"{name}: {error}")
                continue
            table.add_row(name, *(f"{counts[kind]:,}" for kind in ("shared", "own", "head", "total")))
    console.print(table)
    for said in unfit:
        console.print(f"\n{said}", highlight=False, markup=False)
    console.print(
        "\nlasem-*, brute-force-* and darts-* choose which blocks transfer: of each block a task then holds what the "
        "method named after the dash does, or what stl does. expansion and expansion-lwf hold what fine-tuning does, "
        "and for each new task the nodes that the option nodes asks for. den and its relatives begin as mtl, and hold "
        "what their tasks made them grow.",
        highlight=False,
    )


def count_parameters(method: str, stream: str, backbone: str | None = None, tasks: int | None = None) -> dict[str, int]:
    """The parameters of a method after all tasks of a stream, by kind, without training and without its data.

    Of a method that chooses which blocks transfer: as if it had chosen all.
    """
    outline = stream_outline(stream)
    classes = list(outline.classes[:1]) * tasks if tasks else list(outline.classes)
    name = backbone or preset_of(stream).backbone
    built = make_method(method, name, len(classes), {})
    network = built.network(make_backbone(network_name(method, name), outline.image_shape), len(classes), 0)
    memory: Memory = {}
    for phase in [classes] if "lifelong" not in built.protocols else [[count] for count in classes]:
        learned = [built.begin(network, memory, count) for count in phase]
        for stage in range(len(built.stages)):
            built.enter(network, memory, learned, stage, {})
        built.leave(network, memory, learned, {})
    return network.counts()


def list_streams(console: Console) -> None:
    """`everlearn streams`."""
    for info in STREAMS.values():
        console.print(describe(info), highlight=False)
        console.print()
    console.print(
        "Options are given as --stream-option NAME=VALUE. `everlearn streams NAME` shows one stream with its tasks; "
        "with --sheet FILE.png it draws its images.",
        highlight=False,
    )


def show_stream(
    name: str, data: Path | None, options: Sequence[str], seed: int, sheet: Path | None, console: Console
) -> None:
    """`everlearn streams NAME`.

    Args:
        name: of the stream; or a YAML file of tasks, or a folder of them.
        data: the folder of data sets.
        options: of the stream, as NAME=VALUE.
        seed: of the stream.
        sheet: where its images are drawn; None: nowhere.
        console: where the rest goes.
    """
    name, asked = stream_of(name, _table("stream_options", options))
    info = stream_info(name)
    resolved = info.resolve(asked)
    # A path that leads nowhere is a mistake, and not data that lies on another machine.
    own = make_stream(name, seed, data, resolved) if name == "folders" and resolved["path"] else None
    console.print(describe(info, resolved), highlight=False)
    console.print()
    if name == "folders" and not resolved["path"]:
        console.print("Name the folder with --stream-option path=DIR, and its tasks are shown.", highlight=False)
        return
    try:
        stream = own or make_stream(name, seed, data, resolved)
    except MissingDataError as error:
        if sheet is not None:
            raise
        if info.outline is not None:
            outline = info.outline(resolved)
            console.print(f"An image is {shape_in_words(outline.image_shape)}.", highlight=False)
            console.print(outline_table(outline), highlight=False)
        console.print(f"[bold]Not on this machine:[/bold] {escape(str(error))}", highlight=False)
        return
    console.print(f"An image is {shape_in_words(stream.image_shape)}. With seed {seed}:", highlight=False)
    console.print(task_table(stream), highlight=False)
    if sheet is not None:
        write_sheet(stream, sheet)
        console.print(f"The sheet is {escape(str(sheet))}", highlight=False, soft_wrap=True)
