"""How data and talk are printed: tables, documents, live lines."""
