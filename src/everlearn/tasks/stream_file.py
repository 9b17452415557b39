"""A stream told in a YAML file: which folders are its tasks, and what is done with their images.

    size: 64x64                      any option of the stream `folders`; what the command line says wins
    tasks:
      - name: fruit
        folder: photos/fruit         divided at random, or by its train/, val/ and test/
        shares: [70, 10, 20]
        classes: [pear, apple]       these alone, labels in this order
      - name: tools
        train: tools/learn           the splits' own folders; without validation, a part of train
        test: tools/exam
        classes:
          saw: [handsaw, chainsaw]   two folders are one class
          hammer: mallet             another name
    order: [tools, fruit]            otherwise as they are listed

Folders are relative to the file. Whatever is wrong is one sentence with the line, what was wanted, and what came.
"""

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from everlearn.errors import ConfigurationError, MissingDataError, UnknownNameError
from everlearn.tasks.file_tasks import Recipe
from everlearn.tasks.listed import ClassFiles, class_files, folder_files
from everlearn.tasks.paths import path_of

STREAM_FILES = (".yaml", ".yml")

_SHARES = "three numbers above 0, for train, validation and test, such as [60, 20, 20]"
_CLASSES = "a list of class folders ([cat, dog]), or new names with class folders (pet: [cat, dog])"
_Share = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _listed(value: Any) -> Any:
    """Class folders by class name."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        if len(set(value)) < len(value):
            raise ValueError("each class folder once in classes")
        return {one: [one] for one in value}
    if isinstance(value, dict):
        return {name: [one] if isinstance(one, str) else one for name, one in value.items()}
    return value


class TaskEntry(BaseModel):
    """One task of the file."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(description="text", min_length=1)]
    folder: Annotated[str | None, Field(description="a folder")] = None
    train: Annotated[str | None, Field(description="a folder")] = None
    validation: Annotated[str | None, Field(description="a folder")] = None
    test: Annotated[str | None, Field(description="a folder")] = None
    shares: Annotated[
        tuple[_Share, _Share, _Share],
        Field(description=_SHARES),
    ] = (60, 20, 20)
    classes: Annotated[
        dict[str, Annotated[list[str], Field(min_length=1)]] | None,
        BeforeValidator(_listed),
        Field(description=_CLASSES),
    ] = None

    @model_validator(mode="after")
    def _folders(self) -> "TaskEntry":
        both = self.train is not None and self.test is not None
        if (self.folder is None) != both or (self.folder is not None and (self.train or self.validation or self.test)):
            raise ValueError("either folder, or train and test (and validation, if there is one)")
        if not math.isfinite(sum(self.shares)):
            raise ValueError(f"shares as {_SHARES}, but their sum is too large to be one")
        used = [one for folders in (self.classes or {}).values() for one in folders]
        if len(set(used)) < len(used):
            raise ValueError("each class folder in one class only")
        return self


class StreamFile(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid")

    tasks: Annotated[list[TaskEntry], Field(min_length=1, description="a list of tasks, each with a name and folders")]
    order: Annotated[list[str] | None, Field(description="a list of the tasks' names")] = None
    size: Annotated[str | None, Field(description="height x width, such as 64x64")] = None
    grey: Annotated[bool | None, Field(description="true or false")] = None
    standardise: Annotated[str | None, Field(description="train, imagenet or none")] = None
    in_memory: Annotated[bool | None, Field(description="true or false")] = None
    cache: Annotated[str | None, Field(description="a folder")] = None
    skip_corrupt: Annotated[bool | None, Field(description="true or false")] = None
    per_class: Annotated[int | None, Field(ge=0, description="a whole number of images, or 0 for all")] = None

    @model_validator(mode="after")
    def _names(self) -> "StreamFile":
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError("tasks of different names")
        if self.order is not None and sorted(self.order) != sorted(names):
            raise ValueError(f"order as each of the tasks' names once ({', '.join(names)})")
        return self

    def options(self, folder: Path) -> dict[str, str | int | bool]:
        """The options of the stream that the file sets; its cache is relative to the file's folder."""
        named = self.model_dump(exclude={"tasks", "order"}, exclude_none=True)
        return named | ({"cache": str(folder / path_of(self.cache, "cache"))} if self.cache else {})


def is_stream_file(path: str) -> bool:
    """Whether a path names a YAML file rather than a folder."""
    return path.lower().endswith(STREAM_FILES)


def content_mark(file: Path) -> str:
    """Sixteen digits that another content would change."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def read_stream_file(file: Path) -> StreamFile:
    """What the file says.

    Raises:
        MissingDataError: there is no such file.
        ConfigurationError: it is no YAML, or says what no stream is; one sentence that names the line.
    """
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise MissingDataError(f"there is no file {file}; path names a folder, or a YAML file of tasks.") from None
    except OSError as error:
        raise ConfigurationError(f"the file {file} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is no valid YAML: {' '.join(str(error).split())}.") from None
    lines: dict[tuple[str | int, ...], int] = {(): 1}
    content = _plain(file, root, (), lines)
    if not isinstance(content, dict):
        raise ConfigurationError(f"{file} needs names with values (tasks: ...), but holds something else.")
    try:
        return StreamFile.model_validate(content)
    except ValidationError as error:
        raise _explained(file, error, lines) from None


def _plain(file: Path, node: Any, place: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int]) -> Any:
    """The node as lists, dictionaries and text: a class may be called no, or 01. Lines are noted by place."""
    if node is None:
        return None
    lines[place] = node.start_mark.line + 1
    if len(place) > 6:
        raise ConfigurationError(f"{file}, line {lines[place]}: this is deeper than anything that a stream has.")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(file, one, (*place, number), lines) for number, one in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        made: dict[str, Any] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in made:
                raise ConfigurationError(f"{file}, line {line}: {name} is said twice; keep one of them.")
            made[name] = _plain(file, value, (*place, name), lines)
            lines[(*place, name)] = line
        return made
    return None if node.tag == "tag:yaml.org,2002:null" and node.value == "" else node.value


def _explained(
    file: Path, error: ValidationError, lines: Mapping[tuple[str | int, ...], int]
) -> ConfigurationError | UnknownNameError:
    """The first thing that is wrong, as a sentence."""
    first = error.errors()[0]
    place = list(first["loc"])
    known = next(tuple(place[:end]) for end in range(len(place), -1, -1) if tuple(place[:end]) in lines)
    where = f"{file}, line {lines[known]}"
    of_task = place[:1] == ["tasks"] and len(place) > 1
    fields = (TaskEntry if of_task else StreamFile).model_fields
    whose = f"task {int(place[1]) + 1}" if of_task else "the stream"
    named = [str(part) for part in place[2:] if part in fields] if of_task else [str(part) for part in place[:1]]
    field = named[0] if named else str(place[-1]) if place else "tasks"
    wanted = fields[field].description if field in fields else "names with values"
    if first["type"] == "extra_forbidden":
        return UnknownNameError(f"setting of a {'task' if of_task else 'stream'} ({where})", field, fields)
    if first["type"] == "missing" and place[-1] == field:
        return ConfigurationError(f"{where}: {whose} needs {field}: {wanted}.")
    if first["type"] == "value_error":
        return ConfigurationError(f"{where}: {whose} wants {first.get('ctx', {}).get('error')}.")
    if of_task and len(place) == 2:
        return ConfigurationError(f"{where}: {whose} is wanted as a name with folders, but came as {first['input']!r}.")
    return ConfigurationError(f"{where}: {field} of {whose} is wanted as {wanted}, but came as {first['input']!r}.")


def recipes(file: Path, content: StreamFile) -> list[Recipe]:
    """The tasks in the order in which they are learned.

    Raises:
        MissingDataError: a folder is not there.
        DataError: a folder holds no images.
        UnknownNameError: a class folder that there is none of.
    """
    made = {task.name: _recipe(file, task) for task in content.tasks}
    return [made[name] for name in content.order or made]


def _recipe(file: Path, task: TaskEntry) -> Recipe:
    total = sum(task.shares)
    fractions = (task.shares[0] / total, task.shares[1] / total, task.shares[2] / total)
    if task.folder is not None:
        root = _folder(file, task, task.folder)
        files = folder_files(root)
    else:
        named = {"train": task.train, "test": task.test, "validation": task.validation}
        folders = {split: _folder(file, task, text) for split, text in named.items() if text is not None}
        files = {split: class_files(folder) for split, folder in folders.items()}
        root = Path(os.path.commonpath(list(folders.values())))
    if task.classes is not None:
        files = {split: _chosen(found, task.classes, f"{task.name!r} of {file}") for split, found in files.items()}
    return Recipe(task.name, str(root), root, files, fractions)


def _folder(file: Path, task: TaskEntry, text: str) -> Path:
    folder = (file.parent / path_of(text, f"a folder of task {task.name!r} of {file}")).absolute()
    folder = Path(os.path.normpath(folder))
    if not folder.is_dir():
        raise MissingDataError(
            f"there is no folder {folder}, which task {task.name!r} of {file} names; folders are relative to the file."
        )
    return folder


def _chosen(found: ClassFiles, classes: Mapping[str, Sequence[str]], what: str) -> ClassFiles:
    for folder in (one for folders in classes.values() for one in folders):
        if folder not in found:
            raise UnknownNameError(f"class folder of task {what}", folder, found)
    return {name: [file for folder in folders for file in found[folder]] for name, folders in classes.items()}
