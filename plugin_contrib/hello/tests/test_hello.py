"""tidegate-hello against real servers; the fixtures `served` and `inside` come with tidegate."""

import pytest
from tidegate import Call, command
from tidegate_hello import Hello, LanguageUnknown


def test_it_greets_in_the_language_asked_for(served):
    server = served(plugins=["hello"])
    with server.client() as client:
        assert client.call("hello.greet", name="Ann") == "Hello, Ann!"
        assert client.call("hello.greet", name="Ann", language="fr") == "Bonjour, Ann !"


def test_an_operator_adds_languages(served):
    server = served('[plugins.hello.greetings]\nit = "Ciao, {}!"\n', plugins=["hello"])
    with server.client() as client:
        assert client.call("hello.greet", name="Ann", language="it") == "Ciao, Ann!"


def test_an_unknown_language_is_refused_with_those_that_are_known(served):
    server = served(plugins=["hello"])
    with server.client(faults=[LanguageUnknown]) as client, pytest.raises(LanguageUnknown) as caught:
        client.call("hello.greet", name="Ann", language="xx")
    assert caught.value.data["known"] == ["de", "en", "es", "fr"]


@command("test.work", slow_s=0.5)
def work(call: Call, seconds: float) -> None:
    call.server.clock.advance(seconds)


def test_only_a_call_over_its_limit_is_told(inside):
    server = inside(plugins={"hello": Hello}, commands=[work])
    slow = server.events("hello.slow")
    with server.client() as client:
        client.call("test.work", seconds=0.4)
        client.call("test.work", seconds=0.6)
    assert [(event.method, event.limit_s) for event in slow] == [("test.work", 0.5)]
    assert slow[0].seconds == pytest.approx(0.6, abs=0.01)


def test_the_setting_is_for_commands_that_say_nothing(inside):
    @command("test.idle")
    def idle(call: Call) -> None:
        call.server.clock.advance(3)

    server = inside("[plugins.hello]\nslow_s = 2\n", plugins={"hello": Hello}, commands=[idle])
    slow = server.events("hello.slow")
    with server.client() as client:
        client.call("test.idle")
    assert [event.method for event in slow] == ["test.idle"]


def test_a_limit_that_is_no_number_refuses_the_start(inside):
    @command("test.wrong", slow_s="soon")
    def wrong() -> None: ...

    with pytest.raises(Exception, match="slow_s: expected seconds, got 'soon'"):
        inside(plugins={"hello": Hello}, commands=[wrong])
