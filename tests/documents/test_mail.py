"""Mail: nested parts, alternatives, attached messages, odd headers and mailboxes."""

from __future__ import annotations

import email.message
import email.policy
from typing import Any

import pytest
from office_kit import only_document

from rlm.documents.convert.dispatch import convert


def message(text: str = "", **headers: str) -> email.message.EmailMessage:
    built = email.message.EmailMessage(policy=email.policy.default)
    for name, value in {"From": "a@b.c", "To": "d@e.f", "Subject": "Hello", **headers}.items():
        built[name.replace("_", "-")] = value
    if text:
        built.set_content(text)
    return built


def parts(data: bytes, name: str = "m.eml") -> dict[str, str]:
    return {item["path"]: item["text"] for item in convert(data, name)["documents"]}


def test_all_text_parts_of_a_message_are_read() -> None:
    built = message("first part")
    built.add_attachment("second part", subtype="plain", disposition="inline")
    built.add_attachment("<p>third part</p>", subtype="html", disposition="inline")
    text = only_document(built.as_bytes(), "m.eml")["text"]
    assert [line for line in text.splitlines() if "part" in line] == ["first part", "second part", "third part"]


def test_plain_text_is_preferred_unless_it_says_nothing() -> None:
    built = message("Plain words of the letter.")
    built.add_alternative("<p>Rich words of the letter.</p>", subtype="html")
    assert "Rich" not in parts(built.as_bytes())["m.eml"]
    built = message("See HTML.")
    built.add_alternative(f"<p>{'The real content of the letter. ' * 5}</p>", subtype="html")
    assert "The real content" in parts(built.as_bytes())["m.eml"]


def test_alternatives_inside_mixed_parts_are_read() -> None:
    built = message("body text")
    built.add_alternative("<p>body text <img src='cid:1'></p>", subtype="html")
    built.get_payload()[1].add_related(b"x89PNG", "image", "png", cid="<1>")  # type: ignore[union-attr, index]
    built.add_attachment(b"a,b\n1,2\n", maintype="text", subtype="csv", filename="t.csv")
    assert parts(built.as_bytes()).keys() == {"m.eml", "m.eml!/t.csv"}
    assert parts(built.as_bytes())["m.eml"].count("body text") == 1


def test_inline_images_are_marked() -> None:
    built = message()
    built.set_content("<p>see</p>", subtype="html")
    built.add_related(b"x89PNG", "image", "png", cid="<1>", filename="plan.png", disposition="inline")
    assert "[Inline image: plan.png]" in parts(built.as_bytes())["m.eml"]


def test_attached_messages_keep_their_own_attachments() -> None:
    inner = message("inner words", Subject="Inner")
    inner.add_attachment(b"k,v\n1,2\n", maintype="text", subtype="csv", filename="deep.csv")
    outer = message("outer words")
    outer.add_attachment(inner)
    found = parts(outer.as_bytes())
    assert list(found) == ["m.eml", "m.eml!/part 1.eml", "m.eml!/part 1.eml!/deep.csv"]
    assert "inner words" not in found["m.eml"]


def test_outlook_containers_are_named() -> None:
    built = message("text")
    built.add_attachment(b"x\x9f>\x22" + bytes(60), maintype="application", subtype="ms-tnef", filename="winmail.dat")
    ((path, reason),) = convert(built.as_bytes(), "m.eml")["left_out"]
    assert (path, reason) == ("m.eml!/winmail.dat", "not text: winmail.dat, the form of Outlook's rich text (not read)")


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"Subject: Gr\xc3\xbc\xc3\x9fe", "Subject: Grüße"), (b"Subject: Gr\xfc\xdfe an alle", "Subject: Grüße an alle"),
        (b"Subject: =?iso-8859-1?Q?Gr=FC=DFe?= =?utf-8?b?w7xiZXI=?=", "Subject: Grüßeüber"),
        (b"Subject: a very\r\n  long and\r\n\tfolded subject", "Subject: a very long and folded subject"),
        (b"Subject: =?unknown?Q?abc?=", "Subject: "), (b"To: <broken@@x, y <z@z>", "To: "),
    ],
)  # fmt: skip
def test_odd_headers_are_readable(raw: bytes, shown: str) -> None:
    text = only_document(
        b"From: a@b.c\r\n" + raw + b"\r\nDate: Tue, 05 Mar 2024 10:00:00 +0000\r\n\r\nbody\r\n", "m.eml"
    )["text"]
    assert shown in text
    text.encode()


def test_bodies_in_wrong_or_no_charset_are_decoded() -> None:
    head = b"From: a@b.c\nTo: c@d.e\nSubject: x\nContent-Type: text/plain; charset={0}\n\n"
    for charset in (b"nonsense", b"us-ascii", b"utf-8"):
        data = head.replace(b"{0}", charset) + "schöne Grüße".encode("cp1252")
        assert "schöne Grüße" in only_document(data, "m.eml")["text"]


ONE = "From a@b Mon Jan  1 00:00:00 2024\nFrom: a@b\nSubject: {0}\n\n{1}\n\n"


def mailbox(*bodies: str) -> list[dict[str, Any]]:
    data = "".join(ONE.format(f"S{at}", body) for at, body in enumerate(bodies, 1))
    return list(convert(data.encode(), "m.mbox")["documents"])


def test_sentences_with_from_stay_in_their_message() -> None:
    first, second = mailbox("Hello\n\nFrom here we go:\nNote: all fine", ">From my side at 10:30\n>>From deeper")
    assert "From here we go" in first["text"]
    assert "\nFrom my side at 10:30\n>From deeper" in second["text"]


def test_mailboxes_with_windows_line_ends_are_split() -> None:
    data = (ONE.format("A", "x") + ONE.format("B", "y")).replace("\n", "\r\n").encode()
    assert len(convert(data, "m.mbox")["documents"]) == 2
