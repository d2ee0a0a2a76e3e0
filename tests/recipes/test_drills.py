"""Exercises in copying: whatever is learnt can be found in the exercise before."""

from tokenizers import Tokenizer

from recipes.nano import drills


def test_exercises_are_what_they_say(bpe: Tokenizer) -> None:
    made = list(drills.exercises(bpe, 30, seed=1))
    for number, exercise in enumerate(made):
        ids = exercise.ids.tolist()
        given, learnt = ids[: exercise.given], ids[exercise.given :]
        assert learnt
        if number % 3 < 2:
            period = exercise.given - 1
            assert all(token == ids[place + exercise.given - period] for place, token in enumerate(learnt))
            continue
        sheets, lines = bpe.decode(given), bpe.decode(learnt)
        speakers = [part.partition('"')[0] for part in lines.split('speaker="')[1:]]
        assert all(f"Speaker ID: {speaker}" in sheets for speaker in speakers)


def test_exercises_are_a_function_of_the_seed(bpe: Tokenizer) -> None:
    first, again, other = ([e.ids.tolist() for e in drills.exercises(bpe, 9, seed)] for seed in (1, 1, 2))
    assert first == again
    assert first != other
