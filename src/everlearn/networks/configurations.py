"""Transfer configurations: which blocks of a task's trunk are made by the sharing rule.

A configuration is data, one boolean a block, in the order of the blocks: True is transfer (Lee et al. 2021, Sec. 2).

    all            every block                    1111
    none           no block                       0000
    top-k          the k blocks nearest the head  0011 for k = 2
    bottom-k       the k blocks nearest the image 1100 for k = 2
    alternating    the second, fourth, ...        0101
    0110           written out
    all/top-2/...  one for each task, in order
"""

from everlearn.errors import ConfigurationError, UnknownNameError

Configuration = tuple[bool, ...]

NAMED = ("all", "none", "top-K", "bottom-K", "alternating")


def parse_configuration(text: str, blocks: int) -> Configuration:
    """The configuration that a text names, for a trunk of that many blocks.

    Raises:
        UnknownNameError: no such configuration.
        ConfigurationError: k is not between 1 and the number of blocks, or the written-out form has another length.
    """
    if text == "all":
        return (True,) * blocks
    if text == "none":
        return (False,) * blocks
    if text == "alternating":
        return tuple(i % 2 == 1 for i in range(blocks))
    if text and set(text) <= {"0", "1"}:
        if len(text) != blocks:
            raise ConfigurationError(
                f"the configuration {text!r} is for {len(text)} blocks, but the backbone has {blocks}; "
                f"write {blocks} digits."
            )
        return tuple(digit == "1" for digit in text)
    side, _, number = text.partition("-")
    if side not in ("top", "bottom") or not number.isdecimal():
        raise UnknownNameError("configuration", text, [*NAMED, "0" * blocks])
    k = int(number)
    if not 1 <= k <= blocks:
        raise ConfigurationError(f"{text!r} needs a number of blocks from 1 to {blocks}, the backbone's, but has {k}.")
    bottom = (True,) * k + (False,) * (blocks - k)
    return bottom if side == "bottom" else bottom[::-1]


def configurations_of_tasks(text: str, blocks: int, tasks: int) -> tuple[Configuration, ...]:
    """One configuration a task: `text` names one for all, or as many as there are tasks, with `/` between them.

    Raises:
        ConfigurationError: another number of configurations than tasks; or as `parse_configuration`.
    """
    parts = text.split("/")
    if len(parts) == 1:
        parts = parts * tasks
    if len(parts) != tasks:
        raise ConfigurationError(
            f"{text!r} gives {len(parts)} configurations, but there are {tasks} tasks; give one, or one for each."
        )
    return tuple(parse_configuration(part, blocks) for part in parts)


def parse_groups(text: str, blocks: int) -> tuple[tuple[int, ...], ...]:
    """The groups of blocks that transfer together or not at all (Lee et al. 2021, App. E).

    Args:
        text: groups with `/` between them, each of block numbers from 1 with commas, or ranges: "1-3/4-6/7-9",
            "1,3/2,4/5/6". Empty: every block by itself.
        blocks: of the trunk.

    Returns:
        the positions of each group's blocks, from 0.

    Raises:
        ConfigurationError: the text is no such list, or not every block is in exactly one group.
    """
    if not text:
        return tuple((block,) for block in range(blocks))
    try:
        groups = tuple(tuple(b for part in group.split(",") for b in _range(part)) for group in text.split("/"))
    except ValueError:
        raise ConfigurationError(f"groups are written like 1-3/4-6 or 1,3/2,4, but {text!r} came.") from None
    if sorted(b for group in groups for b in group) != list(range(blocks)):
        raise ConfigurationError(
            f"groups name each of the backbone's {blocks} blocks once, from 1 to {blocks}, but {text!r} came."
        )
    return groups


def _range(text: str) -> range:
    first, dash, last = text.partition("-")
    return range(int(first) - 1, int(last if dash else first))


def every_configuration(blocks: int, groups: str = "") -> tuple[Configuration, ...]:
    """All configurations in which the blocks of a group agree.

    In the authors' order: the first transfers everything, the last nothing; with single blocks the place of a
    configuration is the sum of 2^j over the blocks j that do not transfer. So the first of equals shares most.

    Raises:
        ConfigurationError: as `parse_groups`.
    """
    parsed = parse_groups(groups, blocks)
    place = {block: g for g, group in enumerate(parsed) for block in group}
    return tuple(tuple(not i >> place[b] & 1 for b in range(blocks)) for i in range(2 ** len(parsed)))


def spell(configuration: Configuration) -> str:
    """The written-out form: `0110`."""
    return "".join("1" if shared else "0" for shared in configuration)
