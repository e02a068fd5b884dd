"""What a server may do to a conversation, with one that follows a script byte for byte."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from core.ids import new_id
from integrations.email.port import Delivery, Mail, Outcome
from integrations.email.smtp import SmtpChannel, SmtpServer

EHLO = "250-test\r\n250-PIPELINING\r\n250-SIZE 5000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
PLAIN = "250 test\r\n"


class Server:
    """Answers each command by its first word; `answers` may hold others, used up in turn: `{"RCPT": ["550 no"]}`.

    An answer `drop` closes the connection, `hang` never comes.
    """

    def __init__(self, answers: dict[str, list[str]] | None = None, *, ehlo: str = EHLO, piece: int = 0) -> None:
        self.answers = answers or {}
        self.ehlo = ehlo
        self.piece = piece
        self.commands: list[str] = []
        self.mails: list[bytes] = []
        self.connections = 0
        self.together: list[int] = []
        """How many commands each read held."""
        self.port = 0
        self.over = asyncio.Event()
        self.talking = set[asyncio.Task[None]]()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.talking.add(asyncio.create_task(self.talk(reader, writer)))

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._say(writer, self._next("HELLO", "220 test\r\n"))
            rest: bytes = b""
            in_data = False
            while data := await reader.read(65536):
                rest += data
                count = 0
                while True:
                    if in_data:
                        if rest.startswith(b".\r\n"):
                            content: bytes = b""
                            rest = rest[3:]
                        elif (end := rest.find(b"\r\n.\r\n")) >= 0:
                            content, rest = rest[:end], rest[end + 5 :]
                        else:
                            break
                        in_data = False
                        self.mails.append(content)
                        await self._say(writer, self._next("MESSAGE", "250 kept\r\n"))
                        continue
                    if b"\r\n" not in rest:
                        break
                    end = rest.index(b"\r\n")
                    line, rest = rest[:end], rest[end + 2 :]
                    count += 1
                    word = re.split(rb"[ :]", line)[0].decode()
                    self.commands.append(line.decode())
                    default = {"EHLO": self.ehlo, "DATA": "354 go\r\n", "QUIT": "221 bye\r\n"}.get(word, "250 ok\r\n")
                    answer = self._next(word, default)
                    await self._say(writer, answer)
                    in_data = word == "DATA" and answer.startswith("354")
                self.together.append(count)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    def _next(self, word: str, default: str) -> str:
        left = self.answers.get(word)
        answer = left.pop(0) if left else ""
        return (answer if answer in {"drop", "hang"} else answer + "\r\n") if answer else default

    async def _say(self, writer: asyncio.StreamWriter, answer: str) -> None:
        if answer == "drop":
            writer.transport.abort()
            raise ConnectionError
        if answer == "hang":
            await self.over.wait()
            raise ConnectionError
        step = self.piece or len(answer)
        for start in range(0, len(answer), step):
            writer.write(answer[start : start + step].encode())
            await writer.drain()
            if self.piece:
                await asyncio.sleep(0)


class Noted:
    """A report that keeps what it is told, and checks that no mail is finished twice."""

    def __init__(self) -> None:
        self.begun: list[UUID] = []
        self.outcomes: dict[UUID, Delivery] = {}

    def started(self, mail_id: UUID) -> None:
        self.begun.append(mail_id)

    def finished(self, delivery: Delivery) -> None:
        assert delivery.id not in self.outcomes
        self.outcomes[delivery.id] = delivery


@asynccontextmanager
async def _channel(server: Server, *, connections: int = 1, wait: float = 10) -> AsyncGenerator[SmtpChannel]:
    listener = await asyncio.start_server(server.accept, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    url = f"smtp://127.0.0.1:{server.port}"
    channel = SmtpChannel(SmtpServer.of(url), connections=connections, timeout=wait)
    try:
        yield channel
    finally:
        await channel.close()
        server.over.set()
        listener.close()
        await asyncio.gather(*server.talking)


def _mail(number: int = 0, content: bytes = b"Subject: Hi\r\n\r\nHello\r\n", **given: str) -> Mail:
    values = {"sender": "shop@example.com", "recipient": f"p{number}@example.com"} | given
    return Mail(new_id(), values["sender"], values["recipient"], content)


async def _sent(
    server: Server, mails: list[Mail], *, connections: int = 1, wait: float = 10
) -> tuple[list[tuple[Outcome, str | None]], Noted]:
    noted = Noted()
    async with _channel(server, connections=connections, wait=wait) as channel:
        await channel.deliver(iter(mails), noted, expected=len(mails))
    found = [noted.outcomes[mail.id] for mail in mails]
    return [(each.outcome, each.reason) for each in found], noted


async def test_a_mail_travels_with_the_next_ones_commands() -> None:
    server = Server()
    outcomes, noted = await _sent(server, mails := [_mail(number) for number in range(4)])
    assert outcomes == [(Outcome.SENT, None)] * 4
    assert noted.begun == [mail.id for mail in mails]
    # EHLO alone, then MAIL RCPT DATA together each time, the last mail alone.
    assert server.together[:5] == [1, 3, 3, 3, 3]
    assert server.commands[1] == "MAIL FROM:<shop@example.com> SIZE=22"


async def test_a_server_without_pipelining_gets_one_command_at_a_time() -> None:
    server = Server({"RCPT": ["250 ok", "550 nobody"]}, ehlo=PLAIN)
    outcomes, _ = await _sent(server, [_mail(number) for number in range(3)])
    assert outcomes == [(Outcome.SENT, None), (Outcome.FAILED, "550 nobody"), (Outcome.SENT, None)]
    assert set(server.together) <= {0, 1}
    assert "SIZE" not in server.commands[1]


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("ehlo", [EHLO, PLAIN])
async def test_answers_may_come_in_any_pieces(piece: int, ehlo: str) -> None:
    answers = {"RCPT": ["250-one\r\n250 two", "550-no\r\n550 body"], "MESSAGE": ["250-2.0.0\r\n250 queued as 7"]}
    server = Server(answers, ehlo=ehlo, piece=piece)
    outcomes, noted = await _sent(server, mails := [_mail(number) for number in range(3)])
    expected = [(Outcome.SENT, None), (Outcome.FAILED, "550 no body"), (Outcome.SENT, None)]
    if ehlo is EHLO:  # the server takes what follows the refused recipient for a mail: its end is a lone dot
        assert b"" in server.mails
    assert outcomes == expected
    assert noted.outcomes[mails[0].id].provider_id == "2.0.0 queued as 7"


async def test_a_lone_dot_ends_what_a_server_wants_for_nobody() -> None:
    server = Server({"RCPT": ["550 nobody"], "MESSAGE": ["554 no recipients"]})
    outcomes, noted = await _sent(server, mails := [_mail(0), _mail(1)])
    assert outcomes == [(Outcome.FAILED, "550 nobody"), (Outcome.SENT, None)]
    assert noted.begun == [mails[1].id]
    assert server.mails[0] == b""


async def test_a_refused_recipient_costs_no_round_trip_of_its_own() -> None:
    server = Server({"RCPT": ["450 later"], "DATA": ["503 no recipient"]})
    outcomes, _ = await _sent(server, [_mail(0), _mail(1)])
    assert outcomes == [(Outcome.RETRY, "450 later"), (Outcome.SENT, None)]
    assert server.together[:3] == [1, 3, 4]  # RSET goes with the next
    assert "RSET" in server.commands


@pytest.mark.parametrize(
    ("answers", "first"),
    [
        ({"MESSAGE": ["421 bye"]}, Outcome.RETRY),
        ({"MESSAGE": ["450 full"]}, Outcome.RETRY),
        ({"MESSAGE": ["550 spam"]}, Outcome.FAILED),
        ({"MESSAGE": ["drop"]}, Outcome.IN_DOUBT),
        ({"MESSAGE": ["hello you"]}, Outcome.IN_DOUBT),
        ({"MESSAGE": ["hang"]}, Outcome.IN_DOUBT),
        ({"MAIL": ["421 bye"]}, Outcome.RETRY),
        ({"MAIL": ["drop"]}, Outcome.RETRY),
        ({"DATA": ["drop"]}, Outcome.RETRY),
        ({"RCPT": ["250 " + "x" * 100_000]}, Outcome.RETRY),
        ({"RCPT": ["250-x\r\n" * 100_000 + "250 x"]}, Outcome.RETRY),
        ({"RCPT": ["\x00\x01 garbage"]}, Outcome.RETRY),
        ({"MAIL": ["250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 unasked"]}, None),
    ],
)
async def test_one_mail_a_connection_is_in_doubt_at_most_and_the_rest_goes_out(
    answers: dict[str, list[str]], first: Outcome | None
) -> None:
    server = Server(answers)
    outcomes, noted = await _sent(server, [_mail(number) for number in range(5)], wait=0.3)
    assert len(outcomes) == 5
    if first is not None:
        assert outcomes[0][0] is first
        assert [outcome for outcome, _ in outcomes[1:]] == [Outcome.SENT] * 4
    assert len(noted.begun) == len(set(noted.begun))


async def test_a_server_that_ends_each_connection_after_two_mails_gets_all() -> None:
    server = Server({"MAIL": ["250 ok", "250 ok", "421 enough"] * 4})
    outcomes, _ = await _sent(server, [_mail(number) for number in range(8)])
    assert {outcome for outcome, _ in outcomes} == {Outcome.SENT}
    assert len(server.mails) == 8
    assert server.connections == 4


async def test_a_kept_connection_that_died_is_replaced_silently() -> None:
    server = Server({"MAIL": ["250 ok", "drop"]})
    noted = Noted()
    async with _channel(server) as channel:
        for number in range(2):
            await channel.deliver(iter([_mail(number)]), noted, expected=1)
    assert [each.outcome for each in noted.outcomes.values()] == [Outcome.SENT, Outcome.SENT]
    assert server.connections == 2


async def test_what_a_server_cannot_take_fails_before_anything_is_sent() -> None:
    server = Server(ehlo="250-test\r\n250-PIPELINING\r\n250 SIZE 100\r\n")
    mails = [_mail(1, b"x" * 101), _mail(2, "é".encode()), _mail(recipient="änn@example.com"), _mail(4)]
    outcomes, noted = await _sent(server, mails)
    assert outcomes == [
        (Outcome.FAILED, "the mail has 101 bytes, and the server takes 100"),
        (Outcome.FAILED, "the mail needs 8BITMIME, which the server does not offer"),
        (Outcome.FAILED, "the address needs SMTPUTF8, which the server does not offer"),
        (Outcome.SENT, None),
    ]
    assert noted.begun == [mails[3].id]
    assert sum(command.startswith("MAIL") for command in server.commands) == 1


async def test_letters_beyond_ascii_go_where_the_server_takes_them() -> None:
    server = Server()
    outcomes, _ = await _sent(server, [_mail(content="Héllo".encode(), recipient="änn@example.com")])
    assert outcomes == [(Outcome.SENT, None)]
    assert server.commands[1:3] == [
        "MAIL FROM:<shop@example.com> SIZE=6 BODY=8BITMIME SMTPUTF8",
        "RCPT TO:<änn@example.com>",
    ]


@pytest.mark.parametrize("evil", ["a@b.example>\r\nRCPT TO:<c@d.example", "a b@c.example", "a@b\n", "", "<a@b>"])
async def test_no_address_adds_a_command(evil: str) -> None:
    server = Server()
    outcomes, noted = await _sent(server, [_mail(recipient=evil), _mail(1)])
    assert outcomes[0] == (Outcome.FAILED, "the address cannot stand in a mail's envelope")
    assert outcomes[1][0] is Outcome.SENT
    assert len(noted.begun) == 1
    assert sum(command.startswith("RCPT") for command in server.commands) == 1


async def test_no_content_ends_its_mail_early() -> None:
    server = Server()
    content = b".\r\n.\r\n..\r\nRSET\r\n.x\r\n."
    outcomes, _ = await _sent(server, [_mail(content=content), _mail(1)])
    assert [outcome for outcome, _ in outcomes] == [Outcome.SENT] * 2
    assert server.mails[0] == b"..\r\n..\r\n...\r\nRSET\r\n..x\r\n.."
    assert "RSET" not in server.commands


async def test_what_fails_in_taking_a_mail_reaches_whoever_delivers() -> None:
    def mails() -> Iterator[Mail]:
        yield _mail(0)
        yield _mail(1)
        raise RuntimeError("broken")

    noted = Noted()
    async with _channel(Server()) as channel:
        with pytest.raises(ExceptionGroup) as caught:
            await channel.deliver(mails(), noted, expected=3)
    assert caught.group_contains(RuntimeError, match="broken")


@pytest.mark.parametrize(
    ("logins", "expected"),
    [
        ("AUTH PLAIN LOGIN", ["AUTH PLAIN AHNob3AAcEBzcw=="]),
        ("AUTH=LOGIN", ["AUTH LOGIN", "c2hvcA==", "cEBzcw=="]),
    ],
)
async def test_ways_to_log_in(logins: str, expected: list[str]) -> None:
    answers = {
        "AUTH": ["235 in" if "PLAIN" in logins else "334 name"],
        "c2hvcA==": ["334 word"],
        "cEBzcw==": ["235 in"],
    }
    server = Server(answers, ehlo=f"250-test\r\n250 {logins}\r\n")
    async with _channel(server) as channel:
        own = SmtpChannel(SmtpServer.of(f"smtp://shop:p%40ss@127.0.0.1:{server.port}"))
        noted = Noted()
        await own.deliver(iter([_mail()]), noted, expected=1)
        await own.close()
        assert channel is not own
    assert server.commands[1 : 1 + len(expected)] == expected
    assert [each.outcome for each in noted.outcomes.values()] == [Outcome.SENT]
