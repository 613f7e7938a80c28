"""Our trainer against TRL's SFTTrainer on the same lessons, in one run: lessons per second, loss, memory.

`python bench/train.py [--size small|full] [--model NAME] [--json]`. Both get the same base, LoRA, batch, order of
lessons, learning rate and schedule, loss on the answer alone, bfloat16 base, no gradient checkpointing, the same
threads, one after the other, each in a process of its own. The figures to compare are the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from adapters.dataset import encode, read_data, write_data  # noqa: E402
from adapters.job import Job, TrainSettings, read_job, write_job  # noqa: E402
from adapters.model import get_model  # noqa: E402
from memory.records import AnswerType, Lesson  # noqa: E402

SIZES = {"tiny": (16, 1), "small": (64, 1), "full": (240, 3)}  # lessons, epochs
HELDOUT = 32  # questions on which both are compared at the end


def questions(n: int, seed: int) -> list[Lesson]:
    """Sums and differences of three numbers with their right answers, half of each."""
    chance, made = random.Random(seed), []
    for i in range(n):
        a, b, c = (chance.randint(10, 99) for _ in range(3))
        text, gold = (f"{a} + {b} + {c}", a + b + c) if i % 2 else (f"{a} + {b} - {c}", a + b - c)
        ask = {"role": "user", "content": f"What is {text}?\nAnswer with the number only."}
        key = f"{i:064x}"
        made.append(Lesson(key, "sums", "bench", key, (ask,), str(gold), AnswerType.NUMBER, "gold", 1, 1, 1.0, 0.0))
    return made


def ours(job: Path) -> tuple[dict[str, float], str]:
    """Our trainer as the daemon runs it: its figures, and the adapter's folder."""
    done = subprocess.run(
        [sys.executable, "-m", "adapters.train", str(job)], cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    last = [event for event in events if event["event"] == "progress"][-1]
    folder = next(event["path"] for event in events if event["event"] == "done")
    per_cpu = read_job(job).train.epochs * n_lines(job) / last["cpu_s"]
    return {
        "lessons_s": last["lessons_s"],
        "lessons_cpu_s": per_cpu,
        "peak_mib": last["peak_mib"],
    }, folder


def n_lines(job: Path) -> int:
    """Lessons of the job."""
    return len(read_data(job.parent / "lessons.jsonl")[0])


def trl(job: Path) -> dict[str, float]:
    """TRL in a process of its own, the same way."""
    command = [sys.executable, __file__, "--run-trl", str(job)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {**told, "loss": heldout(job, str(job.parent / "trl"))["nats"]}


def run_trl(job_path: Path) -> None:
    """What TRL's own documentation does for prompt-completion lessons with a LoRA."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    job = Job.model_validate_json(job_path.read_bytes())
    settings = job.train
    torch.set_num_threads(settings.threads)
    items, _ = read_data(Path(job.data))
    rows = [
        {"prompt": list(item.messages), "completion": [{"role": "assistant", "content": item.answer}]} for item in items
    ]
    stepping: dict[str, float] = {}

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            stepping["start"], stepping["start_cpu"] = time.perf_counter(), time.process_time()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            stepping["end"], stepping["end_cpu"] = time.perf_counter(), time.process_time()

    total = settings.epochs * -(-len(rows) // settings.batch)
    config = SFTConfig(
        output_dir=str(job_path.parent / "trl"), per_device_train_batch_size=settings.batch,
        num_train_epochs=settings.epochs, learning_rate=settings.learning_rate, lr_scheduler_type="linear",
        warmup_steps=max(1, round(settings.warmup * total)), max_grad_norm=settings.clip, weight_decay=0.0,
        completion_only_loss=True, gradient_checkpointing=False, max_length=settings.max_tokens, bf16=True,
        use_cpu=True, save_strategy="no", report_to=[], logging_strategy="no", disable_tqdm=True, seed=job.seed,
        dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(job.base, dtype=torch.bfloat16),
        processing_class=AutoTokenizer.from_pretrained(job.base), args=config, train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(
            r=settings.rank, lora_alpha=settings.alpha, lora_dropout=0.0,
            target_modules=[f"{name}_proj" for name in settings.projections] or "all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[Clock()],
    )  # fmt: skip
    trainer.train()
    trainer.save_model(str(job_path.parent / "trl"))
    seen = len(rows) * settings.epochs
    took, took_cpu = stepping["end"] - stepping["start"], stepping["end_cpu"] - stepping["start_cpu"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"lessons_s": seen / took, "lessons_cpu_s": seen / took_cpu, "peak_mib": peak}))


def heldout(job: Path, adapter: str) -> dict[str, float]:
    """What an adapter makes of the job's questions held out, examined in a process of its own: nats per answer token,
    and the share (0..1) of the greedy answers that are right."""
    command = [sys.executable, __file__, "--run-heldout", str(job), adapter]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_heldout(job_path: Path, adapter: str) -> None:
    """Measured one lesson at a time, without the trainer's tree. The greedy answer is right where every token of the
    right one, its end included, is the likeliest after those before it."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    job = Job.model_validate_json(job_path.read_bytes())
    torch.set_num_threads(job.train.threads)
    base = AutoModelForCausalLM.from_pretrained(job.base, dtype=torch.bfloat16)
    model = PeftModel.from_pretrained(base, adapter).eval()
    items, _ = read_data(job_path.parent / "heldout.jsonl")
    examples = encode(items, AutoTokenizer.from_pretrained(job.base), job.train.max_tokens).examples
    right, nats, tokens = 0, 0.0, 0
    for example in examples:
        ids = torch.tensor([example.ids])
        wanted = ids[0, example.n_prompt :]
        with torch.no_grad():
            logits = model(ids).logits[0, example.n_prompt - 1 : -1].float()
        right += bool((logits.argmax(-1) == wanted).all())
        nats += float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
        tokens += len(wanted)
    print(json.dumps({"nats": nats / tokens, "right": right / len(examples)}))


def compare(size: str, model: str, folder: Path, threads: int, projections: Sequence[str] = ()) -> dict[str, Any]:
    """Both trainers on one job. Returns their figures and the ratios ours / TRL's."""
    n, epochs = SIZES[size]
    base = get_model(model)
    write_data(folder / "lessons.jsonl", questions(n, seed=1))
    write_data(folder / "heldout.jsonl", questions(HELDOUT, seed=2))
    job = folder / "job.json"
    settings = TrainSettings(epochs=epochs, threads=threads, nice=0, device="cpu", projections=tuple(projections))
    write_job(
        job,
        Job(
            number=1, base=base.path, base_identity=base.identity, data=str(folder / "lessons.jsonl"),
            out=str(folder / "adapters"), seed=0, train=settings,
        ),
    )  # fmt: skip
    mine, folder_of_ours = ours(job)
    mine, theirs = {**mine, "loss": heldout(job, folder_of_ours)["nats"]}, trl(job)
    ratios = {key: round(mine[key] / theirs[key], 3) for key in mine}
    return {
        "size": size, "lessons": n, "epochs": epochs, "threads": threads, "model": model,
        "ours": mine, "trl": theirs, "ratio": ratios,
    }  # fmt: skip


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--projections", nargs="+", default=(), metavar="NAME", help="q k v o gate up down; else every one"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--run-trl", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run-heldout", nargs=2, help=argparse.SUPPRESS)
    # For both trainers: spinning OpenMP threads are starved by whatever else runs on the machine. Not at import: the
    # benches that borrow `questions` start an engine, which is to be measured as it is delivered.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    chosen = parser.parse_args()
    if chosen.run_trl:
        return run_trl(chosen.run_trl)
    if chosen.run_heldout:
        return run_heldout(Path(chosen.run_heldout[0]), chosen.run_heldout[1])
    with tempfile.TemporaryDirectory() as folder:
        told = compare(chosen.size, chosen.model, Path(folder), chosen.threads, chosen.projections)
    if chosen.json:
        return print(json.dumps(told))
    print(f"{told['lessons']} lessons, {told['epochs']} epochs, {told['threads']} threads, {told['model']}")
    for key, unit in (
        ("lessons_s", "lessons/s"),
        ("lessons_cpu_s", "lessons/cpu-s"),
        ("loss", "nats/token held out"),
        ("peak_mib", "MiB peak"),
    ):
        mine, theirs = told["ours"][key], told["trl"][key]
        print(f"{unit:>20}  ours {mine:9.3f}  TRL {theirs:9.3f}  ratio {told['ratio'][key]:.3f}")


if __name__ == "__main__":
    main()
