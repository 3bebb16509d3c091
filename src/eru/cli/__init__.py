"""The command line: one file per noun, and how things are printed."""
