"""What `eru doctor` looks at: this machine, the cores, their store, the nodes, certificates and clocks."""
