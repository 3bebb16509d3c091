"""The nouns of Eru, their rules and their stored form. No I/O here.

pod         a set of machines that are scheduled over together
node        one machine; runs workloads through its engine
engine      what really runs workloads on a node (Docker, a VM daemon, ...)
app         a named piece of software; has entrypoints
entrypoint  one way to start an app (web, worker, ...)
workload    one running instance of an app's entrypoint on one node
ident       the random end of a workload's name: <app>_<entrypoint>_<ident>
strategy    how instances are spread over nodes (AUTO, FILL, EACH, GLOBAL, DRAINED)
capacity    how many instances of a request a node can still take
plan        nodes and how many instances each of them gets
placement   one planned instance: node, sequence, name and grant are fixed
grant       the resources given to one workload, per resource kind
usage       the sum of all grants on a node
intent      a durable note that something is about to be done on a node
status      what the agent saw of a workload: running, healthy, addresses
heartbeat   a node's sign of life, kept by its agent
hook        commands run inside a workload after start or before stop
publish     ports a workload offers to others
"""
