"""The verbs that look at the whole cluster: status, wait, doctor."""
