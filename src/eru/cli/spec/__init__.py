"""App specs: read, checked, explained, and what a request is made of."""
