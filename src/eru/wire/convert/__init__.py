"""Between messages and the model: checks and normalises what comes in, shapes what goes out."""
