"""cot: chain of thought, few-shot with the skill's worked examples, else zero-shot.

Few-shot (Wei et al. 2022, 2201.11903): 1 call, greedy there, with 8 examples. Zero-shot (Kojima et al.
2022, 2205.11916): there 2 calls, greedy, 128 tokens of reasoning and 32 of answer (variant `two_calls`);
here by default 1 call that asks for the answer in a marked form (System 2 Distillation, figure 10). `n`
attempts are one request with n samples; the examples come first, so that the engine's prefix cache holds
them for every question of the skill.
"""

from __future__ import annotations

from agent.system2.problem import Problem, attempts_of, one_by_one, user, with_turns
from agent.system2.settings import System2Settings
from agent.system2.think import Think
from memory.records import Attempt, Call, Message
from policies.skills import Example, with_suffix


async def attempts(problem: Problem, think: Think, settings: System2Settings, n: int) -> tuple[Attempt, ...]:
    """`n` chains of thought and their answers."""
    stop = ("\nQuestion:",) if settings.cot.examples_as == "text" and problem.skill.examples else ()
    call = await think.ask(
        "reason",
        prompt(problem, settings),
        n=n,
        temperature=settings.attempt_temperature(problem.skill, n),
        max_tokens=settings.max_tokens,
        stop=stop,
    )
    if settings.cot.variant == "one_call":
        return attempts_of(problem, call)
    calls = [await _conclude(problem, think, settings, call, i) for i in range(n)]
    return one_by_one(problem, calls)


def prompt(problem: Problem, settings: System2Settings) -> tuple[Message, ...]:
    """The question with the skill's examples before it, or with the request to think and to mark the
    answer."""
    examples = problem.skill.examples
    if not examples:
        form = problem.form_request if settings.cot.variant == "one_call" else ""  # the second call asks for it
        return with_suffix(problem.messages, f"{settings.cot.instruction} {form}".strip())
    if settings.cot.examples_as == "text":
        shown = [f"Question: {e.question}\nAnswer: {worked(e)}" for e in examples]
        return user("\n\n".join([*shown, f"Question: {problem.text}\nAnswer:"]))
    return with_turns(problem, [(e.question, worked(e)) for e in examples])


def worked(example: Example) -> str:
    """An example's reply: its steps, then the answer behind a marker that extraction knows."""
    return f"{example.reasoning} The answer is {example.answer}.".strip()


async def _conclude(problem: Problem, think: Think, settings: System2Settings, call: Call, sample: int) -> Call:
    """Kojima's second call: the reasoning is handed back and the answer alone is asked for."""
    reasoning: Message = {"role": "assistant", "content": call.completions[sample].text}
    form = problem.form or "the final answer alone."
    asking = user(f"Therefore, what is the final answer? Reply only with: {form}")
    return await think.ask(
        "answer",
        (*call.messages, reasoning, *asking),
        max_tokens=settings.cot.max_answer_tokens,
        parents=(call.id,),
    )
