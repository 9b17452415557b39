"""`everlearn.tune`: which hyper-parameters of a method do best on validation images."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, cast, get_args, get_type_hints

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.experiments.asking import asked_for, check, check_place, processes, warn_of_settings
from everlearn.experiments.execute import CHECKPOINT_SECONDS, Place
from everlearn.experiments.files import explained
from everlearn.experiments.kinds import check_lists, check_path, checked_methods, checked_whole
from everlearn.experiments.plan import Request, plan_runs, with_changes
from everlearn.experiments.plan import settings as training_of
from everlearn.experiments.presets import preset_of
from everlearn.experiments.remote import is_url
from everlearn.methods.catalogue import make_method, option_kind, option_names
from everlearn.tasks import stream_info
from everlearn.tasks.task import TaskStream
from everlearn.training.augmentation import check_augmentation
from everlearn.training.settings import READ_BY, Training
from everlearn.tuning.papers import GRIDS, paper_grid
from everlearn.tuning.results import Measure, TriedSet, Tuned, best_command, ranked, tried_sets
from everlearn.tuning.search import EXAMPLES, Dimension, Value, read_search

if TYPE_CHECKING:
    from optuna.study import Study

Told = Callable[[str, int, int, TriedSet], None]

BUDGET = 20
"""Sets of values that are tried where a search has no end of its own."""

LISTED = 10_000
"""Sets of a space that is tried in full without being told to."""

DATABASE = "tuning.db"
"""The studies' SQLite file in the folder of the runs."""

_FIXED = (
    "protocol", "evaluate_every", "evaluate_others_every", "validate_others", "auroc", "memory_format", "precision",
    "graphs",
)  # fmt: skip
"""Settings that are no hyper-parameters: what is measured and when, and how fast it is computed."""


@dataclass(frozen=True)
class _How:
    """What changes no number of a set."""

    storage: str | None
    budget: int | None
    prune: bool
    workers: int


@dataclass(frozen=True)
class _Search:
    """One method's search, checked, before anything is written."""

    method: str
    request: Request
    space: dict[str, Dimension]
    settings: frozenset[str]
    source: str
    measure: Measure

    def name(self) -> str:
        """The study's name: a hash of all that its numbers depend on, after two words for people."""
        configs = [config.model_dump(mode="json") for config in plan_runs(self.request)]
        space = {name: [type(one).__name__, asdict(one)] for name, one in self.space.items()}
        text = json.dumps([configs, space, self.request.seed, self.measure], sort_keys=True)
        return f"{self.request.stream}.{self.method}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def tune(
    stream: str | TaskStream,
    methods: Sequence[str],
    *,
    search: Mapping[str, str | Sequence[Value]] | None = None,
    measure: str = "final",
    budget: int | None = None,
    trials: int = 1,
    seed: int = 0,
    same_stream: bool = False,
    backbone: str | None = None,
    training: Mapping[str, Value] | None = None,
    options: Mapping[str, Value] | None = None,
    stream_options: Mapping[str, Value] | None = None,
    start: str | Path | None = None,
    first: Mapping[str, Value] | None = None,
    data: str | Path | None = None,
    runs: str | Path = "runs",
    storage: str | None = None,
    prune: bool = True,
    workers: int | None = None,
    device: str = "cpu",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    told: Told | None = None,
) -> list[Tuned]:
    """Search over hyper-parameters of methods; what is finished is not done again, what is half done goes on.

    A set of values is worth the mean over runs and tasks of a validation accuracy; test images are not looked at. Its
    runs are those of `everlearn.run`, in the same folders. A space that the budget covers is tried in full;
    any other is sampled by Optuna's TPE.

    Args:
        stream: as in `everlearn.run`.
        methods: as in `everlearn.run`; each is searched on its own.
        search: what is searched over: settings of `everlearn.Training` and options of the method by name, each as a
            range ("1e-4..1e-2:log", "4..16"), as values ("0.1,1,10") or as a list; None: what the method's paper has.
        measure: of which accuracy: `final`, after the last task, so that forgetting counts, for which the runs have the
            setting `validate_others`; or `peak`, the best in a task's own phase.
        budget: how many sets each method's study holds in the end; None: the whole space where it is values and whole
            numbers alone (of more than 10,000 sets it must be said), or else 20.
        trials: runs of each set.
        seed: of the first trial's stream, and of the search.
        same_stream: as in `everlearn.run`, and so on to `data`.
        backbone: the same.
        training: the same.
        options: the same.
        stream_options: the same.
        start: the same.
        first: the same.
        data: the same.
        runs: the folder that run folders are written to; no URL.
        storage: URL of an Optuna storage (SQLAlchemy's form), where several machines may work on one study; None: the
            file `tuning.db` in the folder of the runs.
        prune: whether sets that fall behind the median are given up before they are finished.
        workers: sets at a time, each in a process of its own; None: one a core; 0: one, in this process.
        device: `cpu`, `cuda`, `cuda:1`.
        checkpoint_seconds: what a killed run loses at most.
        told: called after each set with the method, how many sets are over, the budget, and the set; from several
            threads, one at a time.

    Returns:
        For each method what its study holds.

    Raises:
        EverlearnError: anything that a user can mend; nothing is written when the request itself is at fault.
    """
    check_installed()
    base = asked_for(
        stream, None, trials, seed, same_stream, backbone, training, options, stream_options, start, first, data
    )
    check_place(device, workers, checkpoint_seconds)
    names = _check(base, methods, search, budget, runs)
    base = _measured(base, measure)
    searches = [_search(base, method, search or {}, cast(Measure, measure)) for method in names]
    _check_sizes(searches, budget)
    place = Place(Path(runs), device, checkpoint_seconds, start=base.start)
    how = _How(storage, budget, prune, processes(base.given, workers))
    return [_tune(one, place, how, told) for one in searches]


def _check(base: Request, methods: Sequence[str], search: object, budget: int | None, runs: str | Path) -> list[str]:
    """Find what is wrong with a search before its spaces are read; the methods, each once."""
    check_lists("search", search, text=True)
    if budget is not None and checked_whole("budget", budget) < 1:
        raise ConfigurationError(f"budget needs a whole number of at least 1, but came as {budget}.")
    check_path("runs", runs)
    if is_url(runs):
        raise ConfigurationError(
            f"a search needs a folder of this machine for its runs, but came with {runs}; several machines share a "
            "folder, or a study in a data base (--storage)."
        )
    if base.given is None:
        stream_info(base.stream)  # before what is said of methods
    if not methods:
        raise ConfigurationError("name the methods that are to be tuned, such as --methods tf.")
    return list(dict.fromkeys(checked_methods(methods)))


def _measured(base: Request, measure: str) -> Request:
    """The request whose runs evaluate what the measure needs."""
    if measure not in get_args(Measure):
        raise ConfigurationError(f"measure is final or peak, but came as {measure!r}.")
    training = training_of(preset_of(base.stream).training, base.training)
    if measure == "peak" or training.protocol == "multi-task":  # where every split of every task is evaluated anyway
        return base
    return replace(base, training={**base.training, "validate_others": 1})


def check_installed() -> None:
    """Raise `ConfigurationError` if Optuna is missing."""
    try:
        import_module("optuna")
    except ImportError:
        raise ConfigurationError("tuning needs Optuna: pip install everlearn[tune].") from None


def _search(base: Request, text: str, said: Mapping[str, str | Sequence[Value]], measure: Measure) -> _Search:
    """One method's search, with all ends of its space checked."""
    method, changes = with_changes(text)
    made = make_method(method, base.backbone or preset_of(base.stream).backbone, 2, {})
    own = [name for name in option_names(made) if name not in ("configuration", "shared_head", "tasks")]
    types = get_type_hints(Training)
    settings = [field.name for field in fields(Training) if field.name not in _FIXED]
    grid = paper_grid(method)
    if not said and grid is None:
        raise ConfigurationError(
            f"no grid of {method!r} is known from a paper (there is one of {', '.join(GRIDS)}), so say what is "
            f"searched over: --search {EXAMPLES.split(', ')[0]}. Its options are {', '.join(own) or 'none'}; settings "
            f"are {', '.join(settings)}."
        )
    for name in said:
        if name not in settings and name not in own:
            raise UnknownNameError(f"setting or option of {method!r} to search over", name, {*settings, *own})
        if name in {**base.training, **base.options, **changes}:
            raise ConfigurationError(f"{name} is searched over and has a value as well; leave out one of the two.")
    whole = {name: types[name] is int for name in settings} | {name: _whole(made, name) for name in own}
    space = read_search(said or (grid.values if grid else {}), whole)
    request = replace(base, methods=(text,))
    found = _Search(
        text, request, space, frozenset(settings).intersection(space), "" if said or not grid else grid.source, measure
    )
    _check_ends(found)
    return found


def _whole(method: Any, name: str) -> bool:
    """Whether an option takes whole numbers alone."""
    return option_kind(method, name) is int


def _check_ends(search: _Search) -> None:
    """Check the values of each name that must be allowed for the space to be, the others at their first.

    A setting that none of these trainings reads would be searched for nothing.
    """
    from everlearn.tuning.objective import request_of

    plain = {name: dimension.ends()[0] for name, dimension in search.space.items()}
    tried = [{**plain, name: end} for name, dimension in search.space.items() for end in dimension.ends()]
    requests = [request_of(search.request, search.settings, values) for values in tried]
    configs = [plan_runs(request)[0] for request in requests]
    for config in configs:
        check_augmentation(config.training.augment)
    for name in search.settings:
        if not any(config.training.reads(name) for config in configs):
            of, readers = READ_BY[name]
            raise ConfigurationError(
                f"{name} is searched over, but changes nothing: it is of the {of} {' or '.join(readers)}, and the {of} "
                f"of {search.method!r} is {getattr(configs[0].training, of)}; give --set {of}={readers[0]} as well."
            )
    check(requests[0], configs)
    warn_of_settings(requests[0], configs)


def _check_sizes(searches: Sequence[_Search], budget: int | None) -> None:
    """Refuse to try more sets than anybody means to, unless it was said how many."""
    from everlearn.tuning.study import grid_size

    for search in searches:
        size = grid_size(search.space)
        if budget is None and size is not None and size > LISTED:
            raise ConfigurationError(
                f"the search of {search.method!r} has {size:,} sets of values; say how many are tried with --budget."
            )


def _tune(search: _Search, place: Place, how: _How, told: Told | None) -> Tuned:
    """Open the study, try what is missing of the budget, and read all of it."""
    from everlearn.tuning import study as studies
    from everlearn.tuning.crew import work
    from everlearn.tuning.objective import Objective

    size = studies.grid_size(search.space)
    wanted = min(how.budget or size or BUDGET, size or sys.maxsize)
    if how.storage is None:
        with explained(place.root):
            place.root.mkdir(parents=True, exist_ok=True)
    url = how.storage or f"sqlite:///{place.root.resolve() / DATABASE}"

    def tell(study: "Study", number: int) -> None:
        sets = tried_sets(study, search.space)
        if told is not None and number in sets:
            told(search.method, len(sets), wanted, sets[number])

    with studies.silent():
        study = studies.open_study(search.name(), url, search.request.seed, how.prune)
        studies.enqueue(study, search.space, whole=wanted == size)
        refill = partial(studies.refill, study, search.space) if wanted == size else None
        objective = Objective(
            search.request, search.space, search.settings, search.measure, place, how.workers > 0, Event()
        )
        work(study, objective, wanted, max(how.workers, 1), tell, refill)
        sets = ranked(tried_sets(study, search.space).values())
    return Tuned(
        search.method, search.name(), search.measure, {name: str(one) for name, one in search.space.items()},
        search.source, sets, best_command(sets, search.request, search.settings, place),
    )  # fmt: skip
