"""Ports stay the same for as long as they are free, and are never given away twice."""

import socket

import pytest

from muster_client.embedded.ports import LOOPBACK, choose, is_free


def test_each_name_gets_a_port_of_its_own() -> None:
    chosen = choose(["a", "b", "c"], {})
    assert len(set(chosen.values())) == 3
    assert all(is_free(port) for port in chosen.values())


def test_a_port_stays_the_same_while_it_is_free() -> None:
    first = choose(["a", "b"], {})
    assert choose(["a", "b"], first) == first


def test_a_port_somebody_took_is_replaced_and_the_others_stay() -> None:
    first = choose(["a", "b"], {})
    with socket.socket() as thief:
        thief.bind((LOOPBACK, first["a"]))
        thief.listen()
        second = choose(["a", "b"], first)
    assert second["a"] != first["a"]
    assert second["b"] == first["b"]


def test_a_port_remembered_for_two_names_goes_to_one_of_them() -> None:
    port = choose(["a"], {})["a"]
    chosen = choose(["a", "b"], {"a": port, "b": port})
    assert chosen["a"] == port
    assert chosen["b"] != port


@pytest.mark.parametrize("port", [70_000, -5])
def test_what_is_no_port_is_replaced(port: int) -> None:
    assert choose(["a"], {"a": port})["a"] != port
