"""What selectors select, and how they say what is wrong with them."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_contracts.selector import Facts, Operator, Requirement, Selector, SelectorError, like, parse

WEB = Facts("web-1", "host", "online", frozenset({"front"}), {"site": "ams", "role": "web", "empty": ""})


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", "site=ams", "site==ams", " site = ams , role=web", "role in (web,db)", "role in( web )",
        "role notin (db)", "role!=db", "other!=x", "other notin (x,y)", "site", "!canary", "empty=",
        "empty in (,a)", "id=web-*", "id=web-?", "id in (db-1,web-1)", "kind=host", "state=online",
        "state!=lost", "group=front", "group in (front,back)", "group", "group!=back", "id!=db-*",
    ],
)  # fmt: skip
def test_a_selector_takes_the_agents_it_describes(text: str) -> None:
    assert parse(text).matches(WEB)


@pytest.mark.parametrize(
    "text",
    ["site=fra", "role notin (web,db)", "role!=web", "other=x", "other", "!site", "id=db-*", "kind=cluster",
     "state in (lost,left)", "group=back", "!group", "site=ams,role=db", "id!=web-1"],
)  # fmt: skip
def test_a_selector_leaves_the_others(text: str) -> None:
    assert not parse(text).matches(WEB)


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("site=ams,", 9, "expected a label's key"),
        (",site=ams", 0, "expected a label's key"),
        ("site=ams role=web", 9, "expected ',' or the end"),
        ("role in web", 8, r"expected '\('"),
        ("role in (web", 12, "expected ',' or"),
        ("site=-x", 5, "expected a label's value"),
        ("site=a*", 5, "expected a label's value"),
        ("state=onlin", 6, "expected one of expected, online"),
        ("kind=hots", 5, "expected one of host"),
        ("id=Web", 3, "expected an agent id"),
        ("!id", 1, "'id' needs a value"),
        ("a,kind", 2, "'kind' needs a value"),
        ("site=ams;", 8, "expected ','"),
        ("!", 1, "expected a label's key"),
    ],
)
def test_a_wrong_selector_names_the_position_and_what_was_expected(
    text: str, position: int, problem: str
) -> None:
    with pytest.raises(
        SelectorError, match=f"^cannot read the selector .* at position {position}: {problem}"
    ):
        parse(text)


def test_a_key_may_begin_like_an_operator() -> None:
    assert parse("index=1,notinuse").requirements == (
        Requirement("index", Operator.IN, ("1",)),
        Requirement("notinuse", Operator.EXISTS),
    )


def test_an_id_glob_becomes_a_pattern_of_sql() -> None:
    assert like("web-*-?") == "web-%-_"


KEYS = st.sampled_from(["site", "role", "a/b.c-d", "group"])
VALUES = st.lists(
    st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=5), min_size=1, max_size=3
)
REQUIREMENTS = st.one_of(
    st.builds(Requirement, KEYS, st.sampled_from([Operator.EXISTS, Operator.ABSENT])),
    st.builds(
        lambda key, operator, values: Requirement(key, operator, tuple(dict.fromkeys(values))),
        KEYS, st.sampled_from([Operator.IN, Operator.NOT_IN]), VALUES,
    ),
)  # fmt: skip


@given(st.lists(REQUIREMENTS, max_size=5))
def test_what_a_selector_prints_it_reads_back(requirements: list[Requirement]) -> None:
    selector = Selector(tuple(requirements))
    assert parse(str(selector)) == selector


@given(st.text(max_size=40))
def test_any_text_is_a_selector_or_a_selector_error(text: str) -> None:
    try:
        selector = parse(text)
    except SelectorError as error:
        position = error.position
    else:
        position = 0
        assert parse(str(selector)) == selector
    assert 0 <= position <= len(text)


def test_a_key_may_have_the_prefix_kubernetes_gives_it() -> None:
    key = "a-long.domain-name.of-the.team.that-owns-the-label.example.com/" + "n" * 63
    assert parse(f"{key}=web").requirements[0].key == key
    with pytest.raises(SelectorError):
        parse(f"prefix/{'n' * 64}=web")
