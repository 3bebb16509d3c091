"""Pure decisions: arrays in, placement out. No async, no clock, no I/O. Imports only `model` and `resource` shapes."""
