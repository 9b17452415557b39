"""Which runs are known to have been done by machines of one kind: seconds of others say nothing together."""

import json
import re
from collections.abc import Mapping

_FAMILIES = re.compile(r"(x86|x86_64|amd64|i\d86|arm64|aarch64|armv\d\w*)", re.IGNORECASE)
"""What a system calls every processor of one instruction set, for want of its name."""


def kind_of(machine: Mapping[str, str | int]) -> str | None:
    """What two records of machines share only if they are of one kind; None where the record does not say which.

    A GPU is known by its name. A processor is by a name with a number in it, a model's or a clock rate's: "Intel(R)
    Xeon(R) Processor" is what clouds call processors of many kinds.
    """
    device = str(machine.get("device", "cpu"))
    if device != "cpu":
        return device
    processor = str(machine.get("processor", ""))
    if not re.search(r"\d", processor) or _FAMILIES.fullmatch(processor):
        return None
    return json.dumps(dict(machine), sort_keys=True)
