"""A model of a few megabytes in GGUF that llama.cpp runs: it says one sentence about itself, whatever it is asked.

Its weights are made, not trained: the embedding of a token is a direction of its own, attention and feed-forward add nothing, and the
output matrix points from each token to the next one of the sentence, so that a true forward pass finds it. GGUF version 3 and the names
of tensors and keys are llama.cpp's (docs/gguf.md of ggml; arch `llama`).
"""

import random
import struct

ALIGNMENT, BYTES = 32, 256
UINT8, INT32, UINT32, FLOAT32, STRING, ARRAY = 0, 5, 4, 6, 8, 9
FORMATS = {INT32: "i", UINT32: "I", FLOAT32: "f"}
UNKNOWN, BEGIN, END = 0, 1, 2  # token ids; what bytes and words there are follows
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # as SentencePiece writes it
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
FEED_FORWARD = 32


def string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(kind: int, item: str | int | float) -> bytes:
    return struct.pack("<I", kind) + (string(item) if isinstance(item, str) else struct.pack(f"<{FORMATS[kind]}", item))


def strings(items: list[str]) -> bytes:
    return struct.pack("<IIQ", ARRAY, STRING, len(items)) + b"".join(map(string, items))


def numbers(kind: int, items: list[int] | list[float]) -> bytes:
    return struct.pack("<IIQ", ARRAY, kind, len(items)) + struct.pack(f"<{len(items)}{FORMATS[kind]}", *items)


def matrix(rows: int, columns: int, cells: dict[tuple[int, int], float]) -> bytes:
    """Rows of 32-bit floats that are zero but for the cells."""
    raw = bytearray(4 * rows * columns)
    for (row, column), number in cells.items():
        struct.pack_into("<f", raw, 4 * (row * columns + column), number)
    return bytes(raw)


def tensors(tokens: int, width: int) -> dict[str, tuple[tuple[int, ...], bytes]]:
    """Name, shape (columns first, as GGUF has it) and content of each tensor."""
    first = END + 1 + BYTES
    follows = dict.fromkeys(range(tokens), first) | {token: token + 1 for token in range(first, tokens - 1)} | {tokens - 1: END}
    ones = struct.pack(f"<{width}f", *[1.0] * width)
    square, up = bytes(4 * width * width), bytes(4 * width * FEED_FORWARD)
    return {
        "token_embd.weight": ((width, tokens), matrix(tokens, width, {(token, token): 1.0 for token in range(tokens)})),
        "output_norm.weight": ((width,), ones),
        "output.weight": ((width, tokens), matrix(tokens, width, {(after, token): 4.0 for token, after in follows.items()})),
        "blk.0.attn_norm.weight": ((width,), ones),
        "blk.0.ffn_norm.weight": ((width,), ones),
        **{f"blk.0.attn_{part}.weight": ((width, width), square) for part in ("q", "k", "v", "output")},
        **{f"blk.0.ffn_{part}.weight": ((width, FEED_FORWARD), up) for part in ("gate", "up")},
        "blk.0.ffn_down.weight": ((FEED_FORWARD, width), up),
    }


def make(name: str, size: int) -> bytes:
    """The model's file, filled up to `size` bytes with noise that no program reads. The same name and size give the same bytes."""
    words = f"Hello! I am {name}, a stand-in of few megabytes, and llama.cpp runs me on this host.".split()
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(BYTES)), *(SPACE + word for word in words)]
    width = -len(pieces) // ALIGNMENT * -ALIGNMENT
    head = {
        "general.architecture": value(STRING, "llama"),
        "general.name": value(STRING, f"{name} (stand-in)"),
        "llama.context_length": value(UINT32, 4096),
        "llama.embedding_length": value(UINT32, width),
        "llama.block_count": value(UINT32, 1),
        "llama.feed_forward_length": value(UINT32, FEED_FORWARD),
        "llama.attention.head_count": value(UINT32, 2),
        "llama.attention.head_count_kv": value(UINT32, 2),
        "llama.attention.layer_norm_rms_epsilon": value(FLOAT32, 1e-5),
        "llama.rope.dimension_count": value(UINT32, width // 2),
        "llama.vocab_size": value(UINT32, len(pieces)),
        "tokenizer.ggml.model": value(STRING, "llama"),
        "tokenizer.ggml.tokens": strings(pieces),
        "tokenizer.ggml.scores": numbers(FLOAT32, [0.0] * len(pieces)),
        "tokenizer.ggml.token_type": numbers(INT32, [2, 3, 3, *[6] * BYTES, *[1] * len(words)]),  # unknown, control, byte, normal
        "tokenizer.ggml.bos_token_id": value(UINT32, BEGIN),
        "tokenizer.ggml.eos_token_id": value(UINT32, END),
        "tokenizer.ggml.unknown_token_id": value(UINT32, UNKNOWN),
        "tokenizer.chat_template": value(STRING, TEMPLATE),
    }
    content = tensors(len(pieces), width)

    def file(noise: bytes) -> bytes:
        keys = {**head, "forja.noise": struct.pack("<IIQ", ARRAY, UINT8, len(noise)) + noise}
        raw = b"GGUF" + struct.pack("<IQQ", 3, len(content), len(keys)) + b"".join(string(key) + item for key, item in keys.items())
        offset = 0
        for tensor, (shape, data) in content.items():
            raw += string(tensor) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)  # 0: 32-bit floats
            offset += len(data) + -len(data) % ALIGNMENT
        parts = [raw, *(data for _, data in content.values())]
        return b"".join(part + bytes(-len(part) % ALIGNMENT) for part in parts)

    return file(random.Random(name).randbytes(max(0, size - len(file(b"")))))  # noqa: S311  (bytes that repeat, not secrets)
