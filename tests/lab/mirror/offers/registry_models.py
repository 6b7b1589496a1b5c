"""Models for Ollama in the registry: made-up weights under the names of true ones."""

from mirror import Mirror
from publish_model import publish

# The second is the one of inventories/example.
MODELS = {"library/llama3.2:1b": 4_000_000, "library/llama3.2:3b": 4_000_000, "library/smollm:135m": 24_000_000}


def make(mirror: Mirror) -> dict[str, object]:
    with mirror.registry() as registry:
        return {"lab_models": {name: publish(registry, name, size) for name, size in MODELS.items()}}
