"""`quarantine`: list, show, add, release, delete."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agent.cli.options import ApiKey, AsJson, ConfigFile, StateDir, Url

app = typer.Typer(help="Quarantine: answers that are kept out of training.", no_args_is_help=True)
EpisodeId = Annotated[str, typer.Argument(help="an episode's id, as `quarantine list` shows it")]
Why = Annotated[str, typer.Option(help="why, for the record")]


@app.command("list")
def show_all(
    json: AsJson = False, config: ConfigFile = None, state_dir: StateDir = None, url: Url = None, key: ApiKey = None
) -> None:
    """Every episode in quarantine, the newest first.

    Example: secondnature quarantine list
    """
    from agent import trust
    from agent.cli import out
    from agent.cli.reach import reach

    with reach(config, state_dir, url, key) as at:
        rows = at.service.call("GET", "/api/quarantine") if at.service else trust.quarantined(at.held)
    if json:
        return out.as_json(rows)
    out.table("Quarantine", ("episode", "skill", "source", "since", "why"), [
        (r["episode_id"], r["skill"], r["source"], out.when(r["since"]), r["reason"]) for r in rows
    ])  # fmt: skip


@app.command("show")
def show(
    episode_id: EpisodeId, json: AsJson = False, config: ConfigFile = None, state_dir: StateDir = None,
    url: Url = None, key: ApiKey = None,
) -> None:  # fmt: skip
    """Why an episode is there, what was asked and agreed, and which adapters learnt it before.

    Example: secondnature quarantine show ep-1790000000000-0123456789ab
    """
    from agent import trust
    from agent.cli import out
    from agent.cli.reach import reach
    from policies.skills import last_user_text

    with reach(config, state_dir, url, key) as at:
        if at.service:
            row = at.service.call("GET", f"/api/quarantine/{episode_id}")
        else:
            row = trust.quarantined_one(at.held, episode_id)
    if json:
        return out.as_json(row)
    out.facts({
        "episode": row["episode_id"], "why": row["reason"], "since": out.when(row["since"]), "skill": row["skill"],
        "source": row["source"], "question": last_user_text(row["messages"]), "agreed answer": row["answer"],
        "votes": row["votes"], "method": row["method"], "learnt by": ", ".join(row["adapters"]) or "no adapter",
    })  # fmt: skip


@app.command("add")
def add(
    episode_id: Annotated[str, typer.Argument(help="an episode's id, as `episodes list` shows it")],
    why: Why = "", json: AsJson = False, config: ConfigFile = None, state_dir: StateDir = None, url: Url = None,
    key: ApiKey = None,
) -> None:  # fmt: skip
    """Keep an episode out of training.

    Example: secondnature quarantine add ep-1790000000000-0123456789ab --why "wrong"
    """
    from agent import trust
    from agent.cli import out
    from agent.cli.reach import WHO, reach

    with reach(config, state_dir, url, key) as at:
        if at.service:
            row = at.service.call("POST", f"/api/quarantine/{episode_id}", {"why": why})
        else:
            row = trust.put_in_quarantine(at.held, episode_id, WHO, why)
    if json:
        return out.as_json(row)
    out.console.print(f"{episode_id} is kept out of training", markup=False)


@app.command("release")
def release(
    episode_id: EpisodeId, why: Why = "", json: AsJson = False, config: ConfigFile = None,
    state_dir: StateDir = None, url: Url = None, key: ApiKey = None,
) -> None:  # fmt: skip
    """Let an episode be trained on again.

    Example: secondnature quarantine release ep-1790000000000-0123456789ab --why "it is right"
    """
    from agent import trust
    from agent.cli import out
    from agent.cli.reach import WHO, reach

    with reach(config, state_dir, url, key) as at:
        if at.service:
            row = at.service.call("POST", f"/api/quarantine/{episode_id}/release", {"why": why})
        else:
            row = trust.release(at.held, episode_id, WHO, why)
    if json:
        return out.as_json(row)
    out.console.print(f"{episode_id} may be learnt again", markup=False)


@app.command("delete")
def delete(
    episode_id: EpisodeId, why: Why = "", json: AsJson = False, config: ConfigFile = None,
    state_dir: StateDir = None, url: Url = None, key: ApiKey = None,
) -> None:  # fmt: skip
    """Forget a quarantined episode, with all that follows (see `forget`).

    Example: secondnature quarantine delete ep-1790000000000-0123456789ab
    """
    from agent import trust
    from agent.cli.forget import tell
    from agent.cli.reach import WHO, reach
    from agent.forget import forget

    done: dict[str, Any]
    with reach(config, state_dir, url, key) as at:
        if at.service:
            done = at.service.call("POST", f"/api/quarantine/{episode_id}/delete", {"why": why})
        else:
            trust.quarantined_one(at.held, episode_id)
            done = forget(at.held, at.config.trust, {"episode_id": episode_id}, WHO, why).as_json()
    tell(done, json)
