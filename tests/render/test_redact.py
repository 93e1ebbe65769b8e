"""Home, user, host and tokens never appear in a rendered report; attncheck's own vocabulary is never touched."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attncheck.environment import Library
from attncheck.installed.inventory import Build, Clobbered, Copies, Inventory
from attncheck.render import interface, redact, secret_values
from attncheck.render.redact import Person, redacted
from attncheck.report import Check
from attncheck.semantics.convention import Ability, Convention, Outcome
from tests import sample_benches, sample_machines, sample_reports, sample_watches

ALICE = Person("/home/alice", "alice", "deep-thought")
TOKEN = "hf_" + "a1B2c3D4" * 4
#: Formats that every command has.
FORMATS = sorted(name for name, renderer in interface.renderers().items() if not renderer.commands)
#: Formats that hold findings and verdicts, but no tables of what was read.
OF_FINDINGS = ("junit", "sarif")


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
        ("train.py --wandb_key=abc --lr 1", "train.py --wandb_key=<token> --lr 1"),
        ("train.py --hf_token abc --x", "train.py --hf_token <token> --x"),
        (
            "train.py --apiKey abc --api-key=d --password 'e f' g",
            "train.py --apiKey <token> --api-key=<token> --password <token> g",
        ),
        ("""train.py '--client.secret=a b'"'"'c' d""", "train.py '--client.secret=<token>' d"),
        ("--key=a1 --hub_token 1a", "--key=<token> --hub_token <token>"),
        ("--num_key_value_heads 8 --num_key_value_heads=x", "--num_key_value_heads 8 --num_key_value_heads=x"),
        ("--pad_token_id 5 --max_tokens many --tokenizer x", "--pad_token_id 5 --max_tokens many --tokenizer x"),
        ("--pad_token <pad> --eos_token=</s> --monkey x", "--pad_token <pad> --eos_token=</s> --monkey x"),
        ("--per_token 3 --by_key=-1e-3 --use_token --x", "--per_token 3 --by_key=-1e-3 --use_token --x"),
        ("--use_auth_token True a-key b", "--use_auth_token True a-key b"),
        ("window of 4096 tokens, 7 back", "window of 4096 tokens, 7 back"),
        ("env HF_TOKEN=abc WANDB_API_KEY=12345 python x", "env HF_TOKEN=<token> WANDB_API_KEY=<token> python x"),
        (
            "docker run -e HF_TOKEN=abc --env=DB_PASSWORD=d x",
            "docker run -e HF_TOKEN=<token> --env=DB_PASSWORD=<token> x",
        ),
        ("bash -c 'export API_KEY=abc; python x'", "bash -c 'export API_KEY=<token>; python x'"),
        ("env 'MY_SECRET=a b'\"'\"'c' python x", "env 'MY_SECRET=<token>' python x"),
        ("train.py hub.token=abc +wandb.api_key=d,e x=1", "train.py hub.token=<token> +wandb.api_key=<token> x=1"),
        ("--seed 1 --password 1234 --wandbKey=k", "--seed 1 --password <token> --wandbKey=<token>"),
        ("""failed with {"token": "abc", 'api-key': 'd'}""", """failed with {"token": <token>, 'api-key': <token>}"""),
        ("login(token=abc) failed: HF_TOKEN=abc.", "login(token=<token>) failed: HF_TOKEN=<token>"),
        ("attend(query=q, key=k, value=v); sort(key=len)", "attend(query=q, key=k, value=v); sort(key=len)"),
        ("pad_token=<pad> eos_token='</s>' pad_token_id=0", "pad_token=<pad> eos_token='</s>' pad_token_id=0"),
        (
            "tokens_per_key=8 next_token=3 TOKENIZERS_PARALLELISM=x",
            "tokens_per_key=8 next_token=3 TOKENIZERS_PARALLELISM=x",
        ),
        ("HF_TOKEN= python x; use_auth_token=True", "HF_TOKEN= python x; use_auth_token=True"),
        ('{"pad_token": "[PAD]", "head_key": "x"}', '{"pad_token": "[PAD]", "head_key": "x"}'),
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


def test_what_is_redacted_stays_as_it_is_the_second_time() -> None:
    for text in ("env HF_TOKEN=abc x --token abc", '\'--a.token=b c\' "token": "abc"'):
        once = redact.redact(text, ALICE)
        assert "abc" not in once
        assert redact.redact(once, ALICE) == once


@given(st.text("aA_-.'\"=: key<", max_size=80))
def test_any_text_can_be_searched_for_secrets(text: str) -> None:
    assert secret_values.without(secret_values.without(text)) is not None
    assert all(value in text for value in secret_values.values(text))


@pytest.mark.parametrize("name", FORMATS)
def test_secrets_of_a_watched_command_stay_out_of_its_report(name: str) -> None:
    report = sample_watches.watch_report()
    assert report.watch is not None
    command = "env HF_TOKEN=correcthorse 'API_KEY=battery staple' python train.py --token abc wandb.api_key=12345678"
    watch = dataclasses.replace(report.watch, script=command, failures=("login of correcthorse failed",))
    findings = tuple(dataclasses.replace(f, reproduction=f"attncheck run -- {command}") for f in report.findings)
    text = interface.render(dataclasses.replace(report, watch=watch, findings=findings), name)
    assert not [word for word in ("correcthorse", "battery", "staple", "abc", "12345678") if word in text]


def test_root_at_home_is_no_reason_to_cut_every_slash() -> None:
    assert redact.redact("/opt/x", Person("/", "root", "")) == "/opt/x"


def test_vocabulary_fields_survive_a_host_of_the_same_name() -> None:
    person = Person("/home/eager", "eager", "window-ignored")
    report = sample_reports.faulty_report()
    clean = redacted(report, person)
    assert clean.findings[0].slug == "window-ignored"
    assert clean.implementations[0].name == "eager"
    assert clean.matrix == report.matrix


@pytest.mark.parametrize("name", FORMATS)
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


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_shows_the_person_in_what_doctor_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "current_person", lambda: ALICE)
    secret = f"/home/alice/x on deep-thought with {TOKEN}"
    report = sample_machines.h100_report()
    assert report.torch is not None
    crashed = Ability("any", "sinks", secret, Outcome.CRASHED, None, detail=secret, figures={"said": secret})
    refused = Convention(
        "any", "f(8)", "window", 64, 64, Outcome.REFUSED, None, detail=secret, figures={"said": secret}
    )
    report = dataclasses.replace(
        report,
        conventions=(*report.conventions, refused),
        abilities=(*report.abilities, crashed),
        checks=(*report.checks, Check("ATC899", "not_run", secret)),
        missing={"imports": secret},
        inventory=Inventory(
            {"flash-attn": Build(source=secret)},
            (Clobbered((("a", secret), ("b", "1")), 1, "", secret),),
            (Copies("numpy", ((secret, "1"), ("/data/alice", "2"))),),
        ),
        torch=dataclasses.replace(
            report.torch,
            cuda_available=False,
            cuda_error=secret,
            devices=((secret, "9.0"),),
            changed_by_import=((secret, secret, secret, secret),),
            problems=(secret,),
        ),
        environment=dataclasses.replace(report.environment, gpu_note=secret, inert={"USE_FLASH_ATTN": secret}),
    )
    text = interface.render(report, name)
    for word in ("alice", "deep-thought", TOKEN):
        assert word not in text
    if name not in OF_FINDINGS:
        assert "~/x" in text
        assert "f(8)" in text


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_shows_the_person_in_an_incident(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "current_person", lambda: ALICE)
    report = sample_machines.incident_report()
    assert report.incident is not None
    secret = f"/home/alice/x on deep-thought with {TOKEN}"
    incident = dataclasses.replace(report.incident, remarks=(secret,), versions={"flash-attn": secret}, shape=secret)
    text = interface.render(dataclasses.replace(report, incident=incident), name)
    assert not any(word in text for word in ("alice", "deep-thought", TOKEN))


@pytest.mark.parametrize("name", sorted(interface.renderers()))
def test_no_format_shows_the_person_in_a_bench(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "current_person", lambda: ALICE)
    report = sample_benches.changed_report()
    assert report.bench is not None
    assert report.bench.rates is not None
    assert report.changes is not None
    secret = f"/home/alice/x on deep-thought with {TOKEN}"
    bench = dataclasses.replace(
        report.bench,
        cells=tuple(cell if cell.median else dataclasses.replace(cell, detail=secret) for cell in report.bench.cells),
        rates=dataclasses.replace(report.bench.rates, throttled=secret),
        published={"any": secret},
    )
    changes = dataclasses.replace(report.changes, source=secret, differences={"device": (secret, "x")})
    text = interface.render(dataclasses.replace(report, bench=bench, changes=changes), name)
    assert not any(word in text for word in ("alice", "deep-thought", TOKEN))
    assert "sdpa-cudnn" in text or name == "sarif"
