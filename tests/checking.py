"""The run-time type checker of the tests; a whole number is a number, as for static checkers (PEP 484)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
