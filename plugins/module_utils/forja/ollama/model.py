# SPDX-License-Identifier: Apache-2.0
"""Ollama's models: what their names are, and what to do about one.

Sources: Ollama 0.32 (types/model/name.go, envconfig/config.go).
"""

import re
from typing import Any, Dict, List, NamedTuple, Optional

from ..host.errors import ForjaError

DEFAULT_HOST = "registry.ollama.ai"


class ModelName(NamedTuple):
    host: str
    namespace: str
    model: str
    tag: str

    def __str__(self) -> str:
        """The name as /api/tags shows it: always with a tag, without the default host and namespace."""
        parts = [self.host, self.namespace, self.model]
        if self.host == DEFAULT_HOST:
            parts = parts[2:] if self.namespace == "library" else parts[1:]
        return f"{'/'.join(parts)}:{self.tag}"

    @property
    def is_cloud(self) -> bool:
        """Whether the model runs on ollama.com only: there are no weights to pull."""
        tag = self.model if self.tag == "latest" else self.tag
        return self.host == DEFAULT_HOST and (tag.endswith("-cloud") or self.tag == "cloud")


_NAME = re.compile(r"(?:(?:(\w[\w.:-]{0,349})/)?(\w[\w-]{0,79})/)?(\w[\w.-]{0,79})(?::(\w[\w.-]{0,79}))?", re.ASCII)


def _parse(text: str) -> Optional[ModelName]:
    match = _NAME.fullmatch(text)
    if not match:
        return None
    name = ModelName(match.group(1) or DEFAULT_HOST, match.group(2) or "library", match.group(3), match.group(4) or "latest")
    in_library = (name.host, name.namespace) == (DEFAULT_HOST, "library")
    # Ollama takes these two, its registry has nothing under them: the web site's address, and capitals in the library.
    if name.host in ("ollama.com", "www.ollama.com", "ollama.ai") or (in_library and name.model != name.model.lower()):
        return None
    return name


def suggest(text: str) -> Optional[str]:
    """The name that was probably meant, or None."""
    text = re.sub(r"^\$?\s*(sudo\s+)?ollama\s+(pull|run|show|rm)\s+", "", text.strip(" \t\r\n\"'`"))
    text = re.sub(r"^\w+://", "", re.sub(r"@sha256:\w*$|[?#].*$", "", text))
    text = re.sub(r"^(www\.)?(registry\.)?ollama\.(com|ai)/(library/)?", "", text, flags=re.I)
    text = re.sub(r"^(www\.)?(huggingface\.co|hf\.co)/([^/]+/[^/]+).*$", r"hf.co/\3", text, flags=re.I)
    words = re.sub(r"\s*([:/])\s*", r"\1", re.sub(r"/tags/?$", "", text)).strip(":/").split()
    name = words[0] if words else ""
    for word in words[1:]:
        if ":" not in name and re.match(r"\d+(\.\d+)?[bm]\b|latest$|q\d", word, re.I):
            name += ":" + word.lower()  # llama3.2 3b
        elif word[0].isdigit() and name[-1].isalpha() and ":" not in name:
            name += word  # llama 3.2
        else:
            name += "-" + word  # deepseek coder
    model, colon, tag = name.partition(":")
    for candidate in (name, model.lower() + colon + tag):
        if _parse(candidate):
            return candidate
    return None


def parse_name(text: str) -> ModelName:
    """Reads `[host/][namespace/]model[:tag]`; a name that Ollama or its library would refuse is an error with a suggestion."""
    name = _parse(text)
    if name:
        return name
    hint = suggest(text)
    more = f'Did you mean "{hint}"?' if hint else "https://ollama.com/library lists the names."
    if "@sha256:" in text:
        more += " A digest goes into the option digest."
    raise ForjaError(f'"{text}" is not the name of a model. A name is [host/][namespace/]model[:tag], without spaces, and names of '
                      f"Ollama's library are in lower case. {more}")


def parse_digest(text: str) -> str:
    """A manifest's sha256 as 64 hexadecimal digits."""
    digest = text.strip().lower()
    digest = digest[7:] if digest.startswith("sha256:") else digest
    if not re.match(r"[0-9a-f]{64}\Z", digest):
        raise ForjaError(f'The digest "{text}" is not a sha256: found {len(digest)} characters, wanted 64 hexadecimal digits. '
                          'The short one of "ollama list" is not enough, /api/tags has the whole one.')
    return digest


def base_url(text: str) -> str:
    """The server's address from any form that OLLAMA_HOST may have. As in Ollama `http://h` means port 80 and `h` alone 11434."""
    scheme, _, rest = text.strip(" \"'").rpartition("://")
    rest, _, path = rest.partition("/")
    match = re.match(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*|[A-Za-z0-9._-]*)(?::(\d{1,5}))?\Z", rest)
    if not match or scheme not in ("", "http", "https") or int(match.group(2) or 0) > 65535:
        raise ForjaError(f'The host "{text}" is not an address. Wanted: host, host:port or http://host:port.')
    host = match.group(1).strip("[]")
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (where such a server is reached)
    host = f"[{host}]" if ":" in host else host
    port = match.group(2) or {"http": "80", "https": "443"}.get(scheme, "11434")
    return f"{scheme or 'http'}://{host}:{port}/{path}".rstrip("/")


class Model(NamedTuple):
    name: str
    digest: str
    size: int
    modified_at: str
    details: Dict[str, Any]


class Desired(NamedTuple):
    name: ModelName
    state: str  # present, latest or absent
    digest: Optional[str]


def read_desired(name: str, state: str, digest: Optional[str]) -> Desired:
    desired = Desired(parse_name(name), state, parse_digest(digest) if digest else None)
    if desired.digest and state != "present":
        raise ForjaError(f"A digest fixes what the model must be, state={state} does not: use digest with state=present only.")
    if desired.name.is_cloud and state != "absent":
        raise ForjaError(f"{name} is a cloud model: it runs on ollama.com and has no weights that could be on this host. Name a model "
                          "with weights (such as llama3.2:3b), or use the cloud model through an account without installing it.")
    return desired


def plan(current: Optional[Model], desired: Desired, pulled: bool = False) -> List[str]:
    """Plan nothing, ["pull"] or ["delete"]. `latest` always asks the registry, unless the model was `pulled` just now."""
    if desired.state == "absent":
        return ["delete"] if current else []
    fits = current is not None and desired.digest in (None, current.digest)
    return [] if fits and (desired.state == "present" or pulled) else ["pull"]


def predict(current: Optional[Model], desired: Desired) -> Optional[Model]:
    """The model after the plan, as far as can be known without pulling: an unknown digest is empty."""
    if desired.state == "absent":
        return None
    return current if current and (desired.state == "latest" or not plan(current, desired)) else Model(
        str(desired.name), desired.digest or "", 0, "", {})
