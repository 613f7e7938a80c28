"""Thinking: the record of calls, the budget, the vote, and each method's program, on a scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agent.engine.wire import Sampling
from agent.system2 import bsm, cot, pair, perturb, s2a
from agent.system2.deliberate import METHODS, deliberate
from agent.system2.problem import Problem, user
from agent.system2.reasoning import reasoning
from agent.system2.settings import System2Settings
from agent.system2.think import Think
from memory.errors import BadConfig, BadInput, TimedOut
from memory.records import Completion, Deliberation, Grade, Message
from policies.skills import SkillSettings

Script = Callable[[str, int], str | Sequence[str]]
PAIR = (
    "[User Question]\nName a fruit.\n\n[The Start of Assistant A's Answer]\nApple.\n[The End of Assistant A's Answer]"
    "\n\n[The Start of Assistant B's Answer]\nCar.\n[The End of Assistant B's Answer]"
)


class Scripted:
    """An engine whose replies are a function of the prompt's last message and of how often it was asked."""

    def __init__(self, script: Script, tokens: int = 10) -> None:
        self.script, self.tokens = script, tokens
        self.asked: list[tuple[Message, ...]] = []
        self.samplings: list[Sampling] = []

    async def chat(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> tuple[Completion, ...]:
        said = self.script(str(messages[-1]["content"]), len(self.asked))
        self.asked.append(tuple(messages))
        self.samplings.append(sampling)
        texts = [said] * sampling.n if isinstance(said, str) else list(said)
        assert len(texts) == sampling.n
        return tuple(Completion(text, model, 7, self.tokens, "stop", 0.1) for text in texts)


ONE = {"block": 1, "max_samples": 1, "train_attempts": 4}
FOUR_FIRST = {"block": 4, "stop_confidence": 0.95, "train_attempts": 4}


def skill(method: str = "cot", answer_type: str = "number", **more: Any) -> SkillSettings:
    more = {"agreement": FOUR_FIRST, **more}
    return SkillSettings.model_validate({"name": "case", "method": method, "answer_type": answer_type, **more})


async def think_through(
    script: Script, question: str, rule: SkillSettings, **budget: Any
) -> tuple[Deliberation, Scripted]:
    engine = Scripted(script)
    think = Think(engine, "base", **budget)
    return await deliberate(Problem(user(question), rule), think, System2Settings()), engine


async def test_a_call_is_recorded_with_its_prompt_samples_and_parents() -> None:
    think = Think(Scripted(lambda text, n: "yes"), "base")
    first = await think.ask("reason", user("Why?"), n=2, max_tokens=9)
    second = await think.ask("answer", user("So?"), max_tokens=9, parents=(first.id,))
    assert [(c.id, c.stage, c.parents) for c in think.calls] == [(0, "reason", ()), (1, "answer", (0,))]
    assert think.tokens == 30
    assert second.completions[0].model == "base"


async def test_the_token_budget_shortens_samples_and_then_ends_the_thought() -> None:
    engine = Scripted(lambda text, n: "x", tokens=40)
    think = Think(engine, "base", budget_tokens=100)
    await think.ask("reason", user("?"), n=2, max_tokens=400)
    assert engine.samplings[0].max_tokens == 50
    await think.ask("reason", user("?"), max_tokens=400)
    assert engine.samplings[1].max_tokens == 20
    with pytest.raises(TimedOut, match="budget_tokens"):
        await think.ask("reason", user("?"), max_tokens=400)


async def test_the_seconds_budget_ends_a_call_in_flight() -> None:
    class Stuck(Scripted):
        async def chat(self, *args: Any, **more: Any) -> tuple[Completion, ...]:
            await asyncio.Event().wait()
            raise AssertionError

    with pytest.raises(TimedOut, match="budget_s"):
        await Think(Stuck(lambda text, n: ""), "base", budget_s=0.01).ask("reason", user("?"), max_tokens=9)


async def test_four_equal_votes_end_the_thought_and_are_train_grade() -> None:
    thought, engine = await think_through(lambda text, n: "3 + 4 = 7. The answer is 7.", "What is 3 + 4?", skill())
    assert (thought.verdict.answer, thought.verdict.grade, thought.text) == ("7", Grade.TRAIN, "7")
    assert (len(engine.asked), len(thought.attempts), thought.tokens) == (1, 4, 40)


async def test_vote_is_self_consistency_of_the_direct_answer_or_of_a_named_method() -> None:
    for options, stage, tokens in (({}, "answer", 64), ({"of": "cot", "max_tokens": 90}, "reason", 90)):
        thought, engine = await think_through(
            lambda text, n: "The answer is 7.", "3 + 4?", skill("vote", options=options)
        )
        assert (thought.method, thought.verdict.grade, len(thought.attempts)) == ("vote", Grade.TRAIN, 4)
        assert ([call.stage for call in thought.calls], engine.samplings[0].max_tokens) == ([stage], tokens)


async def test_a_split_first_draw_is_followed_by_as_many_as_may_decide() -> None:
    def script(text: str, n: int) -> list[str]:
        return ["The answer is 7.", "The answer is 7.", "The answer is 8.", "No idea."] if n == 0 else ["7"] * 2

    thought, engine = await think_through(script, "What is 3 + 4?", skill())
    assert (len(engine.asked), dict(thought.verdict.votes)) == (2, {"7": 4, "8": 1, "": 1})


async def test_a_single_attempt_is_greedy() -> None:
    _, engine = await think_through(lambda text, n: "7", "3 + 4?", skill(agreement=ONE))
    assert (engine.samplings[0].temperature, engine.samplings[0].n) == (0.0, 1)


async def test_a_spent_budget_keeps_the_votes_there_are() -> None:
    def script(text: str, n: int) -> list[str]:
        return ["The answer is 7.", "The answer is 7.", "The answer is 8.", "The answer is 9."]

    thought, engine = await think_through(script, "3 + 4?", skill(), budget_tokens=70)
    assert (thought.verdict.answer, thought.verdict.grade, len(engine.asked)) == ("7", Grade.SERVE, 1)
    with pytest.raises(TimedOut):
        await think_through(script, "3 + 4?", skill(), budget_tokens=10)


async def test_turned_options_are_turned_back_and_must_agree() -> None:
    question = "Which is a fruit?\nA) car\nB) pear\nC) shoe\nD) road"
    rule = skill("direct", "choice", agreement={**FOUR_FIRST, "perturb": ["option_order"]})

    def by_text(text: str, n: int) -> str:
        return next(line[0] for line in text.splitlines() if line.endswith("pear"))

    thought, _ = await think_through(by_text, question, rule)
    assert (thought.verdict.answer, thought.verdict.grade) == ("B", Grade.TRAIN)
    assert (thought.attempts[-1].text, thought.attempts[-1].answer) == ("C", "B")
    assert thought.attempts[-1].perturbation == "option_order"
    by_place, _ = await think_through(lambda text, n: "B", question, rule)
    assert by_place.verdict.grade is Grade.SERVE


async def test_no_perturbation_is_paid_for_where_the_vote_is_split() -> None:
    rule = skill("direct", "choice", agreement={**FOUR_FIRST, "perturb": ["option_order"], "max_samples": 4})
    thought, engine = await think_through(lambda text, n: ["A", "B", "A", "B"], "Which?\nA) x\nB) y", rule)
    assert (len(engine.asked), thought.verdict.grade) == (1, Grade.SERVE)


async def test_a_paraphrase_that_loses_a_number_is_not_asked() -> None:
    def script(text: str, n: int) -> str:
        return "Add three and 4" if "other words" in text else "The answer is 7."

    thought, _ = await think_through(script, "Add 3 and 4", skill(agreement={**FOUR_FIRST, "perturb": ["paraphrase"]}))
    assert "no attempt under paraphrase" in thought.verdict.reason
    assert [call.stage for call in thought.calls] == ["reason", "paraphrase"]


def test_a_paraphrase_keeps_numbers_and_quoted_words_in_whatever_quotes() -> None:
    asked = 'Take the 2 last letters in "Edgar Bob".'
    assert perturb.keeps_facts(asked, "Which are the 2 letters at the ends in 'Edgar Bob'?")
    assert perturb.keeps_facts("Say it's 3 o'clock.", "Tell me that it is 3 o'clock.")
    assert not perturb.keeps_facts(asked, "Which are the 2 letters at the ends of the two names?")
    assert not perturb.keeps_facts(asked, 'Which letters end "Edgar Bob"?')
    assert not perturb.keeps_facts(asked, "")


async def test_what_was_asked_in_other_words_is_made_from_the_call_that_wrote_them() -> None:
    def script(text: str, n: int) -> str:
        if "other words" in text:
            return "Sum up 3 and 4"
        return "What do 3 and 4 make?" if "Rephrase" in text else "The answer is 7."

    thought, _ = await think_through(
        script, "Add 3 and 4", skill("rar", agreement={**FOUR_FIRST, "perturb": ["paraphrase"]})
    )
    stages = [(call.stage, call.parents) for call in thought.calls]
    assert stages[0] == ("rephrase", ())
    assert stages[-3:] == [("paraphrase", ()), ("rephrase", (5,)), ("answer", (6,))]


def test_few_shot_examples_stand_first_and_behind_the_system_message() -> None:
    rule = skill(examples=[{"question": "1 + 1?", "reasoning": "One more than 1.", "answer": "2"}])
    asked = cot.prompt(Problem(({"role": "system", "content": "Be brief."}, *user("2 + 2?")), rule), System2Settings())
    assert [m["role"] for m in asked] == ["system", "user", "assistant", "user"]
    assert asked[2]["content"] == "One more than 1. The answer is 2."
    assert asked[-1]["content"] == "2 + 2?"


async def test_an_open_question_is_answered_without_the_chain_that_led_there() -> None:
    def script(text: str, n: int) -> str:
        assert '"Final answer:"' in text
        return "Light scatters. Blue scatters most.\nFinal answer: Because blue light scatters most."

    thought, _ = await think_through(script, "Why is the sky blue?", skill("cot", "free_text", agreement=ONE))
    assert thought.text == "Because blue light scatters most."


async def test_tot_thinks_on_about_an_open_question_until_it_says_the_answer() -> None:
    def script(text: str, n: int) -> str:
        if "one word" in text:
            return "sure"
        return "Final answer: It scatters." if "Light" in text else "Light is in play."

    rule = skill("tot", "free_text", agreement=ONE, options={"propose": 1, "values": 1})
    thought, _ = await think_through(script, "Why is the sky blue?", rule)
    assert (thought.text, [call.stage for call in thought.calls].count("propose")) == ("It scatters.", 2)


async def test_two_call_reasoning_hands_each_sample_back() -> None:
    def script(text: str, n: int) -> str | list[str]:
        return ["First way.", "Second way."] if n == 0 else "The answer is 7."

    rule = skill(options={"variant": "two_calls"}, agreement={"block": 2, "max_samples": 2})
    thought, engine = await think_through(script, "3 + 4?", rule)
    assert [call.parents for call in thought.calls] == [(), (0,), (0,)]
    assert engine.asked[2][-2]["content"] == "Second way."


async def test_rar_sends_the_rephrased_question_alone_or_with_the_original() -> None:
    def script(text: str, n: int) -> str:
        return "Is the coin heads?" if "Rephrase" in text else "Yes."

    for send, want in (("rephrased", "Is the coin heads?"), ("both", "(original) Heads?\n(rephrased) Is the coin")):
        rule = skill("rar", "yes_no", options={"send": send}, agreement=ONE)
        thought, engine = await think_through(script, "Heads?", rule)
        assert thought.verdict.answer == "yes"
        assert str(engine.asked[1][-1]["content"]).startswith(want)
        assert thought.calls[1].parents == (0,)


async def test_rar_draws_answers_for_each_rephrasing() -> None:
    rule = skill("rar", "yes_no", options={"answers_each": 3}, agreement={"block": 8, "max_samples": 8})
    thought, engine = await think_through(lambda text, n: "Yes.", "Heads?", rule)
    assert [s.n for s in engine.samplings] == [3, 3, 3, 2]
    assert len(thought.attempts) == 8


def test_s2a_takes_the_headings_away() -> None:
    text = "**Unbiased text context:** Rocks change by heat.\n\n**Question:** What changes them?"
    assert s2a.cleaned(text) == "Rocks change by heat.\nWhat changes them?"
    assert s2a.cleaned("Unbiased text context: None.\nQuestion: Why?") == "Why?"
    assert s2a.cleaned("Why?") == "Why?"


async def test_s2a_answers_the_rewritten_text_without_the_original() -> None:
    def script(text: str, n: int) -> str:
        return "Unbiased text context: none\nQuestion: Why?" if "opinion" in text else "The answer is heat."

    thought, engine = await think_through(script, "Why? I bet on light.", skill("s2a", "short_text", agreement=ONE))
    assert thought.verdict.answer == "heat"
    assert "light" not in str(engine.asked[1])


def test_a_pair_is_found_in_the_usual_layouts_and_swapped() -> None:
    layouts = (
        PAIR,
        "# Instruction:\nName a fruit.\n\n# Output (a):\nApple.\n\n# Output (b):\nCar.\n\n# Which is better?",
        "Question: Name a fruit.\n\nResponse A: Apple.\n\nResponse B: Car.",
    )
    for text in layouts:
        found = pair.parse(text)
        assert found is not None
        assert (found.question, found.a, found.b) == ("Name a fruit.", "Apple.", "Car.")
        again = pair.parse(found.swapped().text)
        assert again is not None
        assert (again.a, again.b) == ("Car.", "Apple.")
        assert found.swapped().swapped().text == text
    assert pair.parse("Name a fruit.") is None


def test_bsm_reads_plans_and_scores() -> None:
    plan = "Here are the criteria:\n1. **Relevance**: is it a fruit?\n2. Clarity: is it clear?\n3. Tone: kind?"
    assert bsm.criteria(plan, 2) == ["Relevance: is it a fruit?", "Clarity: is it clear?"]
    assert bsm.scores("A: 4\nB: 2") == (4, 2)
    assert bsm.scores("Score for B: 5, score for A: 1") == (1, 5)
    assert bsm.scores("3\n5") == (3, 5)
    assert bsm.scores("A: 9") is None


async def test_bsm_judges_both_orders_and_ties_where_they_differ() -> None:
    def fair(text: str, n: int) -> str:
        if "List up to" in text:
            return "1. Relevance: a fruit?\n2. Clarity: clear?"
        return "A: 5\nB: 1" if text.index("Apple") < text.index("Car") else "A: 1\nB: 5"

    rule = skill("bsm", "verdict", agreement=ONE)
    thought, engine = await think_through(fair, PAIR, rule)
    assert (thought.verdict.answer, len(engine.asked)) == ("A", 5)
    assert {call.stage for call in thought.calls} == {"branch", "solve", "solve, swapped"}

    def first_is_best(text: str, n: int) -> str:
        return "1. Relevance: a fruit?" if "List up to" in text else "A: 5\nB: 1"

    thought, _ = await think_through(first_is_best, PAIR, rule)
    assert thought.verdict.answer == "C"
    biased, _ = await think_through(first_is_best, PAIR, skill("bsm", "verdict"))
    assert (dict(biased.verdict.votes), biased.verdict.grade) == ({"C": 4}, Grade.SERVE)


async def test_bsm_has_no_verdict_where_one_order_cannot_be_read() -> None:
    def half(text: str, n: int) -> str:
        if "List up to" in text:
            return "1. Relevance: a fruit?"
        return "A: 5\nB: 1" if text.index("Apple") < text.index("Car") else "I cannot say."

    thought, _ = await think_through(half, PAIR, skill("bsm", "verdict", agreement=ONE))
    assert (thought.verdict.answer, thought.verdict.grade) == (None, Grade.NONE)


async def test_bsm_lets_the_model_merge() -> None:
    def script(text: str, n: int) -> str:
        if "List up to" in text:
            return "1. Relevance: a fruit?"
        if "verdict" in text:
            return "Good. [[A]]" if text.index("Apple") < text.index("Car") else "Good. [[B]]"
        return "A: 3\nB: 3"

    thought, engine = await think_through(
        script, PAIR, skill("bsm", "verdict", agreement=ONE, options={"merge": "model"})
    )
    assert (thought.verdict.answer, len(engine.asked)) == ("A", 5)


async def test_bsm_needs_two_responses() -> None:
    with pytest.raises(BadInput, match="Assistant A"):
        await think_through(lambda text, n: "", "Who is better?", skill("bsm", "verdict", agreement=ONE))


async def test_tot_follows_the_valued_steps() -> None:
    def script(text: str, n: int) -> str | list[str]:
        if "one word" in text:
            return "sure" if "47" in text else "impossible"
        return [" The answer is 95.", " The answer is 95."] if "47" in text else ["12 + 35 = 47.", "12 + 35 = 40."]

    rule = skill("tot", agreement=ONE, options={"propose": 2, "values": 1, "keep": 1})
    thought, engine = await think_through(script, "12 + 35 + 48?", rule)
    assert thought.verdict.answer == "95"
    assert thought.attempts[0].text == "12 + 35 = 47.\nThe answer is 95."
    assert [call.stage for call in thought.calls] == ["propose", "value", "value", "propose", "value"]
    assert engine.samplings[3].extra["continue_final_message"] is True
    assert engine.asked[3][-1] == {"role": "assistant", "content": "12 + 35 = 47.\n"}


async def test_tot_finishes_a_tree_that_ends_without_an_answer() -> None:
    def script(text: str, n: int) -> str | list[str]:
        if "one word" in text:
            return "likely"
        return " 9." if text.endswith("The answer is") else ["Hm."] * 2

    rule = skill("tot", agreement=ONE, options={"steps": 1, "propose": 2, "values": 1})
    thought, _ = await think_through(script, "4 + 5?", rule)
    assert (thought.verdict.answer, thought.calls[-1].stage) == ("9", "finish")


async def test_got_keeps_what_agrees_and_improves_it() -> None:
    def script(text: str, n: int) -> str | list[str]:
        if "parts" in text or "corrected" in text:
            return "Again: The answer is 7."
        return ["The answer is 8.", "The answer is 7.", "The answer is 7.", "?"]

    thought, _ = await think_through(script, "3 + 4?", skill("got", agreement=ONE))
    assert [call.stage for call in thought.calls] == ["generate", "aggregate", "improve"]
    assert (thought.verdict.answer, thought.calls[2].parents) == ("7", (0,))


async def test_got_improves_the_aggregate_where_it_is_the_best() -> None:
    def script(text: str, n: int) -> str | list[str]:
        if "corrected" in text:
            return ["The answer is 7."] * 3
        if "parts" in text:
            return "Merged. The answer is 9."
        if "yes or no" in text:
            return "Yes" if "Merged" in text else "No"
        return ["The answer is 8.", "The answer is 7."]

    rule = skill("got", agreement=ONE, options={"score_by": "model", "generate": 2, "score_samples": 1})
    thought, engine = await think_through(script, "3 + 4?", rule)
    stages = [call.stage for call in thought.calls]
    assert stages == ["generate", *["score"] * 2, "aggregate", "score", "improve", *["score"] * 3]
    assert len(stages) == 2 + 7
    assert "Merged. The answer is 9." in str(engine.asked[5][-1]["content"])
    assert thought.calls[5].parents == (3, 4)


async def test_got_scores_by_the_models_yes() -> None:
    def script(text: str, n: int) -> str | list[str]:
        if "yes or no" in text:
            return "Yes" if "is 7" in text else "No"
        return ["The answer is 8.", "The answer is 8.", "The answer is 7."] if n == 0 else "?"

    rule = skill("got", agreement=ONE, options={"score_by": "model", "generate": 3, "score_samples": 1})
    thought, _ = await think_through(script, "3 + 4?", rule)
    assert thought.verdict.answer == "7"


@pytest.mark.parametrize(
    ("reply", "want"), [("Response 3", "Lyon it is."), ("none", "Paris."), ("Response 9", "Paris.")]
)
async def test_the_model_selects_among_open_answers(reply: str, want: str) -> None:
    def script(text: str, n: int) -> str | list[str]:
        return reply if "agrees best" in text else ["Paris.", "paris", "Lyon it is.", "Rome, of course."]

    rule = skill("direct", "free_text", agreement={"block": 4, "max_samples": 4, "select": "usc_select"})
    thought, _ = await think_through(script, "Capital of France?", rule)
    assert (thought.verdict.answer, thought.text) == (want, want)


async def test_the_model_composes_an_open_answer() -> None:
    def script(text: str, n: int) -> str | list[str]:
        return (
            "They say so.\nFINAL: It is Paris." if "FINAL" in text else ["It is Paris.", "Paris it is.", "Rome.", "?"]
        )

    rule = skill("direct", "free_text", agreement={"block": 4, "max_samples": 4, "select": "usc_compose"})
    thought, _ = await think_through(script, "Capital of France?", rule)
    assert (thought.verdict.answer, thought.verdict.share) == ("It is Paris.", 0.5)


async def test_a_composed_answer_unlike_every_attempt_is_served_and_said_to_be_composed() -> None:
    def script(text: str, n: int) -> str | list[str]:
        return "FINAL: The city on the Seine." if "FINAL" in text else ["It is Paris.", "Paris it is.", "Rome.", "?"]

    rule = skill("direct", "free_text", agreement={"block": 4, "max_samples": 4, "select": "usc_compose"})
    thought, _ = await think_through(script, "Capital of France?", rule)
    assert (thought.text, thought.verdict.share, thought.verdict.grade) == ("The city on the Seine.", 0.0, Grade.SERVE)
    assert "composed by the model" in thought.verdict.reason


async def test_reasoning_shows_the_winners_path_and_the_vote() -> None:
    def script(text: str, n: int) -> str:
        return "Is it heads up?" if "Rephrase" in text else "Yes."

    thought, _ = await think_through(script, "Heads?", skill("rar", "yes_no", agreement=ONE))
    assert reasoning(thought).splitlines()[0] == "rephrase: Is it heads up?"
    assert "1 of 1 attempts agree" in reasoning(thought)


@pytest.mark.parametrize("method", ["rar", "s2a"])
async def test_reasoning_shows_the_sample_that_the_winner_was_made_from(method: str) -> None:
    head = "Unbiased text context: none\nQuestion: " if method == "s2a" else ""

    def script(text: str, n: int) -> str | list[str]:
        if n == 0:
            return [f"{head}Is it tails at last?", f"{head}Is it heads up?", f"{head}Is it heads?"]
        return "No." if "tails" in text else "Yes."

    rule = skill(method, "yes_no", agreement={"block": 3, "max_samples": 3})
    thought, _ = await think_through(script, "Heads?", rule)
    assert thought.verdict.answer == "yes"
    told = reasoning(thought)
    assert "Is it heads up?" in told
    assert "tails" not in told


async def test_reasoning_of_a_composed_answer_shows_what_it_was_composed_from() -> None:
    def script(text: str, n: int) -> str | list[str]:
        return "All say Paris. FINAL: The city on the Seine." if "FINAL" in text else ["It is Paris.", "Lyon it is."]

    rule = skill("direct", "free_text", agreement={"block": 2, "max_samples": 2, "select": "usc_compose"})
    thought, _ = await think_through(script, "Capital of France?", rule)
    assert reasoning(thought).startswith("answer: It is Paris.\n\nLyon it is.\n\nAll say Paris. FINAL: The city")


def test_options_change_the_methods_block_and_a_typo_is_named() -> None:
    own = System2Settings().for_skill(skill("rar", options={"send": "both", "max_tokens": 50}))
    assert (own.rar.send, own.max_tokens) == ("both", 50)
    with pytest.raises(BadConfig, match=r"case: options: rar\.sned"):
        System2Settings().for_skill(skill("rar", options={"sned": "both"}))


def test_a_variant_says_what_makes_a_method_another() -> None:
    told = System2Settings().variant
    assert told(skill("rar")) == told(skill("rar", options={"send": "rephrased", "budget_s": 9.0})) == ""
    assert (
        told(skill("rar", options={"variant": "one_step", "temperature": 1.0})) == "temperature=1.0, variant=one_step"
    )
    assert told(skill("cot", examples=({"question": "1 + 1?", "answer": "2"},))) == "examples=1"
    assert told(skill("got", options={"operations": ("generate", "score")})) == "operations=generate>score"
    assert told(skill("vote", options={"of": "rar", "send": "both"})) == "of=rar, send=both"
    assert told(skill("cot", options={"instruction": "Think aloud, in French."})).startswith("instruction=#")


async def test_an_unknown_method_is_refused_by_name() -> None:
    with pytest.raises(BadConfig, match="use one of direct, cot, rar"):
        await think_through(lambda text, n: "", "?", skill("thnk"))
    assert set(METHODS) == {"direct", "cot", "rar", "s2a", "bsm", "tot", "got"}
