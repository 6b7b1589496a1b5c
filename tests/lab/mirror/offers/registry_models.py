"""Models for Ollama in the registry: stand-ins that llama.cpp runs, under the names of true ones."""

from mirror import Mirror
from publish_model import publish
from tiny_model import make as make_model

# The second is the one of inventories/example.
MODELS = {"library/llama3.2:1b": 4_000_000, "library/llama3.2:3b": 4_000_000, "library/smollm:135m": 24_000_000}


def make(mirror: Mirror) -> dict[str, object]:
    with mirror.registry() as registry:
        published = {name: publish(registry, name, make_model(name.removeprefix("library/"), size)) for name, size in MODELS.items()}
    return {"lab_models": published}
