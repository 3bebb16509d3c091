"""The command line: a package per noun, and `show`, how things are printed."""
