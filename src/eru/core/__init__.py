"""The control plane. `service` translates, `ops/<verb>` does, `ledger` keeps the books, `fleet` is the live view."""
