import pytest

from everlearn.errors import ConfigurationError
from everlearn.training.settings import Training


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch", 0),
        ("evaluate_every", 0),
        ("rate", 0.0),
        ("rate", float("nan")),
        ("decay", -1.0),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} needs"):
        Training(**{name: value})  # type: ignore[arg-type]
