"""Command lines as the published API writes them: words between spaces, quotes around words with spaces."""

from __future__ import annotations

from eru.model.errors import InvalidInput

COMMAND_CHARS_MAX = 128 * 1024  # one command line; what a Linux exec takes as one argument


def split_command(text: str) -> list[str]:
    """The words of a command line.

    A word that begins with ' or " goes on, spaces included, to the next such
    quote that is followed by a space or the end. Backslashes and quotes inside
    words mean themselves. Raises InvalidInput for a quote that never closes.
    """
    if len(text) > COMMAND_CHARS_MAX:
        raise InvalidInput(f"command line has {len(text)} characters, at most {COMMAND_CHARS_MAX} are allowed")
    words: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == " ":
            at += 1
            continue
        quote = text[at] if text[at] in "'\"" else ""
        if quote:
            end = _closing(text, at + 1, quote)
            words.append(text[at + 1 : end])
            at = end + 1
        else:
            end = text.find(" ", at)
            end = len(text) if end < 0 else end
            words.append(text[at:end])
            at = end
    return words


def _closing(text: str, start: int, quote: str) -> int:
    end = text.find(quote, start)
    while end >= 0:
        if end + 1 == len(text) or text[end + 1] == " ":
            return end
        end = text.find(quote, end + 1)
    raise InvalidInput(
        f"command line {text[:200]!r} opens a {quote} that is never closed by one before a space or the end"
    )
