"""What an operator sees of the configuration; run as a program, it writes the pages anew."""

from __future__ import annotations

import os
import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from tidegate.address import Address, parse_address
from tidegate.config import ConfigError, Settings, check, read
from tidegate.settings import default_listener
from tidegate.settingspage import annotated, reference

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"etc/tidegate.toml": annotated, "server/docs/settings.md": reference}

SECURITY: dict[str, Any] = {
    "max_refusals": {"type": "integer", "default": 5, "min": 1, "max": 100},
    "tokens": {"type": "list", "default": [], "schema": {"type": "string"}},
    "ratio": {"type": "number", "default": 0.5},
    "mode": {"type": "string", "allowed": ["watch", "enforce"], "default": "watch"},
    "code": {"type": "string", "regex": "[a-z]+", "minlength": 2, "meta": {"example": "abc"}},
    "password": {"type": "string", "meta": {"secret": True, "help": "What the store asks for."}},
    "pin": {"type": "integer", "max": 9999, "meta": {"secret": True}},
    "store": {
        "type": "dict",
        "default": {},
        "schema": {
            "host": {"type": "string", "default": "localhost"},
            "key": {"type": "string", "meta": {"secret": True}},
        },
    },
    "hooks": {
        "type": "list",
        "default": [],
        "schema": {"type": "dict", "schema": {"url": {"type": "string", "required": True}}},
    },
    "labels": {"type": "dict", "default": {}, "valuesrules": {"type": "string"}},
    "when": {
        "anyof": [{"type": "integer"}, {"type": "string", "allowed": ["never"]}],
        "meta": {"example": "never"},
    },
    "port": {
        "type": "string",
        "coerce": lambda text: str(int(text)),
        "meta": {"example": "80"},
    },
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Writes etc/tidegate.toml, as an operator who stands in the folder above it names it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "etc").mkdir()

    def write(text: str | bytes) -> Path:
        path = Path("etc/tidegate.toml")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def settings_of(path: Path | None = None, schemas: Any = None, **sources: Any) -> Settings:
    sources.setdefault("environ", {})
    return check(read(path, **sources), {"security": SECURITY} if schemas is None else schemas)


def mistakes(path: Path | None = None, schemas: Any = None, **sources: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        settings_of(path, schemas, **sources)
    return str(caught.value).splitlines()


# --- the generated pages and the samples ----------------------------------------------------------


def first_party_schemas() -> dict[str, Any]:
    ours = {path.parent.name for path in (ROOT / "plugins").glob("*/setup.py")}
    found = {one.name: one for one in entry_points(group="tidegate") if one.name in ours}
    if ours - found.keys():
        pytest.skip(f"not installed: {', '.join(sorted(ours - found.keys()))}")
    return {name: one.load().settings for name, one in found.items()}


@pytest.mark.parametrize("name", PAGES)
def test_the_generated_page_is_current(name):
    written = (ROOT / name).read_text()
    assert written == PAGES[name](first_party_schemas()), f"stale; run: python {__file__}"


@pytest.mark.parametrize("name", ["etc/tidegate.toml", "etc/minimal.toml"])
def test_the_sample_configures_a_server_with_no_plugin_installed(name):
    settings = settings_of(ROOT / name, {})
    assert [one.address for one in settings.listen] == ["127.0.0.1:7420"]


def test_the_annotated_file_as_it_is_changes_nothing():
    assert settings_of(None, {}).changed(settings_of(ROOT / "etc/tidegate.toml", {})) == []


def test_every_key_of_the_annotated_file_is_valid_when_its_mark_is_taken_away(file, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("1234")
    text = annotated({"security": SECURITY})
    for sample in ("/run/secrets/x", "/etc/tidegate/tls.crt", "/etc/tidegate/tls.key"):
        text = text.replace(sample, str(secret))
    text = text.replace("/etc/tidegate/clients.crt", str(secret))
    general, own = re.search(r"# \[plugins\.NAME\]\n(.*)# \[plugins\.security\]\n(.*)", text, re.S).groups()
    text = text.replace(general, "").replace("# [plugins.NAME]\n", "").replace(own, general + own)
    text = re.sub(r"^# (\[+[a-z.]+\]+|[a-z_]+ = .*)$", r"\1", text, flags=re.M)
    origins = settings_of(file(text)).origins
    assert [key for key, origin in origins.items() if origin == "default"] == []


def test_a_key_of_any_schema_is_in_both_pages():
    for page in (annotated, reference):
        text = page({"security": SECURITY})
        for key in (*SECURITY, "host", "url", "drain_timeout_s", "outbox_bytes", "required"):
            assert key in text
        assert "What the store asks for." in text


# --- defaults and precedence ----------------------------------------------------------------------


def test_with_nothing_configured_there_is_one_listener_on_loopback():
    settings = settings_of()
    assert [vars(one) for one in settings.listen] == [vars(default_listener())]
    assert settings.server.data == "./data"
    assert settings.plugins["security"].max_refusals == 5


def test_two_servers_share_no_default():
    settings_of().server.exempt.clear()
    settings_of().listen[0].proxy_from.append("::1")
    assert settings_of().server.exempt == ["127.0.0.0/8", "::1"]
    assert settings_of().listen[0].proxy_from == []
    assert default_listener().proxy_from is not default_listener().proxy_from


def test_a_flag_beats_set_beats_environment_beats_file_beats_default(file):
    path = file("[server]\nthreads = 5\n")
    sources: dict[str, Any] = {}
    seen = []
    for more in (
        {},
        {"environ": {"TIDEGATE__SERVER__THREADS": "6"}},
        {"sets": ["server.threads=7"]},
        {"flags": {"server.threads": 8, "server.name": None}},
    ):
        sources |= more
        rows = {key: (value, origin) for key, value, origin in settings_of(path, **sources).rows()}
        seen.append(rows["server.threads"])
    assert seen == [
        (5, "etc/tidegate.toml:2"),
        (6, "environment"),
        (7, "--set"),
        (8, "--threads"),
    ]
    assert rows["server.name"] == ("tidegate", "default")


def test_systemds_state_directory_is_the_data_folder_unless_the_file_names_one(file):
    environ = {"STATE_DIRECTORY": "/var/lib/tidegate:/var/lib/more"}
    assert settings_of(environ=environ).server.data == "/var/lib/tidegate"
    assert settings_of(file('[server]\ndata = "/srv"'), environ=environ).server.data == "/srv"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("max_refusals", "7", 7),
        ("ratio", "2", 2),
        ("ratio", "0.25", 0.25),
        ("enabled", "off", False),
        ("tokens", "a, b", ["a", "b"]),
        ("tokens", '["a,b", "c"]', ["a,b", "c"]),
        ("tokens", "", []),
        ("code", "true", "true"),
        ("labels", '{a = "b"}', {"a": "b"}),
        ("labels", '{"a": "b"}', {"a": "b"}),
        ("when", "5", 5),
        ("when", "never", "never"),
    ],
)
def test_text_from_outside_gets_the_type_that_the_schema_asks_for(key, text, value):
    by_set = settings_of(sets=[f"plugins.security.{key}={text}"])
    by_environment = settings_of(environ={f"TIDEGATE__PLUGINS__SECURITY__{key.upper()}": text})
    assert getattr(by_set.plugins["security"], key) == value
    assert getattr(by_environment.plugins["security"], key) == value


def test_listeners_and_tables_in_lists_are_reached_by_index(file):
    path = file('[[listen]]\naddress = "127.0.0.1:1"\nmax_batch = 3\n')
    settings = settings_of(
        path,
        environ={
            "TIDEGATE__LISTEN__0__ADDRESS": "127.0.0.1:2",
            "TIDEGATE__LISTEN__1__ADDRESS": "[::1]:0",
            "TIDEGATE__PLUGINS__SECURITY__HOOKS__0__URL": "http://a",
        },
        sets=["listen.1.max_line_bytes=1024"],
    )
    first, second = settings.listen
    assert (first.address, first.max_batch) == ("127.0.0.1:2", 3)
    assert (second.address, second.max_line_bytes) == ("[::1]:0", 1024)
    assert settings.plugins["security"].hooks[0].url == "http://a"


def test_tables_with_a_schema_are_attributes_and_free_ones_stay_tables(file):
    security = settings_of(
        file('[plugins.security]\nstore.host = "db"\nlabels = {a = "b"}\nhooks = [{url = "u"}]')
    ).plugins["security"]
    assert (security.store.host, security.labels["a"], security.hooks[0].url) == ("db", "b", "u")
    assert security.code is None


def test_reload_learns_which_keys_differ():
    old = settings_of(sets=["plugins.security.password=a", "listen.0.max_batch=5"])
    both = ["listen.0.max_batch=6", "listen.1.address=127.0.0.1:0"]
    new = settings_of(sets=["plugins.security.password=b", *both])
    changed = old.changed(new)
    assert {"plugins.security.password", "listen.0.max_batch", "listen.1.address"} <= set(changed)
    assert "server.name" not in changed


# --- mistakes -------------------------------------------------------------------------------------


def test_all_mistakes_are_told_at_once_by_line_with_the_nearest_key(file):
    path = file(
        """
[server]
threads = true            # Cerberus alone would take it for 1
log_level = "inof"
drain_timeout_s = -1
call_timeout_s = nan
exempt = [
  "10.0.0.1/8",
  "nonsense",
]
[[listen]]
adress = "127.0.0.1:1"
[[listen]]
max_line_bytes = "5"
[plugins.security]
max_refusals = 'five'
tokns = 1
code = "A1"
tokens = ["a", 2]
store = 5
hooks = [{}]
when = "often"
port = "http"
password = 12345
pin = 123456
[plugins.securty]
[plugins.nothing_like_it]
[plugins.gone]
enabled = false
[plugins."security.threats"]
ring = "gard"
[srever]
"""
    )
    assert mistakes(path) == [
        f"etc/tidegate.toml:{line}"
        for line in (
            "3: server.threads: expected integer, got true",
            "4: server.log_level: expected one of 'debug', 'info', 'warning', 'error', 'critical', "
            "got 'inof'; did you mean 'info'?",
            "5: server.drain_timeout_s: expected at least 0 s, got -1",
            "6: server.call_timeout_s: expected a finite number, got nan",
            "8: server.exempt.0: expected a network, got the host '10.0.0.1/8'; did you mean '10.0.0.0/8'?",
            "9: server.exempt.1: expected a network such as 10.0.0.0/8 or ::1, got 'nonsense'",
            "12: listen.0.adress: unknown key; did you mean 'address'?",
            "14: listen.1.max_line_bytes: expected integer, got '5'",
            "16: plugins.security.max_refusals: expected integer, got 'five'",
            "17: plugins.security.tokns: unknown key; did you mean 'tokens'?",
            "18: plugins.security.code: expected a string that matches '[a-z]+', such as 'abc', got 'A1'",
            "19: plugins.security.tokens.1: expected string, got 2",
            "20: plugins.security.store: expected table, got 5",
            "21: plugins.security.hooks.0.url: required key is missing",
            "22: plugins.security.when: expected integer, got 'often' or expected one of 'never', got 'often'",
            "23: plugins.security.port: not accepted: invalid literal for int() with base 10: 'http'",
            "24: plugins.security.password: expected string, got ***",
            "25: plugins.security.pin: expected at most 9999, got ***",
            "26: plugins.securty: unknown plugin; did you mean 'security'?",
            "27: plugins.nothing_like_it: unknown plugin; install it, or set enabled = false",
            "31: plugins.\"security.threats\".ring: expected one of 'observe', 'guard', "
            "'identify', 'admit', 'check', 'answer', 'scope', got 'gard'; did you mean 'guard'?",
            "32: srever: unknown key; did you mean 'server'?",
        )
    ]


def test_a_mistake_from_outside_the_file_names_its_source():
    assert mistakes(
        environ={"TIDEGATE__SERVER__THREDS": "5", "TIDEGATE__SERVER__OPEN": "maybe"},
        sets=["server.log_format=xml", "plugins.security.pin=hush"],
        flags={"listen.0.address": "here"},
    ) == [
        "--listen: listen.0.address: expected HOST:PORT, [IPV6]:PORT, unix:/PATH or fd:NAME with a "
        "port from 0 to 65535, got 'here'",
        "--set plugins.security.pin: plugins.security.pin: expected integer, got ***",
        "--set server.log_format: server.log_format: expected one of 'text', 'json', got 'xml'",
        "environment TIDEGATE__SERVER__OPEN: server.open: expected true or false, got 'maybe'",
        "environment TIDEGATE__SERVER__THREDS: server.threds: unknown key; did you mean 'threads'?",
    ]


@pytest.mark.parametrize("text", ["server.threads", "=5", "a..b=1", "[server]=1", "listen.1.open=1"])
def test_a_set_that_names_no_key_is_refused(text):
    assert mistakes(sets=[text])[0].startswith("--set")


def test_a_plugins_required_key_is_missed_even_without_a_table(file):
    path = file("[plugins.security]\nmax_refusals = 3\n")
    schemas = {"security": SECURITY, "store": {"url": {"type": "string", "required": True}}}
    assert mistakes(path, schemas) == ["etc/tidegate.toml: plugins.store.url: required key is missing"]


def test_a_plugin_may_not_declare_the_servers_own_keys():
    told = mistakes(None, {"bad": {"ring": {"type": "string"}}})
    assert told == ["configuration: plugins.bad.ring: the plugin declares a key that is the server's own"]


def test_a_plugin_whose_schema_is_broken_is_named():
    assert "plugins.bad: the plugin's schema" in mistakes(None, {"bad": {"x": {"type": "intger"}}})[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"[server]\nname = \n", "etc/tidegate.toml:2: not valid TOML at column 8: Invalid value"),
        (b"a = 1\nb = \xff", "etc/tidegate.toml:2: expected UTF-8, got other bytes"),
        (b"a = 1\nb = 'x", "etc/tidegate.toml:2: not valid TOML at the end of the file: Expected"),
        (b"a = " + b"1" * 5000, "etc/tidegate.toml: not valid TOML: Exceeds the limit"),
        (b"#" * 1_048_577, "etc/tidegate.toml: expected at most 1 MiB, the file is bigger"),
        (b"a=" + b"[" * 5000 + b"]" * 5000, "etc/tidegate.toml: is nested too deeply"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_with_the_reason(file, text, told):
    (line,) = mistakes(file(text))
    assert line.startswith(told)


def test_a_file_that_is_not_there_is_told_by_name(tmp_path):
    path = tmp_path / "none.toml"
    assert mistakes(path) == [f"{path}: cannot be read: No such file or directory"]


def test_one_bracket_too_few_is_explained(file):
    (line,) = mistakes(file('[listen]\naddress = ":1"\n'))
    assert line == "etc/tidegate.toml:1: listen: expected list, got a table; write it as [[listen]]"


LINES = '''\ufeff# a comment with "quotes' and [brackets]
"x.y".'z' = 1                                   # 2
text = """
[server]
key = 1 \\""" still "" inside"""""               # 3
literal = \'\'\'
a = "\'\'\'                                           # 6
after = [ 1.5, [2, 3], # comment ]
  {in = {deep = 07:32:00}, "k]" = "}"},         # 9
  1979-05-27 07:32:00,
]
[ tab . "le" ]                                  # 12
"\\u0061" = -1e3
[[many]]
[[many.more]]
[[many.more]]
n = 1                                           # 17
[[many]]
sub.n = 2                                       # 19
[many.table]
n = 3                                           # 21
'''


def test_every_kind_of_key_is_found_on_its_line(file):
    raw = read(file(LINES), environ={})
    tomllib.loads(LINES.removeprefix("\ufeff"))
    lines = {
        ("x.y", "z"): 2,
        ("text",): 3,
        ("literal",): 6,
        ("after", "0"): 8,
        ("after", "1", "1"): 8,
        ("after", "2", "in", "deep"): 9,
        ("after", "2", "k]"): 9,
        ("after", "3"): 10,
        ("tab", "le"): 12,
        ("tab", "le", "a"): 13,
        ("many", "0"): 14,
        ("many", "0", "more", "1", "n"): 17,
        ("many", "1", "sub", "n"): 19,
        ("many", "1", "table", "n"): 21,
    }
    assert {keys: raw.origin(keys).where for keys in lines} == {
        keys: f"etc/tidegate.toml:{line}" for keys, line in lines.items()
    }


# --- secrets --------------------------------------------------------------------------------------


def test_a_secret_comes_from_a_file_or_a_variable_and_is_never_shown(file, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    path = file(f'[plugins.security]\npassword = {{file = "{secret}"}}\npin = {{env = "PIN"}}\nstore.key = "hidden"\n')
    settings = settings_of(path, environ={"PIN": "7391"})
    security = settings.plugins["security"]
    assert (security.password, security.pin, security.store.key) == ("s3cret", 7391, "hidden")
    shown = f"{settings!r} {settings} {settings.rows()} {security!r}"
    assert not any(text in shown for text in ("s3cret", "7391", "hidden"))
    assert ("plugins.security.password", "***", "etc/tidegate.toml:2") in settings.rows()
    assert settings.warnings == []


def test_a_secret_file_may_be_named_in_the_environment(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    settings = settings_of(environ={"TIDEGATE__PLUGINS__SECURITY__PASSWORD__FILE": str(secret)})
    assert settings.plugins["security"].password == "s3cret"
    assert settings.origins["plugins.security.password"] == "environment"


def test_a_secret_file_that_others_may_read_is_only_warned_about(file, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o644)
    settings = settings_of(file(f'[plugins.security]\npassword = {{file = "{secret}"}}\n'))
    (warning,) = settings.warnings
    assert str(warning) == (
        f"etc/tidegate.toml:2: plugins.security.password: '{secret}' may be read by others; chmod o-r it"
    )


def test_a_secret_that_is_not_there_is_a_mistake(file):
    path = file('[plugins.security]\npassword = {file = "none"}\npin = {env = "NONE"}\nstore.key = {path = 5}\n')
    assert mistakes(path) == [
        "etc/tidegate.toml:2: plugins.security.password: cannot read 'none': No such file or directory",
        "etc/tidegate.toml:3: plugins.security.pin: the environment variable 'NONE' is not set",
        "etc/tidegate.toml:4: plugins.security.store.key: expected the secret, {file = …} or "
        "{env = …}, got another table",
    ]


# --- listeners and plugins ------------------------------------------------------------------------


def test_a_certificate_needs_its_key_and_its_files(file, tmp_path):
    cert = tmp_path / "cert.pem"
    cert.write_text("")
    path = file(
        f'[[listen]]\ntls_cert = "{cert}"\n[[listen]]\naddress = ":1"\nclient_ca = "none"\n[[listen]]\naddress = ":1"\n'
    )
    assert mistakes(path) == [
        "etc/tidegate.toml:2: listen.0.tls_cert: needs tls_key too",
        "etc/tidegate.toml:5: listen.1.client_ca: needs tls_cert and tls_key",
        "etc/tidegate.toml:7: listen.2.address: listen.1 has the same address",
    ]
    path = file(f'[[listen]]\ntls_cert = "{cert}"\ntls_key = "none.pem"\n')
    assert mistakes(path) == ["etc/tidegate.toml:3: listen.0.tls_key: expected a file, found none at 'none.pem'"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_certificate_that_the_server_may_not_read_is_told(file, tmp_path):
    key = tmp_path / "key.pem"
    key.write_text("")
    key.chmod(0)
    (line,) = mistakes(file(f'[[listen]]\ntls_cert = "{key}"\ntls_key = "{key}"\n'))[1:]
    assert "may not read" in line


def test_the_core_knows_what_is_enabled_before_anything_is_checked(file):
    raw = read(
        file("[plugins.a]\nenabled = false\n[plugins.b]\nrequired = false\nring = 'check'\n"),
        environ={"TIDEGATE__PLUGINS__C__ENABLED": "no", "TIDEGATE__PLUGINS__D__ENABLED": "what"},
    )
    assert [raw.core(name).enabled for name in "abcde"] == [False, True, False, True, True]
    assert (raw.core("b").required, raw.core("b").ring) == (False, "check")
    assert (raw.core("a").required, raw.core("a").ring) == (True, None)


def test_a_disabled_plugin_may_keep_its_table(file):
    settings = settings_of(file("[plugins.gone]\nenabled = false\nanything = 1\n"))
    assert list(settings.plugins) == ["security"]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7420", Address("tcp", "127.0.0.1", 7420)),
        ("[::1]:0", Address("tcp", "::1", 0)),
        (":7420", Address("tcp", "", 7420)),
        ("chat.example:1", Address("tcp", "chat.example", 1)),
        ("unix:/run/x.sock", Address("unix", path="/run/x.sock")),
        ("fd:tidegate", Address("fd", path="tidegate")),
    ],
)
def test_an_address_has_four_forms(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "7420", "::1:7420", "[::1]", "a:70000", "1.2.3:5", "[x]:1", "unix:", "fd:", "a b:1"],
)
def test_any_other_address_is_refused(text):
    with pytest.raises(ValueError, match=r"^expected "):
        parse_address(text)


if __name__ == "__main__":
    for name, page in PAGES.items():
        (ROOT / name).write_text(page(first_party_schemas()))
