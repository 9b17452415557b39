"""The published tables and figures, run again: what the papers print beside what our runs give."""
