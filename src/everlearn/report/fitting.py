"""Columns of a printed table, cut into tables that fit the width of the console."""

from collections.abc import Sequence


def fitting(needs: Sequence[int], left: int, width: int) -> list[list[int]]:
    """The places of columns in runs that fit, in order; a column that fits nowhere stands alone.

    Args:
        needs: characters that each column takes.
        left: characters that every table has at its left.
        width: of the console.
    """
    chunks: list[list[int]] = [[]]
    used = left
    for place, need in enumerate(needs):
        if chunks[-1] and used + need > width:
            chunks.append([])
            used = left
        chunks[-1].append(place)
        used += need
    return chunks
