"""Tools that know no noun of Eru: clock, ids, task ownership, undo, retry, logging."""
