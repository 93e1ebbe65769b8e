"""Home, user, host and tokens never appear in a rendered report; attncheck's own vocabulary is never touched."""

from __future__ import annotations

import dataclasses

import pytest

from attncheck.environment import Library
from attncheck.render import interface, redact
from attncheck.render.redact import Person, redacted
from tests import sample_reports

ALICE = Person("/home/alice", "alice", "deep-thought")
TOKEN = "hf_" + "a1B2c3D4" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("config.json in /home/alice/models/x", "config.json in ~/models/x"),
        ("/home/alice", "~"),
        ("/home/alice2/x", "/home/<user>/x"),
        ("/home/bob/x and /Users/carol/y", "/home/<user>/x and /Users/<user>/y"),
        (r"C:\Users\dora\x", r"C:\Users\<user>\x"),
        ("/data/alice/checkpoints", "/data/<user>/checkpoints"),
        ("no config.json in /data/alice.", "no config.json in /data/<user>."),
        ("/alice", "/<user>"),
        ("https://hub.example/meta/alice", "https://hub.example/meta/alice"),
        ("alice@deep-thought: refused", "<user>@<host>: refused"),
        ("alice/llama-7b", "alice/llama-7b"),
        ("cannot reach deep-thought", "cannot reach <host>"),
        ("deep-thoughts", "deep-thoughts"),
        (f"token {TOKEN} was refused", "token <token> was refused"),
        ("https://me:secret@hub.example/x", "https://<token>@hub.example/x"),
        ("Authorization: Bearer abcdefghijklmnop", "Authorization: Bearer <token>"),
        ("window of 4096 tokens, 7 back", "window of 4096 tokens, 7 back"),
    ],
)
def test_texts(text: str, expected: str) -> None:
    assert redact.redact(text, ALICE) == expected


def test_a_home_outside_of_home_is_found_wherever_its_path_ends() -> None:
    person = Person("/data/people/al", "", "")
    for text in ("/data/people/al.", "`/data/people/al`", "/data/people/al|x"):
        assert "people" not in redact.redact(text, person)
    assert redact.redact("/data/people/alex", person) == "/data/people/alex"


def test_secrets_of_the_environment_are_recognised_by_their_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_HUB_TOKEN", "not-of-any-known-shape")
    assert redact.redact("sent not-of-any-known-shape", ALICE) == "sent <token>"


def test_root_at_home_is_no_reason_to_cut_every_slash() -> None:
    assert redact.redact("/opt/x", Person("/", "root", "")) == "/opt/x"


def test_vocabulary_fields_survive_a_host_of_the_same_name() -> None:
    person = Person("/home/eager", "eager", "window-ignored")
    report = sample_reports.faulty_report()
    clean = redacted(report, person)
    assert clean.findings[0].slug == "window-ignored"
    assert clean.implementations[0].name == "eager"
    assert clean.matrix == report.matrix


@pytest.mark.parametrize("name", sorted(interface.renderers()))
def test_no_format_shows_the_person(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "current_person", lambda: ALICE)
    secret = f"/home/alice/x on deep-thought with {TOKEN}"
    report = sample_reports.faulty_report()
    assert report.model is not None
    finding = dataclasses.replace(report.findings[0], message=secret, reproduction=f"cd {secret}")
    report = dataclasses.replace(
        report,
        model=dataclasses.replace(report.model, id="/home/alice/x", source_detail=secret, sources={"window": secret}),
        findings=(finding,),
        arguments={"target": secret},
        environment=dataclasses.replace(
            report.environment, libraries=(Library("torch", "2.13.0", secret),), variables={"HF_HOME": secret}
        ),
    )
    text = interface.render(report, name)
    for word in ("alice", "deep-thought", TOKEN):
        assert word not in text
    assert "~/x" in text
