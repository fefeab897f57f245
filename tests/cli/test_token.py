"""`jackfield token`."""

from __future__ import annotations

import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jackfield import Jackfield
from jackfield.cli import main

ALICE = ["token", "--user", "alice", "--workspace", "acme"]


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    """The token, which is all that is printed."""
    out, said = capsys.readouterr()
    assert said == ""
    (token,) = out.splitlines()
    return token


def claims(token: str, secret: str) -> dict[str, object]:
    """What it says, where it is one."""
    found: dict[str, object] = jwt.decode(
        token, secret, algorithms=["HS256"], options={"verify_aud": False, "verify_exp": False}
    )
    return found


def test_its_claims(secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = time.time()
    assert main([*ALICE, "--workspace", "beta", "--workspace", "acme"]) == 0
    said = claims(printed(capsys), secret)
    assert list(said) == ["sub", "workspaces", "iat", "exp"]
    assert said["sub"] == "alice"
    assert said["workspaces"] == ["acme", "beta"]
    issued_at = said["iat"]
    assert isinstance(issued_at, float)
    assert before - 0.001 <= issued_at <= time.time()
    assert issued_at == round(issued_at, 3)


@pytest.mark.parametrize("ttl", ["1", "60", "3600", "2592000", "0.5", "0.001", "12.25"])
def test_its_lifetime(ttl: str, secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ALICE, "--ttl", ttl]) == 0
    said = claims(printed(capsys), secret)
    assert isinstance(said["exp"], float)
    assert isinstance(said["iat"], float)
    assert said["exp"] - said["iat"] == pytest.approx(float(ttl), abs=1e-6)
    assert said["exp"] == round(said["exp"], 3)
    if float(ttl).is_integer():
        assert said["exp"] - said["iat"] == float(ttl)


def test_an_hour_unless_said_otherwise(secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ALICE) == 0
    said = claims(printed(capsys), secret)
    assert said["exp"] - said["iat"] == 3600  # type: ignore[operator]


def test_audience_and_issuer_of_the_server(
    secret: str, environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("JACKFIELD_TOKEN_AUDIENCE", "chat")
    environ.setenv("JACKFIELD_TOKEN_ISSUER", "host")
    assert main(ALICE) == 0
    said = claims(printed(capsys), secret)
    assert (said["aud"], said["iss"]) == ("chat", "host")


@pytest.mark.parametrize("ttl", ["3600", "2592000"])
async def test_the_server_takes_it(ttl: str, secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ALICE, "--ttl", ttl]) == 0
    app = Jackfield.from_environ({"JACKFIELD_SECRET": secret})
    async with app.lifespan():
        principal = await app.plugins.objects["token"].principal_of(printed(capsys), "acme")  # type: ignore[attr-defined]
    assert principal.user_id == "alice"


@pytest.mark.parametrize(
    ("name", "text"), [("--user", "al ice"), ("--user", ""), ("--workspace", "a/b"), ("--workspace", "x" * 129)]
)
def test_what_is_no_id(name: str, text: str, secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = {"--user": "alice", "--workspace": "acme", name: text}
    assert main(["token", *(word for pair in arguments.items() for word in pair)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (f"jackfield token: error: argument {name}: {text!r} is no id: 1 to 128 of A-Z a-z 0-9 . _ : @ -")


@pytest.mark.parametrize("ttl", ["0", "-1", "nan", "inf", "0.0001", "soon"])
def test_what_is_no_time(ttl: str, secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ALICE, "--ttl", ttl]) == 2
    assert "argument --ttl: " in capsys.readouterr().err


@pytest.mark.parametrize("value", [None, "", "  "])
def test_without_a_secret(value: str | None, environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if value is not None:
        environ.setenv("JACKFIELD_SECRET", value)
    assert main(ALICE) == 1
    assert capsys.readouterr().err == (
        'jackfield: JACKFIELD_SECRET is not set; plugin "token" needs it. '
        'Make one: python -c "import secrets; print(secrets.token_urlsafe(32))"\n'
    )


def test_with_a_short_one(environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environ.setenv("JACKFIELD_SECRET", "hush")
    assert main(ALICE) == 1
    said = capsys.readouterr().err
    assert "JACKFIELD_SECRET: secret has 4 bytes; HS256 needs at least 32." in said
    assert "hush" not in said


def test_longer_than_the_server_would_take(
    secret: str, environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("JACKFIELD_TOKEN_MAX_LIFETIME", "60")
    assert main([*ALICE, "--ttl", "60"]) == 0
    printed(capsys)
    assert main([*ALICE, "--ttl", "61"]) == 1
    assert capsys.readouterr().err == (
        "jackfield: --ttl 61 is over JACKFIELD_TOKEN_MAX_LIFETIME (60): the server would refuse the token.\n"
    )


def test_a_public_key_signs_nothing(environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    environ.setenv("JACKFIELD_SECRET", pem)
    environ.setenv("JACKFIELD_TOKEN_ALGORITHM", "ES256")
    assert main(ALICE) == 1
    assert capsys.readouterr().err == (
        "jackfield: JACKFIELD_TOKEN_ALGORITHM is ES256, so JACKFIELD_SECRET is a public key, which signs nothing. "
        "Tokens come from whoever has the private one.\n"
    )
