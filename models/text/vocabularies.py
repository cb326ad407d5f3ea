"""The three vocabularies by which text encoders of this family cut text into tokens.

Byte pairs for CLIP, word pieces for the BERT of the paper's text-to-image models, sentence pieces
for the Japanese Stable Diffusion. Each is read from its published files into the `tokenizers`
package. Special tokens are used by id only: a prompt that spells one is treated as ordinary text,
as in open_clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from models.checkpoints.errors import CheckpointError, CheckpointMissing, UnsupportedConfig

Config = Mapping[str, Any]  # tokenizer_config.json

# Contractions, runs of letters, single digits, runs of other characters: the word pattern of CLIP
# (Radford et al. 2021, repository openai/CLIP, simple_tokenizer.py).
_WORDS = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class Vocabulary:
    """The backend that cuts text into ids, and the ids around the text of a row.

    cleaned: text must pass `models.text.cleaning.clean` first. start_id: None where rows begin with
    their text.
    """

    backend: Backend
    start_id: int | None
    end_id: int
    pad_id: int
    cleaned: bool = False


def clip(folder: Path, config: Config) -> Vocabulary:
    """Read CLIP's byte pairs: vocab.json and merges.txt."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    pad = _content(config.get("pad_token") or end)
    backend = Backend(
        models.BPE.from_file(
            str(_file(folder, "vocab.json")),
            str(_file(folder, "merges.txt")),
            unk_token=end,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    if pad != end:
        # The second tokenizer of SDXL pads with "!" and reads "!" in text as padding too.
        backend.add_special_tokens([AddedToken(pad, normalized=False)])
    start_id, end_id, pad_id = _ids(backend, start, end, pad)
    return Vocabulary(backend, start_id, end_id, pad_id, cleaned=True)


def bert(folder: Path, config: Config) -> Vocabulary:
    """Read word pieces of Devlin et al. (2019), lower-cased and without accents: vocab.txt."""
    lower = bool(config.get("do_lower_case", True))
    backend = Backend(models.WordPiece.from_file(str(_file(folder, "vocab.txt"))))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lower)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    start_id, end_id, pad_id = _ids(backend, "[CLS]", "[SEP]", "[PAD]")
    return Vocabulary(backend, start_id, end_id, pad_id)


def sentence_pieces(folder: Path, config: Config) -> Vocabulary:
    """Read a unigram model of Kudo (2018): spiece.model, a protobuf message.

    Rows are framed as in T5: no start, one end token, padding.
    """
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
    lower = bool(config.get("do_lower_case"))
    # Pieces that never match text keep their id under a name that no text contains.
    unmatched = (kinds.CONTROL, kinds.UNKNOWN, kinds.UNUSED)
    ids = {piece.piece: i for i, piece in enumerate(pieces)}
    backend = Backend(
        models.Unigram(
            [
                (f"\0{piece.piece}" if piece.type in unmatched else piece.piece, piece.score)
                for piece in pieces
            ],
            unk_id=spec.unk_id,
            byte_fallback=spec.byte_fallback,
        )
    )
    backend.normalizer = normalizers.Sequence(
        [
            *([normalizers.Lowercase()] if lower else []),
            *_charsmap(model.normalizer_spec.precompiled_charsmap),
        ]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
        ]
    )
    whole = [piece.piece for piece in pieces if piece.type == kinds.USER_DEFINED]
    # Those with capitals never match, because text is lower-cased first.
    found = [text for text in whole if not lower or text == text.lower()]
    backend.add_tokens([AddedToken(text, normalized=True) for text in found])
    end, pad = (_content(config.get(name) or "") for name in ("eos_token", "pad_token"))
    if missing := [token for token in (end, pad) if token not in ids]:
        raise CheckpointError(f"{path} lacks the tokens {missing}")
    return Vocabulary(backend, None, ids[end], ids[pad])


# Tokenizer classes of published files. Some files name the "Fast" variant of a class.
_READERS: dict[str, Callable[[Path, Config], Vocabulary]] = {
    "CLIPTokenizer": clip,
    "BertTokenizer": bert,
    "T5Tokenizer": sentence_pieces,
}
_BY_FILE = {"merges.txt": clip, "vocab.txt": bert, "spiece.model": sentence_pieces}


def read_vocabulary(folder: Path, config: Config) -> Vocabulary:
    """Read the vocabulary by the class in the configuration, else by the files in the folder.

    Raises CheckpointError and UnsupportedConfig.
    """
    named = config.get("tokenizer_class")
    if named is None:
        for file, read in _BY_FILE.items():
            if (folder / file).is_file():
                return read(folder, config)
        raise CheckpointMissing(f"{folder} has none of {', '.join(_BY_FILE)}")
    reader = _READERS.get(str(named).removesuffix("Fast"))
    if reader is None:
        raise UnsupportedConfig(f"tokenizer_class={named!r}: have {', '.join(_READERS)}")
    return reader(folder, config)


def _charsmap(compiled: bytes) -> list[normalizers.Normalizer]:
    """Return the normalisation that the model was trained with; none for the identity."""
    return [normalizers.Precompiled(compiled)] if compiled else []


def _file(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise CheckpointMissing(f"{folder / name} is missing")
    return folder / name


def _ids(backend: Backend, *tokens: str) -> list[int]:
    vocabulary = backend.get_vocab(with_added_tokens=True)
    if missing := [token for token in tokens if token not in vocabulary]:
        raise CheckpointError(f"the vocabulary lacks the tokens {missing}")
    return [vocabulary[token] for token in tokens]


def _content(token: str | dict[str, Any]) -> str:
    """Return the text of a special token, which files give as a string or as an object."""
    return token if isinstance(token, str) else str(token["content"])
