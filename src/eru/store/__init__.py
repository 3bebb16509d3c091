"""Durable facts: a thin etcd-shaped contract, three backends, one key catalogue.

Nothing above `contract` may know which backend it has. Never imports `engine`.
"""
