"""The store in an etcd v3 cluster.

`settings` says where and as whom, `endpoints` sends a call to a member that
answers, `failures` tells "not sent" from "answer lost", `login` keeps the
token fresh, `watching` is the gap-free watch, `backend` offers the contract.
"""

from eru.store.etcd.backend import EtcdStore
from eru.store.etcd.settings import EtcdSettings

__all__ = ["EtcdSettings", "EtcdStore"]
