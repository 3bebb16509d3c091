"""What a backend must do to be a store, as checks that any backend can be put through.

Each check is a coroutine that takes a `Trial` and raises AssertionError. A
check writes only under the trial's room, so that many can share one store.
"""

from eru.store.conformance import leases, ranges, transactions, watches
from eru.store.conformance.trial import CHECKS, Check, CompactableStore, Trial

__all__ = ["CHECKS", "Check", "CompactableStore", "Trial", "leases", "ranges", "transactions", "watches"]
