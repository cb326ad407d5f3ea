"""Prompt syntax: tables from its rules, and properties of any text."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.request.prompts import (
    MAX_WEIGHT,
    LoraMention,
    ParsedPrompt,
    Piece,
    PromptSyntax,
    parse_prompt,
)

# Texts with much syntax, so that brackets match and fail to match.
syntax = st.lists(
    st.sampled_from([*r"()[]\<>:", ":1.3)", "BREAK", "<lora:a:1>", "cat ", "1", ".", " "]),
    max_size=40,
).map("".join)
anything = st.one_of(st.text(max_size=200), syntax)


def section(text: str) -> list[tuple[str, float]]:
    (only,) = parse_prompt(text).sections
    return [(piece.text, piece.weight) for piece in only]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red cat", [("a red cat", 1.0)]),
        ("", []),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("((twice))", [("twice", 1.21)]),
        ("(((thrice)))", [("thrice", 1.331)]),
        ("(left:1.3)", [("left", 1.3)]),
        ("(spaced : 0.5 ) out", [("spaced ", 0.5), (" out", 1.0)]),
        ("(.5:.5)", [(".5", 0.5)]),
        ("(taken away:-1)", [("taken away", -1.0)]),
        ("[less]", [("less", 0.9091)]),
        ("[[less]]", [("less", 0.8264)]),
        ("([as it was])", [("as it was", 1.0)]),
        ("(a (b:2) c:1.5)", [("a ", 1.5), ("b", 3.0), (" c", 1.5)]),
        ("one (two) (three)", [("one ", 1.0), ("two", 1.1), (" ", 1.0), ("three", 1.1)]),
        ("(one)(two)", [("onetwo", 1.1)]),
        ("(unclosed", [("unclosed", 1.1)]),
        ("un [closed", [("un ", 1.0), ("closed", 0.9091)]),
        ("(a (b", [("a ", 1.1), ("b", 1.21)]),
        ("nothing open) here] either:1.3)", [("nothing open) here] either:1.3)", 1.0)]),
        (r"\(literal\) \[too\] \<as\> this \\", [(r"(literal) [too] <as\> this " + "\\", 1.0)]),
        (r"a \(b (c\) d:1.2)", [("a (b ", 1.0), ("c) d", 1.2)]),
        (r"c:\dir \o/", [(r"c:\dir \o/", 1.0)]),
        ("(a:1.3:2)", [("a:1.3", 2.0)]),
        ("(a:one)", [("a:one", 1.1)]),
        ("16:9 (3:4)", [("16:9 ", 1.0), ("3", 4.0)]),
        ("()", []),
        ("a < b", [("a < b", 1.0)]),
        ("<hypernet:x:1>", [("<hypernet:x:1>", 1.0)]),
        ("(x:1000)", [("x", MAX_WEIGHT)]),
        ("(x:-1000)", [("x", -MAX_WEIGHT)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0), ("house", 1.573), (" ", 1.1), ("on", 1.0), (" a ", 1.1),
                ("hill", 0.55), (", sun, ", 1.1), ("sky", 1.4641), (".", 1.1),
            ],
        ),
    ],
)  # fmt: skip
def test_weights(text: str, expected: list[tuple[str, float]]) -> None:
    assert section(text) == expected


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("a BREAK b", ((Piece("a ", 1.0),), (Piece(" b", 1.0),))),
        ("BREAK b", ((), (Piece(" b", 1.0),))),
        ("a BREAK BREAK b", ((Piece("a ", 1.0),), (Piece(" ", 1.0),), (Piece(" b", 1.0),))),
        ("a BREAK", ((Piece("a ", 1.0),),)),
        ("a BREAK(b)BREAK ", ((Piece("a ", 1.0),), (Piece("b", 1.1),))),
        ("(a BREAK b:1.2)", ((Piece("a ", 1.2),), (Piece(" b", 1.2),))),
        ("a break, BREAKFAST, UNBREAKABLE", ((Piece("a break, BREAKFAST, UNBREAKABLE", 1.0),),)),
    ],
)  # fmt: skip
def test_breaks(text: str, sections: tuple[tuple[Piece, ...], ...]) -> None:
    assert parse_prompt(text).sections == sections


@pytest.mark.parametrize(
    ("text", "left", "loras"),
    [
        ("a cat <lora:ink:0.8>", "a cat ", [("ink", 0.8)]),
        ("<lora:ink>a cat<lora:pen v2:-1>", "a cat", [("ink", 1.0), ("pen v2", -1.0)]),
        ("<lora:ink:0.8:0.5>", "", [("ink", 0.5, 0.8)]),
        ("<lora:>", "<lora:>", []),
        ("<lora:a", "<lora:a", []),
        (r"\<lora:a:1>", "<lora:a:1>", []),
        ("<lora:<lora:a>", "<lora:", [("a", 1.0)]),
    ],
)
def test_loras_are_removed_from_the_text(
    text: str, left: str, loras: list[tuple[str, float]]
) -> None:
    pieces = tuple([Piece(left, 1.0)] if left else [])
    assert parse_prompt(text) == ParsedPrompt(
        (pieces,), tuple(LoraMention(*lora) for lora in loras)
    )


@pytest.mark.parametrize(
    ("parts", "weights"),
    [  # (text encoders, UNet) as AUTOMATIC1111's extra_networks_lora.py reads them
        ("", (1.0, 1.0)),
        (":0.8", (0.8, 0.8)),
        (":0.8:0.5", (0.8, 0.5)),
        (":0:1", (0.0, 1.0)),
        (":te=0.3", (0.3, 0.3)),
        (":unet=0.3", (1.0, 0.3)),
        (":0.8:unet=0.5", (0.8, 0.5)),
        (":0.8:0.5:te=-1", (-1.0, 0.5)),
    ],
)
def test_weights_of_a_lora_have_automatic1111s_order_and_defaults(
    parts: str, weights: tuple[float, float]
) -> None:
    [mention] = parse_prompt(f"<lora:ink{parts}>").loras
    use = mention.use(20)
    in_text = use.weight if use.text_encoder_weight is None else use.text_encoder_weight
    assert (in_text, use.weight) == weights


@pytest.mark.parametrize(
    ("parts", "interval"),
    [  # of 20 steps
        (":start=0.25:stop=0.5", (0.25, 0.5)),
        (":start=1", (0.0, 1.0)),
        (":start=6", (0.25, 1.0)),
        (":stop=11", (0.0, 0.5)),
        (":step=6-11", (0.25, 0.5)),
        (":start=-1:stop=99", (0.0, 1.0)),
    ],
)
def test_steps_of_a_lora_are_shares_or_numbers(parts: str, interval: tuple[float, float]) -> None:
    [mention] = parse_prompt(f"<lora:ink:1{parts}>").loras
    use = mention.use(20)
    assert (use.start, use.end) == interval


def test_blocks_of_a_lora_are_a_preset_or_a_list() -> None:
    [named, listed] = parse_prompt(
        "<lora:a:1:lbw=OUTD><lora:b:1:lbw=1,0,0,0,0,0,0,0,0,0,0,.5>"
    ).loras
    assert named.block_weights == (1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0)
    assert listed.block_weights == (1, *10 * (0,), 0.5)


@pytest.mark.parametrize(
    "part",
    ["much", "dyn=4", "lbw=BETTER", "lbw=1,2", "lbw=R,1,1,1,1,1,1,1,1,1,1,1", "start=soon", "te="],
)
def test_parts_of_a_lora_that_are_not_understood_are_kept(part: str) -> None:
    assert [lora.problem for lora in parse_prompt(f"<lora:ink:{part}>").loras] == [part]
    assert [lora.problem for lora in parse_prompt("<lora:ink:1:1:8>").loras] == ["8"]


@given(text=anything)
def test_any_text_parses_into_bounded_pieces(text: str) -> None:
    prompt = parse_prompt(text)
    assert prompt.sections
    for pieces in prompt.sections:
        assert all(-MAX_WEIGHT <= piece.weight <= MAX_WEIGHT for piece in pieces)
        assert all(piece.text for piece in pieces)
        neighbours = pairwise(pieces)
        assert all(one.weight != other.weight for one, other in neighbours)


@given(text=anything)
def test_only_syntax_is_removed(text: str) -> None:
    kept = "".join(piece.text for pieces in parse_prompt(text).sections for piece in pieces)
    letters = [c for c in text if c.isalpha()]
    if "BREAK" not in text and "<lora:" not in text:
        assert [c for c in kept if c.isalpha()] == letters


@given(text=anything)
def test_escaped_characters_are_kept(text: str) -> None:
    left = text.replace("BREAK", "break")
    escaped = "".join(f"\\{c}" if c in r"\()[]<" else c for c in left)
    assert parse_prompt(escaped) == parse_prompt(left, PromptSyntax.PLAIN)


@given(text=anything)
def test_plain_text_has_no_syntax(text: str) -> None:
    expected = (Piece(text, 1.0),) if text else ()
    assert parse_prompt(text, PromptSyntax.PLAIN) == ParsedPrompt((expected,))


@pytest.mark.parametrize("depth", [31, 32, 33, 10_000])
def test_deep_brackets_are_bounded(depth: int) -> None:
    (weak,) = section("[" * depth + "cat" + "]" * depth)
    assert weak == ("cat", round(1.1 ** -min(depth, 32), 4))
    assert section("(" * depth + "cat" + ")" * depth) == [("cat", MAX_WEIGHT)]


def test_infinite_numbers_are_bounded() -> None:
    assert section(f"((x:0):{'9' * 400})") == [("x", 0.0)]
    assert parse_prompt(f"<lora:a:{'9' * 400}>").loras == (LoraMention("a", MAX_WEIGHT),)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000 + ")" * 10_000,
        "(" * 32 + "a[b](c:1.2)" * 1_800,
        "a(" * 10_000,
        ": " * 10_000,
        ":" + "1" * 19_998,
        "<lora:" * 3_333,
        "<lora:" + "a:1" * 6_600,
        "BREAK " * 3_333,
        "\\" * 20_000,
        " " * 20_000,
    ],
)
def test_longest_hostile_texts_parse(text: str) -> None:
    # A parser of quadratic time would exceed the time limit of the tests.
    assert parse_prompt(text).sections
