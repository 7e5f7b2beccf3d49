"""How the destination spells names. Letters beyond ASCII are spelled as the file `letters.txt` says, which the build
makes beside this one: hexadecimal code, space, ASCII text, a line each.
"""

import functools
import os
import re

LETTERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "letters.txt")
WORDS = re.compile(r"[A-Z]+[a-z]*|[a-z]+|[0-9]+|[^A-Za-z0-9]+")


def column_name(name, naming):
    return name if naming == "source" else words(name)


def table_name(name, naming):
    """Unlike a column it loses a leading `_` before a letter."""
    renamed = column_name(name, naming)
    return renamed[1:] if naming != "source" and re.match("_[a-z]", renamed) else renamed


def words(name):
    """Lowercase words joined by `_`; runs of anything else than letters and digits are one `_`."""
    renamed = ""
    for word in WORDS.findall(in_ascii(name)):
        if not word[0].isalnum():
            renamed += "_"
        else:
            renamed += ("" if not renamed or renamed.endswith("_") else "_") + word.lower()
    return renamed if renamed and not renamed[0].isdigit() else "_" + renamed


def in_ascii(name):
    if name.isascii():
        return name
    return "".join(letter if letter.isascii() else letters().get(ord(letter), "") for letter in name)


@functools.cache
def letters():
    with open(LETTERS, encoding="ascii") as file:
        lines = (line.rstrip("\n").partition(" ") for line in file)
        return {int(code, 16): text for code, _, text in lines}
