"""What the store said, believed for some seconds."""

from api.remembered import Remembered


async def test_what_was_asked_anew_is_not_the_next_to_go() -> None:
    asked: list[str] = []
    seconds = {"a": 0.0, "b": 60.0, "c": 60.0}

    async def ask(key: str) -> None:
        async def look_up() -> tuple[str, float]:
            asked.append(key)
            return key, seconds[key]

        assert await answers.ask(key, look_up) == key

    answers = Remembered[str, str](2)
    await ask("a")  # over at once
    await ask("b")
    seconds["a"] = 60.0
    for key in ("a", "c", "a"):
        await ask(key)
    assert asked == ["a", "b", "a", "c"]
