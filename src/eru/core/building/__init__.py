"""What image builds are made of: the generated Dockerfile, the sources, the context. No engine here."""
