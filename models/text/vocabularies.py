"""The three vocabularies by which text encoders of this family cut text into tokens.

Byte pairs for CLIP, word pieces for the BERT of the paper's text-to-image models, sentence pieces
for the Japanese Stable Diffusion. Each is read from its published files into the `tokenizers`
package, with the tokens that were added to it. Special tokens of the vocabulary are used by id
only: a prompt that spells one is treated as ordinary text, as in open_clip.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from models.checkpoints.errors import CheckpointError, CheckpointMissing, UnsupportedConfig
from models.checkpoints.files import read_json
from models.text import tokenizer_json
from models.text.added_tokens import (
    Config,
    add_tokens,
    added_tokens,
    content_of,
    with_special_tokens,
)

# Contractions, runs of letters, single digits, runs of other characters: the word pattern of CLIP
# (Radford et al. 2021, repository openai/CLIP, simple_tokenizer.py).
_WORDS = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

_BERT_SPECIAL = ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]")


@dataclass(frozen=True)
class Vocabulary:
    """The backend that cuts text into ids, and the ids around the text of a row.

    cleaned: text must pass `models.text.cleaning.clean` first. start_id: None where rows begin with
    their text. lower_cased: the backend matches text in lower case. added: the ids of the tokens
    that were added to the published vocabulary.
    """

    backend: Backend
    start_id: int | None
    end_id: int
    pad_id: int
    cleaned: bool = False
    lower_cased: bool = False
    added: Mapping[str, int] = field(default_factory=dict)


def clip(folder: Path, config: Config) -> Vocabulary:
    """Read CLIP's byte pairs: vocab.json and merges.txt, or tokenizer.json.

    Text is cleaned as in open_clip. With added tokens it is normalised as in transformers instead,
    because their rules apply to text before and after its normalisation.
    """
    start, end, unknown = (
        content_of(config.get(name) or default)
        for name, default in (
            ("bos_token", "<|startoftext|>"),
            ("eos_token", "<|endoftext|>"),
            ("unk_token", "<|endoftext|>"),
        )
    )
    pad = content_of(config.get("pad_token") or end)
    backend = Backend(_byte_pairs(folder, unknown))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    named = {name: backend.token_to_id(name) for name in (start, end, unknown)}
    unmatched = {name: number for name, number in named.items() if number is not None}
    added = add_tokens(backend, added_tokens(folder, config), folder, unmatched)
    if pad != end and pad not in added:
        # The second tokenizer of SDXL pads with "!" and reads "!" in text as padding too.
        backend.add_special_tokens([AddedToken(pad, normalized=False)])
    start_id, end_id, pad_id = _ids(backend, start, end, pad)
    if not added.keys() - {pad}:
        return Vocabulary(backend, start_id, end_id, pad_id, cleaned=True)
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Lowercase(),
        ]
    )
    return Vocabulary(backend, start_id, end_id, pad_id, lower_cased=True, added=added)


def _byte_pairs(folder: Path, unknown: str) -> models.BPE:
    """Return the model of a CLIP tokenizer. Raises CheckpointError."""
    shape: dict[str, Any] = {
        "unk_token": unknown,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "</w>",
        "fuse_unk": False,
    }
    whole, vocabulary = folder / tokenizer_json.FILE, folder / "vocab.json"
    if not whole.is_file():
        files = str(_file(folder, "vocab.json")), str(_file(folder, "merges.txt"))
        return models.BPE.from_file(*files, **shape)
    model = tokenizer_json.vocabulary(folder, "BPE")
    if vocabulary.is_file() and read_json(vocabulary) != model["vocab"]:
        raise CheckpointError(f"{vocabulary} and {whole} hold different vocabularies")
    return models.BPE(vocab=model["vocab"], merges=tokenizer_json.merges(model), **shape)


def bert(folder: Path, config: Config) -> Vocabulary:
    """Read word pieces of Devlin et al. (2019), lower-cased and without accents.

    They are in vocab.txt or tokenizer.json.
    """
    lower = bool(config.get("do_lower_case", True))
    backend = Backend(_word_pieces(folder))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lower)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    start_id, end_id, pad_id = _ids(backend, "[CLS]", "[SEP]", "[PAD]")
    words = backend.get_vocab()
    special = {name: words[name] for name in _BERT_SPECIAL if name in words}
    # transformers adds special tokens that the vocabulary lacks, which no text spells.
    absent = set(_BERT_SPECIAL) - words.keys()
    listed = [entry for entry in added_tokens(folder, config) if entry[1].content not in absent]
    added = add_tokens(backend, listed, folder, special)
    return Vocabulary(backend, start_id, end_id, pad_id, added=added)


def _word_pieces(folder: Path) -> models.WordPiece:
    if (folder / "vocab.txt").is_file() or not (folder / tokenizer_json.FILE).is_file():
        return models.WordPiece.from_file(str(_file(folder, "vocab.txt")))
    vocab = tokenizer_json.vocabulary(folder, "WordPiece")["vocab"]
    return models.WordPiece(vocab=vocab, unk_token="[UNK]")


@dataclass(frozen=True)
class _Pieces:
    """A unigram model: each piece with its score, those that no text spells, and those that text
    spells as a whole; charsmap: the replacement of characters before, which may be empty."""

    scores: Sequence[tuple[str, float]]
    unmatched: Collection[str]
    whole: Sequence[str]
    unk_id: int
    byte_fallback: bool
    charsmap: bytes


def sentence_pieces(folder: Path, config: Config) -> Vocabulary:
    """Read a unigram model of Kudo (2018): spiece.model, or tokenizer.json.

    Rows are framed as in T5: no start, one end token, padding.
    """
    is_message = (folder / "spiece.model").is_file()
    other = (folder / tokenizer_json.FILE).is_file()
    pieces = _pieces_of_json(folder) if other and not is_message else _pieces_of_message(folder)
    lower = bool(config.get("do_lower_case"))
    ids = {piece: number for number, (piece, _) in enumerate(pieces.scores)}
    # Pieces that never match text keep their id under a name that no text contains.
    named = [
        (f"\0{piece}" if piece in pieces.unmatched else piece, score)
        for piece, score in pieces.scores
    ]
    backend = Backend(
        models.Unigram(named, unk_id=pieces.unk_id, byte_fallback=pieces.byte_fallback)
    )
    backend.normalizer = normalizers.Sequence(
        [*([normalizers.Lowercase()] if lower else []), *_charsmap(pieces.charsmap)]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
        ]
    )
    # Those with capitals never match, because text is lower-cased first.
    found = [text for text in pieces.whole if not lower or text == text.lower()]
    backend.add_tokens([AddedToken(text, normalized=True) for text in found])
    end, pad = (content_of(config.get(name) or "") for name in ("eos_token", "pad_token"))
    if missing := [token for token in (end, pad) if token not in ids]:
        raise CheckpointError(f"{folder} lacks the tokens {missing}")
    added = add_tokens(backend, added_tokens(folder, config), folder, ids)
    return Vocabulary(backend, None, ids[end], ids[pad], added=added)


def _pieces_of_json(folder: Path) -> _Pieces:
    model = tokenizer_json.vocabulary(folder, "Unigram")
    scores = [(str(piece), float(score)) for piece, score in model["vocab"]]
    listed = tokenizer_json.special_tokens(folder)
    unknown = model.get("unk_id")
    if not isinstance(unknown, int) or not 0 <= unknown < len(scores):
        raise CheckpointError(f"{folder / tokenizer_json.FILE} has the unk_id {unknown!r}")
    known = {piece for piece, _ in scores}
    return _Pieces(
        scores,
        {scores[unknown][0], *(token for token, special in listed.items() if special)},
        [token for token, special in listed.items() if not special and token in known],
        unknown,
        bool(model.get("byte_fallback")),
        tokenizer_json.charsmap(folder),
    )


def _pieces_of_message(folder: Path) -> _Pieces:
    """Read spiece.model, a protobuf message."""
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2 as messages

    path = _file(folder, "spiece.model")
    try:
        model = messages.ModelProto.FromString(path.read_bytes())
    except DecodeError as error:
        raise CheckpointError(f"{path} is no sentencepiece model: {error}") from error
    spec, pieces = model.trainer_spec, model.pieces
    if spec.model_type != spec.UNIGRAM or not model.normalizer_spec.add_dummy_prefix:
        raise UnsupportedConfig(f"{path}: only unigram models with a dummy prefix are supported")
    kinds = messages.ModelProto.SentencePiece
    unmatched = (kinds.CONTROL, kinds.UNKNOWN, kinds.UNUSED)
    return _Pieces(
        [(piece.piece, piece.score) for piece in pieces],
        {piece.piece for piece in pieces if piece.type in unmatched},
        [piece.piece for piece in pieces if piece.type == kinds.USER_DEFINED],
        spec.unk_id,
        spec.byte_fallback,
        model.normalizer_spec.precompiled_charsmap,
    )


# Tokenizer classes of published files. Some files name the "Fast" variant of a class.
_READERS: dict[str, Callable[[Path, Config], Vocabulary]] = {
    "CLIPTokenizer": clip,
    "BertTokenizer": bert,
    "T5Tokenizer": sentence_pieces,
}
_BY_FILE = {
    "merges.txt": clip,
    "vocab.txt": bert,
    "spiece.model": sentence_pieces,
}
_BY_KIND = {"BPE": clip, "WordPiece": bert, "Unigram": sentence_pieces}
# Classes of transformers for any `tokenizer.json`.
_GENERIC = ("PreTrainedTokenizer", "TokenizersBackend")


def read_vocabulary(folder: Path, config: Config) -> Vocabulary:
    """Read the vocabulary by the class in the configuration, else by the files in the folder.

    Raises CheckpointError.
    """
    try:
        config = with_special_tokens(folder, config)
        return _reader(folder, config.get("tokenizer_class"))(folder, config)
    except CheckpointError:
        raise
    except Exception as error:  # the package `tokenizers` has no error class of its own
        raise CheckpointError(f"{folder} holds no valid vocabulary: {error}") from error


def _reader(folder: Path, named: object) -> Callable[[Path, Config], Vocabulary]:
    name = str(named).removesuffix("Fast")
    if named is not None and name not in _GENERIC:
        if name not in _READERS:
            raise UnsupportedConfig(f"tokenizer_class={named!r}: have {', '.join(_READERS)}")
        return _READERS[name]
    for file, read in _BY_FILE.items():
        if (folder / file).is_file():
            return read
    if not (folder / tokenizer_json.FILE).is_file():
        raise CheckpointMissing(f"{folder} has none of {', '.join(_BY_FILE)}, tokenizer.json")
    kind = tokenizer_json.kind_of(folder)
    if kind not in _BY_KIND:
        raise UnsupportedConfig(
            f"{folder} has a vocabulary of type {kind!r}: have {', '.join(_BY_KIND)}"
        )
    return _BY_KIND[kind]


def _charsmap(compiled: bytes) -> list[normalizers.Normalizer]:
    """Return the normalisation that the model was trained with; none for the identity."""
    return [normalizers.Precompiled(compiled)] if compiled else []


def _file(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise CheckpointMissing(f"{folder / name} is missing")
    return folder / name


def _ids(backend: Backend, *tokens: str) -> list[int]:
    ids = [backend.token_to_id(token) for token in tokens]
    if missing := [token for token, number in zip(tokens, ids, strict=True) if number is None]:
        raise CheckpointError(f"the vocabulary lacks the tokens {missing}")
    return [number for number in ids if number is not None]
