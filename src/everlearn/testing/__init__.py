"""What everlearn asks of its own parts, for those who write parts of their own."""

from everlearn.testing.methods import check_method
from everlearn.testing.rules import check_rule

__all__ = ["check_method", "check_rule"]
