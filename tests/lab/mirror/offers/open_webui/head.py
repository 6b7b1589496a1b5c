"""Prints the migration that no other one of Open WebUI follows, without importing the program."""

import re
import sys
from pathlib import Path

texts = [path.read_text() for path in Path(sys.argv[1]).glob("*.py")]
names = {name for text in texts for name in re.findall(r"^revision\b[^=\n]*= *['\"](\w+)['\"]", text, re.M)}
lines = [line for text in texts for line in re.findall(r"^down_revision\b[^=\n]*= *(.*)", text, re.M)]
older = {name for line in lines for name in re.findall(r"\w{6,}", line)}
(head,) = names - older
print(head)
