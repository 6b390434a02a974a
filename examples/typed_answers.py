"""Typed answers: a type in, an instance out, and type checkers know it. Requires OPENAI_API_KEY.

python examples/typed_answers.py
"""

from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any, Literal, TypedDict, assert_type

import rlm

MAIL = "We can ship 40 lamps on 3 March 2026. The chairs are sold out. Regards, Ida Holm, Nordlys AS, Oslo"


class Tone(Enum):
    FRIENDLY = "friendly"
    ANGRY = "angry"


@dataclass
class Offer:
    """The offer of a supplier."""

    supplier: str
    article: str
    pieces: int
    ships_on: date | None = None


class Contact(TypedDict):
    name: str
    city: str


def main() -> None:
    with rlm.RLM("gpt-4o") as engine:
        offer = engine.run("Which offer does the mail make?", MAIL, schema=Offer)
        assert_type(offer, rlm.Result[Offer])
        assert_type(offer.answer, Offer)
        print(offer.answer.supplier, offer.answer.pieces, offer.answer.ships_on)

        sold_out = engine.run("Which articles are sold out?", MAIL, schema=list[str])
        assert_type(sold_out.answer, list[str])

        contact = engine.run("Who wrote it?", MAIL, schema=Contact)
        assert_type(contact.answer, Contact)

        tone = engine.run("How does it sound?", MAIL, schema=Tone)
        assert_type(tone.answer, Tone)

        answered = engine.run("Does it answer our question about lamps?", MAIL, schema=Literal["yes", "no"])
        assert_type(answered.answer, Literal["yes", "no"])

        price = engine.run("Which price per piece does it name?", MAIL, schema=float | None)
        assert_type(price.answer, float | None)

        plain = engine.run("Summarise it.", MAIL, schema={"type": "object", "required": ["summary"]})
        assert_type(plain.answer, Any)

        print(sold_out.answer, contact.answer["city"], tone.answer.name, answered.answer, price.answer, plain.data)


async def others(engine: rlm.RLM) -> None:
    """The other ways to ask return the same types."""
    assert_type((await engine.arun("Which offer?", MAIL, schema=Offer)).answer, Offer)
    assert_type(engine.start("Which offer?", MAIL, schema=Offer), rlm.RunHandle[Offer])
    assert_type(engine.resume("last", schema=Offer).answer, Offer)
    assert_type(rlm.ask("Which offer?", MAIL, "gpt-4o", schema=Offer).answer, Offer)
    assert_type(rlm.RLM_REPL().completion(MAIL, "Which offer?", schema=Offer), Offer)
    with engine.session(MAIL) as session:
        assert_type(session.ask("Which offer?", schema=Offer).answer, Offer)


if __name__ == "__main__":
    main()
